"""Flower's Grid over workers: what a ClientApp is told, what comes back, and what happens where a client fails."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
)

from assay.errors import FederationError, TooFewClientsError
from assay.executors import LocalHost, answer
from assay.federated.client_apps import ClientAppService, ClientMessage, SharedArrays
from assay.federated.grid import Exchange, ExecutorGrid
from assay.federated.replies import ReplyCheck

Handler = Callable[[Message, Context], Message]


def service(app: ClientApp, clients: int, **settings: Any) -> partial:
    given: dict[str, Any] = {"run_config": {"lr": 0.5}, "seed": 7, "threads": 1, **settings}
    return partial(ClientAppService, lambda: app, clients=clients, **given)


def grid_of(app: ClientApp, clients: int = 3, **settings: Any) -> ExecutorGrid:
    return ExecutorGrid(LocalHost(service(app, clients)), clients, **settings)


def app_of(handler: Handler, kind: str = "train") -> ClientApp:
    app = ClientApp()
    getattr(app, kind)()(handler)
    return app


def told(node: int, kind: str = "train", content: RecordDict | None = None) -> Message:
    return Message(RecordDict() if content is None else content, dst_node_id=node, message_type=kind)


def metrics_of(message: Message, **values: Any) -> Message:
    return Message(RecordDict({"metrics": MetricRecord(values)}), reply_to=message)


def counting(message: Message, context: Context) -> Message:
    """Answers how many messages this client has had, by its own state."""
    record = context.state.setdefault("count", MetricRecord({"n": 0}))
    record["n"] += 1
    return metrics_of(message, n=record["n"], client=context.node_config["partition-id"])


class Places:
    """Two workers in this process, which can be made to die or to be late: ``fate(place, request)`` says how."""

    def __init__(self, make: Callable[[], Any], fate: Callable[[int, Any], BaseException | None]) -> None:
        self.places, self.make, self.fate = 2, make, fate
        self.services = [make(), make()]
        self.calls: list[tuple[int, Any]] = []
        self.shared: list[Any] = []
        self.restarted: list[int] = []
        self.lock = threading.Lock()

    def call(self, requests: Mapping[int, Any], shared: Any, timeout: float) -> dict[int, Any]:
        if shared is not None:
            self.shared.append(shared)
        replies = {}
        for place, request in requests.items():
            with self.lock:  # the generators of a process are one for all of its threads
                self.calls.append((place, request))
                replies[place] = self.fate(place, request) or answer(self.services[place], request, shared)
        return replies

    def restart(self, place: int) -> None:
        self.restarted.append(place)
        self.services[place] = self.make()

    def close(self) -> None:
        pass


# What a client is told, and answers


@pytest.mark.parametrize("kind", ["train", "evaluate", "query", "query.ages", "train.warm_up"])
def test_every_type_of_message_reaches_its_handler_with_its_settings(kind: str) -> None:
    app = ClientApp()
    category, _, action = kind.partition(".")
    register = getattr(app, category)

    @register(action or "default")
    def handle(message: Message, context: Context) -> Message:
        return metrics_of(message, **context.node_config, lr=context.run_config["lr"], node=context.node_id)

    replies = grid_of(app).send_and_receive([told(node, kind) for node in (3, 1, 2)])
    assert [dict(reply.content["metrics"]) for reply in replies] == [
        {"partition-id": node - 1, "num-partitions": 3, "lr": 0.5, "node": node} for node in (1, 2, 3)
    ]
    assert {reply.metadata.message_type for reply in replies} == {kind}


def test_mods_run_around_the_handler() -> None:
    def doubled(message: Message, context: Context, inner: Handler) -> Message:
        reply = inner(message, context)
        reply.content["metrics"]["n"] *= 2
        return reply

    app = ClientApp(mods=[doubled])
    app.train(mods=[doubled])(counting)
    (reply,) = grid_of(app).send_and_receive([told(2)])
    assert reply.content["metrics"]["n"] == 4, "once for the app, once for the function"


def test_each_client_keeps_its_own_state() -> None:
    grid = grid_of(app_of(counting))
    rounds = [[1, 2, 3], [2], [2, 3]]
    for nodes in rounds:
        replies = list(grid.send_and_receive([told(node) for node in nodes]))
    assert [(r.content["metrics"]["client"], r.content["metrics"]["n"]) for r in replies] == [(1, 3), (2, 2)]
    assert [grid.states[node]["count"]["n"] for node in (1, 2, 3)] == [1, 3, 2]


def test_a_client_cannot_change_what_others_or_the_server_have() -> None:
    arrays = ArrayRecord([np.zeros(2, np.float32)])
    config = ConfigRecord({"lr": 0.5, "layers": [1, 2]})

    def greedy(message: Message, context: Context) -> Message:
        seen = [
            float(len(message.content["arrays"])),
            message.content["config"]["lr"],
            float(len(message.content["config"]["layers"])),
        ]
        message.content["arrays"].clear()
        message.content["config"]["lr"] = 99.0
        message.content["config"]["layers"].append(3)
        return metrics_of(message, seen=seen)

    content = RecordDict({"arrays": arrays, "config": config})
    replies = grid_of(app_of(greedy)).send_and_receive([told(node, content=content) for node in (1, 2, 3)])
    assert [list(reply.content["metrics"]["seen"]) for reply in replies] == [[1, 0.5, 2]] * 3
    assert len(arrays) == 1
    assert (config["lr"], config["layers"]) == (0.5, [1, 2])


def test_messages_are_pushed_and_pulled_by_their_ids() -> None:
    grid = grid_of(app_of(counting))
    ids = list(grid.push_messages([told(2), told(1), told(2)]))
    assert len(set(ids)) == 3
    later = grid.pull_messages(ids[1:])
    assert [reply.metadata.reply_to_message_id for reply in later] == [ids[1], ids[2]]
    assert [reply.content["metrics"]["n"] for reply in later] == [1, 2], "a client's messages run in order"
    (first,) = grid.pull_messages(ids[:1])
    assert first.content["metrics"]["n"] == 1
    for gone in (ids[0], "unknown"):
        with pytest.raises(FederationError, match="no message has the ID"):
            grid.pull_messages([gone])


def test_a_message_to_a_node_that_does_not_exist_is_an_error_reply() -> None:
    (reply,) = grid_of(app_of(counting)).send_and_receive([told(9)])
    assert reply.error.code == ErrorCode.NODE_UNAVAILABLE


# Failures


def test_a_client_that_raises_is_an_error_reply_and_its_state_is_undone() -> None:
    def moody(message: Message, context: Context) -> Message:
        reply = counting(message, context)
        if context.node_id == 2 and context.state["count"]["n"] == 2:
            raise ValueError("no records today")
        return reply

    seen: list[Exchange] = []
    grid = grid_of(app_of(moody), told=seen.append)
    for _ in range(3):
        replies = list(grid.send_and_receive([told(node) for node in (1, 2, 3)]))
    assert [reply.has_error() for reply in replies] == [False, True, False]
    assert replies[1].error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert "ValueError: no records today" in str(replies[1].error.reason)
    assert grid.states[2]["count"]["n"] == 1
    assert [list(exchange.failures) for exchange in seen] == [[], [2], [2]]


@pytest.mark.parametrize("returned", [None, 7, RecordDict()])
def test_a_client_that_returns_no_message_is_an_error_reply(returned: Any) -> None:
    replies = grid_of(app_of(lambda message, context: returned)).send_and_receive([told(1)])
    assert [reply.error.code for reply in replies] == [ErrorCode.CLIENT_APP_RAISED_EXCEPTION]


def test_an_app_that_no_client_can_load_ends_the_run() -> None:
    def broken() -> ClientApp:
        raise ImportError("no module named torchvision")

    make = partial(ClientAppService, broken, clients=2, run_config={}, seed=0, threads=1)
    with pytest.raises(FederationError, match="torchvision"):
        ExecutorGrid(LocalHost(make), 2).send_and_receive([told(1), told(2)])


def test_a_message_of_a_dead_worker_runs_once_more_from_the_same_state() -> None:
    died: list[int] = []

    def fate(place: int, request: Any) -> BaseException | None:
        if (
            isinstance(request, ClientMessage)
            and request.metadata.dst_node_id == 4
            and request.number == 4
            and not died
        ):
            died.append(place)
            return RuntimeError("worker died")
        return None

    host = Places(service(app_of(counting), 7), fate)
    grid = ExecutorGrid(host, 7)
    for _ in range(10):
        replies = list(grid.send_and_receive([told(node) for node in range(1, 8)]))
        assert not any(reply.has_error() for reply in replies)
    assert host.restarted == died
    assert [reply.content["metrics"]["n"] for reply in replies] == [10] * 7


def test_a_client_that_ends_its_worker_each_time_costs_only_its_own_reply() -> None:
    def fate(place: int, request: Any) -> BaseException | None:
        fatal = isinstance(request, ClientMessage) and request.metadata.dst_node_id == 1
        return RuntimeError("worker died") if fatal else None

    host = Places(service(app_of(counting), 5), fate)
    grid = ExecutorGrid(host, 5)
    for _ in range(2):
        replies = list(grid.send_and_receive([told(node) for node in range(1, 6)]))
    assert [reply.has_error() for reply in replies] == [True, False, False, False, False]
    assert replies[0].error.code == ErrorCode.CLIENT_APP_CRASHED
    assert [reply.content["metrics"]["n"] for reply in replies[1:]] == [2] * 4


def test_a_late_client_is_an_error_reply_and_its_worker_is_replaced_when_it_is_needed() -> None:
    slow = [True]

    def fate(place: int, request: Any) -> BaseException | None:
        late = (
            isinstance(request, ClientMessage) and request.metadata.dst_node_id == 1 and slow.pop() if slow else False
        )
        return TimeoutError("no reply within 1 s") if late else None

    host = Places(service(app_of(counting), 2), fate)
    grid = ExecutorGrid(host, 2)
    replies = list(grid.send_and_receive([told(1)], timeout=5))
    assert replies[0].error.code == ErrorCode.REPLY_MESSAGE_UNAVAILABLE
    assert host.restarted == []
    (reply,) = grid.send_and_receive([told(1)], timeout=5)
    assert reply.content["metrics"]["n"] == 1
    assert host.restarted == [0]


def test_clients_whose_turn_does_not_come_are_late_too() -> None:
    def slow(message: Message, context: Context) -> Message:
        time.sleep(0.2)
        return counting(message, context)

    began = time.monotonic()
    replies = grid_of(app_of(slow), clients=20).send_and_receive([told(node) for node in range(1, 21)], timeout=0.5)
    assert time.monotonic() - began < 3
    codes = [reply.error.code if reply.has_error() else None for reply in replies]
    assert 1 <= codes.count(None) <= 3
    assert set(codes) == {None, ErrorCode.REPLY_MESSAGE_UNAVAILABLE}


def test_a_worker_that_cannot_be_replaced_leaves_the_work_to_the_others() -> None:
    def fate(place: int, request: Any) -> BaseException | None:
        return RuntimeError("worker died") if place == 1 and isinstance(request, ClientMessage) else None

    host = Places(service(app_of(counting), 6), fate)

    def restart(place: int) -> None:
        raise RuntimeError("no room")

    host.restart = restart  # type: ignore[method-assign]
    replies = list(ExecutorGrid(host, 6).send_and_receive([told(node) for node in range(1, 7)]))
    lost = [reply for reply in replies if reply.has_error()]
    assert len(lost) <= 1
    assert all(reply.error.code == ErrorCode.NODE_UNAVAILABLE for reply in lost)


# What is sent


def test_arrays_that_many_messages_carry_are_sent_once() -> None:
    arrays = ArrayRecord([np.arange(6, dtype=np.float32)])

    def summed(message: Message, context: Context) -> Message:
        return metrics_of(message, sum=float(message.content["arrays"]["0"].numpy().sum()))

    host = Places(service(app_of(summed), 6), lambda place, request: None)
    content = [RecordDict({"arrays": arrays, "config": ConfigRecord({"n": node})}) for node in range(6)]
    replies = ExecutorGrid(host, 6).send_and_receive([told(node + 1, content=content[node]) for node in range(6)])
    assert [reply.content["metrics"]["sum"] for reply in replies] == [15.0] * 6
    assert [list(map(id, shared)) for shared in host.shared] == [[id(arrays)]]
    assert sum(isinstance(request, SharedArrays) for _, request in host.calls) == 2
    carried = [request.content["arrays"] for _, request in host.calls if isinstance(request, ClientMessage)]
    assert carried == [0] * 6


# Randomness


def drawing(message: Message, context: Context) -> Message:
    return metrics_of(message, draws=[random.random(), float(np.random.rand()), float(torch.rand(()))])


def draws(grid: ExecutorGrid, nodes: list[int]) -> list[list[float]]:
    replies = grid.send_and_receive([told(node) for node in nodes])
    return [list(reply.content["metrics"]["draws"]) for reply in replies]


def test_global_generators_depend_on_seed_client_and_message_alone() -> None:
    first, second = grid_of(app_of(drawing)), grid_of(app_of(drawing))
    a = [draws(first, [1, 2, 3]), draws(first, [1, 2, 3])]
    b = [draws(second, [3]), draws(second, [1]), draws(second, [2]), draws(second, [2, 3, 1])]
    assert [*b[1], *b[2], *b[0]] == a[0]
    assert b[3] == a[1]
    assert len({tuple(drawn) for drawn in [*a[0], *a[1]]}) == 6
    other = ExecutorGrid(LocalHost(service(app_of(drawing), 3, seed=8)), 3)
    assert draws(other, [1]) != a[0][:1]


def test_the_servers_generators_do_not_notice_the_clients() -> None:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    expected = [random.random(), float(np.random.rand()), float(torch.rand(()))]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    draws(grid_of(app_of(drawing)), [1, 2])
    assert [random.random(), float(np.random.rand()), float(torch.rand(()))] == expected


# Waiting


def test_a_server_app_that_waits_for_more_nodes_is_told() -> None:
    grid = grid_of(app_of(counting))
    began = time.monotonic()
    with pytest.raises(TooFewClientsError) as refused:
        while len(list(grid.get_node_ids())) < 4:
            time.sleep(0.25)
    assert refused.value.given == 3
    assert time.monotonic() - began < 10


def test_asking_for_nodes_between_messages_is_no_waiting() -> None:
    grid = grid_of(app_of(counting))
    for _ in range(20):
        assert grid.get_node_ids() == [1, 2, 3], "many questions at once are no waiting either"
    for identity in list(grid.push_messages([told(1)] * 6)):
        time.sleep(0.21)
        assert grid.get_node_ids() == [1, 2, 3]
        grid.pull_messages([identity])


# Replies are checked

ONE = np.ones(4, np.float32)


def liar(lie: Callable[[np.ndarray], dict[str, np.ndarray]], examples: Any = 10) -> Handler:
    """Five clients add one; the fifth lies."""

    def handle(message: Message, context: Context) -> Message:
        w = message.content["arrays"]["w"].numpy() + 1
        lies = context.node_id == 5
        arrays = lie(w) if lies else {"w": w}
        metrics = MetricRecord({"num-examples": examples if lies else 10})
        record = ArrayRecord({key: Array(np.asarray(array)) for key, array in arrays.items()})
        return Message(RecordDict({"arrays": record, "metrics": metrics}), reply_to=message)

    return handle


def averaged(handler: Handler, **settings: Any) -> tuple[np.ndarray, ExecutorGrid, list[Exchange]]:
    seen: list[Exchange] = []
    grid = grid_of(app_of(handler), clients=5, told=seen.append, **settings)
    result = FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord({"w": Array(ONE * 0)}), num_rounds=1)
    return result.arrays["w"].numpy(), grid, seen


@pytest.mark.parametrize(
    "lie",
    [
        lambda w: {"w": w * np.nan},
        lambda w: {"w": w + np.float32(np.inf)},
        lambda w: {"w": w * np.float32(1e38)},
        lambda w: {"w": w[:3]},
        lambda w: {"w": w.astype(np.float64)},
        lambda w: {"w": w.astype(np.complex64)},
        lambda w: {},
        lambda w: {"v": w},
        lambda w: {"w": w, "v": w},
    ],
    ids=["nan", "inf", "1e38", "shape", "dtype", "complex", "nothing", "key", "more"],
)
def test_a_spoilt_reply_of_one_of_five_leaves_the_average_of_four(lie: Any) -> None:
    average, _, seen = averaged(liar(lie))
    np.testing.assert_array_equal(average, ONE)
    assert [list(exchange.failures) for exchange in seen if exchange.messages] == [[5]]
    assert "refused" in seen[0].failures[5]


@pytest.mark.parametrize("claimed", [1e9, -300, 0, float("nan"), float("inf")])
def test_a_stuffed_count_is_refused(claimed: float) -> None:
    average, _, seen = averaged(liar(lambda w: {"w": w * -5}, claimed))
    np.testing.assert_array_equal(average, ONE)
    assert list(seen[0].failures) == [5]


def test_a_claim_is_capped_at_what_the_server_knows() -> None:
    check = ReplyCheck(counts=dict.fromkeys(range(5), 10))
    average, _, _ = averaged(liar(lambda w: {"w": w * -5}, 10**6), check=check)
    np.testing.assert_allclose(average, ONE * (4 - 5) / 5, rtol=1e-6)
    assert len(check.flags) == 1
    assert "partition 4" in check.flags[0]


def test_a_claim_that_decides_alone_is_flagged() -> None:
    _, grid, _ = averaged(liar(lambda w: {"w": w}, 10**6))
    assert "partition 4" in grid.check.flags[0]
    _, grid, _ = averaged(liar(lambda w: {"w": w}))
    assert grid.check.flags == []


def test_an_array_that_is_described_wrongly_is_refused() -> None:
    def disguised(message: Message, context: Context) -> Message:
        good = Array(np.zeros(4, np.float32))
        bad = Array(dtype="float32", shape=(4,), stype=good.stype, data=Array(np.full(9, np.nan)).data)
        garbage = Array(dtype="float32", shape=(4,), stype=good.stype, data=b"\x80\x04not an array")
        chosen = {1: good, 2: bad, 3: garbage}[context.node_id]
        return Message(RecordDict({"arrays": ArrayRecord({"w": chosen})}), reply_to=message)

    content = RecordDict({"arrays": ArrayRecord({"w": Array(ONE)})})
    replies = grid_of(app_of(disguised)).send_and_receive([told(node, content=content) for node in (1, 2, 3)])
    assert [reply.has_error() for reply in replies] == [False, True, True]


def test_a_round_in_which_every_reply_is_refused_does_not_pass_for_training() -> None:
    def other(message: Message, context: Context) -> Message:
        arrays = ArrayRecord({"v": Array(np.ones(2, np.float32))})
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    with pytest.raises(FederationError, match="layout"):
        averaged(other)
    grid = grid_of(app_of(other), clients=5, check=ReplyCheck(layout="free"))
    result = FedAvg(fraction_evaluate=0.0).start(grid, ArrayRecord({"w": Array(ONE)}), num_rounds=1)
    assert list(result.arrays) == ["v"], "an app may answer with other arrays on purpose"


def test_counters_that_an_average_made_real_come_back_as_whole_numbers() -> None:
    def counted(message: Message, context: Context) -> Message:
        sent = message.content["arrays"]
        arrays = {"w": Array(sent["w"].numpy()), "n": Array(np.asarray(int(sent["n"].numpy()) + 3))}
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    seen: list[Exchange] = []
    grid = grid_of(app_of(counted), told=seen.append)
    start = ArrayRecord({"w": Array(ONE), "n": Array(np.asarray(0))})
    result = FedAvg(fraction_evaluate=0.0).start(grid, start, num_rounds=3)
    assert not any(exchange.failures for exchange in seen)
    assert float(result.arrays["n"].numpy()) == pytest.approx(9)


# Flower's strategies


def descending(message: Message, context: Context) -> Message:
    """Goes half of the way to the client's own target, around 2."""
    w = message.content["arrays"]["w"].numpy()
    target = np.float32(2 + 0.01 * context.node_id)
    arrays = ArrayRecord({"w": Array(w + np.float32(0.5) * (target - w))})
    loss = float(((w - target) ** 2).mean())
    metrics = MetricRecord({"num-examples": 10, "train_loss": loss, "loss": loss})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


@pytest.mark.parametrize(
    "strategy",
    [
        FedAvg(),
        FedAvgM(),
        FedProx(proximal_mu=0.1),
        FedAdagrad(),
        FedAdam(),
        FedYogi(),
        FedMedian(),
        FedTrimmedAvg(),
        Krum(num_malicious_nodes=1),
        MultiKrum(num_malicious_nodes=1, num_nodes_to_select=5),
        Bulyan(num_malicious_nodes=1),
        QFedAvg(client_learning_rate=0.5),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_flowers_strategies_run_as_they_are(strategy: FedAvg, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.collect", lambda: 0)  # two of them collect garbage at every reply: a third of a second
    app = app_of(descending)
    app.evaluate()(descending)
    result = strategy.start(grid_of(app, clients=7), ArrayRecord({"w": Array(ONE)}), num_rounds=3)
    assert (np.abs(result.arrays["w"].numpy() - 2) < 1).all()
    assert sorted(result.evaluate_metrics_clientapp) == [1, 2, 3]
    losses = [result.evaluate_metrics_clientapp[number]["loss"] for number in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)
