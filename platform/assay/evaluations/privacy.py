"""The claimed ε of a training, with the figures that support it."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from assay.evaluations.base import Evaluation
from assay.evaluations.clients import training_partition
from assay.evaluations.subject import Subject
from assay.metrics import Metric, ScorecardColumn
from assay.models.base import GivenWeights
from assay.privacy.accounting import Mechanism, Spent, rdp_epsilon, spent, unsafe_delta
from assay.privacy.unit import NEIGHBOURS
from assay.recipes import Privacy
from assay.registry import register
from assay.results import NAN, NOT_RELEASABLE, Check, Finding, Flag, Measurement, not_applicable

_ACCOUNTANTS = {"epsilon": "rdp", "epsilon_prv": "prv", "epsilon_pld": "pld"}
_SEEDED = Flag(
    verdict="warn",
    message="experiment, not releasable: the noise comes from a recorded seed, so anyone can subtract it",
    rule=NOT_RELEASABLE,
)


@register("evaluation")
class PrivacySpent(Evaluation):
    """ε by RDP (the claim), PRV and PLD, with everything that the claim depends on.

    ``unit`` is who is protected: a patient, where records have patients and the recipe does not ask otherwise, else a
    record. In a federated recipe each client protects its own; the figures, including the sample rate, are those of the
    client that spent most, which ``spent_by`` names. δ is judged by the patients, or records, of all clients, because
    the one model may reveal any of them. The check ``noise_and_signal`` compares the noise with the greatest possible
    sum of all gradients, and warns where there are too few patients to learn from.
    """

    looks_at = "probabilities"
    name: Literal["privacy"] = "privacy"
    needs_shared_model: ClassVar[bool] = False
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="epsilon",
            title="ε claimed",
            meaning="Differential privacy by the RDP accountant: for one patient where records have patients, else, or "
            "where the recipe sets it, for one record; ∞ if training is not private.",
            unit="epsilon",
            better="lower",
            columns=(ScorecardColumn(key="epsilon", group="privacy", place=10, shown="number", estimated=False),),
        ),
        Metric(
            name="epsilon_pld",
            title="ε, 2nd accountant",
            meaning="The same training accounted by a privacy loss distribution; must not exceed the claim.",
            unit="epsilon",
            columns=(ScorecardColumn(key="epsilon_pld", group="privacy", place=20, shown="number", estimated=False),),
        ),
        Metric(
            name="epsilon_prv",
            title="ε, 3rd accountant",
            meaning="The same training accounted by privacy random variables, within their stated error.",
            unit="epsilon",
        ),
    )

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.recipe is None or subject.log is None:
            why = "Assay did not train this model, so it cannot say what training spent"
            return [not_applicable(name, why, reason="not_trained_here") for name in _ACCOUNTANTS]
        if subject.recipe.privacy is None:
            why = "the recipe is not private: nothing bounds what the model reveals of a patient (ε = ∞)"
            return [not_applicable(name, why, reason="not_private") for name in _ACCOUNTANTS]
        assert subject.log.mechanisms, "a private training left no account of what it spent"
        by_spender = {name: subject.log.mechanism(name) for name in subject.log.mechanisms}
        spender = max(by_spender, key=lambda name: rdp_epsilon(by_spender[name]))
        mechanism = by_spender[spender]
        figures = spent(mechanism)
        given = None if subject.architecture is None else subject.architecture.given_weights(subject.dataset.form)
        conditions = {
            **_conditions(subject, subject.recipe.privacy, mechanism, spender),
            "prv_error": figures.prv_error,
            "first_weights": _first_weights(given),
        }
        broken = [*_broken(subject, mechanism, given), *filter(None, [figures.disagreement])]
        notes = tuple(broken) or _notes(subject, mechanism)
        rows = [_row(name, figures, conditions, notes, broken=bool(broken)) for name in _ACCOUNTANTS]
        if subject.recipe.privacy.noise == "seeded":
            rows = [row.flag(_SEEDED) if row.status == "measured" else row for row in rows]
        return rows if broken else [*rows, _noise_and_signal(subject, mechanism, figures.rdp, spender)]


def _row(name: str, figures: Spent, conditions: dict[str, Any], notes: tuple[str, ...], *, broken: bool) -> Measurement:
    """Returns the row of one accountant, or why it was not used, or why nothing can be claimed."""
    accountant = _ACCOUNTANTS[name]
    about = {**conditions, "accountant": accountant}
    why_not = {"prv": figures.why_no_prv, "pld": figures.why_no_pld}.get(accountant, "")
    if why_not and not broken:
        return not_applicable(name, why_not, reason="no_method", **about)
    return Measurement(
        name=name,
        value=NAN if broken else getattr(figures, accountant),
        unit="epsilon",
        n=0 if broken else conditions["protected"],
        conditions=about,
        status="failed" if broken else "measured",
        reason="no_claim" if broken else None,
        warnings=notes,
    )


def _units(subject: Subject, mechanism: Mechanism, rows: np.ndarray) -> int:
    """Counts the protected patients, or records, among these training records."""
    groups = subject.patients(rows)
    return len(rows) if mechanism.unit == "record" or groups is None else len(np.unique(groups))


def _noise_and_signal(subject: Subject, mechanism: Mechanism, epsilon: float, spender: str) -> Check:
    """Checks that the noise of all steps is not longer than the sum of all clipped gradients can be.

    The noise of T steps has length σ · C · √(d · T) in d weights, the clipped sums at most C · q · n · T. For a
    federated recipe all of these are of one client.

    Args:
        spender: ``central``, or the number of the client whose mechanism it is.
    """
    central = subject.recipe is None or subject.recipe.federation is None
    rows = subject.split.train if central else training_partition(subject)[int(spender) - 1]
    units, unit = _units(subject, mechanism, rows), mechanism.unit
    if mechanism.steps == 0:
        ratio = 0.0
    else:
        weights = sum(p.numel() for p in subject.model.parameters() if p.requires_grad)
        expected = mechanism.sample_rate * units
        ratio = mechanism.noise_multiplier * math.sqrt(weights / mechanism.steps) / expected
    said = (
        f"{units} {unit}s{'' if central else f' of client {spender}'} are protected with noise multiplier "
        f"{mechanism.noise_multiplier:.3g} (ε = {epsilon:.3g}): "
        f"the noise of all {mechanism.steps} steps together is {ratio:.2g} times as long as the sum of their clipped "
        "gradients can be at most"
    )
    if ratio >= 1:
        said += (
            f"; little can be learnt from so few {unit}s at this ε: give more {unit}s or a smaller network, or raise ε "
            "and say what it then means"
        )
    return Check(
        rule="noise_and_signal",
        concerns="epsilon",
        verdict="warn" if ratio >= 1 else "pass",
        figure=ratio,
        message=said,
    )


def _conditions(subject: Subject, privacy: Privacy, mechanism: Mechanism, spender: str) -> dict[str, Any]:
    return {
        "delta": mechanism.delta,
        "target_epsilon": privacy.epsilon,
        "neighbours": NEIGHBOURS[mechanism.unit],
        "unit": mechanism.unit,
        "sampling": "Poisson",
        "sample_rate": mechanism.sample_rate,
        "noise_multiplier": mechanism.noise_multiplier,
        "max_grad_norm": privacy.max_grad_norm,
        "clipping": privacy.clipping,
        "augmentations": privacy.augmentations,
        "steps": mechanism.steps,
        "spent_by": spender,
        "records": len(subject.split.train),
        "protected": _units(subject, mechanism, subject.split.train),
        "records_per_patient": privacy.records_per_patient if mechanism.unit == "patient" else None,
        "covers": f"{mechanism.unit}s of the training split; threshold and metrics use others and are not covered",
        "noise": privacy.noise,
        "rng": "Philox 4x64, not a cryptographic generator",
        "preprocessing": subject.dataset.preprocessing,
    }


def _first_weights(given: GivenWeights | None) -> str:
    if given is None:
        return "drawn from the seed"
    return f"of {given.source}, {'said to have seen no record of these data' if given.public else 'not paid for'}"


def _broken(subject: Subject, mechanism: Mechanism, given: GivenWeights | None) -> list[str]:
    """Returns the reasons why the claim does not hold, whatever the accountants compute."""
    reasons = []
    if unsafe := unsafe_delta(mechanism.delta, _units(subject, mechanism, subject.split.train), unit=mechanism.unit):
        reasons.append(unsafe)
    if subject.dataset.unpaid_preprocessing:
        reasons.append(
            "the data were preprocessed with figures learned from them, and no ε was charged for it; "
            f"{subject.dataset.remedy}"
        )
    if given is not None and not given.public:
        reasons.append(
            f"its first weights are those of {given.source}, and no ε was charged for them; if they saw no record of "
            "these data, say public_weights: true of the model"
        )
    return reasons


def _notes(subject: Subject, mechanism: Mechanism) -> tuple[str, ...]:
    notes = []
    groups = subject.patients(subject.split.train)
    most = 1 if groups is None else int(np.unique(groups, return_counts=True)[1].max(initial=1))
    if most > 1 and mechanism.unit == "record":
        notes.append(
            f"ε protects one record, as privacy.unit: record asks; a patient with {most} records is protected {most} "
            "times less at best, and δ grows faster still; leave privacy.unit out, and patients are protected"
        )
    return tuple(notes)
