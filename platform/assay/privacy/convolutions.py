"""Share of each record in the gradient of a convolution's weight; ``bookkeeping`` defines the terms."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.privacy.bookkeeping import formed, held_at_once, is_stored, pieces, slices, squared_by_pairs, summed
from assay.privacy.precision import exact, squared_lengths
from assay.privacy.shares import Share, Stored, rows_kept

_AT_ONCE = 2**20
"""Entries of gradients that are computed at once; the kernels divide the work further to fit the cache."""


def convolution_weight(layer: nn.Conv1d | nn.Conv2d, activations: Tensor, backprops: Tensor, n: int) -> Share:
    """Returns the share of a convolution's weight.

    Args:
        layer: the convolution.
        activations: (k · n, channels, ...) its input.
        backprops: (k · n, outputs, ...) gradient of its output.
        n: number of records.

    Returns:
        The gradients of all records, or their lengths with a way to form the sum, whichever is cheaper.
    """
    convolution = _Convolution(layer, activations, backprops, n)
    inputs, outputs, positions = layer.weight[0].numel(), len(layer.weight), convolution.positions
    if is_stored(positions, inputs, outputs, seen=activations[0].numel() + backprops[0].numel()):
        return convolution.stored()
    by_pairs = len(activations) == n and _by_pairs(positions, inputs, outputs // layer.groups)
    squared = convolution.squared_by_pairs() if by_pairs else convolution.squared_by_product()
    return formed(squared, convolution.form, convolution.each, convolution.alone)


class _Convolution:
    """Activations and backprops of a convolution, record by record."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, activations: Tensor, backprops: Tensor, n: int) -> None:
        self._layer, self._n, self._backprops = layer, n, backprops
        self._activations, self._padding = _padded(layer, activations)
        self._by_group = backprops.flatten(2).unflatten(1, (layer.groups, -1))
        """(k · n, groups, outputs, positions)."""
        self._unfolded = layer.groups * layer.weight[0].numel() * self.positions
        # Windows are copied in contiguous runs: of neighbouring positions at stride 1, of channels otherwise.
        self._channels_last = layer.stride[-1] > 1

    @property
    def positions(self) -> int:
        return self._by_group.shape[3]

    def form(self, factors: Tensor, kept: Tensor | None) -> Tensor:
        k = len(self._backprops) // self._n
        products = self._backprops.numel() * self._layer.weight[0].numel()
        seen = exact(self._backprops, self._activations, products=products)
        of, backprops, activations = rows_kept(None if kept is None else kept.repeat(k), factors.repeat(k), *seen)
        scaled = backprops * of.to(backprops.dtype).view(-1, *[1] * (backprops.dim() - 1))
        return self._of_weight(scaled, activations, self._layer.weight.to(scaled.dtype), self._layer.groups)

    def _of_weight(self, backprops: Tensor, activations: Tensor, weight: Tensor, groups: int) -> Tensor:
        """Returns the gradient of a weight; only the shape and type of ``weight`` matter."""
        layer = self._layer
        ones, of_weight = [0] * len(layer.kernel_size), [False, True, False]
        _, gradient, _ = torch.ops.aten.convolution_backward(
            backprops,
            activations,
            weight,
            None,
            layer.stride,
            self._padding,
            layer.dilation,
            False,
            ones,
            groups,
            of_weight,
        )
        assert isinstance(gradient, Tensor)
        return gradient

    def stored(self) -> Stored:
        """Returns the gradients of all records."""
        if self._is_grouped:
            return Stored(summed(self._by_convolution(self._activations, self._backprops), self._n))
        groups, outputs = self._by_group.shape[1:3]
        gradients = self._by_group.new_empty(len(self._activations), groups, outputs, self._layer.weight[0].numel())
        for piece in slices(len(gradients), self._unfolded, held_at_once(gradients)):
            rows = self._windows(self._activations[piece]).flatten(0, 1)
            torch.bmm(self._by_group[piece].flatten(0, 1), rows, out=gradients[piece].flatten(0, 1))
        return Stored(*self._as_weight(summed(gradients, self._n)))

    def each(self) -> Tensor:
        return self.stored().each()

    def alone(self, record: int) -> Tensor:
        rows = slice(record, None, self._n)
        gradients = self._by_windows(self._activations[rows].double(), self._by_group[rows].double())
        return Stored(*self._as_weight(gradients.sum(0, keepdim=True))).each()[0]

    def _as_weight(self, found: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Returns gradients as (rows, outputs, ...), and the order of the weight's axes in them."""
        outputs, channels, *kernel = self._layer.weight.shape
        if not self._channels_last:
            return found.view(-1, outputs, channels, *kernel), ()
        last = len(kernel) + 1
        return found.view(-1, outputs, *kernel, channels), (0, last, *range(1, last))

    def squared_by_pairs(self) -> Tensor:
        def squared(rows: Tensor, backprops: Tensor) -> Tensor:
            return squared_by_pairs(self._windows(rows), backprops.mT)

        passing = self._unfolded + self._layer.groups * self.positions * self.positions
        return pieces(squared, self._n, passing, self._activations, self._by_group)

    def squared_by_product(self) -> Tensor:
        k, by_convolution = len(self._activations) // self._n, self._is_grouped
        rows, backprops = (
            whole.unflatten(0, (k, self._n)).transpose(0, 1)
            for whole in (self._activations, self._backprops if by_convolution else self._by_group)
        )

        def squared(rows: Tensor, backprops: Tensor) -> Tensor:
            product = self._by_convolution if by_convolution else self._by_windows
            gradients = product(rows.flatten(0, 1), backprops.flatten(0, 1))
            # By the Cauchy-Schwarz inequality; an input is in as many windows as the kernel has positions.
            most = math.prod(self._layer.kernel_size) * squared_lengths(rows) * squared_lengths(backprops)
            return torch.stack([squared_lengths(gradients.unflatten(0, (len(rows), k)).sum(1)), most], 1)

        if by_convolution:
            return pieces(squared, self._n, k * self._layer.weight.numel(), rows, backprops, at_once=_AT_ONCE)
        return pieces(squared, self._n, k * (self._unfolded + self._layer.weight.numel()), rows, backprops)

    @property
    def _is_grouped(self) -> bool:
        """Whether one grouped convolution is faster than products with copies of all windows.

        The copies are larger than the gradients where there are more positions than outputs.
        """
        fast = self._backprops.device.type == "cpu" and torch.backends.mkldnn.is_available()
        return fast and self._backprops.dtype == torch.float32 and self.positions > self._by_group.shape[2]

    def _by_convolution(self, rows: Tensor, backprops: Tensor) -> Tensor:
        """Returns the gradient of each row, (rows, outputs, ...), by one convolution in which every row is a group."""
        weight, groups = self._layer.weight, len(rows) * self._layer.groups
        of_all = weight.detach().new_zeros(1, dtype=rows.dtype).expand(len(rows) * len(weight), *weight.shape[1:])
        gradients = self._of_weight(backprops.flatten(0, 1)[None], rows.flatten(0, 1)[None], of_all, groups)
        return gradients.view(len(rows), *weight.shape)

    def _by_windows(self, rows: Tensor, backprops: Tensor) -> Tensor:
        """Returns the gradient of each row, (rows, groups, outputs, inputs of an output), by products with windows."""
        gradients = backprops.flatten(0, 1) @ self._windows(rows).flatten(0, 1)
        return gradients.unflatten(0, (len(rows), -1))

    def _windows(self, rows: Tensor) -> Tensor:
        """Returns the windows (rows, groups, positions, inputs of an output); inputs have channels first or last."""
        groups, borders = self._layer.groups, [width for one in reversed(self._padding) for width in (one, one)]
        if not self._channels_last:
            windows = _windows(self._layer, F.pad(rows, borders).contiguous(), places_first=False)
            return windows.flatten(1, -len(self._padding) - 1).flatten(2).unflatten(1, (groups, -1)).mT
        last = rows.unflatten(1, (groups, -1)).movedim(2, -1)
        windows = _windows(self._layer, F.pad(last, [0, 0, *borders]).contiguous(), places_first=True)
        return windows.flatten(-len(self._padding) - 1).flatten(2, -2)


def _by_pairs(positions: int, inputs: int, outputs: int) -> bool:
    """Returns whether lengths are cheaper from pairs of positions than from the gradients themselves."""
    return positions * (inputs + outputs) < inputs * outputs


def _padded(layer: nn.Conv1d | nn.Conv2d, activations: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Returns the input, padded unless the padding is a border of zeros, and the border still to add."""
    nothing = (0,) * len(layer.kernel_size)
    if layer.padding_mode != "zeros":
        return F.pad(activations, layer._reversed_padding_repeated_twice, layer.padding_mode), nothing
    if isinstance(layer.padding, str):
        return F.pad(activations, layer._reversed_padding_repeated_twice), nothing
    return activations, layer.padding


def _windows(layer: nn.Conv1d | nn.Conv2d, bordered: Tensor, *, places_first: bool) -> Tensor:
    """Returns a view of the inputs of each position of the output.

    Args:
        layer: the convolution.
        bordered: (rows, channels, *space) or (rows, groups, *space, channels), contiguous, with its padding.
        places_first: whether positions come before the kernel's axes: (rows, ..., *positions, *kernel, ...) instead of
            (rows, ..., *kernel, *positions, ...).
    """
    steps, behind = bordered.stride(), 2 + len(layer.kernel_size)
    size = [
        (extent - dilation * (kernel - 1) - 1) // stride + 1
        for extent, kernel, dilation, stride in zip(
            bordered.shape[2:behind], layer.kernel_size, layer.dilation, layer.stride, strict=True
        )
    ]
    inside = [step * dilation for step, dilation in zip(steps[2:behind], layer.dilation, strict=True)]
    between = [step * stride for step, stride in zip(steps[2:behind], layer.stride, strict=True)]
    kernel = list(layer.kernel_size)
    shape, strides = [[*kernel, *size], [*size, *kernel]], [[*inside, *between], [*between, *inside]]
    return bordered.as_strided(
        [*bordered.shape[:2], *shape[places_first], *bordered.shape[behind:]],
        [*steps[:2], *strides[places_first], *steps[behind:]],
    )
