"""A sweep as a user starts it: every point once, the report, and nothing run twice."""

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import ROOT, Ended, Job

from assay.store.folder import Store

QUICK = ("--set", "cohorts.wdbc.recipes.pgd.training.epochs=1", "--set", "cohorts.wdbc.evaluations=[accuracy, cost]")
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


@pytest.mark.parametrize("name", SPACES)
def test_a_space_says_what_it_varies(name: str) -> None:
    space = importlib.import_module(f"tune_spaces.{name}")
    assert space.TESTED in ("test", "validation")
    grids = [value["grid_search"] for value in space.space(0.3).values() if isinstance(value, dict)]
    points = space.SAMPLES
    for grid in grids:
        points *= len(grid)
    assert points == 24


def test_an_unknown_space_lists_the_known_ones(job: Callable[..., Ended]) -> None:
    ended = job("sweep", "adversary")
    assert ended.code == 2
    assert "unknown space 'adversary'; allowed: adversarial, federated, optimizer, privacy" in ended.said
