"""The whole answer to a record: class, prediction set, abstention, explanation, certificate, and what limits them."""

import math
from typing import Any

import numpy as np

from assay.tasks.class_scores import lac, softmax
from serve.answers.certificates import ABOUT, certificates
from serve.answers.explanations import PIECE, about_explanations, explanations
from serve.answers.held_out import ABSTENTION, ALPHA, out_of_distribution
from serve.answers.overlays import add_overlays
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
        found = await _explained(online, records)
        for answer, one in zip(answers, found, strict=True):
            answer["explanation"] = one
        if overlay and any("attributions" in one for one in found):
            shared["explanation"]["overlay_scale"] = await add_overlays(online.model, found, records)
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
    }


async def _explained(online: Online, records: Records) -> list[dict[str, Any]]:
    """Explains records by the default method; one that it refuses has the reason instead."""
    found: list[dict[str, Any]] = []
    for place in range(0, len(records.x), PIECE):
        piece = range(place, min(place + PIECE, len(records.x)))
        try:
            found += await _piece(online, records, piece)
        except RefusedError:
            for number in piece:
                try:
                    found += await _piece(online, records, range(number, number + 1))
                except RefusedError as error:
                    found.append({"not_given": str(error)})
    return found


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
    names = model.dataset.class_names
    raw = logits.astype(np.float64)
    probabilities = softmax(raw / rules.temperature)
    unfamiliar = out_of_distribution(model.finished.subject, raw)
    certainty = model.finished.subject.task.certainty(raw)
    scores = lac(raw)
    answers = []
    for row, k in enumerate(model.decisions(logits).tolist()):
        outside = bool(records.outside) and records.outside[row]
        foreign = outside or (rules.greatest_score is not None and unfamiliar[row] > rules.greatest_score)
        warnings = list(records.warnings[row]) if records.warnings else []
        doubt = records.abstain[row] if records.abstain else ""
        answers.append(
            {
                "class_name": names[k],
                "class_index": k,
                "probabilities": dict(zip(names, probabilities[row].tolist(), strict=True)),
                "probabilities_are": "calibrated" if rules.calibrated else "as the model gives them, not calibrated",
                "prediction_set": _set(online, scores[row], k, foreign),
                "out_of_distribution": {
                    "score": float(unfamiliar[row]),
                    "limit": rules.greatest_score,
                    "unfamiliar": bool(foreign),
                },
                "left_to_clinician": _left(online, float(certainty[row]), foreign, doubt),
                "warnings": warnings,
            }
        )
    return answers


def _set(online: Online, scores: np.ndarray, decided: int, foreign: bool) -> dict[str, Any]:
    """Returns the prediction set.

    It always has the predicted class, at an operating point too, and the likeliest one: a set without them would help
    no reader, and with them it holds the true class no less often.
    """
    rules, names = online.held_out, online.model.dataset.class_names
    if rules.set_threshold is None:
        return {"valid": False, "why_not": f"no records calibrate it: {rules.source}"}
    likely = scores <= max(rules.set_threshold, scores.min())
    likely[decided] = True
    classes = [names[k] for k in np.flatnonzero(likely).tolist()]
    about: dict[str, Any] = {"classes": classes, "coverage": 1 - ALPHA, "valid": not foreign}
    if foreign:
        about["why_not"] = "the record is unlike those that calibrated the set: its coverage is not promised"
    return about


def _left(online: Online, certainty: float, foreign: bool, doubt: str) -> dict[str, Any]:
    rules = online.held_out
    if doubt:
        return {"left": True, "why": doubt}
    if foreign:
        return {"left": True, "why": "the record is unlike those that the model was tested on"}
    if rules.least_certainty is None:
        return {"left": False, "why": f"no rule of abstention: {rules.source}"}
    if math.isinf(rules.least_certainty):
        why = f"{rules.source} show at no certainty that its errors stay at or below {ABSTENTION.risk:.0%}"
        return {"left": True, "why": why}
    if certainty < rules.least_certainty:
        why = f"the model is too uncertain to keep its errors at or below {ABSTENTION.risk:.0%}"
        return {"left": True, "why": why}
    return {"left": False, "why": ""}
