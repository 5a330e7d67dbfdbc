"""The networks that Assay and its peers explain; plain PyTorch, for both environments."""

import torch
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


def network_of(weights: dict[str, torch.Tensor]) -> nn.Sequential:
    """Returns a network of convolutions, the first at full size and each later one at half, and of linear layers.

    Args:
        weights: of the network, in order.
    """
    layers: list[nn.Module] = []
    for name in [name for name in weights if name.endswith("weight")]:
        weight = weights[name]
        if weight.dim() == 4:
            stride = 2 if any(isinstance(layer, nn.Conv2d) for layer in layers) else 1
            layers += [nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], stride, weight.shape[2] // 2)]
        else:
            layers += [] if any(isinstance(layer, nn.Linear) for layer in layers) else [nn.Flatten()]
            layers += [nn.Linear(weight.shape[1], weight.shape[0])]
        layers += [nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).eval()
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model
