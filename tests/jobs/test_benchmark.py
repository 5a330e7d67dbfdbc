"""Benchmarks are named as they are typed, and found by that name."""

import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import typer
from processes import Ended

from assay.errors import DataError
from jobs.benchmark import FOLDER, NAMES, main


def test_every_benchmark_has_a_name_without_underscores() -> None:
    assert "attack-curve" in NAMES
    assert all((FOLDER / f"{name.replace('-', '_')}.py").is_file() for name in NAMES)
    assert len(NAMES) == len(list(FOLDER.glob("*.py")))


def test_an_unknown_name_lists_the_known_ones(job: Callable[..., Ended]) -> None:
    ended = job("benchmark", "attack_curve")
    assert ended.code == 2
    assert f"unknown benchmark 'attack_curve'; allowed: {', '.join(NAMES)}" in ended.words


@pytest.mark.parametrize(("ratio", "code"), [(2.9, 1), (3.0, 0)])
def test_a_name_with_a_dash_runs_its_file_and_ends_below_the_bar_with_1(
    ratio: float, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = {"ratio": {"speed_up": ratio}, "bar": {"speed_up": 3.0}}
    module = ModuleType("tests.benchmarks.attack_curve")
    module.measure = lambda: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.benchmarks.attack_curve", module)
    with pytest.raises(typer.Exit) as ended:
        main("attack-curve")
    assert ended.value.exit_code == code
    assert json.loads(capsys.readouterr().out) == {"benchmark": "attack-curve", **found}


def test_data_that_are_not_here_are_said_in_a_line_not_in_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> None:
        raise DataError("pneumoniamnist is not here: set ASSAY_DATA")

    module = ModuleType("tests.benchmarks.sharded")
    module.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.benchmarks.sharded", module)
    with pytest.raises(typer.Exit) as ended:
        main("sharded")
    assert ended.value.exit_code == 2
    assert "error: pneumoniamnist is not here: set ASSAY_DATA" in capsys.readouterr().err
