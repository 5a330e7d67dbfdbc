"""A cluster whose head is lost takes the driver with it; started again on a new one, the study goes on where it was.

Slow: starting nodes takes ten seconds, and Ray's drivers wait a minute for a lost head. ``tests/jobs/test_study.py``
kills a driver on a cluster of its own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.run import run_study
from tests.cluster.test_nodes import Watching, figures, study
from tests.cluster.two_nodes import TwoNodes, two_nodes

pytestmark = pytest.mark.slow

DRIVER = """
import logging, sys
import ray
from assay.cluster.executor import RayExecutor
from assay.store.folder import Store
from assay.study.run import run_study
from tests.cluster.test_nodes import Watching, study

ray.init(address=sys.argv[1], _node_ip_address="127.0.0.2", log_to_driver=False, logging_level=logging.ERROR)
with RayExecutor() as pool:
    summary = run_study(
        study(), Store(sys.argv[2]), pool, watcher=Watching(lambda: None), publish=lambda data: None
    )
assert not summary.failures, summary.failures
"""


def driver(nodes: TwoNodes, results: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", DRIVER, nodes.address, str(results)], env=environment)


def trials(results: Path) -> dict[Path, int]:
    """Files of finished trials, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in (results / "trials").glob("*.parquet")}


def test_a_study_whose_head_is_lost_finishes_on_another_cluster(tmp_path: Path) -> None:
    results, alone = tmp_path / "lost", Store(str(tmp_path / "alone"))
    with two_nodes() as nodes:
        lost = driver(nodes, results)
        deadline = time.monotonic() + 180
        while len(trials(results)) < 3:
            assert lost.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    kept = trials(results)
    try:
        assert lost.wait(timeout=120) != 0, "a driver without a head ends"
    finally:
        lost.kill()
    assert 3 <= len(kept) < 10
    with two_nodes() as nodes:
        assert driver(nodes, results).wait(timeout=300) == 0
    assert len(trials(results)) == 10
    assert {path: trials(results)[path] for path in kept} == kept, "no finished trial ran again"
    run_study(study(), alone, LocalExecutor(), watcher=Watching(lambda: None), publish=lambda data: None)
    pd.testing.assert_frame_equal(figures(alone), figures(Store(str(results))), check_exact=True)
