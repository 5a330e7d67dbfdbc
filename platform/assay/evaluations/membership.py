"""Does the model tell who was in its training data?"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from assay.evaluations.base import Evaluation, Subject
from assay.evaluations.pool import OTHER_PATIENTS, Pool, confidence
from assay.evaluations.roc import RATES, Rate, told_apart, unanswered
from assay.privacy.unit import protected_unit
from assay.registry import register
from assay.results import Finding


@register("evaluation")
class Membership(Evaluation):
    """The loss-threshold attack (Yeom et al. 2018, arXiv:1709.01604): members have smaller losses.

    Who is recognised is whom privacy would protect (``privacy.unit``): where records have patients, a patient, by the
    mean over all of its records; else a record.

    Reported as in Carlini et al. 2022 (arXiv:2112.03570): the true-positive rate at a low false-positive rate. Who the
    members and the others are says ``Pool``. It costs nothing and finds little: ``lira`` asks the same with shadow
    models.
    """

    looks_at = "probabilities"
    name: Literal["membership"] = "membership"
    false_positive_rates: tuple[Rate, ...] = Field(default=RATES)
    draws: int = Field(default=200, ge=50)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.log is None:
            why = "the training records of this model are not known"
            return unanswered(self.name, why, rates=self.false_positive_rates)
        pool = Pool.of(subject)
        score = confidence(subject, pool.rows)
        if not np.isfinite(score).all():
            return unanswered(self.name, "the model answers NaN or infinity", rates=self.false_positive_rates)
        groups = subject.patients(pool.rows)
        unit = protected_unit(None if subject.recipe is None else subject.recipe.privacy, groups)
        about: dict[str, Any] = {"attack": "loss threshold", "unit_of_members": unit}
        # No patient straddles a split, so of grouped records no non-member shares a patient with a member.
        cautions = () if groups is None or unit == "patient" else (OTHER_PATIENTS,)
        if groups is not None and unit == "patient":
            about["records"] = len(pool.rows)
            pool, score = pool.of_patients(groups, score)
        return told_apart(
            self.name,
            subject,
            pool,
            score,
            rates=self.false_positive_rates,
            draws=self.draws,
            conditions=about,
            warnings=(*cautions, *pool.notes),
        )
