"""The clipped sum of per-record gradients (Abadi et al. 2016, arXiv:1607.00133), in one forward and one backward pass.

The backward pass goes through the layers' outputs and forms no gradient of a weight. Where it passes a layer, the
share of each record is measured or, where it is small, kept (see ``bookkeeping``); when all lengths are known, the
gradient of each weight is formed once, from what is scaled already.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from assay.errors import IncompatibleRecipeError
from assay.privacy.attention import attend
from assay.privacy.bookkeeping import Share, Stored
from assay.privacy.fallback import fallback
from assay.privacy.layers import Shares, rule_of
from assay.privacy.recurrent import unroll

Clipping = Literal["flat", "per_layer", "automatic"]
STABILITY = 0.01
"""γ of automatic clipping, the value of its paper."""
_MIXING = (nn.modules.batchnorm._BatchNorm, nn.SyncBatchNorm)


class PerRecordGradients:
    """Listens to a model's layers, and tells the gradient of each record from those of the others.

    The model itself stays what it was: the same module, the same parameter names, the same answers. With the first
    batch of two records or more it is checked once that no record's loss depends on another record, and that what was
    heard adds up to the gradient that autograd finds: a layer that mixes records, or uses a weight unheard, is found.

    Args:
        model: in which every layer keeps the records of a batch at axis 0.
        clipping: ``flat`` scales the whole gradient of a record to the clipping norm C where it is longer;
            ``per_layer`` each layer's part to C/√layers (McMahan et al. 2018, arXiv:1710.06963); ``automatic`` scales
            every gradient to nearly C, whatever its length (Bu et al. 2023, arXiv:2206.07136). One record moves
            the sum by at most C in each.

    Raises:
        IncompatibleRecipeError: a layer mixes the records of a batch, or cannot be heard.
    """

    def __init__(self, model: nn.Module, *, clipping: Clipping = "flat") -> None:
        _refuse_mixing(model)
        self.hooks_enabled = True
        self.notes: list[str] = []
        """Which layers take the slow way, and why, a sentence each."""
        self._clipping = clipping
        self._names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
        self._layers = list(_layers(model))
        self._groups = [list(self._names)] if clipping != "per_layer" else _sharing(layer for _, layer in self._layers)
        self._silencers: list[Callable[[], None]] = [model.register_forward_pre_hook(self._enter).remove]
        for name, layer in self._layers:
            self._listen(name, layer)
        self._checked = False
        self._roots: list[GradientEdge] = []
        self._heard: list[tuple[str, GradientEdge]] = []
        self._records: int | None = None
        self._pending: list[_Heard] = []
        self._found: dict[Tensor, Share] = {}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Forward and backward passes in here (an attack on the model, say) are not listened to."""
        self.hooks_enabled = False
        try:
            yield
        finally:
            self.hooks_enabled = True

    def clipped_sum(self, losses: Tensor, max_grad_norm: float) -> list[Tensor]:
        """Sum over records of each gradient clipped to norm at most ``max_grad_norm``, one tensor a parameter.

        Args:
            losses: (n,) one loss a record, each a function of its own record alone. A layer may have answered k times
                for each, in one forward pass of k · n rows: all records, then all again.
            max_grad_norm: clipping norm over all parameters together.

        Raises:
            IncompatibleRecipeError: the loss of one record depends on another, or a weight was used unheard.
        """
        try:
            expected = None if self._checked or len(losses) < 2 else self._check(losses)
            self._hear_all(losses)
            if expected is not None:
                self._compare(expected)
            return self._clipped(max_grad_norm)
        finally:
            self._roots, self._heard, self._pending, self._found, self._records = [], [], [], {}, None

    def remove(self) -> None:
        """Stop listening."""
        for silence in self._silencers:
            silence()
        self._silencers = []

    def _listen(self, name: str, layer: nn.Module) -> None:
        if isinstance(layer, nn.LSTM | nn.GRU | nn.MultiheadAttention) and _is_known(layer):
            run = attend if isinstance(layer, nn.MultiheadAttention) else unroll
            # An attribute of this one object: the class and what is saved of the module stay as they are.
            layer.forward = partial(self._run, name, layer, run)  # type: ignore[method-assign]
            self._silencers.append(lambda: delattr(layer, "forward"))
            return
        rule = rule_of(layer)
        if rule is None:
            slow = fallback(name, layer)
            self.notes.append(
                f"layer {name!r} is {type(layer).__name__}, for which there is no book-keeping rule: its gradients are "
                "taken by Opacus, one a record, which is slower and takes more memory"
            )
            hook = partial(self._after, name, lambda _, given, back, n: slow(given, back, n))
        else:
            hook = partial(self._after, name, lambda layer, given, back, n: rule(layer, given[0], back, n))
        self._silencers.append(layer.register_forward_hook(hook, with_kwargs=True).remove)

    def _enter(self, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Until the check, records want a gradient too: so records that are mixed before any layer are found."""
        if self._checked or not self._listening or not args or not isinstance(args[0], Tensor):
            return None
        x = args[0]
        if not x.is_floating_point() or x.requires_grad:
            return None
        x = x.detach().requires_grad_(True)
        edge = get_gradient_edge(x)
        x = x.clone()  # which the model may change in place
        self._roots.append(edge)
        self._heard.append(("the model's input", edge))
        return (x, *args[1:])

    def _run(self, name: str, layer: nn.Module, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._listening:
            return type(layer).forward(layer, *args, **kwargs)
        return run(layer, partial(self._hear, name), *args, **kwargs)

    def _after(  # noqa: PLR0917 - torch calls it
        self, name: str, rule: Callable[..., Shares], layer: nn.Module, args: Any, kwargs: Any, output: Any
    ) -> None:
        if not self._listening:
            return
        inputs = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
        given = [_wide(one.detach()) for one in inputs]
        self._hear(name, output, inputs, lambda back, n: rule(layer, given, back, n))

    def _hear(
        self,
        name: str,
        output: Tensor | Sequence[Tensor],
        inputs: Sequence[Tensor],
        shares: Callable[[Tensor, int], Shares],
    ) -> None:
        """Be told when the backward pass comes by; see ``layers.Ear``."""
        outputs = [output] if isinstance(output, Tensor) else list(output)
        heard = _Heard(name, shares, None if isinstance(output, Tensor) else len(outputs))
        # The backward pass reaches a layer only on its way to something: to another layer's output, or to its own.
        is_root = not any(one.requires_grad and not one.is_leaf for one in inputs)
        for number, one in enumerate(outputs):
            if not one.requires_grad:
                continue
            one.register_hook(partial(self._pass_by, heard, number))
            if is_root:
                self._roots.append(get_gradient_edge(one))
            if not self._checked:
                self._heard.append((name, get_gradient_edge(one)))

    def _pass_by(self, heard: "_Heard", number: int, back: Tensor) -> None:
        """The backward pass has come to an output of a product, or to one of its steps in time."""
        if self._records is None:
            return
        if heard.steps is None:
            self._add(heard, back)
            return
        if not heard.backs:
            self._pending.append(heard)
        heard.backs[number] = back

    def _add(self, heard: "_Heard", back: Tensor) -> None:
        """Add the shares of one product to those of its parameters."""
        assert self._records is not None
        if len(back) % self._records:
            raise IncompatibleRecipeError(
                f"layer {heard.name!r} gave {len(back)} rows for {self._records} records: per-record gradients need "
                "the records of a batch at axis 0 of every layer"
            )
        with torch.no_grad():
            for parameter, share in heard.take()(_wide(back.detach()), self._records):
                known = self._found.get(parameter)
                # A weight that was used before: lengths do not add up, gradients do.
                self._found[parameter] = share if known is None else Stored(known.each() + share.each())

    def _hear_all(self, losses: Tensor) -> None:
        """The backward pass."""
        self._records = len(losses)
        if self._roots:
            torch.autograd.grad(losses.sum(), self._roots, allow_unused=True)
        for heard in self._pending:
            self._add(heard, heard.joined)

    @torch.no_grad()
    def _clipped(self, max_grad_norm: float) -> list[Tensor]:
        limit = max_grad_norm / len(self._groups) ** 0.5
        sums: dict[Tensor, Tensor] = {}
        for group in self._groups:
            found = {parameter: self._found[parameter] for parameter in group if parameter in self._found}
            if not found:
                continue
            norms = torch.stack([share.squared_norms for share in found.values()]).sum(0).sqrt()
            if self._clipping == "automatic":
                factors = limit / (norms + STABILITY)
            else:
                factors = (limit / norms.clamp_min(1e-12)).clamp_max(1.0)
            for parameter in found:
                sums[parameter] = self._found.pop(parameter).weighted(factors).to(parameter.dtype)
        return [sums[p] if p in sums else torch.zeros_like(p) for p in self._names]

    def _check(self, losses: Tensor) -> list[Tensor | None]:
        """Refuse losses that depend on other records; autograd's gradient of each parameter, for ``_compare``."""
        n, half = len(losses), len(losses) // 2
        edges = [edge for _, edge in self._heard]
        of_first = torch.autograd.grad(losses[:half].sum(), edges, retain_graph=True, allow_unused=True)
        for (name, _), rows in zip(self._heard, of_first, strict=True):
            if rows is not None and (len(rows) % n or bool((rows.unflatten(0, (-1, n))[:, half:] != 0).any())):
                raise IncompatibleRecipeError(
                    f"the loss of one record depends on other records (seen at layer {name!r}): record-level privacy "
                    "clips the gradient of each record by itself; keep the records of a batch apart, at axis 0"
                )
        self._heard = []
        return list(torch.autograd.grad(losses.sum(), list(self._names), retain_graph=True, allow_unused=True))

    @torch.no_grad()
    def _compare(self, expected: list[Tensor | None]) -> None:
        """Refuse a model in which what was heard is not the gradient; then never ask again."""
        if not self._found:
            return
        lengths = torch.stack([share.squared_norms for share in self._found.values()]).sum(0).sqrt()
        ones, scale = torch.ones_like(lengths), float(lengths.sum())
        for (parameter, name), gradient in zip(self._names.items(), expected, strict=True):
            share = self._found.get(parameter)
            missing = torch.zeros_like(parameter) if gradient is None else gradient
            if share is not None:
                missing = missing - share.weighted(ones)
            tolerance = 0.05 if parameter.dtype in (torch.float16, torch.bfloat16) else 1e-3
            if bool(missing.norm() > tolerance * scale):
                raise IncompatibleRecipeError(
                    f"parameter {name!r} is used where per-record gradients cannot hear it: use it only in the forward "
                    "pass of the layer that holds it"
                )
        self._checked = True

    @property
    def _listening(self) -> bool:
        return self.hooks_enabled and torch.is_grad_enabled()


class _Heard:
    """A product with weights that the backward pass will come by.

    Args:
        name: of its layer.
        shares: from the gradient of its output to the share of each parameter.
        steps: how many outputs in time it has, which count as one product; None of a product with one output.
    """

    def __init__(self, name: str, shares: Callable[[Tensor, int], Shares], steps: int | None) -> None:
        self.name, self.steps = name, steps
        self.backs: dict[int, Tensor] = {}
        self._shares: Callable[[Tensor, int], Shares] | None = shares

    def take(self) -> Callable[[Tensor, int], Shares]:
        """The shares, once: they hold the product's input, which must not live as long as the graph does."""
        assert self._shares is not None
        shares, self._shares = self._shares, None
        return shares

    @property
    def joined(self) -> Tensor:
        """(rows, steps, width): nothing comes back from a step that the loss does not depend on."""
        assert self.steps is not None
        nothing = torch.zeros_like(next(iter(self.backs.values())))
        return torch.stack([self.backs.pop(step, nothing) for step in range(self.steps)], 1)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that are heard, each once and as a whole: those with a rule, and those that hold parameters."""
    inside: set[nn.Module] = set()
    for name, layer in model.named_modules():
        if layer in inside or not any(p.requires_grad for p in layer.parameters()):
            continue
        own = any(p.requires_grad for p in layer.parameters(recurse=False))
        if own or rule_of(layer) is not None or _is_known(layer):
            inside.update(layer.modules())
            yield name, layer


def _is_known(layer: nn.Module) -> bool:
    if type(layer) is nn.MultiheadAttention:
        return layer.bias_k is None and not layer.add_zero_attn
    return type(layer) in (nn.LSTM, nn.GRU) and not getattr(layer, "proj_size", 0)


def _sharing(layers: Iterator[nn.Module]) -> list[list[Tensor]]:
    """The trainable parameters by layer; layers that share one are one."""
    groups: list[dict[Tensor, None]] = []
    for layer in layers:
        own: dict[Tensor, None] = {p: None for p in layer.parameters() if p.requires_grad}
        shared = [group for group in groups if group.keys() & own.keys()]
        groups = [group for group in groups if not group.keys() & own.keys()]
        groups.append({p: None for group in (*shared, own) for p in group})
    return [list(group) for group in groups]


def _refuse_mixing(model: nn.Module) -> None:
    for name, layer in model.named_modules():
        if isinstance(layer, _MIXING):
            raise IncompatibleRecipeError(
                f"layer {name!r} is {type(layer).__name__}, which mixes the records of a batch; record-level "
                "privacy needs GroupNorm or LayerNorm instead"
            )


def _wide(tensor: Tensor) -> Tensor:
    """In float32 at least where it is a half: lengths of gradients need the range."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
