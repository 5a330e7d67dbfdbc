"""What was required before the first measurement is told from what was required after it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.errors import StorageError
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.registration import FILE, Registration, register_requirements, registration, statements
from assay.study.run import run_study
from assay.study.spec import Study
from tests.mistakes import refused
from tests.studies import Memory

Tiny = Callable[..., Study]
ACCURATE, SENSITIVE = "accuracy ≥ 50 %", "sensitivity ≥ 50 %"


def required(tiny: Tiny, *requirements: str, candidates: tuple[str, ...] = ("slow",)) -> Study:
    about = {"requirements": list(requirements), "candidates": list(candidates if requirements else ())}
    return tiny(cohort=about)


def run(study: Study, store: Store) -> Registration:
    """Run what is missing of a study; what is known of its requirements then."""
    run_study(study, store, LocalExecutor(), watcher=Memory(), publish=lambda datasets: None)
    return registration(store, "made", study.cohorts["made"], measured=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


def test_requirements_are_noted_before_anything_is_measured(tiny: Tiny, store: Store) -> None:
    study = required(tiny, ACCURATE)
    found = run(study, store)
    (noted,) = json.loads(store.read_text(FILE))["statements"]
    assert (noted["requirements"], noted["candidates"], noted["after_measurement"]) == ([ACCURATE], ["slow"], False)
    assert (found.post_hoc, found.post_hoc_candidates, found.withdrawn) == (frozenset(), frozenset(), ())
    assert (found.hash, found.time) == (noted["hash"], noted["time"])


def test_a_study_that_goes_on_with_the_same_requirements_is_not_post_hoc(tiny: Tiny, store: Store) -> None:
    study = required(tiny, ACCURATE)
    run(study, store)
    assert run(study, store).post_hoc == frozenset()
    assert len(statements(store)) == 1
    reworded = required(tiny, "accuracy >= 0.5")
    assert run(reworded, store).post_hoc == frozenset()
    assert len(statements(store)) == 1


def test_what_is_required_or_changed_after_results_is_post_hoc(tiny: Tiny, store: Store) -> None:
    run(required(tiny, ACCURATE), store)
    found = run(required(tiny, ACCURATE, SENSITIVE, candidates=("slow", "standard")), store)
    assert (found.post_hoc, found.post_hoc_candidates) == ({SENSITIVE}, {"standard"})
    changed = run(required(tiny, "accuracy >= 0.4"), store)
    assert changed.post_hoc == {"accuracy ≥ 40 %"}
    assert changed.withdrawn == (ACCURATE,)


def test_requirements_of_finished_results_are_post_hoc_whether_noted_or_not(tiny: Tiny, store: Store) -> None:
    run(required(tiny), store)
    assert not store.read_text(FILE)
    study = required(tiny, ACCURATE)
    unnoted = registration(store, "made", study.cohorts["made"], measured=True)
    assert (unnoted.post_hoc, unnoted.time) == ({ACCURATE}, "")
    assert run(study, store).post_hoc == {ACCURATE}
    assert run(study, store).post_hoc == {ACCURATE}, "running again does not make it earlier"


def test_a_change_before_the_first_result_is_not_post_hoc(tiny: Tiny, store: Store) -> None:
    first, second = required(tiny, ACCURATE), required(tiny, SENSITIVE)
    for study in (first, second):
        register_requirements(study, store, load_datasets(study))
    found = run(second, store)
    assert (found.post_hoc, found.withdrawn) == (frozenset(), ())
    assert len(statements(store)) == 2


def test_what_is_withdrawn_and_comes_back_is_post_hoc(tiny: Tiny, store: Store) -> None:
    run(required(tiny, ACCURATE, SENSITIVE), store)
    assert run(required(tiny, ACCURATE), store).withdrawn == (SENSITIVE,)
    back = run(required(tiny, ACCURATE, SENSITIVE), store)
    assert (back.post_hoc, back.withdrawn) == ({SENSITIVE}, ())


@pytest.mark.parametrize("text", ["{", "[]", '{"statements": [{}]}'])
def test_a_damaged_note_is_an_error_that_names_it(tiny: Tiny, store: Store, text: str) -> None:
    store.write_text(FILE, text)
    cohort: Any = required(tiny, ACCURATE).cohorts["made"]
    with refused(StorageError, "results", FILE):
        registration(store, "made", cohort, measured=False)
