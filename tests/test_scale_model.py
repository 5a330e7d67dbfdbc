"""The step-time model has the right units and limits, and moves the right way."""

from dataclasses import replace

import pytest

from tests.benchmarks.scale_model import A100S, PLAN, Hardware, Workload, hours, needs, planned, step
from tests.benchmarks.scaling.calibration import fitted, predicted
from tests.benchmarks.scaling.published import compared

FREE = Hardware(gpus=64, images_a_second=1_000)
"""Nothing but computing takes time."""


def test_a_step_of_a_batch_takes_the_time_of_its_images() -> None:
    assert step(FREE, Workload(batch=100)).seconds == pytest.approx(0.1 + 205e6 / float("inf"))


def test_hours_are_those_of_all_images_over_all_gpus() -> None:
    work = Workload(images=3_600, epochs=1_000, batch=10)
    assert hours(replace(FREE, gpus=1), work) == pytest.approx(1.0)
    assert hours(FREE, work) == pytest.approx(1 / 64)


def test_where_nothing_else_costs_time_the_efficiency_is_1() -> None:
    for workload in PLAN.values():
        found = step(FREE, workload)
        assert found.efficiency == 1 and found.limits == []


def test_one_gpu_sums_nothing() -> None:
    assert step(replace(FREE, gpus=1, all_reduce_bandwidth=1.0), Workload()).all_reduce == 0


@pytest.mark.parametrize(("attack_steps", "rate"), [(0, 2_470), (3, 823), (7, 436)])
def test_an_attack_step_costs_two_thirds_of_a_training_pass(attack_steps: int, rate: int) -> None:
    one = Hardware(gpus=1, images_a_second=2_470)
    assert 64 / step(one, Workload(attack_steps=attack_steps)).seconds == pytest.approx(rate, abs=1)


def test_the_plan_is_the_arithmetic_of_its_parts() -> None:
    """PGD-3 on 64 A100s: 78 ms of computing and 8 ms of summing 102 MB at 200 Gb/s."""
    found = step(replace(A100S, cores=None, read_bandwidth=float("inf")), PLAN["PGD-3"])
    assert found.compute == pytest.approx(0.0777, abs=1e-4)
    assert found.all_reduce == pytest.approx(0.0080, abs=1e-4)
    assert found.efficiency == pytest.approx(0.90, abs=0.01)
    asked = needs(A100S, PLAN["PGD-3"])
    assert asked["read_gb_a_second"] == pytest.approx(5.2, abs=0.1)
    assert asked["cores"] == pytest.approx(120, abs=2)


MORE = [
    ("all_reduce_bandwidth", (1e9, 1e10, 1e11)),
    ("overlap", (0.0, 0.5, 1.0)),
    ("cores", (10, 100, 1_000)),
    ("read_bandwidth", (1e8, 1e9, 1e11)),
    ("write_bandwidth", (1e6, 1e7, 1e9)),
    ("images_a_second", (100, 1_000, 10_000)),
]


@pytest.mark.parametrize(("name", "values"), MORE)
def test_more_of_anything_never_takes_longer(name: str, values: tuple[float, ...]) -> None:
    poor = replace(A100S, cores=50, read_bandwidth=1e9, write_bandwidth=1e7)
    seconds = [hours(replace(poor, **{name: value}), PLAN["plain"]) for value in values]  # type: ignore[arg-type]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > seconds[-1] or name in {"overlap", "all_reduce_bandwidth", "images_a_second"}


def test_more_gpus_end_sooner_and_are_less_efficient() -> None:
    many = [replace(A100S, gpus=gpus, cores=None, read_bandwidth=float("inf")) for gpus in (1, 8, 64, 512)]
    taken = [hours(hardware, PLAN["plain"]) for hardware in many]
    shares = [step(hardware, PLAN["plain"]).efficiency for hardware in many]
    assert taken == sorted(taken, reverse=True) and shares == sorted(shares, reverse=True)


def test_what_is_hidden_is_no_longer_than_the_backward_pass() -> None:
    slow = replace(FREE, all_reduce_bandwidth=1e6, overlap=1.0)
    found = step(slow, Workload())
    assert found.all_reduce == pytest.approx(2 * 63 / 64 * 102e6 / 1e6 - 2 / 3 * found.compute)


def test_images_are_waited_for_only_where_they_are_late() -> None:
    """6,400 images at 10 cores of 400 a second take 1.6 s; a step computes 0.1 s."""
    work = Workload(batch=100)
    assert step(replace(FREE, cores=10), work).seconds == pytest.approx(1.6)
    assert step(replace(FREE, cores=1_000), work).decode == 0


def test_what_limits_first_is_named_first() -> None:
    first = {row["recipe"]: row["limits"] for row in planned() if row["remedy"] == "as it is"}
    then = {row["recipe"]: row["limits"] for row in planned() if row["remedy"] == "images on local disks"}
    assert {limits[0] for limits in first.values()} == {"decode"}
    assert {limits[0] for limits in then.values()} == {"all-reduce"}


def test_a_fit_gives_back_what_made_the_times() -> None:
    true = {"overhead": 0.01, "seconds_an_image": 0.002, "attack_share": 0.6}
    keys = [(16, 0), (64, 0), (16, 3), (64, 2)]
    assert fitted({key: predicted(true, key) for key in keys}) == pytest.approx(true)


def test_every_published_row_says_why_it_differs_or_that_it_was_not_compared() -> None:
    for row in compared():
        assert row["why"]
        assert row["model_hours"] is None or row["ratio"] == pytest.approx(
            row["model_hours"] / row["published_hours"], abs=0.02
        )
