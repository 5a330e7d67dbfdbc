"""A tensor-like object that holds the least and the greatest value of each entry.

A network's own forward pass runs on it: PyTorch passes every call with such an argument to
``IntervalTensor.__torch_function__``, and a rule (``rules.py``) computes the bounds of the result. So a network is
bounded as it is written; nothing is traced, copied or changed.

Axis 0 is the batch axis before and after every function. The bounds of a record must not depend on the other records of
its batch, so a rule refuses every function that would mix records.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
"""From a function of PyTorch to its rule; the rule is called with the function and its arguments."""


class NoRuleError(Exception):
    """There is no interval rule for an operation. The message completes a sentence that begins with the layer."""


APART = "where the records of a batch lie, each of which is bounded by itself"
"""Why axis 0 may not be changed; the last words of error messages."""


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Returns a decorator that registers a rule for functions of PyTorch.

    Args:
        functions: the functions.

    Returns:
        The decorator.
    """

    def add(bound: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, bound))
        return bound

    return add


class Product(NamedTuple):
    """A box and the linear layer that was applied to it."""

    inner: "IntervalTensor"
    weight: Tensor
    bias: Tensor | None
    added: Tensor | None = None
    """(outputs,) constant that was added afterwards."""


class IntervalTensor:
    """All tensors (n, ...) that differ from a centre by at most a radius, entry by entry.

    Args:
        centre: (n, ...).
        radius: (n, ...), nowhere negative: a negative radius would prove something false.
        unit: relative rounding error of one operation of the network; rules widen their results by all rounding errors,
            their own included. 0 ignores rounding.
        records: (n, ...) ordinary tensors that pass through the network together with the boxes, one each: batch norm
            in training mode takes its statistics from them.
    """

    def __init__(self, centre: Tensor, radius: Tensor, *, unit: float = 0.0, records: Tensor | None = None) -> None:
        # Checked only for certificates, not at every step of a training.
        assert not unit or not bool((radius < 0).any()), "the ends of a box are reversed"
        self.centre, self.radius, self.unit, self.records = centre, radius, unit, records
        self.product: Product | None = None
        """The last linear layer, where only constants have been added since."""
        self._viewed = False

    @classmethod
    def between(
        cls, low: Tensor, high: Tensor, *, unit: float = 0.0, records: Tensor | None = None
    ) -> "IntervalTensor":
        """Builds the box of all tensors from ``low`` to ``high``.

        Args:
            low: (n, ...) least value of each entry.
            high: (n, ...) greatest value of each entry.
            unit: relative rounding error of one operation; 0 ignores rounding.
            records: (n, ...) tensors that pass through the network together with the boxes.

        Returns:
            The box.
        """
        radius = (high - low) * 0.5
        if unit:
            radius = radius + unit * torch.maximum(low.abs(), high.abs())
        return cls((low + high) * 0.5, radius, unit=unit, records=records)

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Least and greatest value of each entry."""
        return self.centre - self.radius, self.centre + self.radius

    @property
    def magnitude(self) -> Tensor:
        """Greatest absolute value of each entry."""
        return self.centre.abs() + self.radius

    def widened(self, by: Tensor | float) -> "IntervalTensor":
        """Returns the same box with a larger radius.

        Args:
            by: increase of the radius, broadcasts to (n, ...).

        Returns:
            The box, without its ``product``.
        """
        return IntervalTensor(self.centre, self.radius + by, unit=self.unit, records=self.records)

    def each(self, apply: Callable[[Tensor], Tensor], *, view: bool = False) -> "IntervalTensor":
        """Applies a function to the centre and to the radius, each record separately.

        Args:
            apply: the function; it must neither mix records nor change signs.
            view: whether the result shares memory with the input.

        Returns:
            The box of the results.
        """
        records = None if self.records is None else apply(self.records)
        moved = IntervalTensor(apply(self.centre), apply(self.radius), unit=self.unit, records=records)
        self._viewed = moved._viewed = view or self._viewed
        return moved

    def moved(self, function: Callable[..., Tensor], *how: Any, **named: Any) -> "IntervalTensor":
        """Moves or drops entries within each record.

        Args:
            function: called with a tensor and the other arguments; the positions may depend on the shape only.
            how: positional arguments of ``function``.
            named: keyword arguments of ``function``.

        Returns:
            The box of the result.

        Raises:
            NoRuleError: an entry would move to another record, or the batch axis would move.
        """
        keeps_rows = _keeps_rows if _plain((*how, *named.values())) else _keeps_rows.__wrapped__
        if not keeps_rows(function, tuple(self.shape), self.device, how, tuple(named.items())):
            raise NoRuleError(f"moves entries along axis 0, {APART}")
        return self.each(lambda tensor: function(tensor, *how, **named), view=True)

    def become(self, other: "IntervalTensor") -> "IntervalTensor":
        """Changes this object in place, as an in-place function of PyTorch does.

        Args:
            other: the new value.

        Returns:
            This object.

        Raises:
            NoRuleError: there is a view of this value, which would have to change too.
        """
        if self._viewed:
            raise NoRuleError("changes in place a value of which there is a view")
        self.centre, self.radius, self.records, self.product = other.centre, other.radius, other.records, other.product
        return self

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        bound = RULES.get(function)
        if bound is None:
            raise NoRuleError("has no interval bounds")
        return bound(function, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        """Returns a method of a tensor, where there is a rule for it."""
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(Tensor, name, None)
        if method not in RULES:
            raise NoRuleError(f"asks a value for {name!r}, which interval bounds do not know")
        return partial(RULES[method], method, self)

    @property
    def shape(self) -> torch.Size:
        """Shape of the tensors in the box."""
        return self.radius.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.radius.ndim

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the bounds."""
        return self.radius.dtype

    @property
    def device(self) -> torch.device:
        """Device of the bounds."""
        return self.radius.device

    def size(self, axis: int | None = None) -> Any:
        """Returns the shape, or the length of one axis, as ``Tensor.size`` does.

        Args:
            axis: the axis; None for the whole shape.

        Returns:
            ``torch.Size`` or int.
        """
        return self.radius.size() if axis is None else self.radius.size(axis)

    def dim(self) -> int:
        """Returns the number of axes.

        Returns:
            The number.
        """
        return self.radius.dim()

    def numel(self) -> int:
        """Returns the number of entries.

        Returns:
            The number.
        """
        return self.radius.numel()

    def is_floating_point(self) -> bool:
        """Returns whether the entries are floating-point numbers.

        Returns:
            True for every box of records.
        """
        return self.radius.is_floating_point()

    def __len__(self) -> int:
        return len(self.radius)

    def __getitem__(self, place: Any) -> "IntervalTensor":
        return self.moved(Tensor.__getitem__, place)

    def __add__(self, other: Any) -> "IntervalTensor":
        return RULES[Tensor.add](Tensor.add, self, other)

    def __sub__(self, other: Any) -> "IntervalTensor":
        return RULES[Tensor.sub](Tensor.sub, self, other)

    def __mul__(self, other: Any) -> "IntervalTensor":
        return RULES[Tensor.mul](Tensor.mul, self, other)

    def __truediv__(self, other: Any) -> "IntervalTensor":
        return RULES[Tensor.div](Tensor.div, self, other)

    def __neg__(self) -> "IntervalTensor":
        return self * -1

    def __rsub__(self, other: Any) -> "IntervalTensor":
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def __iadd__(self, other: Any) -> "IntervalTensor":
        return self.become(self + other)

    def __isub__(self, other: Any) -> "IntervalTensor":
        return self.become(self - other)

    def __imul__(self, other: Any) -> "IntervalTensor":
        return self.become(self * other)

    def __itruediv__(self, other: Any) -> "IntervalTensor":
        return self.become(self / other)

    def _undecided(self, *_: Any) -> Any:
        raise NoRuleError("decides by the value of a record what to compute")

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _undecided
    __hash__ = object.__hash__


def _plain(values: tuple[Any, ...]) -> bool:
    """Returns whether all arguments are integers or None, nested or not: equal ones then have the same effect."""
    return all(
        _plain(tuple(value)) if isinstance(value, tuple) else value is None or type(value) is int for value in values
    )


@lru_cache(maxsize=256)
def _keeps_rows(
    function: Callable[..., Tensor],
    shape: tuple[int, ...],
    device: torch.device,
    how: tuple[Any, ...],
    named: tuple[tuple[str, Any], ...],
) -> bool:
    """Returns whether every entry stays in the row of its record; cached, since training calls it at every step."""
    row = torch.arange(shape[0], dtype=torch.int32, device=device)
    origin = function(row.view(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous(), *how, **dict(named))
    return origin.dim() > 0 and len(origin) == len(row) and bool((origin.transpose(0, -1) == row).all())
