"""Flower's simulation engine on a bundle, in the environment of the peers: one processor for each client."""

import logging
import os
import time
from collections.abc import Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from ray import cloudpickle

from tests.benchmarks.federated.bundle import Bundle, arguments, finish
from tests.benchmarks.federated.flower_client import app as client_app


class GivenCohorts(FedAvg):
    """FedAvg that addresses the clients of the bundle's cohorts; before they are known, all nodes."""

    def __init__(self, bundle: Bundle, nodes: dict[int, int] | None = None) -> None:
        everybody = len(bundle.parts)
        # Nodes register one after the other; without this number the first round takes those that are there.
        super().__init__(fraction_evaluate=0.0, min_train_nodes=everybody, min_available_nodes=everybody)
        self._bundle = bundle
        self._nodes = nodes
        self.seen: dict[int, int] = {}
        """Node of each client that has answered."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        if self._nodes is None:
            return super().configure_train(server_round, arrays, config, grid)
        config["server-round"] = server_round
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        nodes = [self._nodes[int(client)] for client in self._bundle.cohorts[server_round - 1]]
        return self._construct_messages(record, nodes, MessageType.TRAIN)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        replies = list(replies)
        failed = [reply.error.reason for reply in replies if reply.has_error()]
        if failed:
            raise RuntimeError(f"{len(failed)} clients failed: {failed[0]}")
        for reply in replies:
            self.seen[int(reply.content["metrics"]["client"])] = reply.metadata.src_node_id
        return super().aggregate_train(server_round, replies)


def counted_bytes() -> list[int]:
    """Returns a list to which every message to an actor, and back, adds the bytes of its pickle."""
    crossed: list[int] = []
    processed = RayBackend.process_message

    def process_message(self: RayBackend, message: Message, context: Context) -> tuple[Message, Context]:
        reply = processed(self, message, context)
        crossed.append(len(cloudpickle.dumps((message, context))) + len(cloudpickle.dumps(reply)))
        return reply

    RayBackend.process_message = process_message
    return crossed


def main() -> None:
    asked = arguments()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    began = time.perf_counter()
    bundle = Bundle(asked.bundle, asked.dtype)
    crossed = counted_bytes() if asked.count else []
    server_app = ServerApp()
    found: dict[str, Any] = {}
    network = bundle.network()

    def evaluate(number: int, arrays: ArrayRecord) -> MetricRecord | None:
        if not bundle.is_evaluated(number):
            return None
        network.load_state_dict(arrays.to_torch_state_dict())
        return MetricRecord({"accuracy": bundle.evaluate(network)})

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        config = {"bundle": asked.bundle, "dtype": asked.dtype}
        initial = ArrayRecord(bundle.network().state_dict())
        # All actors import what they need, and the nodes tell their clients.
        warm = GivenCohorts(bundle)
        warm.start(grid, initial, num_rounds=1, train_config=ConfigRecord(config))
        crossed.clear()
        started = time.perf_counter()
        result = GivenCohorts(bundle, warm.seen).start(
            grid, initial, num_rounds=bundle.rounds, train_config=ConfigRecord(config), evaluate_fn=evaluate
        )
        found.update(
            seconds=time.perf_counter() - started,
            setup=started - began,
            weights=result.arrays.to_torch_state_dict(),
            crossed=sum(crossed) if asked.count else None,
        )

    settings = {"num_cpus": asked.workers, "address": "local", "_node_ip_address": "127.0.0.1", "log_to_driver": False}
    run_simulation(
        server_app,
        client_app,
        num_supernodes=len(bundle.parts),
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": settings},
    )
    finish(asked, found.pop("weights"), **found)


if __name__ == "__main__":
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    main()
