"""A model and an event loop for its gRPC server."""

from collections.abc import Iterator

import numpy as np
import pytest

from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online
from tests.serve.grpc_.calls import Call, Loop, served


@pytest.fixture(scope="module")
def finished(store: Store) -> Finished:
    return open_finished(store, recipe="standard")


@pytest.fixture(scope="module")
def online(finished: Finished) -> Online:
    return bring_online(finished, name="standard", version="1")


@pytest.fixture(scope="module")
def x(finished: Finished) -> np.ndarray:
    """Five test records."""
    return np.asarray(finished.dataset.x[finished.split.test[:5]])


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    own = Loop()
    yield own
    own.close()


@pytest.fixture(scope="module")
def call(loop: Loop, online: Online, finished: Finished) -> Iterator[Call]:
    older = bring_online(finished, name="standard", version="2")
    with served(loop, Loaded([online, older])) as calls:
        yield calls
