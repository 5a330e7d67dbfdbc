"""The file of a ledger is whole and its own, or nothing is charged to it; and no figure that is none gets in."""

import math
import shutil
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from assay.errors import LedgerError
from assay.ledger import Ledger, database
from assay.ledger.account import ReleaseRequest
from assay.ledger.database import Collection
from assay.ledger.experiments import UNFINISHED, Experiment, Processing
from assay.privacy.accounting import Mechanism
from jobs.ledger import app

DATA = Collection(digest="fedcba9876543210" * 4, name="made up", records=60)
ROLES = np.repeat([1, 4], 30).astype(np.uint8)
MECHANISM = Mechanism(noise_multiplier=4.0, sample_rate=0.25, steps=20, delta=1e-5)


def request(trial: str, **settings: Any) -> ReleaseRequest:
    charge = {"central": (replace(MECHANISM, **settings),)}
    return ReleaseRequest(training=trial, label=f"trial {trial}", charge=charge, artefact="weights")


def leave(ledger: Ledger, *requests: ReleaseRequest, **settings: Any) -> None:
    ledger.release(list(requests), how="handed over", processing=Processing(), **settings)


def begin(ledger: Ledger, trial: str, **settings: Any) -> None:
    experiment = Experiment(training=trial, results="/r", label=f"trial {trial}", noise="entropy", error=UNFINISHED)
    ledger.begin(experiment, ROLES, request(trial, **settings).charge)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Of which two models have left, and one is trained."""
    made = Ledger.create(tmp_path, DATA)
    leave(made, request("a"), epsilon=8.0)
    leave(made, request("b"))
    begin(made, "c")
    return made


def by_hand(ledger: Ledger, *statements: str) -> None:
    with sqlite3.connect(ledger.path) as file:
        for statement in statements:
            file.execute(statement)


@pytest.mark.parametrize(
    ("statement", "place", "key"),
    [
        ("DELETE FROM charges WHERE trial = 'a'", "charges", ("a", "weights")),
        ("UPDATE charges SET state = 'dropped' WHERE trial = 'b'", "charges", ("b", "weights")),
        ("UPDATE charges SET mechanisms = replace(mechanisms, '4.0', '9.0')", "charges", ("a", "weights")),
        ("UPDATE charges SET trial = 'z' WHERE trial = 'b'", "charges", ("b", "weights")),
        ("UPDATE budgets SET epsilon = 80.0", "budgets", (1,)),
        ("INSERT INTO budgets VALUES ('2031-01-01', 80.0, 1e-5, 'why not')", "budgets", (2,)),
        ("DELETE FROM trainings", "trainings", ("c", "/r", 1)),
        ("DELETE FROM experiments", "experiments", ("c", "/r")),
        ("DELETE FROM departures", "departures", ("a", "weights", "handed over")),
        ("UPDATE about SET value = 600 WHERE key = 'records'", "about", ("records",)),
        ("DELETE FROM about WHERE key = 'order'", "about", ("order",)),
        ("UPDATE parts SET roles = x'00'", "parts", None),
        ("DELETE FROM seals WHERE number = 3", "seals", (3,)),
        ("UPDATE seals SET content = '' WHERE number = 3", "seals", (3,)),
        ("DELETE FROM seals WHERE number = (SELECT MAX(number) FROM seals)", "seals", None),
        ("DROP TABLE seals", "seals", (1,)),
    ],
)
def test_a_row_that_another_hand_changed_is_named_and_nothing_more_is_charged(
    ledger: Ledger, statement: str, place: str, key: tuple[object, ...] | None
) -> None:
    assert ledger.verify() == Ledger(ledger.path).verify()
    by_hand(ledger, statement)
    asks: list[Callable[[], object]] = [
        ledger.verify,
        lambda: leave(ledger, request("d")),
        lambda: leave(ledger, request("d"), rehearsed=True),
        lambda: ledger.reserve(request("d")),
        lambda: ledger.set_budget(9.0, reason="more"),
        lambda: begin(ledger, "d"),
        Ledger(ledger.path).verify,
    ]
    for ask in asks:
        with pytest.raises(LedgerError) as caught:
            ask()
        assert caught.value.setting == place
        assert key is None or caught.value.given in (key, "no table")
    # What only adds to the record is still taken, and hides nothing.
    if place in ("charges", "budgets"):
        ledger.drop(["c"])
        ledger.erased([], asked="nobody")
        with pytest.raises(LedgerError):
            ledger.verify()


def test_a_row_that_is_put_back_as_it_was_is_whole_again(ledger: Ledger) -> None:
    by_hand(ledger, "UPDATE budgets SET epsilon = 80.0")
    with pytest.raises(LedgerError):
        ledger.verify()
    by_hand(ledger, "UPDATE budgets SET epsilon = 8.0")
    assert ledger.verify()


def test_every_call_leaves_a_whole_ledger(ledger: Ledger) -> None:
    heads = [ledger.verify()]
    for ask in (
        lambda: ledger.reserve(request("d")),
        lambda: ledger.drop(["d"]),
        lambda: ledger.set_budget(20.0, reason="more"),
        lambda: begin(ledger, "d"),
        lambda: ledger.end(
            Experiment(training="d", results="/r", label="d", noise="entropy"), ROLES, artefact="weights of d"
        ),
        lambda: leave(ledger, request("d"), plan=None),
        lambda: ledger.erased(ledger.experiments(), asked="a patient"),
    ):
        ask()
        heads.append(ledger.verify())
    assert len(set(heads)) == len(heads)
    leave(ledger, request("e"), rehearsed=True)
    with pytest.raises(LedgerError):
        ledger.set_budget(0.1, reason="less than is spent")
    assert ledger.verify() == heads[-1]


def test_an_older_copy_is_told_by_a_head_that_was_kept_elsewhere(ledger: Ledger, tmp_path: Path) -> None:
    before = ledger.verify()
    kept = tmp_path / "copy"
    with sqlite3.connect(ledger.path) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(ledger.path, kept)
    leave(ledger, request("d"))
    after = ledger.verify(before)
    with sqlite3.connect(ledger.path) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(kept, ledger.path)
    assert ledger.verify() == before
    with pytest.raises(LedgerError) as caught:
        ledger.verify(after)
    assert (caught.value.setting, caught.value.given) == ("--head", after)


def test_the_rows_of_a_ledger_of_an_earlier_version_are_sealed_when_it_is_next_written_to(ledger: Ledger) -> None:
    by_hand(
        ledger,
        "DROP TABLE seals",
        "DELETE FROM about WHERE key = 'sealed'",
        "UPDATE charges SET state = 'reserved', artefact = '' WHERE trial = 'c'",
    )
    earlier = Ledger(ledger.path)
    assert earlier.verify() == ""
    leave(earlier, request("a"))
    assert earlier.verify()
    # What it held for a training that had begun counts for good.
    assert earlier.drop(["c"]) == []
    assert [(held.training, held.artefact, held.state) for held in earlier.account().charges][2] == (
        "c",
        "training 1 in /r",
        "trained",
    )
    by_hand(ledger, "DELETE FROM charges WHERE trial = 'a'")
    with pytest.raises(LedgerError):
        leave(earlier, request("d"))


def test_jobs_ledger_verify_names_the_first_broken_row(ledger: Ledger, tmp_path: Path) -> None:
    run = CliRunner()
    fine = run.invoke(app, ["verify", str(ledger.path)])
    assert fine.exit_code == 0 and ledger.verify() in fine.output.replace("\n", "")
    assert run.invoke(app, ["verify", str(tmp_path), "--head", ledger.verify()]).exit_code == 0
    by_hand(ledger, "DELETE FROM charges WHERE trial = 'b'")
    broken = run.invoke(app, ["verify", str(ledger.path)])
    assert broken.exit_code != 0
    assert "b, weights" in " ".join(broken.output.split()) or "b, weights" in str(broken.exception)


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in its first page": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "cut in the middle": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "cut at a page": lambda path: path.write_bytes(path.read_bytes()[: 4096 * 3]),
    "no SQLite": lambda path: path.write_text("trial,epsilon\n" * 1000),
    "another database": lambda path: (path.unlink(), sqlite3.connect(path).execute("CREATE TABLE t (x)")),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_no_ledger_any_more_is_refused_by_name_and_left_as_it_is(ledger: Ledger, kind: str) -> None:
    path = ledger.path
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    file.close()
    for beside in path.parent.glob(f"{path.name}-*"):
        beside.unlink()
    BROKEN[kind](path)
    before = path.read_bytes() if path.is_file() else None
    asks: list[Callable[[], object]] = [
        lambda: leave(ledger, request("d")),
        lambda: ledger.reserve(request("d")),
        ledger.account,
        ledger.verify,
        lambda: Ledger(path),
    ]
    if kind != "gone":
        asks.append(lambda: Ledger.create(path.parent, DATA))
    for ask in asks:
        with pytest.raises(LedgerError) as caught:
            ask()
        assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_ledger_that_took_the_place_of_another_is_refused(ledger: Ledger) -> None:
    ledger.reserve(request("d"))
    ledger.path.unlink()
    for beside in ledger.path.parent.glob(f"{ledger.path.name}-*"):
        beside.unlink()
    Ledger.create(ledger.path.parent, DATA)
    for ask in (lambda: leave(ledger, request("d"), epsilon=8.0), ledger.account, ledger.verify):
        with pytest.raises(LedgerError) as caught:
            ask()
        assert "another was put in its place" in str(caught.value)


def test_a_ledger_that_may_only_be_read_says_so(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def reading_only(name: str, **settings: Any) -> sqlite3.Connection:
        return connect(name.replace("mode=rw", "mode=ro"), **settings)

    monkeypatch.setattr(database.sqlite3, "connect", reading_only)
    with pytest.raises(LedgerError) as caught:
        leave(ledger, request("d"))
    assert caught.value.setting == str(ledger.path)
    assert "readonly" in str(caught.value.given) and "--ledger" in str(caught.value)


FIGURES = [
    ("noise_multiplier", math.nan),
    ("noise_multiplier", math.inf),
    ("noise_multiplier", -1.0),
    ("sample_rate", math.nan),
    ("sample_rate", -0.1),
    ("sample_rate", 1.5),
    ("steps", -1),
    ("steps", 2.5),
    ("steps", math.nan),
    ("delta", math.nan),
    ("delta", 0.0),
    ("delta", 1.0),
    ("unit", "family"),
]


@pytest.mark.parametrize(("setting", "given"), FIGURES)
def test_a_figure_that_no_mechanism_has_is_refused_and_no_transaction_stays_open(
    ledger: Ledger, setting: str, given: Any
) -> None:
    before = ledger.verify()
    wrong = request("d", **{setting: given})
    asks: list[Callable[[], object]] = [
        lambda: leave(ledger, wrong),
        lambda: leave(ledger, request("e"), looked_at=[wrong]),
        lambda: leave(ledger, request("e"), plan=[request("e"), wrong]),
        lambda: ledger.reserve(wrong),
        lambda: begin(ledger, "d", **{setting: given}),
    ]
    for ask in asks:
        with pytest.raises(LedgerError) as caught:
            ask()
        assert caught.value.setting == setting
        assert caught.value.given is given or caught.value.given == given
    assert ledger.verify() == before
    # Another writer need not wait.
    done = threading.Thread(target=lambda: ledger.drop(["nobody"]))
    done.start()
    done.join(20)
    assert not done.is_alive()


@pytest.mark.parametrize(("epsilon", "delta"), [(math.nan, None), (math.inf, None), (-1.0, None), (8.0, math.nan)])
def test_a_budget_is_a_figure(ledger: Ledger, epsilon: float, delta: float | None) -> None:
    with pytest.raises(LedgerError) as caught:
        ledger.set_budget(epsilon, delta=delta, reason="to see")
    assert caught.value.setting == ("--budget" if delta is None else "--delta")
