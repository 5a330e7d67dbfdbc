"""The main job, from the command line to the report, disturbed and undisturbed."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset
import pytest
import yaml
from click.testing import Result
from processes import ROOT, Ended, Job, maps_torch, wait_for

from assay.errors import UserError
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.store.rows import MEASUREMENT_SCHEMA
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import read_study
from assay.study.run import run_study

# Every kind of trial and of figure, and no more of them than it takes to see that nothing is lost or done twice.
TINY = """
name: tiny
split: {folds: 2}
cohorts:
  wdbc:
    dataset: wdbc
    model: {name: mlp, hidden: [8]}
    evaluations:
      - {name: accuracy, draws: 50}
      - {name: robustness, epsilons: [0.3], records: 20, steps: 3, carlini_wagner: {steps: 3, search_steps: 1}}
      - certificates
      - {name: membership, draws: 50}
      - clients
      - cost
    recipes:
      pgd: {training: {epochs: 10, learning_rate: 0.01}, objective: {name: pgd, epsilon: 0.3}}
      federated_iid: {training: {learning_rate: 0.01}, federation: {clients: 4, rounds: 5, local_epochs: 2}}
"""
TIMED = (
    "training_seconds",
    "training_worker_seconds",
    "training_records_per_second",
    "explanation_seconds",
    # Of federated rounds: how long they took, and what the networks add to that.
    "round_elapsed_seconds",
    "network_compute_seconds",
    "network_communication_seconds",
    "network_added_share",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def figures(folder: Path) -> pd.DataFrame:
    """Everything measured but durations, in one order."""
    frame = Store(str(folder)).frame()
    kept = frame[~frame["name"].isin(TIMED)].assign(conditions=frame["conditions"].map(str))
    keys = ["recipe", "repeat", "fold", "name", "conditions"]
    return kept.sort_values(keys)[[*keys, "value", "low", "high", "status"]].reset_index(drop=True)


def trials(folder: Path) -> int:
    return len(list((folder / "trials").glob("*.parquet"))) if (folder / "trials").exists() else 0


FEW = """
name: few
cohorts:
  wdbc:
    dataset: wdbc
    recipes:
      robust: {federation: {clients: 4, strategy: {name: krum, malicious: 1}}}
"""


def test_a_dry_run_refuses_a_strategy_that_needs_more_clients(job: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text(FEW)
    ended = job("study", str(tmp_path / "few.yaml"), "--dry-run")
    assert ended.code == 2
    assert "cohort 'wdbc', recipe 'robust': strategy krum needs replies of at least 5 clients" in ended.said


class Silent:
    """A watcher that says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **settings: None


@pytest.mark.usefixtures("shared_ray")
def test_a_killed_study_finishes_later_with_nothing_lost_and_nothing_twice(
    start: Callable[..., Job], job: Callable[..., Ended], tiny: Path, tmp_path: Path
) -> None:
    """Killed with two workers, ended with one: the figures are those of a run in one process without Ray."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    begun = start("jobs.study", str(tiny), "--results", str(killed), "--workers", "2")
    study = read_study(str(tiny), (), folder=ROOT / "jobs" / "studies")
    run_study(study, Store(str(whole)), LocalExecutor(), watcher=Silent(), publish=lambda data: None)
    begun.until(lambda: trials(killed) >= 1, seconds=180, what="trial 1")
    begun.kill()
    kept = {path: path.stat().st_mtime_ns for path in (killed / "trials").glob("*.parquet")}
    # Ray's own agents, small processes, take up to a minute and a half longer than the workers.
    wait_for(lambda: not any(map(maps_torch, begun.family())), seconds=60, what="the end of the workers")
    ended = job("study", str(tiny), "--results", str(killed), "--workers", "1")
    assert ended.code == 0, ended.said
    assert trials(killed) == 4
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items()), "a finished trial ran again"
    pd.testing.assert_frame_equal(figures(whole), figures(killed), check_exact=True)
    assert ended.said.rstrip().endswith(f"report: {killed / 'report.html'}")
    is_whole(killed)
    code, said = job("study", str(tiny), "--results", str(killed))
    assert code == 0
    assert "0 of 4 trials run" in said and "4 finished before" in said


@pytest.mark.slow
def test_a_study_that_is_killed_twice_finishes_later_whatever_was_finished_then(
    start: Callable[..., Job], tiny: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, said = start("jobs.study", str(tiny), "--results", str(whole), "--workers", "2").finish()
    assert code == 0, said

    kept: dict[Path, int] = {}
    for finished in (0, 2):
        job = start("jobs.study", str(tiny), "--results", str(killed), "--workers", "2")
        if finished == 0:
            job.until((killed / "study.yaml").exists, seconds=120, what="the beginning of the study")
            time.sleep(1.5)
        else:
            job.until(lambda n=finished: trials(killed) >= n, seconds=180, what=f"trial {finished}")  # type: ignore[misc]
        job.kill()
        assert all(path.stat().st_mtime_ns == written for path, written in kept.items()), "a finished trial ran again"
        kept = {path: path.stat().st_mtime_ns for path in (killed / "trials").glob("*.parquet")}
        # Ray's own agents, small processes, take up to a minute and a half longer than the workers.
        wait_for(lambda j=job: not any(map(maps_torch, j.family())), seconds=60, what="the end of the workers")  # type: ignore[misc]

    code, said = start("jobs.study", str(tiny), "--results", str(killed), "--workers", "1").finish()
    assert code == 0, said
    assert trials(killed) == 4
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    pd.testing.assert_frame_equal(figures(whole), figures(killed), check_exact=True)


def descendants(pid: int) -> set[int]:
    """Every process that this one started, and those that they did."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


class Sampled(threading.Thread):
    """Counts the processes with torch that this one starts, until told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = {pid for pid in descendants(os.getpid()) if maps_torch(pid)}
        self.stopped, self.most = threading.Event(), 0

    def run(self) -> None:
        last = set[int]()
        while not self.stopped.wait(0.2):
            # Seen twice: a process that is just about to become another program still maps what its parent does.
            now = {pid for pid in descendants(os.getpid()) - self.before if maps_torch(pid)}
            self.most, last = max(self.most, len(now & last)), now


def is_whole(folder: Path) -> None:
    """Check that all is there that a reader of the results of ``TINY`` needs."""
    table = pyarrow.dataset.dataset(folder / "trials").to_table()
    assert table.schema.remove_metadata() == MEASUREMENT_SCHEMA
    assert len(list((folder / "artefacts").glob("*.safetensors"))) == 4
    about = yaml.safe_load((folder / "study.yaml").read_text())
    assert about["study"]["seed"] == 0
    assert about["versions"]["torch"]
    assert about["environment"]["git_commit"]
    assert len(about["trials"]) == 4


@pytest.mark.slow
def test_a_study_as_a_user_starts_it_keeps_everything_a_reader_needs(
    start: Callable[..., Job], tiny: Path, tmp_path: Path
) -> None:
    job = start("jobs.study", str(tiny), "--results", str(tmp_path / "out"), "--workers", "2", "--wandb")
    most_with_torch, before = 0, set[int]()
    while job.process.poll() is None:
        # Seen twice: a process that is just about to become another program still maps what its parent does.
        now = {pid for pid in job.family() if maps_torch(pid)}
        most_with_torch, before = max(most_with_torch, len(now & before)), now
        time.sleep(0.1)
    code, said = job.finish()
    assert code == 0, said
    assert 2 <= most_with_torch <= 3, "only the driver and the two workers may import torch"
    assert "4 of 4 trials run" in said
    assert said.rstrip().endswith(f"report: {tmp_path / 'out' / 'report.html'}")

    is_whole(tmp_path / "out")


@pytest.mark.usefixtures("shared_ray")
@pytest.mark.parametrize(
    ("arguments", "devices", "reserved"),
    [
        (("study", "quickstart"), ("cpu", "cpu"), 0.0),
        (("study", "quickstart"), ("cpu", "gpu"), 1.0),
        (("sweep", "optimizer", "--study", "quickstart", "--cohort", "wdbc"), ("cpu", "gpu"), 0.0),
        (("sweep", "optimizer", "--study", "quickstart", "--cohort", "wdbc"), ("gpu", "cpu"), 1.0),
    ],
)
def test_gpus_are_reserved_only_where_a_cohort_uses_them(  # noqa: PLR0917
    arguments: tuple[str, ...], devices: tuple[str, str], reserved: float, job: Callable[..., Ended], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked: list[float | None] = []

    def pool(**given: Any) -> None:
        asked.append(given["gpus"])
        raise UserError("enough")

    monkeypatch.setattr("assay.cluster.executor.RayExecutor", pool)
    changes = [f"cohorts.{name}.device={device}" for name, device in zip(("wdbc", "digits"), devices, strict=True)]
    ended = job(
        *arguments, "--results", str(tmp_path), "--gpus-per-trial", "1",
        *(part for change in changes for part in ("--set", change)),
    )  # fmt: skip
    assert (ended.code, asked) == (2, [reserved]), ended.said


@pytest.mark.usefixtures("shared_ray")
def test_a_failing_trial_is_recorded_and_decides_the_exit_code(job: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(TINY.replace("learning_rate: 0.01}, objective", "learning_rate: 1.0e+30}, objective"))
    sampled = Sampled()
    sampled.start()
    code, said = job("study", str(path), "--results", str(tmp_path / "out"), "--workers", "2")
    sampled.stopped.set()
    assert code == 1
    assert sampled.most == 2, "beside this process only the two workers may import torch"
    assert "4 of 4 trials run" in said and "on 2 workers; the trials alone took" in said
    assert "2 trials failed; run again to retry" in said.splitlines()[-1]
    assert "lower the learning rate" in said
    rows = Store(str(tmp_path / "out")).frame()
    assert set(rows[rows["status"] == "failed"]["recipe"]) == {"pgd"}
    assert len(Store(str(tmp_path / "out")).finished()) == 2
    assert "2 trials failed" in (tmp_path / "out" / "report.html").read_text()


REQUIRED = """
name: required
split: {folds: 2}
cohorts:
  wdbc:
    dataset: wdbc
    model: {name: mlp, hidden: [8]}
    evaluations: [{name: accuracy, draws: 50}]
    requirements: [accuracy >= 0.999]
    candidates: [quick]
    recipes: {quick: {training: {epochs: 5, learning_rate: 0.01}}}
"""


@pytest.mark.usefixtures("without_ray")
def test_verdicts_are_json_alone_and_decide_the_exit_code(invoked: Callable[..., Result], tmp_path: Path) -> None:
    path, out = tmp_path / "required.yaml", str(tmp_path / "out")
    path.write_text(REQUIRED)
    ended = invoked("study", str(path), "--results", out, "--workers", "1", "--json", "--require")
    assert ended.exit_code == 3, ended.output
    told = json.loads(ended.stdout)["cohorts"]["wdbc"]
    assert (told["satisfied"], told["complete"], told["meeting"]) == (False, True, [])
    (judged,) = told["candidates"]["quick"]["requirements"]
    assert (judged["requirement"], judged["runs"], judged["post_hoc"]) == ("accuracy ≥ 99.9 %", 2, False)
    assert 0.5 < judged["value"] < 0.999
    assert "2 of 2 trials run" in ended.output

    # The same results, held against what they pass: judged without a run, and known to come afterwards.
    path.write_text(REQUIRED.replace("0.999", "0.1"))
    ended = invoked("study", str(path), "--results", out, "--workers", "1", "--json", "--require")
    assert ended.exit_code == 0, ended.output
    told = json.loads(ended.stdout)["cohorts"]["wdbc"]
    assert (told["satisfied"], told["meeting"], told["withdrawn"]) == (True, ["quick"], ["accuracy ≥ 99.9 %"])
    assert told["candidates"]["quick"]["post_hoc"]
    assert "wdbc: quick meets all requirements; post hoc" in " ".join(ended.output.split())


@pytest.mark.parametrize(("option", "more"), [("--require", []), ("--json", []), ("--json", ["--dry-run"])])
def test_verdicts_that_nobody_can_give_are_refused_before_anything_runs(
    job: Callable[..., Ended], tiny: Path, tmp_path: Path, option: str, more: list[str]
) -> None:
    ended = job("study", str(tiny), "--results", str(tmp_path / "out"), option, *more)
    assert ended.code == 2
    assert option in ended.said
    assert not (tmp_path / "out").exists()


def test_a_dry_run_tells_what_requirements_could_be_shown(job: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "required.yaml"
    path.write_text(REQUIRED.replace("0.999", "0.9").replace("folds: 2", "folds: 5"))
    assert "accuracy ≥ 90 % from 94.3 % (4.3 points above)" in job("study", str(path), "--dry-run").words


HELPED = ["study", "evaluate", "train", "benchmark", "ledger"]


def test_help_answers_without_importing_torch() -> None:
    probe = (
        "import sys, runpy; sys.argv = ['x', '--help']\n"
        f"for job in {HELPED}:\n"
        "    try: runpy.run_module(f'jobs.{job}', run_name='__main__')\n"
        "    except SystemExit as end: assert not end.code, job\n"
        "    heavy = {'torch', 'ray', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "    assert not heavy, (job, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage") == len(HELPED)
    assert "A study in jobs/studies, or the path of a YAML file." in " ".join(done.stdout.split())


def test_a_dry_run_tells_what_each_trial_would_spend(job: Callable[..., Ended]) -> None:
    ended = job("study", "quickstart", "--dry-run")
    assert ended.code == 0, ended.said
    said = ended.words
    assert "90 trials; nothing was run" in said
    assert "ε ≤ 8 at δ = 1e-05" in said
    assert "not private (ε = ∞)" in said


def test_a_dry_run_counts_what_results_lack(job: Callable[..., Ended], tiny: Path, tmp_path: Path) -> None:
    study, store = read_study(str(tiny), folder=tmp_path), Store(str(tmp_path / "out"))
    datasets = load_datasets(study)
    planned = plan(study, datasets)
    first = planned[0]
    store.write(run_trial(first, LocalExecutor(), datasets[first.cohort]))
    asked = sum(len(trial.evaluations) for trial in planned)
    ended = job("study", str(tiny), "--dry-run", "--results", store.location)
    assert "3 of 4 models to train" in ended.words
    assert f"{asked - len(first.evaluations)} of {asked} questions to ask" in ended.words
    ended = job("study", str(tiny), "--dry-run", "--results", str(tmp_path / "absent"))
    assert "to train" not in ended.words


def test_a_dry_run_needs_no_data(job: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    path.write_text(
        "name: absent\ncohorts:\n  mine:\n    dataset: {name: arrays, path: /nowhere/x.npz}\n"
        "    recipes: {private: {privacy: {epsilon: 3}}}\n"
    )
    ended = job("study", str(path), "--dry-run")
    assert ended.code == 0, ended.said
    assert "ε ≤ 3" in ended.said
    ended = job("study", str(path), "--results", str(tmp_path / "out"))
    assert ended.code == 2
    assert "does not exist" in ended.said


def test_a_mistake_in_a_study_file_is_told_with_key_value_and_file(job: Callable[..., Ended], tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(TINY.replace("epsilon: 0.3", "epsilon: -0.3").replace("folds: 2", "fold: 2"))
    ended = job("study", str(path))
    assert ended.code == 2
    for words in (str(path), "epsilon", "-0.3", "greater than 0", "unknown key 'fold'", "Did you mean 'folds'?"):
        assert words in ended.said, words
