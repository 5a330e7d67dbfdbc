"""A sweep keeps what its actors find as it comes, trains no model twice, and tells what was run from what was there."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from assay.cluster.claims import start_claims
from assay.cluster.session import ray_session
from assay.cluster.sweep import _Progress
from assay.data.base import Dataset
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.runner import Runner
from assay.study.training import Trained
from assay.study.trial import Trial


class Listening:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def done(self, record: TrialRecord, label: str, *, seconds_left: float) -> None:
        self.told.append((label, seconds_left))


class Ends:
    """A ledger that remembers which trials ended, and whether their model was stored then."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.ended: list[tuple[str, bool]] = []

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        self.ended.append((trial.label, self.store.checkpoint(trial.training) is not None))


def record(trial: str, *, error: str = "", weights: bytes = b"") -> TrialRecord:
    found: Any = () if error else (Measurement(name="accuracy", value=0.9, n=20),)
    return TrialRecord(
        trial=trial, training=trial, dataset="made", model="mlp", recipe=trial, fold=0, repeat=0, seconds=3.0,
        measurements=found, error=error, weights=weights,
    )  # fmt: skip


def trial(name: str) -> Any:
    return SimpleNamespace(id=name, label=name, training=name)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path))


@pytest.fixture
def prepared() -> Any:
    return SimpleNamespace(space={"epsilon": {"grid_search": [0.1, 0.2, 0.3, 0.4]}}, samples=1, dataset=None)


def test_only_what_was_run_is_stored_counted_and_told(store: Store, prepared: Any) -> None:
    watcher, ends, settled = Listening(), Ends(store), {}
    progress = _Progress(store, watcher, Runner(ends), settled.__setitem__, prepared, workers=2)  # type: ignore[arg-type]
    progress.keep(None, trial("known"), {"epsilon": 0.1}, began=False)
    progress.keep(record("new", weights=b"weights"), trial("new"), {"epsilon": 0.2}, began=True)
    progress.keep(record("bad", error="ValueError: odd"), trial("bad"), {"epsilon": 0.3}, began=True)
    assert store.finished() == {"new"} and store.failures() == {"bad": "ValueError: odd"}
    # Two points, of which one was run, took 3 s: so do two more, on two workers, take 1.5 s; then one of 6 s by three.
    assert watcher.told == [("new", pytest.approx(1.5)), ("bad", pytest.approx(1.0))]
    swept = progress.swept({"known", "of an earlier plan"}, {"a point": "its actor died"}, seconds=5.0)
    assert (swept.ran, swept.trial_seconds, swept.seconds) == (2, 6.0, 5.0)
    assert swept.failures == {"bad": "ValueError: odd", "a point": "its actor died"}
    assert swept.trials == {"known": "known", "new": "new", "bad": "bad"}
    assert not swept.complete
    progress.keep(None, trial("last"), {"epsilon": 0.4}, began=False)
    assert progress.swept(set(), {}, seconds=5.0).complete
    assert ends.ended == [("new", True), ("bad", False)], "a model is stored before its training counts as ended"
    assert settled["bad"] is None
    assert settled["new"][0].checkpoint == b"weights"


def test_what_was_refused_never_ends(store: Store, prepared: Any) -> None:
    ends, settled = Ends(store), {}
    progress = _Progress(store, Listening(), Runner(ends), settled.__setitem__, prepared, workers=2)  # type: ignore[arg-type]
    progress.keep(record("dear", error="BudgetError: no"), trial("dear"), {"epsilon": 0.1}, began=False)
    assert ends.ended == []
    assert settled == {"dear": None}
    assert store.failures() == {"dear": "BudgetError: no"}


def test_a_model_is_lent_even_if_storing_it_failed(
    store: Store, prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled: dict[str, Any] = {}
    progress = _Progress(store, Listening(), Runner(), settled.__setitem__, prepared, workers=2)  # type: ignore[arg-type]
    monkeypatch.setattr(store, "write", lambda _: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        progress.keep(record("new", weights=b"w"), trial("new"), {"epsilon": 0.2}, began=True)
    assert settled == {"new": None}, "whoever waits for it would wait for ever"


@ray.remote(num_cpus=0)
class Actor:
    """Wants a model; trains it, dies over it, or gets it."""

    def want(self, claims: Any, name: str) -> str:
        found = ray.get(claims.take.remote(name, ray.get_runtime_context().current_actor))
        return ray.get(found[0])[0].checkpoint.decode() if found else "mine to train"

    def train(self, claims: Any, name: str) -> None:
        """Takes a model and trains until it is killed."""
        assert self.want(claims, name) == "mine to train"
        time.sleep(600)


@pytest.fixture
def joined(shared_ray: str) -> Iterator[None]:
    """The tests' one Ray, joined by this process."""
    with ray_session(shared_ray, workers=1):
        yield


def test_of_several_that_want_a_model_one_trains_it_and_the_others_wait(joined: None) -> None:
    claims = start_claims({})
    first, second, third = Actor.remote(), Actor.remote(), Actor.remote()
    assert ray.get(first.want.remote(claims, "m")) == "mine to train"
    waiting = [second.want.remote(claims, "m"), third.want.remote(claims, "m")]
    assert ray.wait(waiting, num_returns=2, timeout=1.0)[0] == []
    ray.get(claims.settle.remote("m", [ray.put((Trained(checkpoint=b"weights"), {}))]))
    assert ray.get(waiting, timeout=30) == ["weights", "weights"]
    assert ray.get(first.want.remote(claims, "m"), timeout=30) == "weights"


def test_where_the_first_comes_to_nothing_the_next_trains(joined: None) -> None:
    claims = start_claims({})
    first, second, third = Actor.remote(), Actor.remote(), Actor.remote()
    training = first.train.remote(claims, "m")
    assert ray.wait([training], timeout=2.0)[0] == []
    waiting = [second.want.remote(claims, "m"), third.want.remote(claims, "m")]
    ray.kill(first)
    (freed,), (still,) = ray.wait(waiting, timeout=60)
    assert ray.get(freed) == "mine to train"
    assert ray.wait([still], timeout=0.5)[0] == [], "one trains, and the third goes on waiting"
    ray.get(claims.settle.remote("m", []))
    assert ray.get(still, timeout=30) == "mine to train"
