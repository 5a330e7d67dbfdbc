"""What fits on which node; what cannot fit is refused with its figure, where it can be known."""

from typing import Any

import pytest

from assay.cluster import resources
from assay.cluster.resources import (
    Node,
    Reservation,
    checked_gpus,
    described,
    equal_share,
    gpu_share,
    gpus_for,
    is_alive,
    living_nodes,
    refuse_impossible,
)
from assay.cluster.waiting import WAIT
from assay.errors import UserError
from jobs.options import WAIT_FOR_WORKERS
from tests.mistakes import refused

EIGHT = {"CPU": 96.0, "GPU": 8.0}
PLAIN = {"CPU": 8.0}


@pytest.mark.parametrize(("gpus", "workers", "share"), [(0, 4, 0), (4, 4, 1), (8, 4, 1), (2, 3, 0.5), (1, 5, 0.2)])
def test_every_worker_fits_on_one_gpu(gpus: float, workers: int, share: float) -> None:
    assert gpu_share(gpus, workers) == share


@pytest.mark.parametrize(
    ("cpus", "gpus", "node", "number"),
    [
        (1, 0.0, PLAIN, 8),
        (3, 0.0, PLAIN, 2),
        (1, 1.0, EIGHT, 8),
        (1, 2.0, EIGHT, 4),
        (1, 3.0, EIGHT, 2),
        (1, 0.3, EIGHT, 24),
        (1, 0.6, EIGHT, 8),
        (1, 0.1, EIGHT, 80),
        (16, 0.1, EIGHT, 6),
        (1, 1 / 12, EIGHT, 96),
        (1, 0.5, PLAIN, 0),
        (1, 0.0, {"memory": 1.0}, 0),
    ],
)
def test_workers_fit_by_cpus_and_by_gpus_of_which_a_share_lies_on_one(
    cpus: int, gpus: float, node: Node, number: int
) -> None:
    assert Reservation(cpus=cpus, gpus=gpus).fits(node) == number


def test_only_nodes_with_gpus_share_them() -> None:
    assert equal_share([EIGHT, PLAIN, PLAIN], workers=None, cpus=1) == pytest.approx(1 / 12)
    assert equal_share([EIGHT, PLAIN], workers=16, cpus=1) == 0.5
    assert equal_share([PLAIN], workers=None, cpus=1) == 0
    assert equal_share([], workers=None, cpus=1) == 0


@pytest.mark.parametrize("gpus", [1.5, -1.0, 0.00005, float("nan"), float("inf")])
def test_what_ray_cannot_reserve_is_refused(gpus: float) -> None:
    with refused(UserError, "--gpus-per-trial", allowed="a share from 0.0001 to 1, or a whole number"):
        checked_gpus(gpus)


@pytest.mark.parametrize("gpus", [None, 0.0, 0.3, 1.0, 2.0])
def test_shares_and_whole_gpus_are_taken(gpus: float | None) -> None:
    assert checked_gpus(gpus) == gpus


def test_trials_that_are_all_for_the_cpu_reserve_no_gpu_whatever_was_asked_for() -> None:
    for asked in (None, 0.5, 1.0):
        assert gpus_for(["cpu", "cpu"], asked) == 0.0
        assert gpus_for(["cpu", "gpu"], asked) == asked


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Types of nodes that the autoscaler knows; none: there is no autoscaler."""
    known: list[Node] = []
    monkeypatch.setattr(resources, "node_types", lambda: known or None)
    return known


def test_what_no_node_has_enough_of_is_refused_with_the_figure(types: list[Node]) -> None:
    with refused(UserError, "--gpus-per-trial", 16.0, 8.0):
        refuse_impossible(Reservation(cpus=1, gpus=16), [EIGHT, PLAIN], grows=True)
    with refused(UserError, "threads", 128.0, 96.0):
        refuse_impossible(Reservation(cpus=128), [EIGHT, PLAIN], grows=True)
    with refused(UserError, "--gpus-per-trial", 1.0, 0.0):
        refuse_impossible(Reservation(cpus=1, gpus=1), [PLAIN], grows=False)


def test_what_may_still_come_is_not_refused(types: list[Node]) -> None:
    refuse_impossible(Reservation(cpus=4), [{"CPU": 0.0}], grows=True)
    refuse_impossible(Reservation(cpus=1, gpus=1), [PLAIN], grows=True)
    refuse_impossible(Reservation(cpus=1, gpus=1), [PLAIN, EIGHT], grows=False)


def test_what_no_type_of_node_can_hold_is_refused_though_nodes_may_come(types: list[Node]) -> None:
    types.extend([{"CPU": 16.0}, {"CPU": 32.0, "GPU": 4.0}])
    refuse_impossible(Reservation(cpus=24), [PLAIN], grows=True)
    refuse_impossible(Reservation(cpus=1, gpus=4), [{"CPU": 0.0}], grows=True)
    with refused(UserError, "--gpus-per-trial", 8.0, 4.0):
        refuse_impossible(Reservation(cpus=1, gpus=8), [{"CPU": 0.0}], grows=True)


def test_what_no_machine_has_together_is_refused_though_each_has_a_part(types: list[Node]) -> None:
    few_cpus = {"CPU": 4.0, "GPU": 1.0}
    with refused(UserError, "--gpus-per-trial", 1.0):
        refuse_impossible(Reservation(cpus=8, gpus=1), [PLAIN, few_cpus], grows=False)
    refuse_impossible(Reservation(cpus=8, gpus=1), [PLAIN, few_cpus], grows=True)
    types.extend([PLAIN, few_cpus])
    with refused(UserError, "--gpus-per-trial", 1.0):
        refuse_impossible(Reservation(cpus=8, gpus=1), [{"CPU": 0.0}], grows=True)


def test_dead_nodes_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(name: str, alive: bool, **has: float) -> dict[str, Any]:
        return {"NodeID": name, "Alive": alive, "Resources": has}

    monkeypatch.setattr("ray.nodes", lambda: [node("a", True, CPU=2.0), node("b", False, CPU=64.0)])
    assert living_nodes() == [{"CPU": 2.0}]
    assert (is_alive("a"), is_alive("b"), is_alive("c")) == (True, False, False)


def test_machines_are_described_by_what_they_have() -> None:
    assert described([PLAIN, EIGHT, PLAIN]) == "3 machines: 2 with 8 CPUs, 1 with 96 CPUs and 8 GPUs"
    assert str(Reservation(cpus=2, gpus=0.5)) == "2 CPUs and 0.5 GPU"


def test_the_wait_that_help_shows_is_that_of_the_executor() -> None:
    assert WAIT_FOR_WORKERS == WAIT
