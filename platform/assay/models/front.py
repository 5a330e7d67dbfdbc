"""The first layer of a network, which the data set determines: normalisation, or word vectors.

Normalisation is a layer, so that attacks, bounds and explanations see records in the units of the data.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from assay.data.base import Form, Normalisation, Tokens
from assay.threats import Bounds


class Normalise(nn.Module):
    """Subtracts the published mean of each channel and divides by its published standard deviation.

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
    """Maps positions in a vocabulary (n, length) to vectors (n, length, dimension); vectors pass unchanged.

    So an attack or an explanation, which needs a continuous space, can pass vectors to the network.

    Args:
        tokens: vocabulary and initial vectors.
    """

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        # A copy: training changes it, and other networks of these data start with the original vectors.
        vectors = torch.tensor(tokens.vectors)
        self.table = nn.Embedding.from_pretrained(vectors, freeze=not tokens.trainable)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return x
        # Not the layer's own padding: per-record gradients ignore it, and private noise would change its vector.
        return self.table(x) * (x != 0).unsqueeze(-1)


def front_of(form: Form) -> nn.Module | None:
    """Returns the first layer of a network on such records; None where they need none.

    Args:
        form: of the records.

    Returns:
        The layer, or None.
    """
    if form.tokens is not None:
        return WordVectors(form.tokens)
    return None if form.normalisation is None else Normalise(form.normalisation, form.shape)


def behind(front: nn.Module | None, network: nn.Module) -> nn.Module:
    """Returns a network with a first layer in front of it.

    Args:
        front: the first layer; None for none.
        network: the rest.

    Returns:
        The combined network.
    """
    return network if front is None else nn.Sequential(OrderedDict(front=front, network=network))


def word_vectors(model: nn.Module) -> Tensor | None:
    """Returns the vectors of a network whose first layer maps words to vectors; None for any other.

    Args:
        model: the network.

    Returns:
        (words, dimension) parameter, or None.
    """
    front = getattr(model, "front", None)
    return front.table.weight if isinstance(front, WordVectors) else None


def vector_bounds(vectors: Tensor) -> Bounds:
    """Returns the bounds of a valid word vector: the extremes of the vocabulary, entry by entry; padding stays padding.

    Args:
        vectors: (words, dimension).

    Returns:
        Bounds of an entry.
    """
    low, high = vectors[1:].detach().amin(0).clamp_max(0), vectors[1:].detach().amax(0).clamp_min(0)
    room = 1e-6 + 1e-6 * torch.maximum(low.abs(), high.abs())
    return Bounds(low=(low - room).cpu(), high=(high + room).cpu(), padding=True)


def continuous(model: nn.Module, x: Tensor) -> Tensor:
    """Returns records as numbers that can be perturbed: the records themselves, or the vectors of their words.

    Args:
        model: the network.
        x: (n, ...) records.

    Returns:
        (n, ...) in floating point.
    """
    if x.is_floating_point():
        return x
    front = getattr(model, "front", None)
    assert isinstance(front, WordVectors), "records of positions belong to a network that begins with word vectors"
    return front(x)
