"""Charges know whom they protect, and a ledger adds up no two that protect unlike."""

import zlib
from pathlib import Path
from typing import Any

import pytest

from assay.errors import LedgerError
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.database import Collection
from assay.ledger.experiments import Processing
from assay.ledger.patients import patient_hash
from assay.privacy.accounting import Mechanism, rdp_to_epsilon_term
from assay.privacy.composition import (
    charge_from_json,
    charge_to_json,
    filter_epsilon,
    pld_epsilon_of,
    rdp_epsilon_of,
    unit_of,
)


def charge(unit: str, **settings: Any) -> dict[str, tuple[Mechanism, ...]]:
    about = {"noise_multiplier": 2.0, "sample_rate": 0.25, "steps": 20, "delta": 1e-5, **settings}
    return {"central": (Mechanism(unit=unit, **about),)}


def test_charges_of_one_unit_add_up_and_mixed_ones_protect_a_record() -> None:
    patient, record = charge("patient"), charge("record")
    assert [unit_of(c) for c in ([], [patient], [record], [patient, record])] == [None, "patient", "record", "record"]
    alone = filter_epsilon([patient, patient], order=8.0, delta=1e-5)
    assert alone == filter_epsilon([record, record], order=8.0, delta=1e-5)
    assert filter_epsilon([patient, record], order=8.0, delta=1e-5) > 1.5 * alone


@pytest.mark.parametrize("order", [1.5, 2.0, 8.0, 32.0])
def test_a_replaced_patient_costs_no_less_than_twice_the_sensitivity(order: float) -> None:
    """At rate 1 the divergence of Gaussians is known: a replaced patient moves the sum by up to 2C."""
    patient, tiny = charge("patient", sample_rate=1.0, steps=1), charge("record", noise_multiplier=1e4, steps=1)
    counted = filter_epsilon([patient, tiny], order=order, delta=1e-5)
    exact = order * (2 / 2.0) ** 2 / 2
    assert counted - rdp_to_epsilon_term(order, 1e-5) >= exact


def test_mixed_charges_have_no_pld_of_their_own() -> None:
    mixed = [charge("patient"), charge("record")]
    assert pld_epsilon_of(mixed, delta=1e-5) == rdp_epsilon_of(mixed, delta=1e-5)


def test_a_charge_of_an_earlier_version_is_of_records() -> None:
    text = charge_to_json(charge("patient"))
    assert charge_from_json(text) == charge("patient")
    assert charge_from_json(text.replace(', "unit": "patient"', "")) == charge("record")


def of_patients(folder: Path) -> Ledger:
    """Of sixty records of twenty patients, without a budget."""
    hashes = b"".join(patient_hash("beats", f"P{row // 3}") for row in range(60))
    data = Collection(digest="ab" * 32, name="beats", records=60, patients=zlib.compress(hashes), most_of_a_patient=3)
    return Ledger.create(folder, data)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """The same with a budget."""
    made = of_patients(tmp_path)
    made.set_budget(20.0)
    return made


def leave(ledger: Ledger, trial: str, unit: str) -> None:
    request = ReleaseRequest(training=trial, label=trial, charge=charge(unit), artefact="weights")
    ledger.release([request], how="handed over", processing=Processing())


def test_a_ledger_that_counts_patients_refuses_what_protects_records(ledger: Ledger) -> None:
    assert ledger.account().unit == "patient"
    leave(ledger, "a", "patient")
    assert ledger.account().unit == "patient"
    for ask in (
        lambda: leave(ledger, "b", "record"),
        lambda: ledger.reserve(ReleaseRequest(training="b", label="b", charge=charge("record"))),
    ):
        with pytest.raises(LedgerError) as caught:
            ask()
        assert (caught.value.setting, caught.value.given, caught.value.allowed) == ("privacy.unit", "record", "patient")
    leave(ledger, "c", "patient")


def test_a_charge_of_a_patient_covers_records_at_its_price(ledger: Ledger) -> None:
    leave(ledger, "a", "record")
    before = ledger.account()
    leave(ledger, "b", "patient")
    account = ledger.account()
    assert (before.unit, account.unit) == ("record", "record")
    assert account.held > before.held + filter_epsilon([charge("patient")], order=8.0, delta=1e-5) / 2
    assert {m.unit for held in account.charges for own in held.charge.values() for m in own} == {"patient", "record"}


def test_a_plan_is_of_one_unit(ledger: Ledger) -> None:
    plan = [ReleaseRequest(training=u, label=u, charge=charge(u), artefact="weights") for u in ("patient", "record")]
    with pytest.raises(LedgerError) as caught:
        ledger.release(plan[:1], how="handed over", processing=Processing(), plan=plan)
    assert caught.value.setting == "privacy.unit"


def test_delta_of_a_budget_is_held_against_patients(ledger: Ledger) -> None:
    with pytest.raises(LedgerError) as caught:
        ledger.set_budget(20.0, delta=0.05, reason="to see")
    assert (caught.value.setting, caught.value.allowed) == ("--delta", 0.05)


def test_a_release_that_protects_records_is_refused_without_a_budget_too(tmp_path: Path) -> None:
    ledger = of_patients(tmp_path)
    # Two experiments promise nothing to anybody.
    for unit in ("patient", "record"):
        ledger.reserve(ReleaseRequest(training=unit, label=unit, charge=charge(unit)))

    def leave_unguarded(trial: str, unit: str) -> None:
        request = ReleaseRequest(training=trial, label=trial, charge=charge(unit), artefact="weights")
        ledger.release([request], how="handed over", processing=Processing(), unguarded=True)

    leave_unguarded("a", "patient")
    with pytest.raises(LedgerError) as caught:
        leave_unguarded("b", "record")
    assert (caught.value.setting, caught.value.given, caught.value.allowed) == ("privacy.unit", "record", "patient")
    assert [held.training for held in ledger.account().charges if held.released] == ["a"]
    leave_unguarded("c", "patient")
