"""Long short-term memory (Hochreiter & Schmidhuber 1997) over word vectors or signals."""

import warnings
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from assay.data.base import Form
from assay.errors import SpecError
from assay.models.base import Architecture
from assay.models.padding import close_up, occupied
from assay.registry import register

# The weights belong to separate layers, and cuDNN is given a concatenated copy on purpose.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single", category=UserWarning)


@register("model")
class LSTM(Architecture):
    """Reads a sequence in both directions, pools its states over time, and ends in one linear layer.

    A position whose vector is all zeros is padding and changes no state, wherever it is. Without attention the pool is
    the maximum of each state over time; on SST-2 this, the mean and attention are equally accurate. All weights are in
    ``nn.Linear`` layers, so it can train privately, in about one and a half times the time of plain training.
    """

    name: Literal["lstm"] = "lstm"
    hidden: int = Field(default=64, ge=1)
    """Width of the state of one direction."""
    layers: int = Field(default=1, ge=1)
    bidirectional: bool = True
    attention: bool = False
    """Pool by additive attention (Bahdanau et al. 2015, arXiv:1409.0473), whose weights are also an explanation."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Fraction of the inputs of each layer that is dropped, including the first and the last layer."""
    channels_first: bool = False
    """Whether records are (channels, samples) without padding, as signals always are; otherwise (length, dimension)."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        if len(shape) != 2:
            fits = "cnn or resnet18" if len(shape) == 3 else "mlp"
            raise SpecError(
                "lstm needs sequences of vectors (length, dimension), or signals (channels, samples) with "
                f"channels_first: true; these records have shape {shape}: use {fits}",
                setting="model",
                given=self.name,
                allowed=tuple(fits.split(" or ")),
            )
        return Recurrent(
            shape[0] if self.channels_first else shape[1],
            classes,
            hidden=self.hidden,
            layers=self.layers,
            directions=2 if self.bidirectional else 1,
            attention=self.attention,
            dropout=self.dropout,
            channels_first=self.channels_first,
        )

    def build_for(self, form: Form, *, seed: int) -> nn.Module:
        if form.modality == "signal" and not self.channels_first:
            return self.model_copy(update={"channels_first": True}).build_for(form, seed=seed)
        return super().build_for(form, seed=seed)


class Recurrent(nn.Module):
    """The network of ``LSTM``: from (n, length, inputs), or (n, inputs, length) with ``channels_first``, to logits."""

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    def __init__(
        self,
        inputs: int,
        classes: int,
        *,
        hidden: int,
        layers: int,
        directions: int,
        attention: bool,
        dropout: float,
        channels_first: bool,
    ) -> None:
        super().__init__()
        width = hidden * directions
        self.channels_first = channels_first
        self.drops = nn.ModuleList(nn.Dropout(dropout) for _ in range(layers))
        self.layers = nn.ModuleList(
            Layer(width if place else inputs, hidden, directions=directions) for place in range(layers)
        )
        self.attention = Attention(width, hidden) if attention else None
        self.last_drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, kept = self._states(x)
        if self.attention is not None:
            pooled = (self.attention(states, kept)[..., None] * states).sum(1)
        else:
            # An empty sequence has the states 0; in all others, padding is excluded from the maximum.
            nothing = ~kept & kept.any(1, keepdim=True)
            pooled = states.masked_fill(nothing[..., None], -torch.inf).amax(1)
        return self.head(self.last_drop(pooled))

    def attention_weights(self, x: Tensor) -> Tensor:
        """Returns the attention weight of each position; they sum to 1 over words, and are 0 on padding.

        Args:
            x: (n, length, inputs), or (n, inputs, length) with ``channels_first``.

        Returns:
            (n, length) weights.

        Raises:
            SpecError: the network pools without attention.
        """
        if self.attention is None:
            raise SpecError(
                "this lstm pools without attention; build it with attention: true to have its weights",
                setting="attention",
                given=False,
                allowed=True,
            )
        states, kept = self._states(x)
        weights = self.attention(states, kept)
        if self.channels_first:
            return weights
        where = occupied(x)
        # Both masks have the words of each sequence in the same order.
        return torch.zeros_like(where, dtype=weights.dtype).masked_scatter(where, weights[kept])

    def _states(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the states (n, longest, width), and (n, longest) bool: which of them are not padding."""
        if self.channels_first:
            x = x.transpose(1, 2)
            kept = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            x, kept = close_up(x)
        for drop, layer in zip(self.drops, self.layers, strict=True):
            x = layer(drop(x), kept)
        return x, kept


class Attention(nn.Module):
    """Additive attention: one score a state, and a softmax over all states that are not padding."""

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.bend = nn.Linear(width, hidden), nn.Tanh()
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, states: Tensor, kept: Tensor) -> Tensor:
        scores = self.score(self.bend(self.inner(states))).squeeze(-1)
        # The least number, not −∞, so that an empty sequence has finite weights, too.
        return scores.masked_fill(~kept, torch.finfo(scores.dtype).min).softmax(1)


class LSTMDirection(nn.Module):
    """The weights of one direction, in the order of ``nn.LSTM``: gates i, f, g, o; one bias, that of the input."""

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.input, self.recurrent = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden, bias=False)
        with torch.no_grad():
            self.input.bias.view(4, hidden)[1] = 1.0  # remember at first (Jozefowicz et al. 2015)


class Layer(nn.Module):
    """All directions over a sequence, (n, length, inputs) to (n, length, directions · hidden); 0 at padding.

    Torch's fused kernel computes it. But a hook on one of the ``nn.Linear`` layers must be called at every use of a
    weight, and the kernel calls no layer. So where a layer has an active hook, each layer is called once, with all
    positions.
    """

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    def __init__(self, inputs: int, hidden: int, *, directions: int) -> None:
        super().__init__()
        self.directions = nn.ModuleList(LSTMDirection(inputs, hidden) for _ in range(directions))

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        weights = [layer for direction in self._directions for layer in (direction.input, direction.recurrent)]
        return self._heard(x, kept) if any(_listens(hook) for hook in _hooks(weights)) else self._fused(x, kept)

    def _fused(self, x: Tensor, kept: Tensor) -> Tensor:
        """Computes the states by torch's fused kernel."""
        hidden = self.width // len(self.directions)
        # One more input marks padding, and closes the gates there; see ``_run``.
        closing = x.new_tensor([-_CLOSED, -_CLOSED, 0.0, -_CLOSED]).repeat_interleave(hidden)[:, None]
        weights: list[Tensor] = []
        for direction in self._directions:
            weights += [torch.cat([direction.input.weight, closing], 1), direction.recurrent.weight]
            weights += [direction.input.bias, torch.zeros_like(direction.input.bias)]
        start = x.new_zeros(len(self.directions), len(x), hidden)
        x = torch.cat([x, (~kept)[..., None].to(x)], -1)
        # For the kernel, "training" means that a backward pass may follow; otherwise cuDNN supports none.
        may_follow, both_ways = torch.is_grad_enabled(), len(self.directions) == 2
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, may_follow, both_ways, True)[0]

    def _heard(self, x: Tensor, kept: Tensor) -> Tensor:
        """Computes the states without a graph first, then calls the recurrent layer once with all states.

        The graph then states that a change of the output of either layer changes the later states as in
        ``_Recurrence.backward``. This is the exact gradient, without a call of a layer at each step.
        """
        entering = [direction.input(x) for direction in self._directions]
        weights = torch.stack([direction.recurrent.weight.detach().T for direction in self._directions])
        with torch.no_grad():
            course = _run(_in_time(entering), weights, ~_in_time([kept] * len(entering)))
        before = _in_order(course.states[:-1])
        again = [direction.recurrent(b) for direction, b in zip(self._directions, before, strict=True)]
        states = _Recurrence.apply(course, weights, *entering, *again)
        return torch.cat(_in_order(states), -1)

    @property
    def width(self) -> int:
        """Width of the states of all directions together."""
        return sum(direction.recurrent.in_features for direction in self._directions)

    @property
    def _directions(self) -> Iterator[LSTMDirection]:
        for direction in self.directions:
            assert isinstance(direction, LSTMDirection)
            yield direction


_CLOSED = 1e4
"""Subtracted from a gate's input, it makes the gate 0 whatever the other inputs are."""


def _hooks(layers: list[nn.Linear]) -> Iterator[Any]:
    for layer in layers:
        for hooks in (layer._forward_pre_hooks, layer._forward_hooks, layer._backward_pre_hooks, layer._backward_hooks):
            yield from hooks.values()


def _listens(hook: Any) -> bool:
    """Returns whether a hook is active. Hooks of per-record gradients stay registered while they are paused."""
    owner = getattr(getattr(hook, "func", hook), "__self__", None)
    return getattr(owner, "hooks_enabled", True)


def _in_time(each: list[Tensor]) -> Tensor:
    """Returns (n, length, ...) of each direction, in its reading order: (length, directions, n, ...)."""
    steps = [one.transpose(0, 1) for one in each]
    return torch.stack([steps[0], *(one.flip(0) for one in steps[1:])], 1)


def _in_order(read: Tensor) -> list[Tensor]:
    """Reverses ``_in_time``."""
    forward, *backward = read.unbind(1)
    return [one.transpose(0, 1) for one in (forward, *(one.flip(0) for one in backward))]


class _Course(NamedTuple):
    """All intermediate results: (length, directions, n, ...)."""

    gates: Tensor
    """(..., 4 · hidden) i, f, g and o, after their sigmoid or tanh."""
    cells: Tensor
    """(length + 1, ...) cells, with 0 before the first step."""
    squashed: Tensor
    """tanh of the cells after each step."""
    states: Tensor
    """(length + 1, ...) states, with 0 before the first step."""


def _run(entering: Tensor, weights: Tensor, padded: Tensor) -> _Course:
    """Computes one step after the other, for all directions at once.

    Args:
        entering: (length, directions, n, 4 · hidden) inputs' part of the gates; overwritten by the gates.
        weights: (directions, hidden, 4 · hidden).
        padded: (length, directions, n) bool: padding.
    """
    # Closed gates keep state and cell at exactly 0: at the start of the backward direction, and after the end.
    entering += entering.new_zeros(padded.shape).masked_fill_(padded, -torch.inf)[..., None]
    hidden = weights.shape[1]
    cells = entering.new_zeros(len(entering) + 1, *entering.shape[1:3], hidden)
    squashed, states = torch.empty_like(cells[1:]), torch.zeros_like(cells)
    course = _Course(entering, cells, squashed, states)
    # Views of every step are created at once: indexing costs as much as the small products of a step.
    parts = [part.unbind() for part in (entering, entering[..., : 2 * hidden], *entering.chunk(4, -1))]
    before = zip(states[:-1].unbind(), cells[:-1].unbind(), strict=True)
    after = zip(states[1:].unbind(), cells[1:].unbind(), squashed.unbind(), strict=True)
    for (gates, i_and_f, i, f, g, o), (h, c), (new_h, new_c, bent) in zip(
        zip(*parts, strict=True), before, after, strict=True
    ):
        gates.baddbmm_(h, weights)
        i_and_f.sigmoid_()
        torch.mul(f, c, out=new_c).addcmul_(i, g.tanh_())
        torch.mul(o.sigmoid_(), torch.tanh(new_c, out=bent), out=new_h)
    return course


class _Recurrence(torch.autograd.Function):
    """Maps the two summands of each direction's gates, (n, length, 4 · hidden), to the states."""

    @staticmethod
    def forward(ctx: Any, course: _Course, weights: Tensor, *summands: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *course)
        return course.states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        weights, gates, cells, squashed, _ = ctx.saved_tensors
        of_gates = _in_order(_run_back(slope, weights, gates, cells, squashed))
        return None, None, *of_gates, *of_gates


def _run_back(slope: Tensor, weights: Tensor, gates: Tensor, cells: Tensor, squashed: Tensor) -> Tensor:
    """Returns the whole gradient of each gate's sum, (length, directions, n, 4 · hidden).

    Args:
        slope: (length, directions, n, hidden) gradient of the states.
        weights: (directions, hidden, 4 · hidden).
        gates: as ``_Course.gates``.
        cells: as ``_Course.cells``.
        squashed: as ``_Course.squashed``.
    """
    i, f, g, o = gates.chunk(4, -1)
    # Derivatives with respect to each gate's sum: of the cell for the first three, of the state for the last.
    gradients = torch.empty_like(gates)
    for given, gate, bent_back, place in zip(
        (g, cells[:-1], i, squashed),
        (i, f, g, o),
        (_SIGMOID, _SIGMOID, _TANH, _SIGMOID),
        gradients.chunk(4, -1),
        strict=True,
    ):
        bent_back.grad_input(given, gate, grad_input=place)
    to_state = _TANH(o, squashed)
    back = weights.transpose(1, 2).contiguous()
    by_gate = gradients.unflatten(-1, (4, -1))
    parts = [part.unbind() for part in (gradients, by_gate[..., :3, :], by_gate[..., 3, :], to_state, f, slope)]
    of_state, of_cell = torch.zeros_like(slope[0]), torch.zeros_like(slope[0])
    for step, to_cell, to_output, cell_to_state, kept, state_gradient in reversed(list(zip(*parts, strict=True))):
        of_state = state_gradient + of_state
        of_cell.addcmul_(of_state, cell_to_state)
        to_cell.mul_(of_cell[..., None, :])
        to_output.mul_(of_state)
        of_cell.mul_(kept)
        of_state = torch.bmm(step, back)
    return gradients


_SIGMOID, _TANH = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
"""Gradient of the argument from the gradient of the result and the result itself, in one kernel."""
