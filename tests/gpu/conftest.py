"""Skips what needs a GPU where there is none; ``ASSAY_TEST_DEVICE=meta`` runs it on the simulated device."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device.simulated import DEVICE as SIMULATED
from tests.device.simulated import simulated
from tests.gpu.devices import DEVICE, needs_gpu

BEYOND_SIMULATION = {
    "tied words": "a simulated tensor is another object than that of the CPU, so weights that two layers share part",
    "past the count of writes": "a write to the values of a simulated tensor counts",
}
"""By a part of the name, tests that only a real device can pass, and why."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(needs_gpu)
            for name, why in BEYOND_SIMULATION.items() if DEVICE == SIMULATED else ():
                if name in item.name:
                    item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(autouse=True)
def device_is_simulated() -> Iterator[None]:
    """Runs each test within the simulated device, where that is the device."""
    if DEVICE != SIMULATED:
        yield
        return
    with simulated():
        yield
