"""The seam holds: a task that nothing in the tree knows is trained, attacked and judged by its own words."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay import registry
from assay.attacks.base import judge_proposal
from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.pgd import PGD
from assay.attacks.random_noise import RandomNoise
from assay.attacks.square import Square
from assay.evaluations.attack_runs import AttackRun, AttackTarget
from assay.evaluations.subject import Subject
from assay.objectives.base import Batch
from assay.recipes import Recipe, Training
from assay.registry import register
from assay.seeds import Draw
from assay.study.identity import key_of_training
from assay.study.plan import load_datasets, plan
from assay.study.spec import Study
from assay.tasks.base import Array
from assay.tasks.classification import Classification
from assay.threats import Bounds, Threat
from assay.training.build import build_trainer

BOUNDS = Bounds(low=torch.full((1,), -9.0), high=torch.full((1,), 9.0))
Tiny = Callable[..., Study]


class Grades(Classification):
    """Ordinal grades: an answer is wrong where it is more than one grade off, and its loss is the squared distance."""

    name: Literal["grades"] = "grades"  # type: ignore[assignment]

    def losses(self, answers: Tensor, targets: Tensor) -> Tensor:
        grades = torch.arange(answers.shape[1], dtype=answers.dtype, device=answers.device)
        return ((answers.softmax(1) * grades).sum(1) - targets).square()

    def wrong(self, answers: Array, targets: Array) -> Array:
        return (abs(answers.argmax(1) - targets) > 1) | ~self.answered(answers)


@pytest.fixture(autouse=True)
def grades() -> Iterator[Grades]:
    register("task")(Grades)
    yield Grades()
    del registry._METHODS["task", "grades"]


class Line(nn.Module):
    """Grade k is answered where the one input is nearest to k."""

    def forward(self, x: Tensor) -> Tensor:
        return -(x - torch.arange(4.0)).square()


X, Y = torch.tensor([[0.0], [1.1], [3.0]]), torch.tensor([0, 1, 3])


@pytest.mark.parametrize(
    "attack", [PGD(steps=30, loss="margin"), Square(queries=200), RandomNoise(samples=200), HopSkipJump()]
)
def test_an_attack_fools_only_where_its_task_says_so(attack: Any, grades: Grades) -> None:
    for epsilon, by_class, by_grade in ((1.0, True, False), (2.2, True, True)):
        for goal, expected in ((Classification().criterion, by_class), (grades.criterion, by_grade)):
            reach = float("inf") if attack.minimal else epsilon
            found = attack.run(Line(), X, Y, Threat(norm="linf", epsilon=reach, bounds=BOUNDS, goal=goal), seed=0)
            fooled = found.fooled & (found.distance <= epsilon + 1e-5)
            assert fooled.tolist() == [expected] * 3, (epsilon, goal)


def test_the_judge_believes_the_task_alone(grades: Grades) -> None:
    threat = Threat(norm="linf", epsilon=9.0, bounds=BOUNDS, goal=grades.criterion)
    judged = judge_proposal(Line(), X, Y, torch.tensor([[1.0], [3.0], [torch.nan]]), threat)
    assert judged.fooled.tolist() == [False, True, False]


OBJECTIVES = [
    "standard",
    {"name": "pgd", "epsilon": 0.1},
    {"name": "fast", "epsilon": 0.1},
    {"name": "gaussian_noise", "sigma": 0.1},
]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_take_the_loss_of_a_record_from_the_task(objective: Any, grades: Grades) -> None:
    chosen = Recipe(objective=objective).objective
    model = nn.Linear(1, 4)
    batch = Batch(x=X, y=Y, bounds=BOUNDS, draw=Draw(np.random.default_rng(0), total=3), task=grades)
    crafted = chosen.craft(model, batch)
    torch.testing.assert_close(chosen.losses(model, batch, crafted), grades.losses(model(crafted), Y))


class Contrary(Classification):
    """Its loss falls where that of a classification rises."""

    name: Literal["contrary"] = "contrary"  # type: ignore[assignment]

    def losses(self, answers: Tensor, targets: Tensor) -> Tensor:
        return -super().losses(answers, targets)


@pytest.mark.parametrize("objective", OBJECTIVES[1:3])
def test_examples_climb_the_loss_of_the_task(objective: Any) -> None:
    chosen, model = Recipe(objective=objective).objective, nn.Linear(1, 4, bias=False)
    with torch.no_grad():  # with these weights each loss rises, or falls, all over its ball: the start decides nothing
        model.weight.copy_(torch.tensor([[3.0], [1.0], [-1.0], [-3.0]]))
    usual, contrary = (
        chosen.craft(model, Batch(x=X, y=Y, bounds=BOUNDS, draw=Draw(np.random.default_rng(0), total=3), task=task)) - X
        for task in (Classification(), Contrary())
    )
    assert usual.sign().squeeze(1).tolist() == [-1, 1, 1]
    assert contrary.sign().squeeze(1).tolist() == [1, -1, -1]


def test_a_training_learns_and_stops_by_its_own_task(grades: Grades) -> None:
    stopping = {"epsilon": 0.0, "patience": 50}
    recipe = Recipe(training=Training(epochs=3, batch_size=4, learning_rate=0.05, early_stopping=stopping))
    x = torch.rand(60, 1, generator=torch.Generator().manual_seed(0)) * 3
    y = x.round().long().squeeze(1)
    found = {}
    for task in (Classification(), grades):
        torch.manual_seed(0)
        trainer = build_trainer(nn.Linear(1, 4), recipe, x, y, bounds=BOUNDS, seed=0, validation=(x, y), task=task)
        trainer.run()
        found[task.name] = trainer
    accuracies = found["grades"].figures["robust_validation"]
    right = 1 - grades.wrong(found["grades"].model(x).detach(), y).double().mean()
    assert max(accuracies) == pytest.approx(float(right))
    assert not torch.equal(found["grades"].model.weight, found["classification"].model.weight)


def test_evaluations_judge_by_the_task_of_their_subject(make: Callable[..., Subject], grades: Grades) -> None:
    x = np.array([[1.0], [0.2], [2.0]], np.float32)
    y = np.array([0, 1, 0])
    for task, right in ((Classification(), [False, False, False]), (grades, [True, True, False])):
        subject = make(Line(), x, y, classes=4, task=task)
        assert subject.right(np.arange(3)).tolist() == right
        target = AttackTarget.of(subject, norm="linf", epsilons=(0.1,), records=None)
        assert target.right.tolist() == right
        run = AttackRun(attack=PGD(steps=1), norm="linf", radii=target.radii)
        assert (~target.curves({"pgd": run})["pgd"][0.0].fooled).tolist() == right


def test_a_study_names_it_and_it_names_the_training(tiny: Tiny) -> None:
    usual, other = (
        plan(study, load_datasets(study))[0]
        for study in (tiny({"standard": {}}), tiny({"standard": {}}, {"task": "grades"}))
    )
    assert isinstance(other.task, Grades)
    assert key_of_training(usual) != key_of_training(other)
