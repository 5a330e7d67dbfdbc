"""A stand-in for a tensor that knows only between which ends each entry lies.

A network's own forward pass is run on it: PyTorch hands every function that meets a stand-in to
``IntervalTensor.__torch_function__``, and a rule (``rules.py``) says what the function does to the ends. So
whatever a network is composed of is followed as it is written, and nothing is traced, copied or changed.

Axis 0 is that of the records, before and after every function: what holds for a record must hold whatever stands beside
it in its batch, so a rule refuses whatever would let an entry of one record meet that of another.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
"""From a function of PyTorch to its rule, which is called with the function and with what the function was given."""


class NoRuleError(Exception):
    """Nothing is known of what happens to the ends. The message ends a sentence that begins with the layer."""


APART = "where the records of a batch lie, each of which is bounded by itself"
"""Why nothing may be done along axis 0; ends a sentence."""


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Decorator: makes a rule known as that of some functions of PyTorch."""

    def add(found: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, found))
        return found

    return add


class Product(NamedTuple):
    """A box that a linear layer has multiplied."""

    inner: "IntervalTensor"
    weight: Tensor
    bias: Tensor | None
    added: Tensor | None = None
    """(outputs,) a constant that was added afterwards."""


class IntervalTensor:
    """Every tensor (n, ...) that differs from a centre by at most a radius, entry by entry.

    Args:
        centre: (n, ...).
        radius: (n, ...), nowhere negative: a rule that gave such a one would prove what is not so.
        unit: what one operation of the network's arithmetic may be off by, relatively: rules then widen what they
            give by all that rounding can do, theirs included. 0 leaves rounding out.
        records: (n, ...) tensors that take the same way beside the boxes, one each: batch norm in training mode takes
            its statistics from them.
    """

    def __init__(self, centre: Tensor, radius: Tensor, *, unit: float = 0.0, records: Tensor | None = None) -> None:
        # Looked at where it is proven, not at every step of a training.
        assert not unit or not bool((radius < 0).any()), "the ends of a box are reversed"
        self.centre, self.radius, self.unit, self.records = centre, radius, unit, records
        self.product: Product | None = None
        """What was multiplied by which weight, where nothing but the adding of constants has happened since."""
        self._viewed = False

    @classmethod
    def between(
        cls, low: Tensor, high: Tensor, *, unit: float = 0.0, records: Tensor | None = None
    ) -> "IntervalTensor":
        """All from ``low`` to ``high``."""
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
        """The same with a larger radius."""
        return IntervalTensor(self.centre, self.radius + by, unit=self.unit, records=self.records)

    def each(self, apply: Callable[[Tensor], Tensor], *, view: bool = False) -> "IntervalTensor":
        """What is done to the centre and to the radius alike, each record by itself.

        Args:
            apply: what is done; it must neither mix records nor change signs.
            view: whether a tensor would go on sharing its entries with what comes out.
        """
        records = None if self.records is None else apply(self.records)
        moved = IntervalTensor(apply(self.centre), apply(self.radius), unit=self.unit, records=records)
        self._viewed = moved._viewed = view or self._viewed
        return moved

    def moved(self, function: Callable[..., Tensor], *how: Any, **named: Any) -> "IntervalTensor":
        """Entries moved to other places of their own record, or some of them left out.

        Args:
            function: called with a tensor and the other arguments; where entries go depends on the shape alone.

        Raises:
            NoRuleError: an entry would lie in the row of another record, or the records along another axis.
        """
        ask = _keeps_rows if _plain((*how, *named.values())) else _keeps_rows.__wrapped__
        if not ask(function, tuple(self.shape), self.device, how, tuple(named.items())):
            raise NoRuleError(f"moves entries along axis 0, {APART}")
        return self.each(lambda tensor: function(tensor, *how, **named), view=True)

    def become(self, other: "IntervalTensor") -> "IntervalTensor":
        """Change in place: whoever holds this stand-in sees the change.

        Raises:
            NoRuleError: so would whoever holds a view of it, and views are not followed.
        """
        if self._viewed:
            raise NoRuleError("changes in place a value of which there is a view")
        self.centre, self.radius, self.records, self.product = other.centre, other.radius, other.records, other.product
        return self

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = RULES.get(function)
        if found is None:
            raise NoRuleError("has no interval bounds")
        return found(function, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        """A method of a tensor, where there is a rule for it."""
        if name.startswith("__"):
            raise AttributeError(name)
        method = getattr(Tensor, name, None)
        if method not in RULES:
            raise NoRuleError(f"asks a value for {name!r}, which interval bounds do not know")
        return partial(RULES[method], method, self)

    @property
    def shape(self) -> torch.Size:
        return self.radius.shape

    @property
    def ndim(self) -> int:
        return self.radius.ndim

    @property
    def dtype(self) -> torch.dtype:
        return self.radius.dtype

    @property
    def device(self) -> torch.device:
        return self.radius.device

    def size(self, axis: int | None = None) -> Any:
        return self.radius.size() if axis is None else self.radius.size(axis)

    def dim(self) -> int:
        return self.radius.dim()

    def numel(self) -> int:
        return self.radius.numel()

    def is_floating_point(self) -> bool:
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
    """Whether arguments are whole numbers alone, nested or not: two that are equal then do the same."""
    return all(_plain(tuple(one)) if isinstance(one, tuple) else one is None or type(one) is int for one in values)


@lru_cache(maxsize=256)
def _keeps_rows(
    function: Callable[..., Tensor],
    shape: tuple[int, ...],
    device: torch.device,
    how: tuple[Any, ...],
    named: tuple[tuple[str, Any], ...],
) -> bool:
    """Whether every entry stays in the row of its record; remembered, since a training asks at every step."""
    row = torch.arange(shape[0], dtype=torch.int32, device=device)
    origin = function(row.view(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous(), *how, **dict(named))
    return origin.dim() > 0 and len(origin) == len(row) and bool((origin.transpose(0, -1) == row).all())
