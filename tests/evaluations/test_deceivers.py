"""Models made to deceive an attack: each is caught by its rule, and answered by an attack made for it.

And honest models, of which none is accused.
"""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.objectives.standard import Standard
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.results import Measurement, judged
from assay.training.build import build_trainer

Make = Callable[..., Subject]
One = Callable[..., Measurement]
EPSILON = 0.5


class Behind(nn.Module):
    """A network behind something done to its inputs."""

    def __init__(self, change: Callable[[Tensor], Tensor], network: nn.Module) -> None:
        super().__init__()
        self.change, self.network = change, network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.change(x))


class Saturating(nn.Module):
    """A sigmoid, so steep that its slope is lost to rounding nearly everywhere."""

    steepness = 4.0

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.steepness * x)


def normalised(x: Tensor) -> Tensor:
    """By the mean and the spread of the batch that it is in, as batch norm does in training."""
    return (x - x.mean(0)) / (x.std(0, correction=0) + 0.1)


def train(model: nn.Module, data: Dataset, rows: np.ndarray | None = None, **settings: object) -> nn.Module:
    """Train for a moment; ``settings`` are those of the recipe and of the training."""
    given = {"epochs": 8, "learning_rate": 0.01, **settings}
    teacher, objective = given.pop("teacher", None), given.pop("objective", "standard")
    x, y = (torch.from_numpy(part if rows is None else part[rows]) for part in (data.x, data.y))
    recipe = Recipe(objective=objective, training=Training(**given))
    build_trainer(model, recipe, x, y, bounds=data.bounds, classes=data.classes, seed=1, teacher=teacher).run()
    return model.eval()


def perceptron(data: Dataset) -> nn.Module:
    return MLP(hidden=(16,)).build(data.shape, data.classes, seed=1)


def quantising(network: nn.Module, data: Dataset) -> nn.Module:
    return Behind(torch.round, network)


def saturating(network: nn.Module, data: Dataset) -> nn.Module:
    model = train(nn.Sequential(nn.Linear(30, 32), Saturating(), nn.Linear(32, 2)), data)
    model[1].steepness = 1000.0
    return model


def randomised(network: nn.Module, data: Dataset) -> nn.Module:
    return Behind(lambda x: F.dropout(x, training=True), network)


def distilled(network: nn.Module, data: Dataset) -> nn.Module:
    quick = {"epochs": 30, "learning_rate": 0.05}
    teacher = train(perceptron(data), data, objective=Standard(temperature=100.0), **quick)
    return train(
        perceptron(data), data, objective={"name": "distillation", "temperature": 100}, teacher=teacher, **quick
    )


def probabilities(network: nn.Module, data: Dataset) -> nn.Module:
    return nn.Sequential(network, nn.Softmax(1))


def certain(network: nn.Module, data: Dataset) -> nn.Module:
    return nn.Sequential(network, Behind(lambda logits: 1000 * logits, nn.Softmax(1)))


def shattering(network: nn.Module, data: Dataset) -> nn.Module:
    return Behind(lambda x: x + 0.02 * torch.sin(500 * x), network)


def flooring(network: nn.Module, data: Dataset) -> nn.Module:
    return Behind(lambda x: 0.5 * torch.div(x + 0.25, 0.5, rounding_mode="floor"), network)


def of_the_batch(network: nn.Module, data: Dataset) -> nn.Module:
    return Behind(normalised, network)


def honest(network: nn.Module, data: Dataset) -> nn.Module:
    return network


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Measurement]]:
    """What was asked before: several tests look at the same figures."""
    return {}


@pytest.fixture
def measure(
    make: Make, trained: nn.Module, wdbc: Dataset, measured: dict[str, list[Measurement]]
) -> Callable[..., list[Measurement]]:
    """Ask the robustness of a deceiver, every third patient at one radius."""

    def ask(deceive: Callable[[nn.Module, Dataset], nn.Module], **settings: object) -> list[Measurement]:
        key = f"{deceive.__name__} {settings}"
        if key not in measured:
            measured[key] = anew(deceive, **settings)
        return measured[key]

    def anew(deceive: Callable[[nn.Module, Dataset], nn.Module], **settings: object) -> list[Measurement]:
        torch.manual_seed(0)
        model = deceive(trained.eval(), wdbc)
        subject = make(model, wdbc.x[::3], wdbc.y[::3], about={"low": wdbc.low, "high": wdbc.high})
        quick = {"epsilons": (EPSILON,), "carlini_wagner": {"steps": 2, "search_steps": 1}}
        return judged(Robustness(**{**quick, **settings}).measure(subject))

    return ask


def raised(found: list[Measurement]) -> set[str]:
    """Names of the rules that did not pass."""
    rows = [m for m in found if m.name.startswith("check.") and m.verdict != "pass"]
    return {m.name.removeprefix("check.") for m in rows}


def test_the_network_behind_the_deceivers_is_accused_of_nothing(measure: Callable[..., list[Measurement]]) -> None:
    assert raised(measure(honest)) == set()


@pytest.mark.parametrize(
    ("deceive", "rules"),
    [
        (quantising, {"zero_gradients", "unbounded_attack", "black_box_against_white_box"}),
        (saturating, {"zero_gradients", "unbounded_attack"}),
        (probabilities, {"probability_outputs"}),
        (randomised, {"randomised_forward"}),
        (of_the_batch, {"batch_dependence"}),
        (distilled, {"gradient_masking"}),
        (certain, {"probability_outputs"}),
        (shattering, {"black_box_against_white_box"}),
        (flooring, {"zero_gradients", "unbounded_attack"}),
    ],
)
def test_a_deceiver_is_caught(
    deceive: Callable[[nn.Module, Dataset], nn.Module], rules: set[str], measure: Callable[..., list[Measurement]]
) -> None:
    assert rules <= raised(measure(deceive, adaptive=False))


@pytest.mark.parametrize(
    ("deceive", "shown", "answer", "points"),
    [
        (quantising, "pgd_margin", "pgd_straight_through", 40),
        (saturating, "pgd_margin", "pgd_straight_through", 35),
        (randomised, "pgd_margin", "pgd_expectation", 10),
        (distilled, "pgd_cross_entropy", "pgd_margin", 40),
    ],
)
def test_the_answer_to_a_deceiver_takes_points_and_both_figures_stand(  # noqa: PLR0917
    deceive: Callable[[nn.Module, Dataset], nn.Module],
    shown: str,
    answer: str,
    points: float,
    measure: Callable[..., list[Measurement]],
    one: One,
) -> None:
    found = measure(deceive)
    before, after = (one(found, "robust_accuracy", attack=name, epsilon=EPSILON).value for name in (shown, answer))
    assert 100 * (before - after) >= points
    worst = one(found, "worst_case_accuracy", epsilon=EPSILON)
    assert worst.value <= after
    if answer != "pgd_margin":
        without = one(found, "worst_case_before_adaptive", epsilon=EPSILON)
        assert without.value > worst.value
        assert answer in set(worst.conditions["attacks"]) - set(without.conditions["attacks"])
    assert any("called for" in flag.message for m in found if m.name == "worst_case_accuracy" for flag in m.flags) == (
        answer != "pgd_margin"
    )


@pytest.mark.parametrize(
    ("deceive", "answer", "points"),
    [
        (quantising, "pgd_straight_through", 5),
        (certain, "pgd_logarithm", 1),
        (shattering, "pgd_smoothed_input", 3),
        (flooring, "pgd_straight_through", 5),
    ],
)
def test_the_answer_leaves_no_more_than_the_network_underneath_has(
    deceive: Callable[[nn.Module, Dataset], nn.Module],
    answer: str,
    points: float,
    measure: Callable[..., list[Measurement]],
    one: One,
) -> None:
    """Rounding does change what can be reached, for better or worse; all else hides a network and nothing more."""
    underneath = one(measure(honest), "robust_accuracy", attack="pgd_margin", epsilon=EPSILON).value
    found = measure(deceive)
    shown = one(found, "robust_accuracy", attack="pgd_margin", epsilon=EPSILON).value
    answered = one(found, "robust_accuracy", attack=answer, epsilon=EPSILON).value
    assert 100 * (answered - underneath) <= points
    assert shown > underneath + 0.2


def test_steps_that_are_too_small_are_caught_and_answered(measure: Callable[..., list[Measurement]], one: One) -> None:
    small = PGD(relative_step=0.1)
    found = measure(honest, attacks=(small,))
    for rule in ("step_size", "boundary_reached"):
        assert one(found, f"check.{rule}", attack=small.label).verdict == "warn"
        assert one(found, f"check.{rule}", attack="pgd_cross_entropy").verdict == "pass"
    weak, long = (one(found, "robust_accuracy", attack=name, epsilon=EPSILON) for name in (small.label, "pgd_long"))
    assert 100 * (weak.value - long.value) >= 40
    assert any("steps are too small" in flag.message for flag in weak.flags)


def test_a_model_that_was_left_in_training_is_caught_and_attacked_as_it_is_used(
    make: Make, wdbc: Dataset, one: One
) -> None:
    model = train(nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 2)), wdbc)
    asked = Robustness(epsilons=(EPSILON,), carlini_wagner={"steps": 2, "search_steps": 1}, adaptive=False)
    found = []
    for training in (False, True):
        subject = make(model.train(training), wdbc.x[::6], wdbc.y[::6], about={"low": wdbc.low, "high": wdbc.high})
        found.append(judged(asked.measure(subject)))
        assert one(found[-1], "check.train_mode").verdict == ("fail" if training else "pass")
    used, left = (one(rows, "robust_accuracy", attack="pgd_margin", epsilon=EPSILON).value for rows in found)
    assert used == left


Builder = Callable[[Dataset], nn.Module]


class Double(nn.Module):
    """A network that computes in double precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.double())


def dense(*hidden: int) -> Builder:
    return lambda data: MLP(hidden=hidden).build(data.shape, data.classes, seed=2)


def layered(activation: type[nn.Module], *, norm: bool = False, dropout: float = 0.0) -> Builder:
    def network(data: Dataset) -> nn.Module:
        torch.manual_seed(2)
        width, layers = data.x[0].size, [nn.Flatten()]
        for _ in range(2):
            layers += [nn.Linear(width, 32), *([nn.BatchNorm1d(32)] if norm else []), activation(), nn.Dropout(dropout)]
            width = 32
        return nn.Sequential(*layers, nn.Linear(width, data.classes))

    return network


def convolved(activation: type[nn.Module], pool: type[nn.Module], *, norm: bool = False) -> Builder:
    def network(data: Dataset) -> nn.Module:
        torch.manual_seed(2)
        normed = [nn.BatchNorm2d(8)] if norm else []
        layers = [nn.Conv2d(1, 8, 3, padding=1), *normed, activation(), pool(2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(128, data.classes))

    return network


def strided(**settings: object) -> Builder:
    return lambda data: CNN(channels=(4, 8), hidden=32, **settings).build(data.shape, data.classes, seed=2)


def adversarially(data: Dataset) -> dict[str, object]:
    return {"objective": {"name": "pgd", "epsilon": 0.2 if data.name == "wdbc" else 0.1, "steps": 5}}


HONEST: dict[str, tuple[str, Builder, bool]] = {
    "logistic regression": ("wdbc", dense(), False),
    "narrow": ("wdbc", dense(8), False),
    "wide": ("wdbc", dense(256), False),
    "deep": ("wdbc", dense(64, 64, 64), False),
    "tanh": ("wdbc", layered(nn.Tanh), False),
    "sigmoid": ("wdbc", layered(nn.Sigmoid), False),
    "gelu": ("wdbc", layered(nn.GELU), False),
    "dropout": ("wdbc", layered(nn.ReLU, dropout=0.5), False),
    "batch norm": ("wdbc", layered(nn.ReLU, norm=True), False),
    "double precision": ("wdbc", lambda data: Double(dense(32)(data)), False),
    "log-probabilities": ("wdbc", lambda data: nn.Sequential(dense(32)(data), nn.LogSoftmax(1)), False),
    "adversarially trained": ("wdbc", dense(32), True),
    "adversarially trained, smooth": ("wdbc", layered(nn.Softplus), True),
    "ten classes, linear": ("digits", dense(), False),
    "ten classes, dense": ("digits", dense(64), False),
    "ten classes, adversarially trained": ("digits", dense(64), True),
    "convolutions": ("digits", strided(), False),
    "convolutions, adversarially trained": ("digits", strided(), True),
    "convolutions, batch norm, average pooling": ("digits", convolved(nn.ReLU, nn.AvgPool2d, norm=True), False),
    "convolutions, tanh, maximum pooling": ("digits", convolved(nn.Tanh, nn.MaxPool2d), False),
}


@functools.cache
def digits() -> Dataset:
    return build("dataset", "digits").load()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_is_accused_of_nothing(name: str, wdbc: Dataset) -> None:
    source, builder, adversarial = HONEST[name]
    data, radii = (wdbc, (0.1, 0.3, 0.5)) if source == "wdbc" else (digits(), (0.05, 0.1))
    order = np.random.default_rng(2).permutation(len(data.x))
    test, train_rows = np.sort(order[:200]), np.sort(order[200:1400])
    model = train(builder(data), data, train_rows, **(adversarially(data) if adversarial else {}))
    split = Split(train=train_rows, validation=np.arange(0), calibration=np.arange(0), test=test)
    subject = Subject(model=model, dataset=data, split=split, recipe=None, log=None, seed=0)
    found = judged(Robustness(epsilons=radii, carlini_wagner={"steps": 2, "search_steps": 1}).measure(subject))
    assert raised(found) == set()
    clean, *_, last = (m.value for m in found if m.name == "worst_case_accuracy")
    assert last < clean
    assert clean > 0.8
