"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918).

The smoothed model answers the class that the network answers most often when normal noise is added to the record. What
it answers within an L2 ball is provable whatever the network is, from samples, up to a stated probability. NoisyCopies
leaves the range of valid records: the smoothed model is defined on unclipped noise, as in the paper. Inputs that
nobody can change get none, and the ball is then of changes to the others.

Each record has a stream of noise of its own, so an answer depends neither on what other records there are nor on how
they are spread over workers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from scipy import stats
from torch import Tensor, nn

from assay import seeds
from assay.attacks.ascent import direction
from assay.models.batches import at_once
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds, Threat

ABSTAINED = -1
"""The answer of a smoothed model that cannot tell which class is the most frequent: a value of its own."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """How much noise, and how sure an answer must be."""

    sigma: float
    """Standard deviation of the noise, in the units of the data."""
    samples: int = 1_000
    """From which the probability of a class is bounded (n of the paper)."""
    selection_samples: int = 100
    """From which the class is chosen (n₀ of the paper)."""
    alpha: float = 0.001
    """Probability, for one record, that what is certified is wrong."""

    def __post_init__(self) -> None:
        if not self.sigma > 0 or not np.isfinite(self.sigma):
            raise ValueError(f"sigma must be a number above 0, given: {self.sigma}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, given: {self.alpha}")
        if min(self.samples, self.selection_samples) < 1:
            raise ValueError(
                f"at least 1 sample is needed, given: {self.samples} and {self.selection_samples} to select from"
            )

    @property
    def passes(self) -> int:
        """Forward passes that the certificate of one record takes."""
        return self.selection_samples + self.samples


@dataclass(frozen=True, kw_only=True)
class SmoothedCertificates:
    """What the smoothed model answers, record by record, and how far that is proven."""

    answer: np.ndarray
    """(n,) int64 class, or ``ABSTAINED``; the number of classes where most answers are NaN or infinite."""
    radius: np.ndarray
    """(n,) float64: within this L2 distance the answer stays, each with probability 1 − α; 0 where it abstains."""


def certify(
    model: nn.Module,
    x: Tensor,
    bounds: Bounds,
    smoothing: Smoothing,
    *,
    seed: int,
    names: Iterable[int],
    task: Task = CLASSIFICATION,
) -> SmoothedCertificates:
    """The smoothed model's answers with the radii for which they are proven (CERTIFY of the paper).

    The class that a first set of samples answers most often is kept; the lower end of Clopper and Pearson's one-sided
    interval for its probability p, from a second set, gives the radius σ Φ⁻¹(p), or none if p is at most 1/2.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        bounds: which inputs may change; ranges are not looked at.
        seed: of the noise.
        names: (n,) numbers of the records, which name their streams.
        task: says which class one answer votes for.
    """
    answers, radii = [], []
    for record, name in zip(x, names, strict=True):
        noise = NoisyCopies(record, bounds, smoothing.sigma, seeds.stream(seed, "certificate", int(name)))
        answer, radius = _certificate(model, noise, smoothing, task)
        answers.append(answer)
        radii.append(radius)
    return SmoothedCertificates(answer=np.array(answers, np.int64), radius=np.array(radii, np.float64))


def predict(
    model: nn.Module,
    x: Tensor,
    bounds: Bounds,
    smoothing: Smoothing,
    *,
    seed: int,
    names: Iterable[int],
    task: Task = CLASSIFICATION,
) -> np.ndarray:
    """The smoothed model's answers, (n,) int64, ``ABSTAINED`` where two classes may be as frequent (PREDICT).

    An answer differs from the class that is truly the most frequent with probability at most α. Arguments are those of
    ``certify``.
    """
    answers = []
    for record, name in zip(x, names, strict=True):
        noise = NoisyCopies(record, bounds, smoothing.sigma, seeds.stream(seed, "answer", int(name)))
        counts = np.sum([*_votes(model, noise, smoothing.samples, task)], axis=0)
        second, first = np.partition(counts, -2)[-2:]
        told = stats.binomtest(int(first), int(first + second), 0.5).pvalue <= smoothing.alpha
        answers.append(int(counts.argmax()) if told else ABSTAINED)
    return np.array(answers, np.int64)


class NoisyCopies:
    """Noisy copies of one record, one after the other.

    Args:
        record: (...) what noise is added to.
        bounds: inputs that nobody can change get none.
        sigma: standard deviation of the noise.
        generator: where it comes from.
    """

    def __init__(self, record: Tensor, bounds: Bounds, sigma: float, generator: Generator) -> None:
        self.record = record
        self._bounds, self._sigma, self._generator = bounds, sigma, generator

    def copies(self, count: int) -> Tensor:
        """(count, ...) the next ones."""
        drawn = self._generator.standard_normal((count, *self.record.shape), np.float32)
        return noisy(self.record, torch.from_numpy(drawn).to(self.record), self._bounds, self._sigma)


def noisy(x: Tensor, drawn: Tensor, bounds: Bounds, sigma: float) -> Tensor:
    """Records with noise, beyond the valid range where it leads there, but never on what nobody can change.

    Args:
        x: (n, ...) records, or one.
        drawn: standard normal noise, (n, ...).
        sigma: standard deviation of the noise.
    """
    if bounds.padding:
        drawn = drawn * (x != 0).any(-1, keepdim=True)
    return x + sigma * (drawn if bounds.fixed is None else drawn * ~bounds.fixed.to(drawn.device))


def _certificate(model: nn.Module, noise: NoisyCopies, smoothing: Smoothing, task: Task) -> tuple[int, float]:
    chosen = int(np.sum([*_votes(model, noise, smoothing.selection_samples, task)], axis=0).argmax())
    hits, left = 0, smoothing.samples
    for counts in _votes(model, noise, smoothing.samples, task):
        hits, left = hits + int(counts[chosen]), left - int(counts.sum())
        if lower_end(hits + left, smoothing.samples, smoothing.alpha) <= 0.5:
            return ABSTAINED, 0.0  # whatever the rest says
    return chosen, smoothing.sigma * float(stats.norm.ppf(lower_end(hits, smoothing.samples, smoothing.alpha)))


def lower_end(hits: int, samples: int, alpha: float) -> float:
    """A probability above which the true one lies, with confidence 1 − α (Clopper & Pearson 1934)."""
    return 0.0 if hits == 0 else float(stats.beta.ppf(alpha, hits, samples - hits + 1))


@torch.no_grad()
def _votes(model: nn.Module, noise: NoisyCopies, samples: int, task: Task) -> Iterator[np.ndarray]:
    """(classes + 1,) how many of the next samples are answered which class, batch by batch.

    The last entry counts what was not answered with finite numbers.
    """
    most = at_once(tuple(noise.record.shape))
    while samples > 0:
        logits = model(noise.copies(min(most, samples)))
        answers = torch.where(task.answered(logits), task.decide(logits), logits.shape[1])
        yield np.bincount(answers.cpu().numpy(), minlength=logits.shape[1] + 1)
        samples -= len(logits)


def attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    drawn: Tensor,
    *,
    sigma: float,
    steps: int,
    start: Tensor,
    task: Task = CLASSIFICATION,
) -> Tensor:
    """L2 PGD through the noise (Salman et al. 2019, arXiv:1906.04584): records on which the smoothed model errs.

    Climbs the cross-entropy of the mean probabilities over some draws of noise, the same at every step.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) valid records.
        y: (n,) their labels.
        threat: an L2 ball.
        drawn: (draws, n, ...) standard normal noise.
        sigma: standard deviation of the noise.
        start: (n, ...) where the climb begins, inside the threat model.
        task: turns answers into probabilities.

    Returns:
        (n, ...) records inside the threat model.
    """
    current, step = threat.project(start, x), 2.5 * threat.epsilon / steps
    for _ in range(steps):
        point = current.detach().requires_grad_(True)
        with torch.enable_grad():
            copies = noisy(point, drawn, threat.bounds, sigma).flatten(0, 1)
            probabilities = task.probabilities(model(copies)).unflatten(0, drawn.shape[:2]).mean(0)
            loss = -probabilities.gather(1, y[:, None]).clamp_min(1e-30).log().sum()
            (gradient,) = torch.autograd.grad(loss, point)
        current = threat.project(current + step * direction(gradient.nan_to_num(), threat), x)
    return current.detach()
