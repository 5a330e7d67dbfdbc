"""What tests cost: the processor seconds of each file, its children included, printed at the end.

    python -m pytest -p tests.measure -m "not slow" --numprocesses 2

Processes that Ray starts, and does not wait for, are not counted.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

_COST = "processor seconds"
_used = {"before": 0.0}
_files: Counter[str] = Counter()
_tests: Counter[str] = Counter()


def _now() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _used["before"] = _now()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: Any = yield
    now = _now()
    # Later phases carry the properties of the earlier ones: each has a figure of its own.
    report.user_properties = [(_COST, now - _used["before"])]
    _used["before"] = now
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    cost = float(dict(report.user_properties).get(_COST, 0.0))  # type: ignore[arg-type]
    file, _, test = report.nodeid.partition("::")
    _files[file] += cost
    _tests[f"{file}::{test.partition('[')[0]}"] += cost


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.section(f"processor seconds: {sum(_files.values()):.0f} in all")
    for counted in (_files, _tests):
        for name, cost in counted.most_common(30):
            terminalreporter.write_line(f"{cost:7.1f}  {name}")
