"""One row of the conformance table: a question with a known answer, and how each system is asked."""

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

NOT_YET, NOT_INSTALLED = "not yet", "not installed"
Ask = Callable[[], Any]
REFUSED = "refused: "
"""An answer that is an error with a message for users; any other error is named by its type."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A fault of the field as a question."""

    fault: int
    """Number of the fault in the reference list."""
    name: str
    input: str
    right: str
    """The right answer, for readers."""
    accepts: Callable[[Any], bool]
    """Whether an answer is right."""
    assay: Ask | None
    """None: Assay does not have it yet."""
    flower: Ask | None = None
    pfl: Ask | None = None
    """By its published formula, where its own code is not run; what its environment answers comes first."""
    fl4health: Ask | None = None
    """By its published formula."""
    pfl_has_it: bool = False
    """Whether pfl has such a thing."""

    def answered(self, of_pfl: Mapping[str, Any] | None) -> dict[str, Any]:
        """The row with all answers, JSON-able.

        Args:
            of_pfl: answers of pfl's own code by the names of rows; None where it is not installed.
        """
        said = {
            "assay": self._judged(NOT_YET if self.assay is None else answer(self.assay)),
            "flower": self._judged(None if self.flower is None else answer(self.flower)),
            "pfl": self._judged(self._of_pfl(of_pfl)),
            "fl4health": self._judged(None if self.fl4health is None else answer(self.fl4health)),
        }
        wrong = [peer for peer in ("flower", "pfl", "fl4health") if said[peer]["right"] is False]
        about = {"fault": self.fault, "name": self.name, "input": self.input, "right": self.right}
        return {**about, **said, "wrong_peers": wrong}

    def _of_pfl(self, answers: Mapping[str, Any] | None) -> Any:
        if answers is not None and self.name in answers:
            return answers[self.name]
        if self.pfl is not None:
            return answer(self.pfl)
        return NOT_INSTALLED if self.pfl_has_it else None

    def _judged(self, given: Any) -> dict[str, Any]:
        if given is None or given in (NOT_YET, NOT_INSTALLED):
            return {"answer": given, "right": None}
        return {"answer": shown(given) if isinstance(given, float) and not math.isfinite(given) else given,
                "right": bool(self.accepts(given))}  # fmt: skip


def answer(ask: Ask) -> Any:
    """What a system says: a number, a text, or the error that it raises.

    Args:
        ask: runs it.
    """
    from assay.errors import FederationError, UserError

    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            found = ask()
        except (UserError, FederationError) as error:
            return f"{REFUSED}{error}"
        except Exception as error:  # whatever a peer raises is its answer
            return type(error).__name__
    if isinstance(found, torch.Tensor | np.ndarray | np.generic):
        return float(found)
    return found


def shown(given: Any) -> str:
    """An answer in the table.

    Args:
        given: the answer.
    """
    if isinstance(given, float):
        return f"{given:.6g}"
    text = str(given)
    return text if len(text) < 90 else f"{text[:87]}..."


def near(value: float, tolerance: float = 1e-9) -> Callable[[Any], bool]:
    """Accepts numbers near a value."""
    return lambda given: isinstance(given, int | float) and abs(given - value) <= tolerance


def refused(given: Any) -> bool:
    """Accepts an error with a message for users."""
    return isinstance(given, str) and given.startswith(REFUSED)
