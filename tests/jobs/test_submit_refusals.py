"""What a job would refuse on the cluster is refused here, before anything is sent."""

from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Ended

from jobs import submit

KEPT = ("--results", "/kept")
INSIDE = "jobs/studies/quickstart.yaml"


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(address: str) -> None:
        raise AssertionError("it was not refused")

    monkeypatch.setattr(submit, "connect", connect)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("studdy", "quickstart"),
            "unknown job 'studdy'; allowed: audit, benchmark, dashboard, evaluate",
        ),
        (("study",), "Missing argument 'STUDY'"),
        (("study", "quickstart", "--folds", "3"), "No such option '--folds'"),
        (
            ("train", "quickstart", "--recipe", "pgd", "--workers", "0", *KEPT),
            "--workers '0': give a number of workers from 1",
        ),
        (("ledger", "shwo"), "No such command 'shwo'"),
        (("sweep", "nope", *KEPT), "unknown space 'nope'; allowed: adversarial"),
        (("benchmark", "nope"), "unknown benchmark 'nope'; allowed:"),
        (("study", "quickstart"), "--results is not given: a submitted job runs in a temporary folder"),
        (("study", "quickstart", "--results", "results/here"), "--results results/here: a submitted job"),
        (("study", "quickstart", "--results=here"), "--results here: a submitted job runs in a temporary folder"),
        (("study", "quickstart", *KEPT, "--ledger", "here"), "--ledger here: a submitted job runs in a temporary"),
        (("ledger", "export", "/kept", "--to", "here"), "--to here: a submitted job runs in a temporary folder"),
        (
            ("study", "quickstart", *KEPT, "--set", "split.folds=0"),
            "split.folds: Input should be greater than or equal",
        ),
        (("study", "quickstrat", *KEPT), "quickstrat"),
        (("study", "mine.yaml", *KEPT), "STUDY mine.yaml: not in this checkout"),
        (("study", "../mine.yaml", *KEPT), "STUDY ../mine.yaml: not in this checkout"),
        (("sweep", "adversarial", "--study", "gone/away.yaml", *KEPT), "STUDY gone/away.yaml: not in this checkout"),
        (("evaluate", "--model", "m.onnx", "--data", "x.npz", *KEPT), "--data x.npz: not in this checkout"),
        (("flower", "my-app"), "APP my-app: not in this checkout"),
        (("study", "quickstart", *KEPT, "--until", "2001-01-01"), "2001-01-01"),
        (("train", "quickstart", "--recipe", "pdg", *KEPT), "pdg"),
        (("audit", "quickstart", "--recipe", "dp_eps_1", "--fold", "99"), "99"),
        (("study", "quickstart", *KEPT, "--gpus-per-trial", "1.5"), "a trial cannot reserve 1.5 GPUs"),
        (("study", "quickstart", *KEPT, "--wait-for-workers", "nan"), "a job does not wait without an end"),
    ],
)
def test_a_job_that_could_not_do_its_work_is_not_sent(
    arguments: tuple[str, ...], said: str, job: Callable[..., Ended]
) -> None:
    ended = job("submit", *arguments)
    assert ended.code == 2, ended.said
    assert said in ended.words.replace("│ ", "")


def test_data_of_a_study_that_are_not_sent_are_named(job: Callable[..., Ended]) -> None:
    cohort = "cohorts={mine: {dataset: {name: table, path: %s, label: y}, recipes: {standard: {}}}}"
    ended = job("submit", "study", "quickstart", *KEPT, "--set", cohort % "gone.csv")
    assert "cohorts.mine.dataset.path gone.csv: not in this checkout" in ended.words
    # An absolute path is the cluster's: whether it is there, only the job can tell.
    with pytest.raises(AssertionError, match="not refused"):
        job("submit", "study", "quickstart", *KEPT, "--set", cohort % "/shared/mine.csv")


@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "quickstart", *KEPT),
        ("study", INSIDE, "--results", "s3://bucket/folder"),
        ("study", "/cluster/only.yaml", *KEPT),
        ("study", "quickstart", "--dry-run"),
        ("train", "quickstart", "--recipe", "pgd", *KEPT),
        ("audit", "quickstart", "--recipe", "dp_eps_1"),
        ("benchmark", "study"),
        ("ledger", "show", "/kept/ledger"),
        ("evaluate", "--model", "mine.models:factory", "--data", "/shared/x.npz", *KEPT),
    ],
)
def test_whatever_can_do_its_work_is_sent(arguments: tuple[str, ...], job: Callable[..., Ended]) -> None:
    with pytest.raises(AssertionError, match="not refused"):
        job("submit", *arguments)


def test_a_study_is_found_from_any_folder_by_its_path_in_the_checkout(
    job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    with pytest.raises(AssertionError, match="not refused"):
        job("submit", "study", INSIDE, *KEPT)
    assert "not in this checkout" in job("submit", "study", "mine.yaml", *KEPT).words


def test_what_this_machine_sets_for_itself_is_not_sent_and_not_refused(
    job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER", "here")
    with pytest.raises(AssertionError, match="not refused"):
        job("submit", "study", "quickstart", *KEPT)


@pytest.mark.parametrize(
    ("results", "said"),
    [((), "--results is not given"), (("/kept", "here"), "--results here"), (("/kept", "s3://b"), "not refused")],
)
def test_each_of_several_places_must_last(
    results: tuple[str, ...], said: str, job: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.refusals.parsed", lambda job, arguments: {"results": results})
    if said == "not refused":
        with pytest.raises(AssertionError, match=said):
            job("submit", "benchmark", "study")
    else:
        assert said in job("submit", "benchmark", "study").words


def test_the_help_of_a_job_is_shown_without_a_cluster(job: Callable[..., Ended]) -> None:
    ended = job("submit", "study", "--help")
    assert ended.code == 0
    assert "python -m jobs.study [OPTIONS] STUDY" in ended.words
