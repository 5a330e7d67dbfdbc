"""A ledger loses nothing, charges once, and never lets a budget be exceeded, whoever writes at the same time."""

import contextlib
import multiprocessing
import shutil
import sqlite3
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.errors import BudgetError, LedgerError
from assay.ledger import Ledger, charges
from assay.ledger.account import ReleaseRequest
from assay.ledger.database import Collection
from assay.ledger.experiments import UNFINISHED, Experiment, Processing
from assay.ledger.patients import patient_hash
from assay.privacy.accounting import Mechanism, calibrate, rdp_epsilon
from assay.privacy.composition import UNBOUNDED, Charge, charge_to_json, filter_epsilon, pld_epsilon_of

DATA = Collection(digest="0123456789abcdef" * 4, name="made up/data", records=60)
ROLES = np.repeat([1, 4], 30).astype(np.uint8)
"""Trained on one half of the records, tested on the other."""
WHY = Processing(purpose="triage", legal_basis="Art. 9(2)(j)", until="2031-12-31")


def request(trial: str, *, epsilon: float = 1.0, artefact: str = "weights", **settings: Any) -> ReleaseRequest:
    noise = calibrate(epsilon=epsilon, delta=1e-5, sample_rate=0.25, steps=20)
    mechanism = Mechanism(**{"noise_multiplier": noise, "sample_rate": 0.25, "steps": 20, "delta": 1e-5, **settings})
    return ReleaseRequest(training=trial, label=f"trial {trial}", charge={"central": (mechanism,)}, artefact=artefact)


def begin(ledger: Ledger, trial: str, *, results: str = "/r", charge: Charge | None = None) -> None:
    experiment = Experiment(training=trial, results=results, label=f"trial {trial}", noise="entropy", error=UNFINISHED)
    ledger.begin(experiment, ROLES, request(trial).charge if charge is None else charge)


def end(ledger: Ledger, trial: str, *, results: str = "/r", error: str = "", artefact: str = "") -> None:
    experiment = Experiment(training=trial, results=results, label=f"trial {trial}", noise="entropy", error=error)
    ledger.end(experiment, ROLES, artefact=artefact)


def leave(ledger: Ledger, *requests: ReleaseRequest, **settings: Any) -> None:
    ledger.release(list(requests), how="handed over", processing=WHY, **settings)


def states(ledger: Ledger) -> dict[str, str]:
    return {held.training: held.state for held in ledger.account().charges}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "ledger", DATA)


def test_a_ledger_is_one_readable_file_a_data_set(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.path.name == "made-up-data-01234567.sqlite"
    assert Ledger.create(tmp_path / "ledger", DATA).path == ledger.path
    assert (ledger.name, ledger.records) == ("made up/data", 60)
    with sqlite3.connect(ledger.path) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other = Collection(digest="01234567" + "f" * 56, name="made up/data", records=60)
    with pytest.raises(LedgerError, match="belongs to other data"):
        Ledger.create(tmp_path / "ledger", other)
    with pytest.raises(LedgerError, match="there is no ledger"):
        Ledger(tmp_path / "none.sqlite")
    (tmp_path / "bad.sqlite").write_text("no database at all, but long enough to be looked at " * 30)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(tmp_path / "bad.sqlite")


def test_a_resume_charges_once(ledger: Ledger) -> None:
    ledger.set_budget(1.0)
    for _ in range(3):
        begin(ledger, "a")
    end(ledger, "a", artefact="weights")
    for _ in range(2):
        leave(ledger, request("a"))
    account = ledger.account()
    assert states(ledger) == {"a": "released"}
    assert len(account.charges) == 1
    assert 0.99 < account.released == account.held <= 1.0


def test_another_training_of_the_same_trial_is_another_release(ledger: Ledger) -> None:
    """Fresh noise gives other weights: whoever has both has two answers about the same records."""
    ledger.set_budget(1.2)
    leave(ledger, request("a"))
    with pytest.raises(LedgerError, match="together"):
        leave(ledger, request("a", artefact="other weights"))
    assert len(ledger.account().charges) == 1


def test_training_a_released_trial_anew_holds_its_part_before_it_begins(ledger: Ledger) -> None:
    ledger.set_budget(1.0)
    begin(ledger, "a")
    end(ledger, "a", artefact="weights")
    leave(ledger, request("a"))
    with pytest.raises(BudgetError, match="1 released"):
        begin(ledger, "a")
    assert states(ledger) == {"a": "released"}, "what was released is never taken back"
    ledger.set_budget(3.0, reason="room for both")
    for _ in range(2):
        begin(ledger, "a")
    assert [held.state for held in ledger.account().charges] == ["released", "trained"]
    end(ledger, "a", artefact="other weights")
    leave(ledger, request("a", artefact="other weights"))
    assert [held.state for held in ledger.account().charges] == ["released", "released"]


def test_a_training_under_way_keeps_what_it_holds_when_an_earlier_one_is_released(ledger: Ledger) -> None:
    ledger.set_budget(1.2)
    begin(ledger, "a")
    end(ledger, "a", artefact="weights")
    with pytest.raises(BudgetError, match="1 trained"):
        begin(ledger, "a")  # once more, before the first has left
    ledger.set_budget(3.0, reason="room for both")
    begin(ledger, "a")
    leave(ledger, request("a"))
    assert [held.state for held in ledger.account().charges] == ["trained", "released"]


def test_a_training_that_was_charged_while_it_ran_is_not_charged_again_by_its_weights(ledger: Ledger) -> None:
    ledger.set_budget(3.0)
    begin(ledger, "chosen")
    end(ledger, "chosen", artefact="weights")
    begin(ledger, "b")

    def best() -> None:
        others = [
            request(one.training, artefact=one.artefact) for one in ledger.trainings("/r") if one.training != "chosen"
        ]
        leave(ledger, request("chosen"), looked_at=others)

    best()
    end(ledger, "b", artefact="weights of b")
    best()
    released = [(held.training, held.artefact) for held in ledger.account().charges if held.released]
    assert released == [("chosen", "weights"), ("b", "weights of b")]


def test_a_rehearsal_refuses_what_would_be_refused_and_changes_nothing(ledger: Ledger) -> None:
    leave(ledger, request("a"), epsilon=2.0, rehearsed=True)
    assert (ledger.budgets(), ledger.account().charges) == ([], ())
    leave(ledger, request("a"), epsilon=2.0)
    with pytest.raises(BudgetError):
        leave(ledger, request("b", epsilon=1.9), rehearsed=True)


def test_of_two_ledgers_of_the_same_records_the_one_that_was_used_is_opened(ledger: Ledger, tmp_path: Path) -> None:
    other = Ledger.create(tmp_path / "other", replace(DATA, name="another name"))
    shutil.copy(other.path, ledger.path.parent / other.path.name)
    for one in (ledger, other):
        assert Ledger.create(ledger.path.parent, DATA, one.mark()).about("id") == one.about("id")


@pytest.mark.parametrize("charge", [{}, {"central": ()}, {"1": (), "2": ()}, request("x", steps=0).charge])
def test_nothing_private_costs_nothing(ledger: Ledger, charge: Charge) -> None:
    ledger.set_budget(1.0)
    free = ReleaseRequest(training="free", label="free", charge=charge, artefact="weights")
    asks: list[Callable[[], None]] = [
        lambda: begin(ledger, "free", charge=charge),
        lambda: leave(ledger, free),
        lambda: leave(ledger, request("a"), looked_at=[free]),
        lambda: leave(ledger, request("a"), plan=[request("a"), free]),
    ]
    for ask in asks:
        with pytest.raises(LedgerError, match="nothing private costs nothing"):
            ask()
    assert ledger.account().charges == ()


def test_what_is_left_is_the_budget_less_what_is_held_and_not_what_a_release_has_alone(ledger: Ledger) -> None:
    leave(ledger, request("a"), epsilon=3.0)
    account = ledger.account()
    assert account.left == pytest.approx(3.0 - account.held)
    order = float(account.accountant.rpartition(" ")[2])
    second = request("b", epsilon=2.3)
    # Alone it has more than is left, and yet the budget holds it: its divergence is less.
    assert filter_epsilon([second.charge], order=order, delta=1e-5) > account.left
    leave(ledger, second)
    assert ledger.account().held <= 3.0


def test_a_refusal_names_what_is_spent_asked_and_allowed_and_changes_nothing(ledger: Ledger) -> None:
    leave(ledger, request("a", epsilon=2.0), epsilon=3.0)
    before = ledger.account()
    with pytest.raises(LedgerError) as caught:
        leave(ledger, request("b", epsilon=2.5))
    order = float(before.accountant.rpartition(" ")[2])
    asked = filter_epsilon([request("b", epsilon=2.5).charge], order=order, delta=1e-5)
    for said in (
        "budget is ε = 3",
        f"ε = {before.released:.4g} is spent",
        f"trial b asks ε = {asked:.4g}",
        "1 released",
    ):
        assert said in str(caught.value)
    assert ledger.account() == before


def test_what_is_reserved_holds_its_part_until_it_is_dropped(ledger: Ledger) -> None:
    ledger.set_budget(1.0)
    ledger.reserve(request("a"))
    with pytest.raises(LedgerError, match="1 reserved"):
        begin(ledger, "b")
    with pytest.raises(LedgerError, match="1 reserved"):
        leave(ledger, request("b"))
    for _ in range(2):
        assert ledger.drop(["a", "unknown"]) == ["trial a"], "who asks again is answered the same"
    begin(ledger, "b")
    end(ledger, "b", artefact="weights")
    leave(ledger, request("b"))
    assert ledger.drop(["b"]) == [], "what was released is never given back"
    with pytest.raises(LedgerError, match="1 released"):
        begin(ledger, "a")


def test_a_dropped_trial_is_charged_when_it_is_released(ledger: Ledger) -> None:
    ledger.set_budget(1.0)
    ledger.reserve(request("a"))
    ledger.drop(["a"])
    assert ledger.account().held == 0.0
    leave(ledger, request("a"))
    assert ledger.account().released > 0.99


def test_without_a_budget_nothing_is_released_and_reservations_hold_nothing(ledger: Ledger) -> None:
    for trial in "abc":
        begin(ledger, trial)
    with pytest.raises(LedgerError, match="no budget yet"):
        leave(ledger, request("a"))
    leave(ledger, request("a"), epsilon=1.0)
    assert states(ledger) == {"a": "released", "b": "dropped", "c": "dropped"}


def test_a_budget_changes_with_a_reason_alone_and_never_below_what_is_spent(ledger: Ledger) -> None:
    ledger.set_budget(2.0)
    ledger.set_budget(2.0)
    with pytest.raises(LedgerError, match="give --reason"):
        ledger.set_budget(3.0)
    ledger.set_budget(3.0, reason="the board agreed")
    leave(ledger, request("a", epsilon=2.5))
    with pytest.raises(LedgerError, match="budget is ε = 2 "):
        ledger.set_budget(2.0, reason="thrift")
    assert [(budget.epsilon, budget.reason) for budget in ledger.budgets()] == [(2.0, ""), (3.0, "the board agreed")]
    for epsilon, delta in ((0.0, 1e-5), (float("inf"), 1e-5), (float("nan"), 1e-5), (3.0, 1 / 60), (3.0, 0.0)):
        with pytest.raises(LedgerError):
            ledger.set_budget(epsilon, delta=delta, reason="why not")


def test_the_order_of_the_filter_is_fixed_with_the_first_release(ledger: Ledger) -> None:
    ledger.set_budget(6.0)
    leave(ledger, request("a"))
    fixed = ledger.account().accountant
    assert fixed.startswith("the RDP filter at order ")
    # A mechanism whose best order is another one.
    leave(ledger, request("b", noise_multiplier=40.0, sample_rate=1.0, steps=3))
    assert ledger.account().accountant == fixed
    account = ledger.account()
    assert account.pld < account.rdp <= account.released


def test_models_that_leave_together_are_charged_all_or_none(ledger: Ledger) -> None:
    ledger.set_budget(1.2)
    with pytest.raises(LedgerError, match="2 trials asks"):
        leave(ledger, request("a"), request("b"))
    assert states(ledger) == {}
    leave(ledger, request("a", epsilon=0.5), looked_at=[request("b", epsilon=0.5)])
    assert states(ledger) == {"a": "released", "b": "released"}
    assert [len(held.departures) for held in ledger.account().charges] == [1, 0]


def test_a_plan_is_composed_by_pld_and_reserved_as_a_whole(ledger: Ledger) -> None:
    plan = [request(trial) for trial in "abcd"]
    adaptive = 2.05
    with pytest.raises(LedgerError, match="by RDP"):
        leave(ledger, *plan, epsilon=adaptive)
    leave(ledger, plan[0], epsilon=adaptive, plan=plan)
    account = ledger.account()
    assert account.accountant.startswith("PLD of the plan")
    # Which others leave may depend on what the first one showed: only the whole plan is bounded.
    assert account.released == account.held == account.bound <= adaptive
    assert "PLD of the whole plan of 4 trials" in account.bounded_by
    leave(ledger, *plan[1:], plan=plan)
    assert ledger.account().released == pytest.approx(account.held)
    with pytest.raises(LedgerError, match="not in the declared plan"):
        leave(ledger, request("e", epsilon=0.05), plan=plan)
    # What is chosen afterwards is adaptive: everything then counts by RDP, which this budget does not hold.
    with pytest.raises(LedgerError, match="by the RDP filter"):
        leave(ledger, request("e", epsilon=0.05))
    with pytest.raises(LedgerError, match="may have been chosen"):
        leave(ledger, request("e", epsilon=0.05), plan=[*plan, request("e", epsilon=0.05)])


def test_dropping_a_part_of_a_plan_lowers_nothing_once_something_of_it_has_left(ledger: Ledger) -> None:
    plan = [request("a"), request("b")]
    leave(ledger, plan[0], epsilon=4.0, plan=plan)
    before = ledger.account()
    assert ledger.drop(["b"]) == []
    after = ledger.account()
    assert (after.released, after.held, after.left) == (before.released, before.held, before.left)
    assert after.released > pld_epsilon_of([plan[0].charge], delta=1e-5)
    # Nor can the budget fall below what the dropped one may still have shown by not leaving.
    with pytest.raises(LedgerError, match="refuses"):
        ledger.set_budget((after.held + after.pld) / 2, reason="to see")


def test_no_part_of_a_plan_is_given_back_though_nothing_of_it_has_left(ledger: Ledger) -> None:
    plan = [request("a"), request("b")]
    leave(ledger, plan[0], epsilon=4.0, plan=plan, rehearsed=True)
    ledger.set_budget(4.0)
    leave(ledger, plan=plan)
    before = ledger.account()
    assert ledger.drop(["a", "b"]) == []
    assert ledger.account().held == before.held > 0


def test_releases_that_are_chosen_one_after_the_other_are_bounded_by_their_budget_alone(ledger: Ledger) -> None:
    assert ledger.account().bound == float("inf")
    leave(ledger, request("a"), epsilon=3.0)
    account = ledger.account()
    assert account.released < account.bound == 3.0
    assert account.bounded_by == "bounded by the budget of ε = 3"


def test_after_a_release_it_is_too_late_to_declare_a_plan(ledger: Ledger) -> None:
    leave(ledger, request("a"), epsilon=5.0)
    with pytest.raises(LedgerError, match="leave --declared out"):
        leave(ledger, request("b"), plan=[request("b"), request("c")])
    assert states(ledger) == {"a": "released"}


def test_a_model_without_privacy_lets_no_budget_hold(ledger: Ledger) -> None:
    plain = ReleaseRequest(training="plain", label="plain", charge=UNBOUNDED, artefact="weights")
    leave(ledger, plain, unguarded=True)
    assert ledger.account().released == float("inf")
    with pytest.raises(LedgerError, match="ε = inf is spent"):
        ledger.set_budget(100.0)
    guarded = Ledger.create(ledger.path.parent, Collection(digest="f" * 64, name="guarded", records=60))
    guarded.set_budget(100.0)
    with pytest.raises(LedgerError, match="asks ε = inf"):
        leave(guarded, plain, unguarded=True)


def _compete(path: Path, name: int, gate: Any) -> None:
    gate.wait()
    ledger = Ledger.create(path, DATA)
    for number in range(4):
        trial = f"{name}-{number}"
        plain = Experiment(training=f"plain {trial}", results="here", label=trial, noise="", error=UNFINISHED)
        ledger.begin(plain, ROLES, UNBOUNDED)
        try:
            begin(ledger, trial)
            end(ledger, trial, artefact="weights")
            leave(ledger, request(trial))
        except LedgerError as error:
            assert "together" in str(error)


def test_writers_at_the_same_time_lose_nothing_and_never_exceed_the_budget(tmp_path: Path) -> None:
    Ledger.create(tmp_path, DATA).set_budget(2.0)
    context = multiprocessing.get_context("fork")
    gate = context.Barrier(4)
    processes = [context.Process(target=_compete, args=(tmp_path, name, gate)) for name in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    ledger = Ledger.create(tmp_path, DATA)
    account = ledger.account()
    assert sum(not one.noise for one in ledger.experiments()) == 16
    reserved = [one for one in ledger.experiments() if one.noise]
    assert len(reserved) == len(account.charges), "what was refused is no experiment"
    assert account.held <= 2.0
    # One more would not have fitted, so the whole budget was given out.
    with pytest.raises(LedgerError):
        leave(ledger, request("late"))
    alone = rdp_epsilon(request("x").charge["central"][0])
    assert len(account.charges) > 2.0 / alone


def test_a_ledger_that_was_used_before_is_found_by_its_mark_or_none_is_made(ledger: Ledger, tmp_path: Path) -> None:
    leave(ledger, request("a"), epsilon=1.0)
    mark = ledger.mark()
    assert str(ledger.path) in mark.place
    assert Ledger.create(tmp_path / "ledger", DATA, mark).mark() == mark
    with pytest.raises(LedgerError, match="would forget what was spent") as caught:
        Ledger.create(tmp_path / "elsewhere", DATA, mark)
    assert mark.place in str(caught.value) and "--ledger" in str(caught.value)
    assert not (tmp_path / "elsewhere").exists()
    Ledger.create(tmp_path / "elsewhere", DATA)
    with pytest.raises(LedgerError, match="is another one"):
        Ledger.create(tmp_path / "elsewhere", DATA, mark)
    # Moved, it is still the same.
    moved = tmp_path / "moved" / ledger.path.name
    moved.parent.mkdir()
    ledger.path.rename(moved)
    found = Ledger.create(moved.parent, DATA, mark)
    assert found.mark().id == mark.id and found.account().released > 0.99


def test_the_same_records_under_another_name_have_the_same_account(ledger: Ledger, tmp_path: Path) -> None:
    leave(ledger, request("a"), epsilon=1.0)
    again = Ledger.create(tmp_path / "ledger", Collection(digest=DATA.digest, name="renamed", records=60))
    assert again.path == ledger.path and again.account().released > 0.99


def test_a_ledger_of_an_earlier_version_gets_what_it_lacks_and_keeps_what_it_holds(ledger: Ledger) -> None:
    leave(ledger, request("a"), epsilon=1.0)
    with sqlite3.connect(ledger.path) as file:
        for table in ("trainings", "seals"):
            file.execute(f"DROP TABLE {table}")
        file.execute("DELETE FROM about WHERE key IN ('id', 'sealed')")
    again = Ledger.create(ledger.path.parent, DATA)
    assert again.mark().id and again.trainings("/r") == [] and states(again) == {"a": "released"}


def test_new_ledgers_can_be_made_by_several_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=Ledger.create, args=(tmp_path / "new", DATA)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 6


@pytest.fixture
def remembered(tmp_path: Path) -> Ledger:
    """Three trials of sixty records of twenty patients."""
    patients = b"".join(patient_hash("seen", f"P{row // 3}") for row in range(60))
    data = Collection(
        digest=DATA.digest, name="seen", records=60, patients=zlib.compress(patients), most_of_a_patient=3
    )
    ledger = Ledger.create(tmp_path, data)
    first, second = np.repeat([1, 2, 4], 20).astype(np.uint8), np.repeat([4, 0, 1], 20).astype(np.uint8)
    kept, short = Processing(purpose="to learn"), Processing(purpose="to look", until="2020-01-31")
    cut_short = Experiment(training="b", results="/r", label="B", noise="", error=UNFINISHED, processing=short)
    ledger.end(Experiment(training="a", results="/r", label="A", noise="entropy", processing=kept), first)
    ledger.begin(cut_short, first, UNBOUNDED)
    ledger.end(Experiment(training="c", results="/r", label="C", noise="seeded", error="died", processing=kept), second)
    return ledger


def test_a_record_is_traced_to_every_trial_that_used_it(remembered: Ledger) -> None:
    def roles(*rows: int) -> dict[str, str]:
        return {trace.experiment.training: trace.role for trace in remembered.traces(rows)}

    assert roles(0) == {"a": "trained on", "b": "trained on", "c": "tested on"}
    assert roles(25) == {"a": "validated on", "b": "validated on"}
    assert roles(59, 0) == {"a": "trained on", "b": "trained on", "c": "trained on"}
    for outside in (-1, 60):
        with pytest.raises(LedgerError, match="has records 0 to 59"):
            remembered.traces([outside])


def test_a_patient_is_found_by_an_id_that_is_not_written_down(remembered: Ledger) -> None:
    assert remembered.positions_of("P6").tolist() == [18, 19, 20]
    with pytest.raises(LedgerError, match="is of patient"):
        remembered.positions_of("P99")
    assert b"P6" not in remembered.path.read_bytes()
    bare = Ledger.create(remembered.path.parent, Collection(digest="e" * 64, name="bare", records=60))
    with pytest.raises(LedgerError, match="give --record"):
        bare.positions_of("P6")


def test_a_trace_says_where_a_release_went(remembered: Ledger) -> None:
    leave(remembered, request("a"), epsilon=1.0)
    (released,) = [trace for trace in remembered.traces([0]) if trace.departures]
    assert released.experiment.training == "a"
    assert released.departures[0].startswith("handed over, ")


def test_what_has_expired_is_told_until_it_is_erased_and_its_charge_stays(remembered: Ledger) -> None:
    leave(remembered, request("b"), epsilon=1.0)
    spent = remembered.account().released
    assert remembered.expired("2020-01-31") == []
    gone = remembered.expired("2020-02-01")
    assert [one.training for one in gone] == ["b"]
    for _ in range(2):
        remembered.erased(gone, asked="retention date passed")
    assert remembered.expired("2020-02-01") == []
    assert [one.training for one in remembered.experiments() if one.erased] == ["b"]
    assert remembered.account().released == spent > 0
    assert [one[1:] for one in remembered.erasures()] == [("retention date passed", "1 trials")]
    (erased,) = [one.erased for one in remembered.experiments() if one.erased]
    assert remembered.erasures()[0][0] == erased, "when it was first asked"


def test_where_no_last_day_was_stated_that_of_the_release_counts(remembered: Ledger) -> None:
    leave(remembered, request("a"), request("b"), epsilon=5.0)
    assert [one.training for one in remembered.expired("2025-01-01")] == ["b"]
    assert [one.training for one in remembered.expired("2032-01-01")] == ["a", "b"]


def test_a_trial_that_ends_replaces_its_beginning(remembered: Ledger) -> None:
    ended = Experiment(training="b", results="/r", label="B", noise="")
    remembered.end(ended, np.ones(60, np.uint8))
    assert sorted((one.training, one.error) for one in remembered.experiments()) == [
        ("a", ""),
        ("b", ""),
        ("c", "died"),
    ]


def test_a_retention_date_is_a_day() -> None:
    for wrong in ("tomorrow", "2031-13-01", "20310101", "2031-1-1"):
        with pytest.raises(LedgerError, match="write it as 2031-12-31"):
            Processing(until=wrong)


def test_a_retention_date_that_is_over_is_refused_where_it_is_given_and_not_where_it_is_read() -> None:
    kept = Processing(until="2031-12-31")
    for today in ("2025-01-01", "2031-12-31"):
        kept.refuse_past(today)
    with pytest.raises(LedgerError, match="2031-12-31 is over, and today is 2032-01-01"):
        kept.refuse_past("2032-01-01")
    Processing().refuse_past("2032-01-01")


def test_a_training_that_is_refused_is_no_experiment(ledger: Ledger) -> None:
    ledger.set_budget(1.0)
    begin(ledger, "a")
    with pytest.raises(LedgerError, match="1 trained"):
        begin(ledger, "b")
    assert [one.training for one in ledger.experiments()] == ["a"]
    assert [one.training for one in ledger.trainings("/r")] == ["a"]


def test_every_training_stays_on_record_whatever_becomes_of_it(ledger: Ledger) -> None:
    """Twice over, since on a cluster each question may be asked again."""
    for _ in range(2):
        begin(ledger, "a")
    for _ in range(2):
        end(ledger, "a", artefact="first")
    for _ in range(2):
        begin(ledger, "a")
    for _ in range(2):
        end(ledger, "a", error="died")
    begin(ledger, "a")
    begin(ledger, "elsewhere", results="/other")
    ledger.erased(ledger.experiments(), asked="a patient")
    found = ledger.trainings("/r")
    assert [(one.training, one.artefact) for one in found] == [
        ("a", "first"),
        ("a", "training 2 in /r"),
        ("a", "training 3 in /r"),
    ]
    assert {charge_to_json(one.charge) for one in found} == {charge_to_json(request("a").charge)}
    assert {one.objection for one in found} == {""}


def test_what_could_not_be_split_touched_nothing(ledger: Ledger) -> None:
    nothing = Experiment(training="a", results="/r", label="a", noise="", error=UNFINISHED)
    ledger.begin(nothing, np.zeros(60, np.uint8), UNBOUNDED)
    assert len(ledger.experiments()) == 1 and ledger.trainings("/r") == []


def test_each_study_that_trains_the_same_trial_holds_its_part_for_good(ledger: Ledger) -> None:
    ledger.set_budget(1.0)
    begin(ledger, "a", results="/one")
    with pytest.raises(BudgetError, match="1 trained"):
        begin(ledger, "a", results="/two")
    ledger.set_budget(3.0, reason="room for both")
    begin(ledger, "a", results="/two")
    held = ledger.account().held
    end(ledger, "a", results="/one", error="died")
    end(ledger, "a", results="/two", artefact="weights")
    ledger.erased(ledger.experiments(), asked="a patient")
    assert ledger.drop(["a"]) == []
    assert [held.state for held in ledger.account().charges] == ["trained", "trained"]
    assert ledger.account().held == held


def test_a_failed_second_training_leaves_the_release_of_the_first(ledger: Ledger) -> None:
    ledger.set_budget(3.0)
    begin(ledger, "a")
    end(ledger, "a", artefact="weights")
    leave(ledger, request("a"))
    begin(ledger, "a")
    assert [held.state for held in ledger.account().charges] == ["released", "trained"]
    end(ledger, "a", error="died")
    assert [held.state for held in ledger.account().charges] == ["released", "trained"]


def test_every_purpose_is_on_record_once(remembered: Ledger) -> None:
    leave(remembered, request("a"), epsilon=1.0)
    leave(remembered, request("a"))
    leave(remembered, request("c"), epsilon=2.0, reason="more")
    said = [(one.purpose, experiments, releases) for one, experiments, releases in remembered.processings()]
    assert said == [("to learn", 2, 0), ("to look", 1, 0), ("triage", 0, 2)]


def guarded(folder: Path, digest: str, *, name: str = "scans", patients: Sequence[str] = ()) -> Ledger:
    hashes = b"".join(patient_hash(name, one) for one in patients)
    made = Collection(digest=digest * 64, name=name, records=60, patients=zlib.compress(hashes) if patients else b"")
    ledger = Ledger.create(folder, made)
    ledger.set_budget(5.0)
    return ledger


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ((), (), "nobody can tell whether they share patients"),
        (("P1", "P2", "P2"), (), "nobody can tell"),
        (("P1", "P2", "P2"), ("P2", "P2", "P9"), "they share 1 patients"),
        (("P1", "P2"), ("P8", "P9"), ""),
    ],
)
def test_the_same_people_have_no_second_budget_for_being_read_in_another_way(
    tmp_path: Path, ours: tuple[str, ...], theirs: tuple[str, ...], said: str
) -> None:
    here, there = guarded(tmp_path, "a", patients=ours), guarded(tmp_path, "b", patients=theirs)
    leave(guarded(tmp_path, "c", name="other scans"), request("z"))
    leave(there, request("a"))
    if not said:
        leave(here, request("b"))
        return
    for rehearsed in (True, False):
        with pytest.raises(LedgerError, match=f"scans-bbbbbbbb.sqlite is a ledger of scans too.*{said}"):
            leave(here, request("b"), rehearsed=rehearsed)
    assert states(here) == {}
    # What the other one has released may be shown again, and it goes on.
    leave(there, request("a"), request("b"))


def test_of_two_that_release_at_once_for_the_same_people_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledgers = guarded(tmp_path, "a"), guarded(tmp_path, "b")
    both, refuse = threading.Barrier(2), charges.require_one_account

    def slowly(*args: Any, **settings: bool) -> None:
        refuse(*args, **settings)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)

    monkeypatch.setattr(charges, "require_one_account", slowly)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(leave, ledger, request("a")) for ledger in ledgers]
    assert sorted(type(one.exception()).__name__ for one in asked) == ["LedgerError", "NoneType"]


def test_a_ledger_of_an_earlier_version_is_not_continued_and_says_what_to_do(tmp_path: Path) -> None:
    here, there = guarded(tmp_path, "a"), guarded(tmp_path, "b")
    leave(there, request("a"))
    with sqlite3.connect(there.path) as db:
        db.execute("DELETE FROM about WHERE key IN ('salt', 'id')")
    with pytest.raises(LedgerError, match=r"made by an earlier version.*another name.*a budget less what was spent"):
        leave(here, request("b"))


def test_a_sibling_that_released_nothing_stands_in_nobodys_way(tmp_path: Path) -> None:
    here, there = guarded(tmp_path, "a"), guarded(tmp_path, "b")
    there.reserve(request("a"))
    leave(here, request("b"))


def test_patients_of_a_ledger_of_an_earlier_version_are_found_by_its_digest(remembered: Ledger) -> None:
    packed = zlib.compress(b"".join(patient_hash(DATA.digest, f"P{row // 3}") for row in range(60)))
    with sqlite3.connect(remembered.path) as db:
        db.execute("DELETE FROM about WHERE key = 'salt'")
        db.execute("UPDATE about SET value = ? WHERE key = 'patients'", (packed,))
    earlier = Ledger(remembered.path)
    assert earlier.positions_of("P6").tolist() == [18, 19, 20]
    assert earlier._patients.shared_with(remembered._patients) is None
