"""A cluster whose head has no CPUs and whose workers come later does all the work. With real nodes on this machine.

Slow: starting nodes takes ten seconds. ``test_mapping.py`` shows the wait, its messages and its end without Ray.
"""

import threading
import time

import pytest

from assay.cluster.executor import RayExecutor
from assay.errors import UserError
from tests.cluster.two_nodes import two_nodes
from tests.mistakes import refused

pytestmark = pytest.mark.slow


def double(item: int, seconds: float) -> int:
    time.sleep(seconds)
    return 2 * item


def test_workers_that_come_later_are_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with two_nodes(cpus=2, first_cpus=0, second=False) as nodes:
        with refused(UserError, "--wait-for-workers", 8.0), RayExecutor(wait=8.0) as pool:
            list(pool.map(double, range(4), 0.0))
        assert "waiting for 1 worker, each with 1 CPU; the cluster has 1 machine: 1 with 0 CPUs" in caplog.text

        values: list[int] = []
        with RayExecutor(wait=120.0) as pool:
            working = threading.Thread(
                target=lambda: values.extend(outcome.value for outcome in pool.map(double, range(50), 0.3))
            )
            working.start()
            time.sleep(3.0)
            assert values == []
            nodes.add()
            working.join(timeout=120)
            assert sorted(values) == list(range(0, 100, 2))
            assert pool.workers == 2, "the pool has grown to what the cluster has now"
