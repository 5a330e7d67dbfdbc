"""A sweep keeps what its actors find as it comes, and tells what was run from what was there before."""

from pathlib import Path
from typing import Any

import pytest

from assay.cluster.sweep import _Progress
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store


class Listening:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def done(self, record: TrialRecord, label: str, *, seconds_left: float) -> None:
        self.told.append((label, seconds_left))


def record(trial: str, *, error: str = "") -> TrialRecord:
    found: Any = () if error else (Measurement(name="accuracy", value=0.9, n=20),)
    return TrialRecord(
        trial=trial, dataset="made", model="mlp", recipe=trial, fold=0, repeat=0, seconds=3.0, measurements=found,
        error=error,
    )  # fmt: skip


def test_only_what_was_run_is_stored_counted_and_told(tmp_path: Path) -> None:
    store, watcher = Store(str(tmp_path)), Listening()
    progress = _Progress(store, watcher, total=4, workers=2)  # type: ignore[arg-type]
    progress.keep(None, "known", "known", {"epsilon": 0.1})
    progress.keep(record("new"), "new", "new", {"epsilon": 0.2})
    progress.keep(record("bad", error="ValueError: odd"), "bad", "bad", {"epsilon": 0.3})
    assert store.finished() == {"new"} and store.failures() == {"bad": "ValueError: odd"}
    # Two points, of which one was run, took 3 s: so do two more, on two workers, take 1.5 s; then one of 6 s by three.
    assert watcher.told == [("new", pytest.approx(1.5)), ("bad", pytest.approx(1.0))]
    swept = progress.swept({"known", "of an earlier plan"}, {"a point": "its actor died"}, seconds=5.0)
    assert (swept.ran, swept.trial_seconds, swept.seconds) == (2, 6.0, 5.0)
    assert swept.failures == {"bad": "ValueError: odd", "a point": "its actor died"}
    assert swept.trials == {"known": "known", "new": "new", "bad": "bad"}
    assert not swept.complete
    progress.keep(None, "last", "last", {"epsilon": 0.4})
    assert progress.swept(set(), {}, seconds=5.0).complete
