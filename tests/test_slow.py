"""What `make test` leaves out is a test that is there, and a fast test shows the same."""

import ast
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.slow import entries, slow_of

ROOT = Path(__file__).parents[1]


def functions(file: str) -> set[str]:
    """Names of the tests of a file."""
    path = ROOT / file
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def exists(name: str) -> bool:
    file, _, test = name.partition("::")
    return (ROOT / file).exists() and (not test or test in functions(file))


def test_every_slow_test_is_there_and_so_is_the_fast_one_that_shows_the_same() -> None:
    names = [entry["tests"] for entry in entries()] + [entry["held_by"] for entry in entries() if "held_by" in entry]
    assert [name for name in names if not exists(name)] == []
    assert not [entry["tests"] for entry in entries() if entry.get("keep") == 0 and "held_by" not in entry]
    slow = {entry["tests"] for entry in entries() if entry.get("keep") == 0}
    assert not slow & {entry.get("held_by") for entry in entries()}


@pytest.mark.parametrize(
    ("entry", "stay"),
    [
        ({"keep": 0}, []),
        ({"keep": 1}, [0]),
        ({"keep": 2}, [0, 5]),
        ({"keep": 3}, [0, 2, 5]),
        ({"keep": 9}, [0, 1, 2, 3, 4, 5]),
        ({"match": "[15]"}, [0, 2, 3, 4]),
    ],
)
def test_what_stays_is_spread_over_the_table(entry: dict[str, Any], stay: list[int]) -> None:
    items: list[Any] = [SimpleNamespace(nodeid=str(place)) for place in range(6)]
    slow = slow_of(items, entry)
    assert [place for place, item in enumerate(items) if item not in slow] == stay
