"""A trained network seen at two depths: what it answers, and what its last layer answers from."""

import torch
from torch import Tensor, nn

from assay.errors import SpecError
from assay.models.batches import places


class Represented:
    """A network whose features are what its last linear layer is given.

    Records come from and answers go to wherever the caller has them; the network stays on its device, in evaluation
    mode, and its weights are frozen.

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
        """(n, classes) of records (n, ...)."""
        return torch.cat([self._model(part) for part in self._parts(x)]).to(x.device)

    def features(self, x: Tensor) -> Tensor:
        """(n, d): what the last linear layer is given. It can be differentiated by the records."""
        return torch.cat([self._seen_by_the_last(part) for part in self._parts(x)]).to(x.device)

    def _parts(self, x: Tensor) -> list[Tensor]:
        return [x[place].to(self._device) for place in places(len(x), tuple(x.shape[1:]))]

    def _seen_by_the_last(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = self._last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        try:
            self._model(x)
        finally:
            hook.remove()
        return seen[-1].flatten(1)
