"""What the log of a federated training tells of its rounds, against closed forms of a record made by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay import intervals
from assay.evaluations.rounds import Rounds
from assay.evaluations.subject import Subject
from assay.federated.network import NETWORKS, slowdowns
from assay.federated.record import CAUSES, FederationRecord, RoundRecord
from assay.recipes import Federation, Privacy, Recipe
from assay.results import Measurement
from assay.training.log import TrainingLog

Make = Callable[..., Subject]
One = Callable[..., Measurement]

FEDERATION = Federation(clients=3, rounds=4, policy="those_that_answer")
REFUSED = {"1": "too large", "2": "too large", "3": "too large"}
DOWN = 6_000_000


def record() -> FederationRecord:
    """Three clients in four rounds: all answer, then the second is late, raises, and at last all are refused."""
    made = FederationRecord(sizes=[10, 20, 30], measured_records=20)
    made.add(
        RoundRecord(
            asked=3, answered=3, seconds=6, slowest_seconds=2, bytes_up=3_000_000, bytes_down=DOWN, measured=0.5
        ),
        [1, 2, 3],
    )
    for cause, reason, measured in (("late", "no reply within 2 s", None), ("raised", "ValueError: no ward", 0.75)):
        made.add(
            RoundRecord(
                asked=3,
                answered=2,
                failures={"2": reason},
                causes={"2": cause},  # type: ignore[dict-item]
                seconds=2.5,
                slowest_seconds=1,
                bytes_up=2_000_000,
                bytes_down=DOWN,
                measured=measured,
            ),
            [1, 3],
        )
    everyone = RoundRecord(
        asked=3,
        answered=0,
        failures=REFUSED,
        causes=dict.fromkeys(REFUSED, "refused"),
        seconds=1,
        bytes_down=DOWN,
        measured=0.75,
    )
    made.add(everyone, [])
    return made


@pytest.fixture
def trained(make: Make) -> Callable[..., Subject]:
    """A subject whose log holds the record, or the given fields of a log."""

    def build(**about: Any) -> Subject:
        recipe = about.pop("recipe", Recipe(federation=FEDERATION))
        log = TrainingLog(
            **{"seconds": 1, "worker_seconds": 1, "workers": 1, "federation": record().to_json(), **about}
        )
        x = np.arange(400).reshape(100, 4)
        return make(nn.Linear(4, 2), x, np.arange(100) % 2, train=range(60), recipe=recipe, log=log, seed=7)

    return build


@pytest.fixture
def found(trained: Callable[..., Subject]) -> Any:
    return Rounds().measure(trained())


def test_answers_and_failures_are_counted(found: Any, one: One) -> None:
    rounds, share = one(found, "rounds_completed"), one(found, "answered_share")
    assert (rounds.value, rounds.conditions["planned"]) == (4, 4)
    assert (share.value, share.n) == (pytest.approx(7 / 12), 12)
    counts = {cause: one(found, "round_failures", cause=cause).value for cause in CAUSES}
    assert counts == {"absent": 0, "late": 1, "lost": 0, "refused": 3, "raised": 1}


def test_each_client_says_in_how_many_rounds_it_was_and_why_it_failed(found: Any, one: One) -> None:
    assert [one(found, "client_rounds", client=client).value for client in (1, 2, 3)] == [3, 1, 3]
    assert [one(found, "client_failures", client=client).value for client in (1, 2, 3)] == [1, 3, 1]
    by_cause = [m for m in found if m.name == "client_failures_by_cause"]
    assert {(m.conditions["client"], m.conditions["cause"]): m.value for m in by_cause} == {
        **{(client, "refused"): 1 for client in (1, 2, 3)},
        **{(2, cause): 1 for cause in ("late", "raised")},
    }
    assert (one(found, "least_client_rounds").value, one(found, "most_client_rounds").value) == (1, 3)


def test_bytes_add_up(found: Any, one: One) -> None:
    values = {name: one(found, name).value for name in ("bytes_up", "bytes_down", "bytes_up_per_round")}
    assert values == {"bytes_up": 7e6, "bytes_down": 24e6, "bytes_up_per_round": 1.75e6}
    assert one(found, "bytes_down_per_round").value == DOWN


def test_time_on_a_network_of_equal_lines_is_that_of_bytes_over_rates(found: Any, one: One) -> None:
    """Of a gigabit, three clients have a third each, two a half; each receives 2 MB and sends 1 MB a round."""
    first = 3 * (16e6 + 8e6) / 1e9 + 0.001
    later = 2 * (16e6 + 8e6) / 1e9 + 0.001
    about = {"network": "hospital_lan"}
    assert one(found, "network_compute_seconds", **about).value == pytest.approx(2 + 1 + 1)
    communication = one(found, "network_communication_seconds", **about)
    assert communication.value == pytest.approx(first + 2 * later)
    assert one(found, "network_added_share", **about).value == pytest.approx((first + 2 * later) / 4)


def test_the_slowest_line_of_those_that_answered_decides(found: Any, one: One) -> None:
    network = NETWORKS["clinic_dsl"]
    lines = slowdowns(network, [1, 2, 3], seed=7)
    slowest = [lines.max(), lines[[0, 2]].max(), lines[[0, 2]].max()]
    expected = sum(slow * (16e6 / 16e6 + 8e6 / 2.4e6) + 0.04 for slow in slowest)
    assert one(found, "network_communication_seconds", network="clinic_dsl").value == pytest.approx(expected)


def test_accuracy_stands_beside_the_seconds_and_bytes_until_then(found: Any, one: One) -> None:
    rows = {
        number: [
            one(found, f"round_{name}", round=number).value for name in ("accuracy", "elapsed_seconds", "sent_bytes")
        ]
        for number in (1, 3, 4)
    }
    assert rows == {1: [0.5, 6, 9e6], 3: [0.75, 11, 25e6], 4: [0.75, 12, 31e6]}
    assert len([m for m in found if m.name == "round_accuracy"]) == 3
    first, wilson = one(found, "round_accuracy", round=1), intervals.proportion(10, 20)
    assert (first.n, first.low, first.high) == (20, wilson.low, wilson.high)


def test_of_patients_with_several_records_the_interval_is_not_known(trained: Callable[..., Subject], one: One) -> None:
    subject = trained()
    given = replace(subject, dataset=replace(subject.dataset, groups=np.arange(100) // 2))
    given = replace(given, split=replace(given.split, validation=np.arange(60, 80)))
    row = one(Rounds().measure(given), "round_accuracy", round=1)
    assert row.value == 0.5 and np.isnan(row.low)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"recipe": Recipe()}, "not_federated"),
        ({"federation": {}}, "not_logged"),
    ],
)
def test_what_no_log_tells_is_not_zero(about: Any, reason: str, trained: Callable[..., Subject]) -> None:
    found = Rounds().measure(trained(**about))
    assert [m.name for m in found] == [metric.name for metric in Rounds.metrics]
    assert {(m.status, m.reason) for m in found} == {("not_applicable", reason)}


def test_a_model_trained_elsewhere_has_no_rounds(trained: Callable[..., Subject]) -> None:
    found = Rounds().measure(replace(trained(), log=None))
    assert {(m.status, m.reason) for m in found} == {("not_applicable", "not_trained_here")}


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [
        (Recipe(federation=FEDERATION, privacy=Privacy(epsilon=1)), "unpaid"),
        (Recipe(federation=FEDERATION), "no_records"),
    ],
)
def test_without_measured_rounds_there_is_no_curve_and_all_else_stands(
    recipe: Recipe, reason: str, trained: Callable[..., Subject], one: One
) -> None:
    made = record()
    made.rounds = [replace(each, measured=None) for each in made.rounds]
    found = Rounds().measure(trained(recipe=recipe, federation=made.to_json()))
    for name in ("round_accuracy", "round_elapsed_seconds", "round_sent_bytes"):
        assert (one(found, name).status, one(found, name).reason) == ("not_applicable", reason)
    assert one(found, "bytes_up").value == 7e6


def test_layers_of_each_clients_own_have_no_shared_curve(trained: Callable[..., Subject], one: One) -> None:
    personal = Federation(clients=3, rounds=4, policy="those_that_answer", personalisation="fedper")
    found = Rounds().measure(trained(recipe=Recipe(federation=personal)))
    assert one(found, "round_accuracy").reason == "no_shared_model"


def test_clients_of_another_draw_give_no_time(trained: Callable[..., Subject], one: One) -> None:
    other = FEDERATION.model_copy(update={"participation": "fraction", "share": 0.4})
    found = Rounds().measure(trained(recipe=Recipe(federation=other)))
    assert one(found, "network_compute_seconds", network="hospital_lan").reason == "not_logged"


def test_a_failure_without_a_code_is_counted_as_unknown(trained: Callable[..., Subject], one: One) -> None:
    made = record()
    made.rounds = [replace(each, causes={}) for each in made.rounds]
    found = Rounds().measure(trained(federation=made.to_json()))
    assert one(found, "round_failures", cause="unknown").value == 5
    assert one(found, "round_failures", cause="late").value == 0
