"""Cross-entropy on the records as they are."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.objectives.standard import Standard
from assay.seeds import Draw
from assay.threats import Bounds


def test_one_loss_a_record(blobs: Callable[..., tuple[Tensor, Tensor]], network: Callable[..., nn.Module]) -> None:
    x, y = blobs(9)
    logits = network()(x).detach().numpy()
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(9), y]
    np.testing.assert_allclose(Standard().losses(network(), x, x, y).detach(), expected, rtol=1e-5)


def test_nothing_is_crafted(
    blobs: Callable[..., tuple[Tensor, Tensor]], network: Callable[..., nn.Module], blob_bounds: Bounds
) -> None:
    x, y = blobs(9)
    assert Standard().craft(network(), x, y, bounds=blob_bounds, draw=Draw(seeds.stream(0), 9)) is x
    assert Standard().per_record
    assert torch.equal(x, blobs(9)[0])
