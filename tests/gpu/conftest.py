"""Skips what needs a GPU where there is none."""

from pathlib import Path

import pytest

from tests.gpu.devices import needs_gpu


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(needs_gpu)
