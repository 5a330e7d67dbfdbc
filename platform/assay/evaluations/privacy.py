"""What was spent on the patients' privacy: the claimed ε with the evidence behind it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from assay.evaluations.base import Evaluation, Subject
from assay.models.base import GivenWeights
from assay.privacy.accounting import Mechanism, rdp_epsilon, spent, unsafe_delta
from assay.privacy.composition import NEIGHBOURS
from assay.recipes import Privacy
from assay.registry import register
from assay.results import NAN, Finding, Measurement, not_applicable

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
        return [
            Measurement(
                name=name,
                value=NAN if broken else getattr(figures, accountant),
                unit="epsilon",
                n=0 if broken else conditions["records"],
                conditions={**conditions, "accountant": accountant},
                status="failed" if broken else "measured",
                warnings=tuple(broken) or _notes(subject.recipe.privacy, subject),
            )
            for name, accountant in _ACCOUNTANTS.items()
        ]


def _conditions(subject: Subject, privacy: Privacy, mechanism: Mechanism, spender: str) -> dict[str, Any]:
    return {
        "delta": mechanism.delta,
        "target_epsilon": privacy.epsilon,
        "neighbours": NEIGHBOURS,
        "unit": "record",
        "sampling": "Poisson",
        "sample_rate": mechanism.sample_rate,
        "noise_multiplier": mechanism.noise_multiplier,
        "max_grad_norm": privacy.max_grad_norm,
        "clipping": privacy.clipping,
        "augmentations": privacy.augmentations,
        "steps": mechanism.steps,
        "spent_by": spender,
        "records": len(subject.split.train),
        "covers": "records of the training split; threshold and metrics use other records and are not covered",
        "noise": privacy.noise,
        "rng": "Philox 4x64, not a cryptographic generator",
        "preprocessing": subject.dataset.preprocessing,
    }


def _first_weights(given: GivenWeights | None) -> str:
    if given is None:
        return "drawn from the seed"
    return f"of {given.source}, {'said to have seen no record of these data' if given.public else 'not paid for'}"


def _broken(subject: Subject, mechanism: Mechanism, given: GivenWeights | None) -> list[str]:
    """Why the claim does not hold whatever the accountants say."""
    found = []
    if unsafe := unsafe_delta(mechanism.delta, len(subject.split.train)):
        found.append(unsafe)
    if subject.dataset.unpaid_preprocessing:
        found.append(
            "the data were preprocessed with figures learned from them, and no ε was charged for it; "
            f"{subject.dataset.remedy}"
        )
    if given is not None and not given.public:
        found.append(
            f"its first weights are those of {given.source}, and no ε was charged for them; if they saw no record of "
            "these data, say public_weights: true of the model"
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
            "and δ grows faster still"
        )
    return tuple(notes)
