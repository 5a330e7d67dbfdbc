"""What planting a concept into records changes: measured at the answer itself, without a layer or a direction."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from assay import intervals, seeds
from assay.evaluations.global_units import answer_name
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.concepts.base import Concept, PlantedConcept, Pool
from assay.explain.scalars import log_odds
from assay.explain.untouched import untouched
from assay.metrics import Metric
from assay.models.batches import places
from assay.results import Check, Measurement, not_applicable

CHANGE = Metric(
    name="concept_change",
    title="Change by planting a concept",
    meaning="Mean change of the log-odds of a class when the concept is planted into each test record. It is what the "
    "network does, and needs no layer; a score that contradicts it is wrong for such records.",
)
_NOTHING = 1e-6
"""Change of the log-odds that counts as none: rounding of sums in single precision."""
_ALPHA = 0.05


def concept_changes(
    subject: Subject, rows: np.ndarray, concepts: Sequence[Concept], pool: Pool, classes: Sequence[int]
) -> list[Measurement]:
    """Returns the mean change of the log-odds by planting each concept that can be planted.

    Args:
        subject: the model and its data.
        rows: of the test records that are examined.
        concepts: that are asked.
        pool: that gives the bounds of a record.
        classes: that are explained.

    Returns:
        A row for each planted concept and class.
    """
    x, _ = subject.records(rows)
    planted = [one for one in concepts if isinstance(one, PlantedConcept)]
    if not planted:
        return []
    clusters, before, found = subject.clusters(rows), _logits(subject, x), []
    for one in planted:
        after = _logits(subject, one.planted(x, pool, seeds.stream(subject.seed, "planted concept", one.shown)))
        for number in classes:
            target = torch.full((len(x),), number, dtype=torch.long, device=x.device)
            change = (log_odds(after, target) - log_odds(before, target)).cpu().numpy()
            about = {"concept": one.shown, "means": one.described, "class": answer_name(subject.dataset, number)}
            if not np.isfinite(change).all():
                why = "the model answers NaN or infinity"
                found.append(not_applicable(CHANGE.name, why, reason="no_finite_answers", **about))
                continue
            mean = intervals.mean(change, clusters).interval
            found.append(estimated(CHANGE.name, mean, n=len(change), unit="log-odds", conditions=about))
    return found


def _logits(subject: Subject, x: Tensor) -> Tensor:
    """Returns (n, classes) float64."""
    with untouched(subject.model), torch.no_grad():
        return torch.cat([subject.model(x[place]).double() for place in places(len(x), tuple(x.shape[1:]))])


def compared_with_changes(
    scores: Sequence[Measurement], changes: Sequence[Measurement]
) -> tuple[list[Measurement], list[Check]]:
    """Marks significant scores that planting the concept contradicts.

    Args:
        scores: rows of scores, with ``p_holm``.
        changes: rows of ``concept_changes``.

    Returns:
        The scores, with a warning where the change has the other sign or is 0, and the check; none where no score has a
        change beside it.
    """
    changed = {_key(row.conditions): row.value for row in changes if row.status == "measured"}
    told, wrong, compared = [], [], 0
    for row in scores:
        change = changed.get(_key(row.conditions))
        compared += change is not None
        if change is None or row.conditions["p_holm"] >= _ALPHA or not _contradicts(row.value, change):
            told.append(row)
            continue
        concept, target = _key(row.conditions)
        said = (
            f"the score of {concept!r} for {target!r} is {row.value:.2f} and significant, and planting it changes the "
            f"log-odds by {change:+.2g}"
        )
        wrong.append(said)
        told.append(row.warn(f"{said}: do not rely on this score"))
    if not compared:
        return told, []
    message = "; ".join(wrong) or f"planting contradicts no significant score of {compared}"
    verdict = "warn" if wrong else "pass"
    return told, [
        Check(
            rule="planting_agrees_with_scores",
            concerns="concept_score",
            verdict=verdict,  # type: ignore[arg-type]
            figure=float(len(wrong)),
            message=message,
        )
    ]


def _key(conditions: Mapping[str, object]) -> tuple[str, str]:
    return str(conditions["concept"]), str(conditions["class"])


def _contradicts(score: float, change: float) -> bool:
    return abs(change) <= _NOTHING or (score - 0.5) * change < 0
