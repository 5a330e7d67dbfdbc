"""State of a model between calls: detects a forward pass that stores information about records.

Such information would change later gradients without noise. So everything that a forward pass can reach is recorded
before and after it, and compared: weights, buffers and attributes of every layer, with all that they contain. The
thorough check also covers the classes and functions of the model, their closures, and the global variables that they
name.
"""

import functools
import itertools
import operator
import site
import sys
import sysconfig
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from enum import Enum
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError

_OF_EVERY_MODULE = vars(nn.Module()).keys() - {"_parameters", "_buffers"}
"""Attributes that every module has; layers store nothing of their own in them."""
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_SCALARS = (int, float, complex, str, bytes, type(None), Enum, torch.dtype, torch.device, torch.Size, slice, range)
_LISTS = (list, tuple, deque, Set)
_WRAPPERS = (staticmethod, classmethod, functools.partialmethod)
_RANDOM = (torch.Generator, np.random.Generator, np.random.RandomState)
"""Random generators: drawing changes their state, which says nothing about records."""
_HASHED = 2**16
"""Greatest size, in bytes, of a tensor whose content is compared; of a larger tensor two sums are compared."""
_VERSION = operator.attrgetter("_version")
_INSTALLED = {*site.getsitepackages(), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}


class Leaf(NamedTuple):
    """An object that can change by itself, and a mark of its state."""

    thing: object
    mark: object


LayerState = dict[str, list[Leaf]]
"""State of each layer, by its name."""


def state_by_layer(model: nn.Module, *, ignored: Iterable[object] = (), thorough: bool) -> LayerState:
    """Returns the state of each layer of a model.

    Args:
        model: the one to look at.
        ignored: objects that are not followed, such as the object that calls this.
        thorough: also follow classes, functions, closures, hooks and global variables, and compare the contents of
            tensors in addition to their version counters: writes to ``.data`` are not counted.

    Returns:
        The leaves of each layer, by its name.
    """
    layers = dict(model.named_modules())
    packages = {type(layer).__module__.partition(".")[0] for layer in layers.values()} - _SKIPPED
    walk = _Walk([*ignored, *layers.values()], thorough=thorough, packages=packages)
    return {name: list(walk.layer(layer)) for name, layer in layers.items()}


def refuse_changed(model: nn.Module, before: LayerState, after: LayerState) -> None:
    """Raises if the forward pass of a model changed its state.

    Args:
        model: the one that was looked at.
        before: state before the forward pass.
        after: state after it.

    Raises:
        IncompatibleRecipeError: names the layer.
    """
    for name, leaves in before.items():
        now = after.get(name, [])
        if len(leaves) != len(now) or not all(map(_same, leaves, now)):
            raise _changed(model, name)


class Noted(NamedTuple):
    """State that a ``StepCheck`` recorded at one time."""

    held: tuple[object, ...]
    """Contents of the containers, one container after the other."""
    sizes: tuple[int, ...]
    """Number of entries of each container."""
    versions: tuple[int, ...]
    """Version counter of each tensor."""
    arrays: tuple[object, ...]
    """Mark of each array's content."""


class StepCheck:
    """Cheap check for every step: attributes of layers, and the contents of their containers.

    It is cheaper than ``state_by_layer``.

    Args:
        model: in its present state. A container that is added later is noticed, but its contents are not followed.
        ignored: objects that are not followed.
    """

    def __init__(self, model: nn.Module, *, ignored: Iterable[object] = ()) -> None:
        self._model = model
        layers = dict(model.named_modules())
        walk = _Walk([*ignored, *layers.values()], thorough=False, packages=set())
        self._names: list[str] = []
        self._views: list[Collection[object]] = []
        """Live views of the contents of the containers."""
        self._tensors: list[Tensor] = []
        self._tensor_names: list[str] = []
        self._arrays: list[np.ndarray] = []
        self._array_names: list[str] = []
        for name, layer in layers.items():
            things = [leaf.thing for leaf in walk.layer(layer)]
            containers = [vars(layer), layer._parameters, layer._buffers, *walk.take_containers()]
            self._views += [one.values() if isinstance(one, Mapping) else one for one in containers]
            self._tensors += [one for one in things if isinstance(one, Tensor)]
            self._arrays += [one for one in things if isinstance(one, np.ndarray)]
            self._names += [name] * (len(self._views) - len(self._names))
            self._tensor_names += [name] * (len(self._tensors) - len(self._tensor_names))
            self._array_names += [name] * (len(self._arrays) - len(self._array_names))

    def note(self) -> Noted:
        """Returns the present state."""
        state_by_layer = tuple(itertools.chain.from_iterable(self._views))
        versions = tuple(map(_VERSION, self._tensors))
        return Noted(state_by_layer, tuple(map(len, self._views)), versions, tuple(map(_mark, self._arrays)))

    def refuse_changed(self, before: Noted) -> None:
        """Raises if the forward pass of the model changed its state.

        Args:
            before: state before the forward pass.

        Raises:
            IncompatibleRecipeError: names the layer.
        """
        now = self.note()
        alike = [one == other for one, other in zip(before[1:], now[1:], strict=True)]
        if all(alike) and all(map(operator.is_, before.held, now.held)):
            return
        start = 0
        for name, size, new_size in zip(self._names, before.sizes, now.sizes, strict=True):
            entries, end = slice(start, start + size), start + size
            if size != new_size or not all(map(_equal, before.held[entries], now.held[entries])):
                raise _changed(self._model, name)
            start = end
        for name, one, other in zip(
            (*self._tensor_names, *self._array_names),
            (*before.versions, *before.arrays),
            (*now.versions, *now.arrays),
            strict=True,
        ):
            if one != other:
                raise _changed(self._model, name)


def _equal(one: object, other: object) -> bool:
    """Returns whether two objects are identical, or are equal numbers or texts."""
    if one is other:
        return True
    if not isinstance(one, _SCALARS) or type(one) is not type(other):
        return False
    return one == other or repr(one) == repr(other)  # NaN equals NaN here


def _changed(model: nn.Module, name: str) -> IncompatibleRecipeError:
    return IncompatibleRecipeError(
        f"the forward pass changed a weight, a buffer or an attribute of {layer_name(model, name)}, or a variable that "
        "it uses, by what it saw of records and without noise: record-level privacy cannot cover that; take the layer "
        "that does so out, and make constants, such as a table of positions, in __init__ and not at the first call",
        setting=name or "model",
    )


def layer_name(model: nn.Module, name: str) -> str:
    """Returns how error messages name a layer.

    Args:
        model: the model that holds it.
        name: of the layer in the model; empty for the model itself.

    Returns:
        A phrase with name and type.
    """
    return f"layer {name!r} ({type(model.get_submodule(name)).__name__})" if name else "the model itself"


def _same(one: Leaf, other: Leaf) -> bool:
    if isinstance(one.thing, (Tensor, np.ndarray)) and one.thing is not other.thing:
        return False
    return type(one.mark) is type(other.mark) and (one.mark == other.mark or repr(one.mark) == repr(other.mark))


class _Walk:
    """Traversal of all objects that a model can reach; each object is visited once, at the layer that comes first."""

    def __init__(self, ignored: Iterable[object], *, thorough: bool, packages: Set[str]) -> None:
        self._seen = {id(one) for one in ignored}
        self._kept: list[object] = []  # keeps visited objects alive, so that their IDs are not used again
        self._thorough, self._packages = thorough, packages
        self._containers: list[object] = []

    def take_containers(self) -> list[object]:
        """Returns the dictionaries, lists and attribute dictionaries that were visited since the last call."""
        taken, self._containers = self._containers, []
        return taken

    def layer(self, layer: nn.Module) -> Iterator[Leaf]:
        attributes = {name: value for name, value in vars(layer).items() if name not in _OF_EVERY_MODULE}
        yield from self._leaves([attributes, *(type(layer).__mro__ if self._thorough else ())])
        if self._thorough:
            hooks = [hook for kind in _HOOKS for hook in vars(layer)[kind].values()]
            # Counters and modes of hooks hold no information about records.
            yield from (one for one in self._leaves(hooks) if isinstance(one.thing, (Tensor, np.ndarray, float)))

    def _leaves(self, values: Iterable[object]) -> Iterator[Leaf]:
        waiting = deque(values)
        while waiting:
            value = waiting.popleft()
            if isinstance(value, _SCALARS):
                yield Leaf(value, value)
                continue
            if id(value) in self._seen:
                continue
            self._seen.add(id(value))
            self._kept.append(value)
            if isinstance(value, (Tensor, np.ndarray)):
                yield Leaf(value, _mark(value, thorough=self._thorough))
            elif isinstance(value, (Mapping, *_LISTS)):
                self._containers.append(value)
                yield Leaf(None, len(value))
                # Added and removed entries change the length; a set has no defined order.
                waiting.extend(value.values() if isinstance(value, Mapping) else value)
            elif isinstance(value, (itertools.count, itertools.cycle)):
                yield Leaf(None, repr(value))
            else:
                waiting.extend(self._inside(value))

    def _inside(self, value: object) -> Iterable[object]:
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, MethodType):
            return [value.__self__, value.__func__]
        if isinstance(value, weakref.ref):
            return [value()]
        if isinstance(value, (FunctionType, type, *_WRAPPERS, property)) or hasattr(value, "__wrapped__"):
            return self._of_code(value) if self._thorough else ()
        if isinstance(value, (ModuleType, *_RANDOM)) or type(value).__module__.partition(".")[0] in _SKIPPED - {
            "torch"
        }:
            return ()
        if hasattr(value, "__dict__"):
            self._containers.append(vars(value))
        slots = [getattr(value, name) for name in getattr(type(value), "__slots__", ()) if hasattr(value, name)]
        return [dict(getattr(value, "__dict__", {})), *slots, *([type(value)] if self._thorough else ())]

    def _of_code(self, value: Any) -> Iterable[object]:
        """Returns the objects that a function or a class of the model's own code refers to."""
        if isinstance(value, property):
            return [value.fget]
        if not isinstance(value, (FunctionType, type)):
            return [getattr(value, "__wrapped__", None), getattr(value, "__func__", None)]
        if not self._is_own(value.__module__):
            return ()
        if isinstance(value, type):
            return [one for name, one in vars(value).items() if not name.startswith("__") or callable(one)]
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        names = set(_names(value.__code__))
        return [*cells, value.__defaults__, value.__kwdefaults__, vars(value), *self._globals(value, names)]

    def _globals(self, function: FunctionType, names: Set[str]) -> Iterator[object]:
        for name in sorted(names & function.__globals__.keys()):
            value = function.__globals__[name]
            if not isinstance(value, ModuleType):
                yield value
            elif self._is_own(value.__name__):
                yield from (one for attribute, one in sorted(vars(value).items()) if attribute in names)

    def _is_own(self, module: str | None) -> bool:
        """Returns whether a module is code of the model and not of a library."""
        top = (module or "").partition(".")[0]
        if top in _SKIPPED or (module or "").startswith("assay.privacy"):
            return False
        file = getattr(sys.modules.get(top), "__file__", None) or ""
        return top in self._packages or not any(file.startswith(folder) for folder in _INSTALLED)


def _mark(value: Tensor | np.ndarray, *, thorough: bool = False) -> object:
    """Returns a mark of the state of a tensor or an array: its version counter and, if asked, its content."""
    if isinstance(value, np.ndarray):
        return hash(value.tobytes()) if value.dtype != object else len(value)
    if not thorough or value.layout != torch.strided or value.is_meta:
        return value._version
    return value._version, _content(value.detach())


def _content(tensor: Tensor) -> object:
    if tensor.numel() * tensor.element_size() <= _HASHED:
        return hash(tensor.reshape(-1).contiguous().view(torch.uint8).cpu().numpy().tobytes())
    numbers = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat = numbers.reshape(-1).nan_to_num() if numbers.is_floating_point() else numbers.reshape(-1)
    return float(flat.sum(dtype=torch.float32)), float(flat[::7].abs().sum(dtype=torch.float32))


def _is_filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _names(code: CodeType) -> Iterator[str]:
    """Yields all names of global variables and attributes in a function and in functions within it."""
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)


_SKIPPED = {*sys.stdlib_module_names, "torch", "numpy", "opacus"} - {"__main__"}
"""Libraries whose state is not part of a model."""
