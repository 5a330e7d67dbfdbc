"""What a map does with items, workers and losses; the actors are made up here, so no Ray is started."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, ObjectLostError

from assay.cluster import mapping, pool
from assay.cluster.board import Reports
from assay.cluster.mapping import LOSSES, Mapping, Source
from assay.cluster.pool import Pool, PoolSettings
from assay.cluster.resources import Node
from assay.errors import UserError
from assay.executors import LATER, ByDevice, Outcome
from tests.mistakes import refused


class Reference:
    """Result of a call; it is there when ``Cluster.finish`` has said so."""

    def __init__(self, value: Any = None, *, ended: bool = False) -> None:
        self._future: Future[Any] = Future()
        self.value = value
        if ended:
            self._future.set_result(value)

    def future(self) -> "Future[Any]":
        return self._future


class Method:
    def __init__(self, call: Callable[..., Any]) -> None:
        self.remote = call


class Actor:
    """Starts on the node that has room, and answers an item with what the cluster's ``behave`` says."""

    def __init__(self, cluster: "Cluster", place: int, reservation: tuple[float, float]) -> None:
        self.cluster, self.place, self.gpu = cluster, place, reservation[1] > 0
        self.reservation, self.node = reservation, cluster.room_for(reservation)
        self.asked: list[Reference] = []
        """Who waits until it has a place."""
        self.ready, self.run = Method(self._ready), Method(self._run)

    def _ready(self) -> Reference:
        if (error := self.cluster.fails_to_start(self)) is not None:
            failed = Reference()
            failed.future().set_exception(error)
            return failed
        self.asked.append(Reference(self.node, ended=bool(self.node)))
        return self.asked[-1]

    def place_now(self) -> None:
        """Takes a place that has become free, if it waits for one."""
        self.node = self.node or self.cluster.room_for(self.reservation)
        for one in self.asked if self.node else ():
            if not one.future().done():
                one.future().set_result(self.node)

    def _run(self, fn: Any, item: Any, shared: Any) -> tuple[Reference, Reference]:
        self.cluster.ran.append((item, self.gpu))
        ended, result = Reference(), Reference(fn(item, shared))
        error = self.cluster.behave(self, item, result)
        if error is None:
            ended.future().set_result(None)
        else:
            ended.future().set_exception(error)
        return ended, result


class Cluster:
    """Nodes with resources, and the actors on them."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes
        self.actors: list[Actor] = []
        self.ran: list[tuple[Any, bool]] = []
        self.fails_to_start: Callable[[Actor], Exception | None] = lambda actor: None
        self.behave: Callable[[Actor, Any, Reference], Exception | None] = lambda actor, item, result: None

    def room_for(self, reservation: tuple[float, float]) -> str:
        for name, node in self.nodes.items():
            mine = [actor for actor in self.actors if actor.node == name]
            gpus = sum(reservation[1] for actor in mine if actor.gpu)
            if len(mine) < node["CPU"] and gpus + reservation[1] <= node.get("GPU", 0):
                return name
        return ""

    def start(self, **asked: float) -> Callable[[type], Any]:
        """Stands for ``ray.remote``."""

        def remote(place: int, board: str, *, gpu: bool) -> Actor:
            actor = Actor(self, place, (asked["num_cpus"], asked["num_gpus"]))
            self.actors.append(actor)
            return actor

        return lambda _: Method(remote)

    def kill(self, actor: Actor) -> None:
        self.actors.remove(actor)
        for one in self.actors:
            one.place_now()

    def get(self, reference: Reference, timeout: float) -> Any:
        if isinstance(reference.value, Exception):
            raise reference.value
        return reference.value


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Two nodes of two CPUs."""
    made = Cluster({"first": {"CPU": 2.0}, "second": {"CPU": 2.0}})
    monkeypatch.setattr("ray.remote", made.start)
    monkeypatch.setattr("ray.kill", made.kill)
    monkeypatch.setattr("ray.get", made.get)
    monkeypatch.setattr(
        "ray.nodes", lambda: [{"NodeID": name, "Alive": True, "Resources": node} for name, node in made.nodes.items()]
    )
    monkeypatch.setattr("assay.cluster.resources.node_types", lambda: None)
    monkeypatch.setattr(pool, "LOOK", 0.0)
    monkeypatch.setattr(mapping, "LOOK", 0.01)
    monkeypatch.setattr(mapping, "_WAITING", 0.01)
    return made


def double(item: int, shared: int) -> int:
    return item * shared


def run(pool: Pool, items: Any = range(6)) -> Iterator[Outcome]:
    given = items if isinstance(items, ByDevice) else ByDevice(gpu=items)
    return Mapping(pool, Reports(), double, Source(given), 2).outcomes()


def made_pool(**settings: Any) -> Pool:
    made = Pool(PoolSettings(**settings), "board", grows=True)
    made.refill()
    return made


LOST: dict[str, Callable[[Cluster, Actor], Exception]] = {
    "unavailable": lambda cluster, actor: ActorUnavailableError("no connection", None),
    "preempted": lambda cluster, actor: preempted(),
    "its node has died": lambda cluster, actor: (cluster.nodes.pop(actor.node), ActorDiedError())[1],
}


def preempted() -> ActorDiedError:
    error = ActorDiedError()
    error._preempted = True
    return error


@pytest.mark.parametrize("kind", LOST)
def test_a_lost_node_is_not_the_fault_of_the_item(kind: str, cluster: Cluster) -> None:
    lost: list[int] = []

    def behave(actor: Actor, item: int, result: Reference) -> Exception | None:
        if item != 3 or len(lost) == 5:
            return None
        lost.append(item)
        error = LOST[kind](cluster, actor)
        cluster.nodes[f"new {len(lost)}"] = {"CPU": 2.0}
        return error

    cluster.behave = behave
    outcomes = list(run(made_pool(workers=1)))
    assert sorted((o.index, o.value, o.error) for o in outcomes) == [(k, 2 * k, "") for k in range(6)]
    assert len(lost) == 5


def test_a_worker_that_dies_alone_twice_fails_the_item_and_no_other(cluster: Cluster) -> None:
    cluster.behave = lambda actor, item, result: ActorDiedError() if item == 3 else None
    found = {outcome.index: outcome for outcome in run(made_pool(workers=2))}
    assert "its worker died 2 times" in found[3].error
    assert [found[k].value for k in (0, 1, 2, 4, 5)] == [0, 2, 4, 8, 10]
    assert [item for item, _ in cluster.ran].count(3) == 2


def test_losses_without_end_end(cluster: Cluster) -> None:
    cluster.behave = lambda actor, item, result: ActorUnavailableError("no connection", None) if item == 0 else None
    found = {outcome.index: outcome for outcome in run(made_pool(workers=2))}
    assert f"the machine of its worker was lost {LOSSES} times" in found[0].error
    assert [item for item, _ in cluster.ran].count(0) == LOSSES


@pytest.mark.parametrize("error", [ObjectLostError("a" * 56, None, ""), GetTimeoutError("late")], ids=["lost", "late"])
def test_a_result_that_is_lost_with_its_node_is_computed_again(error: Exception, cluster: Cluster) -> None:
    def behave(actor: Actor, item: int, result: Reference) -> None:
        if item == 2 and [one for one, _ in cluster.ran].count(2) == 1:
            result.value = error

    cluster.behave = behave
    assert sorted((o.index, o.value, o.error) for o in run(made_pool(workers=2))) == [(k, 2 * k, "") for k in range(6)]
    assert [item for item, _ in cluster.ran].count(2) == 2


def test_workers_that_never_start_are_an_error_and_lost_nodes_are_not(cluster: Cluster) -> None:
    lost: list[int] = []

    def lose(actor: Actor) -> Exception | None:
        lost.append(actor.place)
        return preempted() if len(lost) < 20 else None

    cluster.fails_to_start = lose
    assert len(list(run(made_pool(workers=1)))) == 6
    begun = len(cluster.ran)
    cluster.fails_to_start = lambda actor: ActorDiedError()
    with pytest.raises(UserError, match="a worker could not start"):
        list(run(made_pool(workers=1)))
    assert len(cluster.ran) == begun


def test_an_error_of_the_function_is_raised(cluster: Cluster) -> None:
    cluster.behave = lambda actor, item, result: UserError("no such file") if item == 1 else None
    with pytest.raises(UserError, match="no such file"):
        list(run(made_pool(workers=2)))


def test_the_pool_grows_and_shrinks_with_the_cluster(cluster: Cluster) -> None:
    grown = made_pool()
    assert len(grown.slots) == 4
    sizes = []
    for outcome in run(grown, range(12)):
        if outcome.index == 3:
            cluster.nodes["third"] = {"CPU": 3.0}
        if outcome.index == 7:
            for actor in [actor for actor in cluster.actors if actor.node == "third"]:
                actor.node = ""
            del cluster.nodes["third"]
            for slot in grown.slots.values():
                slot.node = slot.actor.node
        sizes.append(len(grown.slots))
    assert max(sizes) == 7
    assert sizes[-1] == 4


def test_a_pool_of_a_given_size_keeps_it_and_asks_for_what_is_missing(cluster: Cluster) -> None:
    fixed = made_pool(workers=6)
    assert len(fixed.slots) == 6, "two wait, which an autoscaler sees"
    assert len(list(run(fixed))) == 6
    cluster.nodes["third"] = {"CPU": 8.0}
    fixed.refill()
    assert len(fixed.slots) == 6


def test_a_cluster_without_workers_is_waited_for_with_a_message_until_a_deadline(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("assay.cluster.waiting._FIRST", 0.0)
    cluster.nodes = {"head": {"CPU": 0.0}}
    with refused(UserError, "--wait-for-workers", 0.1):
        list(run(made_pool(workers=3, cpus=2, wait=0.1)))
    assert "waiting for 3 workers, each with 2 CPUs; the cluster has 1 machine: 1 with 0 CPUs" in caplog.text
    assert len(caplog.records) == 1, "the next message comes half a minute later"


def test_workers_that_are_busy_with_an_earlier_map_are_waited_for_without_a_deadline(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.cluster.waiting._FIRST", 0.0)
    busy = made_pool(workers=1, wait=0.0)
    (slot,) = busy.slots.values()
    busy.started(slot, "first")
    looks: list[int] = []
    answer = Reference("first")
    slot.actor.ready = Method(lambda: answer)

    def look() -> list[Any]:
        looks.append(1)
        if len(looks) == 3:
            answer.future().set_result("first")
        return []

    monkeypatch.setattr(busy, "look", look)
    assert len(list(run(busy))) == 6
    assert caplog.text == ""


def test_a_cluster_whose_workers_come_in_time_does_all(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.nodes = {"head": {"CPU": 0.0}}
    waiting = made_pool(wait=30.0)
    looks: list[int] = []

    def come() -> None:
        looks.append(1)
        if len(looks) == 3:
            cluster.nodes["worker"] = {"CPU": 2.0}
            for slot in list(waiting.slots.values()):
                waiting.drop(slot)

    monkeypatch.setattr(waiting, "wait", come)
    assert len(list(run(waiting))) == 6


def test_workers_without_a_gpu_take_the_items_that_need_none_and_no_others(cluster: Cluster) -> None:
    cluster.nodes = {"with": {"CPU": 4.0, "GPU": 2.0}, "without": {"CPU": 3.0}}
    mixed = made_pool(gpus=1.0)
    mixed.with_cpu_items = True
    mixed.refill()
    assert sorted(slot.reservation.gpus for slot in mixed.slots.values()) == [0, 0, 0, 0, 0, 1, 1]
    outcomes = list(run(mixed, ByDevice(gpu=range(100, 110), cpu=range(10))))
    assert sorted(o.value for o in outcomes) == [*range(0, 20, 2), *range(200, 220, 2)]
    assert {gpu for item, gpu in cluster.ran if item >= 100} == {True}
    assert False in {gpu for item, gpu in cluster.ran if item < 100}


@pytest.mark.parametrize(("gpus", "warned"), [(None, True), (0.0, False), (1.0, False)])
def test_gpus_that_the_cluster_could_start_are_not_left_out_in_silence(
    gpus: float | None,
    warned: bool,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster.nodes = {"head": {"CPU": 0.0}}
    monkeypatch.setattr("assay.cluster.resources.node_types", lambda: [{"CPU": 4.0}, {"CPU": 12.0, "GPU": 1.0}])
    made_pool(gpus=gpus)
    assert ("give --gpus-per-trial to use machines with GPUs" in caplog.text) is warned


def test_items_that_need_no_gpu_run_before_any_machine_has_one(cluster: Cluster) -> None:
    """A worker that waits for a machine with a GPU takes no CPU from those that wait for none."""
    cluster.nodes = {"without": {"CPU": 1.0}}
    waiting = made_pool(gpus=1.0, wait=0.2)
    waiting.with_cpu_items = True
    waiting.refill()
    assert sorted(o.value for o in run(waiting, ByDevice(cpu=range(3)))) == [0, 2, 4]


def test_no_gpu_is_asked_for_where_no_item_needs_one(cluster: Cluster) -> None:
    """As when a study of images and tables is resumed, of which only tables are left."""
    cluster.nodes = {"without": {"CPU": 2.0}}
    mixed = Pool(PoolSettings(gpus=1.0), "board", grows=True)
    asked: list[float] = []

    def behave(actor: Actor, item: Any, result: Reference) -> Exception | None:
        asked.extend(slot.reservation.gpus for slot in mixed.slots.values())
        return None

    cluster.behave = behave
    assert sorted(o.value for o in run(mixed, ByDevice(cpu=range(4)))) == [0, 2, 4, 6]
    assert set(asked) == {0.0}


def test_a_worker_that_waits_for_a_gpu_is_dropped_once_no_item_needs_one(cluster: Cluster) -> None:
    cluster.nodes = {"with": {"CPU": 2.0, "GPU": 1.0}}
    mixed = Pool(PoolSettings(gpus=1.0), "board", grows=True)
    results = run(mixed, ByDevice(gpu=[50], cpu=range(8)))
    assert next(results).value == 100
    cluster.nodes = {"without": {"CPU": 2.0}}
    for slot in [slot for slot in mixed.slots.values() if slot.reservation.gpus]:
        mixed.drop(slot)
    assert sorted(o.value for o in results) == list(range(0, 16, 2))
    assert {slot.reservation.gpus for slot in mixed.slots.values()} == {0.0}


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize(
    "nodes", [{"one": {"CPU": 2.0, "GPU": 1.0}}, {"one": {"CPU": 8.0, "GPU": 1.0}, "two": {"CPU": 1.0}}]
)
def test_workers_without_a_gpu_make_room_for_items_that_need_one(
    nodes: dict[str, Node], workers: int | None, cluster: Cluster
) -> None:
    """A study runs its first folds, of which only tables may be left, and then all others."""
    cluster.nodes = nodes
    mixed = Pool(PoolSettings(gpus=1.0, workers=workers), "board", grows=True)
    assert len(list(run(mixed, ByDevice(cpu=range(6))))) == 6
    assert {slot.reservation.gpus for slot in mixed.slots.values()} == {0.0}
    assert len(list(run(mixed, ByDevice(gpu=range(100, 103), cpu=range(5))))) == 8
    assert all(gpu for item, gpu in cluster.ran if item >= 100)
    if workers is not None:
        assert len(mixed.slots) <= workers
    assert len(list(run(mixed, range(100, 103)))) == 3


def test_a_cluster_that_is_scaled_to_zero_is_asked_for_a_worker_without_a_gpu(cluster: Cluster) -> None:
    cluster.nodes = {"head": {"CPU": 0.0}}
    mixed = Pool(PoolSettings(gpus=1.0), "board", grows=True)
    mixed.with_cpu_items, mixed.with_gpu_items = True, False
    mixed.refill()
    assert [slot.reservation for slot in mixed.slots.values()] == [mixed.bare]
    three = Pool(PoolSettings(gpus=1.0, workers=3), "board", grows=True)
    three.with_cpu_items, three.with_gpu_items = True, False
    three.refill()
    assert [slot.reservation for slot in three.slots.values()] == [three.bare] * 3, "all that were asked for"


def test_without_gpus_one_kind_of_worker_runs_everything(cluster: Cluster) -> None:
    plain = made_pool()
    plain.with_cpu_items = True
    plain.refill()
    assert {slot.reservation for slot in plain.slots.values()} == {plain.main}
    assert len(list(run(plain, ByDevice(gpu=range(3), cpu=range(3))))) == 6


def test_items_are_taken_one_by_one_as_workers_become_free(cluster: Cluster) -> None:
    taken: list[int] = []
    running = run(made_pool(workers=2), (taken.append(k) or k for k in range(9)))  # type: ignore[func-returns-value]
    for done in range(1, 10):
        next(running)
        assert len(taken) <= done + 2
    assert list(running) == []


def test_a_stream_without_an_item_now_is_asked_again_after_each_outcome_and_the_others_go_on(cluster: Cluster) -> None:
    """Each item depends on the outcome of the one eight before it, so eight of sixteen workers have one at any time."""
    cluster.nodes = {"first": {"CPU": 16.0}}
    known: set[int] = set()
    put_off: list[int] = []

    def items() -> Iterator[Any]:
        for item in range(48):
            while item >= 8 and item - 8 not in known:
                put_off.append(item)
                yield LATER
            yield item

    running: list[int] = []
    for outcome in run(made_pool(workers=16), items()):
        known.add(outcome.index)
        assert outcome.value == 2 * outcome.index, "an item that was put off has no position of its own"
        running.append(len(cluster.ran) - len(known))
    assert known == set(range(48)) and set(put_off) == set(range(8, 48))
    assert set(running[:40]) == {7}, "and the eighth begins now"
    assert LATER not in [item for item, _ in cluster.ran]


def test_an_item_that_waits_for_nothing_is_an_error_and_no_endless_wait(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="none runs"):
        list(run(made_pool(workers=2), iter([0, LATER, LATER, LATER, 1])))
