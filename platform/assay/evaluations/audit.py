"""Audits the trainer: a lower bound on ε from a training with canaries, compared with the claim."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.errors import TrainingError, UserError
from assay.evaluations.base import Evaluation
from assay.evaluations.canary_runs import CanaryScores, OnCanaryEpoch, in_gradients, in_inputs, never_trained_on
from assay.evaluations.subject import Subject
from assay.evaluations.trainer_checks import TrainerChecks
from assay.metrics import Metric
from assay.objectives.base import Objective
from assay.privacy.accounting import rdp_epsilon
from assay.privacy.auditing import Audited, audited, canaries_needed
from assay.recipes import Privacy, Recipe
from assay.registry import register
from assay.results import Check, Finding, Measurement, ReasonCode, Verdict, not_applicable

_SIGNIFICANCE = 1e-3
"""Significance of the check of clipping, and of all checks of the trainer's steps together."""
_TOLERANCE = 0.01
"""Tolerance of the check of clipping: far more than rounding."""
_BY_LAYER = 0.5
"""The same where layers are clipped each by itself, and are only about as many as are counted here."""


COUNTS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000)
"""Numbers of audits for which results are computed: how many are read together is known only when all have run."""


@register("evaluation")
class Audit(Evaluation):
    """One-run auditing (Steinke et al. 2023, arXiv:2305.08846): the recipe is trained once more, with canaries.

    A fair coin decides for each canary whether it is among the training records. Training runs as usual, and an auditor
    guesses the coins from its output. ``privacy.auditing`` derives a lower bound on the ε of the *trainer*, from a
    training of its own: it is not a measurement of the model that is evaluated, nor of the risk of a real patient. A
    bound above the claim is a bug in the trainer, or chance with the stated probability.

    ``gradient``: the auditor reads every noisy gradient, as the guarantee permits. The gradient of a canary has the
    greatest length that clipping allows, in a direction of its own (``training.canaries``). This is the threat model of
    ε, and the strongest audit. ``input``: canaries are held-out records with wrong labels, and the auditor only
    compares the confidence of the last model with that of the first. This is what an attacker with the model can do,
    and a weak audit.

    The numbers of canaries that are guessed are fixed beforehand (``shares``); every number is tried, each with its
    part of the confidence. Noise is drawn from the seed even for a recipe with ``noise: entropy``, since the audited
    model is discarded.

    In gradient space the expected effect of a canary on a step is known: the clipping norm. If the effect is smaller,
    the guesses show too little, whatever the trainer does to real records: the sum of a batch may be clipped instead of
    each record. The check ``clipped_record_by_record`` tests this.

    A tenth of these canaries are coordinates of the network's own tensors, some in each; the others are in a table next
    to the network. Faults that no canary shows are tested step by step (``evaluations.trainer_checks``): how far single
    records move the clipped sum; how much noise each tensor gets, whether it is normal, and independent over tensors,
    steps and records; whether batches are Poisson samples; how many steps there were; and whether the weights follow
    from the released gradients. All these checks together reject a correct trainer with probability 0.001 at most,
    shared among ``audits``.

    A check that could not have failed, because the canaries are too few for the noise, is inconclusive and warns.
    """

    looks_at = "probabilities"
    read_later = frozenset({"audits"})
    name: Literal["audit"] = "audit"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="epsilon_audited",
            title="ε audited",
            meaning="Lower bound of ε that a training with canaries shows, at the stated confidence.",
            unit="epsilon",
        ),
    )

    canaries: int = Field(default=1000, ge=10)
    """Records that may be in or out; in ``input`` space at most the number of held-out records."""
    space: Literal["gradient", "input"] = "gradient"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """With which the bound holds, jointly with the bounds of all other ``audits``."""
    audits: Annotated[int, Field(ge=1)] | None = None
    """Audits that are run and read together, this one included: of other recipes, folds or seeds. By default as many as
    the study has, which refuses a smaller number; 1 outside of a study. With another number the same training is
    evaluated again, at the next number of ``COUNTS``.
    """
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.1, 1.0), min_length=1)
    """Shares of the canaries that are guessed. A few sure guesses show most about a correct trainer, many about a
    broken one.
    """

    def forecast(self, records: int) -> str:
        return f"{self.name}: one more training of every recipe that can be audited, with {self.canaries} canaries"

    def measure(self, subject: Subject) -> Sequence[Finding]:
        return self.run(subject)

    def read(self, found: Sequence[Finding]) -> Sequence[Finding]:
        """Selects the results that hold jointly with all other audits: those of the next number of ``COUNTS``.

        Args:
            found: stored findings for all numbers.

        Returns:
            The findings for one number.
        """
        count = next((count for count in COUNTS if count >= self.together), COUNTS[-1])
        kept: list[Finding] = []
        for one in found:
            if one.conditions.get("audits", count) != count:
                continue
            others = {key: value for key, value in one.conditions.items() if key != "audits"}
            number = {"audits": count} if isinstance(one, Measurement) else {}
            kept.append(replace(one, conditions={**others, **number}))
        return kept

    def run(self, subject: Subject, watch: OnCanaryEpoch | None = None) -> list[Finding]:
        """Trains with canaries, and computes results for each number of audits that may be read together; see ``read``.

        Args:
            subject: with the recipe and the data.
            watch: called after each epoch with the number of finished epochs and of all epochs.

        Returns:
            The findings for all numbers of ``COUNTS``.
        """
        about = {
            "attack": f"canaries in {self.space} space",
            "space": self.space,
            "confidence": self.confidence,
            "shares": list(self.shares),
            "run": "a training of its own with canaries, never the model that is evaluated",
        }
        why, reason = self._why_not(subject)
        if why:
            return [not_applicable("epsilon_audited", why, reason=reason, canaries=self.canaries, **about)]
        about_all = {"canaries": self.canaries, **about}
        try:
            run = in_gradients if self.space == "gradient" else in_inputs
            evidence = run(subject, canaries=self.canaries, watch=watch)
        except UserError as error:
            # With canaries there are more records, and δ may no longer be below one in their number.
            return [not_applicable("epsilon_audited", f"with canaries: {error}", reason="no_claim", **about_all)]
        except TrainingError as error:
            why = f"training with canaries failed: {error}"
            return [_failed(why, about_all)]
        if not np.isfinite(evidence.scores).all():
            why = "training with canaries ended in scores that are no numbers"
            return [_failed(why, about_all)]
        return [
            replace(one, conditions={**one.conditions, "audits": count})
            for count in COUNTS
            for one in self._concluded(subject, evidence, about, count)
        ]

    def _concluded(self, subject: Subject, evidence: CanaryScores, about: dict[str, Any], count: int) -> list[Finding]:
        """Returns the bound and every check, which hold jointly with those of ``count`` audits."""
        assert subject.recipe is not None
        delta = (subject.recipe.privacy or Privacy(epsilon=1.0)).delta
        found = audited(
            evidence.scores,
            evidence.inside,
            shares=self.shares,
            delta=delta,
            confidence=self.confidence,
            audits=count,
        )
        claim = math.inf if evidence.mechanism is None else rdp_epsilon(evidence.mechanism)
        return [
            Measurement(
                name="epsilon_audited",
                value=found.epsilon,
                unit="epsilon",
                n=len(evidence.scores),
                conditions={**about, **_conditions(evidence, found, claim, delta)},
                warnings=(*_cautions(subject), *evidence.notes),
            ),
            self._below_claim(found, claim, about, count),
            *([self._clipped_alone(evidence, subject.recipe, about, count)] if self.space == "gradient" else []),
            *self._of_trainer(evidence, about, count),
        ]

    @property
    def together(self) -> int:
        """Number of audits that share the confidence."""
        return self.audits or 1

    def why_never(self, recipe: Recipe) -> str:
        """Returns why a recipe cannot be audited, whatever the records.

        Args:
            recipe: to audit.

        Returns:
            A reason; empty where it can be audited.
        """
        if any(treatment.treats for treatment in recipe.data):
            return "treatments of all training records together would change or drop the canaries"
        if self.space == "gradient" and recipe.privacy is None:
            return (
                "the recipe is not private: its gradients are not clipped, so how far a canary moves their sum says "
                "nothing about ε; ask in space: input"
            )
        return ""

    def _why_not(self, subject: Subject) -> tuple[str, ReasonCode]:
        """Returns why nothing can be audited here, in words and as a code; no words where it can."""
        recipe = subject.recipe
        if recipe is None or subject.network is None:
            return "an audit trains the recipe with canaries, and nothing can be trained here", "not_trained_here"
        if why := self.why_never(recipe):
            return why, "not_private" if recipe.privacy is None else "no_method"
        if self.space == "input":
            held = len(never_trained_on(subject))
            said = "" if held >= 10 else f"canaries are records that were held out, and there are {held}: 10 are needed"
            return said, "too_few_records"
        if subject.dataset.tokens is not None:
            changes = [step.name for step in recipe.data if step.augments]
            changes += [one.name for one in (*recipe.objective.teachers, recipe.objective) if _crafts(one)]
            if changes:
                said = f"{changes[0]} changes words, and the number of a canary stands among them; ask in space: input"
                return said, "no_method"
        return "", "unspecified"

    def _of_trainer(self, evidence: CanaryScores, about: dict[str, Any], count: int) -> list[Check]:
        """Returns the checks of clipping, noise, sampling and steps, tensor by tensor."""
        if evidence.recorder is None or evidence.mechanism is None:
            return []
        trainer = TrainerChecks(
            recorder=evidence.recorder,
            mechanism=evidence.mechanism,
            conditions={"attack": about["attack"]},
            significance=_SIGNIFICANCE / count,
        )
        return trainer.all()

    def _below_claim(self, found: Audited, claim: float, about: dict[str, Any], count: int) -> Check:
        said = f"the audit shows that ε is at least {found.epsilon:.3f}, and {claim:.3f} is claimed"
        verdict: Verdict = "pass"
        if found.epsilon > claim:
            verdict = "fail"
            said += f": a bug in the trainer, or bad luck with probability at most {1 - self.confidence:.3g}"
        elif math.isinf(claim):
            said = f"the audit shows that ε is at least {found.epsilon:.3f}, and nothing is claimed"
        elif found.most <= claim:
            verdict = "warn"
            needed = canaries_needed(claim, significance=(1 - self.confidence) / (count * len(self.shares)))
            said = (
                f"inconclusive: even if every guess were right the bound would be {found.most:.2f}, and {claim:.2f} is "
                f"claimed: no bug could show; take {needed} canaries or more"
            )
        return _check("audit_below_claim", verdict, found.epsilon, said, about)

    def _clipped_alone(self, evidence: CanaryScores, recipe: Recipe, about: dict[str, Any], count: int) -> Check:
        """Checks clipping record by record: if a batch is clipped as a whole, almost nothing of a canary remains."""
        rule, moved, canaries = "clipped_record_by_record", evidence.moved, len(evidence.scores)
        if moved is None:
            said = f"inconclusive: of {canaries} canaries fewer than two are in, or fewer than two are out; take more"
            return _check(rule, "warn", 0.0, said, about)
        by_layer = recipe.privacy is not None and recipe.privacy.clipping == "per_layer"
        tolerance, chance = _BY_LAYER if by_layer else _TOLERANCE, moved.margin(_SIGNIFICANCE / count)
        said = (
            f"a canary moves the sum of a batch by {moved.share:.3f} ± {moved.error:.3f} of what clipping leaves of it"
        )
        verdict: Verdict = "pass"
        if abs(moved.share - 1) > tolerance + chance:
            verdict = "fail"
            said += ": gradients are not clipped record by record, or not to the clipping norm that the noise is for"
        elif tolerance + chance >= 1:
            verdict = "warn"
            needed = math.ceil(canaries * (chance / (1 - tolerance)) ** 2)
            said = f"inconclusive: {said}, which would not show if it moved nothing; take about {needed} canaries"
        return _check(rule, verdict, moved.share, said, about)


def _failed(why: str, about: dict[str, Any]) -> Measurement:
    """Returns the measurement of a training with canaries that failed."""
    return Measurement(name="epsilon_audited", status="failed", reason="error", conditions=about, warnings=(why,))


def _check(rule: str, verdict: Verdict, figure: float, said: str, about: dict[str, Any]) -> Check:
    return Check(
        rule=rule,
        concerns="epsilon_audited",
        verdict=verdict,
        figure=figure,
        message=said,
        conditions={"attack": about["attack"]},
    )


def _conditions(evidence: CanaryScores, found: Audited, claim: float, delta: float) -> dict[str, Any]:
    mechanism = evidence.mechanism
    about: dict[str, Any] = {
        "canaries": len(evidence.scores),
        "included": int(evidence.inside.sum()),
        "in_tensors": evidence.in_tensors,
        "records": evidence.records,
        "guesses": found.guesses,
        "correct": found.correct,
        "delta": delta,
        "claimed_epsilon": None if math.isinf(claim) else claim,
        "most": found.most,
    }
    if mechanism is not None:
        about |= {
            "noise_multiplier": mechanism.noise_multiplier,
            "sample_rate": mechanism.sample_rate,
            "steps": mechanism.steps,
        }
    return about


def _cautions(subject: Subject) -> list[str]:
    recipe, said = subject.recipe, []
    assert recipe is not None
    if recipe.federation is not None:
        said.append("the recipe was audited in one place, with all records together, not at its clients")
    if recipe.training.early_stopping is not None:
        said.append("the recipe was audited without early stopping")
    return said


def _crafts(objective: Objective) -> bool:
    return type(objective).craft is not Objective.craft
