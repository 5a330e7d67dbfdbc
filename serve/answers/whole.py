"""The whole answer to a record: class, prediction set, abstention, explanation, certificate, and what limits them."""

from typing import Any

import numpy as np

from assay.tasks.class_scores import lac, softmax
from serve.answers.abstention import abstention
from serve.answers.certificates import ABOUT, certificates
from serve.answers.explanations import PIECE, about_explanations, explanations
from serve.answers.held_out import HeldOut, out_of_distribution
from serve.answers.operating_point import decided_at
from serve.answers.overlays import add_overlays
from serve.answers.prediction_sets import prediction_set, why_not_promised
from serve.answers.promises import why_unlike
from serve.inputs.records import Records
from serve.refusals import RefusedError
from serve.repository.online import Online


async def whole_answers(
    online: Online, records: Records, *, explain: bool, certify: bool, overlay: bool = False
) -> dict[str, Any]:
    """Answers records with everything that the model can say about them.

    Args:
        online: the version that answers.
        records: of the call.
        explain: whether to explain each prediction; where one cannot be explained, its answer says why.
        certify: whether to certify each prediction; likewise.
        overlay: whether to give explanations of images as pictures too.

    Returns:
        The answer.
    """
    logits = await online.logits(records.x)
    answers = decided(online, logits, records)
    shared: dict[str, Any] = {}
    if explain:
        shared["explanation"] = about_explanations(online.model, "default")
        explained = await _explained(online, records)
        for answer, one in zip(answers, explained, strict=True):
            answer["explanation"] = one
        if overlay and any("attributions" in one for one in explained):
            shared["explanation"]["overlay_scale"] = await add_overlays(online.model, explained, records)
    if certify and online.model.unbounded:
        shared["certificate"] = {"not_given": online.model.unbounded}
    elif certify:
        epsilons = sorted(online.model.dataset.epsilons)
        shared["certificate"] = {**ABOUT, "epsilons": epsilons, "units": online.model.dataset.units}
        for answer, one in zip(answers, await certificates(online, records.x, epsilons), strict=True):
            proven = [epsilon for epsilon, holds in zip(epsilons, one["certified"], strict=True) if holds]
            answer["certificate"] = {"certified": one["certified"], "radius": max(proven, default=0.0)}
    return {
        **online.origin,
        "answers": answers,
        **shared,
        "calibrated_on": online.held_out.source,
        "against": [flag.text for flag in online.card.flags],
        "checks": online.model.checks,
    }


async def _explained(online: Online, records: Records) -> list[dict[str, Any]]:
    """Explains records by the default method; one that it refuses has the reason instead."""
    explained: list[dict[str, Any]] = []
    for place in range(0, len(records.x), PIECE):
        piece = range(place, min(place + PIECE, len(records.x)))
        try:
            explained += await _piece(online, records, piece)
        except RefusedError:
            for number in piece:
                try:
                    explained += await _piece(online, records, range(number, number + 1))
                except RefusedError as error:
                    explained.append({"not_given": str(error)})
    return explained


async def _piece(online: Online, records: Records, rows: range) -> list[dict[str, Any]]:
    words = None if records.words is None else records.words[rows.start : rows.stop]
    pieces = explanations(online, records.x[rows.start : rows.stop], "default", words)
    return [one async for piece in pieces for one in piece]


def decided(online: Online, logits: np.ndarray, records: Records) -> list[dict[str, Any]]:
    """Returns class, calibrated probabilities, prediction set, and whether the record is left to the clinician.

    Args:
        online: the version that answers.
        logits: (n, classes).
        records: of the call.

    Returns:
        One mapping a record.
    """
    model, rules = online.model, online.held_out
    names, task = model.dataset.class_names, model.finished.subject.task
    raw = logits.astype(np.float64)
    calibrated = softmax(raw / rules.temperature)
    uncalibrated = model.probabilities(logits)
    scores, certainty, distance = lac(raw), task.certainty(raw), out_of_distribution(model.finished.subject, raw)
    answers = []
    for row, k in enumerate(model.decisions(logits).tolist()):
        site = records.sites[row] if records.sites else ""
        outside = bool(records.outside) and records.outside[row]
        doubtful = bool(records.doubtful) and records.doubtful[row]
        unlike = why_unlike(rules, distance=float(distance[row]), outside=outside, doubtful=doubtful)
        why_not = why_not_promised(rules, site=site, unlike=unlike, refuted=model.coverage_checked.refuted)
        answer: dict[str, Any] = {
            "class_name": names[k],
            "class_index": k,
            "probabilities": dict(zip(names, calibrated[row].tolist(), strict=True)),
            "probabilities_are": _probabilities_are(rules),
            "prediction_set": prediction_set(
                rules, names, scores[row], decided=k, why_not=why_not, checked=model.coverage_checked
            ),
            "out_of_distribution": _familiarity(rules, float(distance[row]), unlike),
            "left_to_clinician": abstention(
                rules,
                certainty=float(certainty[row]),
                doubt=records.abstain[row] if records.abstain else "",
                unlike=unlike,
                site=site,
                checked=model.risk_checked,
            ),
            "warnings": list(records.warnings[row]) if records.warnings else [],
        }
        if model.point is not None:
            answer["decided_at"] = decided_at(
                model.point,
                names[1],
                decided=k == 1,
                logits=raw[row],
                calibrated=float(calibrated[row, 1]),
                uncalibrated=float(uncalibrated[row, 1]),
                temperature=rules.temperature,
            )
        answers.append(answer)
    return answers


def _probabilities_are(rules: HeldOut) -> str:
    if not rules.calibrated:
        return "as the model gives them, not calibrated"
    whose = "the named hospitals" if rules.sites else "hospitals that the data set does not name"
    return f"calibrated on held-out records of {whose}"


def _familiarity(rules: HeldOut, distance: float, unlike: str) -> dict[str, Any]:
    """Returns the fields of ``answer_messages.Unfamiliarity``."""
    unknown = rules.greatest_score is None and not unlike
    return {
        "score": distance,
        "limit": rules.greatest_score,
        "unfamiliar": None if unknown else bool(unlike),
        "why": f"no limit was measured: {rules.source}" if unknown else unlike,
    }
