"""Successive halving lets one in η go on, never a worse one before a better one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from assay.errors import SpecError
from assay.study.halving import Halving, Job, Jobs, Plain, Rungs
from assay.study.sweep_queue import JobQueue, Lookahead
from tests.mistakes import refused


class Listed:
    """A search that proposes numbers."""

    learns = False

    def __init__(self, total: int) -> None:
        self.total, self._next = total, 0

    def propose(self) -> Mapping[str, Any] | None:
        self._next += 1
        return {"x": self._next - 1} if self._next <= self.total else None

    def tell(self, number: int, values: Sequence[float] | None) -> None: ...


class Learning(Listed):
    """A search whose every point is the sum of the outcomes that it was told."""

    learns = True

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.told: list[int] = []
        self._sum = 0.0

    def propose(self) -> Mapping[str, Any] | None:
        point = super().propose()
        return None if point is None else {"x": point["x"], "sum": self._sum}

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        self.told.append(number)
        self._sum += values[0] if values else 0.0


@pytest.mark.parametrize(
    ("epochs", "eta", "rungs"), [(27, 3, (1, 3, 9, 27)), (60, 3, (2, 6, 20, 60)), (10, 4, (2, 10)), (3, 3, (1, 3))]
)
def test_rungs_are_the_whole_training_over_powers_of_eta(epochs: int, eta: int, rungs: tuple[int, ...]) -> None:
    assert Rungs.up_to(epochs, eta=eta).epochs == rungs


def test_a_training_without_a_rung_before_its_end_is_refused() -> None:
    with refused(SpecError, "training.epochs", 2, 3):
        Rungs.up_to(2, eta=3)


def value(job: Job) -> float:
    """Of a point: it is the better the greater; the rung changes nothing."""
    return float(np.random.default_rng(job.point["x"]).permutation(100)[0])


def run(jobs: Jobs, *, workers: int, ahead: int, seed: int = 0, known: Mapping[Any, float] | None = None) -> list[Job]:
    """All jobs in their order, when so many workers end them in any order."""
    order, generator = JobQueue(jobs, Lookahead([(0, ahead)])), np.random.default_rng(seed)
    running: list[Job] = []
    done: list[Job] = []
    while True:
        while len(running) < workers and (job := order.next()) is not None:
            running.append(job)
            done.append(job)
        if not running:
            return done
        ended = running.pop(int(generator.integers(len(running))))
        order.end(ended.number, [value(ended)])


@pytest.mark.parametrize("sign", [1, -1])
def test_one_in_eta_goes_on_and_the_best_does(sign: int) -> None:
    jobs = Halving(Listed(54), Rungs(epochs=(1, 3, 9), eta=3), sign=sign)
    done = run(jobs, workers=1, ahead=1)
    reached = [{job.point["x"] for job in done if job.rung == rung} for rung in (0, 1, None)]
    assert len(reached[0]) == 54
    assert reached[2] <= reached[1] <= reached[0]
    # Asynchronous: a point may go on before a better one comes, so a few more do than one in three.
    assert 18 <= len(reached[1]) <= 18 + 12 and 6 <= len(reached[2]) <= 6 + 10
    best = max(range(54), key=lambda x: sign * value(Job(number=0, point={"x": x})))
    assert best in reached[2]
    assert [job.number for job in done] == list(range(len(done)))


def test_a_point_that_failed_goes_no_further() -> None:
    jobs = Halving(Listed(3), Rungs(epochs=(1, 3), eta=3), sign=1)
    for number in range(3):
        assert jobs.next() == Job(number=number, point={"x": number}, rung=0)
        jobs.tell(number, None if number == 1 else [float(number)])
    assert jobs.next() is None, "two of three have a value, and one in three of two is none"


def test_equal_points_go_on_in_their_order() -> None:
    jobs = Halving(Listed(4), Rungs(epochs=(1, 2), eta=2), sign=1)
    for number in range(2):
        jobs.next()
        jobs.tell(number, [1.0])
    promoted = jobs.next()
    assert promoted is not None and promoted.point == {"x": 0} and promoted.rung is None


@pytest.mark.parametrize(
    "jobs", [lambda: Halving(Listed(30), Rungs(epochs=(1, 3, 9), eta=3), sign=1), lambda: Plain(Learning(30))]
)
def test_the_jobs_do_not_depend_on_who_was_faster(jobs: Any) -> None:
    first = run(jobs(), workers=1, ahead=5)
    for workers in (2, 3, 5, 9):
        for seed in range(4):
            assert run(jobs(), workers=workers, ahead=5, seed=seed) == first


def test_a_search_is_told_every_outcome_in_order_and_no_more_than_it_may_know() -> None:
    search = Learning(20)
    done = run(Plain(search), workers=4, ahead=6)
    assert search.told == sorted(search.told) and len(search.told) >= 14
    assert [job.point["sum"] for job in done[:6]] == [0.0] * 6
    assert done[6].point["sum"] == value(done[0])
    assert done[10].point["sum"] == sum(value(job) for job in done[:5])


def test_a_number_that_grew_is_repeated_whatever_the_number_of_workers() -> None:
    stored: list[list[tuple[int, int]]] = []
    grown = Lookahead([(0, 3)], workers=lambda: 6, store=lambda steps: stored.append(list(steps)))
    first = JobQueue(Plain(Learning(40)), grown)
    jobs = [first.next() for _ in range(10)]
    assert None not in jobs and stored == [[(0, 3), (3, 12)]], "job 3 would have waited for job 0"
    for number in range(10):
        first.end(number, [float(number)])
    jobs += [first.next() for _ in range(8)]
    again = Lookahead(stored[-1], workers=lambda: 1, store=lambda steps: pytest.fail("nothing grows"))
    second = JobQueue(Plain(Learning(40)), again)
    repeated = []
    while len(repeated) < 18 and (job := second.next()) is not None:
        repeated.append(job)
        second.end(job.number, [float(job.number)])
    assert repeated == jobs


def test_a_job_that_an_earlier_run_decided_is_not_decided_anew_by_a_larger_pool() -> None:
    ahead = Lookahead([(0, 3), (20, 8)], workers=lambda: 50)
    assert not ahead.grow(19) and ahead.of(19) == 3 and ahead.of(20) == 8
    assert ahead.grow(31) and (ahead.of(30), ahead.of(31)) == (8, 100)


def test_a_number_that_is_given_stays() -> None:
    assert not Lookahead([(0, 3)]).grow(50)


def test_jobs_that_do_not_learn_never_wait() -> None:
    order = JobQueue(Plain(Listed(50)), Lookahead([(0, 1)]))
    assert len(list(iter(order.next, None))) == 50
