"""Converts outputs of networks that are not one logit a class to logits: one output, or probabilities.

The result is a network from records to logits (n, classes), so that attacks, bounds, explanations and serving need not
know what the user's network returns.
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Output = Literal["logits", "probabilities"]
"""Kind of the outputs of a network's last layer."""
_ROUNDING = 2e-3
"""Tolerance of a sum of probabilities: networks may compute in half precision."""


class TwoLogits(nn.Module):
    """Converts one output z to the logits (0, z); softmax then gives the second class the probability sigmoid(z).

    It is linear, so interval bounds and Deep SHAP apply to it.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.tensor([[0.0], [1.0]]), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Returns (n, 2) logits from (n, 1) or (n,) outputs."""
        return F.linear(z if z.dim() > 1 else z[:, None], self.weight.to(z.dtype))


class LogProbabilities(nn.Module):
    """Converts probabilities to logits: log p for several classes, log p − log(1 − p) for one.

    Probabilities closer to 0 or 1 than the rounding of their type are set to that distance.
    """

    def forward(self, p: Tensor) -> Tensor:
        """Returns (n, classes) or (n, 1) logits from as many probabilities."""
        single = p.dim() == 1 or p.shape[1] == 1
        least = torch.finfo(p.dtype).eps if single else torch.finfo(p.dtype).tiny
        return torch.logit(p, eps=least) if single else p.clamp_min(least).log()


class AtThreshold(nn.Module):
    """A network of two classes whose greatest logit decides at a threshold: a constant is added to the second logit.

    For a threshold t of the second class's probability the constant is log((1 − t)/t). Predictions change, gradients do
    not.

    Args:
        network: from records to logits (n, 2).
        shift: the constant.
    """

    shift: Tensor

    def __init__(self, network: nn.Module, shift: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", torch.tensor([0.0, shift]), persistent=False)

    @property
    def front(self) -> nn.Module | None:
        """The network's own first layer; see ``models.front``."""
        return getattr(self.network, "front", None)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (n, 2) logits."""
        logits = self.network(x)
        return logits + self.shift.to(logits.dtype)


def to_logits(network: nn.Module, shape: tuple[int, ...], classes: int, output: Output | None) -> nn.Module:
    """Returns the network with logits (n, classes); unchanged where it returns logits already.

    Args:
        network: from records (n, *shape) to outputs.
        shape: of one record.
        classes: number of classes.
        output: kind of the outputs; None for logits, or for probabilities where its last layer is a sigmoid with one
            output or a softmax.

    Returns:
        A module from records (n, *shape) to logits (n, classes).
    """
    outputs = _tried(network, shape)
    single = classes == 2 and outputs is not None and tuple(outputs.shape) in ((2,), (2, 1))
    if output is None:
        output = "probabilities" if _ends_in_probabilities(network, outputs, single) else "logits"
    layers: list[tuple[str, nn.Module]] = [("network", network)]
    if output == "probabilities":
        layers.append(("log_probabilities", LogProbabilities()))
    if single:
        layers.append(("two_logits", TwoLogits()))
    return network if len(layers) == 1 else nn.Sequential(OrderedDict(layers))


@torch.no_grad()
def network_outputs(model: nn.Module, batches: list[Tensor]) -> tuple[Tensor, bool]:
    """Returns the outputs of the user's own network, and whether they are taken for probabilities.

    Args:
        model: as ``to_logits`` returned it, possibly inside other layers.
        batches: records, (n, ...) each.

    Returns:
        (n, outputs), and whether they are probabilities.
    """
    added = [layer for layer in model.modules() if isinstance(layer, LogProbabilities | TwoLogits)]
    if not added:
        return torch.cat([model(x) for x in batches]), False
    inputs: list[Tensor] = []
    hook = added[0].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        for x in batches:
            model(x)
    finally:
        hook.remove()
    outputs = torch.cat(inputs)
    return outputs if outputs.dim() > 1 else outputs[:, None], isinstance(added[0], LogProbabilities)


def are_distributions(outputs: Tensor) -> bool:
    """Returns whether all outputs are between 0 and 1 and, where there are several, those of a record sum to 1.

    Args:
        outputs: (n, outputs).

    Returns:
        True if they are probabilities, but for rounding.
    """
    if not lie_in_unit_interval(outputs):
        return False
    return outputs.shape[1] == 1 or bool(((outputs.double().sum(1) - 1).abs() <= _ROUNDING).all())


def lie_in_unit_interval(outputs: Tensor) -> bool:
    """Returns whether all outputs are between 0 and 1, but for rounding.

    Args:
        outputs: of any shape.

    Returns:
        True if they are.
    """
    return bool(((outputs >= -_ROUNDING) & (outputs <= 1 + _ROUNDING)).all())


def _tried(network: nn.Module, shape: tuple[int, ...]) -> Tensor | None:
    """Returns the outputs for two records of zeros; None where the network cannot take them."""
    modes = {layer: layer.training for layer in network.modules()}
    try:
        with torch.no_grad():
            outputs = network.eval()(torch.zeros(2, *shape, device=_device(network)))
    except (Exception, SystemExit):  # the user's network may raise anything; real records will report it
        return None
    finally:
        for layer, training in modes.items():
            layer.training = training
    return outputs if isinstance(outputs, Tensor) else None


def _device(network: nn.Module) -> torch.device:
    """Returns the device of the network."""
    tensor_found = next((tensor for tensor in (*network.parameters(), *network.buffers())), None)
    return torch.device("cpu") if tensor_found is None else tensor_found.device


def _ends_in_probabilities(network: nn.Module, outputs: Tensor | None, single: bool) -> bool:
    """Returns whether the last layer is a sigmoid with one output, or a softmax whose outputs are probabilities.

    The layer that was created last need not be the one that computes last, so the outputs are checked.
    """
    layers = [layer for layer in network.modules() if not list(layer.children())]
    if not layers or outputs is None:
        return False
    if single:
        return isinstance(layers[-1], nn.Sigmoid)
    return isinstance(layers[-1], nn.Softmax) and outputs.dim() == 2 and are_distributions(outputs)
