"""Effect of attacks and defences on the training records."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from assay import intervals
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.registry import register
from assay.results import Finding, not_applicable

_NAMES = ("tampered_share", "removed_share", "sanitation_precision", "sanitation_recall")
_REMOVED = ".removed"


@register("evaluation")
class TrainingData(Evaluation):
    """Shares of the training records that an attacker changed and that a defence removed, and its precision.

    Precision: share of the removed records that were tampered with. Recall: share of the tampered records that were
        removed.
    Where several defences remove records, each has these rows too, among the records that the earlier ones left.
    """

    looks_at = "probabilities"
    name: Literal["training_data"] = "training_data"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAMES[0],
            title="Tampered share",
            meaning="Share of the training records that an attacker changed.",
        ),
        Metric(name=_NAMES[1], title="Removed share", meaning="Share of the training records that a defence removed."),
        Metric(
            name=_NAMES[2],
            title="Sanitation precision",
            meaning="Share of the removed records that were tampered with.",
            better="higher",
        ),
        Metric(
            name=_NAMES[3],
            title="Sanitation recall",
            meaning="Share of the tampered records that were removed.",
            better="higher",
        ),
    )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.log is None or subject.recipe is None:
            return [
                not_applicable(name, "Assay did not train this model", reason="not_trained_here") for name in _NAMES
            ]
        if not subject.log.treatment:
            why = "the recipe leaves its training records as they are"
            return [not_applicable(name, why, reason="not_in_recipe") for name in _NAMES]
        counts = subject.log.treatment
        about = {"treatments": [treatment.model_dump(mode="json") for treatment in subject.recipe.data]}
        given = counts["given"]
        return [
            _share("tampered_share", counts["tampered"], given, "there are no records", about),
            _share("removed_share", counts["removed"], given, "there are no records", about),
            *_quality(counts["removed"], counts["removed_tampered"], counts["tampered"], about),
            *_each(counts, about),
        ]


def _each(counts: dict[str, int], about: dict[str, Any]) -> list[Finding]:
    """Measures the quality of each defence, where several removed records."""
    names = [key.removesuffix(_REMOVED) for key, count in counts.items() if key.endswith(_REMOVED) and count]
    found: list[Finding] = []
    for name in names if len(names) > 1 else []:
        removed, caught = counts[f"{name}.removed"], counts[f"{name}.removed_tampered"]
        left = counts["tampered"] - sum(counts[f"{other}.removed_tampered"] for other in names[: names.index(name)])
        found += _quality(removed, caught, left, {**about, "treatment": name})
    return found


def _quality(removed: int, caught: int, tampered: int, about: dict[str, Any]) -> list[Finding]:
    return [
        _share("sanitation_precision", caught, removed, "nothing was removed", about),
        _share("sanitation_recall", caught, tampered, "nothing was tampered with", about),
    ]


def _share(name: str, part: int, whole: int, why: str, about: dict[str, Any]) -> Finding:
    if whole == 0:
        return not_applicable(name, why, reason="no_records", **about)
    return estimated(name, intervals.proportion(part, whole), n=whole, conditions=about)
