"""Tests whether a model keeps the records of a batch separate, on a copy of the model in float64.

The copy processes a few records together, some of them alone, and some of them beside other records than before.
Whatever else is in the batch, each record must have the same output and the same gradient, but for rounding. A branch
whose weights start at 0 would hide its effect, so the copy is tested with its weights as they are and, at the first
update, moved to either side.
"""

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.errors import IncompatibleRecipeError
from assay.privacy.calls import Call
from assay.privacy.precision import HALVES
from assay.privacy.state import layer_name

KEEP_APART = "record-level privacy clips the gradient of each record by itself; keep the records of a batch apart"
TOLERANCE = 1e-9
"""Relative tolerance of outputs and gradients in float64; rounding is a million times smaller."""
_ROUGH = 1e-5
"""The same for a model that cannot compute in float64, and for a whole batch in the model's own float32."""
_HALF = 0.02
"""The same for float16 and bfloat16."""
ROWS = 4
"""Number of records that the copy processes."""
_DROPPING = (nn.modules.dropout._DropoutNd, nn.RNNBase, nn.MultiheadAttention)
_ALONE = ((0, 2), (1, 3))
_BESIDE = ((0, 3), (1, 2))
"""Which of four rows are tested alone, and beside others; one or the other separates every two rows."""


def refuse_mixing(model: nn.Module, call: Call, *, records: int, recorder: object, update: int) -> None:
    """Raises if a model's output for a record, or its gradient, depends on other records.

    The model is tested in training mode, without dropout and with it, and in evaluation mode.

    Args:
        model: the network; a copy of it is tested.
        call: its arguments; a tensor whose length is that of the first holds one row a record, or k rows.
        records: number of records.
        recorder: the object that records gradients, whose hooks the copy keeps and must not copy.
        update: number of the update, from 1; at the first one the weights are moved, too.

    Raises:
        IncompatibleRecipeError: it does, or it cannot be tested; names the innermost layer at which it was seen.
    """
    if not call.rows or call.rows % records:
        raise IncompatibleRecipeError(
            f"the model was called with {call.rows} rows for {records} records, so that it cannot be asked whether "
            "their answers depend on other records: give the records of a batch at axis 0 of its first argument",
            setting="model",
            given=f"{call.rows} rows",
            allowed=f"a multiple of {records} rows",
        )
    with torch.random.fork_rng([call.device] if call.device.type == "cuda" else []), _modes(model):
        with torch.no_grad():
            _ask_whole(model, call, update)
        with torch.enable_grad():
            _Few(model, _sample(model, call, update), recorder).ask(moved=update == 1)


@contextmanager
def _modes(model: nn.Module) -> Iterator[None]:
    modes = {layer: layer.training for layer in model.modules()}
    try:
        yield
    finally:
        for layer, training in modes.items():
            layer.training = training


def _sample(model: nn.Module, call: Call, update: int) -> Call:
    """Returns four rows of the call; missing ones are made, or repeated if the model refuses them."""
    few = _chosen(call, update, made=True)
    try:
        with torch.no_grad():
            few.answers(model)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return _chosen(call, update, made=False)
    return few


def _chosen(call: Call, update: int, *, made: bool) -> Call:
    """Returns four rows. Missing ones are reversed and, where they are numbers, shifted copies; or plain copies."""
    chosen = np.sort(seeds.stream(0, "which rows", update).permutation(call.rows)[:ROWS]).tolist()

    def pick(tensor: Tensor) -> Tensor:
        few = tensor[chosen]
        if not made:
            return few[[place % len(few) for place in range(ROWS)]]
        while len(few) < ROWS:
            turned = few[:1].flatten().flip(0).view_as(few[:1])
            if turned.is_floating_point():
                turned = turned + 0.1 * (1 + len(few)) * few[:1].abs().mean().nan_to_num(1, 1, 1)
            few = torch.cat([few, turned])
        return few

    return call.changed(pick)


def _replaced(call: Call, places: Sequence[int], how: str) -> Call:
    """Returns the call with other records in some rows: copies of the other rows, zeros, or far larger numbers."""
    others = [row for row in range(call.rows) if row not in set(places)]
    source = [others[number % len(others)] for number in range(len(places))]

    def replace(tensor: Tensor) -> Tensor:
        changed, replacement = tensor.clone(), tensor[source]
        if tensor.is_floating_point() and how != "others":
            replacement = torch.zeros_like(replacement) if how == "nothing" else 1e3 * (replacement.abs() + 1)
        changed[list(places)] = replacement
        return changed

    return call.changed(replace)


def _ask_whole(model: nn.Module, call: Call, update: int) -> None:
    """Tests the whole batch in the model's own precision, with each half replaced in turn.

    Some mixing needs many rows.
    """
    if call.rows <= ROWS:
        return
    try:
        together = call.answers(model)
    except RuntimeError:  # on some processors the fused kernels of some layers do not support float16 or bfloat16
        return
    order = seeds.stream(0, "which half", update).permutation(call.rows).tolist()
    halves = order[: call.rows // 2], order[call.rows // 2 :]
    for kept, other in (halves, halves[::-1]):
        beside = _replaced(call, other, "others")
        if _differ(together[kept], beside.answers(model)[kept], _rounding(together)):
            raise _mixing(model, (call, kept), (beside, kept))


class _Other(NamedTuple):
    """The few records in another batch."""

    call: Call
    rows: Sequence[int]
    """Which of the few records are compared."""
    places: Sequence[int]
    """Their positions in this call."""
    may_fail: bool = False


class _Few:
    """A few records, and a copy of the model that processes them."""

    def __init__(self, model: nn.Module, call: Call, recorder: object) -> None:
        self._copy, self._own = _copied(model, recorder), call
        double, wider = _doubled(_copied(model, recorder)), call.changed(_double, all_tensors=True)
        self._is_double = _computes_in_double(double, wider)
        if self._is_double:
            self._copy, self._own = double, wider
        self._training = {layer: layer.training for layer in self._copy.modules()}

    def ask(self, *, moved: bool) -> None:
        """Tests training mode, without and with dropout, evaluation mode, and training mode with moved weights."""
        self._ask_training(gradients=True)
        if any(isinstance(layer, _DROPPING) and training for layer, training in self._training.items()):
            self._restore()
            self._ask(alone=False, dropping=True)
        self._copy.eval()
        self._ask(alone=not self._draws())
        for sign in (1, -1) if moved else ():
            with torch.no_grad():
                for parameter, (original, by) in zip(self._copy.parameters(), self._moves, strict=True):
                    parameter.copy_(original + sign * by)
            self._ask_training(gradients=sign == 1)

    @functools.cached_property
    def _moves(self) -> list[tuple[Tensor, Tensor]]:
        """Original value and displacement of each weight."""
        generator = torch.Generator().manual_seed(0)
        moves = []
        for parameter in self._copy.parameters():
            original = parameter.detach().clone()
            noise = torch.zeros_like(original)
            if original.is_floating_point() and original.numel():
                length = 0.1 + original.square().mean().sqrt()
                noise = 0.5 * length * torch.randn(original.shape, generator=generator).to(original)
            moves.append((original, noise))
        return moves

    def _restore(self) -> None:
        for layer, training in self._training.items():
            layer.training = training

    def _ask_training(self, *, gradients: bool) -> None:
        self._restore()
        for layer in self._copy.modules():
            if isinstance(layer, _DROPPING):
                layer.training = False
        draws = self._draws()
        self._ask(alone=not draws)
        if gradients:
            self._ask_gradients(alone=not draws)

    @torch.no_grad()
    def _draws(self) -> bool:
        """Returns whether the outputs are random."""
        one, other = (self._own.answers(self._copy, seed).nan_to_num() for seed in (0, 1))
        return not torch.equal(one, other)

    @torch.no_grad()
    def _ask(self, *, alone: bool, dropping: bool = False) -> None:
        """Tests the outputs of records beside others and, unless outputs are random, alone.

        Args:
            alone: whether records are tested without others, too.
            dropping: whether dropout is on. The number of masks may then depend on the batch (a recurrent network ends
                at its longest record), and masks of another place in the sequence are no sign of mixing.
        """
        together, drawn = self._own.answers(self._copy), self._drawn()
        for other in self._others(alone=alone):
            try:
                answers = other.call.answers(self._copy)
            except (RuntimeError, ValueError, IndexError, TypeError, ArithmeticError) as error:
                if other.may_fail:
                    continue
                raise IncompatibleRecipeError(
                    f"the model answers {ROWS} records, but not {other.call.rows} of them with others or none beside "
                    f"them, so that its answer depends on other records ({type(error).__name__}: "
                    f"{' '.join(str(error).split())[:200]}): {KEEP_APART}",
                    setting="model",
                ) from error
            if dropping and not torch.equal(drawn, self._drawn()):
                continue
            tolerance = self._tolerance(together, alone=other.call.rows < ROWS)
            if _differ(together[list(other.rows)], answers[list(other.places)], tolerance):
                raise _mixing(self._copy, (self._own, other.rows), (other.call, other.places))

    def _drawn(self) -> Tensor:
        """Returns the state of the random generator."""
        device = self._own.device
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()

    def _others(self, *, alone: bool) -> Iterator[_Other]:
        for kept, how in zip((*_BESIDE, *_BESIDE), ("others", "others", "nothing", "large"), strict=True):
            rest = [row for row in range(ROWS) if row not in kept]
            yield _Other(_replaced(self._own, rest, how), kept, kept, may_fail=how != "others")
        for kept in _ALONE if alone else ():
            yield _Other(self._own.only(kept), kept, range(len(kept)))

    def _ask_gradients(self, *, alone: bool) -> None:
        """Tests the gradients of some losses: with all other losses in the batch, beside other records, and alone."""
        parameters = {p: name for name, p in self._copy.named_parameters() if p.requires_grad}
        answers = self._own.answers(self._copy)
        if not parameters or not answers.requires_grad:
            return
        kept, rest = _ALONE
        first, second, whole = self._gradients(answers, [kept, rest, [*kept, *rest]], list(parameters))
        pairs = [([one + two for one, two in zip(first, second, strict=True)], whole)]
        beside = _replaced(self._own, rest, "others").answers(self._copy)
        pairs += [(first, self._gradients(beside, [kept], list(parameters))[0])]
        for rows, together in ((kept, first), (rest, second)) if alone else ():
            outputs = self._own.only(rows).answers(self._copy)
            pairs += [(together, self._gradients(outputs, [range(len(rows))], list(parameters))[0])]
        scale = max(float(one.nan_to_num(0, 0, 0).abs().amax()) for one in (*first, *second) if one.numel())
        for one, other in pairs:
            for name, expected, actual in zip(parameters.values(), one, other, strict=True):
                if _differ(expected, actual, self._tolerance(expected, alone=True), scale):
                    raise IncompatibleRecipeError(
                        f"the gradient of one record depends on other records (seen at parameter {name!r}), though its "
                        f"answer does not: {KEEP_APART}, in every backward pass too",
                        setting=name,
                    )

    @staticmethod
    def _gradients(answers: Tensor, groups: Sequence[Sequence[int]], parameters: list[Tensor]) -> list[list[Tensor]]:
        """Returns the gradients of the summed losses of each group of rows, one tensor a parameter."""
        slope = torch.randn(answers.shape[1], generator=torch.Generator().manual_seed(1)).to(answers)
        losses = (answers * slope + answers.tanh().square()).sum(1)
        by_group = []
        for rows in groups:
            gradients = torch.autograd.grad(losses[list(rows)].sum(), parameters, retain_graph=True, allow_unused=True)
            pairs = zip(gradients, parameters, strict=True)
            by_group.append([torch.zeros_like(p) if one is None else one.to_dense() for one, p in pairs])
        return by_group

    def _tolerance(self, answers: Tensor, *, alone: bool) -> float:
        """Returns the tolerance; greater for records alone, where other kernels may run."""
        if self._is_double:
            return TOLERANCE
        return _rounding(answers) * (100 if alone and answers.dtype not in HALVES else 1)


def _copied(model: nn.Module, recorder: object) -> nn.Module:
    try:
        return copy.deepcopy(model, {id(recorder): recorder})
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise IncompatibleRecipeError(
            f"the model cannot be copied ({type(error).__name__}: {' '.join(str(error).split())[:200]}), so that it "
            "cannot be asked whether its answers depend on other records: keep in its layers only what copy.deepcopy "
            "copies",
            setting="model",
        ) from error


def _double(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _doubled(model: nn.Module) -> nn.Module:
    """Returns the model in float64, with the tensors that are plain attributes of its layers."""
    model = model.double()
    for layer in model.modules():
        for name, value in vars(layer).items():
            if isinstance(value, Tensor):
                vars(layer)[name] = _double(value.detach())
    return model


@torch.no_grad()
def _computes_in_double(model: nn.Module, call: Call) -> bool:
    try:
        return call.answers(model).dtype == torch.float64
    except (RuntimeError, TypeError, ValueError):
        return False


def _rounding(answers: Tensor) -> float:
    if answers.dtype == torch.float64:
        return TOLERANCE
    return _HALF if answers.dtype in HALVES else _ROUGH


def _differ(one: Tensor, other: Tensor, tolerance: float, scale: float | None = None) -> bool:
    """Returns whether two outputs differ by more than rounding, relative to their scale."""
    if one.shape != other.shape:
        return True
    finite = one.isfinite()
    if not torch.equal(finite, other.isfinite()):
        return scale is None
    if not bool(finite.any()):
        return False
    largest = float(one[finite].abs().max()) if scale is None else scale
    return float((one - other)[finite].abs().max()) > tolerance * max(largest, 1e-30)


def _mixing(
    model: nn.Module, one: tuple[Call, Sequence[int]], other: tuple[Call, Sequence[int]]
) -> IncompatibleRecipeError:
    """Returns the error for a model whose output for the same records differs between calls; it names the layer."""
    name = _mixer(model, one, other)
    return IncompatibleRecipeError(
        f"the model's answer to one record depends on other records (seen at {layer_name(model, name)}): {KEEP_APART}",
        setting=name or "model",
    )


def _mixer(model: nn.Module, one: tuple[Call, Sequence[int]], other: tuple[Call, Sequence[int]]) -> str:
    """Returns the first and innermost layer whose output differs."""
    for (name, first), (_, second) in zip(_said(model, *one), _said(model, *other), strict=False):
        if first.shape == second.shape and _differ(first, second, _rounding(first)):
            return name
    return ""


def _said(model: nn.Module, call: Call, rows: Sequence[int]) -> list[tuple[str, Tensor]]:
    """Returns the output of each layer for some rows, in order."""
    outputs: list[tuple[str, Tensor]] = []

    def note(name: str, _layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.dim() and len(output) == call.rows:
            outputs.append((name, output.detach()[list(rows)]))

    hooks = [layer.register_forward_hook(partial(note, name)) for name, layer in model.named_modules()]
    try:
        call.answers(model)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
