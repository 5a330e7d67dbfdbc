"""Marks as ``slow`` what ``slow.toml`` names: tests that take seconds and repeat what a faster one shows."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).with_name("slow.toml")


def entries() -> list[dict[str, Any]]:
    """What the list holds; see its head for the keys."""
    found: list[dict[str, Any]] = tomllib.loads(LIST.read_text())["slow"]
    return found


def mark(items: Sequence[pytest.Item]) -> None:
    """Mark the collected tests that the list names."""
    by_name: dict[str, list[pytest.Item]] = {}
    for item in items:
        file, _, rest = item.nodeid.partition("::")
        for name in (file, f"{file}::{rest.partition('[')[0]}"):
            by_name.setdefault(name, []).append(item)
    for entry in entries():
        for item in slow_of(by_name.get(entry["tests"], []), entry):
            item.add_marker("slow")


def slow_of(named: Sequence[pytest.Item], entry: dict[str, Any]) -> list[pytest.Item]:
    """Those among the named tests that are slow."""
    if "match" in entry:
        return [item for item in named if re.search(entry["match"], item.nodeid)]
    count, keep = len(named), entry["keep"]
    kept = {round(place * (count - 1) / max(keep - 1, 1)) for place in range(keep)}
    return [item for place, item in enumerate(named) if place not in kept]
