"""A user's own checkpoint and data, and everything that can be wrong with them."""

import errno
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.executors import LocalExecutor, Outcome
from assay.store.folder import Store
from jobs.console import run
from jobs.evaluate import main

Evaluate = Callable[..., tuple[int, str]]

FACTORY = """
import torch

def tiny():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

def wide():
    return torch.nn.Linear(7, 2)

def number():
    return 3
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model's code, its weights and its data."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "mymodels.py").write_text(FACTORY)
    scope: dict = {}
    exec(FACTORY, scope)
    model, generator = scope["tiny"](), np.random.default_rng(0)
    x = generator.normal(size=(120, 5)).astype(np.float32)
    with torch.no_grad():
        y = model(torch.from_numpy(x)).argmax(1).numpy()
    y[:12] = 1 - y[:12]
    np.savez(folder / "data.npz", x=x, y=y, groups=np.arange(120) // 3)
    save_file(model.state_dict(), folder / "model.safetensors")
    torch.save(model.state_dict(), folder / "pickled.safetensors")
    return folder


@pytest.fixture
def evaluate(given: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """The job in this process: exit code, and what it printed on one line."""
    monkeypatch.syspath_prepend(given)

    def begin(**changes: str) -> tuple[int, str]:
        options = {
            "model": "mymodels:tiny",
            "weights": str(given / "model.safetensors"),
            "data": str(given / "data.npz"),
            "results": str(given / "out"),
            **changes,
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
        with pytest.raises(SystemExit) as end:
            run(main)
        return int(end.value.code or 0), " ".join(capsys.readouterr().out.split())

    return begin


def test_a_given_checkpoint_gets_the_same_evidence_and_report(given: Path, evaluate: Evaluate) -> None:
    code, said = evaluate(threat="linf:0.05,0.2")
    assert code == 0, said
    frame = Store(str(given / "out")).frame()
    accuracy = frame[frame["name"] == "accuracy"].iloc[0]
    assert accuracy["value"] == pytest.approx(108 / 120)
    assert {"robust_accuracy", "worst_case_accuracy", "check.stronger_attack", "insertion_gain"} <= set(frame["name"])
    assert set(frame[frame["name"] == "membership_auc"]["status"]) == {"not_applicable"}
    assert any("bounds of a valid input were taken from the data" in w for w in accuracy["warnings"])
    assert "given" in (given / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "pickled.safetensors"}, "Assay never unpickles"),
        ({"weights": "absent.safetensors"}, "does not exist"),
        ({"model": "mymodels:wide"}, "do not fit the model"),
        ({"model": "mymodels:number"}, "must return a torch.nn.Module"),
        ({"model": "mymodels:nothing"}, "cannot be imported"),
        ({"data": "absent.npz"}, "does not exist"),
        ({"threat": "linf:-1"}, "at least 0"),
        ({"threat": "l7"}, "write linf or l2"),
        ({"low": "-0.5", "high": "0.5"}, "widen them"),
    ],
)
def test_each_mistake_has_an_error_of_its_own(
    given: Path, evaluate: Evaluate, changes: dict[str, str], said: str
) -> None:
    files = {key: str(given / value) for key, value in changes.items() if key in ("weights", "data")}
    code, printed = evaluate(**{**changes, **files})
    assert code == 2
    assert said in printed


def test_a_file_where_the_results_should_go_is_named(given: Path, evaluate: Evaluate) -> None:
    (given / "taken").write_text("")
    for place in ("taken", "taken/inside"):
        code, said = evaluate(results=str(given / place))
        assert (code, "error:" in said, "Traceback" in said) == (2, True, False), said


def test_a_full_disk_ends_the_job_with_a_message(
    given: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("assay.study.external.ask", lambda *_, **__: [])
    monkeypatch.setattr("assay.store.files.os.fsync", full)
    code, said = evaluate(results=str(given / "full"))
    assert code == 2
    assert "the disk is full" in said
    assert not list((given / "full").rglob("*.tmp"))


def test_an_evaluation_that_fails_is_named_and_the_job_does_not_pretend_success(
    given: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("in the middle")

    monkeypatch.setattr("assay.evaluations.robustness.Robustness.measure", broken)
    monkeypatch.setattr("assay.evaluations.shift.Shift.measure", lambda *_: [])
    monkeypatch.setattr("assay.evaluations.explanations.Explanations.measure", lambda *_: [])
    code, said = evaluate(threat="linf:0.1", results=str(given / "failing"))
    assert code == 1
    assert "failed: robustness: ZeroDivisionError: in the middle" in said
    assert Store(str(given / "failing")).finished()


def test_a_pickled_file_is_never_executed(evaluate: Evaluate, tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Malice:
        def __reduce__(self) -> tuple:
            return (open, (str(witness), "w"))

    np.savez(tmp_path / "bad.npz", x=np.array([Malice()], dtype=object), y=np.array([0]))
    (tmp_path / "bad.safetensors").write_bytes(pickle.dumps(Malice()))
    assert evaluate(data=str(tmp_path / "bad.npz"))[0] == 2
    assert evaluate(weights=str(tmp_path / "bad.safetensors"))[0] == 2
    assert not witness.exists()


def _nothing(item: int, shared: int) -> None:
    """What a worker may be given to do."""


class _Pool(LocalExecutor):
    """In the place of a pool of Ray; keeps what it was asked for."""

    asked: ClassVar[list[dict[str, object]]] = []
    used: ClassVar[int] = 0

    def __init__(self, **settings: object) -> None:
        type(self).asked.append(settings)

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, *args: Any) -> Iterator[Outcome]:
        type(self).used += 1
        return super().map(*args)


@pytest.mark.parametrize(
    ("options", "cluster", "workers", "on_ray"),
    [
        ({}, "", None, False),
        ({"workers": "1"}, "", 1, False),
        ({"workers": "2"}, "", 2, True),
        ({"address": "10.0.0.1:6379"}, "", None, True),
        ({}, "10.0.0.1:6379", None, True),
        ({"workers": "1"}, "10.0.0.1:6379", 1, True),
    ],
)
def test_a_cluster_that_is_named_is_used_with_all_its_processors_unless_said_otherwise(  # noqa: PLR0917
    options: dict[str, str],
    cluster: str,
    workers: int | None,
    on_ray: bool,
    evaluate: Evaluate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assay.cluster.executor.RayExecutor", _Pool)
    monkeypatch.setattr(_Pool, "asked", [])
    monkeypatch.setattr(_Pool, "used", 0)
    monkeypatch.setattr(
        "assay.study.external.ask", lambda _, subject, **__: list(subject.executor.map(_nothing, [0], 0)) and []
    )
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    assert evaluate(**options)[0] == 0
    assert _Pool.asked == [{"address": options.get("address"), "workers": workers, "gpus": None, "wait": 300.0}]
    assert bool(_Pool.used) == on_ray


def test_further_attacks_and_fewer_records(given: Path, evaluate: Evaluate) -> None:
    code, said = evaluate(threat="linf:0.05", attacks="apgd, transfer", records="20")
    assert code == 0, said
    frame = Store(str(given / "out")).frame()
    robust = frame[frame["name"] == "robust_accuracy"]
    assert {"apgd_ce", "transfer"} <= {conditions["attack"] for conditions in robust["conditions"]}
    assert set(robust[robust["status"] == "measured"]["n"]) == {20}
