"""The greatest losses count for nothing; of the rest, the worst population counts."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from assay.data.reweighting import RobustReweighting
from assay.training.loop import Trainer

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]

LOSSES = torch.from_numpy(np.random.default_rng(0).exponential(size=40)).float()
DIVERGENCES = ("cvar", "chi_square")
every_divergence = pytest.mark.parametrize("divergence", DIVERGENCES)


def weights(losses: torch.Tensor = LOSSES, **settings: object) -> torch.Tensor:
    return RobustReweighting(**settings).weigh(losses)  # type: ignore[arg-type]


@every_divergence
@pytest.mark.parametrize("alpha", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("outliers", [0.0, 0.1, 0.33])
def test_weights_are_one_on_average_and_nothing_for_outliers(divergence: str, alpha: float, outliers: float) -> None:
    found = weights(divergence=divergence, alpha=alpha, outliers=outliers)
    assert found.mean().item() == pytest.approx(1, abs=1e-5)
    assert (found >= 0).all()
    greatest = LOSSES.argsort(descending=True)[: int(outliers * 40)]
    assert (found[greatest] == 0).all()


@every_divergence
def test_with_alpha_one_all_of_the_rest_count_alike(divergence: str) -> None:
    found = weights(divergence=divergence, alpha=1.0, outliers=0.25)
    np.testing.assert_allclose(np.unique(found.numpy().round(5)), [0, 4 / 3], rtol=1e-4)


def test_cvar_without_outliers_is_the_mean_of_the_worst_share() -> None:
    found = weights(divergence="cvar", alpha=0.25, outliers=0.0)
    assert (found * LOSSES).mean().item() == pytest.approx(LOSSES.sort(descending=True).values[:10].mean().item())


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.9])
def test_chi_square_reaches_the_value_of_its_dual(alpha: float) -> None:
    """The worst mean within the ball is the least over η of η + c √E(ℓ − η)₊², c² = 1 + (1/α − 1)²."""
    losses = LOSSES.double().numpy()
    c = np.sqrt(1 + (1 / alpha - 1) ** 2)
    dual = minimize_scalar(
        lambda eta: eta + c * np.sqrt((np.maximum(losses - eta, 0) ** 2).mean()), bounds=(-50, losses.max()),
        method="bounded", options={"xatol": 1e-10},
    ).fun  # fmt: skip
    found = weights(divergence="chi_square", alpha=alpha, outliers=0.0).double()
    assert (found * LOSSES.double()).mean().item() == pytest.approx(dual, rel=1e-4)
    assert found.square().mean().item() == pytest.approx(c**2, rel=1e-4)


@every_divergence
def test_among_the_rest_a_greater_loss_counts_no_less(divergence: str) -> None:
    found = weights(divergence=divergence, alpha=0.5, outliers=0.1)
    order = LOSSES.argsort(descending=True)[4:]
    assert (found[order].diff() <= 1e-6).all()
    assert found[order[0]] > found[order[-1]]


@every_divergence
@pytest.mark.parametrize("losses", [[0.3], [2.0, 2.0, 2.0], [0.0, 0.0, 1e-7], [1e6, 1e6 + 1, 5.0]])
def test_few_or_equal_losses_still_weigh_one_on_average(divergence: str, losses: list[float]) -> None:
    for alpha in (0.1, 0.5, 1.0):
        found = weights(torch.tensor(losses), divergence=divergence, alpha=alpha)
        assert found.isfinite().all()
        assert found.mean().item() == pytest.approx(1, abs=1e-4)


def test_flipped_records_count_for_nothing_and_are_not_learnt(clouds: Clouds, learn: Callable[..., Trainer]) -> None:
    x, y = clouds(400, gap=4.0)
    flipped = np.arange(400) % 10 == 3
    noisy = np.where(flipped, 1 - y, y)
    robust = RobustReweighting(outliers=0.2)
    found = []
    for data in ([], [robust]):
        trainer = learn(data, x, noisy, epochs=20)
        trainer.run()
        with torch.no_grad():
            logits = trainer.model(torch.from_numpy(x))
        found.append(F.cross_entropy(logits, torch.from_numpy(noisy), reduction="none"))
    weight = robust.weigh(found[1]).numpy()
    assert weight[flipped].mean() < 0.05
    assert weight[~flipped].mean() > 1
    plain, weighed = (losses[flipped].median() for losses in found)
    assert weighed > 2 * plain
