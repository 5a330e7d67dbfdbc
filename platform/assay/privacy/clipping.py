"""Clipped sum of per-record gradients (Abadi et al. 2016, arXiv:1607.00133), in one forward and one backward pass.

The backward pass goes through the layers' outputs and forms no gradient of a weight. At each layer it measures the
share of each record or, where it is small, stores it (see ``bookkeeping``). When all lengths are known, the gradient of
each weight is formed once, already clipped.

Example::

    per_record = PerRecordGradients(model)
    losses = cross_entropy(model(x), y, reduction="none")
    sums = per_record.clipped_sum(losses, max_grad_norm=1.0)  # add noise to these, then divide
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from assay.errors import IncompatibleRecipeError
from assay.privacy import inspection, separation, state
from assay.privacy.attention import attend
from assay.privacy.calls import Call
from assay.privacy.fallback import fallback, forget
from assay.privacy.layers import Shares, rule_of
from assay.privacy.precision import (
    at_least_float32,
    full_precision,
    refuse_types,
    summing_type,
    wide_zeros,
    without_autocast,
)
from assay.privacy.recurrent import unroll
from assay.privacy.shares import Share, added, joint_lengths

Clipping = Literal["flat", "per_layer", "automatic"]
STABILITY = 0.01
"""γ of automatic clipping, the value of its paper."""


class PerRecordGradients:
    """Computes the clipped sum of per-record gradients, by hooks on the model's layers.

    The model stays unchanged: the same module, the same parameter names, the same outputs. From the first update on it
    is tested, now and then, whether the model keeps its records separate and all of its gradient is recorded; see
    ``inspection``.

    Args:
        model: in which every layer keeps the records of a batch at axis 0.
        clipping: ``flat`` scales the whole gradient of a record to the clipping norm C where it is longer;
            ``per_layer`` each layer's part to C/√layers (McMahan et al. 2018, arXiv:1710.06963); ``automatic`` scales
            every gradient to nearly C, whatever its length (Bu et al. 2023, arXiv:2206.07136). In each, one record
            changes the sum by at most C.

    Raises:
        IncompatibleRecipeError: a layer mixes the records of a batch, or cannot be recorded.
    """

    def __init__(self, model: nn.Module, *, clipping: Clipping = "flat") -> None:
        inspection.refuse_kinds(model)
        self.hooks_enabled = True
        """Whether gradients are recorded; some layers use a faster kernel when it is False."""
        self.notes: list[str] = []
        """Layers without a book-keeping rule, one sentence each."""
        self._model, self._clipping = model, clipping
        self._names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
        refuse_types(self._names)
        layers = list(_layers(model))
        places = {parameter: place for place, parameter in enumerate(self._names)}
        groups = [list(self._names)] if clipping != "per_layer" else _sharing(layer for _, layer in layers)
        # Biases first: their sums compute the scaled rows, which the products of the weights use again.
        self._groups = [[places[one] for one in sorted(group, key=Tensor.dim)] for group in groups]
        self._update = 1
        self._is_scheduled = inspection.is_due(1)
        self._passing_back = False
        self._asks_again = False
        self._asked_rows = 0
        self._step_check: state.StepCheck | None = None
        self._removers: list[Callable[[], object]] = []
        self._forget()
        try:
            for name, layer in layers:
                self._attach(name, layer)
        except IncompatibleRecipeError:
            self.remove()
            raise
        # Registered last: Opacus copies layers, and such a copy must not contain this object.
        self._removers.append(model.register_forward_pre_hook(self._enter, with_kwargs=True).remove)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stops recording within the context, for passes that are not part of the loss, such as attacks."""
        before, self.hooks_enabled = self.hooks_enabled, False
        try:
            yield
        finally:
            self.hooks_enabled = before

    def clipped_sum(self, losses: Tensor, max_grad_norm: float) -> list[Tensor]:
        """Returns the sum over records of each gradient, clipped to norm at most ``max_grad_norm``.

        A record whose gradient is not finite adds nothing: if training ended because of it, its end would reveal that
        record.

        Args:
            losses: (n,) one loss a record, each a function of its own record alone. A layer may have processed k rows
                of each record, in one forward pass of k · n rows: one row of every record, then the next row of every
                record.
            max_grad_norm: clipping norm over all parameters together.

        Returns:
            One tensor a parameter, of its shape, in the parameter's own type; for float16 and bfloat16 in float32 or
            float64. Add noise first, and round to the parameter's type afterwards.

        Raises:
            IncompatibleRecipeError: the loss of one record depends on another, a weight was used unrecorded, or the
                forward pass changed the model.
        """
        try:
            self._refuse_changed()
            self._passing_back = True
            with without_autocast(losses.device), full_precision(losses.device):
                expected = self._inspect(losses) if self._due else None
                self._pass_back(losses, keep_graph=expected is not None)
                if expected is not None:
                    again = partial(inspection.expected, losses, update=self._update)
                    inspection.refuse_unrecorded(self._names, self._found, expected, again, rough=self._rough)
                with torch.no_grad():
                    sums = self._clipped(max_grad_norm)
        except RuntimeError as error:
            if "use_reentrant" not in str(error):
                raise
            raise IncompatibleRecipeError(
                "the model uses torch.utils.checkpoint with use_reentrant=True, whose layers cannot be recorded; set "
                "use_reentrant=False",
                setting="use_reentrant",
                given=True,
                allowed=False,
            ) from error
        finally:
            self._passing_back = False
            self._forget()
        self._update += 1
        self._is_scheduled = inspection.is_due(self._update)
        self._asks_again = False
        return sums

    def ask_again(self) -> None:
        """Makes the next update test again whether the model keeps records separate."""
        self._asks_again = True

    def remove(self) -> None:
        """Removes all hooks from the model."""
        for remove in self._removers:
            remove()
        self._removers = []
        self._forget()

    def _forget(self) -> None:
        """Clears everything that was recorded."""
        self._held: state.LayerState | None = None
        self._noted: state.Noted | None = None
        self._grew = False
        self._call: Call | None = None
        self._roots: list[GradientEdge] = []
        self._kept: list[tuple[_Product, GradientEdge]] = []  # products with one row a record
        self._edges: list[tuple[str, GradientEdge]] = []
        self._records: int | None = None
        self._pending: list[_Product] = []
        self._found: dict[Tensor, Share] = {}
        self._rough = False

    def _attach(self, name: str, layer: nn.Module) -> None:
        if isinstance(layer, nn.LSTM | nn.GRU | nn.MultiheadAttention) and _is_known(layer):
            run = attend if isinstance(layer, nn.MultiheadAttention) else unroll
            # Set on this object only: its class and its state dict do not change.
            layer.forward = partial(self._run, name, layer, run)  # type: ignore[method-assign]
            self._removers.append(partial(delattr, layer, "forward"))
            return
        rule = rule_of(layer)
        if rule is None:
            of_all_inputs = fallback(name, layer)
            self._removers.append(partial(forget, layer))
            self.notes.append(
                f"layer {name!r} is {type(layer).__name__}, for which there is no book-keeping rule: its gradients are "
                "taken by Opacus, one a record, which is slower and takes more memory"
            )
        else:
            layer_rule = rule

            def of_all_inputs(activations: list[Tensor], backprops: Tensor, n: int) -> Shares:
                return layer_rule(layer, at_least_float32(activations[0]), backprops, n)

        hook = partial(self._after, name, of_all_inputs)
        self._removers.append(layer.register_forward_hook(hook, with_kwargs=True).remove)

    def _enter(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs before the forward pass of the whole model, and prepares the test if one is due."""
        if not self._recording:
            return None
        if self._passing_back:  # a checkpoint repeats the forward pass
            return self._rooted(args, kwargs)[0] if self._due else None
        rows = max(
            (one.shape[0] for one in (*args, *kwargs.values()) if isinstance(one, Tensor) and one.dim()), default=0
        )
        # A batch that has become at least twice as large may show what a small one did not.
        self._grew |= 0 < 2 * self._asked_rows <= rows
        due = self._due
        if due and self._held is None:
            self._asked_rows = max(self._asked_rows, rows)
            self._held = state.state_by_layer(model, ignored=[self], thorough=True)
            self._call = Call.of(args, kwargs)
        elif not due and self._noted is None:
            self._step_check = self._step_check or state.StepCheck(model, ignored=[self])
            self._noted = self._step_check.note()
        changed, x = self._rooted(args, kwargs) if due else (None, None)
        if x is not None:
            edge = get_gradient_edge(x)
            self._roots.append(edge)
            self._edges.append(("the model's input", edge))
        return changed

    @staticmethod
    def _rooted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """Returns the arguments with gradients required for the first one, and that tensor; None if impossible."""
        x = args[0] if args else None
        # A tensor that requires a gradient already may come from a recorded layer, such as word vectors.
        if not isinstance(x, Tensor) or x.requires_grad or not x.is_floating_point():
            return None, None
        x = x.detach().requires_grad_(True)
        return ((x.clone(), *args[1:]), kwargs), x  # a clone, which the model may change in place

    def _refuse_changed(self) -> None:
        """Raises if the forward pass changed the state of the model."""
        if self._held is not None:
            after = state.state_by_layer(self._model, ignored=[self], thorough=True)
            state.refuse_changed(self._model, self._held, after)
        elif self._noted is not None and self._step_check is not None:
            self._step_check.refuse_changed(self._noted)

    @property
    def _due(self) -> bool:
        return self._is_scheduled or self._grew or self._asks_again

    def _run(self, name: str, layer: nn.Module, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._recording:
            return type(layer).forward(layer, *args, **kwargs)
        return run(layer, partial(self._record, name), *args, **kwargs)

    def _after(  # noqa: PLR0917 - what torch gives a hook
        self,
        name: str,
        shares: Callable[[list[Tensor], Tensor, int], Shares],
        layer: nn.Module,
        args: Any,
        kwargs: Any,
        output: Any,
    ) -> None:
        if not self._recording:
            return
        if not isinstance(output, Tensor):
            raise IncompatibleRecipeError(
                f"layer {name!r} ({type(layer).__name__}) answers with a {type(output).__name__}, and per-record "
                "gradients know no rule for it: they need a layer that answers with one tensor, or nn.LSTM and nn.GRU "
                "without proj_size, or nn.MultiheadAttention without bias_k and zero attention"
            )
        inputs = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        # With one row a record the graph lives until the sum is formed anyway, and a detached view is not free.
        seen = inputs if output.dim() == 2 else [one.detach() if one.requires_grad else one for one in inputs]
        self._record(name, output, inputs, partial(shares, seen))

    def _record(
        self,
        name: str,
        output: Tensor | Sequence[Tensor],
        inputs: Sequence[Tensor],
        shares: Callable[[Tensor, int], Shares],
    ) -> None:
        """Registers a product for the backward pass; see ``layers.OnProduct``."""
        if self._passing_back:  # a checkpoint computes again what was recorded once
            return
        outputs = [output] if isinstance(output, Tensor) else list(output)
        product = _Product(name, shares, None if isinstance(output, Tensor) else len(outputs))
        # The backward pass must be given an edge to end at: the output of an earlier layer, or this layer's own.
        is_root = not ((self._roots or self._kept) and any(one.requires_grad and not one.is_leaf for one in inputs))
        for number, one in enumerate(outputs):
            if not one.requires_grad:
                continue
            if self._due:
                self._edges.append((name, get_gradient_edge(one)))
            if product.steps is None and one.dim() == 2:
                self._kept.append((product, get_gradient_edge(one)))
                continue
            one.register_hook(partial(self._pass_by, product, number))
            if is_root:
                self._roots.append(get_gradient_edge(one))

    def _inspect(self, losses: Tensor) -> list[inspection.Expected]:
        """Raises if losses depend on other records; returns autograd's own gradients, of each half of the records."""
        if self._call is not None:
            with self.paused():
                separation.refuse_mixing(
                    self._model, self._call, records=len(losses), recorder=self, update=self._update
                )
        if len(losses) > 1 and self._edges:
            inspection.refuse_mixed_losses(losses, self._edges, self._update)
        return inspection.expected(losses, list(self._names), self._update)

    def _pass_back(self, losses: Tensor, *, keep_graph: bool) -> None:
        """Runs one backward pass, down to the first recorded outputs; no gradient of a weight is formed."""
        self._records = len(losses)
        edges = [*self._roots, *(edge for _, edge in self._kept)]
        gradients: Sequence[Tensor | None] = ()
        if edges:
            gradients = torch.autograd.grad(losses.sum(), edges, retain_graph=keep_graph, allow_unused=True)
        with torch.no_grad():
            for product in self._pending:
                self._add(product, product.joined)
            for (product, _), backprops in zip(self._kept, gradients[len(self._roots) :], strict=True):
                if backprops is not None:
                    self._add(product, backprops)
        self._records = None  # further backward passes are not recorded

    def _pass_by(self, product: "_Product", number: int, backprops: Tensor | None) -> None:
        """Receives the gradient of an output of a product, or of one of its steps in time; None counts as zero."""
        if self._records is None or backprops is None:
            return
        if product.steps is None:
            self._add(product, backprops)
            return
        if not product.backprops:
            self._pending.append(product)
        product.backprops[number] = backprops

    def _add(self, product: "_Product", backprops: Tensor) -> None:
        """Adds the shares of one product to those of its parameters; precision is set, and no gradient is recorded."""
        assert self._records is not None
        if len(backprops) % self._records:
            raise IncompatibleRecipeError(
                f"layer {product.name!r} gave {len(backprops)} rows for {self._records} records: per-record gradients "
                "need the records of a batch at axis 0 of every layer"
            )
        full = at_least_float32(backprops)
        self._rough |= full.dtype != backprops.dtype
        for parameter, share in product.take()(full, self._records):
            recorded = self._found.get(parameter)
            self._found[parameter] = share if recorded is None else added(recorded, share)

    def _clipped(self, max_grad_norm: float) -> list[Tensor]:
        limit = max_grad_norm / len(self._groups) ** 0.5
        # By position: hashing a tensor runs Python code at every look-up.
        by_parameter, self._found = self._found, {}
        shares = {place: by_parameter.pop(p) for place, p in enumerate(self._names) if p in by_parameter}
        recorded = [{place: shares.pop(place) for place in group if place in shares} for group in self._groups]
        groups = [group for group in recorded if group]
        norms = [joint_lengths([share.norms for share in group.values()]) for group in groups]
        kept = None
        if not math.isfinite(sum(float(lengths.sum()) for lengths in norms)):
            kept = torch.stack(norms).isfinite().all(0)
            if not bool(kept.any()):
                return [wide_zeros(p) for p in self._names]
        sums: dict[int, Tensor] = {}
        for group, lengths in zip(groups, norms, strict=True):
            if self._clipping == "automatic":
                factors = limit / (lengths + STABILITY)
            else:
                factors = (limit / lengths).clamp_max(1.0)  # a length of 0 gives infinity, and so 1
            for place in list(group):
                sums[place] = group.pop(place).weighted(factors, kept)
        return [
            sums[place].to(summing_type(p)) if place in sums else wide_zeros(p) for place, p in enumerate(self._names)
        ]

    @property
    def _recording(self) -> bool:
        return self.hooks_enabled and torch.is_grad_enabled()


class _Product:
    """A product with weights, registered for the backward pass.

    Args:
        name: of its layer.
        shares: from the gradient of its output to the share of each parameter.
        steps: number of outputs in time, which count as one product; None for a product with one output.
    """

    def __init__(self, name: str, shares: Callable[[Tensor, int], Shares], steps: int | None) -> None:
        self.name, self.steps = name, steps
        self.backprops: dict[int, Tensor] = {}
        self._shares: Callable[[Tensor, int], Shares] | None = shares

    def take(self) -> Callable[[Tensor, int], Shares]:
        """Returns the shares and drops the reference to them: they hold the product's input, which must be freed."""
        assert self._shares is not None
        shares, self._shares = self._shares, None
        return shares

    @property
    def joined(self) -> Tensor:
        """(rows, steps, width) gradients of all steps; zeros for a step on which the loss does not depend."""
        assert self.steps is not None
        nothing = torch.zeros_like(next(iter(self.backprops.values())))
        return torch.stack([self.backprops.pop(step, nothing) for step in range(self.steps)], 1)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the layers that are recorded, each once and as a whole: those with a rule and those with parameters."""
    inside: set[nn.Module] = set()
    for name, layer in model.named_modules():
        if layer in inside or not any(p.requires_grad for p in layer.parameters()):
            continue
        has_parameters = any(p.requires_grad for p in layer.parameters(recurse=False))
        if has_parameters or rule_of(layer) is not None or _is_known(layer):
            inside.update(layer.modules())
            yield name, layer


def _is_known(layer: nn.Module) -> bool:
    if type(layer) is nn.MultiheadAttention:
        return layer.bias_k is None and not layer.add_zero_attn
    return type(layer) in (nn.LSTM, nn.GRU) and not getattr(layer, "proj_size", 0)


def _sharing(layers: Iterator[nn.Module]) -> list[list[Tensor]]:
    """Returns the trainable parameters by layer; layers that share a parameter form one group."""
    groups: list[dict[Tensor, None]] = []
    for layer in layers:
        parameters: dict[Tensor, None] = {p: None for p in layer.parameters() if p.requires_grad}
        shared = [group for group in groups if group.keys() & parameters.keys()]
        groups = [group for group in groups if not group.keys() & parameters.keys()]
        groups.append({p: None for group in (*shared, parameters) for p in group})
    return [list(group) for group in groups]
