"""Randomised smoothing: certified accuracy of the smoothed model, and its accuracy under attack."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import Tensor, nn

from assay import intervals, seeds
from assay.bounds.smoothing import ABSTAINED, SmoothedCertificates, Smoothing, attack, certify, lower_end, predict
from assay.devices import device, repeatable
from assay.evaluations.balanced import by_class, metrics_by_class
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.metrics import Chosen, Metric, ScorecardColumn
from assay.models.batches import at_once
from assay.models.recurrent import differentiable
from assay.registry import Number, register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.tasks.base import Task
from assay.threats import Threat, radius_text

METHOD = "randomised smoothing"
_SMOOTHED = {"method": METHOD}
RECORDS_A_PIECE = 32
"""Records of one piece of work; their noise depends neither on pieces nor on workers."""
_RADII = (0.5, 1.0, 1.5, 2.0)
"""Default radii, in standard deviations of the noise."""
_QUANTILES = (0.1, 0.5, 0.9)
_UNLIKELY = 0.01
_NAMES = (
    "smoothed_accuracy",
    "smoothed_abstention",
    "certified_accuracy",
    "certified_balanced_accuracy",
    "certified_recall",
    "certified_sensitivity",
    "certified_specificity",
    "smoothed_robust_accuracy",
    "smoothed_abstention_under_attack",
    "certified_radius",
)
"""Names of its measurements."""


@register("evaluation")
class RandomisedSmoothing(Evaluation):
    """Certified accuracy of the smoothed model in L2, and its accuracy under an attack in the same norm.

    The smoothed model is another model than the trained one: it gives the most frequent answer of the trained model
    under noise, or abstains. It is only as good as the trained model is on noisy records: train with
    ``gaussian_noise``.

    An abstention is not a correct answer: ``smoothed_robust_accuracy`` is the share of records that are answered
    correctly under every attack up to ε, ``smoothed_abstention_under_attack`` the share on which the smoothed model
    abstains under some attack and is wrong under none; on the rest it is wrong. A certificate concerns the class that
    is truly the most frequent. Near the boundary of its ball the judging samples may be too few to determine this
    class, and robust accuracy is then lower than certified accuracy because of abstentions.
    """

    looks_at = "decisions"
    name: Literal["smoothing"] = "smoothing"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="certified_accuracy",
            title="Certified when smoothed",
            meaning="Share of records on which the smoothed model, which answers by a vote over noisy copies, is right "
            "and provably (with its confidence) stays right within that Euclidean radius. It does not hold for the "
            "model without noise.",
            better="higher",
            where=_SMOOTHED,
            of_sample=True,
            against_accuracy=True,
            columns=(
                ScorecardColumn(
                    key="smoothed",
                    group="attack",
                    place=80,
                    title="Certified when smoothed, L2 ε = {epsilon}, σ = {sigma}",
                    where={**_SMOOTHED, "sigma": Chosen(), "epsilon": Chosen(otherwise="middle")},
                    texts={"epsilon": radius_text, "sigma": "{:g}".format},
                    sampled=True,
                    optional=True,
                ),
            ),
        ),
        *metrics_by_class("certified", "on which the smoothed model is provably right", where=_SMOOTHED),
        Metric(
            name="smoothed_accuracy",
            title="Accuracy when smoothed",
            meaning="Share of records that the smoothed model answers rightly, without an attack.",
            better="higher",
            of_sample=True,
            against_accuracy=True,
        ),
        Metric(
            name="smoothed_robust_accuracy",
            title="Worst case when smoothed",
            meaning="Share of records that the smoothed model answers rightly under PGD through the noise.",
            better="higher",
            of_sample=True,
            against_accuracy=True,
        ),
        Metric(
            name="smoothed_abstention",
            title="Abstention when smoothed",
            meaning="Share of records on which the vote of the smoothed model is too close to answer.",
            better="lower",
        ),
        Metric(
            name="smoothed_abstention_under_attack",
            title="Abstention under attack when smoothed",
            meaning="Share of records on which the smoothed model abstains under an attack, and is wrong under none.",
            better="lower",
        ),
        Metric(
            name="certified_radius",
            title="Certified radius",
            meaning="A quantile of the radii within which records are provably answered rightly.",
            unit="",
            better="higher",
        ),
    )

    sigma: Number = Field(default=0.25, gt=0)
    """Standard deviation of the noise, in the units of the data."""
    samples: int = Field(default=1_000, ge=10)
    """For each record, from which its radius is proven. The largest provable radius grows with them: 2.5 σ with
    1,000 samples, 3.8 σ with 100,000.
    """
    selection_samples: int = Field(default=100, ge=1)
    """For each record, from which the class is chosen."""
    alpha: float = Field(default=0.001, gt=0, lt=0.5)
    """Probability of an error for one record."""
    epsilons: tuple[Number, ...] = ()
    """Radii (L2) in the units of the data; 0.5, 1, 1.5 and 2 σ by default."""
    records: int | None = Field(default=None, ge=10)
    """Test records that are used, stratified; all by default."""
    attack_steps: int = Field(default=10, ge=1)
    """Steps of PGD through the noise, at each radius."""
    attack_draws: int = Field(default=8, ge=1)
    """Draws of noise over which the attack averages."""
    judging_samples: int = Field(default=500, ge=10)
    """From which the smoothed model's answer to an attacked record is determined."""

    @property
    def smoothing(self) -> Smoothing:
        """Settings of the smoothed model."""
        return Smoothing(
            sigma=self.sigma, samples=self.samples, selection_samples=self.selection_samples, alpha=self.alpha
        )

    @property
    def radii(self) -> tuple[float, ...]:
        """Radii, ascending, all above 0."""
        return tuple(sorted({*(self.epsilons or (self.sigma * factor for factor in _RADII))} - {0.0}))

    @property
    def of_training_records(self) -> bool:
        return False

    def forecast(self, records: int) -> str:
        asked = min(records, self.records or records)
        proven = asked * self.smoothing.passes
        attacked = asked * len(self.radii) * (3 * self.attack_steps * self.attack_draws + self.judging_samples)
        return (
            f"smoothing: {asked} records × {self.smoothing.passes:,} passes = {proven / 1e6:.3g} million forward "
            f"passes, and at most {attacked / 1e6:.3g} million for the attack"
        )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.bounds.padding:
            why = "noise on words is no word, and padding must stay empty: smoothing needs records of a fixed shape"
            about: dict[str, Any] = {"norm": "l2", "method": METHOD, "sigma": self.sigma}
            return [not_applicable(name, why, reason="other_kind_of_records", **about) for name in _NAMES]
        rows = self.sample(subject)
        found = self._examine(subject, rows)
        return [*self._rows(subject, rows, found), self._check(subject.dataset.y[rows], found)]

    def _examine(self, subject: Subject, rows: np.ndarray) -> "SmoothingResult":
        """Certifies and attacks all records, in pieces that the workers share."""
        x, y = subject.records(rows)
        shared = _SharedInputs(
            model=subject.model.cpu(),
            x=x.cpu(),
            y=y.cpu(),
            names=rows,
            threat=Threat(norm="l2", epsilon=0.0, bounds=subject.bounds, goal=subject.task.criterion),
            task=subject.task,
            asked=self,
            seed=subject.seed,
            threads=torch.get_num_threads(),
        )
        pieces = list(range(0, len(rows), RECORDS_A_PIECE))
        done: dict[int, SmoothingResult] = {}
        try:
            for outcome in subject.executor.map(_examine_piece, pieces, shared):
                if outcome.error:
                    start = pieces[outcome.index]
                    raise RuntimeError(
                        f"smoothing of records {start} to {start + RECORDS_A_PIECE - 1}: {outcome.error}"
                    )
                done[outcome.index] = outcome.value
        finally:
            subject.model.to(subject.device)
        return SmoothingResult.joined([done[place] for place in range(len(pieces))])

    def _rows(self, subject: Subject, rows: np.ndarray, found: "SmoothingResult") -> list[Finding]:
        y, groups = subject.dataset.y[rows], subject.clusters(rows)
        right = found.proven.answer == y
        about = {
            "norm": "l2",
            "units": subject.space,
            "method": METHOD,
            "sigma": self.sigma,
            "samples": self.samples,
            "confidence": 1 - self.alpha,
            "holds_for": f"the smoothed model, σ = {self.sigma:g}, each record with confidence "
            f"{100 * (1 - self.alpha):.12g}%",
        }

        def row(name: str, hits: np.ndarray, **conditions: Any) -> Measurement:
            return share(name, hits, groups, **conditions, **about)

        attacked = {
            "attack": "pgd_through_noise",
            "steps": self.attack_steps,
            "draws": self.attack_draws,
            "judging_samples": self.judging_samples,
        }
        abstains = found.proven.answer == ABSTAINED
        findings: list[Finding] = [row("smoothed_accuracy", right), row("smoothed_abstention", abstains)]
        for epsilon in self.radii:
            proven = right & (found.proven.radius > epsilon)
            certified = row("certified_accuracy", proven, epsilon=epsilon)
            findings.append(certified.warn(*self._unprovable(epsilon)))
            findings += by_class("certified", subject, rows, proven, epsilon=epsilon, **about)
            fooled, silenced = found.fooled[epsilon], found.silenced[epsilon]
            withstood = right & ~fooled & ~silenced
            findings += [
                row("smoothed_robust_accuracy", withstood, epsilon=epsilon, abstention="not robust", **attacked),
                row("smoothed_abstention_under_attack", abstains | silenced & ~fooled, epsilon=epsilon, **attacked),
            ]
        return [*findings, *_quantiles(subject, np.where(right, found.proven.radius, 0.0), groups, about)]

    def _unprovable(self, epsilon: float) -> tuple[str, ...]:
        """Returns a warning where no record can be certified, whatever the model."""
        limit = self.sigma * float(stats.norm.ppf(lower_end(self.samples, self.samples, self.alpha)))
        if epsilon < limit:
            return ()
        return (f"{self.samples:,} samples prove no radius above {limit:.3g}, whatever the model; raise samples",)

    def _check(self, y: np.ndarray, found: "SmoothingResult") -> Check:
        """Checks that attacks refute no more certificates than chance allows.

        A proof, and the answer at each radius, may be wrong with probability α each.
        """
        right = found.proven.answer == y
        proven = [right & (found.proven.radius > epsilon) for epsilon in self.radii]
        claims = int(proven[0].sum())
        refuted = int(np.any([p & found.fooled[e] for p, e in zip(proven, self.radii, strict=True)], axis=0).sum())
        each = min(self.alpha * (1 + len(self.radii)), 1.0)
        chance = float(stats.binom.sf(refuted - 1, claims, each))
        return Check(
            rule="certified_is_never_fooled",
            concerns="certified_accuracy",
            verdict="fail" if chance < _UNLIKELY else "pass",
            figure=float(refuted),
            message=f"{refuted} of {claims} certified records were fooled within their radius by PGD through the "
            f"noise; at α = {self.alpha:g} chance explains {each * claims:.2g}, more means a broken certificate",
            conditions={"method": METHOD},
        )


def _quantile_of(values: np.ndarray, quantile: float, places: np.ndarray) -> float:
    return float(np.quantile(values[places], quantile, method="inverted_cdf"))


def _quantiles(
    subject: Subject, radius: np.ndarray, groups: np.ndarray | None, about: Mapping[str, Any]
) -> Iterator[Measurement]:
    """Measures quantiles of the (n,) radii within which records are provably correct; 0 where one is not."""
    for quantile in _QUANTILES:
        interval = intervals.bootstrap(
            partial(_quantile_of, radius, quantile),
            len(radius),
            generator=seeds.stream(subject.seed, "bootstrap", "certified radius"),
            groups=groups,
        )
        yield estimated(
            "certified_radius",
            interval,
            n=len(radius),
            unit=subject.dataset.units,
            conditions={"quantile": quantile, **about},
        )


@dataclass(frozen=True, kw_only=True)
class SmoothingResult:
    """Certificates of some records, and the effect of attacks on them."""

    proven: SmoothedCertificates
    fooled: Mapping[float, np.ndarray]
    """At each radius, (n,) bool: under attack at it, or at a smaller one, the smoothed model gave a wrong answer."""
    silenced: Mapping[float, np.ndarray]
    """The same for abstentions of records that are right without an attack."""

    @classmethod
    def joined(cls, parts: Sequence["SmoothingResult"]) -> "SmoothingResult":
        """Joins the results of pieces.

        Args:
            parts: in the order of the records.

        Returns:
            The result of all records.
        """
        answer, radius = (
            np.concatenate([getattr(part.proven, field) for part in parts]) for field in ("answer", "radius")
        )
        fooled, silenced = (
            {epsilon: np.concatenate([getattr(part, field)[epsilon] for part in parts]) for epsilon in parts[0].fooled}
            for field in ("fooled", "silenced")
        )
        return cls(proven=SmoothedCertificates(answer=answer, radius=radius), fooled=fooled, silenced=silenced)


@dataclass(frozen=True, kw_only=True)
class _SharedInputs:
    """What a worker needs for any piece; it is sent once."""

    model: nn.Module
    x: Tensor
    y: Tensor
    names: np.ndarray
    """(n,) positions of the records in the data set, from which their noise is drawn."""
    threat: Threat
    task: Task
    asked: RandomisedSmoothing
    seed: int
    threads: int


def _examine_piece(start: int, shared: _SharedInputs) -> SmoothingResult:
    """Certifies and attacks the records of one piece."""
    torch.set_num_threads(shared.threads)
    here, own = device(), slice(start, start + RECORDS_A_PIECE)
    model, x, y = shared.model.to(here), shared.x[own].to(here), shared.y[own].to(here)
    names = shared.names[own]
    with repeatable(tf32=False), differentiable(model):
        about: dict[str, Any] = {"seed": shared.seed, "task": shared.task}
        proven = certify(model, x, shared.threat.bounds, shared.asked.smoothing, names=names, **about)
        fooled, silenced = _attacked(model, x, y, names, proven.answer == y.cpu().numpy(), shared)
    return SmoothingResult(proven=proven, fooled=fooled, silenced=silenced)


def _attacked(  # noqa: PLR0917
    model: nn.Module, x: Tensor, y: Tensor, names: np.ndarray, right: np.ndarray, shared: _SharedInputs
) -> tuple[dict[float, np.ndarray], dict[float, np.ndarray]]:
    """Returns on which records the smoothed model is wrong under attack, and on which it abstains, at each radius.

    Records without a wrong answer at one radius start from their present position at the next.
    """
    asked, judging = shared.asked, replace(shared.asked.smoothing, samples=shared.asked.judging_samples)
    drawn = torch.stack([_noise(x[0], shared, int(name)) for name in names], 1).to(x)
    most = max(1, at_once(tuple(x.shape[1:])) // asked.attack_draws)
    reached = x.clone()
    fooled, silenced = np.zeros(len(x), bool), np.zeros(len(x), bool)
    fooled_at: dict[float, np.ndarray] = {}
    silenced_at: dict[float, np.ndarray] = {}
    for epsilon in asked.radii:
        standing = np.flatnonzero(right & ~fooled)
        for first in range(0, len(standing), most):
            at = standing[first : first + most]
            reached[at] = attack(
                model,
                x[at],
                y[at],
                shared.threat.at(epsilon),
                drawn[:, at],
                sigma=asked.sigma,
                steps=asked.attack_steps,
                start=reached[at],
                task=shared.task,
            )
        answer = predict(
            model,
            reached[standing],
            shared.threat.bounds,
            judging,
            seed=shared.seed,
            names=names[standing],
            task=shared.task,
        )
        fooled[standing] = (answer != y[standing].cpu().numpy()) & (answer != ABSTAINED)
        silenced[standing] |= answer == ABSTAINED
        fooled_at[epsilon], silenced_at[epsilon] = fooled.copy(), silenced.copy()
    return fooled_at, silenced_at


def _noise(record: Tensor, shared: _SharedInputs, name: int) -> Tensor:
    """Returns (draws, ...) noise of one record."""
    shape = (shared.asked.attack_draws, *record.shape)
    return torch.from_numpy(seeds.stream(shared.seed, "attacked noise", name).standard_normal(shape, np.float32))
