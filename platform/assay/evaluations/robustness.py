"""Accuracy under attack, and checks of whether that figure can be trusted."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from assay import seeds
from assay.attacks.adaptive import AdaptiveAttack, answers
from assay.attacks.base import Attack, Judged
from assay.attacks.carlini_wagner import CarliniWagner
from assay.attacks.fgsm import FGSM
from assay.attacks.pgd import PGD
from assay.attacks.random_noise import RandomNoise
from assay.attacks.square import Square
from assay.attacks.targeted_pgd import TargetedPGD
from assay.evaluations import checks, model_checks
from assay.evaluations.attack_facts import (
    answers_without_attack,
    attack_settings,
    curve_of_nearest,
    has_run,
    is_white_box,
    why_nothing_to_follow,
)
from assay.evaluations.attack_runs import UNLIMITED, AttackRun, AttackTarget, Curves, as_used, worst_case
from assay.evaluations.balanced import under_attack
from assay.evaluations.base import Evaluation
from assay.evaluations.constant_answers import drop_explained_diagnoses
from assay.evaluations.missing_attacks import (
    QUANTILES,
    SEARCHES,
    Missing,
    distance_names,
    rows_of_failed,
    rows_of_missing,
    why_missing,
)
from assay.evaluations.robustness_checks import attack_checks, certificate_checks
from assay.evaluations.robustness_metrics import ROBUSTNESS_METRICS
from assay.evaluations.shares import share, share_by_record
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.registry import Number, choice_of, register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.threats import Norm

_UNBOUNDED = "unbounded"
_TARGETED = "targeted_pgd"


@register("evaluation")
class Robustness(Evaluation):
    """Accuracy under attack at every ε, the per-record worst case, and the smallest changes that fool.

    FGSM, PGD with cross-entropy and with a margin loss, and random noise always run; ``attacks`` names more. Records
    that withstand all of these which follow gradients are attacked towards each wrong class (``targeted_pgd``), and a
    sample of the remaining survivors by stronger attacks, which test whether the worst case was found. In the worst
    case a record that is fooled at ε counts as fooled at every larger ε. Attacks that search for the smallest change
    report its length; in another norm than ``norm`` they are not part of the worst case.

    Where a check does not pass, adaptive attacks follow (``attacks.adaptive``) and are included in the worst case; the
    worst case without them is reported too. One that cannot be run leaves a row with the reason.

    For a model without a gradient, attacks that follow one are not applicable: ``hop_skip_jump``, ``spsa``, ``square``
    and random noise give the worst case.

    A randomised model is judged by its mean probabilities over ``samples`` passes with fixed draws, the same for every
    attack: otherwise some attack would fool each record by chance.
    """

    looks_at = "decisions"
    name: Literal["robustness"] = "robustness"
    metrics: ClassVar[tuple[Metric, ...]] = ROBUSTNESS_METRICS

    norm: Norm = "linf"
    epsilons: tuple[Annotated[Number, Field(ge=0)], ...] = ()
    """Radii in the units of the data; those the data set proposes by default. 0 is always measured."""
    steps: int = Field(default=20, ge=1)
    """Steps of PGD."""
    carlini_wagner: CarliniWagner = CarliniWagner()
    attacks: tuple[choice_of("attack"), ...] = ()  # type: ignore[valid-type]
    """More attacks: ``apgd``, ``square``, ``{name: pgd, steps: 100, restarts: 5}``."""
    adaptive: bool = True
    """Whether adaptive attacks follow where a check does not pass."""
    samples: int = Field(default=16, ge=2)
    """Passes over which a randomised model is averaged, by its adaptive attack and when all attacks are judged."""
    records: int | None = Field(default=None, ge=10)
    """Test records that are attacked, stratified; all by default, of texts as ``Subject.examined`` says. Every figure
    states how many there were.
    """

    @model_validator(mode="after")
    def _can_be_asked(self) -> "Robustness":
        if self.norm == "l2" and not self.epsilons:
            raise ValueError("norm l2 needs its own epsilons: those that a data set proposes are L∞ radii")
        taken = [*self._usual(), _TARGETED, self.carlini_wagner.label]
        for attack in self.attacks:
            if attack.label in taken:
                raise ValueError(f"attacks: two are called {attack.label!r}; of {taken} each is run once: drop one")
            if self.norm not in attack.norms and not attack.minimal:
                raise ValueError(f"attacks: {attack.label!r} works in {' and '.join(attack.norms)}, not in {self.norm}")
            taken.append(attack.label)
        return self

    @property
    def of_training_records(self) -> bool:
        return any(attack.needs_surrogate for attack in self.attacks)

    def sample(self, subject: Subject) -> np.ndarray:
        return subject.examined(subject.split.test, self.records)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        as_given = model_checks.train_mode(subject.model)
        with as_used(subject.model), seeds.generators_kept():
            # What a model that answers at random says here must not hang on who drew before.
            torch.manual_seed(seeds.torch_seed(subject.seed, "robustness"))
            return [as_given, *self._findings(subject)]

    def _findings(self, subject: Subject) -> list[Finding]:
        """Returns all findings on a model in evaluation mode."""
        target = AttackTarget.of(subject, norm=self.norm, epsilons=self.epsilons, records=self.records)
        behaviour = model_checks.model_behaviour(subject.network_alone, *target.first)
        if any(check.rule == "randomised_forward" and check.verdict != "pass" for check in behaviour):
            target = replace(target, passes=self.samples)
        every = self._every_attack(subject)
        missing = why_missing(every, subject)
        runs = self._runs(target, {label: every[label] for label in every if label not in missing})
        found = target.curves(runs)
        free = found.pop(_UNBOUNDED, None)
        nearest = {name: found.pop(name)[UNLIMITED] for name in list(found) if runs[name].attack.minimal}
        curves = found | {
            name: curve_of_nearest(target, judged) for name, judged in nearest.items() if runs[name].norm == self.norm
        }
        unbounded = nearest[SEARCHES[0].label] if free is None else free[UNLIMITED]
        if _TARGETED not in missing:
            curves |= self.on_survivors(target, runs, curves)
        reached = worst_case([*curves.values(), {UNLIMITED: unbounded}])[UNLIMITED]
        moved = float((reached & target.right.cpu()).double().sum() / target.right.sum().clamp_min(1))
        verdicts = [*behaviour, *attack_checks(target, runs, curves, unbounded)]
        raised = drop_explained_diagnoses(verdicts, answers_without_attack(target), moved=moved)
        adaptive = self._adaptive(target, runs, raised)
        rows: list[Finding] = [*raised, *self._rows(target, curves | adaptive.curves, runs | adaptive.runs)]
        rows += adaptive.failed
        if adaptive.curves:
            rows += self._before_and_after(target, curves, adaptive)
        rows += rows_of_missing(every, missing, norm=self.norm, epsilons=target.radii)
        rows += certificate_checks(target, curves | adaptive.curves, nearest)
        for name, judged in nearest.items():
            rows += self._distances(target, runs[name], judged)
        return rows

    def _usual(self) -> dict[str, Attack]:
        return {
            "fgsm": FGSM(),
            "pgd_cross_entropy": PGD(steps=self.steps),
            "pgd_margin": PGD(steps=self.steps, loss="margin"),
            "random_noise": RandomNoise(),
        }

    def runs_of_worst_case(self, target: AttackTarget) -> dict[str, AttackRun]:
        """Returns the attacks of the default worst case, without the one that ``on_survivors`` adds.

        Args:
            target: with its radii.

        Returns:
            Runs by label.
        """
        return {
            label: AttackRun(attack=attack, norm=self.norm, radii=target.radii)
            for label, attack in self._usual().items()
        }

    def _every_attack(self, subject: Subject) -> dict[str, Attack]:
        """Returns all attacks by label, including those that cannot be run; the slowest first.

        ``on_survivors`` and the checks add attacks on some records only.
        """
        searches = SEARCHES if subject.why_no_gradient else ()
        first = {attack.label: attack for attack in (*self.attacks, *searches, self.carlini_wagner)}
        return {**first, **self._usual(), _TARGETED: TargetedPGD(steps=self.steps)}

    def _runs(self, target: AttackTarget, attacks: Mapping[str, Attack]) -> dict[str, AttackRun]:
        """Returns how each attack on all records is run, by label."""
        surrogate = self._surrogate(target.subject, attacks.values())
        runs = {}
        for label, attack in attacks.items():
            if label == _TARGETED:
                continue
            norm = self.norm if self.norm in attack.norms else attack.norms[0]
            radii = (UNLIMITED,) if attack.minimal else target.radii
            through = surrogate if attack.needs_surrogate else None
            runs[label] = AttackRun(attack=attack, norm=norm, radii=radii, through=through)
        if not target.subject.why_no_gradient:
            unbounded = PGD(steps=self.steps, loss="margin")
            runs[_UNBOUNDED] = AttackRun(attack=unbounded, norm=self.norm, radii=(UNLIMITED,))
        return runs

    def on_survivors(self, target: AttackTarget, runs: dict[str, AttackRun], curves: Curves) -> Curves:
        """Runs PGD towards each wrong class on the records that no gradient attack has fooled.

        The run is added to ``runs``. Records that only attacks without gradients have fooled are attacked again: if
        gradients fool them too, the gradients are not masked.

        Args:
            target: the model and its records.
            runs: of the attacks so far, by label; changed in place.
            curves: of these attacks.

        Returns:
            The curve, by label.
        """
        white_box = tuple(name for name in curves if is_white_box(runs[name]))
        runs[_TARGETED] = AttackRun(
            attack=TargetedPGD(steps=self.steps), norm=self.norm, radii=target.radii, survivors_of=white_box
        )
        fallen = worst_case([curves[name] for name in white_box])
        return target.curves({_TARGETED: runs[_TARGETED]}, fallen=fallen)

    def _surrogate(self, subject: Subject, attacks: Collection[Attack]) -> nn.Module | None:
        """Trains the same recipe on the same records from other first weights, as an attacker might."""
        if subject.train is None or not any(attack.needs_surrogate for attack in attacks):
            return None
        return subject.train(subject.split.train, "surrogate").to(subject.device).eval()

    def _rows(self, target: AttackTarget, curves: Curves, runs: Mapping[str, AttackRun]) -> list[Measurement]:
        return [
            *(
                self._row(target, "robust_accuracy", curve[e], attack=name, epsilon=e, **attack_settings(runs[name]))
                for name, curve in curves.items()
                for e in target.radii
            ),
            *self._worst(target, "worst_case_accuracy", curves),
            *under_attack(target, curves),
        ]

    def _worst(self, target: AttackTarget, name: str, curves: Curves) -> list[Measurement]:
        return [
            self._row(target, name, fooled, epsilon=epsilon, attacks=list(curves))
            for epsilon, fooled in worst_case(list(curves.values())).items()
        ]

    def _row(self, target: AttackTarget, name: str, found: Judged | Tensor, **conditions: Any) -> Measurement:
        withstood = ~(found.fooled if isinstance(found, Judged) else found).numpy()
        about = {**conditions, "norm": self.norm, "units": target.subject.space}
        if target.passes > 1:
            about["judged_by"] = f"the mean of {target.passes} passes"
        return share_by_record(name, withstood, target.groups, target.rows, **about)

    def _adaptive(self, target: AttackTarget, runs: Mapping[str, AttackRun], found: Sequence[Check]) -> "_Adaptive":
        """Runs the attacks that failed checks call for, except those that have run already.

        A stand-in is derived from the model under suspicion, so it may fail in any way.
        """
        done, suspect = _Adaptive(runs={}, curves={}, because=set(), failed=[]), target.subject.network_alone
        raised = {check.rule for check in found if check.verdict != "pass"} if self.adaptive else set()
        try:
            called_for = answers(raised, suspect, target.first[0], steps=self.steps, samples=self.samples)
        except Exception as error:
            done.failed.extend(rows_of_failed("adaptive", error, target))
            # A blind search needs no stand-in.
            called_for = [AdaptiveAttack(label="square", attack=Square(), through=None, because=tuple(sorted(raised)))]
        for answer in called_for:
            if has_run(answer, runs.values()):
                continue
            label = f"{answer.label}_adaptive" if answer.label in runs else answer.label
            if why := why_nothing_to_follow(target, answer):
                missing: dict[str, Missing] = {label: (f"the attack needs a gradient: {why}", "no_gradient")}
                rows = rows_of_missing({label: answer.attack}, missing, norm=self.norm, epsilons=target.radii)
                done.failed.extend(rows)
                continue
            run = AttackRun(attack=answer.attack, norm=self.norm, radii=target.radii, through=answer.through)
            try:
                done.curves.update(target.curves({label: run}))
            except Exception as error:
                done.failed.extend(rows_of_failed(label, error, target))
            else:
                done.runs[label] = run
                done.because.update(answer.because)
        return done

    def _before_and_after(self, target: AttackTarget, curves: Curves, adaptive: "_Adaptive") -> list[Finding]:
        """Measures the worst case without the adaptive attacks, and checks how much they lowered it."""
        answered = adaptive.curves
        before, after = worst_case(list(curves.values())), worst_case([*curves.values(), *answered.values()])
        drops = {e: float((after[e] & ~before[e]).double().mean()) for e in target.radii}
        epsilon = max(target.radii, key=lambda radius: drops[radius])
        left = [float((~fooled[epsilon]).double().mean()) for fooled in (before, after)]
        return [
            *self._worst(target, "worst_case_before_adaptive", curves),
            checks.adaptive_answer(*left, epsilon=epsilon, attacks=list(answered), rules=sorted(adaptive.because)),
        ]

    def _distances(self, target: AttackTarget, run: AttackRun, nearest: Judged) -> list[Measurement]:
        """Measures the smallest changes that an attack found, over the records that were right without an attack."""
        subject, name = target.subject, run.attack.label
        right = target.right.cpu()
        success, *names = distance_names(run.attack)
        if not bool(right.any()):
            why = "the model classifies no record correctly to begin with"
            return [not_applicable(one, why, reason="nothing_right") for one in (success, *names)]
        fooled, distance = nearest.fooled[right].numpy(), nearest.distance[right].double().numpy()
        about = {"attack": name, "norm": run.norm, "units": subject.space, **attack_settings(run)}
        own = None if target.groups is None else target.groups[right.numpy()]
        found = [share(success, fooled, own, **about)]
        shared: dict[str, Any] = {"unit": subject.dataset.units, "n": len(distance), "conditions": about}
        for one, q in zip(names, QUANTILES.values(), strict=True):
            value = float(np.quantile(distance, q, method="inverted_cdf"))
            if np.isfinite(value):
                found.append(Measurement(name=one, value=value, **shared))
            else:
                why = f"the attack failed on {1 - fooled.mean():.0%} of the records, so the quantile is unknown"
                found.append(
                    Measurement(name=one, status="abstained", reason="inconclusive", warnings=(why,), **shared)
                )
        return found


@dataclass(frozen=True, kw_only=True)
class _Adaptive:
    """Adaptive attacks with their curves, by label."""

    runs: dict[str, AttackRun]
    curves: Curves
    because: set[str]
    """The checks that called for them."""
    failed: list[Measurement]
    """Rows of those that could not be run."""
