"""Membership inference by a threshold on the loss."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.evaluations.base import Evaluation
from assay.evaluations.pool import OTHER_PATIENTS, Pool, confidence
from assay.evaluations.roc import RATES, Rate, membership_figures, membership_not_applicable
from assay.evaluations.subject import Subject
from assay.metrics import Metric, ScorecardColumn
from assay.privacy.unit import protected_unit
from assay.registry import register
from assay.results import Finding


@register("evaluation")
class Membership(Evaluation):
    """The loss-threshold attack (Yeom et al. 2018, arXiv:1709.01604): members have smaller losses.

    The unit of membership is the unit that privacy would protect (``privacy.unit``): where records have patients, a
    patient, by the mean over all of its records; else a record.

    Reported as in Carlini et al. 2022 (arXiv:2112.03570): the true-positive rate at a low false-positive rate. ``Pool``
    defines members and non-members. The attack is cheap and weak: ``lira`` is a stronger one, with shadow models.
    """

    looks_at = "probabilities"
    name: Literal["membership"] = "membership"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="membership_tpr",
            title="Membership TPR",
            meaning="Share of training records that an attacker recognises at a stated false-positive rate.",
            better="lower",
            columns=(
                ScorecardColumn(
                    key="membership",
                    group="privacy",
                    place=30,
                    meaning="Share of training records that an attacker recognises at a false-positive rate of 10 %.",
                    where={"false_positive_rate": 0.1},
                ),
            ),
        ),
        Metric(
            name="membership_auc",
            title="Membership AUC",
            meaning="Probability that a member has a higher score than a non-member; 0.5 is chance.",
            better="lower",
        ),
    )

    false_positive_rates: tuple[Rate, ...] = Field(default=RATES)
    draws: int = Field(default=200, ge=50)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.log is None:
            why = "the training records of this model are not known"
            return membership_not_applicable(self.name, why, "not_trained_here", rates=self.false_positive_rates)
        pool = Pool.of(subject)
        score = confidence(subject, pool.rows)
        if not np.isfinite(score).all():
            why = "the model answers NaN or infinity"
            return membership_not_applicable(self.name, why, "no_finite_answers", rates=self.false_positive_rates)
        groups = subject.patients(pool.rows)
        unit = protected_unit(None if subject.recipe is None else subject.recipe.privacy, groups)
        about: dict[str, Any] = {"attack": "loss threshold", "unit_of_members": unit}
        # No patient straddles a split, so of grouped records no non-member shares a patient with a member.
        cautions = () if groups is None or unit == "patient" else (OTHER_PATIENTS,)
        if groups is not None and unit == "patient":
            about["records"] = len(pool.rows)
            pool, score = pool.of_patients(groups, score)
        return membership_figures(
            self.name,
            subject,
            pool,
            score,
            rates=self.false_positive_rates,
            draws=self.draws,
            conditions=about,
            warnings=(*cautions, *pool.notes),
        )
