"""One row of the table of known answers: a question on explanations, and how each system is asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tests.benchmarks.conformance.row import NOT_YET, Ask, answer, refused, shown

PEERS = ("captum", "shap", "quantus", "lime")
IN_THEIR_OWN_ENVIRONMENT = ("quantus", "lime")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault of the field as a question."""

    fault: str
    """Section and number in the reference list: A methods, B measures, C models made to deceive."""
    name: str
    input: str
    right: str
    """The right answer, for readers."""
    accepts: Callable[[Any], bool]
    """Whether an answer is right."""
    assay: Ask | None
    """None: Assay does not have it yet."""
    captum: Ask | None = None
    shap: Ask | None = None

    def answered(self, of_others: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The row with all answers, JSON-able.

        Args:
            of_others: answers of the peers in their own environment, by peer and by the names of rows.
        """
        said = {
            "assay": NOT_YET if self.assay is None else answer(self.assay),
            "captum": None if self.captum is None else answer(self.captum),
            "shap": None if self.shap is None else answer(self.shap),
            **{peer: of_others.get(peer, {}).get(self.name) for peer in IN_THEIR_OWN_ENVIRONMENT},
        }
        about = {"fault": self.fault, "name": self.name, "input": self.input, "right": self.right}
        return {**about, **{system: self._judged(given) for system, given in said.items()}}

    def _judged(self, given: Any) -> dict[str, Any]:
        if given is None or given == NOT_YET:
            return {"answer": given, "right": None}
        return {"answer": written(given), "right": right_by(self.accepts, given)}


def right_by(accepts: Callable[[Any], bool], given: Any) -> bool:
    """Whether an answer is right; an answer of another kind, such as the name of an error, is wrong."""
    try:
        return bool(accepts(given))
    except (TypeError, ValueError):
        return False


def written(given: Any) -> Any:
    """An answer for JSON: numbers with six digits, texts cut."""
    if isinstance(given, Sequence) and not isinstance(given, str):
        return [written(one) for one in given]
    return shown(given) if isinstance(given, float | str) else given


def numbers_near(*right: float, tolerance: float = 1e-6) -> Callable[[Any], bool]:
    """Accepts lists of numbers near these."""
    return lambda given: (
        len(given) == len(right) and all(abs(one - other) <= tolerance for one, other in zip(given, right, strict=True))
    )


def below(limit: float) -> Callable[[Any], bool]:
    """Accepts numbers up to a limit; NaN is above it."""
    return lambda given: isinstance(given, int | float) and given <= limit


def between(least: float, most: float) -> Callable[[Any], bool]:
    """Accepts numbers from the least to the most."""
    return lambda given: isinstance(given, int | float) and least <= given <= most


def refused_or_below(limit: float) -> Callable[[Any], bool]:
    """Accepts an error with a message for users, and numbers up to a limit."""
    return lambda given: refused(given) or below(limit)(given)


def says(word: str) -> Callable[[Any], bool]:
    """Accepts this word alone."""
    return lambda given: given == word


def listed(values: torch.Tensor) -> list[float]:
    """The numbers of a tensor."""
    return [float(value) for value in values.detach().double().flatten()]
