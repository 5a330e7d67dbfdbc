"""Explanations of predictions, with their method, reference and errors."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from torch import Tensor

from assay.evaluations.explanation_checks import LARGEST_ERROR
from assay.explain.scalars import lead, log_odds
from serve.model import ServedModel
from serve.repository.online import Online

_SCALARS: dict[Callable[..., Tensor], str] = {
    log_odds: "the log-odds of the class",
    lead: "the logit of the class minus the mean of the others",
}
PIECE = 4
"""Records of a call that are explained before those of other calls have their turn."""


def about_explanations(model: ServedModel, method: str) -> dict[str, Any]:
    """Returns what holds for all explanations of a call: method, reference, kind of error, measured faithfulness.

    Args:
        model: that is explained.
        method: of the request.

    Returns:
        The fields.
    """
    explainer, fidelity = model.explainer(method), model.fidelity(method)
    return {
        "method": method if method == "shap" else explainer.name,
        "explained": _SCALARS.get(type(explainer).scalar, "the number that the method explains"),
        "compared_with": model.compared_with,
        "faithfulness": fidelity["why_not"] or "the card states the faithfulness of this method with these settings",
        "error_is": _error_is(fidelity["error_is"]),
        "fidelity": fidelity,
    }


async def explanations(
    online: Online, x: Tensor, method: str, words: Sequence[list[str]] | None
) -> AsyncIterator[list[dict[str, Any]]]:
    """Explains records, a few at a time.

    Args:
        online: the version that answers.
        x: (n, ...) records.
        method: of the request.
        words: of texts.

    Yields:
        The explanations of the next records.
    """
    names = online.model.dataset.class_names
    for place in range(0, len(x), PIECE):
        target, values, error, value_error = await online.explain(x[place : place + PIECE], method)
        explained = []
        for number, k in enumerate(target.tolist()):
            one: dict[str, Any] = {"class_name": names[k]}
            attributions = values[number].tolist()
            if words is not None:
                one["words"] = words[place + number]
                attributions = attributions[: len(one["words"])]
            one |= {"attributions": attributions, "error": _number(error[number])}
            if (of_values := _number(value_error[number])) is not None:
                one["value_error"] = of_values
            if warnings := _beyond_limit(one):
                one["warnings"] = warnings
            explained.append(one)
        yield explained


def _beyond_limit(explanation: dict[str, Any]) -> list[str]:
    """Returns warnings about errors of an explanation that are too large for its values to be read as they are."""
    wordings = {
        "error": "the values do not add up to the explained change: relative error {:.0%}",
        "value_error": "two rules of a value differ by {:.0%} of the greatest value",
    }
    errors = {name: explanation.get(name) for name in wordings}
    return [
        f"{wordings[name].format(error)}, limit {LARGEST_ERROR:.0%}"
        for name, error in errors.items()
        if error is not None and error > LARGEST_ERROR
    ]


def _error_is(kind: str | None) -> str:
    if kind is None:
        return "no error: values of this method need not add up"
    return f"{kind} error, relative to the explained change or the greatest attribution, where that is larger"


def _number(error: float) -> float | None:
    """Returns None for an error that the method does not have, which is NaN."""
    return None if math.isnan(error) else float(error)
