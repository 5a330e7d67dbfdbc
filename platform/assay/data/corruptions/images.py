"""Corruptions of images: sensor noise, defocus, low contrast, lossy compression and wrong framing.

Strengths of noise, contrast and JPEG are those of ImageNet-C (Hendrycks & Dietterich 2019, arXiv:1903.12261); those of
blur are fractions of the image, so that a small image is blurred as much as a large one.
"""

import io
from typing import ClassVar, Literal

import numpy as np

from assay.data.base import Dataset, Modality
from assay.data.corruptions.base import Corruption, Sizes, StrengthShares
from assay.registry import register


class _OfImages(Corruption):
    modality: ClassVar[Modality] = "image"

    def apply(self, x: np.ndarray, strength: float, *, dataset: Dataset, generator: np.random.Generator) -> np.ndarray:
        low, span = dataset.low, dataset.high - dataset.low
        return low + span * self.on_screen((x - low) / span, strength, generator)

    def on_screen(self, x: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        """Returns corrupted images (n, channels, height, width), whose intensities run from 0 to 1."""
        raise NotImplementedError


@register("corruption")
class GaussianNoiseCorruption(_OfImages):
    """Independent noise in each pixel; the strength is its standard deviation relative to the pixel's range."""

    name: Literal["gaussian_noise"] = "gaussian_noise"
    strengths: Sizes = (0.08, 0.12, 0.18, 0.26, 0.38)

    def on_screen(self, x: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        return x + strength * generator.standard_normal(x.shape, np.float32)


@register("corruption")
class Blur(_OfImages):
    """Defocus or motion, as a Gaussian filter; the strength is its standard deviation, relative to the shorter side."""

    name: Literal["blur"] = "blur"
    strengths: Sizes = (0.015, 0.02, 0.03, 0.04, 0.06)

    def on_screen(self, x: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        from scipy.ndimage import gaussian_filter

        width = strength * min(x.shape[2:])
        return gaussian_filter(x, (0, 0, width, width), mode="nearest")


@register("corruption")
class Contrast(_OfImages):
    """Moves each image towards its own mean; the strength is the fraction of contrast that is lost."""

    name: Literal["contrast"] = "contrast"
    strengths: StrengthShares = (0.6, 0.7, 0.8, 0.9, 0.95)

    def on_screen(self, x: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        mean = x.mean((2, 3), keepdims=True)
        return mean + (1 - strength) * (x - mean)


@register("corruption")
class JPEG(_OfImages):
    """Stores images as 8-bit JPEG and reads them again; the strength is 1 − quality / 100."""

    name: Literal["jpeg"] = "jpeg"
    strengths: StrengthShares = (0.75, 0.82, 0.85, 0.9, 0.93)

    def on_screen(self, x: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        pixels = np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)
        # Three channels are stored as colour, any other number channel by channel.
        colour = pixels.shape[1] == 3
        planes = pixels.transpose(0, 2, 3, 1) if colour else pixels.reshape(-1, *pixels.shape[2:])
        read = np.stack([_through_jpeg(plane, quality=round(100 * (1 - strength))) for plane in planes])
        return (read.transpose(0, 3, 1, 2) if colour else read.reshape(pixels.shape)).astype(np.float32) / 255


@register("corruption")
class CropCorruption(_OfImages):
    """Enlarges a random part of the image to full size; the strength is the fraction of each side that is cut off."""

    name: Literal["crop"] = "crop"
    strengths: StrengthShares = (0.05, 0.1, 0.15, 0.2, 0.3)

    def on_screen(self, x: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        from PIL import Image

        height, width = x.shape[2:]
        cropped = np.empty_like(x)
        for image, place, into in zip(x, generator.random((len(x), 2)), cropped, strict=True):
            top, left = place * strength * (height, width)
            window = (left, top, left + (1 - strength) * width, top + (1 - strength) * height)
            for channel, plane in enumerate(image):
                whole = Image.fromarray(np.ascontiguousarray(plane, np.float32))
                into[channel] = whole.resize((width, height), Image.Resampling.BILINEAR, box=window)
        return cropped


def _through_jpeg(pixels: np.ndarray, *, quality: int) -> np.ndarray:
    from PIL import Image

    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored))
