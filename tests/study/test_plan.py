"""Which trials a study means, what they would spend, and when two of them are the same."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay.errors import DataError, SpecError
from assay.evaluations.audit import Audit
from assay.executors import LocalExecutor
from assay.privacy.accounting import Mechanism, rdp_epsilon
from assay.study import trial as trials
from assay.study.plan import evaluation_costs, forecast_study, load_datasets, plan
from assay.study.reading import build_study
from assay.study.spec import Study, with_one_recipe
from assay.study.training import network_of, train_trial
from tests.mistakes import refused

Tiny = Callable[..., Study]


def planned(study: Study) -> list[trials.Trial]:
    return plan(study, load_datasets(study))


def ids(study: Study) -> list[str]:
    return [trial.id for trial in planned(study)]


def test_every_recipe_of_a_fold_comes_before_the_next_fold(tiny: Tiny) -> None:
    found = planned(tiny(split={"folds": 2, "repeats": 2}))
    assert [(trial.repeat, trial.fold, trial.recipe_name) for trial in found] == [
        (repeat, fold, recipe) for repeat in (0, 1) for fold in (0, 1) for recipe in ("standard", "slow")
    ]
    assert [trial.label for trial in found][:2] == ["made · standard · fold 1", "made · slow · fold 1"]
    assert found[-1].label == "made · slow · fold 2 · repeat 2"


def test_every_trial_of_a_study_has_an_id_of_its_own(tiny: Tiny) -> None:
    found = ids(tiny(split={"folds": 3, "repeats": 2}))
    assert len(set(found)) == len(found) == 12


SPARING = [
    {"recipes": ["slow"], "evaluations": ["membership"]},
    {"recipes": ["slow", "standard"], "asked": "first_fold", "evaluations": ["clients"]},
]


def test_what_is_asked_sparingly_is_asked_of_some_recipes_in_the_first_repeat_or_fold_alone(tiny: Tiny) -> None:
    study = tiny(split={"folds": 2, "repeats": 2})
    usual = [evaluation.name for evaluation in study.cohorts["made"].evaluations]
    raw = study.model_dump(mode="json")
    raw["cohorts"]["made"]["selected_evaluations"] = SPARING
    asked = {
        (t.repeat, t.fold, t.recipe_name): [e.name for e in t.evaluations] for t in planned(build_study(raw, "it"))
    }
    more = {key: names[len(usual) :] for key, names in asked.items() if names != usual}
    assert all(names[: len(usual)] == usual for names in asked.values())
    assert more == {
        (0, 0, "standard"): ["clients"],
        (0, 0, "slow"): ["membership", "clients"],
        (0, 1, "slow"): ["membership"],
    }


def test_what_is_asked_sparingly_of_one_recipe_leaves_the_trials_of_the_others_as_they_are(tiny: Tiny) -> None:
    raw = tiny().model_dump(mode="json")
    raw["cohorts"]["made"]["selected_evaluations"] = SPARING[:1]
    before, after = ({t.label: t.id for t in planned(study)} for study in (tiny(), build_study(raw, "it")))
    assert {label for label in before if before[label] != after[label]} == {
        label for label in before if "slow" in label
    }
    narrowed = with_one_recipe(build_study(raw, "it"), cohort=None, recipe="standard", fold=1)
    assert narrowed.cohorts["made"].selected_evaluations == ()
    kept = with_one_recipe(build_study(raw, "it"), cohort=None, recipe="slow", fold=1)
    assert build_study(kept.model_dump(mode="json"), "again") == kept


@pytest.mark.parametrize("recipe", ["standard", "dp"])
def test_a_recipe_alone_is_asked_what_it_is_asked_in_its_cohort(tiny: Tiny, recipe: str) -> None:
    raw = tiny({"standard": {}, "dp": {"privacy": {"epsilon": 1}}}).model_dump(mode="json")
    raw["cohorts"]["made"]["evaluations"] = ["accuracy", "explanations"]
    raw["cohorts"]["made"]["selected_evaluations"] = [{"recipes": [recipe], "evaluations": ["global_explanations"]}]
    study = build_study(raw, "it")
    alone = with_one_recipe(study, cohort=None, recipe=recipe, fold=1)

    def answers(one: Study) -> list[list[str]]:
        asked = [trial for trial in planned(one) if trial.recipe_name == recipe]
        return [[trial.answer(evaluation) for evaluation in trial.evaluations] for trial in asked]

    assert answers(alone) == answers(study)
    assert build_study(alone.model_dump(mode="json"), "again") == alone


def test_a_recipe_that_decides_alike_alone_may_be_compared_with_others(tiny: Tiny) -> None:
    raw = tiny({"standard": {}, "slow": {"training": {"epochs": 2}}}).model_dump(mode="json")
    raw["cohorts"]["made"]["evaluations"] = ["explanations"]
    (asked,) = build_study(raw, "it").cohorts["made"].narrowed("standard").evaluations
    assert asked.from_training is None


def test_a_costly_evaluation_of_some_recipes_is_forecast_as_such(tiny: Tiny) -> None:
    raw = tiny().model_dump(mode="json")
    raw["cohorts"]["made"]["evaluations"] = ["accuracy"]
    raw["cohorts"]["made"]["selected_evaluations"] = [
        {"recipes": ["slow"], "evaluations": [{"name": "lira", "shadows": 4}]}
    ]
    ((cohort, said),) = evaluation_costs(build_study(raw, "it"))
    assert cohort == "made"
    assert said.startswith("first repeat of slow: lira: 4 more trainings")


PRIVATE = {"standard": {}, "dp": {"privacy": {"epsilon": 1}}, "dp_8": {"privacy": {"epsilon": 8}}}


def audits(study: Study) -> dict[str, list[int | None]]:
    """How many audits each audit of a study counts on, by recipe."""
    found: dict[str, list[int | None]] = {}
    for trial in planned(study):
        found.setdefault(trial.recipe_name, []).extend(e.audits for e in trial.evaluations if isinstance(e, Audit))
    return found


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"evaluations": ["audit"]}, 2 * 2 * 3),
        (
            {"evaluations": ["cost"], "selected_evaluations": [{"recipes": ["dp", "dp_8"], "evaluations": ["audit"]}]},
            2 * 2,
        ),
        (
            {
                "evaluations": ["cost"],
                "selected_evaluations": [{"recipes": ["dp", "dp_8"], "asked": "first_fold", "evaluations": ["audit"]}],
            },
            2,
        ),
        # In input space what is not private is audited too.
        ({"evaluations": [{"name": "audit", "space": "input"}, "cost"]}, 3 * 2 * 3),
    ],
    ids=["every trial", "first repeat", "first fold", "input space"],
)
def test_every_audit_counts_on_all_audits_that_the_study_asks(tiny: Tiny, asked: dict[str, Any], count: int) -> None:
    found = audits(tiny(PRIVATE, asked, split={"folds": 2, "repeats": 3}))
    assert {audits for own in found.values() for audits in own} == {count}


def test_audits_of_all_cohorts_are_read_together(raw: Callable[..., Any]) -> None:
    made = raw(PRIVATE, {"evaluations": ["audit"]})
    made["cohorts"]["again"] = made["cohorts"]["made"]
    assert set(audits(build_study(made, "it"))["dp"]) == {2 * 2 * 2}


def test_an_official_split_is_audited_once_a_repeat(tiny: Tiny, patients: Callable[..., Path]) -> None:
    study = tiny(PRIVATE, {"evaluations": ["audit"]}, split={"folds": 5, "repeats": 3})
    with np.load(patients()) as file:
        np.savez(patients(), **file, split=np.repeat(["train", "test"], 30))
    assert audits(study)["dp"] == [2 * 3] * 3


def test_fewer_audits_than_the_study_asks_are_refused(tiny: Tiny) -> None:
    for counted, too_few in ((3, True), (4, False), (20, False)):
        study = tiny(PRIVATE, {"evaluations": [{"name": "audit", "audits": counted}]})
        if too_few:
            with refused(SpecError, "audits", 3, 4):
                planned(study)
        else:
            assert set(audits(study)["dp"]) == {counted}


def test_the_number_of_audits_is_a_part_of_what_a_trial_asks_however_it_was_come_by(tiny: Tiny) -> None:
    left_out, said, more = (
        tiny(PRIVATE, {"evaluations": [{"name": "audit", **counted}]}) for counted in ({}, {"audits": 4}, {"audits": 5})
    )
    assert ids(left_out) == ids(said) == ids(build_study(left_out.model_dump(mode="json"), "again"))
    assert not set(ids(said)) & set(ids(more))
    answers = [[trial.answer(one) for trial in planned(study) for one in trial.evaluations] for study in (said, more)]
    assert answers[0] == answers[1], "what was measured is read anew, and not measured again"


def test_recipes_are_compared_on_the_same_seeds(tiny: Tiny) -> None:
    found = planned(tiny())
    by_fold = {fold: {trial.trial_seed for trial in found if trial.fold == fold} for fold in (0, 1)}
    assert [len(seeds) for seeds in by_fold.values()] == [1, 1]
    assert by_fold[0] != by_fold[1]


def test_one_fold_trains_nothing_and_is_refused(tiny: Tiny) -> None:
    with refused(SpecError, "split.folds", 1, 2):
        planned(tiny(split={"folds": 1}))


def test_absent_data_are_an_error_of_the_plan(raw: Callable[..., Any], tiny: Tiny) -> None:
    study = tiny(cohort={"dataset": {"name": "arrays", "path": "nowhere.npz"}})
    with pytest.raises(DataError, match=r"'nowhere\.npz' does not exist"):
        load_datasets(study)


# When two trials are the same.


def test_equal_content_has_equal_ids(tiny: Tiny) -> None:
    assert ids(tiny()) == ids(tiny())


def test_what_the_question_is_called_changes_no_trial(tiny: Tiny) -> None:
    assert ids(tiny()) == ids(tiny(title="Another title", question="Why?", baseline="slow"))


def test_more_folds_repeats_or_recipes_leave_the_trials_there_are(tiny: Tiny) -> None:
    assert set(ids(tiny())) < set(ids(tiny(split={"folds": 2, "repeats": 3})))
    three = {"standard": {}, "slow": {"training": {"learning_rate": 0.001}}, "third": {}}
    assert set(ids(tiny())) < set(ids(tiny(three)))


def test_moving_the_data_changes_no_trial(tiny: Tiny, patients: Callable[..., Path]) -> None:
    def at(path: Path) -> Study:
        return tiny(cohort={"dataset": {"name": "arrays", "path": str(path), "low": -4, "high": 5}})

    assert ids(at(patients("here/patients.npz"))) == ids(at(patients("there/deep/patients.npz")))


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"threads": 2},
        {"split": {"folds": 3}},
        {"split": {"folds": 2, "validation": 0.3}},
        {"recipes": {"standard": {"training": {"epochs": 3}}}},
        {"recipes": {"standard": {"privacy": {"epsilon": 8}}}},
        {"recipes": {"standard": {"federation": {"clients": 2}}}},
        {"recipes": {"standard": {"objective": {"name": "pgd", "epsilon": 0.1}}}},
        {"cohort": {"model": {"name": "mlp", "hidden": [5]}}},
        {"cohort": {"evaluations": [{"name": "accuracy", "draws": 60}, "privacy", "cost"]}},
    ],
    ids=str,
)
def test_whatever_could_change_the_result_changes_the_id(tiny: Tiny, settings: dict[str, Any]) -> None:
    assert not set(ids(tiny())) & set(ids(tiny(**settings)))


def test_other_records_are_other_trials(tiny: Tiny, patients: Callable[..., Path]) -> None:
    before = ids(tiny())
    study = tiny()
    patients(seed=1)
    assert not set(before) & set(ids(study))


@pytest.mark.parametrize(
    "settings",
    [{"epsilons": [0.1]}, {"public_preprocessing": False}, {"units": "mmol/l"}, {"low": -5}],
    ids=lambda settings: next(iter(settings)),
)
def test_what_the_data_are_said_to_be_changes_the_id(
    raw: Callable[..., Any], tiny: Tiny, settings: dict[str, Any]
) -> None:
    dataset = raw()["cohorts"]["made"]["dataset"]
    assert not set(ids(tiny())) & set(ids(tiny(cohort={"dataset": {**dataset, **settings}})))


def test_one_more_class_changes_the_id(tiny: Tiny, patients: Callable[..., Path]) -> None:
    study, before = tiny(), ids(tiny())
    with np.load(patients()) as file:
        np.savez(patients(), **file, class_names=["well", "ill", "unknown"])
    assert not set(before) & set(ids(study))


def test_an_edited_network_of_the_users_own_changes_the_id(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    study = tiny(cohort={"model": {"name": "imported", "factory": "edited_networks:net"}})
    found = []
    for activation in ("ReLU", "Tanh"):
        text = f"from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(4, 2), nn.{activation}())\n"
        (tmp_path / "edited_networks.py").write_text(text)
        monkeypatch.delitem(sys.modules, "edited_networks", raising=False)
        found.append(set(ids(study)))
    assert not found[0] & found[1]


def test_another_version_of_a_dependency_makes_other_trials(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    study, before = tiny(), ids(tiny())
    monkeypatch.setattr("assay.study.identity.dependencies", lambda: {"torch": "0.1"})
    assert not set(before) & set(ids(study))


def test_other_source_makes_other_trials(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    study, before = tiny(), ids(tiny())
    monkeypatch.setattr("assay.study.identity.digest_of", lambda modules, **_: "another")
    assert not set(before) & set(ids(study))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of assay's source, which the digest is taken of."""
    copy = tmp_path / "assay"
    shutil.copytree(Path(assay.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(assay, "__file__", str(copy / "__init__.py"))
    trials.source_digest.cache_clear()
    yield copy
    trials.source_digest.cache_clear()


def digest() -> str:
    trials.source_digest.cache_clear()
    return trials.source_digest()


@pytest.mark.parametrize("name", ["statistics.py", "study/trial.py", "attacks/pgd.py", "privacy/update.py"])
def test_a_changed_line_of_source_changes_its_digest(source: Path, name: str) -> None:
    before = digest()
    (source / name).write_text((source / name).read_text() + "\n")
    assert digest() != before


@pytest.mark.parametrize(
    "name",
    [
        "report/page.py", "cluster/executor.py", "tracking.py", "report/fresh.py", "release/export.py",
        "ledger/charges.py",
    ],
)  # fmt: skip
def test_what_only_shows_places_or_accounts_for_a_trial_leaves_the_digest_alone(source: Path, name: str) -> None:
    before = digest()
    (source / name).write_text("changed = True\n")
    assert digest() == before


def test_a_new_module_changes_the_digest(source: Path) -> None:
    before = digest()
    (source / "attacks" / "fresh.py").write_text("")
    assert digest() != before


# What a study would spend.


def test_the_forecast_counts_trials_and_records_and_names_the_budget(tiny: Tiny) -> None:
    recipes = {
        "standard": {},
        "private": {"privacy": {"epsilon": 8}},
        "both": {"privacy": {"epsilon": 2, "delta": 1e-4}, "federation": {"clients": 3, "rounds": 2}},
    }
    found = list(forecast_study(tiny(recipes, split={"folds": 2, "repeats": 3})))
    assert [(f.cohort, f.recipe, f.trials, f.records) for f in found] == [
        ("made", "standard", 6, 26),
        ("made", "private", 6, 26),
        ("made", "both", 6, 26),
    ]
    assert found[0].spends == "not private (ε = ∞)"
    assert found[1].spends.startswith("ε ≤ 8 at δ = 1e-05 for one record of 26; noise multiplier ≈ ")
    assert found[2].spends.startswith("ε ≤ 2 at δ = 0.0001 for one record of 8 at each client; noise multiplier ≈ ")


def test_the_forecast_is_close_to_what_training_does(tiny: Tiny) -> None:
    study = tiny({"private": {"privacy": {"epsilon": 8}}})
    (told,) = forecast_study(study)
    (one, _), datasets = planned(study), load_datasets(study)
    _, log = train_trial(one, LocalExecutor(), datasets["made"]).open(network_of(one, datasets["made"]))
    mechanism = log.mechanism("central")
    assert f"{mechanism.steps} steps" in told.spends
    sigma = float(told.spends.split("multiplier ≈ ")[1].split(",")[0])
    assert sigma == pytest.approx(mechanism.noise_multiplier, rel=0.1)
    assert rdp_epsilon(Mechanism(**log.mechanisms["central"])) <= 8


def test_the_forecast_works_where_the_data_are_absent(tiny: Tiny) -> None:
    scaled = {"low": 0, "high": 1, "public_preprocessing": True}
    absent = {"dataset": {"name": "arrays", "path": "nowhere.npz", **scaled}}
    (plain, private) = forecast_study(tiny({"standard": {}, "private": {"privacy": {"epsilon": 3}}}, absent))
    assert (plain.records, private.records) == (None, None)
    assert plain.spends == "not private (ε = ∞)"
    assert private.spends == (
        "ε ≤ 3 at δ = 1e-05 for one patient where the records have patients, else one record; the noise depends on how "
        "many there are, which is unknown until the data are here"
    )


def test_the_forecast_reads_no_data_whose_size_is_known(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.data.tabular import WisconsinBreastCancer

    monkeypatch.setattr(WisconsinBreastCancer, "load", lambda _: pytest.fail("the data were read"))
    (told, _) = forecast_study(tiny(cohort={"dataset": "wdbc"}, split={"folds": 5}))
    assert told.records == 388


@pytest.mark.parametrize(
    ("recipe", "split", "setting"),
    [
        ({"privacy": {"epsilon": 8}}, {"folds": 1}, "split.folds"),
        ({"privacy": {"epsilon": 8}, "federation": {"clients": 40}}, {"folds": 2}, "federation.clients"),
    ],
    ids=["one fold", "more clients than records"],
)
def test_the_forecast_of_what_cannot_be_trained_says_why(tiny: Tiny, recipe: dict, split: dict, setting: str) -> None:
    with refused(SpecError, setting):
        list(forecast_study(tiny({"private": recipe}, split=split)))
