"""Each hospital has a row with what it has by joining, tested by record and seed, and the page shows it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.outcomes import Outcomes
from assay.report.page import publish_report
from assay.report.scorecard import scorecard
from assay.report.tables.hospitals import HospitalTable, hospitals
from assay.results import Measurement, TrialRecord, not_applicable
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.spec import Study

RECORDS, SEEDS = 60, 3
RIGHT = {"Alder": (50, 20), "Birch": (20, 50), "<Cedar>": (30, 30), "Dale": (37, 36)}
"""Right answers of the joint model and of the one trained alone, at each hospital."""


def accuracy(site: str, client: int, arrangement: str, right: int, seed: int) -> Measurement:
    rows = 1000 * client + np.arange(RECORDS)
    hits = np.roll(np.arange(RECORDS) < right, seed)
    value = right / RECORDS
    return Measurement(
        name="client_accuracy",
        value=value,
        n=RECORDS,
        low=value - 0.1,
        high=value + 0.1,
        conditions={"client": client, "site": site, "arrangement": arrangement},
        outcomes=Outcomes.of(hits, rows),
    )


def of_seed(right: Mapping[str, tuple[int, int]], seed: int) -> list[Measurement]:
    found = []
    for client, (site, (joint, alone)) in enumerate(right.items(), start=1):
        about = {"client": client, "site": site}
        found += [
            Measurement(name="client_records", value=100 + client, unit="records", n=1, conditions=about),
            accuracy(site, client, "federated", joint, seed),
            accuracy(site, client, "local only", alone, seed),
            Measurement(name="client_rounds", value=8, unit="rounds", n=10, conditions=about),
            Measurement(
                name="client_failures_by_cause", value=2, unit="rounds", n=10, conditions={**about, "cause": "absent"}
            ),
            *(
                Measurement(
                    name="client_auroc", value=0.7, unit="AUROC", conditions={**about, "arrangement": arrangement}
                )
                for arrangement in ("federated", "local only")
            ),
        ]
    for name, value in (("mean_client_auroc", 0.7), ("pooled_client_auroc", 0.9)):
        found.append(Measurement(name=name, value=value, unit="AUROC", conditions={"arrangement": "federated"}))
    return found


@pytest.fixture
def trials(trial: Callable[..., TrialRecord]) -> Callable[..., list[TrialRecord]]:
    """Seeds of ``fed`` on an official split, with the right answers of each hospital, or with given rows of a seed."""

    def build(right: Mapping[str, tuple[int, int]] = RIGHT, seeds: int = SEEDS, more: Any = ()) -> list[TrialRecord]:
        return [
            replace(
                trial("fed", 0, measurements=(*of_seed(right, seed), *more)),
                trial=f"fed-{seed}".encode().hex(),
                repeat=seed,
                provenance={"asked": {"cohort": "made", "official": True}},
            )
            for seed in range(seeds)
        ]

    return build


@pytest.fixture
def table(
    trials: Callable[..., list[TrialRecord]],
    study: Callable[..., Study],
    fill: Callable[..., Store],
    tmp_path: Any,
) -> Callable[..., HospitalTable]:
    def build(*given: Any, **settings: Any) -> HospitalTable:
        records = trials(*given, **settings)
        asked = study({"fed": {"federation": {"clients": 3}}}, split={"folds": 1, "repeats": len(records)})
        frame = fill(asked, tmp_path / str(len(list(tmp_path.iterdir()))), records, records).frame()
        (found,) = hospitals(scorecard(asked, "made", frame), frame)
        return found

    return build


def test_each_hospital_has_a_row(table: Callable[..., HospitalTable]) -> None:
    found = table()
    assert (found.sites, found.joined, found.arrangements) == (True, "federated", ("local only", "federated"))
    assert [row.name for row in found.rows] == list(RIGHT)
    for row, (joint, alone) in zip(found.rows, RIGHT.values(), strict=True):
        assert row.accuracy["federated"].mean == pytest.approx(joint / RECORDS)
        assert row.accuracy["local only"].mean == pytest.approx(alone / RECORDS)
        assert row.gain is not None and row.gain.value == pytest.approx((joint - alone) / RECORDS)
        assert (row.tested, row.used, row.rounds, dict(row.failures)) == ("60", 24, 30, {"absent": 6})
    assert found.rows[0].records == "101"
    together = [found.mean_auroc["federated"].mean, found.pooled_auroc["federated"].mean]
    assert together == pytest.approx([0.7, 0.9])


def test_gains_and_losses_are_told_and_what_is_alike_is_inconclusive(table: Callable[..., HospitalTable]) -> None:
    found = table()
    assert dict(found.verdicts) == {
        "gains": ("Alder",),
        "loses": ("Birch",),
        "inconclusive": ("<Cedar>", "Dale"),
    }
    first, second, third, _ = (row.gain for row in found.rows)
    assert first is not None and second is not None and third is not None
    assert first.low > 0 > second.high and first.p < 0.05 and second.p < 0.05
    assert third.p == 1.0


def test_p_is_corrected_over_the_hospitals(table: Callable[..., HospitalTable]) -> None:
    """Equal hospitals have equal p, so that Holm's first factor is their number."""
    (one,) = table({"Alder": (40, 35)}).rows
    several = table(dict.fromkeys("abcd", (40, 35))).rows
    assert one.gain is not None
    for row in several:
        assert row.gain is not None and row.gain.p == pytest.approx(min(1.0, 4 * one.gain.p))


def test_of_a_single_run_the_test_is_that_of_the_evaluation(table: Callable[..., HospitalTable]) -> None:
    about = {"client": 1, "site": "Alder", "arrangement": "federated"}
    more = (
        Measurement(name="joining_gain", value=0.5, low=0.3, high=0.7, n=60, conditions=about),
        Measurement(name="joining_p", value=0.0125, unit="probability", n=60, conditions=about),
    )
    found = table(seeds=1, more=more)
    gain = found.rows[0].gain
    assert gain is not None and (gain.value, gain.low, gain.high, gain.p) == (0.5, 0.3, 0.7, 0.0125)
    assert gain.verdict == "gains" and [row.gain for row in found.rows[1:]] == [None] * 3


def test_own_models_are_what_a_hospital_has_by_joining(table: Callable[..., HospitalTable]) -> None:
    more = [accuracy(site, client, "personal", 55, 0) for client, site in enumerate(RIGHT, start=1) if site != "Dale"]
    about = {"client": 4, "site": "Dale", "arrangement": "personal"}
    more.append(not_applicable("client_accuracy", "never trained", reason="never_trained", **about))
    found = table(more=more)
    assert found.joined == "personal"
    assert found.rows[0].gain is not None and found.rows[0].gain.value == pytest.approx((55 - 20) / RECORDS)
    assert (found.rows[3].gain, found.rows[3].absent) == (None, {"personal": "never trained"})


def test_of_many_clients_those_with_the_least_gain_are_shown(table: Callable[..., HospitalTable]) -> None:
    many = {f"client {number}": (20 + number, 30) for number in range(35)}
    found = table(many, seeds=2)
    assert found.clients == 35
    assert [row.name for row in found.rows] == list(many)[:30]


def test_the_page_shows_each_hospital_and_who_loses(
    trials: Callable[..., list[TrialRecord]], study: Callable[..., Study], fill: Callable[..., Store], tmp_path: Any
) -> None:
    asked = study({"fed": {"federation": {"clients": 3}}}, split={"folds": 1, "repeats": SEEDS})
    store = fill(asked, tmp_path / "results", trials(), trials())
    publish_report(asked, load_datasets(asked), store)
    page = store.read_text("report.html")
    section = page[page.index('id="made-clients"') :]
    section = section[: section.index("<h2")]
    for site in ("Alder", "Birch", "&lt;Cedar&gt;", "Dale"):
        assert section.count(f"<td>{site}</td>") == 2
    assert "1 of 4 hospitals lose</b> (Birch)" in section
    assert section.index("AUROC within each hospital") < section.index("includes differences between hospitals")
    assert "<Cedar>" not in section and "absent 6" in section


def test_without_clients_there_is_no_table(whole: Store, study: Callable[..., Study]) -> None:
    frame: pd.DataFrame = whole.frame()
    card = replace(scorecard(study(), "made", frame), recipes=("standard", "private"))
    assert hospitals(card, frame) == []
