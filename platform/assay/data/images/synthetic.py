"""Synthetic images, for testing that a study runs; figures on them say nothing about real images."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from assay import seeds


def make_image_folder(path: Path, *, classes: int, per_class: Mapping[str, int], size: int, seed: int) -> Path:
    """Creates a folder of colour JPEG files in the layout of ImageNet: a folder a part, in it a folder a class.

    Each class has a hue and a direction of stripes, under noise, so a network can learn it. Images differ in their
    proportions. The same arguments give the same files. An existing folder is left unchanged, and a new one appears
    complete or not at all, even if several processes create it.

    Args:
        path: of the folder.
        classes: number of classes.
        per_class: number of images of a class in each part, such as ``{"train": 16, "val": 4}``.
        size: the shorter side in pixels.
        seed: of the images.

    Returns:
        ``path``.
    """
    if path.is_dir():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        for part, images in per_class.items():
            for label in range(classes):
                folder = temporary / part / f"n{label:08d}"
                folder.mkdir(parents=True)
                for number in range(images):
                    _draw(folder / f"{part}_{label:08d}_{number}.JPEG", label, classes, size, seed)
        temporary.chmod(0o755)
        temporary.rename(path)
    except OSError:
        if not path.is_dir():  # otherwise another process has created it
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _draw(file: Path, label: int, classes: int, size: int, seed: int) -> None:
    from PIL import Image

    generator = seeds.stream(seed, "synthetic image", file.name)
    height, width = (size + int(more) for more in generator.permutation([0, int(generator.integers(0, size // 2 + 1))]))
    down, across = np.mgrid[0:height, 0:width]
    angle = np.pi * label / classes
    wave = np.cos(2 * np.pi * 8 / size * (np.cos(angle) * across + np.sin(angle) * down) + generator.uniform(0, 6))
    hue = 0.5 + 0.5 * np.cos(2 * np.pi * (label / classes - np.arange(3) / 3))
    light = 0.35 + 0.3 * hue + 0.15 * wave[..., None] + 0.1 * generator.standard_normal((height, width, 3))
    Image.fromarray((255 * np.clip(light, 0, 1)).astype(np.uint8)).save(file, "JPEG", quality=90)
