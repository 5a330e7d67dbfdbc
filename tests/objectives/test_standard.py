"""Cross-entropy on the records as they are."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.objectives.base import Batch
from assay.objectives.standard import Standard

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_one_loss_a_record(temperature: float, blobs: Blobs, network: Network, batch_of: Callable[..., Batch]) -> None:
    x, y = blobs(9)
    logits = network()(x).detach().numpy() / temperature
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(9), y]
    found = Standard(temperature=temperature).losses(network(), batch_of(x, y), x)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)


def test_nothing_is_crafted(blobs: Blobs, network: Network, batch_of: Callable[..., Batch]) -> None:
    x, y = blobs(9)
    assert Standard().craft(network(), batch_of(x, y)) is x
    assert Standard().per_record
    assert torch.equal(x, blobs(9)[0])
