"""Base of transforms: what a transform does to the values of an update, and how the server undoes it."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from assay.errors import DataError
from assay.registry import Method

Shapes = Sequence[tuple[int, ...]]
"""Shapes of the trainable parameters, in the order in which they are concatenated."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Result of one transform."""

    values: np.ndarray
    """(k,) what is left to send, as floating-point numbers of the update's type; the next transform continues here."""
    side: bytes = b""
    """What the server needs besides these values, such as their positions; it is sent as it is."""
    state: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays that the client keeps for its next update."""


class Transform(Method):
    """A way to send an update in fewer bytes. Register it with ``@register("transform")``.

    The client's half (``encode``) and the server's (``decode``) stand side by side. What is sent must be a function of
    the update, the client's state and the generator alone; everything that ``decode`` needs is in the message, in the
    settings or in the shapes, which both sides know.
    """

    position: ClassVar[Literal["first", "last"]]
    """``first`` selects from the whole update, ``last`` writes values as codes. A pipeline has at most one of each."""

    @property
    @abstractmethod
    def biased(self) -> bool:
        """Whether the decoded update differs from the given one in expectation; error feedback then makes up for it."""

    @property
    def lossless(self) -> bool:
        """Whether the server decodes exactly what was given; then updates are sent without it."""
        return False

    @abstractmethod
    def count(self, size: int, shapes: Shapes) -> int:
        """Returns how many floating-point values are left to send.

        Args:
            size: number of values before this transform.
            shapes: of the parameters.

        Returns:
            The number, which must not depend on the values.
        """

    @abstractmethod
    def encode(
        self, values: np.ndarray, shapes: Shapes, state: Mapping[str, np.ndarray], *, generator: np.random.Generator
    ) -> Encoded:
        """Encodes values, on the client.

        Args:
            values: (size,) float32 or float64, finite; not to be changed in place.
            shapes: of the parameters.
            state: arrays that this client's previous call returned; empty at first.
            generator: for random decisions.

        Returns:
            What is sent and what is kept.
        """

    @abstractmethod
    def decode(self, values: np.ndarray, side: bytes, size: int, shapes: Shapes) -> np.ndarray:
        """Decodes values, on the server.

        Args:
            values: (k,) what ``encode`` left to send, decoded by the later transforms.
            side: as ``encode`` returned it; it comes from a client, so it may hold anything.
            size: number of values to return.
            shapes: of the parameters.

        Returns:
            (size,) of the type of ``values``.

        Raises:
            DataError: ``side`` cannot be what ``encode`` returns for so many values.
        """


def malformed(what: str) -> DataError:
    """Returns the error for a message that no client with these settings sends; the caller raises it.

    Args:
        what: is wrong, with the figure and the limit.

    Returns:
        The error.
    """
    return DataError(
        f"the message is no update of this network: {what}; sender and receiver need the same recipe, model and "
        "version",
        setting="federation.transforms",
        given=what,
    )
