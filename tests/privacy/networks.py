"""Small networks of every layer that per-record gradients know, and records for them."""

import random
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 3


class Mean(nn.Module):
    """Averages everything between the first and the last axis."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1, -2).mean(1) if x.dim() > 2 else x


class Channels(nn.Module):
    """Averages everything behind the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


class Last(nn.Module):
    """The last state of a recurrent layer, from (n, length, width)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        if self.layer.batch_first:
            return self.layer(x)[0][:, -1]
        return self.layer(x.transpose(0, 1))[0][-1]


class All(nn.Module):
    """Every state of a recurrent layer, from (n, length, width)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Ends(nn.Module):
    """All final states of a recurrent layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        _, end = self.layer(x)
        ends = torch.cat(end) if isinstance(end, tuple) else end
        return ends.transpose(0, 1).flatten(1)


class Attends(nn.Module):
    """Attention of a sequence to itself, or to one made from it."""

    def __init__(
        self, *, crossed: int, width: int = 6, heads: int = 2, batch_first: bool = True, **settings: int
    ) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(width, heads, batch_first=batch_first, **settings)
        self.crossed = crossed

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.layer.batch_first else x.transpose(0, 1)
        query, key, value = x, x, x
        if self.crossed:
            key = value = x.tanh()
        if self.crossed == 2:
            value = x.sin()
        out = self.layer(query, key, value, need_weights=self.crossed == 1)[0]
        return out if self.layer.batch_first else out.transpose(0, 1)


class Twice(nn.Module):
    """Uses one layer twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.layer(x)))


class Tied(nn.Module):
    """Words in and words out by one table (Press and Wolf 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner = nn.Embedding(11, 6), nn.Linear(6, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.inner(self.words(x)))).mean(1)


class Total(nn.Module):
    """Adds up the positions of a sequence, of which there may be none."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(1)


class Cut(torch.autograd.Function):
    """Gives nothing back, where others give zeros."""

    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: object, back: Tensor) -> None:
        return None


class HalfCut(nn.Module):
    """Uses a layer once as it is, and once where no gradient comes back."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + Cut.apply(self.layer(torch.tanh(x)))


class Scaled(nn.Module):
    """Parameters of a kind that no rule knows."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.inner = nn.Parameter(torch.linspace(0.5, 1.5, 5)), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.inner(x)) * self.scale


class InPlace(nn.Module):
    """Residual additions in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu_(self.first(x))
        out = self.second(out.clone()) + out
        return F.relu_(out)


def frozen(first: nn.Module, *rest: nn.Module) -> nn.Module:
    first.requires_grad_(False)
    return nn.Sequential(first, *rest)


def only_bias() -> nn.Module:
    layer = nn.Conv2d(2, 4, 3)
    layer.weight.requires_grad_(False)
    return nn.Sequential(layer, nn.ReLU(), Channels(), nn.Linear(4, CLASSES))


def convolved(channels: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Tanh(), Channels(), nn.Linear(channels, CLASSES))


def sequenced(width: int, *layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, Mean(), nn.Linear(width, CLASSES))


TABLE, SEQUENCE, IMAGE, SIGNAL, WORDS, SHORT = (5,), (7, 6), (2, 9, 8), (2, 17), (7,), (3, 6)
"""Shapes of one record."""

NETWORKS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "linear": (TABLE, lambda: nn.Linear(5, CLASSES)),
    "mlp": (TABLE, lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(inplace=True), nn.Linear(8, CLASSES, bias=False))),
    "linear over positions": (SEQUENCE, lambda: sequenced(9, nn.Linear(6, 9), nn.Tanh())),
    "wide linear over positions": (SHORT, lambda: sequenced(40, nn.Linear(6, 60), nn.Tanh(), nn.Linear(60, 40))),
    "linear over no positions": ((0, 6), lambda: nn.Sequential(nn.Linear(6, 4), Total(), nn.Linear(4, CLASSES))),
    "linear over two axes": (IMAGE, lambda: sequenced(5, nn.Linear(8, 5), nn.Tanh())),
    "conv2d": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, 3))),
    "wide conv2d": (IMAGE, lambda: convolved(40, nn.Conv2d(2, 30, 5, stride=4), nn.ReLU(), nn.Conv2d(30, 40, (2, 1)))),
    "conv2d, stride, padding, dilation": (
        IMAGE,
        lambda: convolved(4, nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False)),
    ),
    "conv2d in groups": (IMAGE, lambda: convolved(6, nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, groups=2))),
    "depthwise conv2d": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, 3, groups=2))),
    "conv2d, reflected": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"))),
    "conv2d, same": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, (4, 3), padding="same"))),
    "conv1d": (SIGNAL, lambda: convolved(4, nn.Conv1d(2, 4, 5, stride=2, padding=2))),
    "conv1d in groups": (SIGNAL, lambda: convolved(4, nn.Conv1d(2, 4, 5, padding=4, dilation=2, groups=2))),
    "wide conv1d": (SIGNAL, lambda: convolved(60, nn.Conv1d(2, 50, 7, stride=5), nn.ReLU(), nn.Conv1d(50, 60, 2))),
    "group norm": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU())),
    "group norm without bias": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4, bias=False))),
    "group norm of a table": (TABLE, lambda: nn.Sequential(nn.Linear(5, 6), nn.GroupNorm(3, 6), nn.Linear(6, CLASSES))),
    "layer norm": (SEQUENCE, lambda: sequenced(6, nn.LayerNorm(6), nn.Tanh())),
    "layer norm over two axes": (SEQUENCE, lambda: sequenced(6, nn.LayerNorm((7, 6), bias=False), nn.Tanh())),
    "embedding": (WORDS, lambda: sequenced(6, nn.Embedding(11, 6), nn.Linear(6, 6), nn.Tanh())),
    "embedding with padding": (WORDS, lambda: sequenced(6, nn.Embedding(11, 6, padding_idx=2), nn.Linear(6, 6))),
    "lstm": (SEQUENCE, lambda: nn.Sequential(Last(nn.LSTM(6, 4, batch_first=True)), nn.Linear(4, CLASSES))),
    "lstm, both ways, two layers": (
        SEQUENCE,
        lambda: nn.Sequential(Last(nn.LSTM(6, 4, 2, bidirectional=True)), nn.Linear(8, CLASSES)),
    ),
    "lstm without bias": (
        SEQUENCE,
        lambda: nn.Sequential(Ends(nn.LSTM(6, 4, bias=False, batch_first=True)), nn.Linear(8, CLASSES)),
    ),
    "gru": (SEQUENCE, lambda: nn.Sequential(Last(nn.GRU(6, 4, batch_first=True)), nn.Linear(4, CLASSES))),
    "gru, both ways, two layers": (
        SEQUENCE,
        lambda: nn.Sequential(Ends(nn.GRU(6, 4, 2, bidirectional=True, batch_first=True)), nn.Linear(16, CLASSES)),
    ),
    "attention to itself": (SEQUENCE, lambda: sequenced(6, Attends(crossed=0))),
    "attention, length first": (SEQUENCE, lambda: sequenced(6, Attends(crossed=0, batch_first=False, bias=False))),
    "attention to another": (SEQUENCE, lambda: sequenced(6, Attends(crossed=1))),
    "attention to two others": (SEQUENCE, lambda: sequenced(6, Attends(crossed=2))),
    "attention, other widths": (SEQUENCE, lambda: sequenced(6, Attends(crossed=2, kdim=6, vdim=6, bias=False))),
    "transformer": (SEQUENCE, lambda: sequenced(6, nn.TransformerEncoderLayer(6, 2, 10, dropout=0, batch_first=True))),
    "layer used twice": (TABLE, lambda: nn.Sequential(Twice(nn.Linear(5, 5)), nn.Linear(5, CLASSES))),
    "convolution used twice": (IMAGE, lambda: convolved(2, Twice(nn.Conv2d(2, 2, 3, padding=1)))),
    "no gradient comes back": (TABLE, lambda: nn.Sequential(HalfCut(nn.Linear(5, 5)), nn.Linear(5, CLASSES))),
    "tied words": (WORDS, Tied),
    "frozen layer": (TABLE, lambda: frozen(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, CLASSES))),
    "bias alone": (IMAGE, only_bias),
    "in place": (TABLE, lambda: nn.Sequential(InPlace(), nn.Linear(5, CLASSES))),
}
SLOW: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module]]] = {
    "parameters of its own": (TABLE, lambda: nn.Sequential(nn.Linear(5, 5), Scaled(), nn.Linear(5, CLASSES))),
    "conv3d": ((1, 4, 4, 4), lambda: convolved(3, nn.Conv3d(1, 3, 2))),
    "instance norm": (IMAGE, lambda: convolved(4, nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True))),
    "rms norm": (SEQUENCE, lambda: sequenced(6, nn.RMSNorm(6), nn.Tanh())),
    "subclass of a known layer": (TABLE, lambda: nn.Sequential(Doubled(5, 4), nn.Tanh(), nn.Linear(4, CLASSES))),
}
"""Those whose gradients come from Opacus."""


class Doubled(nn.Linear):
    """Computes something else than its base."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def made(name: str, n: int, *, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """A network and n records with labels."""
    shape, build = {**NETWORKS, **SLOW}[name]
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = build().to(dtype)
    y = torch.randint(CLASSES, (n,), generator=draw)
    if shape == WORDS:
        return model, torch.randint(11, (n, *shape), generator=draw), y
    return model, 2 * torch.randn(n, *shape, generator=draw, dtype=dtype), y


def drawn(seed: int, n: int, *, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of layers that are drawn, in an order and with settings that are drawn, and n records with labels."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    kind = draw.choice(["table", "signal", "image", "sequence", "words"])
    y = torch.randint(CLASSES, (n,), generator=generator)
    if kind in {"signal", "image"}:
        axes = 1 if kind == "signal" else 2
        shape: tuple[int, ...] = (draw.randint(1, 4), *(draw.randint(7, 12) for _ in range(axes)))
        layers = list(_convolutions(draw, shape))
    elif kind == "table":
        shape = (draw.randint(2, 9),)
        layers = list(_of_tables(draw, shape[0]))
    else:
        shape = (draw.randint(2, 8), draw.choice([2, 4, 6]))
        layers = list(_of_sequences(draw, shape[1]))
    if kind == "words":
        embedding = nn.Embedding(11, shape[1], padding_idx=draw.choice([None, 2]))
        model = nn.Sequential(embedding, *layers).to(dtype)
        return model, torch.randint(11, (n, shape[0]), generator=generator), y
    return nn.Sequential(*layers).to(dtype), 2 * torch.randn(n, *shape, generator=generator, dtype=dtype), y


def _convolutions(draw: random.Random, shape: tuple[int, ...]) -> Iterator[nn.Module]:
    channels, axes = shape[0], len(shape) - 1
    layer = nn.Conv2d if axes == 2 else nn.Conv1d
    for _ in range(draw.randint(1, 3)):
        groups = draw.choice([one for one in range(1, channels + 1) if channels % one == 0])
        outputs = groups * draw.randint(1, 24 // groups)

        def each(low: int, high: int) -> tuple[int, ...]:
            return tuple(draw.randint(low, high) for _ in range(axes))

        # Padding that the kernel needs at most, so that no axis vanishes.
        kernel, dilation, mode = each(1, 3), each(1, 2), draw.choice(["zeros", "reflect", "circular"])
        reach = tuple(step * (width - 1) for step, width in zip(dilation, kernel, strict=True))
        padding = tuple((one + 1) // 2 for one in reach)
        yield layer(
            channels,
            outputs,
            kernel,
            stride=each(1, 2) if channels == shape[0] else 1,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=draw.random() < 0.5,
            padding_mode=mode,
        )
        channels = outputs
        if draw.random() < 0.5:
            yield nn.GroupNorm(draw.choice([one for one in range(1, channels + 1) if channels % one == 0]), channels)
        yield draw.choice([nn.Tanh(), nn.ReLU(inplace=True)])
    yield Channels()
    yield from _of_tables(draw, channels)


def _of_tables(draw: random.Random, width: int) -> Iterator[nn.Module]:
    for _ in range(draw.randint(0, 2)):
        before, width = width, draw.randint(2, 20)
        yield nn.Linear(before, width, bias=draw.random() < 0.5)
        yield draw.choice([nn.Tanh(), nn.LayerNorm(width), Twice(nn.Linear(width, width))])
    yield nn.Linear(width, CLASSES)


def _of_sequences(draw: random.Random, width: int) -> Iterator[nn.Module]:
    """From (n, length, width)."""
    for _ in range(draw.randint(1, 3)):
        other, both, bias = draw.choice([2, 4, 6, 24]), draw.random() < 0.5, draw.random() < 0.5
        kind = draw.choice(["linear", "norm", "attention", "lstm", "gru", "twice"])
        if kind in {"lstm", "gru"}:
            recurrent = nn.LSTM if kind == "lstm" else nn.GRU
            depth = draw.randint(1, 2)
            yield All(recurrent(width, other, depth, bias=bias, bidirectional=both, batch_first=True))
            width = other * (2 if both else 1)
        elif kind == "attention":
            yield Attends(crossed=draw.randint(0, 2), width=width, heads=draw.choice([1, 2]), bias=bias)
        elif kind == "linear":
            yield nn.Linear(width, other, bias=bias)
            width = other
        else:
            yield nn.LayerNorm(width) if kind == "norm" else Twice(nn.Linear(width, width))
        yield nn.Tanh()
    yield Mean()
    yield from _of_tables(draw, width)
