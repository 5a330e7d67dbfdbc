"""The pipeline: transforms in order, error feedback, and the bytes that are sent."""

import json
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.errors import DataError, IncompatibleRecipeError, TrainingError
from assay.federated.transforms.base import Shapes, Transform, malformed

_VERSION = 1
_HEADER = struct.Struct("<BBI")
"""Version of the format, bytes of a floating-point number, number of weights."""
_LENGTH = struct.Struct("<I")
"""Length of what one transform sends beside the values."""
_TYPES: dict[int, Any] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}
_RESIDUAL = "residual"


class Sent(NamedTuple):
    """What one call of ``Pipeline.encode`` returns."""

    message: bytes
    """All that crosses the network: its length is the number of bytes sent."""
    decoded: Tensor
    """(d,) the update that the server decodes from the message."""
    state: dict[str, Tensor]
    """What the client keeps for its next update. Keep the previous state instead if the update is not used."""


class Pipeline:
    """Encodes the updates of one network on the clients, and decodes them on the server.

    The message holds a header (6 bytes), what each transform adds (its length in 4 bytes first), and the values that
    are left, as floating-point numbers of the update's type. A pipeline without transforms is the plain message.

    Error feedback (Seide et al. 2014, Karimireddy et al. 2019): where a transform is biased, the difference between
    what should have been sent and what the server decodes is the client's residual, which is added to its next update.
    So all that was sent and the residual together are the sum of all updates.

    Args:
        transforms: of the recipe, in order.
        shapes: of the network's trainable parameters, in the order in which an update concatenates them.

    Raises:
        IncompatibleRecipeError: the transforms exclude each other or stand in the wrong order.
    """

    def __init__(self, transforms: Sequence[Transform], shapes: Shapes) -> None:
        check_order(transforms)
        self._transforms = tuple(transforms)
        self._shapes = [tuple(shape) for shape in shapes]
        self.size = sum(prod(shape) for shape in self._shapes)
        """d, the number of weights."""
        self._keeps_residual = any(transform.biased for transform in transforms)

    def encode(self, update: Tensor, state: Mapping[str, Tensor], *, generator: np.random.Generator) -> Sent:
        """Encodes the update of a client.

        Args:
            update: (d,) difference of the trainable parameters, float32 or float64.
            state: as the client's previous call returned it; empty at first. It is not changed.
            generator: for random decisions, of the client and the round.

        Returns:
            The message, the update that the server decodes from it, and the client's new state.

        Raises:
            TrainingError: the update is not finite, or too large to be encoded.
            DataError: update or state do not fit the network.
        """
        target = self._target(update, state)
        values, kept = target, dict[str, Tensor]()
        message = [_HEADER.pack(_VERSION, target.itemsize, self.size)]
        for transform in self._transforms:
            own = {
                key.removeprefix(f"{transform.name}."): held.numpy()
                for key, held in state.items()
                if key.startswith(f"{transform.name}.")
            }
            encoded = transform.encode(values, self._shapes, own, generator=generator)
            values = encoded.values
            message += [_LENGTH.pack(len(encoded.side)), encoded.side]
            kept |= {f"{transform.name}.{key}": torch.from_numpy(held) for key, held in encoded.state.items()}
        message.append(values.astype(_TYPES[target.itemsize], copy=False).tobytes())
        whole = b"".join(message)
        try:
            decoded = self.decode(whole)
        except DataError as error:
            raise TrainingError(f"an update cannot be sent: {error}") from error
        if self._keeps_residual:
            residual = target - decoded.numpy()
            if residual.any():
                kept[_RESIDUAL] = torch.from_numpy(residual)
        return Sent(whole, decoded, kept)

    def decode(self, message: bytes) -> Tensor:
        """Decodes the message of a client.

        Args:
            message: as it arrived; it may hold anything.

        Returns:
            (d,) update, finite, of the type in which the client computed it.

        Raises:
            DataError: the message is no update of this network.
        """
        if len(message) < _HEADER.size:
            raise malformed(f"{len(message)} bytes, which are fewer than the {_HEADER.size} of a header")
        version, width, size = _HEADER.unpack_from(message)
        if version != _VERSION or width not in _TYPES or size != self.size:
            raise malformed(f"format {version} with {size} weights of {width} bytes where {self.size} weights are due")
        sides, start = [], _HEADER.size
        for transform in self._transforms:
            start += _LENGTH.size
            length = _LENGTH.unpack_from(message, start - _LENGTH.size)[0] if start <= len(message) else 0
            if start + length > len(message):
                raise malformed(f"it ends after {len(message)} bytes, within what {transform.name} adds")
            sides.append(message[start : start + length])
            start += length
        sizes = [self.size]
        for transform in self._transforms:
            sizes.append(transform.count(sizes[-1], self._shapes))
        if len(message) - start != sizes[-1] * width:
            raise malformed(f"{len(message) - start} bytes of values where {sizes[-1] * width} are due")
        values = np.frombuffer(message[start:], _TYPES[width]).astype(f"f{width}")
        with np.errstate(over="ignore", invalid="ignore"):
            for transform, side, before in zip(self._transforms[::-1], sides[::-1], sizes[-2::-1], strict=True):
                values = transform.decode(values, side, before, self._shapes)
        if not np.isfinite(values).all():
            raise malformed("decoded weights are not finite")
        return torch.from_numpy(values)

    def _target(self, update: Tensor, state: Mapping[str, Tensor]) -> np.ndarray:
        """Returns the update with the residual of earlier ones, after checks."""
        if update.shape != (self.size,) or update.dtype not in (torch.float32, torch.float64):
            raise DataError(
                f"an update of {self.size} weights as float32 or float64 is due, not {tuple(update.shape)} of "
                f"{update.dtype}; concatenate the differences of all trainable parameters",
                setting="federation.transforms",
                given=tuple(update.shape),
                allowed=(self.size,),
            )
        values = update.detach().cpu().numpy()
        residual = state.get(_RESIDUAL)
        if residual is not None and (residual.shape != update.shape or residual.dtype != update.dtype):
            raise DataError(
                f"the client's residual has {tuple(residual.shape)} weights of {residual.dtype}, the update "
                f"{tuple(update.shape)} of {update.dtype}: it belongs to another network; start without a state",
                setting="federation.transforms",
                given=tuple(residual.shape),
                allowed=tuple(update.shape),
            )
        with np.errstate(over="ignore", invalid="ignore"):
            target = values if residual is None else values + residual.numpy()
        if not np.isfinite(target).all():
            raise TrainingError(
                f"{int((~np.isfinite(target)).sum())} of {self.size} weights of an update are NaN, infinite or too "
                "large with what was held back before; it is not sent. Lower the learning rate, or exclude the client"
            )
        return target


def check_order(transforms: Sequence[Transform]) -> None:
    """Checks that transforms can follow each other.

    Args:
        transforms: of a recipe, in order.

    Raises:
        IncompatibleRecipeError: two of them exclude each other, or one stands in the wrong place.
    """
    for place, transform in enumerate(transforms):
        alike = [other.name for other in transforms[:place] if other.position == transform.position]
        if alike:
            raise IncompatibleRecipeError(
                f"federation.transforms lists {alike[0]} and {transform.name}: a second one has nothing left to do; "
                "keep one of them",
                setting="federation.transforms",
                given=transform.name,
                allowed=alike[0],
            )
        if transform.position == "first" and place:
            raise IncompatibleRecipeError(
                f"federation.transforms lists {transforms[place - 1].name} before {transform.name}, which selects from "
                f"the whole update; list {transform.name} first",
                setting="federation.transforms",
                given=[other.name for other in transforms],
                allowed=f"{transform.name} first",
            )


def shape_table(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """Encodes the names and shapes of the trainable parameters, which the server sends to each client once.

    Args:
        shapes: by name, in the order in which an update concatenates the parameters.

    Returns:
        JSON in UTF-8.
    """
    return json.dumps({name: list(shape) for name, shape in shapes.items()}, separators=(",", ":")).encode()


def read_shape_table(table: bytes) -> dict[str, tuple[int, ...]]:
    """Decodes what ``shape_table`` wrote.

    Args:
        table: the bytes.

    Returns:
        Shapes by name, in their order.
    """
    return {name: tuple(shape) for name, shape in json.loads(table).items()}
