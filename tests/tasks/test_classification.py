"""A classification means what the field means, of tensors and arrays alike; a targeted attack has its own criterion."""

import pickle

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional as F

from assay import registry
from assay.attacks.pgd import PGD
from assay.errors import SpecError
from assay.objectives.base import Batch
from assay.objectives.distillation import Distillation
from assay.objectives.trades import Trades
from assay.recipes import Recipe, Training
from assay.seeds import Draw
from assay.tasks import class_scores, operating_point
from assay.tasks.classification import CLASSIFICATION, Classification
from assay.threats import Bounds, Threat
from assay.training.build import build_trainer

BOUNDS = Bounds(low=torch.full((2,), -9.0), high=torch.full((2,), 9.0))


def answers(n: int = 50, classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, classes, generator=generator) * 3
    logits[3, 1], logits[4, 0], logits[5] = torch.nan, torch.inf, -torch.inf
    return logits, torch.randint(classes, (n,), generator=generator)


def test_tensors_and_arrays_are_judged_alike() -> None:
    logits, y = answers()
    told = CLASSIFICATION.wrong(logits, y)
    assert np.array_equal(told.numpy(), CLASSIFICATION.wrong(logits.numpy(), y.numpy()))
    assert np.array_equal(CLASSIFICATION.answered(logits).numpy(), CLASSIFICATION.answered(logits.numpy()))
    assert told[3:6].all(), "no finite number is no answer"
    finite = CLASSIFICATION.answered(logits)
    assert torch.equal(told[finite], logits[finite].argmax(1) != y[finite])


def test_losses_are_those_of_pytorch() -> None:
    logits, y = answers()
    assert torch.equal(
        CLASSIFICATION.losses(logits, y).nan_to_num(), F.cross_entropy(logits, y, reduction="none").nan_to_num()
    )
    taught = torch.randn_like(logits)
    of_classes = F.cross_entropy(taught, taught.softmax(1), reduction="none")
    torch.testing.assert_close(CLASSIFICATION.imitation(taught, taught), of_classes)
    other = torch.randn_like(taught)
    expected = (taught.softmax(1) * (taught.log_softmax(1) - other.log_softmax(1))).sum(1)
    torch.testing.assert_close(CLASSIFICATION.divergence_from(taught)(other), expected)
    assert CLASSIFICATION.divergence_from(taught)(taught).abs().max() == 0
    assert CLASSIFICATION.outputs(y) == 3


def test_the_fit_is_in_the_order_of_the_loss_and_has_no_ceiling() -> None:
    logits, y = answers()
    finite = torch.isfinite(logits).all(1)
    known, labels = logits[finite].double(), y[finite]
    fits, losses = CLASSIFICATION.fits(known.numpy(), labels.numpy()), CLASSIFICATION.losses(known, labels).numpy()
    assert np.array_equal(np.argsort(-fits), np.argsort(losses))
    sure = np.array([[0.0, 900.0], [0.0, 901.0]])
    assert CLASSIFICATION.fits(sure, np.array([1, 1])).tolist() == [900.0, 901.0]
    assert sure.tolist() == [[0.0, 900.0], [0.0, 901.0]], "answers are left as they are"


def test_a_targeted_criterion_is_met_by_its_class_alone() -> None:
    logits, y = answers()
    aim = CLASSIFICATION.reaches(2)
    met = aim(logits, y)
    assert torch.equal(met, (logits.argmax(1) == 2) & logits.isfinite().all(1))
    assert np.array_equal(met.numpy(), aim(logits.numpy(), y.numpy()))
    assert pickle.loads(pickle.dumps(aim))(logits, y).equal(met), "it travels to workers"


def test_an_attack_is_judged_by_what_it_aims_at() -> None:
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
        model.bias.zero_()
    x, y = torch.tensor([[1.0, 0.0], [1.0, 0.8]]), torch.tensor([0, 0])
    threat = Threat(norm="linf", epsilon=0.6, bounds=BOUNDS)
    untargeted, towards_1, towards_2 = (
        PGD(steps=20, loss="margin").run(
            model,
            x,
            y,
            threat
            if aim is None
            else Threat(norm="linf", epsilon=0.6, bounds=BOUNDS, goal=CLASSIFICATION.reaches(aim)),
            seed=0,
        )
        for aim in (None, 1, 2)
    )
    assert untargeted.fooled.tolist() == [True, True]
    assert towards_1.fooled.tolist() == [False, False]
    assert towards_2.fooled.tolist() == [True, True]


def test_metrics_are_those_of_scikit_learn() -> None:
    logits, y = answers(n=200, classes=2)
    finite = torch.isfinite(logits).all(1)
    known, labels = logits[finite].double().numpy(), y[finite].numpy()
    decided, whole = np.zeros(len(labels), int), np.arange(len(labels))
    decided[::2] = 1
    found = CLASSIFICATION.metrics(known, labels, decided=decided, about={"decided_at": "here"}, bins=10)
    assert found["recall"][0](whole) == metrics.recall_score(labels, decided)
    assert found["precision"][0](whole) == metrics.precision_score(labels, decided)
    assert found["auroc"][0](whole) == pytest.approx(metrics.roc_auc_score(labels, known[:, 1] - known[:, 0]))
    assert found["f1"][1]["decided_at"] == "here" and "decided_at" not in found["auroc"][1]


def test_an_operating_point_needs_two_classes() -> None:
    Classification(decide_at="operating_point").refuse(2)
    CLASSIFICATION.refuse(7)
    with pytest.raises(SpecError, match="two classes, and the data have 3") as refused:
        Classification(decide_at="operating_point").refuse(3)
    assert (refused.value.setting, refused.value.given, refused.value.allowed) == ("task.decide_at", 3, 2)


def test_it_is_known_by_its_name() -> None:
    assert registry.build("task", "classification") == CLASSIFICATION
    assert CLASSIFICATION.deciding == {} and Classification(sensitivity=0.5).deciding == {}
    clinic = Classification(decide_at="operating_point")
    assert clinic.deciding and clinic.training == CLASSIFICATION.training


@pytest.mark.parametrize("objective", ["standard", {"name": "pgd", "epsilon": 0.1}, {"name": "trades", "epsilon": 0.1}])
def test_training_calls_no_score_of_answers(objective: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names a training leaves these files out."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("training asked for a score")

    for module in (class_scores, operating_point):
        for name, held in vars(module).items():
            if callable(held) and getattr(held, "__module__", "") == module.__name__:
                monkeypatch.setattr(module, name, refuse)
    recipe = Recipe(objective=objective, training=Training(epochs=1))
    x, y = torch.randn(20, 2), torch.arange(20) % 3
    build_trainer(nn.Linear(2, 3), recipe, x, y, bounds=BOUNDS, seed=0).run()


def batch(task: Classification, teacher: nn.Module) -> Batch:
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    draw = Draw(np.random.default_rng(0), total=6)
    return Batch(x=x, y=torch.arange(6) % 3, bounds=BOUNDS, draw=draw, teacher=teacher, task=task)


@pytest.mark.parametrize("objective", [Trades(epsilon=0.2), Distillation(temperature=3.0)])
def test_losses_of_objectives_are_finite_and_one_a_record(objective: Trades | Distillation) -> None:
    model = nn.Linear(2, 3)
    given = batch(CLASSIFICATION, nn.Linear(2, 3))
    losses = objective.losses(model, given, objective.craft(model, given))
    assert losses.shape == (6,) and losses.isfinite().all()
