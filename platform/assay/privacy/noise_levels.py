"""Level of the noise that a private training added, in every direction that an audit examines.

The claim is Gaussian noise of one standard deviation σ, independent over coordinates, tensors and steps. Then the sum
of squares of the noise in any k directions, chosen without looking at it, is σ² times a χ² variable with k degrees of
freedom, and each group of directions gives exact confidence bounds on its own σ. A tensor without noise, two tensors
with the same noise, and noise that is drawn once and used at every step all leave too little noise in some group of
directions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from assay.privacy.accounting import Mechanism, rdp_epsilon

_SKETCH = 4096
"""Number of coordinates of a step that are stored, over all tensors; the first ones of each."""
_SKETCHED_STEPS = 1000
_FEWEST = 8
"""Least number of coordinates for comparing two steps: fewer may be alike by chance."""
NEGLIGIBLE = 1.01
"""Factor over the claimed ε that is not significant: calibration of noise and conversion of ε are less exact."""
_NOTHING = 1e-2
"""Share of the claimed noise below which ε counts as infinite."""


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Groups of directions, each with the noise that was measured in it."""

    name: Callable[[int], str]
    """Returns the name of a group by its number."""
    squares: np.ndarray
    """(groups,) sums of squares of the noise, relative to the claimed variance."""
    counts: np.ndarray
    """(groups,) degrees of freedom."""
    steps: int
    """Number of steps that a group covers."""
    signal: float = 1.0
    """Greatest length, in clipping norms, of one record's contribution in such a group at one step."""

    def __len__(self) -> int:
        return len(self.squares)

    def at_most(self, significance: float) -> np.ndarray:
        """Returns upper confidence bounds on the noise, as shares of the claim.

        They are relative to a record's contribution there.

        Args:
            significance: probability that one bound is wrong.

        Returns:
            (groups,) bounds.
        """
        return np.asarray(np.sqrt(self.squares / _quantiles(stats.chi2.ppf, significance, self.counts)) / self.signal)

    def at_least(self, significance: float) -> np.ndarray:
        """Returns lower confidence bounds on the noise, as shares of the claim.

        They are relative to a record's contribution there.

        Args:
            significance: probability that one bound is wrong.

        Returns:
            (groups,) bounds.
        """
        return np.asarray(np.sqrt(self.squares / _quantiles(stats.chi2.isf, significance, self.counts)) / self.signal)


@dataclass(frozen=True, kw_only=True)
class LeastNoise:
    """The group of directions that gives the strongest evidence of too little noise."""

    where: str
    """Name of the group."""
    share: float
    """Upper bound on the noise there, as a share of the claim."""
    epsilon: float
    """ε that the accountant gives for this noise."""


def least_noise(found: Sequence[Directions], mechanism: Mechanism, *, significance: float) -> LeastNoise | None:
    """Returns the group whose noise implies the highest ε; None without any directions.

    All upper bounds hold together with probability 1 - ``significance`` (Bonferroni over kinds, then over groups).
    Groups are compared by ε and not by noise: in a large tensor, a lack of noise that is too small to change ε is
    significant.

    Args:
        found: kinds of directions.
        mechanism: that is claimed.
        significance: probability that any bound is wrong.

    Returns:
        The group, or None.
    """
    kinds = [directions for directions in found if len(directions)]
    candidates = []
    for directions in kinds:
        bounds = directions.at_most(significance / (len(kinds) * len(directions)))
        place = int(bounds.argmin())
        share = float(bounds[place])
        # Where the bound allows all of the claimed noise, the claimed ε may be right.
        epsilon = rdp_epsilon(mechanism) if share >= 1 else epsilon_at(mechanism, share, steps=directions.steps)
        candidates.append(LeastNoise(where=directions.name(place), share=share, epsilon=epsilon))
    return max(candidates, key=lambda directions: (directions.epsilon, -directions.share), default=None)


def share_in_every_direction(found: Sequence[Directions], *, significance: float) -> float:
    """Returns a lower bound on the share of the claimed noise in every group of directions; all bounds hold together.

    Args:
        found: kinds of directions, at least one of them with a group.
        significance: probability that any group has less.

    Returns:
        The share.
    """
    kinds = [directions for directions in found if len(directions)]
    return min(float(directions.at_least(significance / (len(kinds) * len(directions))).min()) for directions in kinds)


def epsilon_at(mechanism: Mechanism, share: float, *, steps: int) -> float:
    """Returns the ε of a training some of whose steps have only a share of the claimed noise.

    Args:
        mechanism: that is claimed.
        share: of the claimed noise.
        steps: number of steps that have only this share.

    Returns:
        ε by RDP; infinite where the share is below 1 %.
    """
    if share < _NOTHING:
        return float("inf")
    less = replace(mechanism, noise_multiplier=share * mechanism.noise_multiplier, steps=min(steps, mechanism.steps))
    rest = replace(mechanism, steps=mechanism.steps - less.steps)
    return rdp_epsilon(rest, less)


class NoiseRecord:
    """Statistics of the noise of every step of a training, as the tests need them.

    Args:
        names: of the tensors.
        shapes: of the tensors.
    """

    def __init__(self, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
        self.names, self.shapes = list(names), list(shapes)
        self.sizes = np.array([int(np.prod(shape)) for shape in shapes])
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self._squares: list[np.ndarray] = []
        self._total = np.zeros(int(self.sizes.sum()))
        self._centred = np.zeros((3, len(self.sizes)))
        self._along: list[np.ndarray] = []
        self._lengths: list[float] = []
        kept = np.minimum(self.sizes, max(16, _SKETCH // len(self.sizes)))
        self._edges = np.concatenate([[0], np.cumsum(kept)])
        self._kept = np.concatenate([start + np.arange(k) for start, k in zip(self._starts, kept, strict=True)])
        self._sketches: list[np.ndarray] = []

    @property
    def steps(self) -> int:
        return len(self._squares)

    def add(self, noise: np.ndarray, sums: np.ndarray) -> None:
        """Records one step.

        Args:
            noise: (d,) of all tensors one after the other, in claimed standard deviations.
            sums: (d,) the clipped sum to which it was added, on the same scale.
        """
        self._squares.append(np.add.reduceat(noise * noise, self._starts))
        self._total += noise
        along, lengths = (np.add.reduceat(one * sums, self._starts) for one in (noise, sums))
        whole, length = along.sum(), lengths.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            self._along.append(np.append(along / np.sqrt(lengths), whole / np.sqrt(length)))
        self._lengths.append(float(np.sqrt(length)))
        for place, (start, size, shape) in enumerate(zip(self._starts, self.sizes, self.shapes, strict=True)):
            tensor_noise = noise[start : start + size]
            self._centred[0, place] += tensor_noise.sum() ** 2 / size
            if len(shape) > 1 and min(shape[0], size // shape[0]) > 1:
                table = tensor_noise.reshape(shape[0], -1)
                self._centred[1, place] += (table.sum(0) ** 2).sum() / shape[0]
                self._centred[2, place] += (table.sum(1) ** 2).sum() / table.shape[1]
        if len(self._sketches) < _SKETCHED_STEPS:
            self._sketches.append(noise[self._kept])

    @property
    def squares(self) -> np.ndarray:
        """(steps, tensors) sums of squares."""
        return np.stack(self._squares)

    def along_sums(self) -> np.ndarray:
        """Returns the noise along the clipped sum; standard normal if the noise is independent of the records.

        Returns:
            (steps, tensors + 1) of each tensor and of all together; NaN where the sum is 0.
        """
        return np.stack(self._along)

    @property
    def lengths(self) -> np.ndarray:
        """(steps,) lengths of the clipped sums, in claimed standard deviations."""
        return np.array(self._lengths)

    def sketch(self, tensor: int) -> np.ndarray:
        """Returns the noise of the first coordinates of a tensor, at the first steps.

        Args:
            tensor: its number.

        Returns:
            (steps, coordinates), in claimed standard deviations.
        """
        return np.stack(self._sketches)[:, self._edges[tensor] : self._edges[tensor + 1]]

    def tensors(self) -> Directions:
        """Returns the noise of each tensor over all steps, and of all tensors together."""
        by_tensor = self.squares.sum(0)
        return Directions(
            name=lambda place: repr(self.names[place]) if place < len(self.names) else "all tensors together",
            squares=np.append(by_tensor, by_tensor.sum()),
            counts=self.steps * np.append(self.sizes, self.sizes.sum()),
            steps=self.steps,
        )

    def single_steps(self) -> Directions:
        """Returns the noise of each tensor, and of all together, at each step."""
        squares = np.concatenate([self.squares, self.squares.sum(1, keepdims=True)], 1)
        across = squares.shape[1]

        def name(place: int) -> str:
            tensor = "all tensors" if place % across == across - 1 else repr(self.names[place % across])
            return f"{tensor} at step {place // across + 1}"

        counts = np.tile(np.append(self.sizes, self.sizes.sum()), self.steps)
        return Directions(name=name, squares=squares.ravel(), counts=counts, steps=1)

    def between_steps(self) -> list[Directions]:
        """Returns the noise of each tensor around its mean over steps, and between any two steps."""
        if self.steps < 2:
            return []
        shared = np.add.reduceat(self._total**2, self._starts) / self.steps
        around = Directions(
            name=lambda place: f"the steps of {self.names[place]!r}, around their mean",
            squares=_difference(self.squares.sum(0), shared),
            counts=(self.steps - 1) * self.sizes,
            steps=1,
            signal=float(np.sqrt(1 - 1 / self.steps)),
        )
        return [around, *filter(len, map(self._pairs_of_steps, range(len(self.names))))]

    def between_coordinates(self) -> list[Directions]:
        """Returns the noise of each tensor around its mean, and around those of rows and columns."""
        total, kinds = self.squares.sum(0), []
        rows = np.array([shape[0] if len(shape) > 1 else 1 for shape in self.shapes])
        for number, (what, shared) in enumerate(
            [("all coordinates", np.ones(len(rows), int)), ("the rows", self.sizes // rows), ("the columns", rows)]
        ):
            counts = self.steps * (self.sizes - shared)
            places = np.flatnonzero(
                (counts > 0) & (shared < self.sizes) & ((number == 0) | (self._centred[number] > 0))
            )
            kinds.append(
                Directions(
                    name=lambda place, what=what, places=places: (  # type: ignore[misc]
                        f"{what} of {self.names[places[place]]!r}, around their mean"
                    ),
                    squares=_difference(total, self._centred[number])[places],
                    counts=counts[places],
                    steps=self.steps,
                )
            )
        return kinds

    def between_tensors(self) -> Directions:
        """Returns differences and sums of the first coordinates of any two tensors, over all steps."""
        pairs = [(a, b) for a in range(len(self.names)) for b in range(a)]
        squares, counts = [], []
        for a, b in pairs:
            one, other = self.sketch(a), self.sketch(b)
            both = min(one.shape[1], other.shape[1])
            one, other = one[:, :both], other[:, :both]
            squares += [((one - other) ** 2).sum() / 2, ((one + other) ** 2).sum() / 2]
            counts += [one.size, one.size]

        def name(place: int) -> str:
            a, b = pairs[place // 2]
            return f"the {'sum' if place % 2 else 'difference'} of {self.names[b]!r} and {self.names[a]!r}"

        return Directions(name=name, squares=np.array(squares), counts=np.array(counts), steps=self.steps)

    def _pairs_of_steps(self, tensor: int) -> Directions:
        """Returns differences and sums of a tensor's noise at any two steps; no groups if the tensor is small."""
        kept = self.sketch(tensor)
        one, other = np.triu_indices(len(kept) if kept.shape[1] >= _FEWEST else 0, 1)
        products = kept @ kept.T
        squared_lengths = products.diagonal()
        mean, both = (squared_lengths[one] + squared_lengths[other]) / 2, products[one, other]

        def name(place: int) -> str:
            pair, what = place % len(one), "difference" if place < len(one) else "sum"
            return f"the {what} of steps {one[pair] + 1} and {other[pair] + 1} of {self.names[tensor]!r}"

        squares = np.maximum(np.concatenate([mean - both, mean + both]), 0.0)
        counts = np.full(len(squares), kept.shape[1])
        return Directions(name=name, squares=squares, counts=counts, steps=1, signal=float(np.sqrt(0.5)))


def between_runs(one: NoiseRecord, other: NoiseRecord) -> list[Directions]:
    """Returns differences and sums of the noise of two trainings, by tensors with the same name.

    One training alone cannot show that another one has the same noise; someone with both releases could subtract it.

    Args:
        one: noise of the first training.
        other: noise of the second training.

    Returns:
        One kind of directions for each shared tensor that is large enough.
    """
    kinds = []
    for name in (name for name in one.names if name in other.names):
        mine, theirs = one.sketch(one.names.index(name)), other.sketch(other.names.index(name))
        both = min(mine.shape[1], theirs.shape[1])
        if both < _FEWEST:
            continue
        mine, theirs = mine[:, :both], theirs[:, :both]
        mean = ((mine**2).sum(1)[:, None] + (theirs**2).sum(1)) / 2
        products = mine @ theirs.T

        def called(place: int, name: str = name, shape: tuple[int, ...] = products.shape) -> str:
            what, step, step_of_other = np.unravel_index(place, (2, *shape))
            kind = "sum" if what else "difference"
            return f"the {kind} of step {step + 1} of the one and step {step_of_other + 1} of the other of {name!r}"

        squares = np.maximum(np.stack([mean - products, mean + products]).ravel(), 0.0)
        counts = np.full(len(squares), both)
        kinds.append(Directions(name=called, squares=squares, counts=counts, steps=1, signal=float(np.sqrt(0.5))))
    return kinds


def _difference(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Returns the difference of two sums of squares, at least 0 despite rounding."""
    return np.asarray(np.maximum(total - part, 0.0))


def _quantiles(quantile: Callable[..., np.ndarray], probability: float, counts: np.ndarray) -> np.ndarray:
    """Returns quantiles of χ² variables; each distinct count is computed once."""
    distinct, back = np.unique(counts, return_inverse=True)
    return np.asarray(quantile(probability, distinct))[back]
