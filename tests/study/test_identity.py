"""A model is named by what made it: whatever else changes, it is not trained again, and nothing is spent again."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay import registry
from assay.attacks.pgd import PGD
from assay.evaluations.accuracy import Accuracy
from assay.evaluations.cost import Cost
from assay.evaluations.robustness import Robustness
from assay.executors import LocalExecutor
from assay.ledger.experiments import Processing
from assay.release.keeper import Keeper
from assay.store.folder import Store
from assay.study import identity, measure, sources
from assay.study.identity import _SCORE_MODULES, key_of_question
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import RunSummary, run_study
from assay.study.sources import closure, code_of, modules_in
from assay.study.spec import Study
from assay.study.trial import Trial
from assay.tasks.classification import CLASSIFICATION

Tiny = Callable[..., Study]
ASKED: list[Any] = [{"name": "accuracy", "draws": 50}, "privacy", "cost"]
ONE: dict[str, Any] = {"standard": {}}


class Done:
    """What was trained and what was asked: labels of trials, and names of evaluations."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.asked: list[str] = []

    def clear(self) -> None:
        self.trained.clear()
        self.asked.clear()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Iterator[Done]:
    seen, train, answers = Done(), measure.train_trial, measure.answers_to

    def training(trial: Trial, *rest: Any, **settings: Any) -> Any:
        seen.trained.append(trial.label)
        return train(trial, *rest, **settings)

    def asking(evaluation: Any, subject: Any) -> Any:
        seen.asked.append(evaluation.name)
        return answers(evaluation, subject)

    monkeypatch.setattr(measure, "train_trial", training)
    monkeypatch.setattr(measure, "answers_to", asking)
    yield seen


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "out"))


Go = Callable[..., RunSummary]


@pytest.fixture
def go(store: Store, watcher: Callable[[], Any]) -> Go:
    def run(study: Study, **settings: Any) -> RunSummary:
        summary = run_study(study, store, LocalExecutor(), watcher=watcher(), publish=lambda datasets: None, **settings)
        assert summary.failures == {}
        return summary

    return run


def figures(store: Store) -> pd.DataFrame:
    """Everything that was found but the names under which it is shown."""
    frame = store.frame().drop(columns=["trial", "recipe", "cohort"])
    keys = ["fold", "name", "n", "value"]
    return frame.sort_values(keys, kind="stable").reset_index(drop=True)


def one_trial(study: Study) -> Trial:
    return plan(study, load_datasets(study))[0]


def test_one_question_more_trains_nothing_and_asks_that_one_alone(tiny: Tiny, go: Go, store: Store, done: Done) -> None:
    go(tiny(ONE, {"evaluations": ASKED}))
    before = figures(store)
    done.clear()
    go(tiny(ONE, {"evaluations": [*ASKED, "selective"]}))
    assert (done.trained, done.asked) == ([], ["selective"] * 2)
    after = figures(store)
    added = ~after["name"].isin(before["name"])
    assert added.any()
    # The check of constant answers names what was measured more.
    kept = after[~added].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept.drop(columns="concerns"), before.drop(columns="concerns"))


def test_other_names_train_and_ask_nothing(
    raw: Callable[..., dict[str, Any]], go: Go, store: Store, done: Done
) -> None:
    asked = raw(ONE)
    go(build_study(asked, "tiny.yaml"))
    before = figures(store)
    done.clear()
    (cohort,) = asked["cohorts"].values()
    cohort["recipes"] = {"usual": cohort["recipes"]["standard"]}
    go(build_study({**asked, "title": "Another", "cohorts": {"patients": cohort}, "baseline": "usual"}, "tiny.yaml"))
    assert (done.trained, done.asked) == ([], [])
    pd.testing.assert_frame_equal(figures(store), before)
    assert set(store.frame()["recipe"]) == {"usual"}


def test_cohorts_that_ask_for_the_same_training_share_it(
    raw: Callable[..., dict[str, Any]], go: Go, store: Store, done: Done
) -> None:
    asked = raw(ONE)
    (cohort,) = asked["cohorts"].values()
    other = {**cohort, "evaluations": ["cost"], "recipes": {"usual": cohort["recipes"]["standard"]}}
    go(build_study({**asked, "cohorts": {"one": cohort, "other": other}}, "tiny.yaml"))
    assert len(done.trained) == 2, "one a fold, for both cohorts"
    assert done.asked.count("cost") == 2
    assert len(store.models()) == 2 and len(store.finished()) == 4


def test_another_seed_recipe_or_split_is_another_model(tiny: Tiny) -> None:
    usual = one_trial(tiny(ONE)).training
    others = [
        tiny(ONE, seed=8),
        tiny({"standard": {"training": {"epochs": 3}}}),
        tiny(ONE, split={"folds": 3}),
        tiny(ONE, {"model": {"name": "mlp", "hidden": [5]}}),
        tiny(ONE, threads=2),
    ]
    assert usual not in {one_trial(study).training for study in others}


def test_settings_of_memory_name_nothing(tiny: Tiny) -> None:
    usual, pieces = (one_trial(tiny({"standard": {"training": own}})) for own in ({}, {"records_at_once": 4}))
    assert usual.training == pieces.training


def test_a_precision_that_changes_weights_names_another_model(tiny: Tiny) -> None:
    usual, stated, short = (
        one_trial(tiny({"standard": {"training": own}}))
        for own in ({}, {"precision": "float32"}, {"precision": "bf16"})
    )
    assert usual.training == stated.training != short.training


def test_models_of_recipes_without_later_settings_keep_their_names(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the settings alone, as the version before named them; a name holds the code of training too."""
    monkeypatch.setattr("assay.study.identity.digest_of", lambda *_, **__: "the code")
    monkeypatch.setattr("assay.study.identity.dependencies", lambda: {})
    recipes = {"standard": {}, "private": {"privacy": {"epsilon": 8}}, "federated": {"federation": {"clients": 2}}}
    for recipe, settings in recipes.items():
        trial = one_trial(tiny({recipe: settings}))
        found: list[Any] = []
        monkeypatch.setattr("assay.study.identity.hash_of", lambda content, found=found: found.append(content) or "")
        identity.key_of_training(trial)
        (content,) = found
        assert content["recipe"]["training"].keys() == {
            "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "momentum", "weight_decay",
            "early_stopping", "averaging",
        }  # fmt: skip


def test_a_worker_names_a_trial_by_its_own_code(tiny: Tiny) -> None:
    trial = one_trial(tiny(ONE))
    assert trial.id and trial.training
    assert not {"id", "training"} & set(trial.__getstate__())


def test_a_failed_evaluation_keeps_the_model_and_what_was_measured_before(
    tiny: Tiny, go: Go, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny(ONE)
    with monkeypatch.context() as patched, pytest.raises(AssertionError):
        patched.setattr(Cost, "measure", lambda self, subject: 1 / 0)
        go(study)
    done.clear()
    go(study)
    assert done.trained == []
    assert {"accuracy", "privacy"}.isdisjoint(done.asked) and "cost" in done.asked


def test_answers_about_other_weights_are_asked_again(tiny: Tiny, go: Go, store: Store, done: Done) -> None:
    study = tiny(ONE)
    go(study)
    first, second = (trial.training for trial in plan(study, load_datasets(study)))
    other = store.checkpoint(second)
    assert other is not None
    store.write_checkpoint(first, other)
    done.clear()
    go(tiny(ONE, {"evaluations": [*ASKED, "selective"]}))
    assert done.trained == []
    assert done.asked.count("accuracy") == 1 and done.asked.count("selective") == 2


def test_one_question_more_spends_nothing(tiny: Tiny, go: Go, store: Store, tmp_path: Path) -> None:
    private = {"privacy": {"epsilon": 2.0, "noise": "entropy", "delta": 1e-3}, "training": {"batch_size": 20}}

    def study(*asked: str) -> Study:
        return tiny({"private": private}, {"evaluations": [{"name": "accuracy", "draws": 50}, *asked]})

    (dataset,) = load_datasets(study()).values()
    keeper = Keeper(tmp_path / "ledger", results=store.location)
    ledger = keeper.ledger(dataset)
    ledger.set_budget(3.2, delta=1e-3)
    go(study("privacy"), keeper=keeper)
    before, models = ledger.account(), store.models()
    go(study("privacy", "cost"), keeper=keeper)
    after = ledger.account()
    assert (after.held, after.released, len(after.charges)) == (before.held, before.released, len(before.charges))
    assert len(keeper.trainings(dataset)) == 2 and store.models() == models
    assert len(store.superseded()) == 2 and len(store.finished()) == 2


def test_no_training_depends_on_what_is_asked_shown_or_charged() -> None:
    rooms = {name.split(".")[1] for name in closure(["assay.study.training"], without=_SCORE_MODULES)}
    assert {"training", "objectives", "privacy", "federated"} <= rooms
    assert not rooms & {"evaluations", "explain", "report", "cluster", "release", "ledger", "store"}
    assert {"assay.study.trial", "assay.study.identity", "assay.attacks.square"}.isdisjoint(
        closure(["assay.study.training"])
    )


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("assay.data.tables.table", "assay.data.tables.preparation"),
        ("assay.data.images.folder", "assay.data.images.files"),
        ("assay.data.signals.mitbih", "assay.data.signals.wfdb_records"),
        ("assay.data.text.sources", "assay.data.text.tables"),
    ],
)
def test_a_training_depends_on_what_reads_and_prepares_its_records(source: str, module: str) -> None:
    assert module in closure({source}, by_name=False)


def test_a_trial_knows_the_modules_of_its_data(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    (trial, *_) = planned(tiny(ONE))
    assert "assay.data.arrays" in trial.data_modules
    before = trial.training
    read = sources._read
    edited = lambda name: read(name)._replace(code="edited") if name == "assay.data.arrays" else read(name)
    monkeypatch.setattr(sources, "_read", edited)
    sources._digest.cache_clear()
    assert planned(tiny(ONE))[0].training != before
    sources._digest.cache_clear()


def test_an_evaluation_depends_on_the_modules_that_it_uses() -> None:
    explanations, robustness = (closure([f"assay.evaluations.{name}"]) for name in ("explanations", "robustness"))
    assert "assay.explain.measures.curves" in explanations - robustness
    assert "assay.attacks.square" in robustness - explanations
    assert "assay.evaluations.cost" not in explanations | robustness


def test_a_method_from_elsewhere_names_only_what_uses_it(monkeypatch: pytest.MonkeyPatch, tiny: Tiny) -> None:
    before = (one_trial(tiny(ONE)).id, key_of_question(Robustness(), CLASSIFICATION))

    class Elsewhere(PGD):
        pass

    monkeypatch.setitem(registry._METHODS, ("attack", "elsewhere"), Elsewhere)
    sources._parsed.cache_clear()
    sources._digest.cache_clear()
    assert (one_trial(tiny(ONE)).id, key_of_question(Robustness(), CLASSIFICATION)) == before
    assert sources.modules_in(Robustness(attacks=(Elsewhere(),))) >= {"assay.attacks.carlini_wagner", __name__}


def test_a_question_is_named_by_its_settings_and_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, same, other = (key_of_question(Accuracy(draws=draws), CLASSIFICATION) for draws in (200, 200, 300))
    assert usual == same == key_of_question(Accuracy(), CLASSIFICATION) != other
    monkeypatch.setattr("assay.study.identity.digest_of", lambda modules: "changed")
    assert key_of_question(Accuracy(), CLASSIFICATION) != usual


def test_where_answers_are_decided_names_what_is_asked_of_decisions_and_no_model(
    tiny: Tiny, go: Go, store: Store, done: Done
) -> None:
    asked = [{"name": "accuracy", "draws": 50}, "certificates", "membership", "cost"]
    go(tiny(ONE, {"evaluations": asked}))
    done.clear()
    go(tiny(ONE, {"evaluations": asked, "task": {"name": "classification", "decide_at": "operating_point"}}))
    assert done.trained == []
    assert {"accuracy", "certificates"} <= {*done.asked} and not {"membership", "cost"} & {*done.asked}
    frame = store.frame()
    assert all("threshold" in told for told in frame[frame["name"] == "certified_accuracy"]["conditions"])


def test_no_weights_hang_on_where_answers_are_decided_or_on_scores(tiny: Tiny) -> None:
    code = closure(["assay.study.training"], without=_SCORE_MODULES)
    assert "assay.tasks.classification" in code and not {*_SCORE_MODULES} & code
    usual, named, clinic = (
        one_trial(tiny(ONE, {"task": task} if task else {}))
        for task in ({}, {"name": "classification"}, {"name": "classification", "decide_at": "operating_point"})
    )
    assert usual.training == named.training == clinic.training
    assert usual.id == named.id != clinic.id


def test_a_trial_whose_model_was_replaced_is_measured_again_and_not_trained(
    tiny: Tiny, go: Go, store: Store, done: Done
) -> None:
    study = tiny(ONE)
    go(study)
    first, second = (trial.training for trial in plan(study, load_datasets(study)))
    other = store.checkpoint(second)
    assert other is not None
    # As a job that was killed between a training by --force and its measurement leaves it.
    store.write_checkpoint(first, other)
    done.clear()
    go(study)
    assert done.trained == [] and done.asked.count("accuracy") == 1


def test_what_is_measured_after_a_training_ended_tells_the_ledger(
    tiny: Tiny, go: Go, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = {"privacy": {"epsilon": 2.0, "noise": "entropy", "delta": 1e-3}, "training": {"batch_size": 20}}
    study = tiny({"private": private})
    (dataset,) = load_datasets(study).values()
    keeper = Keeper(tmp_path / "ledger", results=store.location)
    with monkeypatch.context() as patched, pytest.raises(AssertionError):
        patched.setattr(Accuracy, "measure", lambda self, subject: 1 / 0)
        go(study, keeper=keeper)
    assert {one.objection for one in keeper.trainings(dataset)} == {"its ε was not accounted for"}
    go(study, keeper=keeper)
    assert [one.objection for one in keeper.trainings(dataset)] == ["", ""]
    # A trial of the same models that asks for no ε says nothing against them.
    go(tiny({"private": private}, {"evaluations": [{"name": "accuracy", "draws": 60}]}), keeper=keeper)
    assert [one.objection for one in keeper.trainings(dataset)] == ["", ""]


def test_force_trains_a_shared_model_once_and_never_falls_back_on_the_old_one(
    raw: Callable[..., dict[str, Any]], go: Go, store: Store, done: Done
) -> None:
    asked = raw(ONE)
    (cohort,) = asked["cohorts"].values()
    study = build_study({**asked, "cohorts": {"one": cohort, "other": cohort}}, "tiny.yaml")
    go(study)
    done.clear()
    go(study, force=True)
    assert len(done.trained) == 2, "one a fold, for both cohorts"
    train, failing = measure.train_trial, iter([True, False, False, False])

    def once(trial: Trial, *rest: Any, **settings: Any) -> Any:
        if next(failing):
            raise RuntimeError("no such luck")
        return train(trial, *rest, **settings)

    done.clear()
    with pytest.MonkeyPatch.context() as patched, pytest.raises(AssertionError, match="no such luck"):
        patched.setattr(measure, "train_trial", once)
        go(study, force=True)
    assert len(done.trained) == 2, "the other trial of the model that failed trains it itself"


def test_what_was_stated_of_a_training_stays_when_one_question_more_states_nothing(
    tiny: Tiny, go: Go, store: Store, tmp_path: Path
) -> None:
    study = tiny(ONE)
    (dataset,) = load_datasets(study).values()
    until = Processing(purpose="to learn", until="2031-12-31")
    go(study, keeper=Keeper(tmp_path / "ledger", results=store.location, processing=until))
    keeper = Keeper(tmp_path / "ledger", results=store.location)
    go(tiny(ONE, {"evaluations": [*ASKED, "selective"]}), keeper=keeper)
    assert {one.processing for one in keeper.ledger(dataset).experiments()} == {until}


BEFORE = '''
"""What a module is for."""
LIMIT = 3
"""What the limit is."""

def double(x):
    """Doubles."""
    assert x  # a comment
    return 2 * x
'''


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("Doubles.", "Returns twice the value."), True),
        (('"""What the limit is."""\n', ""), True),
        (("# a comment", "# another"), True),
        (("2 * x", "2*x"), True),
        (("2 * x", "3 * x"), False),
        (("LIMIT = 3", "LIMIT = 4"), False),
        (("    assert x  # a comment\n", ""), False),
        (("return 2 * x", "return '2 * x'"), False),
    ],
)
def test_documentation_and_layout_are_no_code(change: tuple[str, str], same: bool) -> None:
    after = BEFORE.replace(*change)
    assert after != BEFORE
    assert (code_of(ast.parse(BEFORE)) == code_of(ast.parse(after))) is same


def planned(study: Study) -> list[Trial]:
    return plan(study, load_datasets(study))


def renamed(change: Callable[[Trial], Trial], trial: Trial) -> tuple[bool, bool]:
    """Whether a change renames the model, and the answer to accuracy."""
    other = change(trial)
    (accuracy,) = [one for one in trial.evaluations if one.name == "accuracy"]
    return other.training != trial.training, other.answer(accuracy) != trial.answer(accuracy)


def test_which_records_are_tested_names_answers_and_no_model(tiny: Tiny) -> None:
    (trial, *_) = planned(tiny(ONE))
    splitting = trial.splitting.model_copy(update={"tested": "validation"})
    assert renamed(lambda one: replace(one, splitting=splitting), trial) == (False, True)


def test_what_data_are_called_names_answers_and_no_model(tiny: Tiny) -> None:
    study = tiny(ONE)
    (dataset,) = load_datasets(study).values()
    n = len(dataset)
    for change in (
        {"class_names": ("well", "ill")},
        {"epsilons": (0.0, 0.7)},
        {"warnings": ("a word",)},
        {"subgroups": {"sex": np.array(["F", "M"] * n)[:n]}},
    ):
        named = [plan(study, {"made": one})[0] for one in (dataset, replace(dataset, **change))]
        assert named[0].training == named[1].training, change
        assert named[0].id != named[1].id, change
    other = replace(dataset, high=dataset.high + 1)
    assert plan(study, {"made": other})[0].training != plan(study, {"made": dataset})[0].training


@pytest.mark.parametrize("recipe", ["standard", "private"])
def test_another_method_in_the_tree_names_no_model_that_does_not_use_it(recipe: str, tiny: Tiny) -> None:
    private = {"privacy": {"epsilon": 2.0, "delta": 1e-3}, "training": {"batch_size": 20}}
    study = tiny({"standard": {}, "private": private})
    (trial, *_) = [trial for trial in planned(study) if trial.recipe_name == recipe]
    modules = {*trial.data_modules, *modules_in(trial.model), *modules_in(trial.recipe), *modules_in(trial.task)}
    used = closure({"assay.study.training", *modules}, by_name=False)
    strangers = ("objectives.trades", "objectives.interval_bounds", "data.poisoning.backdoor", "data.images.folder")
    assert not {f"assay.{one}" for one in strangers} & used
    assert {"assay.objectives.standard", "assay.training.loop", "assay.data.splits"} <= used
