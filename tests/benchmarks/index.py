"""How fast do 100,000 trials open? The index over results against pyarrow's data set of the same Parquet files.

The folder is made once: trials of 20 rows each, written as a study writes them, without the wait for the disk. Then
processes of their own, alternately, give the accuracy of every trial: ours by the columns of the index, which it holds
against one listing of all files; the peer by a scan of the files with a filter. Imports are not counted.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from assay.results import Measurement, TrialRecord
from assay.store import files
from assay.store.folder import Store

TRIALS, ROWS, RUNS = 100_000, 20, 3
LIMIT = 1.0
"""Seconds in which all trials must be open."""
_OURS = """
import sys, time, json
from assay.store.folder import Store
import pyarrow.compute as pc
began = time.perf_counter()
table = Store(sys.argv[1]).columns()
found = [table.num_rows, round(pc.sum(table["accuracy"]).as_py(), 6)]
print(json.dumps([time.perf_counter() - began, found]))
"""
_PEER = """
import sys, time, json
import pyarrow.dataset as ds
import pyarrow.compute as pc
began = time.perf_counter()
files = ds.dataset(sys.argv[1] + "/trials", format="parquet")
table = files.to_table(columns=["trial", "value"], filter=pc.field("name") == "accuracy")
found = [table.num_rows, round(pc.sum(table["value"]).as_py(), 6)]
print(json.dumps([time.perf_counter() - began, found]))
"""


def measure() -> dict[str, Any]:
    """Seconds of both, and the limit over ours."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder) / "results")
        seconds: dict[str, list[float]] = {"ours": [], "peer": []}
        answers = []
        for _ in range(RUNS):
            for name, code in (("ours", _OURS), ("peer", _PEER)):
                time, found = _in_a_process(code, Path(folder) / "results")
                seconds[name].append(time)
                answers.append(found)
    if any(found != answers[0] for found in answers):
        raise AssertionError(f"the two differ, so the timing is void: {answers}")
    best = {name: min(times) for name, times in seconds.items()}
    return {
        "unit": f"seconds until {TRIALS:,} trials are open, the best of {RUNS}",
        "seconds": {name: [round(time, 3) for time in times] for name, times in seconds.items()},
        "ratio": {"limit": round(LIMIT / max(seconds["ours"]), 2), "peer": round(best["peer"] / best["ours"], 1)},
        "bar": {"limit": 1.0},
    }


def _fill(results: Path) -> None:
    draw = np.random.default_rng(0)
    store = Store(str(results))
    with mock.patch.object(files.os, "fsync", lambda _: None), store.locked():
        for trial, value in enumerate(draw.random(TRIALS)):
            rows = [Measurement(name="accuracy", value=float(value), n=114)]
            rows += [
                Measurement(name="robust_accuracy", value=float(value) / k, conditions={"epsilon": k})
                for k in range(1, ROWS)
            ]
            store.write(
                TrialRecord(
                    trial=f"{trial:016x}", dataset="made", model="mlp", recipe=f"recipe{trial % 18}", fold=trial % 5,
                    repeat=0, measurements=tuple(rows), provenance={"asked": {"cohort": "made"}},
                )
            )  # fmt: skip


def _in_a_process(code: str, results: Path) -> tuple[float, Any]:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'platform'}:{root}"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(results)], capture_output=True, text=True, check=True, env=environment
    )
    seconds, found = json.loads(done.stdout)
    return seconds, found
