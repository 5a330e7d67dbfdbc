"""What many tests share: small data, one small trained model, and repeatable property tests."""

import copy
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay.attacks
import assay.data
import assay.models
import assay.objectives  # noqa: F401
from assay.data.base import Dataset
from assay.models.mlp import MLP
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.threats import Bounds
from assay.training.build import build_trainer
from tests import slow

# Ray gives its workers the lowest priority but a few: beside another process of tests they would wait for seconds.
os.environ.setdefault("RAY_worker_niceness", "0")

hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("repeatable")

Blobs = Callable[..., tuple[Tensor, Tensor]]
WITH_RAY = (
    "tests/cluster/",
    "tests/jobs/test_study.py",
    "tests/jobs/test_submitted.py",
    "tests/jobs/test_sweep.py",
    "tests/jobs/test_sweep_kills.py",
    "tests/jobs/test_train.py",
    "tests/serve/test_app.py",
    "tests/serve/test_gpus.py",
    "tests/serve/test_kills.py",
)
"""Tests that use Ray, one after the other in one process: they share a cluster, and some have deadlines to keep."""
LONGEST = (
    "ray",
    "tests/evaluations/test_explanation_deceivers.py",
    "tests/evaluations/test_explanations.py",
    "tests/privacy/test_clipping.py",
    "tests/attacks/test_attacks.py",
    "tests/report/test_page.py",
    "tests/test_benchmarks.py",
    "tests/study/test_sweep_run.py",
    "tests/federated/test_server.py",
    "tests/dashboard/test_page.py",
    "tests/evaluations/test_audit.py",
    "tests/evaluations/test_audit_tensors.py",
    "tests/evaluations/test_deceivers.py",
    "tests/evaluations/test_global_explanations.py",
    "tests/test_seams.py",
    "tests/explain/test_kinks.py",
    "tests/explain/test_counterfactuals.py",
    "tests/serve/test_building.py",
    "tests/serve/test_page.py",
    "tests/training/test_collective.py",
)
"""What takes longest, and so begins first: a process that has one of them left at the end works on alone."""

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread files over processes, where there are several: fixtures of a file are made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "ray" if file.startswith(WITH_RAY) else file

    # The order is that of the collection, not that of the number of tests, of which those with Ray have few.
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow; begin with the longest files, where several processes share them."""
    slow.mark(items)
    if os.environ.get("PYTEST_XDIST_WORKER"):
        places = {name: place for place, name in enumerate(LONGEST)}

        def place(item: pytest.Item) -> int:
            file = item.nodeid.partition("::")[0]
            return places.get("ray" if file.startswith(WITH_RAY) else file, len(places))

        items.sort(key=place)


@pytest.fixture(scope="module")
def shared_ray() -> str:
    """The address of one Ray on two processors that all tests share which do not test how it is started."""
    import ray

    from assay.cluster.session import start_ray_here

    if not ray.is_initialized():
        start_ray_here(num_cpus=2, object_store_memory=200_000_000)
    return str(ray.get_runtime_context().gcs_address)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the shared Ray with the last test that may use it: what runs in a process with Ray may behave otherwise."""
    if item.nodeid.startswith(WITH_RAY) and not (nextitem and nextitem.nodeid.startswith(WITH_RAY)):
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            ray.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window.

    It ends with its file: while playwright runs, an event loop runs in this thread, and no later test may start one.
    """
    api = pytest.importorskip("playwright.sync_api", reason="tests of pages need playwright")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("tests of pages need chromium on the PATH")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield found
        found.close()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def wdbc() -> Dataset:
    return build("dataset", "wdbc").load()


@pytest.fixture(scope="session")
def records(wdbc: Dataset) -> tuple[Tensor, Tensor]:
    """Every ninth record of wdbc."""
    return torch.from_numpy(wdbc.x[::9]), torch.from_numpy(wdbc.y[::9])


@pytest.fixture(scope="session")
def _trained(wdbc: Dataset) -> nn.Module:
    model = MLP(hidden=(16,)).build(wdbc.shape, wdbc.classes, seed=1)
    recipe = Recipe(training=Training(epochs=6, learning_rate=0.01))
    build_trainer(model, recipe, torch.from_numpy(wdbc.x), torch.from_numpy(wdbc.y), bounds=wdbc.bounds, seed=1).run()
    return model


@pytest.fixture
def trained(_trained: nn.Module) -> nn.Module:
    """A small network trained on wdbc; each test has its own copy."""
    return copy.deepcopy(_trained)


@pytest.fixture(scope="session")
def blobs() -> Blobs:
    """Two overlapping clouds of points: ``blobs(n, dtype=...)``, 5 features."""

    def make(n: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng(n)
        y = np.arange(n) % 2
        x = generator.normal(size=(n, 5)) + y[:, None]
        return torch.from_numpy(x).to(dtype).clamp(-4, 5), torch.from_numpy(y)

    return make


@pytest.fixture(scope="session")
def blob_bounds() -> Bounds:
    return Bounds(low=torch.full((5,), -4.0), high=torch.full((5,), 5.0))


@pytest.fixture(scope="session")
def network() -> Callable[..., nn.Module]:
    """The same small network for blobs, made afresh: ``network(dtype=...)``."""
    return lambda dtype=torch.float32: MLP(hidden=(8,)).build((5,), 2, seed=3).to(dtype)


@pytest.fixture
def given_noise(monkeypatch: pytest.MonkeyPatch) -> float:
    """A noise multiplier that is given, not calibrated, for tests that are not about the budget."""
    monkeypatch.setattr("assay.privacy.plan.calibrate", lambda **asked: 1.3)
    return 1.3
