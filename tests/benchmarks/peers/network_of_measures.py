"""The network whose maps Assay and Quantus measure; plain PyTorch, for both environments."""

from torch import nn


def network() -> nn.Sequential:
    """Returns a network of two convolutions for images of 28 × 28 and two classes."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(784, 2),
    )
