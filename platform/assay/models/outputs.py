"""Outputs of networks that do not end in one logit a class, as logits: one output, or probabilities.

The result is a network from records to logits (n, classes), so that attacks, bounds, explanations and serving need not
know what the user's network returns.
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Output = Literal["logits", "probabilities"]
"""What the last layer of a network returns."""


class TwoLogits(nn.Module):
    """Turns one output z into the logits (0, z): softmax then gives the second class the probability sigmoid(z).

    It is linear, so interval bounds and Deep SHAP follow it.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([[0.0], [1.0]]), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """(n, 2) logits of (n, 1) or (n,) outputs."""
        return F.linear(z if z.dim() > 1 else z[:, None], self.weight.to(z.dtype))


class LogProbabilities(nn.Module):
    """Turns probabilities into logits: log p of several classes, log p − log(1 − p) of one.

    Probabilities closer to 0 or 1 than the rounding of their type are taken to be that far away.
    """

    def forward(self, p: Tensor) -> Tensor:
        """(n, classes) or (n, 1) logits of as many probabilities."""
        single = p.dim() == 1 or p.shape[1] == 1
        least = torch.finfo(p.dtype).eps if single else torch.finfo(p.dtype).tiny
        return torch.logit(p, eps=least) if single else p.clamp_min(least).log()


def to_logits(network: nn.Module, shape: tuple[int, ...], classes: int, output: Output | None) -> nn.Module:
    """The network with logits (n, classes); itself where that is what it returns.

    Args:
        network: from records (n, *shape) to outputs.
        shape: of one record.
        classes: how many there are.
        output: what the network returns; None for logits, or for one probability where its last layer is a sigmoid.
    """
    single = classes == 2 and _has_one_output(network, shape)
    if output is None:
        output = "probabilities" if single and _ends_in_sigmoid(network) else "logits"
    layers: list[tuple[str, nn.Module]] = [("network", network)]
    if output == "probabilities":
        layers.append(("log_probabilities", LogProbabilities()))
    if single:
        layers.append(("two_logits", TwoLogits()))
    return network if len(layers) == 1 else nn.Sequential(OrderedDict(layers))


@torch.no_grad()
def single_output_range(model: nn.Module, batches: list[Tensor]) -> tuple[float, float] | None:
    """Least and greatest logit of the second class over all records, of a network with one output taken for a logit.

    None of any other network. A user whose network returns a probability sees a range within 0 and 1.
    """
    names = dict(model.named_children())
    if "two_logits" not in names or "log_probabilities" in names:
        return None
    found = torch.cat([model(x)[:, 1] for x in batches])
    return float(found.min()), float(found.max())


def _has_one_output(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether two records get (2, 1) or (2,) outputs; False where the network cannot take them."""
    modes = {layer: layer.training for layer in network.modules()}
    try:
        with torch.no_grad():
            found = network.eval()(torch.zeros(2, *shape))
    except Exception:  # whatever the user's network raises; it is reported when it is given real records
        return False
    finally:
        for layer, training in modes.items():
            layer.training = training
    return isinstance(found, Tensor) and tuple(found.shape) in ((2,), (2, 1))


def _ends_in_sigmoid(network: nn.Module) -> bool:
    layers = [layer for layer in network.modules() if not list(layer.children())]
    return bool(layers) and isinstance(layers[-1], nn.Sigmoid)
