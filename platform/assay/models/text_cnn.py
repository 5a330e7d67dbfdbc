"""Convolutional network for sentences (Kim 2014, arXiv:1408.5882)."""

from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from assay.data.base import Form
from assay.errors import SpecError
from assay.models.base import Architecture
from assay.models.padding import close_up
from assay.registry import register


@register("model")
class TextCNN(Architecture):
    """Filters over a few neighbouring words, the maximum of each filter over the sentence, and one linear layer.

    A position whose vector is all zeros is padding, which filters skip; a sentence that is shorter than a filter is
    seen by it once, as a whole. Can train privately.
    """

    name: Literal["text_cnn"] = "text_cnn"
    widths: tuple[PositiveInt, ...] = Field(default=(3, 4, 5), min_length=1)
    """Numbers of words that a filter sees, one group of filters each."""
    channels: int = Field(default=100, ge=1)
    """Number of filters of each width."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Fraction of the inputs of the linear layer that is dropped."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        if len(shape) != 2:
            fits = "cnn or resnet18" if len(shape) == 3 else "mlp"
            raise SpecError(
                "text_cnn needs sequences of vectors (length, dimension); these records have "
                f"shape {shape}: use {fits}",
                setting="model",
                given=self.name,
                allowed=tuple(fits.split(" or ")),
            )
        return Sentences(shape[1], classes, widths=self.widths, channels=self.channels, dropout=self.dropout)

    def build_for(self, form: Form, *, seed: int) -> nn.Module:
        if form.modality == "signal":
            raise SpecError(
                "text_cnn needs sequences of vectors; these records are signals: use cnn or lstm",
                setting="model",
                given=self.name,
                allowed=("cnn", "lstm"),
            )
        return super().build_for(form, seed=seed)


class Sentences(nn.Module):
    """The network of ``TextCNN``, from (n, length, dimension) to logits."""

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    def __init__(self, dimension: int, classes: int, *, widths: tuple[int, ...], channels: int, dropout: float) -> None:
        super().__init__()
        self.filters = nn.ModuleList(nn.Conv1d(dimension, channels, width) for width in widths)
        self.bends = nn.ModuleList(nn.ReLU() for _ in widths)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(channels * len(widths), classes)

    def forward(self, x: Tensor) -> Tensor:
        x, kept = close_up(x)
        x, lengths = x.transpose(1, 2), kept.sum(1)
        greatest = []
        for layer, bend in zip(self.filters, self.bends, strict=True):
            assert isinstance(layer, nn.Conv1d)
            width = layer.kernel_size[0]
            answers = bend(layer(F.pad(x, (0, width - 1))))
            beyond = torch.arange(x.shape[2], device=x.device) > (lengths[:, None] - width).clamp_min(0)
            greatest.append(answers.masked_fill(beyond[:, None], -torch.inf).amax(2))
        return self.head(self.drop(torch.cat(greatest, 1)))
