"""One model under attack: its test records, the radii, and whoever does the work, records spread over workers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.base import Attack, Judged, joined
from assay.attacks.expectation import Expectation
from assay.attacks.losses import misclassified
from assay.evaluations.base import Subject
from assay.models.batches import at_once, respond
from assay.threats import Norm, Threat

SHARD = 128
"""Records that are attacked as one piece of work. Random starts are drawn by piece, so the result knows no workers."""
UNLIMITED = float("inf")

Curve = dict[float, Judged]
Curves = dict[str, Curve]


class FixedDraws(nn.Module):
    """The judge of a model that answers at random: its mean probabilities over passes whose draws are always the same.

    Judged by one pass, a record falls to whichever attack had luck, and a union over attacks counts every piece of it.

    Args:
        model: from records to logits; what it draws, it draws from PyTorch's own generators.
        passes: to average.
        seed: of their draws; records that come in the same batches have the same answers.
    """

    def __init__(self, model: nn.Module, passes: int, *, seed: int) -> None:
        super().__init__()
        self.mean, self.seed = Expectation(model, passes), seed

    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.mean(x)


def judge_of(model: nn.Module, passes: int, *, seed: int) -> nn.Module:
    """What decides whether a record is fooled: the model, or its mean over several passes."""
    return model if passes == 1 else FixedDraws(model, passes, seed=seeds.torch_seed(seed, "judge"))


@contextmanager
def as_used(model: nn.Module) -> Iterator[None]:
    """In here the model is in evaluation mode; afterwards each layer is in the mode it was in."""
    modes = {layer: layer.training for layer in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for layer, training in modes.items():
            layer.training = training


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One attack at some radii, and the network that it looks at."""

    attack: Attack
    norm: Norm
    radii: tuple[float, ...]
    through: nn.Module | None = None
    """None: the model itself."""


@dataclass(frozen=True, kw_only=True)
class Arena:
    """One model, its test records, and the radii at which they are attacked."""

    subject: Subject
    rows: np.ndarray
    """Positions of the records in the data set."""
    x: Tensor
    y: Tensor
    base: Threat
    radii: tuple[float, ...]
    """In rising order, 0 first."""
    passes: int = 1
    """Over which the model's answers are averaged before they are judged; more than 1 where it answers at random."""

    @classmethod
    def of(cls, subject: Subject, *, norm: Norm, epsilons: Sequence[float], records: int | None) -> "Arena":
        """An arena on the test records, or on a stratified part of them."""
        rows = subject.chosen(subject.split.test, records)
        x, y = subject.records(rows)
        return cls(
            subject=subject,
            rows=rows,
            x=x,
            y=y,
            base=Threat(norm=norm, epsilon=0.0, bounds=subject.bounds),
            radii=tuple(sorted({0.0, *(epsilons or subject.dataset.epsilons)})),
        )

    @property
    def judge(self) -> nn.Module:
        """What decides whether a record is fooled."""
        return judge_of(self.subject.model, self.passes, seed=self.subject.seed)

    @cached_property
    def right(self) -> Tensor:
        """Which records are classified correctly, with finite numbers, as they are, (n,); asked in the same pieces."""
        pieces = zip(self.x.split(SHARD), self.y.split(SHARD), strict=True)
        return torch.cat([~misclassified(respond(self.judge, x), y) for x, y in pieces])

    @property
    def clean(self) -> float:
        return float(self.right.double().mean())

    @property
    def first(self) -> tuple[Tensor, Tensor]:
        """As many records, and their labels, as the model can take at once."""
        most = at_once(tuple(self.x.shape[1:]))
        return self.x[:most], self.y[:most]

    @property
    def groups(self) -> np.ndarray | None:
        """What counts as one in an interval; see ``Subject.clusters``."""
        return self.subject.clusters(self.rows)

    def curves(self, strikes: Mapping[str, Strike]) -> Curves:
        """Every strike on every record, in pieces that the workers share; a piece whose worker dies is done again.

        Raises:
            RuntimeError: a piece has killed its worker more than once.
        """
        here = self.subject.device
        networks = [self.subject.model, *(strike.through for strike in strikes.values() if strike.through is not None)]
        for network in networks:
            network.cpu()
        ground = _Ground(
            model=self.subject.model,
            x=self.x.cpu().numpy(),
            y=self.y.cpu().numpy(),
            base=self.base,
            strikes=dict(strikes),
            seed=self.subject.seed,
            passes=self.passes,
            threads=torch.get_num_threads(),
        )
        pieces = [(name, start) for name in strikes for start in range(0, len(self.x), SHARD)]
        done: dict[tuple[str, int], Curve] = {}
        try:
            for outcome in self.subject.executor.map(_strike, pieces, ground):
                if outcome.error:
                    name, start = pieces[outcome.index]
                    raise RuntimeError(f"{name} on records {start} to {start + SHARD - 1}: {outcome.error}")
                done[pieces[outcome.index]] = outcome.value
        finally:
            for network in networks:
                network.to(here)
        return {
            name: {
                radius: joined([done[name, start][radius] for start in range(0, len(self.x), SHARD)])
                for radius in strike.radii
            }
            for name, strike in strikes.items()
        }


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """All that a worker needs to attack any piece.

    It travels to a machine once. There the networks are read anew for each piece; the records are arrays that stay in
    memory which all workers of the machine share, and a piece copies its own alone.
    """

    model: nn.Module
    x: np.ndarray
    y: np.ndarray
    base: Threat
    strikes: dict[str, Strike]
    seed: int
    passes: int
    threads: int

    def records(self, start: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The records of one piece and their labels."""
        own = slice(start, start + SHARD)
        return torch.tensor(self.x[own], device=device), torch.tensor(self.y[own], device=device)


def _strike(piece: tuple[str, int], ground: _Ground) -> Curve:
    """What one strike does to one piece of the records."""
    torch.set_num_threads(ground.threads)
    name, start = piece
    strike = ground.strikes[name]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    x, y = ground.records(start, device)
    model = ground.model.to(device)
    through = None if strike.through is None else strike.through.to(device)
    if ground.passes > 1 and through is None:
        # An attack sees single answers, as it would in use; judged it is by their mean.
        through = model
    with torch.random.fork_rng():
        # A model that answers at random draws the same, whoever asks it.
        torch.manual_seed(seeds.torch_seed(ground.seed, "layers", name, start))
        found = strike.attack.curve(
            judge_of(model, ground.passes, seed=ground.seed),
            x,
            y,
            Threat(norm=strike.norm, epsilon=0.0, bounds=ground.base.bounds),
            strike.radii,
            seed=seeds.derive(ground.seed, "records", start),
            through=through,
        )
    return {
        radius: Judged(fooled=one.fooled.cpu(), distance=one.distance.cpu(), invalid=one.invalid)
        for radius, one in found.items()
    }


def worst_case(curves: Sequence[Curve]) -> dict[float, Tensor]:
    """Which records any attack of one threat model fooled at each ε or at a smaller one.

    At ε = 0 there is nothing to attack: the first answer stands for all, so that a tie, which other machines may break
    otherwise, counts once.
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
