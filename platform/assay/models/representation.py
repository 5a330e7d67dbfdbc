"""A trained network with two outputs: its logits, and the inputs of its last layer."""

import torch
from torch import Tensor, nn

from assay.errors import SpecError
from assay.models.batches import places


class Represented:
    """A network whose features are the inputs of its last linear layer.

    Records and results are on the caller's device; the network stays on its own, in evaluation mode, and its weights
    are frozen.

    Args:
        model: the network; changed in place.

    Raises:
        SpecError: it has no linear layer.
    """

    def __init__(self, model: nn.Module) -> None:
        linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise SpecError(
                "the network has no linear layer, so it is unknown what its features are; use another model",
                setting="model",
                given=type(model).__name__,
            )
        self._model, self._last = model.eval().requires_grad_(False), linear[-1]
        self._device = linear[-1].weight.device

    def logits(self, x: Tensor) -> Tensor:
        """Returns the logits of records.

        Args:
            x: (n, ...).

        Returns:
            (n, classes).
        """
        return torch.cat([self._model(part) for part in self._parts(x)]).to(x.device)

    def features(self, x: Tensor) -> Tensor:
        """Returns the inputs of the last linear layer, differentiable with respect to the records.

        Args:
            x: (n, ...).

        Returns:
            (n, d).
        """
        return torch.cat([self._seen_by_the_last(part) for part in self._parts(x)]).to(x.device)

    def _parts(self, x: Tensor) -> list[Tensor]:
        return [x[place].to(self._device) for place in places(len(x), tuple(x.shape[1:]))]

    def _seen_by_the_last(self, x: Tensor) -> Tensor:
        inputs: list[Tensor] = []
        hook = self._last.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
        try:
            self._model(x)
        finally:
            hook.remove()
        return inputs[-1].flatten(1)
