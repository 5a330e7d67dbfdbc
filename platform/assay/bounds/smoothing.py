"""Randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918).

The smoothed model predicts the class that the network predicts most often when normal noise is added to the record. Its
prediction within an L2 ball is certified from samples, for any network, up to a stated error probability. The noise may
leave the range of valid records: the smoothed model is defined on unclipped noise, as in the paper. Inputs that cannot
change get no noise, and the ball then contains changes of the other inputs only.

Each record has its own noise stream, so a prediction depends neither on the other records nor on how records are
distributed over workers.
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
"""Prediction of a smoothed model that cannot decide which class is the most frequent."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """Noise and confidence of a smoothed model."""

    sigma: float
    """Standard deviation of the noise, in the units of the data."""
    samples: int = 1_000
    """Samples from which the probability of a class is bounded (n of the paper)."""
    selection_samples: int = 100
    """Samples from which the class is chosen (n₀ of the paper)."""
    alpha: float = 0.001
    """Probability, for one record, that its certificate is wrong."""

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
        """Number of forward passes for the certificate of one record."""
        return self.selection_samples + self.samples


@dataclass(frozen=True, kw_only=True)
class SmoothedCertificates:
    """Predictions of a smoothed model with their certified radii."""

    answer: np.ndarray
    """(n,) int64 class, or ``ABSTAINED``; equal to the number of classes where most outputs are NaN or infinite."""
    radius: np.ndarray
    """(n,) float64: within this L2 distance the prediction does not change, each with probability 1 − α; 0 where the
    model abstains."""


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
    """Returns the smoothed model's predictions with their certified radii (CERTIFY of the paper).

    The class is the one that a first set of samples votes for most often. A second set bounds its probability p from
    below
    by Clopper and Pearson's one-sided interval. The radius is σ Φ⁻¹(p); the model abstains if p is at most 1/2.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        bounds: which inputs may change; ranges are ignored.
        smoothing: noise and confidence.
        seed: of the noise.
        names: (n,) numbers of the records, which identify their noise streams.
        task: decides which class one output votes for.

    Returns:
        Predictions and radii, (n,) each.
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
    """Returns the smoothed model's predictions; it abstains where two classes may be equally frequent (PREDICT).

    A prediction differs from the truly most frequent class with probability at most α.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) records.
        bounds: which inputs may change; ranges are ignored.
        smoothing: noise and confidence.
        seed: of the noise.
        names: (n,) numbers of the records, which identify their noise streams.
        task: decides which class one output votes for.

    Returns:
        (n,) int64 classes, or ``ABSTAINED``.
    """
    answers = []
    for record, name in zip(x, names, strict=True):
        noise = NoisyCopies(record, bounds, smoothing.sigma, seeds.stream(seed, "answer", int(name)))
        counts = np.sum([*_votes(model, noise, smoothing.samples, task)], axis=0)
        second, first = np.partition(counts, -2)[-2:]
        significant = stats.binomtest(int(first), int(first + second), 0.5).pvalue <= smoothing.alpha
        answers.append(int(counts.argmax()) if significant else ABSTAINED)
    return np.array(answers, np.int64)


class NoisyCopies:
    """Generator of noisy copies of one record.

    Args:
        record: (...) the record.
        bounds: inputs that cannot change get no noise.
        sigma: standard deviation of the noise, in the units of the data.
        generator: of the noise.
    """

    def __init__(self, record: Tensor, bounds: Bounds, sigma: float, generator: Generator) -> None:
        self.record = record
        self._bounds, self._sigma, self._generator = bounds, sigma, generator

    def copies(self, count: int) -> Tensor:
        """Draws the next copies.

        Args:
            count: number of copies.

        Returns:
            (count, ...) records.
        """
        drawn = self._generator.standard_normal((count, *self.record.shape), np.float32)
        return noisy(self.record, torch.from_numpy(drawn).to(self.record), self._bounds, self._sigma)


def noisy(x: Tensor, drawn: Tensor, bounds: Bounds, sigma: float) -> Tensor:
    """Adds noise to records. The result may leave the valid range; inputs that cannot change get no noise.

    Args:
        x: (n, ...) records, or one.
        drawn: standard normal noise, (n, ...).
        bounds: which inputs may change.
        sigma: standard deviation of the noise, in the units of the data.

    Returns:
        (n, ...) records.
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
            return ABSTAINED, 0.0  # the remaining samples cannot change this
    return chosen, smoothing.sigma * float(stats.norm.ppf(lower_end(hits, smoothing.samples, smoothing.alpha)))


def lower_end(hits: int, samples: int, alpha: float) -> float:
    """Returns the lower confidence limit of a probability, with confidence 1 − α (Clopper & Pearson 1934).

    Args:
        hits: samples that count.
        samples: all samples.
        alpha: error probability.

    Returns:
        The limit, as a fraction.
    """
    return 0.0 if hits == 0 else float(stats.beta.ppf(alpha, hits, samples - hits + 1))


@torch.no_grad()
def _votes(model: nn.Module, noise: NoisyCopies, samples: int, task: Task) -> Iterator[np.ndarray]:
    """Yields how many of the next samples vote for each class, (classes + 1,), batch by batch.

    The last entry counts outputs with NaN or infinity.
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
    """Runs L2 PGD against the smoothed model (Salman et al. 2019, arXiv:1906.04584).

    It maximises the cross-entropy of the mean probabilities over some draws of noise, the same at every step.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) valid records.
        y: (n,) their labels.
        threat: an L2 ball.
        drawn: (draws, n, ...) standard normal noise.
        sigma: standard deviation of the noise, in the units of the data.
        steps: number of steps.
        start: (n, ...) starting points, inside the threat model.
        task: turns outputs into probabilities.

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
