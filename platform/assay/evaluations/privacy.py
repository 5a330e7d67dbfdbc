"""What was spent on the patients' privacy: the claimed ε with the evidence behind it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from assay.evaluations.base import Evaluation, Subject
from assay.privacy.accounting import PRV_ERROR, Mechanism, spent, unsafe_delta
from assay.recipes import Privacy
from assay.registry import register
from assay.results import Finding, Measurement, not_applicable

_ACCOUNTANTS = {"epsilon": "rdp", "epsilon_prv": "prv", "epsilon_pld": "pld"}


@register("evaluation")
class PrivacySpent(Evaluation):
    """ε by RDP (the claim), PRV and PLD, with everything the claim depends on.

    In a federated recipe each client protects its own records; the figures, the sample rate among them, are those of
    the client that spent most, which ``spent_by`` names. δ is judged by the records of all clients: it is the chance
    that the one model gives away a record, of each of them.
    """

    name: Literal["privacy"] = "privacy"

    @property
    def of_training_records(self) -> bool:
        return False

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.recipe is None or subject.log is None:
            why = "Assay did not train this model, so it cannot say what training spent"
            return [not_applicable(name, why) for name in _ACCOUNTANTS]
        if subject.recipe.privacy is None:
            why = "the recipe is not private: nothing bounds what the model reveals of a patient (ε = ∞)"
            return [not_applicable(name, why) for name in _ACCOUNTANTS]
        if not subject.log.mechanisms:
            raise AssertionError("a private training left no account of what it spent")
        by_spender = {name: subject.log.mechanism(name) for name in subject.log.mechanisms}
        spender = max(by_spender, key=lambda name: spent(by_spender[name]).rdp)
        mechanism = by_spender[spender]
        figures = spent(mechanism)
        conditions = _conditions(subject, subject.recipe.privacy, mechanism, spender)
        broken = _broken(subject, mechanism) + ([figures.disagreement] if figures.disagreement else [])
        notes = _notes(subject.recipe.privacy, subject)
        found = []
        for name, accountant in _ACCOUNTANTS.items():
            about = {**conditions, "accountant": accountant}
            value = getattr(figures, accountant)
            if broken:
                found.append(
                    Measurement(name=name, unit="epsilon", conditions=about, status="failed", warnings=tuple(broken))
                )
            else:
                found.append(
                    Measurement(
                        name=name,
                        value=value,
                        unit="epsilon",
                        n=conditions["records"],
                        conditions=about,
                        warnings=notes,
                    )
                )
        return found


def _conditions(subject: Subject, privacy: Privacy, mechanism: Mechanism, spender: str) -> dict[str, Any]:
    return {
        "delta": mechanism.delta,
        "target_epsilon": privacy.epsilon,
        "neighbours": "add or remove one record",
        "unit": "record",
        "sampling": "Poisson",
        "sample_rate": mechanism.sample_rate,
        "noise_multiplier": mechanism.noise_multiplier,
        "max_grad_norm": privacy.max_grad_norm,
        "clipping": privacy.clipping,
        "augmentations": privacy.augmentations,
        "steps": mechanism.steps,
        "prv_error": PRV_ERROR,
        "spent_by": spender,
        "records": len(subject.split.train),
        "covers": "records of the training split; threshold and metrics use other records and are not covered",
        "noise": privacy.noise,
        "rng": "Philox 4x64, not a cryptographic generator",
        "preprocessing": subject.dataset.preprocessing,
    }


def _broken(subject: Subject, mechanism: Mechanism) -> list[str]:
    """Why the claim does not hold whatever the accountants say."""
    found = []
    if unsafe := unsafe_delta(mechanism.delta, len(subject.split.train)):
        found.append(unsafe)
    if subject.dataset.unpaid_preprocessing:
        found.append(
            "the data were preprocessed with figures learned from them, and no ε was charged for it; use public "
            "figures and bounds, and say public_preprocessing: true"
        )
    return found


def _notes(privacy: Privacy, subject: Subject) -> tuple[str, ...]:
    notes = []
    if privacy.noise == "seeded":
        notes.append("experiment, not releasable: the noise comes from a recorded seed, so anyone can subtract it")
    groups = subject.groups(subject.split.train)
    most = 1 if groups is None else int(np.unique(groups, return_counts=True)[1].max(initial=1))
    if most > 1:
        notes.append(
            f"ε protects one record; a patient with {most} records is protected {most} times less at best, "
            f"and δ grows faster still"
        )
    return tuple(notes)
