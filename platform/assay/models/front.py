"""The first layer of a network: what its data set asks for. A record goes in as it is stored; numbers come out.

Normalisation is a layer, so that attacks, bounds and explanations see records in the units of the data.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from assay.data.base import Form, Normalisation, Tokens
from assay.threats import Bounds


class Normalise(nn.Module):
    """Each channel minus its published mean, divided by its published standard deviation.

    Args:
        figures: one mean and deviation a channel, or one for all.
        shape: of a record, channels first.
    """

    def __init__(self, figures: Normalisation, shape: tuple[int, ...]) -> None:
        super().__init__()
        wide = (-1, *[1] * (len(shape) - 1))
        self.register_buffer("mean", torch.tensor(figures.mean).view(wide))
        self.register_buffer("deviation", torch.tensor(figures.deviation).view(wide))

    mean: Tensor
    deviation: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


class WordVectors(nn.Module):
    """From positions in a vocabulary (n, length) to vectors (n, length, dimension); what is vectors already passes.

    So an attack or an explanation, which needs a space it can move in, hands the network vectors.
    """

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        # A copy: training moves it, and every other network of these data begins with the vectors as they were.
        vectors = torch.tensor(tokens.vectors)
        self.table = nn.Embedding.from_pretrained(vectors, freeze=not tokens.trainable)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return x
        # Not the layer's own padding: per-record gradients overlook it, and private noise would fill its vector.
        return self.table(x) * (x != 0).unsqueeze(-1)


def front_of(form: Form) -> nn.Module | None:
    """The first layer of a network on such records; None where they need nothing."""
    if form.tokens is not None:
        return WordVectors(form.tokens)
    return None if form.normalisation is None else Normalise(form.normalisation, form.shape)


def behind(front: nn.Module | None, network: nn.Module) -> nn.Module:
    """The network behind its first layer."""
    return network if front is None else nn.Sequential(OrderedDict(front=front, network=network))


def word_vectors(model: nn.Module) -> Tensor | None:
    """(words, dimension) the vectors of a network that begins with words; None of any other."""
    front = getattr(model, "front", None)
    return front.table.weight if isinstance(front, WordVectors) else None


def vector_bounds(vectors: Tensor) -> Bounds:
    """What a valid vector is: between the extremes of the vocabulary, entry by entry; and padding stays padding."""
    low, high = vectors[1:].detach().amin(0).clamp_max(0), vectors[1:].detach().amax(0).clamp_min(0)
    room = 1e-6 + 1e-6 * torch.maximum(low.abs(), high.abs())
    return Bounds(low=(low - room).cpu(), high=(high + room).cpu(), padding=True)


def continuous(model: nn.Module, x: Tensor) -> Tensor:
    """The records as numbers that may be moved a little: themselves, or the vectors of their words."""
    if x.is_floating_point():
        return x
    front = getattr(model, "front", None)
    assert isinstance(front, WordVectors), "records of positions belong to a network that begins with word vectors"
    return front(x)
