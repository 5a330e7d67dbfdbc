"""Federations that cannot be trained are refused before anything runs, by the forecast and by the plan."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import SpecError
from assay.study.plan import forecast_study, load_datasets, plan
from assay.study.spec import Study
from tests.mistakes import refused

Tiny = Callable[..., Study]
NATURAL = {"partition": "natural", "by": "site"}


@pytest.fixture
def of_sites(tiny: Tiny, patients: Callable[..., Path]) -> Callable[..., Study]:
    """A study of sixty patients at three sites, with one federated recipe."""

    def make(**federation: Any) -> Study:
        about = {"name": "arrays", "low": -4, "high": 5, "public_preprocessing": True, "site": "site"}
        study = tiny(
            {"federated": {"federation": federation}}, {"dataset": {**about, "path": str(patients("sites.npz"))}}
        )
        with np.load(patients()) as file:
            np.savez(patients("sites.npz"), **file, site=np.repeat(["north", "south", "west"], 20))
        return study

    return make


def both(study: Study) -> list[Callable[[], object]]:
    return [lambda: list(forecast_study(study)), lambda: plan(study, load_datasets(study))]


@pytest.mark.parametrize(
    ("federation", "setting", "given", "allowed"),
    [
        ({"clients": 40}, "federation.clients", 40, 26),
        ({"clients": 5, "partition": "dirichlet", "alpha": 1e-6, "smallest_client": 5}, "federation.alpha", 1e-6, None),
        ({"clients": 4, "strategy": {"name": "krum", "malicious": 1}}, "federation.strategy", 4, 5),
        ({"clients": 6, "strategy": {"name": "bulyan", "malicious": 1}}, "federation.strategy", 6, 7),
        ({"clients": 2, "strategy": "fedmedian"}, "federation.strategy", 2, 3),
        ({"clients": 9, "strategy": "fedmedian", "policy": "those_that_answer"}, "federation.strategy", 1, 3),
        ({**NATURAL, "clients": 9, "strategy": {"name": "krum", "malicious": 1}}, "federation.strategy", 3, 5),
        ({**NATURAL, "clients": 9, "policy": "at_least", "at_least": 5}, "federation.at_least", 5, 3),
        ({"clients": 3, "partition": "natural", "by": "patient"}, "federation.by", "patient", "site"),
    ],
    ids=[
        "more clients than records",
        "an α that cannot be dealt",
        "krum",
        "bulyan",
        "median",
        "a policy that may leave too few",
        "fewer sites than krum needs",
        "fewer sites than answers",
        "no patients",
    ],
)  # fmt: skip
def test_what_cannot_be_federated_is_refused_before_any_training(
    of_sites: Callable[..., Study], federation: dict[str, Any], setting: str, given: Any, allowed: Any
) -> None:
    for look in both(of_sites(**federation)):
        for _ in range(2):
            began = time.perf_counter()
            with refused(SpecError, setting, given, allowed):
                look()
        # The first time imports what splits the records.
        assert time.perf_counter() - began < 1


def test_the_error_names_cohort_and_recipe(of_sites: Callable[..., Study]) -> None:
    for look in both(of_sites(clients=40)):
        with pytest.raises(SpecError, match=r"^cohort 'made', recipe 'federated': "):
            look()


@pytest.mark.parametrize("alpha", [0, -1])
def test_an_alpha_of_nothing_is_a_mistake_of_the_file(of_sites: Callable[..., Study], alpha: float) -> None:
    with refused(SpecError, "cohorts.made.recipes.federated.federation.alpha", alpha):
        of_sites(clients=3, partition="dirichlet", alpha=alpha)


def test_as_many_clients_as_a_strategy_needs_are_planned(of_sites: Callable[..., Study]) -> None:
    for federation in ({"clients": 5, "strategy": {"name": "krum", "malicious": 1}}, NATURAL):
        for look in both(of_sites(**federation)):
            look()


def test_more_clients_than_patients_are_refused(tiny: Tiny, patients: Callable[..., Path]) -> None:
    study = tiny({"federated": {"federation": {"clients": 20}}})
    with np.load(patients()) as file:
        np.savez(patients(), **file, groups=np.repeat(np.arange(20), 3))
    for look in both(study):
        with refused(SpecError, "federation.clients", 20):
            look()


def test_a_strategy_is_judged_where_the_data_are_absent(tiny: Tiny) -> None:
    absent = {"dataset": {"name": "arrays", "path": "nowhere.npz", "low": 0, "high": 1}}
    with refused(SpecError, "federation.strategy", 2, 3):
        list(forecast_study(tiny({"it": {"federation": {"clients": 2, "strategy": "fedmedian"}}}, absent)))
    natural = {"clients": 2, "strategy": "fedmedian", **NATURAL}
    (told,) = forecast_study(tiny({"it": {"federation": natural}}, absent))
    assert told.records is None
