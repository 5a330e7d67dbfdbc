"""How does the model stand up to attack, and can that figure be believed?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor

from assay.attacks.base import Attack, Attacked
from assay.attacks.carlini_wagner import CarliniWagner
from assay.attacks.fgsm import FGSM
from assay.attacks.pgd import PGD
from assay.attacks.random_noise import RandomNoise
from assay.bounds.interval import UnboundableError
from assay.evaluations import checks
from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.certificates import proven_right
from assay.models.batches import at_once, respond
from assay.registry import Number, register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.threats import Norm, Threat

_QUANTILES = {"carlini_wagner_median_distance": 0.5, "carlini_wagner_tenth_percentile_distance": 0.1}


@register("evaluation")
class Robustness(Evaluation):
    """Accuracy under FGSM and PGD (cross-entropy and margin) at every ε, the per-record worst case, and C&W distances.

    A record that is fooled at ε counts as fooled at every larger ε in the worst case; the curve of each attack
    stands as it was measured, so that its checks see what really happened. Distances of C&W are L2, a threat model
    of their own: they enter no L∞ figure.
    """

    name: Literal["robustness"] = "robustness"
    norm: Norm = "linf"
    epsilons: tuple[Annotated[Number, Field(ge=0)], ...] = ()
    """Radii in the units of the data; those the data set proposes by default. 0 is always measured."""
    steps: int = Field(default=20, ge=1)
    """Of PGD."""
    carlini_wagner: CarliniWagner = CarliniWagner()
    records: int | None = Field(default=None, ge=10)
    """Test records that are attacked, stratified; all by default. Every figure says how many there were."""

    @model_validator(mode="after")
    def _radii_fit_the_norm(self) -> "Robustness":
        if self.norm == "l2" and not self.epsilons:
            raise ValueError("norm l2 needs its own epsilons: those that a data set proposes are L∞ radii")
        return self

    def measure(self, subject: Subject) -> Sequence[Finding]:
        arena = _Arena.of(subject, self)
        attacks = {
            "fgsm": FGSM(),
            "pgd_cross_entropy": PGD(steps=self.steps),
            "pgd_margin": PGD(steps=self.steps, loss="margin"),
            "pgd_doubled": PGD(steps=2 * self.steps, restarts=2),
            "random_noise": RandomNoise(),
        }
        curves = {name: arena.curve(attack) for name, attack in attacks.items()}
        about = {"norm": self.norm, "units": subject.space}
        groups = subject.groups(arena.rows)

        def row(name: str, fooled: Tensor, **conditions: Any) -> Measurement:
            return share(name, ~fooled.cpu().numpy(), groups, seed=subject.seed, **conditions, **about)

        found = [
            row("robust_accuracy", curve[epsilon].fooled, attack=name, epsilon=epsilon, **_settings(attacks[name]))
            for name, curve in curves.items()
            for epsilon in arena.radii
        ]
        found += [
            row("worst_case_accuracy", fooled, epsilon=epsilon, attacks=list(attacks))
            for epsilon, fooled in worst_case(list(curves.values())).items()
        ]
        unlimited = Threat(norm="l2", epsilon=float("inf"), bounds=subject.bounds)
        nearest = self.carlini_wagner.run(subject.model, arena.x, arena.y, unlimited, seed=subject.seed)
        return [*found, *self._checks(arena, curves, nearest), *self._distances(arena, nearest)]

    def _checks(self, arena: "_Arena", curves: "Curves", nearest: Attacked) -> list[Check]:
        white_box = {
            epsilon: curves["pgd_cross_entropy"][epsilon].fooled | curves["pgd_margin"][epsilon].fooled
            for epsilon in arena.radii
        }
        doubled = [checks.step_doubling(white_box[e], curves["pgd_doubled"][e].fooled, e) for e in arena.radii]
        noise = [checks.noise_loses(white_box[e], curves["random_noise"][e].fooled, e) for e in arena.radii]
        unbounded = arena.attack(PGD(steps=self.steps, loss="margin"), float("inf"))
        gradient = [name for name in curves if name != "random_noise"]
        return [
            checks.clean_at_zero(arena.clean, [curve[0.0].accuracy for curve in curves.values()]),
            *(checks.monotone(name, [curves[name][e].accuracy for e in arena.radii]) for name in gradient),
            checks.unbounded_attack_wins(unbounded.accuracy),
            *self._masking(arena, curves),
            *self._certificates(arena, curves, nearest),
            max(doubled, key=lambda check: check.figure),
            max(noise, key=lambda check: check.figure),
            checks.invalid_outputs(sum(a.invalid for curve in curves.values() for a in curve.values())),
            *checks.model_behaviour(arena.subject.model, *arena.first),
        ]

    def _masking(self, arena: "_Arena", curves: "Curves") -> list[Check]:
        """Of each attack that climbs cross-entropy, the radius at which a margin loss sees most that it does not."""
        seen, hidden = curves["pgd_margin"], curves["pgd_cross_entropy"]
        return [
            max(
                (
                    checks.losses_agree(name, curves[name][e].accuracy, hidden[e].accuracy, seen[e].accuracy, e)
                    for e in arena.radii
                ),
                key=lambda check: check.figure,
            )
            for name in ("fgsm", "pgd_cross_entropy")
        ]

    def _certificates(self, arena: "_Arena", curves: "Curves", nearest: Attacked) -> list[Check]:
        """What interval bounds prove and what the attacks did, record by record, at every radius.

        A change that is shorter than ε in L2 is so in L∞: what C&W fooled within ε counts in either norm.
        """
        try:
            proven = {e: proven_right(arena.subject.model, arena.x, arena.y, arena.base.at(e)) for e in arena.radii}
        except UnboundableError:
            return []
        worst = worst_case(list(curves.values()))
        found = [
            checks.certified_is_never_fooled(proven[e], worst[e] | (nearest.fooled & (nearest.distance <= e)), e)
            for e in arena.radii
        ]
        return [max(found, key=lambda check: check.figure)]

    def _distances(self, arena: "_Arena", nearest: Attacked) -> list[Measurement]:
        """Shortest L2 changes that C&W found, over the records that were right to begin with."""
        subject, attack = arena.subject, self.carlini_wagner
        right = arena.right
        if not bool(right.any()):
            why = "the model classifies no record correctly to begin with"
            return [not_applicable(name, why) for name in ("carlini_wagner_success", *_QUANTILES)]
        fooled, distance = nearest.fooled[right].cpu().numpy(), nearest.distance[right].cpu().double().numpy()
        about = {"attack": attack.name, "norm": "l2", "units": subject.space, **_settings(attack)}
        groups = subject.groups(arena.rows)
        own = None if groups is None else groups[right.cpu().numpy()]
        found = [share("carlini_wagner_success", fooled, own, seed=subject.seed, **about)]
        for name, q in _QUANTILES.items():
            value = float(np.quantile(distance, q, method="inverted_cdf"))
            found.append(
                Measurement(name=name, value=value, unit=subject.dataset.units, n=len(distance), conditions=about)
                if np.isfinite(value)
                else Measurement(
                    name=name,
                    status="abstained",
                    unit=subject.dataset.units,
                    n=len(distance),
                    conditions=about,
                    warnings=(
                        f"the attack failed on {1 - fooled.mean():.0%} of the records, so the quantile is unknown",
                    ),
                )
            )
        return found


Curve = dict[float, Attacked]
Curves = dict[str, Curve]


def worst_case(curves: list[Curve]) -> dict[float, Tensor]:
    """Which records any attack of one threat model fooled at each ε or at a smaller one."""
    radii = sorted({epsilon for curve in curves for epsilon in curve})
    worst: dict[float, Tensor] = {}
    so_far: Tensor | None = None
    for epsilon in radii:
        for curve in curves:
            if epsilon in curve:
                so_far = curve[epsilon].fooled if so_far is None else so_far | curve[epsilon].fooled
        assert so_far is not None
        worst[epsilon] = so_far
    return worst


@dataclass(frozen=True, kw_only=True)
class _Arena:
    """One model, its test records, and the radii at which they are attacked."""

    subject: Subject
    rows: np.ndarray
    """Their positions in the data set."""
    x: Tensor
    y: Tensor
    base: Threat
    radii: tuple[float, ...]

    @classmethod
    def of(cls, subject: Subject, settings: Robustness) -> "_Arena":
        rows = subject.chosen(subject.split.test, settings.records)
        x, y = subject.records(rows)
        return cls(
            subject=subject,
            rows=rows,
            x=x,
            y=y,
            base=Threat(norm=settings.norm, epsilon=0.0, bounds=subject.bounds),
            radii=tuple(sorted({0.0, *(settings.epsilons or subject.dataset.epsilons)})),
        )

    @property
    def right(self) -> Tensor:
        """Which records the model classifies correctly as they are, (n,)."""
        return respond(self.subject.model, self.x).argmax(1) == self.y

    @property
    def first(self) -> tuple[Tensor, Tensor]:
        """As many records, and their labels, as the model can take at once."""
        most = at_once(tuple(self.x.shape[1:]))
        return self.x[:most], self.y[:most]

    @property
    def clean(self) -> float:
        return float(self.right.double().mean())

    def attack(self, attack: Attack, epsilon: float) -> Attacked:
        return attack.run(self.subject.model, self.x, self.y, self.base.at(epsilon), seed=self.subject.seed)

    def curve(self, attack: Attack) -> Curve:
        return {epsilon: self.attack(attack, epsilon) for epsilon in self.radii}


def _settings(attack: Attack) -> dict[str, Any]:
    return attack.model_dump(exclude={"name"})
