"""Networks that mix the records of a batch, or keep something of them, each in a way of its own."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 3


class Mixer(nn.Module):
    """Two linear layers, and between them ``mix``."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 5), nn.Linear(5, CLASSES)
        self.prepare()

    def prepare(self) -> None:
        """What ``mix`` needs."""

    def mix(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.first(x)))


def mixer(mix: Callable[[Any, Tensor], Tensor], prepare: Callable[[Any], object] | None = None) -> type[Mixer]:
    return type("Drawn", (Mixer,), {"mix": mix, **({"prepare": prepare} if prepare else {})})


class Mean(torch.autograd.Function):
    """Takes the mean of the batch away in the backward pass alone."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, back: Tensor) -> Tensor:
        return back - back.mean(0)


class Saved(torch.autograd.Function):
    """Scales the backward pass by what the forward pass saw of the batch."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x.clone()

    @staticmethod
    def backward(context: Any, back: Tensor) -> Tensor:
        return back * context.saved_tensors[0].mean()


class Normed(Mean):
    """Scales the backward pass by its own length over the batch."""

    @staticmethod
    def backward(_: Any, back: Tensor) -> Tensor:
        return back / back.norm()


class DropsAndMixes(nn.Dropout):
    """Mixes where dropout is, while it trains."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - x.mean(0).detach() if self.training else x


def _rezero(model: Any, h: Tensor) -> Tensor:
    return h + model.gate(h.new_ones(len(h), 1)) * (h - h.mean(0))


def _closed_gate(model: Any) -> None:
    model.gate = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.gate.weight)


def _threshold(model: Any, h: Tensor) -> Tensor:
    return model.gate(h) + h - (h.mean(0) if model.gate.weight.detach().mean() > 0.01 else 0)


def _zeros(model: Any) -> None:
    model.gate = nn.Linear(5, 5)
    nn.init.zeros_(model.gate.weight)


MIXERS: dict[str, type[Mixer]] = {
    "sort": mixer(lambda _, h: h.sort(0).values),
    "ranks": mixer(lambda _, h: h * (1 + 0.1 * h[:, 0].argsort().argsort()[:, None])),
    "top of the batch": mixer(lambda _, h: h - h.topk(1, 0).values.detach()),
    "softmax over the batch": mixer(lambda _, h: h * h.softmax(0)),
    "detached mean": mixer(lambda _, h: h - h.mean(0).detach()),
    "a trace of the mean": mixer(lambda _, h: h - 1e-7 * h.mean(0).detach()),
    "distinct rows": mixer(lambda _, h: h * len(torch.unique((h > 0).long(), dim=0))),
    "cumulative sum": mixer(lambda _, h: h.cumsum(0)),
    "attention over the batch": mixer(lambda _, h: (h @ h.T).softmax(1) @ h),
    "branch on the maximum": mixer(lambda _, h: 2 * h if h.max() > 1.2 else h),
    "row of the longest": mixer(lambda _, h: h + h[h.norm(dim=1).argmax()]),
    "size of the batch": mixer(lambda _, h: h / len(h)),
    "in training only": mixer(lambda model, h: h - h.mean(0) if model.training else h),
    "for large values only": mixer(lambda _, h: h - h.mean(0) if h.abs().max() > 50 else h),
    "for many records only": mixer(lambda _, h: h - h.mean(0).detach() if len(h) > 10 else h),
    "records as channels": mixer(
        lambda model, h: model.across(h[None])[0], lambda model: setattr(model, "across", nn.Conv1d(16, 16, 1))
    ),
    "a fixed mix": mixer(
        lambda model, h: model.weights @ h, lambda model: model.register_buffer("weights", torch.randn(16, 16))
    ),
    "einsum over two records": mixer(lambda _, h: torch.einsum("bi,bj,cj->ci", h, h, h) / 16),
    "backward pass, mean": mixer(lambda _, h: Mean.apply(h)),
    "backward pass, saved": mixer(lambda _, h: Saved.apply(h)),
    "backward pass, length": mixer(lambda _, h: Normed.apply(h)),
    "maximum": mixer(lambda _, h: h - h.amax(0)),
    "detached maximum": mixer(lambda _, h: h - h.amax(0).detach()),
    "one maximum of all": mixer(lambda _, h: h / h.abs().max().detach()),
    "behind a gate of 0": mixer(_rezero, _closed_gate),
    "behind a threshold of weights": mixer(_threshold, _zeros),
    "neighbour": mixer(lambda _, h: h + h.roll(1, 0)),
    "pairs": mixer(lambda _, h: h + h.view(-1, 2, 5).flip(1).reshape(-1, 5)),
    "quantile": mixer(lambda _, h: h.clamp(max=h.detach().quantile(0.9))),
    "functional batch norm": mixer(lambda _, h: F.batch_norm(h, None, None, training=True)),
    "instance norm over records": mixer(lambda _, h: F.instance_norm(h.T[None])[0].T),
    "beside random dropout": mixer(lambda _, h: F.dropout(h, 0.5, True) - h.mean(0).detach()),
    "within dropout": mixer(lambda model, h: model.drop(h), lambda model: setattr(model, "drop", DropsAndMixes(0.5))),
    "hook": mixer(
        lambda _, h: h,
        lambda model: model.first.register_forward_hook(lambda _, __, out: out - out.mean(0).detach()),
    ),
}


class Box:
    """An object with an attribute."""

    def __init__(self) -> None:
        self.value = 0.0


class Slot:
    """An object without a dictionary."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = torch.zeros(5)


def _boxed(model: Any, h: Tensor) -> Tensor:
    model.box.value = model.box.value + h.detach().mean(0)
    return h - model.box.value


def _slotted(model: Any, h: Tensor) -> Tensor:
    model.box.value += h.detach().mean(0).float()
    return h - model.box.value


def _nested(model: Any, h: Tensor) -> Tensor:
    model.kept["a"]["b"] = 0.9 * model.kept["a"]["b"] + float(h.detach().mean())
    return h - model.kept["a"]["b"]


def _past_the_count(model: Any, h: Tensor) -> Tensor:
    model.mean.data.mul_(0.9).add_(0.1 * h.detach().mean(0))
    return h - model.mean


def _banked(store: list[Tensor], h: Tensor) -> Tensor:
    store.append(h.detach().mean(0))
    return h - store[0]


def _closure() -> Callable[[Any, Tensor], Tensor]:
    store: list[Tensor] = []
    return lambda _, h: _banked(store, h)


GLOBAL = {"mean": 0.0}
REBOUND = 0.0


def _in_a_global(_: Any, h: Tensor) -> Tensor:
    GLOBAL["mean"] = 0.9 * GLOBAL["mean"] + float(h.detach().mean())
    return h - GLOBAL["mean"]


def _rebinding(_: Any, h: Tensor) -> Tensor:
    global REBOUND  # noqa: PLW0603 - this is what is tested
    REBOUND = 0.9 * REBOUND + float(h.detach().mean())
    return h - REBOUND


def _of_the_function(_: Any, h: Tensor) -> Tensor:
    vars(_of_the_function)["mean"] = vars(_of_the_function).get("mean", 0.0) + float(h.detach().mean())
    return h - vars(_of_the_function)["mean"]


class OfTheClass(Mixer):
    """Keeps records in a list of the class."""

    seen: list[Tensor] = []

    def mix(self, h: Tensor) -> Tensor:
        return _banked(self.seen, h)


class NumberOfTheClass(Mixer):
    """Keeps a number at the class."""

    mean = 0.0

    def mix(self, h: Tensor) -> Tensor:
        type(self).mean += float(h.detach().mean())
        return h - type(self).mean


def _after(model: Any, h: Tensor) -> Tensor:
    model.calls += 1
    return h - h.mean(0) if model.calls > 1000 else h


KEEPERS: dict[str, type[Mixer]] = {
    "object": mixer(_boxed, lambda model: setattr(model, "box", Box())),
    "object without a dictionary": mixer(_slotted, lambda model: setattr(model, "box", Slot())),
    "two dictionaries deep": mixer(_nested, lambda model: setattr(model, "kept", {"a": {"b": 0.0}})),
    "past the count of writes": mixer(_past_the_count, lambda model: model.register_buffer("mean", torch.zeros(5))),
    "closure": mixer(_closure()),
    "partial function": mixer(
        lambda model, h: model.part(h), lambda model: setattr(model, "part", functools.partial(_banked, []))
    ),
    "global dictionary": mixer(_in_a_global),
    "global name": mixer(_rebinding),
    "attribute of a function": mixer(_of_the_function),
    "list of the class": OfTheClass,
    "number of the class": NumberOfTheClass,
    "calls counted": mixer(_after, lambda model: setattr(model, "calls", 0)),
    "calls counted by an iterator": mixer(
        lambda model, h: h - h.mean(0) if next(model.count) > 1000 else h,
        lambda model: setattr(model, "count", itertools.count()),
    ),
}

SOUND: dict[str, type[Mixer]] = {
    "one mask for all": mixer(lambda _, h: h * (torch.rand(1, 5, dtype=h.dtype, device=h.device) > 0.5)),
    "dropout": mixer(lambda model, h: F.dropout(h, 0.5, model.training)),
    "noise": mixer(lambda _, h: h + torch.randn_like(h)),
    "through float32": mixer(lambda model, h: h.float().to(model.head.weight.dtype)),
    "a tensor as attribute": mixer(lambda model, h: h @ model.turn, lambda model: setattr(model, "turn", torch.eye(5))),
    "constants": mixer(lambda model, h: h * model.scales["a"][0], lambda model: setattr(model, "scales", {"a": [2.0]})),
}
