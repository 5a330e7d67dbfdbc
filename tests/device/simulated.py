"""A second device without a GPU: its tensors compute on the CPU, and whatever a GPU would refuse is refused.

Inside ``simulated()`` the device ``meta`` stands for a GPU. A tensor there holds its values in a tensor of the CPU that
nothing outside can reach: an operation on tensors of both devices raises as it would on a GPU, ``numpy()`` raises, and
every copy between the two is counted. So code that creates a tensor on the wrong device is found where there is no GPU.

    with simulated() as device:
        model.to("meta")(x.to("meta"))
    print(device.reads)
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
_aten = torch.ops.aten
_INDEXED = {
    *(_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default),
    _aten._unsafe_index.Tensor,
}
"""A GPU takes indices of the CPU here, after a copy."""
_COPIES = {_aten._to_copy.default, _aten.copy_.default, _aten.copy.default}


class MixedDevicesError(RuntimeError):
    """An operation got tensors of the CPU and of the device, or a generator of the other one."""


class OnDevice(Tensor):
    """A tensor of the simulated device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.held = held
        return made

    def tolist(self) -> Any:
        """Returns the values, after a copy; PyTorch refuses subclasses here."""
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}), Transfers())


class Transfers:
    """Copies between the devices: each makes the CPU wait for a GPU.

    ``reads`` counts them by the line of Assay that asked for one.
    """

    def __init__(self) -> None:
        self.reads: Counter[str] = Counter()

    def read(self) -> None:
        """Counts a copy to the CPU."""
        self.reads[_asked_by()] += 1


def _asked_by() -> str:
    import sys

    frame = sys._getframe(1)
    while frame is not None and "/assay/" not in frame.f_code.co_filename:
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return "outside of assay"
    return f"{frame.f_code.co_filename.split('/assay/')[-1]}:{frame.f_lineno}"


def _computed(func: Any, args: Sequence[Any], kwargs: dict[str, Any], transfers: Transfers) -> Any:
    """Runs an operation on the values that tensors hold, if all of them lie on one device."""
    flat, _ = tree_flatten((args, kwargs))
    tensors = [one for one in flat if isinstance(one, Tensor)]
    there = any(isinstance(one, OnDevice) for one in tensors)
    assert not any(one.is_meta and not isinstance(one, OnDevice) for one in tensors), f"{func}: a tensor without values"
    asked = kwargs.get("device")
    if func in _COPIES:
        return _copied(func, args, kwargs, transfers)
    if func is _aten._local_scalar_dense.default and there:
        transfers.read()
        return func(args[0].held)
    to_device = there if asked is None else torch.device(asked).type == DEVICE.type
    _refuse_mixed(func, args, tensors, kwargs, to_device=to_device)
    if not to_device and not there:
        return func(*args, **kwargs)
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    return _wrapped(func, func(*tree_map(_held, args), **tree_map(_held, kwargs)), args, kwargs)


def _held(one: Any) -> Any:
    return one.held if isinstance(one, OnDevice) else one


def _wrapped(func: Any, found: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Returns results as tensors of the device; an operation in place returns the tensor that it changed."""
    before = {id(one.held): one for one in tree_flatten((args, kwargs))[0] if isinstance(one, OnDevice)}
    if torch.Tag.inplace_view in func.tags:
        with no_dispatch():  # the shape of the tensor outside changes, too
            func(*args, **kwargs)

    def wrap(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        return before[id(one)] if id(one) in before else OnDevice(one)

    return tree_map(wrap, found)


def _copied(func: Any, args: Sequence[Any], kwargs: dict[str, Any], transfers: Transfers) -> Any:
    if func is _aten._to_copy.default:
        (given,) = args
        asked = kwargs.pop("device", None)
        to_device = isinstance(given, OnDevice) if asked is None else torch.device(asked).type == DEVICE.type
        if isinstance(given, OnDevice) and not to_device:
            transfers.read()
        copy = func(_held(given), **kwargs)
        return OnDevice(copy) if to_device else copy
    into, given = args[:2]
    if isinstance(given, OnDevice) and not isinstance(into, OnDevice):
        transfers.read()
    found = func(_held(into), _held(given), *args[2:], **kwargs)
    if func is _aten.copy_.default:
        return into
    return OnDevice(found) if isinstance(into, OnDevice) else found


def _refuse_mixed(
    func: Any, args: Sequence[Any], tensors: Sequence[Tensor], kwargs: Mapping[str, Any], *, to_device: bool
) -> None:
    if to_device and kwargs.get("generator") is not None:
        raise MixedDevicesError(f"{func}: the device has no generator of the CPU")
    if func in _INDEXED:
        tensors = [one for one in (args[0], *args[2:]) if isinstance(one, Tensor)]
        if not isinstance(args[0], OnDevice) and any(isinstance(one, OnDevice) for one in tree_flatten(args[1])[0]):
            raise MixedDevicesError(f"{func}: a tensor of the CPU, and indices of the device")
    # As a GPU does, where a number of the CPU stands among tensors.
    apart = [one for one in tensors if not isinstance(one, OnDevice) and one.dim() > 0]
    if apart and len(apart) < len(tensors) and any(isinstance(one, OnDevice) for one in tensors):
        shapes = ", ".join(f"{'device' if isinstance(one, OnDevice) else 'cpu'} {tuple(one.shape)}" for one in tensors)
        raise MixedDevicesError(f"{func}: tensors of two devices: {shapes}")


class _Operations(TorchDispatchMode):
    """Computes what is asked for on the device."""

    def __init__(self, transfers: Transfers) -> None:
        super().__init__()
        self._transfers = transfers

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, dict(kwargs or {}), self._transfers)


class _Values(TorchFunctionMode):
    """Lets ``torch.tensor`` and its like fill a tensor of the device, where PyTorch leaves one of ``meta`` empty."""

    _FILLED: tuple[Callable[..., Any], ...] = (torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in self._FILLED and _is_device(given.get("device")):
            del given["device"]
            wanted = given.pop("requires_grad", False)
            made = func(*args, **given).to(DEVICE)
            return made.requires_grad_() if wanted else made
        if func is Tensor.new_tensor and isinstance(args[0], OnDevice) and "device" not in given:
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **given}).to(DEVICE)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        if func == Tensor.data.__set__ and isinstance(args[0], OnDevice):  # type: ignore[attr-defined]
            args[0].held = args[1].held
        return func(*args, **given)


def _as_tensors(index: Any) -> Any:
    """Returns an index with tensors in place of lists, which PyTorch would turn into empty tensors of ``meta``."""
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return torch.as_tensor(index) if isinstance(index, list | np.ndarray) else index


def _is_device(asked: Any) -> bool:
    return asked is not None and torch.device(asked).type == DEVICE.type


@contextmanager
def simulated() -> Iterator[Transfers]:
    """Makes ``meta`` a device that computes, within the block.

    Returns:
        Context manager with the copies that are made.
    """
    transfers = Transfers()
    with mock.patch.object(torch, "is_autocast_enabled", _autocast), _Values(), _Operations(transfers):
        yield transfers


def _autocast(device: str | None = None) -> bool:
    """Returns whether autocast is on; PyTorch raises where asked about ``meta``, which has none."""
    return False if device == DEVICE.type else torch._C.is_autocast_enabled(*([] if device is None else [device]))
