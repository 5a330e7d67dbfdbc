"""Flower apps on Ray's workers: the same weights as in one process, and clients that survive their workers."""

import os
from functools import partial
from pathlib import Path

import pytest
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from assay.cluster.executor import RayExecutor
from assay.executors import LocalExecutor
from assay.federated.app_files import FlowerApp, read_app
from assay.federated.apps import run_app
from assay.federated.client_apps import ClientAppService
from assay.federated.grid import ExecutorGrid
from tests.federated.flower_example import FLOWER_APP, quickstart


def mortal(marker: str) -> ClientApp:
    """Counts messages in each client's state; client 4 ends its process at its fifth, once or always."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        record = context.state.setdefault("count", MetricRecord({"n": 0}))
        record["n"] += 1
        if context.node_id == 4 and record["n"] == 5 and (marker == "always" or not Path(marker).exists()):
            if marker != "always":
                Path(marker).touch()
            os._exit(1)
        metrics = MetricRecord({"n": record["n"], "process": os.getpid()})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def counts(pool: RayExecutor, marker: str, rounds: int) -> tuple[list[list[Message]], ExecutorGrid]:
    host = pool.host(partial(ClientAppService, partial(mortal, marker), clients=7, run_config={}, seed=0, threads=1))
    grid = ExecutorGrid(host, 7)
    everyone = range(1, 8)
    try:
        replies = [
            list(
                grid.send_and_receive(
                    [Message(RecordDict(), dst_node_id=node, message_type="train") for node in everyone], timeout=120
                )
            )
            for _ in range(rounds)
        ]
    finally:
        host.close()
    return replies, grid


def test_every_client_keeps_its_count_when_one_of_two_workers_is_killed(pool: RayExecutor, tmp_path: Path) -> None:
    replies, grid = counts(pool, str(tmp_path / "killed"), rounds=10)
    assert (tmp_path / "killed").exists()
    assert [[reply.content["metrics"]["n"] for reply in of_round] for of_round in replies] == [
        [number] * 7 for number in range(1, 11)
    ]
    assert len({reply.content["metrics"]["process"] for of_round in replies for reply in of_round}) == 3
    assert [state["count"]["n"] for state in grid.states.values()] == [10] * 7


@pytest.mark.slow  # test_grid.py shows it with workers that seem to die
def test_a_client_that_kills_every_worker_costs_only_its_own_reply(pool: RayExecutor) -> None:
    replies, grid = counts(pool, "always", rounds=6)
    for of_round in replies[4:]:
        assert [reply.metadata.src_node_id for reply in of_round if reply.has_error()] == [4]
        assert of_round[3].error.code == ErrorCode.CLIENT_APP_CRASHED
    assert [state["count"]["n"] for state in grid.states.values()] == [6, 6, 6, 4, 6, 6, 6]


@pytest.mark.parametrize("name", ["digits", "quickstart"])
def test_an_app_gives_the_same_bits_on_two_workers_as_in_this_process(
    name: str, pool: RayExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = FLOWER_APP if name == "digits" else quickstart(tmp_path)
    monkeypatch.chdir(tmp_path)
    app: FlowerApp = read_app(folder)
    runs = [run_app(app, executor, clients=4) for executor in (LocalExecutor(), pool)]
    assert not any(exchange.failures for run in runs for exchange in run.exchanges)
    here, there = (run.results[0].arrays for run in runs)
    assert {key: array.data for key, array in here.items()} == {key: array.data for key, array in there.items()}
