"""Small networks of the shapes that studies use, and records for them."""

import copy
import functools

import torch
from torch import Tensor, nn

from assay.data.base import Modality
from assay.explain.references import Reference
from assay.models.base import Architecture
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.models.resnet import Basic, ResNet, ResNet18
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer

CLASSES = 3


class NarrowResNet18(ResNet18):
    """A quarter of the channels, so that a processor takes its steps in time."""

    def _net(self, channels: int, classes: int) -> ResNet:
        return ResNet(Basic, (2, 2, 2, 2), channels, classes, norm=self.norm, stem=self.stem, width=16)


ARCHITECTURES: dict[str, tuple[Architecture, tuple[int, ...], Modality]] = {
    "X-ray CNN": (CNN(channels=(16, 32), hidden=64), (1, 28, 28), "image"),
    "MLP": (MLP(hidden=(64, 32)), (30,), "tabular"),
    "LSTM": (LSTM(hidden=16, dropout=0.0, channels_first=True), (1, 20), "signal"),
    "ResNet-18": (NarrowResNet18(norm="group", stem="small"), (3, 32, 32), "image"),
}
SMALL = ("X-ray CNN", "MLP", "LSTM")
UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))


def records(name: str, n: int, *, start: int = 0) -> tuple[Tensor, Tensor]:
    """Returns records in 0 … 1 and their labels, on the CPU, in float64; the label moves the mean of a third of them.

    Args:
        name: of the network.
        n: number of records.
        start: other records from another start.

    Returns:
        (n, ...) records and (n,) labels.
    """
    draw = torch.Generator().manual_seed(1_000 + start)
    shape = ARCHITECTURES[name][1]
    x = torch.rand(n, *shape, generator=draw, dtype=torch.float64)
    y = torch.randint(CLASSES, (n,), generator=draw)
    flat = x.flatten(1)
    third = flat.shape[1] // CLASSES
    for label in range(CLASSES):
        flat[y == label, label * third : (label + 1) * third] += 0.15
    return (flat / 1.15).view_as(x), y


def network(name: str) -> nn.Module:
    """Returns a network before training, on the CPU.

    Args:
        name: of the network.

    Returns:
        The module.
    """
    architecture, shape, _ = ARCHITECTURES[name]
    return architecture.build(shape, CLASSES, seed=1)


@functools.cache
def _trained(name: str) -> nn.Module:
    model = network(name)
    recipe = Recipe(training=Training(epochs=4, learning_rate=0.003, batch_size=32))
    x, y = records(name, 192 if name in SMALL else 32)
    build_trainer(model, recipe, x.float(), y, bounds=UNIT, seed=1, classes=CLASSES).run()
    return model


def trained(name: str, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Returns a network after a short training on the CPU.

    Args:
        name: of the network.
        device: where it goes.
        dtype: of its weights.

    Returns:
        A copy in evaluation mode.
    """
    return copy.deepcopy(_trained(name)).to(device, dtype).eval()


def reference(name: str, device: torch.device, dtype: torch.dtype) -> Reference:
    """Returns what explanations compare records with.

    Args:
        name: of the network.
        device: of the background.
        dtype: of the background.

    Returns:
        Eight background records.
    """
    background, _ = records(name, 8, start=500)
    return Reference(modality=ARCHITECTURES[name][2], background=background.to(device, dtype), source="made up")
