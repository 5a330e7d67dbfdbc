"""Augmentation: small random changes of training records each time they are drawn, which keep the label valid.

Every change depends on its own record and on random draws, so record-level privacy holds. The training loop clips the
results to the bounds of a valid record.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from assay.data.treatment import Treatment
from assay.errors import SpecError
from assay.registry import register
from assay.seeds import Draw


@register("treatment")
class Flip(Treatment):
    """Mirrors images left to right. Do not use it where left and right differ, as for the heart on a chest X-ray."""

    name: Literal["flip"] = "flip"
    probability: float = Field(default=0.5, ge=0, le=1)

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        _expect(self.name, x, dimensions=4, wanted="images (n, channels, height, width)")
        chosen = _unit(draw, x, 1) < self.probability
        return torch.where(chosen.view(-1, 1, 1, 1), x.flip(-1), x)


@register("treatment")
class RandomCrop(Treatment):
    """Shifts images by up to ``pixels`` in each direction, like random crops of a padded image."""

    name: Literal["crop"] = "crop"
    pixels: int = Field(default=4, ge=1)
    edge: Literal["reflect", "zero"] = "reflect"
    """Fill at the border: the image mirrored at its edge, or 0."""

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        _expect(self.name, x, dimensions=4, wanted="images (n, channels, height, width)")
        n, channels, height, width = x.shape
        if self.pixels >= min(height, width):
            raise SpecError(f"crop: pixels is {self.pixels}, images have {height} × {width}; shift by less")
        padded = F.pad(x, (self.pixels,) * 4, mode="reflect" if self.edge == "reflect" else "constant")
        starts = (_unit(draw, x, 2) * (2 * self.pixels + 1)).floor().long().clamp_max(2 * self.pixels)
        rows = starts[:, :1] + torch.arange(height, device=x.device)
        columns = starts[:, 1:] + torch.arange(width, device=x.device)
        records, each = torch.arange(n, device=x.device), torch.arange(channels, device=x.device)
        return padded[
            records[:, None, None, None], each[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
        ]


@register("treatment")
class Jitter(Treatment):
    """Changes the gain and the offset of each channel of a signal and adds white noise, as another device would."""

    name: Literal["jitter"] = "jitter"
    gain: float = Field(default=0.1, ge=0, lt=1)
    """Greatest change of the gain, as a fraction of it; uniform, up and down."""
    offset: float = Field(default=0.05, ge=0)
    """Greatest shift, as a fraction of the channel's standard deviation in the record; uniform, up and down."""
    noise: float = Field(default=0.05, ge=0)
    """Standard deviation of the noise, as a fraction of the channel's."""

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        _expect(self.name, x, dimensions=3, wanted="signals (n, channels, samples)")
        spread = x.std(-1, keepdim=True, correction=0)
        gain = 1 + self.gain * draw.uniform(x[:, :, :1])
        offset = self.offset * spread * draw.uniform(x[:, :, :1])
        return x * gain + offset + self.noise * spread * draw.normal(x)


@register("treatment")
class WordDropout(Treatment):
    """Replaces words of a text by the unknown word, position 1 (Iyyer et al. 2015). Padding is unchanged."""

    name: Literal["word_dropout"] = "word_dropout"
    probability: float = Field(default=0.1, ge=0, lt=1)
    """Probability that a word is replaced, drawn independently at each occurrence."""

    def augment(self, x: Tensor, draw: Draw) -> Tensor:
        if x.is_floating_point() or x.dim() != 2:
            raise SpecError(
                f"word_dropout takes texts (n, words) of positions in a vocabulary, and these records are "
                f"{tuple(x.shape[1:])} of {str(x.dtype).removeprefix('torch.')}; leave it out of data"
            )
        dropped = _unit(draw, x, x.shape[1]) < self.probability
        return torch.where(dropped & (x != 0), torch.ones_like(x), x)


def _unit(draw: Draw, x: Tensor, columns: int) -> Tensor:
    """Returns (n, columns) draws from [0, 1), in float32 whatever the type of the records."""
    return (draw.uniform(torch.empty(len(x), columns, device=x.device)) + 1) / 2


def _expect(name: str, x: Tensor, *, dimensions: int, wanted: str) -> None:
    if x.dim() != dimensions or not x.is_floating_point():
        raise SpecError(f"{name} takes {wanted}, and a record here has the shape {tuple(x.shape[1:])}; leave it out")
