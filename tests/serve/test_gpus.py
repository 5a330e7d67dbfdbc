"""A replica reserves the GPU that it is told to, answers there, and is refused where there is none.

Slow: starting nodes takes ten seconds. Their GPUs are made up, and known to Ray alone.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click import ClickException
from ray import serve as ray_serve

from assay.cluster import room
from assay.cluster.resources import REPLICA, Node, Reservation
from assay.data.base import Dataset
from assay.errors import UserError
from assay.store.folder import Store
from assay.study.finished import open_finished
from serve import app
from serve.app import build_app
from serve.auth.environment import shared
from serve.auth.settings import AuthSettings
from serve.devices import device_of
from serve.limits.settings import SECRET, Limits
from serve.model import ServedModel
from tests.cluster.two_nodes import TwoNodes, two_nodes
from tests.device.simulated import DEVICE, simulated
from tests.mistakes import refused

PORT = 18133
CPUS: Node = {"CPU": 8.0}
GPU: Node = {"CPU": 8.0, "GPU": 1.0}


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The living nodes; no autoscaler has told what it may start."""
    living: list[Node] = []
    monkeypatch.setattr(room, "living_nodes", lambda: living)
    monkeypatch.setattr(room, "node_types", lambda: None)
    monkeypatch.setattr("assay.cluster.resources.node_types", lambda: None)
    return living


def required(wanted: Reservation, count: int = 1, *, grows: bool, seconds: float = 0.0) -> None:
    room.require_room(wanted, count, grows=grows, asker=REPLICA, seconds=seconds)


def test_a_gpu_that_this_machine_has_not_is_refused_at_once(nodes: list[Node]) -> None:
    nodes.append(CPUS)
    with refused(UserError, "gpus", 0.5, 0.0):
        required(Reservation(cpus=1, gpus=0.5), grows=False, seconds=60.0)
    required(Reservation(cpus=1), grows=False)


def test_replicas_that_do_not_fit_together_are_refused_where_no_machine_can_join(nodes: list[Node]) -> None:
    nodes.append(GPU)
    required(Reservation(cpus=1, gpus=0.5), 2, grows=False)
    with refused(UserError, "gpus", 3, 2):
        required(Reservation(cpus=1, gpus=0.5), 3, grows=False)
    required(Reservation(cpus=1, gpus=0.5), 3, grows=True)


def test_a_machine_that_joins_is_waited_for_and_the_wait_ends(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.append(CPUS)
    with refused(UserError, "gpus", 1.0):
        required(Reservation(cpus=1, gpus=1.0), grows=True, seconds=0.01)
    assert "waiting for a machine with 1 CPU and 1 GPU; the cluster has 1 machine: 1 with 8 CPUs" in caplog.text
    monkeypatch.setattr(room.time, "sleep", lambda seconds: nodes.append(GPU))
    required(Reservation(cpus=1, gpus=1.0), grows=True, seconds=60.0)


def test_what_the_autoscaler_can_start_is_not_waited_for_here(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("assay.cluster.room", "assay.cluster.resources"):
        monkeypatch.setattr(f"{module}.node_types", lambda: [CPUS, GPU])
    required(Reservation(cpus=1, gpus=1.0), grows=True)
    with refused(UserError, "threads", 16.0, 8.0):
        required(Reservation(cpus=16), grows=True, seconds=60.0)


def test_a_replica_that_has_reserved_a_gpu_answers_on_it_and_any_other_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of(0.0).type == "cpu"
    assert device_of(0.25).type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with refused(UserError, "gpus", 0.25, 0):
        device_of(0.25)


def test_every_answer_on_a_gpu_is_that_on_the_cpu(store: Store) -> None:
    on_cpu = open_finished(store, recipe="standard")
    records = on_cpu.dataset.x[on_cpu.split.test[:5]].tolist()
    answers = []
    with simulated():
        for place in (torch.device("cpu"), DEVICE):
            moved = open_finished(store, recipe="standard").on(place)
            served = ServedModel(moved)
            x = served.read(records).x
            assert {x.device.type, *(weights.device.type for weights in moved.model.parameters())} == {place.type}
            maps = [served.explain(x, method) for method in ("default", "shap")]
            assert not served.unexplained and not served.unbounded
            answers.append(
                [
                    served.logits(x),
                    *served.certify(x, [0.0, 0.1, 1.0]),
                    *(np.asarray(part) for target, one in maps for part in (target, one.values.tolist())),
                ]
            )
    for here, there in zip(*answers, strict=True):
        np.testing.assert_allclose(there, here, atol=1e-5)


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """A head with CPUs alone, and a node that says that it has a GPU, with the environment of a service."""
    variables = {**shared(Limits(), AuthSettings(anyone=True), haproxy=False), SECRET: "s" * 32}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with two_nodes(cpus=2, second=False) as nodes:
            yield nodes


@pytest.mark.slow
def test_the_gpu_is_reserved_where_there_is_one_and_a_pool_without_is_an_error(
    cluster: TwoNodes, results: Path, wdbc: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"results": str(results), "recipe": "standard", "port": str(PORT), "gpus": "0.5", "wait": "2"}
    asked |= {"tokens": "none"}
    monkeypatch.setattr(app, "joins_cluster", lambda address: True)
    with pytest.raises(ClickException) as caught:
        build_app(asked)
    assert isinstance(caught.value.__cause__, UserError)
    assert caught.value.__cause__.setting == "gpus"
    cluster.add(num_gpus=1)
    application = build_app(asked)
    ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": PORT})
    try:
        # Ray's GPU is made up: the replica gets it, and PyTorch finds none.
        with pytest.raises(RuntimeError, match="Deploying application default failed"):
            ray_serve.run(application)
        (deployment,) = ray_serve.status().applications["default"].deployments.values()
        assert "the replica has reserved a GPU, but PyTorch finds none" in deployment.message
    finally:
        ray_serve.shutdown()
