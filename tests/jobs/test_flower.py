"""The job that runs Flower apps: its exit codes, what it prints and what it saves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from processes import Ended
from safetensors.numpy import load_file

from assay.executors import LocalExecutor
from assay.federated.app_files import read_app
from assay.federated.apps import run_app
from tests.federated.flower_example import FLOWER_APP

Job = Callable[..., Ended]
APP = str(FLOWER_APP)


def test_an_app_runs_and_its_arrays_are_saved(job: Job, tmp_path: Path) -> None:
    out = tmp_path / "final.safetensors"
    done = job("flower", APP, "--run-config", "num-server-rounds=1 learning-rate=0.2", "--seed", "3", "--out", str(out))
    assert done.code == 0, done.said
    assert "2 of 2 messages answered" in done.said
    assert "server accuracy" in done.said
    same = run_app(
        read_app(APP),
        LocalExecutor(),
        clients=4,
        run_config={"num-server-rounds": 1, "learning-rate": 0.2},
        seed=3,
    )
    saved = load_file(out)
    assert saved.keys() == same.results[0].arrays.keys()
    assert all((saved[key] == array.numpy()).all() for key, array in same.results[0].arrays.items())
    assert all(np.isfinite(array).all() for array in saved.values())


@pytest.mark.parametrize(
    "arguments",
    [
        (str(Path(APP).parent),),
        (APP, "--clients", "1"),
        (APP, "--run-config", "speed=3"),
        (APP, "--run-config", "batch-size"),
        (APP, "--run-config", "batch-size=large"),
        (APP, "--layout", "loose"),
        (APP, "--counts", "1,2"),
        (APP, "--counts", "1,2,0,4"),
        (APP, "--out", "no/such/folder/final.safetensors"),
    ],
    ids=lambda arguments: " ".join(arguments[1:]) or "no app",
)
def test_a_mistake_ends_with_code_2(job: Job, arguments: tuple[str, ...]) -> None:
    done = job("flower", *arguments)
    assert done.code == 2
    assert "error:" in done.said


def test_a_run_without_a_usable_reply_ends_with_code_1(job: Job) -> None:
    # One record a client that the server knows of: every claim is capped, which is told; nothing fails.
    assert job("flower", APP, "--run-config", "num-server-rounds=1", "--counts", "1,1,1,1").said.count("▲") >= 2
    # A learning rate that gives NaN: all replies are refused.
    done = job("flower", APP, "--run-config", "num-server-rounds=1 learning-rate=1e30")
    assert done.code == 1
    assert "refused" in done.said
