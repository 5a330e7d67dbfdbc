"""Fast FGSM, interval bounds and distillation against what their papers define."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.data.base import Dataset
from assay.errors import SpecError
from assay.objectives.base import Batch
from assay.objectives.distillation import Distillation
from assay.objectives.fast import FastAdversarial
from assay.objectives.interval_bounds import IntervalBounds
from assay.objectives.standard import Standard
from assay.recipes import Recipe
from assay.registry import build
from assay.threats import Bounds, Threat
from tests.bounds.networks import worst_logits

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
MakeBatch = Callable[..., Batch]
WIDE = Bounds(low=torch.tensor(-99.0), high=torch.tensor(99.0))


def test_the_fast_step_of_a_linear_model_is_one_signed_step_within_the_ball(blobs: Blobs, batch_of: MakeBatch) -> None:
    x, y = blobs(20, torch.float64)
    model = nn.Linear(5, 2).double()
    change = FastAdversarial(epsilon=0.3, relative_step=2.0).craft(model, batch_of(x, y, bounds=WIDE)) - x
    # Two radii from anywhere in the ball reach its worst corner.
    towards = (model.weight[1] - model.weight[0]).sign() * (1 - 2 * y[:, None])
    torch.testing.assert_close(change, (0.3 * towards).detach())
    short = FastAdversarial(epsilon=0.3).craft(model, batch_of(x, y, bounds=WIDE)) - x
    assert short.abs().max() <= 0.3 + 1e-12
    assert (short * towards >= 0.3 * (1.25 - 1) - 1e-12).all()


@pytest.mark.parametrize("rollbacks", [0, 1, 3])
def test_each_recovery_doubles_the_steps_and_halves_their_size(
    rollbacks: int, blobs: Blobs, network: Network, batch_of: MakeBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "assay.objectives.fast.ascend", lambda model, x, y, threat, **how: asked.append(how) or (x, None)
    )
    FastAdversarial(epsilon=0.4, relative_step=1.5).craft(network(), batch_of(*blobs(4), rollbacks=rollbacks))
    assert asked[0]["steps"] == 2**rollbacks
    assert asked[0]["step_size"] * asked[0]["steps"] == pytest.approx(1.5 * 0.4)


def test_it_is_verified_by_pgd_within_the_same_ball(
    trained: nn.Module, records: tuple[Tensor, Tensor], wdbc: Dataset, batch_of: MakeBatch
) -> None:
    (x, y), objective = records, FastAdversarial(epsilon=1.0, relative_step=0.1)
    crafted, verified = (
        attack(trained, batch_of(x, y, bounds=wdbc.bounds)) for attack in (objective.craft, objective.verify)
    )
    assert (Threat(norm="linf", epsilon=1.0, bounds=wdbc.bounds).distance(verified, x) <= 1 + 1e-5).all()
    right = [float((trained(found).argmax(1) == y).double().mean()) for found in (crafted, verified)]
    assert right[1] < right[0] - 0.3


@pytest.mark.parametrize(("progress", "grown"), [(0.0, 0.0), (0.1, 0.0), (0.35, 0.5), (0.6, 1.0), (1.0, 1.0)])
def test_radius_and_weight_grow_with_training(
    progress: float, grown: float, blobs: Blobs, network: Network, batch_of: MakeBatch
) -> None:
    x, y = blobs(12)
    model, objective = network(), IntervalBounds(epsilon=0.2, final_kappa=0.4)
    radius, kappa = 0.2 * grown, 1 - 0.6 * grown
    batch = batch_of(x, y, progress=progress, bounds=WIDE)
    plain = F.cross_entropy(model(x), y, reduction="none")
    worst = F.cross_entropy(worst_logits(model, x - radius, x + radius, y), y, reduction="none")
    torch.testing.assert_close(objective.losses(model, batch, x), kappa * plain + (1 - kappa) * worst)


def test_the_box_stays_within_valid_inputs(blobs: Blobs, network: Network, batch_of: MakeBatch) -> None:
    x, y = blobs(12)
    tight = Bounds(low=x.min(0).values - 1e-6, high=x.max(0).values + 1e-6)
    objective = IntervalBounds(epsilon=50.0)
    losses = [objective.losses(network(), batch_of(x, y, progress=1.0, bounds=b), x) for b in (tight, WIDE)]
    assert (losses[0] < losses[1]).all()


def test_a_ramp_that_never_ends_is_refused() -> None:
    with pytest.raises(SpecError, match=r"warm_up 0.6 and ramp 0.5 add up to more than 1"):
        build("objective", {"name": "interval_bounds", "epsilon": 0.1, "warm_up": 0.6, "ramp": 0.5})


def test_distillation_is_the_cross_entropy_to_softened_answers(
    blobs: Blobs, network: Network, batch_of: MakeBatch
) -> None:
    x, y = blobs(9)
    torch.manual_seed(0)
    teacher = nn.Linear(5, 2)
    objective = Distillation(temperature=7.0)
    found = objective.losses(network(), batch_of(x, y, teacher=teacher), x)
    soft = np.exp(teacher(x).detach().numpy() / 7)
    soft /= soft.sum(1, keepdims=True)
    logits = network()(x).detach().numpy() / 7
    expected = -(soft * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))).sum(1)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)
    found.sum().backward()
    assert teacher.weight.grad is None


def test_a_teacher_is_trained_first_and_both_share_the_budget() -> None:
    recipe = Recipe(objective="distillation", privacy={"epsilon": 3})
    teacher, student = recipe.stages()
    assert teacher.objective == Standard(temperature=20.0)
    assert student.objective == recipe.objective
    assert [stage.privacy.trainings for stage in (teacher, student) if stage.privacy] == [2, 2]
    (alone,) = Recipe(privacy={"epsilon": 3}).stages()
    assert alone.privacy is not None and alone.privacy.trainings == 1


def test_a_teacher_does_not_stop_early() -> None:
    recipe = Recipe(objective="distillation", training={"epochs": 7, "early_stopping": {"epsilon": 0.1}})
    teacher, student = recipe.stages()
    assert (teacher.training.epochs, teacher.training.early_stopping) == (7, None)
    assert student.training == recipe.training
