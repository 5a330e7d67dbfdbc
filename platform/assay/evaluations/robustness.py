"""How does the model stand up to attack, and can that figure be believed?"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn

from assay.attacks.base import Attack, Judged
from assay.attacks.carlini_wagner import CarliniWagner
from assay.attacks.fgsm import FGSM
from assay.attacks.pgd import PGD
from assay.attacks.random_noise import RandomNoise
from assay.bounds.interval import UnboundableError
from assay.evaluations import checks
from assay.evaluations.arena import UNLIMITED, Arena, Curve, Curves, Strike, worst_case
from assay.evaluations.base import Evaluation, Subject, share
from assay.evaluations.certificates import proven_right
from assay.registry import Number, choice_of, register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.threats import Norm

_QUANTILES = {"median": 0.5, "tenth_percentile": 0.1}
_UNBOUNDED = "unbounded"


@register("evaluation")
class Robustness(Evaluation):
    """Accuracy under attack at every ε, the per-record worst case, and the shortest changes that fool.

    FGSM, PGD through cross-entropy and through a margin loss, a longer PGD and random noise always run; ``attacks``
    names more. A record that is fooled at ε counts as fooled at every larger ε in the worst case. Attacks that look for
    the smallest change report its length; where they do so in another norm than ``norm``, a threat model of their own,
    they enter no worst case.
    """

    name: Literal["robustness"] = "robustness"
    norm: Norm = "linf"
    epsilons: tuple[Annotated[Number, Field(ge=0)], ...] = ()
    """Radii in the units of the data; those the data set proposes by default. 0 is always measured."""
    steps: int = Field(default=20, ge=1)
    """Of PGD."""
    carlini_wagner: CarliniWagner = CarliniWagner()
    attacks: tuple[choice_of("attack"), ...] = ()  # type: ignore[valid-type]
    """More attacks: ``apgd``, ``square``, ``{name: pgd, steps: 100, restarts: 5}``."""
    records: int | None = Field(default=None, ge=10)
    """Test records that are attacked, stratified; all by default. Every figure says how many there were."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> "Robustness":
        if self.norm == "l2" and not self.epsilons:
            raise ValueError("norm l2 needs its own epsilons: those that a data set proposes are L∞ radii")
        taken = [*self._usual(), self.carlini_wagner.label]
        for attack in self.attacks:
            if attack.label in taken:
                raise ValueError(f"attacks: two are called {attack.label!r}; of {taken} each is run once: drop one")
            if self.norm not in attack.norms and not attack.minimal:
                raise ValueError(f"attacks: {attack.label!r} works in {' and '.join(attack.norms)}, not in {self.norm}")
            taken.append(attack.label)
        return self

    def measure(self, subject: Subject) -> Sequence[Finding]:
        arena = Arena.of(subject, norm=self.norm, epsilons=self.epsilons, records=self.records)
        missing = self._missing(arena)
        strikes = self._strikes(arena, without=missing)
        found = arena.curves(strikes)
        unbounded = found.pop(_UNBOUNDED)[UNLIMITED]
        nearest = {name: found.pop(name)[UNLIMITED] for name in list(found) if strikes[name].attack.minimal}
        curves = found | {
            name: _within(arena, judged) for name, judged in nearest.items() if strikes[name].norm == self.norm
        }
        rows: list[Finding] = self._rows(arena, curves, strikes)
        rows += [
            not_applicable("robust_accuracy", why, attack=name, epsilon=epsilon, norm=self.norm)
            for name, why in missing.items()
            for epsilon in arena.radii
        ]
        rows += self._checks(arena, curves, nearest, unbounded)
        for name, judged in nearest.items():
            rows += self._distances(arena, strikes[name], judged)
        return rows

    def _usual(self) -> dict[str, Attack]:
        return {
            "fgsm": FGSM(),
            "pgd_cross_entropy": PGD(steps=self.steps),
            "pgd_margin": PGD(steps=self.steps, loss="margin"),
            "pgd_doubled": PGD(steps=2 * self.steps, restarts=2),
            "random_noise": RandomNoise(),
        }

    def _strikes(self, arena: Arena, *, without: Mapping[str, str]) -> dict[str, Strike]:
        """Everything that is run, by label; what takes longest first, so that no worker is left with it at the end."""
        surrogate = self._surrogate(arena.subject)
        strikes = {}
        asked = [attack for attack in self.attacks if attack.label not in without]
        for label, attack in {**{a.label: a for a in [*asked, self.carlini_wagner]}, **self._usual()}.items():
            norm = self.norm if self.norm in attack.norms else attack.norms[0]
            radii = (UNLIMITED,) if attack.minimal else arena.radii
            through = surrogate if attack.needs_surrogate else None
            strikes[label] = Strike(attack=attack, norm=norm, radii=radii, through=through)
        unbounded = PGD(steps=self.steps, loss="margin")
        strikes[_UNBOUNDED] = Strike(attack=unbounded, norm=self.norm, radii=(UNLIMITED,))
        return strikes

    def _missing(self, arena: Arena) -> dict[str, str]:
        """Attacks that cannot be run on this subject, and why."""
        if arena.subject.train is not None:
            return {}
        why = "the surrogate would be trained as the model was, and Assay did not train this model"
        return {attack.label: why for attack in self.attacks if attack.needs_surrogate}

    def _surrogate(self, subject: Subject) -> nn.Module | None:
        """The same recipe, trained on the same records from other first weights: what an attacker might have."""
        if subject.train is None or not any(attack.needs_surrogate for attack in self.attacks):
            return None
        return subject.train(subject.split.train, "surrogate").to(subject.device).eval()

    def _rows(self, arena: Arena, curves: Curves, strikes: Mapping[str, Strike]) -> list[Finding]:
        about = {"norm": self.norm, "units": arena.subject.space}

        def row(name: str, fooled: Tensor, **conditions: Any) -> Measurement:
            withstood = ~fooled.numpy()
            return share(name, withstood, arena.groups, seed=arena.subject.seed, **conditions, **about)

        return [
            *(
                row("robust_accuracy", curve[e].fooled, attack=name, epsilon=e, **_settings(strikes[name].attack))
                for name, curve in curves.items()
                for e in arena.radii
            ),
            *(
                row("worst_case_accuracy", fooled, epsilon=e, attacks=list(curves))
                for e, fooled in worst_case(list(curves.values())).items()
            ),
        ]

    def _checks(self, arena: Arena, curves: Curves, nearest: Mapping[str, Judged], unbounded: Judged) -> list[Check]:
        white_box = {
            epsilon: curves["pgd_cross_entropy"][epsilon].fooled | curves["pgd_margin"][epsilon].fooled
            for epsilon in arena.radii
        }
        doubled = [checks.step_doubling(white_box[e], curves["pgd_doubled"][e].fooled, e) for e in arena.radii]
        noise = [checks.noise_loses(white_box[e], curves["random_noise"][e].fooled, e) for e in arena.radii]
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

    def _masking(self, arena: Arena, curves: Curves) -> list[Check]:
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

    def _certificates(self, arena: Arena, curves: Curves, nearest: Mapping[str, Judged]) -> list[Check]:
        """What interval bounds prove and what the attacks did, record by record, at every radius.

        A change that is shorter than ε in L2 is so in L∞: what any attack fooled within ε counts in either norm.
        """
        try:
            proven = {e: proven_right(arena.subject.model, arena.x, arena.y, arena.base.at(e)) for e in arena.radii}
        except UnboundableError:
            return []
        worst = worst_case(list(curves.values()))
        found = []
        for epsilon in arena.radii:
            fooled = worst[epsilon]
            for judged in nearest.values():
                fooled = fooled | (judged.fooled & (judged.distance <= epsilon))
            found.append(checks.certified_is_never_fooled(proven[epsilon].cpu(), fooled, epsilon))
        return [max(found, key=lambda check: check.figure)]

    def _distances(self, arena: Arena, strike: Strike, nearest: Judged) -> list[Measurement]:
        """Lengths of the shortest changes that an attack found, over the records that were right to begin with."""
        subject, name = arena.subject, strike.attack.label
        right = arena.right.cpu()
        names = {f"{name}_{quantile}_distance": share_ for quantile, share_ in _QUANTILES.items()}
        if not bool(right.any()):
            why = "the model classifies no record correctly to begin with"
            return [not_applicable(one, why) for one in (f"{name}_success", *names)]
        fooled, distance = nearest.fooled[right].numpy(), nearest.distance[right].double().numpy()
        about = {"attack": name, "norm": strike.norm, "units": subject.space, **_settings(strike.attack)}
        own = None if arena.groups is None else arena.groups[right.numpy()]
        found = [share(f"{name}_success", fooled, own, seed=subject.seed, **about)]
        shared: dict[str, Any] = {"unit": subject.dataset.units, "n": len(distance), "conditions": about}
        for one, q in names.items():
            value = float(np.quantile(distance, q, method="inverted_cdf"))
            if np.isfinite(value):
                found.append(Measurement(name=one, value=value, **shared))
            else:
                why = f"the attack failed on {1 - fooled.mean():.0%} of the records, so the quantile is unknown"
                found.append(Measurement(name=one, status="abstained", warnings=(why,), **shared))
        return found


def _within(arena: Arena, nearest: Judged) -> Curve:
    """The curve of an attack that looked for the smallest change: fooled at every radius that reaches it."""
    wrong = ~arena.right.cpu()
    found = {}
    for epsilon in arena.radii:
        fooled = wrong | (nearest.fooled & (nearest.distance <= epsilon))
        distance = nearest.distance.masked_fill(wrong, 0.0).masked_fill(~fooled, UNLIMITED)
        found[epsilon] = Judged(fooled=fooled, distance=distance, invalid=nearest.invalid)
    return found


def _settings(attack: Attack) -> dict[str, Any]:
    return attack.model_dump(exclude={"name"})
