"""Records get the noise that the smoothed model will meet."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay import seeds
from assay.objectives.base import Batch
from assay.objectives.gaussian_noise import GaussianNoise
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
MakeBatch = Callable[..., Batch]


def test_noise_is_drawn_from_the_batch_and_not_clipped(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(40)
    objective, batch = GaussianNoise(sigma=3.0), batch_of(x, y)
    crafted = objective.craft(network(), batch)
    drawn = seeds.stream(1, "craft").standard_normal((40, 5), np.float32)
    np.testing.assert_allclose((crafted - x).numpy(), 3.0 * drawn, rtol=1e-4, atol=1e-5)
    assert (crafted != batch.bounds.clip(crafted)).any()
    expected = F.cross_entropy(network()(crafted), y, reduction="none")
    torch.testing.assert_close(objective.losses(network(), batch, crafted), expected)


def test_what_nobody_can_change_gets_none(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(10)
    fixed = torch.arange(5) == 2
    bounds = Bounds(low=torch.tensor(-9.0), high=torch.tensor(9.0), fixed=fixed)
    change = GaussianNoise(sigma=1.0).craft(network(), batch_of(x, y, bounds=bounds)) - x
    assert torch.equal((change == 0).all(0), fixed)


def test_it_trains_privately(blobs: Blobs, network: Network, blob_bounds: Bounds, given_noise: float) -> None:
    x, y = blobs(30)
    recipe = Recipe(objective={"name": "gaussian_noise", "sigma": 0.3}, privacy={"epsilon": 3}, training=Training())
    model = network()
    before = [p.clone() for p in model.parameters()]
    trainer = build_trainer(model, recipe, x, y, bounds=blob_bounds, seed=0)
    trainer.run(1)
    trainer.close()
    assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
