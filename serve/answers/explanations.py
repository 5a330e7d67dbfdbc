"""Explanations of predictions, with their method, reference and errors."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from torch import Tensor

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
    """Returns what holds for all explanations of a call: method, reference, stated faithfulness, kind of error.

    Args:
        model: that is explained.
        method: of the request.

    Returns:
        The fields.
    """
    explainer = model.explainer(method)
    what = "additivity" if explainer.from_background else "completeness"
    return {
        "method": method if method == "shap" else explainer.name,
        "explained": _SCALARS.get(type(explainer).scalar, "the number that the method explains"),
        "compared_with": model.compared_with,
        "faithfulness": model.stated_by_card(method),
        "error_is": f"{what} error, relative to the change that is explained",
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
        found = []
        for number, k in enumerate(target.tolist()):
            text = None if words is None else words[place + number]
            own = values[number].tolist()
            one: dict[str, Any] = {"class_name": names[k]}
            if text is not None:
                one |= {"words": text}
            one |= {"attributions": own if text is None else own[: len(text)], "error": float(error[number])}
            if value_error[number] == value_error[number]:
                one |= {"value_error": float(value_error[number])}
            found.append(one)
        yield found
