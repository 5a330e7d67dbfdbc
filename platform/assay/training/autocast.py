"""The layers of a network in bfloat16, for plain and adversarial training."""

import torch
from torch import Tensor, nn

from assay.privacy.precision import at_least_float32


class Bfloat16(nn.Module):
    """Computes a network's layers in bfloat16 where autocast takes that for safe; weights and answers stay float32.

    Losses, gradients of weights, their sums and the steps of an attack are therefore float32. The wrapped network is
    unchanged: what measures it, such as early stopping, uses float32.

    Args:
        network: whose weights are trained; float64 layers stay float64.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Returns the network's answers.

        Args:
            x: (n, ...) records.

        Returns:
            (n, outputs), float32 at least.
        """
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            answers = self.network(x)
        return at_least_float32(answers)
