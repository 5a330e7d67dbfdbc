"""Runs attacks on one model over a range of radii, and spreads the records over workers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.base import Attack, Judged, concatenate
from assay.attacks.expectation import Expectation
from assay.devices import device, repeatable
from assay.evaluations.subject import Subject
from assay.models.batches import at_once, respond
from assay.threats import Norm, Threat

SHARD = 128
"""Records of one piece of work. Random starts are drawn for each piece, so results do not depend on the workers."""
UNLIMITED = float("inf")
KNOWN, _KNOWN_ENTRIES = 4096, 2**24
"""Records from which an attack may start, at most, and of how many numbers they may consist."""

Curve = dict[float, Judged]
Curves = dict[str, Curve]


class FixedDraws(nn.Module):
    """Mean probabilities of a randomised model over several passes with fixed draws; they decide what is fooled.

    Judged by one pass, a record could be fooled by chance, and a union over attacks would count every such chance.

    Args:
        model: from records to logits; it draws from PyTorch's own generators.
        passes: to average.
        seed: of their draws; records that come in the same batches have the same answers.
    """

    def __init__(self, model: nn.Module, passes: int, *, seed: int) -> None:
        super().__init__()
        self.mean, self.seed = Expectation(model, passes), seed

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mean answer over the passes.

        Args:
            x: (n, ...) records.

        Returns:
            (n, classes) logarithms of the mean probabilities.
        """
        with seeds.generators_kept():
            torch.manual_seed(self.seed)
            return self.mean(x)


def judge_of(model: nn.Module, passes: int, *, seed: int) -> nn.Module:
    """Returns the model that decides whether a record is fooled: the model itself, or its mean over several passes.

    Args:
        model: from records to logits.
        passes: to average; 1 for the model itself.
        seed: of the draws.

    Returns:
        A module from records to logits.
    """
    return model if passes == 1 else FixedDraws(model, passes, seed=seeds.torch_seed(seed, "judge"))


@contextmanager
def as_used(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode; afterwards each layer has its earlier mode again.

    Args:
        model: to use.

    Returns:
        A context manager.
    """
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes.items():
            layer.training = training


@dataclass(frozen=True, kw_only=True)
class AttackRun:
    """One attack at some radii, and the network that it looks at."""

    attack: Attack
    norm: Norm
    radii: tuple[float, ...]
    through: nn.Module | None = None
    """None: the model itself."""
    survivors_of: tuple[str, ...] = ()
    """Attacks whose survivors are its only records; what these fooled counts as fooled. Empty for all records."""


@dataclass(frozen=True, kw_only=True)
class AttackTarget:
    """One model, its test records, and the radii at which they are attacked."""

    subject: Subject
    rows: np.ndarray
    """Positions of the records in the data set."""
    x: Tensor
    y: Tensor
    base: Threat
    radii: tuple[float, ...]
    """In ascending order, 0 first."""
    passes: int = 1
    """Number of passes whose mean is judged; more than 1 for a randomised model."""

    @classmethod
    def of(cls, subject: Subject, *, norm: Norm, epsilons: Sequence[float], records: int | None) -> "AttackTarget":
        """Returns the target for attacks on the test records, or on a stratified sample of them.

        Args:
            subject: the model with its data.
            norm: of the threat model.
            epsilons: radii in the units of the data; those of the data set if empty.
            records: number of records in the sample; None for the default.

        Returns:
            The target; 0 is always among its radii.
        """
        rows = subject.examined(subject.split.test, records)
        if subject.dataset.modality == "text":
            # Texts of one length lie together: a batch is as long as its longest.
            rows = rows[np.argsort(subject.words(rows), kind="stable")]
        x, y = subject.records(rows)
        return cls(
            subject=subject,
            rows=rows,
            x=x,
            y=y,
            base=Threat(norm=norm, epsilon=0.0, bounds=subject.bounds, goal=subject.task.criterion),
            radii=tuple(sorted({0.0, *(epsilons or subject.dataset.epsilons)})),
        )

    @property
    def judge(self) -> nn.Module:
        """The model that decides whether a record is fooled."""
        return judge_of(self.subject.model, self.passes, seed=self.subject.seed)

    @cached_property
    def right(self) -> Tensor:
        """(n,) bool, which records are classified correctly, with finite logits, without an attack."""
        pieces = zip(self.x.split(SHARD), self.y.split(SHARD), strict=True)
        return torch.cat([~self.base.goal(respond(self.judge, x), y) for x, y in pieces])

    @property
    def clean(self) -> float:
        """Accuracy without an attack."""
        return float(self.right.double().mean())

    @property
    def first(self) -> tuple[Tensor, Tensor]:
        """The first records and their labels, as many as the model can take at once."""
        most = at_once(tuple(self.x.shape[1:]))
        return self.x[:most], self.y[:most]

    @cached_property
    def known(self) -> Tensor:
        """(k, ...) records that an attack may start from: training and test records.

        For a private recipe, test records only: no ε pays for a result that depends on a training record.
        """
        subject = self.subject
        rows = subject.split.test
        if subject.recipe is None or subject.recipe.privacy is None:
            rows = np.concatenate([subject.split.train, rows])
        most = min(KNOWN, max(len(self.x), _KNOWN_ENTRIES // self.x[0].numel()))
        return subject.records(subject.distinct(subject.chosen(rows, most)))[0]

    @property
    def groups(self) -> np.ndarray | None:
        """(n,) clusters of the records for intervals; see ``Subject.clusters``."""
        return self.subject.clusters(self.rows)

    def curves(self, runs: Mapping[str, AttackRun], *, fallen: Mapping[float, Tensor] | None = None) -> Curves:
        """Runs every attack on every record, in pieces that the workers share; a piece whose worker dies is run again.

        Args:
            runs: by label.
            fallen: by radius, (n,) bool, records that other attacks fooled there or at a smaller radius. They are not
                attacked again and count as fooled, at every radius of the runs.

        Returns:
            Curves by label.

        Raises:
            RuntimeError: a piece has killed its worker more than once.
        """
        here = self.subject.device
        networks = [self.subject.model, *(run.through for run in runs.values() if run.through is not None)]
        for network in networks:
            network.cpu()
        starts = any(run.attack.starts_elsewhere for run in runs.values())
        shared = _SharedInputs(
            model=self.subject.model,
            x=self.x.cpu().numpy(),
            y=self.y.cpu().numpy(),
            known=self.known.cpu().numpy() if starts else None,
            base=self.base,
            runs=dict(runs),
            fallen=None if fallen is None else {radius: fooled.cpu().numpy() for radius, fooled in fallen.items()},
            seed=self.subject.seed,
            passes=self.passes,
            threads=torch.get_num_threads(),
        )
        pieces = [(label, start) for label in runs for start in range(0, len(self.x), SHARD)]
        done: dict[tuple[str, int], Curve] = {}
        try:
            for outcome in self.subject.executor.map(_attack_piece, pieces, shared):
                if outcome.error:
                    name, start = pieces[outcome.index]
                    raise RuntimeError(f"{name} on records {start} to {start + SHARD - 1}: {outcome.error}")
                done[pieces[outcome.index]] = outcome.value
        finally:
            for network in networks:
                network.to(here)
        return {
            name: {
                radius: concatenate([done[name, start][radius] for start in range(0, len(self.x), SHARD)])
                for radius in run.radii
            }
            for name, run in runs.items()
        }


@dataclass(frozen=True, kw_only=True)
class _SharedInputs:
    """What a worker needs to attack any piece.

    It is sent to a machine once. There the networks are read again for each piece; the records are arrays in memory
    that all workers of the machine share, and a piece copies only its own records.
    """

    model: nn.Module
    x: np.ndarray
    y: np.ndarray
    known: np.ndarray | None
    """Records that the attacks may start from; None where none of them does."""
    base: Threat
    runs: dict[str, AttackRun]
    fallen: dict[float, np.ndarray] | None
    seed: int
    passes: int
    threads: int

    def records(self, start: int, here: torch.device) -> tuple[Tensor, Tensor]:
        """The records of one piece and their labels."""
        own = slice(start, start + SHARD)
        return torch.tensor(self.x[own], device=here), torch.tensor(self.y[own], device=here)


def _attack_piece(piece: tuple[str, int], shared: _SharedInputs) -> Curve:
    """Runs one attack on one piece of the records."""
    torch.set_num_threads(shared.threads)
    name, start = piece
    run = shared.runs[name]
    here = device()
    x, y = shared.records(start, here)
    model = shared.model.to(here)
    through = None if run.through is None else run.through.to(here)
    if shared.passes > 1 and through is None:
        # An attack sees single answers, as it would in use; judged it is by their mean.
        through = model
    with repeatable(tf32=False), seeds.generators_kept():
        # The draws of a randomised model must not depend on earlier calls.
        torch.manual_seed(seeds.torch_seed(shared.seed, "layers", name, start))
        judge = judge_of(model, shared.passes, seed=shared.seed)
        base = replace(shared.base, norm=run.norm, epsilon=0.0)
        seed = seeds.derive(shared.seed, "records", start)
        known = None
        if shared.known is not None and run.attack.starts_elsewhere:
            known = torch.tensor(shared.known, device=here)

        def attack(x: Tensor, y: Tensor, radii: Sequence[float]) -> Curve:
            found = run.attack.curve(judge, x, y, base, radii, seed=seed, through=through, known=known)
            return {radius: _on_the_cpu(one) for radius, one in found.items()}

        if shared.fallen is None:
            return attack(x, y, run.radii)
        fallen = {radius: torch.from_numpy(shared.fallen[radius][start : start + SHARD]) for radius in run.radii}
        return _on_survivors(attack, x, y, fallen)


def _on_the_cpu(one: Judged) -> Judged:
    return Judged(fooled=one.fooled.cpu(), distance=one.distance.cpu(), invalid=one.invalid)


def _on_survivors(
    attack: Callable[[Tensor, Tensor, Sequence[float]], Curve], x: Tensor, y: Tensor, fallen: Mapping[float, Tensor]
) -> Curve:
    """Returns a curve on the records that are not fooled yet.

    Each is attacked at the radii below the one where it was fooled.

    Args:
        attack: returns the curve of some records at some radii.
        fallen: by radius, ascending, (n,) bool; a record that is fooled at one radius is fooled at every larger one. It
            counts as fooled, with an infinite distance, because this attack did not fool it.
    """
    radii = sorted(fallen)
    found = {r: [fallen[r].clone(), torch.full((len(x),), UNLIMITED, dtype=x.dtype)] for r in radii}
    invalid = dict.fromkeys(radii, 0)
    stood = torch.stack([~fallen[radius] for radius in radii]).sum(0)
    for count in stood.unique().tolist():
        rows = (stood == count).nonzero()[:, 0]
        if not count:
            continue
        for radius, one in attack(x[rows.to(x.device)], y[rows.to(y.device)], radii[:count]).items():
            found[radius][0][rows], found[radius][1][rows] = one.fooled, one.distance
            invalid[radius] += one.invalid
    return {r: Judged(fooled=fooled, distance=distance, invalid=invalid[r]) for r, (fooled, distance) in found.items()}


def worst_case(curves: Sequence[Curve]) -> dict[float, Tensor]:
    """Returns which records any attack of one threat model fooled at each radius or at a smaller one.

    At radius 0 there is nothing to attack, and only the first curve counts, so that a tie, which other machines may
    break differently, counts once.

    Args:
        curves: of the attacks.

    Returns:
        By radius, (n,) bool.
    """
    worst: dict[float, Tensor] = {}
    so_far: Tensor | None = None
    for epsilon in sorted({epsilon for curve in curves for epsilon in curve}):
        for curve in curves:
            if epsilon in curve:
                fooled = curve[epsilon].fooled
                so_far = fooled if so_far is None else so_far | fooled
                if epsilon == 0:
                    break
        assert so_far is not None
        worst[epsilon] = so_far
    return worst
