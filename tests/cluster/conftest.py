"""One pool of two workers for all tests that only need some pool: its processes import torch once."""

import pytest

from assay.cluster.executor import RayExecutor

_POOLS: list[RayExecutor] = []


@pytest.fixture
def pool(shared_ray: str) -> RayExecutor:
    """Two workers on the shared Ray, which tests may kill: the pool replaces them."""
    if not _POOLS:
        _POOLS.append(RayExecutor(workers=2))
    return _POOLS[0]


@pytest.hookimpl
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Gives the processors back before tests that need them for actors of their own."""
    same_file = nextitem is not None and nextitem.path == item.path
    if not same_file and "pool" not in getattr(nextitem, "fixturenames", ()):
        while _POOLS:
            _POOLS.pop().close()
