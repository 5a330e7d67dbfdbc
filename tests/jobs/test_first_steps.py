"""What a user meets first: the Python that a job wants, and the lines that sum up a run."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from rich.console import Console

import jobs.console
import jobs.study
import jobs.sweep
from assay.design import Design
from assay.report.words import design_text, interval_meaning
from assay.study.run import RunSummary
from assay.study.sweep_run import SweepSummary
from jobs.console import count_of
from jobs.submit import ROOT


@pytest.mark.parametrize("job", ["study", "submit", "ledger"])
def test_a_python_without_assay_gets_one_line_that_says_which_to_use(job: str) -> None:
    """Python without the packages of its environment, as the system's is."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-m", f"jobs.{job}", "quickstart", "--set", "split.folds=3"]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{sys.executable} has no assay and no typer" in line
    assert f".venv/bin/python -S -m jobs.{job} quickstart --set split.folds=3" in line
    assert ". .venv/bin/activate" in line


def test_a_submitted_job_runs_under_the_python_of_ray_whatever_is_on_the_path(tmp_path: Path) -> None:
    """This process has loaded Ray, as the one that starts a submitted job has; no ``python`` is on the path."""
    assert ray.__file__
    for tool in ("sh", "sed", "head"):
        found = next(Path(folder, tool) for folder in os.defpath.split(os.pathsep) if Path(folder, tool).exists())
        (tmp_path / tool).symlink_to(found)
    command = ["sh", "-c", "sh jobs/python.sh -c 'import sys; print(sys.prefix)' further; exit $?"]
    done = subprocess.run(
        command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, sys.prefix, "")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the jobs print."""
    text = io.StringIO()
    for module in (jobs.console, jobs.study, jobs.sweep):
        monkeypatch.setattr(module, "console", Console(file=text, width=200))
    return text


def test_a_summary_tells_measured_times_and_no_difference_of_them(said: io.StringIO) -> None:
    summary = RunSummary(planned=9, ran=6, failures={}, trial_seconds=52.4, workers=2, seconds=31.2)
    jobs.study._print_summary(summary, "/out/report.html", jobs.study.console)
    first = said.getvalue().splitlines()[0]
    assert first == ("6 of 9 trials run in 31 s on 2 workers; the trials alone took 52 s, added up; 3 finished before")


def test_a_summary_of_one_trial_on_one_worker_has_no_plural(said: io.StringIO) -> None:
    failed = {"made · standard · fold 1": "ValueError: odd"}
    jobs.study._print_summary(
        RunSummary(planned=1, ran=1, failures=failed, trial_seconds=3.0, workers=1, seconds=9.0),
        "/out/report.html",
        jobs.study.console,
    )
    lines = said.getvalue().splitlines()
    assert lines[0] == "1 of 1 trial run in 9 s on 1 worker; the trials alone took 3 s, added up"
    assert lines[-1] == "1 trial failed; run again to retry. report: /out/report.html"


def test_a_sweep_whose_trials_overlap_more_than_its_workers_tells_no_negative_time(said: io.StringIO) -> None:
    """The points of two workers may be counted to one that joined later: the times are what they are."""
    swept = SweepSummary(
        trials=2, ran=2, stopped=0, failures={}, complete=True, trial_seconds=40.0, workers=1, seconds=34.3
    )  # fmt: skip
    assert jobs.sweep.told_of(swept, "validation") == (
        "2 of 2 trials run in 34 s on 1 worker; the trials alone took 40 s, added up; asked of the validation records"
    )
    halved = replace(swept, ran=5, stopped=1)
    assert jobs.sweep.told_of(halved, "validation").startswith("5 steps of 2 trials run in 34 s, 1 stopped early on")


FIVE = Design(folds=5, repeats=1, test_share=0.25)


@pytest.mark.parametrize(
    ("design", "text", "meaning"),
    [
        (FIVE, "5-fold cross-validation", "the mean over test folds"),
        (replace(FIVE, done=1), "1 of 5 folds of 5-fold cross-validation", "of one test fold"),
        (replace(FIVE, done=3), "3 of 5 folds of 5-fold cross-validation", "the mean over test folds"),
        (Design(folds=1, repeats=3, official=True, done=1), "1 of 3 seeds of official split, 3 seeds", "of one seed"),
        (Design(folds=1, repeats=3, official=True, done=2), "2 of 3 seeds of official split, 3 seeds", "over 2 seeds"),
    ],
)
def test_folds_that_did_not_run_are_not_spoken_of_as_if_they_had(design: Design, text: str, meaning: str) -> None:
    assert design_text(design) == text
    assert meaning in interval_meaning(design)
    below = jobs.console._below(design)
    assert ("over records" in below) == (design.done == 1)


@pytest.mark.parametrize(("number", "text"), [(0, "0 trials"), (1, "1 trial"), (2, "2 trials")])
def test_a_number_stands_with_its_noun(number: int, text: str) -> None:
    assert count_of(number, "trial") == text
