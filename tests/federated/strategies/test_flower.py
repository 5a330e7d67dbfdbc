"""Flower's strategies by name: built unmodified, and refused before training where they cannot work."""

from typing import Any

import pytest
from flwr.serverapp import strategy as strategies
from pydantic import BaseModel

import assay.objectives  # noqa: F401
from assay.errors import IncompatibleRecipeError, SpecError
from assay.federated.strategies.flower import STRATEGIES, Flower, allowed_settings
from assay.recipes import Privacy, Recipe, Training
from assay.registry import build, choice_of
from tests.mistakes import refused


class Holder(BaseModel):
    strategy: choice_of("strategy")  # type: ignore[valid-type]


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_strategy_is_built_by_its_short_name(name: str) -> None:
    made = build("strategy", f"flower:{name}")
    assert isinstance(made, Flower)
    assert made == build("strategy", {"name": "flower", "strategy": name})
    assert type(made.build(Recipe(), min_train_nodes=4)) is getattr(strategies, name)
    assert made.build(Recipe(), min_train_nodes=4).min_train_nodes == 4


def test_a_recipe_stores_it_in_full_and_reads_it_again() -> None:
    held = Holder(strategy={"name": "flower:FedAdam", "settings": {"eta": 0.5}})
    stored = held.model_dump()
    assert stored["strategy"] == {"name": "flower", "strategy": "FedAdam", "settings": {"eta": 0.5}}
    assert Holder(**stored) == held
    assert held.strategy.build(Recipe()).eta == 0.5


def test_every_strategy_of_flower_is_offered_or_left_out_on_purpose() -> None:
    """A new release of Flower shows here."""
    left_out = {name for name in strategies.__all__ if name not in STRATEGIES}
    assert left_out - {"Result", "Strategy"} == {
        *(name for name in strategies.__all__ if name.startswith(("DifferentialPrivacy", "FedXgb")))
    }


def test_an_unknown_strategy_lists_the_known_ones() -> None:
    with refused(SpecError, "strategy", "FedX", list(STRATEGIES)):
        build("strategy", "flower:FedX")


@pytest.mark.parametrize(
    ("name", "settings", "setting", "given"),
    [
        ("FedAdam", {"etaa": 1.0}, "settings", "etaa"),
        ("FedAdam", {"fraction_train": 0.5}, "settings", "fraction_train"),
        ("FedAdam", {"train_metrics_aggr_fn": "print"}, "settings", "train_metrics_aggr_fn"),
        ("FedAdam", {"eta": "fast"}, "settings.eta", "fast"),
        ("Krum", {"num_malicious_nodes": 1.5}, "settings.num_malicious_nodes", 1.5),
        ("Krum", {"num_malicious_nodes": True}, "settings.num_malicious_nodes", True),
        ("FedTrimmedAvg", {"beta": 0.7}, "settings", {"beta": 0.7}),
    ],
)
def test_settings_are_those_of_its_signature(name: str, settings: dict[str, Any], setting: str, given: Any) -> None:
    with refused(SpecError, setting, given):
        build("strategy", {"name": "flower", "strategy": name, "settings": settings})


def test_what_may_be_set_is_read_from_the_signature() -> None:
    assert allowed_settings("FedAdam") == ["eta", "eta_l", "beta_1", "beta_2", "tau"]
    assert allowed_settings("FedAvg") == []


def test_a_colon_means_nothing_to_other_methods() -> None:
    with refused(SpecError, "name", "fedavg:FedAvg"):
        build("strategy", "fedavg:FedAvg")


def test_what_cannot_end_well_is_refused_before_training() -> None:
    bulyan = Flower(strategy="Bulyan", settings={"num_malicious_nodes": 1})
    bulyan.refuse(7, Recipe())
    with refused(IncompatibleRecipeError, "federation.strategy", 6, 7):
        bulyan.refuse(6, Recipe())
    fair = Flower(strategy="QFedAvg")
    sgd = Training(optimizer="sgd", learning_rate=0.05)
    with refused(IncompatibleRecipeError, "federation.strategy", "QFedAvg"):
        fair.refuse(3, Recipe(training=sgd, privacy=Privacy(epsilon=1.0)))
    with refused(IncompatibleRecipeError, "federation.strategy.settings", "adam"):
        fair.refuse(3, Recipe())
    assert fair.build(Recipe(training=sgd)).client_learning_rate == 0.05
