"""Runs of Flower apps on an executor: the ServerApp here, the ClientApps at the workers."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import Result, Strategy

from assay.executors import Executor
from assay.federated.app_files import FlowerApp, fused_config, load_client_app, load_server_app
from assay.federated.client_apps import RUN_ID, SERVER, ClientAppService
from assay.federated.grid import HOUR, Exchange, ExecutorGrid, too_few
from assay.federated.replies import ReplyCheck
from assay.seeds import derive, global_generators

_MINIMA = ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes")
_OLDER_MINIMA = ("min_available_clients", "min_fit_clients", "min_evaluate_clients")


@dataclass(frozen=True, kw_only=True)
class AppRun:
    """What a run of an app left behind."""

    results: list[Result]
    """Of each start of a strategy, in order."""
    exchanges: list[Exchange]
    """Messages that ran together, in order."""
    flags: list[str] = field(default_factory=list)
    """Claims of clients that were corrected or are suspicious."""
    seconds: float


def run_app(
    app: FlowerApp,
    executor: Executor,
    *,
    clients: int,
    run_config: Mapping[str, Any] | None = None,
    seed: int = 0,
    check: ReplyCheck | None = None,
    deadline: float = HOUR,
    threads: int = 1,
    told: Callable[[Exchange], None] = lambda exchange: None,
) -> AppRun:
    """Runs an app: its ServerApp here, its ClientApp for each client at the executor's workers.

    Args:
        app: from ``read_app``.
        executor: hosts the clients.
        clients: number of clients; client n has ``partition-id`` n − 1.
        run_config: changes of the app's settings.
        seed: of the global random generators, of the server and of each message of each client.
        check: of the replies; by default arrays must be laid out as those sent, and counts of examples are believed.
        deadline: greatest number of seconds until replies are late.
        threads: of torch, at each worker.
        told: called after each exchange of messages.

    Returns:
        Results of the strategies that the ServerApp started, and the account of all messages.

    Raises:
        UserError: the app cannot be loaded, or has no such setting.
        FederationError: its strategy waits for more clients than there are, or no client gives a usable reply.
    """
    began = time.perf_counter()
    config = fused_config(app, run_config or {})
    check = ReplyCheck() if check is None else check
    exchanges: list[Exchange] = []

    def account(exchange: Exchange) -> None:
        exchanges.append(exchange)
        told(exchange)

    before = list(sys.path)
    try:
        load_client_app(app)  # tried here first: what is wrong with it is told before any worker starts
        server = load_server_app(app)
        service = partial(
            ClientAppService,
            partial(load_client_app, app),
            clients=clients,
            run_config=config,
            seed=seed,
            threads=threads,
        )
        host = executor.host(service)
        try:
            grid = ExecutorGrid(host, clients, check=check, deadline=deadline, told=account)
            context = Context(
                run_id=RUN_ID, node_id=SERVER, node_config={}, state=RecordDict(), run_config=dict(config)
            )
            with global_generators(derive(seed, "server")), _watched(server, clients) as results:
                server(grid, context)
        finally:
            host.close()
    finally:
        sys.path[:] = before
    return AppRun(results=results, exchanges=exchanges, flags=check.flags, seconds=time.perf_counter() - began)


@contextmanager
def _watched(server: ServerApp, clients: int) -> Iterator[list[Result]]:
    """Collects the results of strategies in a block, and refuses one that would wait for ever before it starts.

    A ServerApp keeps the result of its strategy to itself, so the method that every strategy inherits is wrapped.
    """
    results: list[Result] = []
    start, components = Strategy.start, server._server_fn

    @wraps(start)
    def watched(strategy: Strategy, *given: Any, **named: Any) -> Result:
        _refuse_too_few(getattr(strategy, "strategy", strategy), _MINIMA, clients)
        result = start(strategy, *given, **named)
        results.append(result)
        return result

    def older(context: Context) -> Any:
        made = components(context)
        _refuse_too_few(made.strategy, _OLDER_MINIMA, clients)
        return made

    Strategy.start = watched
    if components is not None:
        server._server_fn = older
    try:
        yield results
    finally:
        Strategy.start, server._server_fn = start, components


def _refuse_too_few(strategy: Any, minima: tuple[str, ...], clients: int) -> None:
    for name in minima:
        wanted = getattr(strategy, name, 0)
        if isinstance(wanted, int) and wanted > clients:
            raise too_few(f"{type(strategy).__name__} ({name})", wanted, clients)
