"""A sweep as a user starts it: every point once, the report, and nothing run twice."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import ROOT, Ended, Job

from assay.registry import build
from assay.store.folder import Store
from assay.study.reading import read_study
from assay.study.search.grid import Grid
from assay.study.search.optuna import Optuna
from assay.study.search.random import Random
from assay.study.search.space import Values, axes_of
from assay.study.sweep_goals import GOALS

STUDIES = ROOT / "jobs" / "studies"
QUICK = (
    "--set",
    "cohorts.wdbc.recipes.pgd.training.epochs=1",
    "--set",
    "cohorts.wdbc.evaluations=[accuracy, cost]",
    "--goals",
    "accuracy,cost",
)
SPACES = sorted(path.stem for path in (ROOT / "tune_spaces").glob("[!_]*.py"))


@pytest.mark.usefixtures("shared_ray")
def test_a_sweep_of_a_small_grid_runs_every_point_once_and_reports(
    job: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"objective.epsilon": {"grid_search": [0.05, 0.3]}, "objective.steps": {"grid_search": [1, 3]}}
    monkeypatch.setattr("tune_spaces.adversarial.space", lambda radius: grid)
    arguments = ("sweep", "adversarial", "--results", str(tmp_path), "--workers", "1", *QUICK)
    code, said = job(*arguments)
    assert code == 0, said
    assert "4 of 4 trials run" in said and "asked of the test records" in said
    store = Store(str(tmp_path))
    tried = {(a["recipe"]["objective"]["epsilon"], a["recipe"]["objective"]["steps"]) for a in store.asked().values()}
    assert len(store.finished()) == len(tried) == 4
    page = (tmp_path / "sweep.html").read_text()
    assert "Pareto front" in page and "epsilon-0.05_steps-3" in page
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    # What an earlier plan found and a later one wants again is brought back, not run again.
    store.keep_only([])
    code, said = job(*arguments)
    assert code == 0, said
    assert "0 of 4 trials run" in said
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}


@pytest.mark.slow
def test_a_sweep_as_a_user_starts_it_runs_every_point_once_and_reports(
    start: Callable[..., Job], tmp_path: Path
) -> None:
    arguments = ("jobs.sweep", "adversarial", "--results", str(tmp_path), "--workers", "2", *QUICK)
    code, said = start(*arguments).finish()
    assert code == 0, said
    assert "24 of 24 trials run" in said
    store = Store(str(tmp_path))
    assert len(store.finished()) == 24
    tried = {(a["recipe"]["objective"]["epsilon"], a["recipe"]["objective"]["steps"]) for a in store.asked().values()}
    assert len(tried) == 24
    page = (tmp_path / "sweep.html").read_text()
    assert "Pareto front" in page and "epsilon-0.05_steps-14" in page
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    code, said = start(*arguments).finish()
    assert code == 0, said
    assert "0 of 24 trials run" in said
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
    # What an earlier plan found and a later one wants again is brought back, not run again.
    store.keep_only([])
    code, said = start(*arguments).finish()
    assert code == 0, said
    assert "0 of 24 trials run" in said
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}


STUDY = {"federated": "federated_pneumonia", "private_training": "tuning/privacy.yaml"}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_can_be_searched_as_it_says(name: str) -> None:
    space = importlib.import_module(f"tune_spaces.{name}")
    assert space.TESTED in ("test", "validation") and set(space.GOALS) <= set(GOALS)
    axes = axes_of(name, space.space(0.3))
    if all(isinstance(axis, Values) and axis.grid for axis in axes.values()):
        assert Grid(name, axes).total == 24
    else:
        better = [GOALS[goal].better for goal in space.GOALS]
        assert Optuna(name, axes, samples=space.SAMPLES, seed=0, better=better).propose() is not None
        assert Random(axes, samples=space.SAMPLES, seed=0).propose() is not None
    study = read_study(
        str(STUDIES / STUDY[name]) if name == "private_training" else STUDY.get(name, "quickstart"), folder=STUDIES
    )
    cohort = next(cohort for cohort in study.cohorts.values() if space.RECIPE in cohort.recipes)
    asked = {evaluation.name for evaluation in cohort.evaluations}
    measured = {GOALS[goal].evaluation for goal in space.GOALS}
    assert measured <= set(space.ASKED) & asked, "its goals must be measured"


@pytest.mark.parametrize("model", ["mlp", "cnn", "lstm"])
def test_each_kind_of_network_has_sizes(model: str) -> None:
    space = importlib.import_module("tune_spaces.architecture").space(0.3, model=model)
    axes = axes_of("architecture", space)
    assert Grid("architecture", axes).total == 24
    for key, axis in axes.items():
        for value in axis.values if key.startswith("model.") and isinstance(axis, Values) else ():
            assert build("model", {"name": model, key.removeprefix("model."): value})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("architecture", "--search", "optuna"), "--search grid runs all of it"),
        (("adversarial", "--samples", "5"), "leave --samples out, or draw points with --search random"),
        (("joint", "--search", "grid"), "use --search random or optuna"),
        (("optimizer", "--goals", "accuracy,speed"), "unknown goal 'speed'; allowed: accuracy, robust, epsilon, cost"),
        (("optimizer", "--scheduler", "asha"), "it varies training.epochs"),
        (("optimizer", "--scheduler", "median"), "unknown scheduler 'median'; allowed: none, asha"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_starts(
    job: Callable[..., Ended], arguments: tuple[str, ...], said: str
) -> None:
    ended = job("sweep", *arguments, *QUICK[:2])
    assert ended.code == 2 and said in ended.words


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("adversarial",), ("each of", "24 points × 1 fold = 24 trials", "20 epochs in each trial, 480 in all")),
        (("optimizer", "--samples", "5", "--folds", "2"), ("5 points × 2 folds = 10 trials", "epochs of a trial")),
        (
            ("architecture", "--scheduler", "asha"),
            ("after 2, 6, 20 of 60 epochs one in 3 goes on: about 153 epochs in all, in place of 1,440", "hidden"),
        ),
    ],
)  # fmt: skip
def test_a_dry_run_tells_points_trials_and_epochs_and_runs_nothing(
    job: Callable[..., Ended], tmp_path: Path, arguments: tuple[str, ...], told: tuple[str, ...]
) -> None:
    epochs = 60 if "asha" in arguments else 20
    study = f"cohorts.wdbc.recipes.{'standard' if arguments[0] != 'adversarial' else 'pgd'}.training.epochs={epochs}"
    ended = job("sweep", *arguments, "--dry-run", "--results", str(tmp_path / "none"), "--set", study)
    assert ended.code == 0, ended.said
    for said in (*told, "each trial spends: not private", "nothing was run"):
        assert said in ended.words
    assert not (tmp_path / "none").exists() and "tuned" not in ended.words


TUNED = """
name: tuned
tuned: {points: 3, without: [private]}
cohorts:
  wdbc:
    dataset: wdbc
    evaluations: [accuracy, cost]
    recipes:
      standard: {training: {epochs: 20}}
      private: {training: {epochs: 20}, privacy: {epsilon: 8}}
"""


def test_dry_runs_tell_what_tuning_costs(job: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "tuned.yaml").write_text(TUNED)
    named = (str(tmp_path / "tuned.yaml"), "--dry-run", "--results", str(tmp_path / "none"))
    study = read_study(named[0], folder=STUDIES)
    assert study.tuned is not None
    tried = study.tuned.points_of(study.cohorts["wdbc"].recipes["standard"], seed=study.seed)
    epochs = sum(point.epochs for point in tried)
    ended = job("study", *named)
    assert ended.code == 0, ended.said
    rows = [line.split() for line in ended.said.splitlines() if "times)" in line]
    assert rows == [
        ["wdbc", "standard", "3", str(epochs), f"({epochs / 20:.3g}", "times)", "20"],
        ["wdbc", "private", "1", "20", "(1", "times)", "20"],
    ]
    assert "tuned: 20 trainings in 10 trials; each trial keeps the best of its points" in ended.words
    ended = job("sweep", "architecture", "--study", *named, "--goals", "accuracy")
    assert ended.code == 0, ended.said
    assert "tuned: the study tunes its recipes, and a sweep does not" in ended.words


def test_an_unknown_space_lists_the_known_ones(job: Callable[..., Ended]) -> None:
    ended = job("sweep", "adversary")
    assert ended.code == 2
    assert (
        "unknown space 'adversary'; allowed: adversarial, architecture, federated, joint, optimizer, privacy"
        in ended.said
    )
