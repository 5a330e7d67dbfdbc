"""``nn.LSTM`` and ``nn.GRU``, one step after the other, so that every product with their weights can be recorded.

Torch's fused kernels give the gradient of a whole batch alone. The steps are those of the documentation of
``torch.nn.LSTM`` and ``torch.nn.GRU``; the result is that of the kernels up to the order of sums.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from assay.errors import IncompatibleRecipeError
from assay.privacy.layers import OnProduct, Shares, affine

RecurrentState = Tensor | tuple[Tensor, Tensor] | None


def unroll(
    layer: nn.LSTM | nn.GRU, recorder: OnProduct, x: Tensor, state: RecurrentState = None
) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor]]:
    """Runs the layer's forward pass step by step and reports each product to a recorder.

    Args:
        layer: an LSTM or GRU.
        recorder: is given every product with the layer's weights.
        x: (records, length, inputs), or (length, records, inputs) without ``batch_first``.
        state: initial state as for the layer; zeros by default.

    Returns:
        Outputs and last state, as the layer returns them.

    Raises:
        IncompatibleRecipeError: the sequences are packed, or there is no axis of records.
    """
    if isinstance(x, PackedSequence) or x.dim() != 3:
        raise IncompatibleRecipeError(
            f"{type(layer).__name__} was given packed sequences or a single one: per-record gradients need (records, "
            "length, width); give padded sequences, or use the model lstm, which closes its gates on padding"
        )
    x = x if layer.batch_first else x.transpose(0, 1)
    directions = 2 if layer.bidirectional else 1
    states = _initial(layer, x, state)
    last = []
    for depth in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            place = depth * directions + direction
            run = _Direction(layer, f"_l{depth}" + ("_reverse" if direction else ""), recorder)
            out, end = run(x.flip(1) if direction else x, tuple(one[place] for one in states))
            outputs.append(out.flip(1) if direction else out)
            last.append(end)
        x = torch.cat(outputs, -1)
        if depth + 1 < layer.num_layers:
            x = F.dropout(x, layer.dropout, layer.training)
    ends = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
    return x if layer.batch_first else x.transpose(0, 1), (ends[0], ends[1]) if len(ends) == 2 else ends[0]


def _initial(layer: nn.LSTM | nn.GRU, x: Tensor, state: RecurrentState) -> tuple[Tensor, ...]:
    """Returns hidden and, for an LSTM, cell states, each (layers · directions, records, width)."""
    if isinstance(state, tuple):
        return state
    if state is not None:
        return (state,)
    zeros = x.new_zeros(layer.num_layers * (2 if layer.bidirectional else 1), len(x), layer.hidden_size)
    return (zeros, zeros) if isinstance(layer, nn.LSTM) else (zeros,)


class _Direction:
    """One direction of one layer of the stack."""

    def __init__(self, layer: nn.LSTM | nn.GRU, suffix: str, recorder: OnProduct) -> None:
        self._lstm, self._recorder = isinstance(layer, nn.LSTM), recorder
        self._of_input = getattr(layer, f"weight_ih{suffix}"), getattr(layer, f"bias_ih{suffix}", None)
        self._of_state = getattr(layer, f"weight_hh{suffix}"), getattr(layer, f"bias_hh{suffix}", None)

    def __call__(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Maps (records, length, inputs) to (records, length, width) and the last state."""
        entering = F.linear(x, *self._of_input)
        self._recorder(entering, [x], partial(self._shares, self._of_input, x.detach()))
        before, recurring, states = [], [], []
        for of_input in entering.unbind(1):
            before.append(state[0].detach())
            recurring.append(F.linear(state[0], *self._of_state))
            state = (_lstm_step if self._lstm else _gru_step)(of_input, recurring[-1], *state)
            states.append(state[0])
        # The first state has no recorded ancestor, so the backward pass would not reach it: hence no inputs.
        self._recorder(recurring, [], partial(self._shares, self._of_state, torch.stack(before, 1)))
        return torch.stack(states, 1), state

    def _shares(
        self, weights: tuple[nn.Parameter, nn.Parameter | None], activations: Tensor, backprops: Tensor, n: int
    ) -> Shares:
        yield from affine(*weights, activations, backprops, n)


def _lstm_step(of_input: Tensor, of_state: Tensor, _: Tensor, cell: Tensor) -> tuple[Tensor, ...]:
    i, f, g, o = (of_input + of_state).chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru_step(of_input: Tensor, of_state: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
    (r, z, n), (of_r, of_z, of_n) = of_input.chunk(3, -1), of_state.chunk(3, -1)
    new = (n + (r + of_r).sigmoid() * of_n).tanh()
    update = (z + of_z).sigmoid()
    return ((1 - update) * new + update * hidden,)
