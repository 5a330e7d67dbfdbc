"""One model under attack: its test records, the radii, and whoever does the work, records spread over workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.base import Attack, Judged, joined
from assay.evaluations.base import Subject
from assay.models.batches import at_once, respond
from assay.threats import Norm, Threat

SHARD = 128
"""Records that are attacked as one piece of work. Random starts are drawn by piece, so the result knows no workers."""
UNLIMITED = float("inf")

Curve = dict[float, Judged]
Curves = dict[str, Curve]


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
    def right(self) -> Tensor:
        """Which records the model classifies correctly as they are, (n,)."""
        return respond(self.subject.model, self.x).argmax(1) == self.y

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
        """The patient of each record, None where each record is its own."""
        return self.subject.groups(self.rows)

    def curves(self, strikes: Mapping[str, Strike]) -> Curves:
        """Every strike on every record, in pieces that the workers share; a piece whose worker dies is done again.

        Raises:
            RuntimeError: a piece has killed its worker more than once.
        """
        here = self.subject.device
        ground = _Ground(
            model=self.subject.model.cpu(),
            x=self.x.cpu(),
            y=self.y.cpu(),
            base=self.base,
            strikes=dict(strikes),
            seed=self.subject.seed,
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
            self.subject.model.to(here)
        return {
            name: {
                radius: joined([done[name, start][radius] for start in range(0, len(self.x), SHARD)])
                for radius in strike.radii
            }
            for name, strike in strikes.items()
        }


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """All that a worker needs to attack any piece; travels to it once."""

    model: nn.Module
    x: Tensor
    y: Tensor
    base: Threat
    strikes: dict[str, Strike]
    seed: int
    threads: int


def _strike(piece: tuple[str, int], ground: _Ground) -> Curve:
    """What one strike does to one piece of the records."""
    torch.set_num_threads(ground.threads)
    name, start = piece
    strike = ground.strikes[name]
    own = slice(start, start + SHARD)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        # A model that answers at random draws the same, whoever asks it.
        torch.manual_seed(seeds.torch_seed(ground.seed, "layers", name, start))
        found = strike.attack.curve(
            ground.model.to(device),
            ground.x[own].to(device),
            ground.y[own].to(device),
            Threat(norm=strike.norm, epsilon=0.0, bounds=ground.base.bounds),
            strike.radii,
            seed=seeds.derive(ground.seed, "records", start),
            through=None if strike.through is None else strike.through.to(device),
        )
    return {
        radius: Judged(fooled=one.fooled.cpu(), distance=one.distance.cpu(), invalid=one.invalid)
        for radius, one in found.items()
    }


def worst_case(curves: Sequence[Curve]) -> dict[float, Tensor]:
    """Which records any attack of one threat model fooled at each ε or at a smaller one."""
    worst: dict[float, Tensor] = {}
    so_far: Tensor | None = None
    for epsilon in sorted({epsilon for curve in curves for epsilon in curve}):
        for curve in curves:
            if epsilon in curve:
                fooled = curve[epsilon].fooled
                so_far = fooled if so_far is None else so_far | fooled
        assert so_far is not None
        worst[epsilon] = so_far
    return worst
