"""Durations follow from bytes and rates, and lines from the published share of customers."""

import math

import numpy as np
import pytest
from scipy import special

from assay.errors import DataError
from assay.federated.network import (
    NETWORKS,
    Network,
    RoundLoad,
    TrainingTime,
    client_seconds,
    slowdowns,
    training_time,
)
from tests.mistakes import refused

PLAIN = Network(title="made", down=8e6, up=2e6, round_trip=0.1)


def load(down: list[int], up: list[int], compute: list[float]) -> RoundLoad:
    return RoundLoad(clients=range(1, len(down) + 1), bytes_down=down, bytes_up=up, compute_seconds=compute)


def test_a_round_lasts_until_the_last_client_has_received_computed_and_sent() -> None:
    one = load([1_000_000, 2_000_000], [500_000, 250_000], [3.0, 1.0])
    assert client_seconds(PLAIN, one, np.ones(2)) == pytest.approx([1 + 3 + 2 + 0.1, 2 + 1 + 1 + 0.1])
    time = training_time(PLAIN, [one, one], seed=0)
    assert time.seconds == pytest.approx(12.2) and time.compute_seconds == 6.0
    assert time.communication_seconds == pytest.approx(6.2)


def test_a_slow_line_lengthens_transfers_and_neither_computing_nor_latency() -> None:
    one = load([1_000_000], [500_000], [3.0])
    assert client_seconds(PLAIN, one, np.array([2.5])) == pytest.approx([2.5 + 3 + 5 + 0.1])


@pytest.mark.parametrize(("clients", "rate"), [(1, 8e6), (5, 8e6), (10, 8e6), (20, 4e6), (80, 1e6)])
def test_the_servers_link_is_shared_where_it_is_the_bottleneck(clients: int, rate: float) -> None:
    network = Network(title="made", down=8e6, up=8e6, round_trip=0.0, server=80e6)
    some, none = [1_000_000] * clients, [0] * clients
    for one in (load(some, none, [0.0] * clients), load(none, some, [0.0] * clients)):
        assert training_time(network, [one], seed=0).seconds == pytest.approx(8e6 / rate)


def test_forty_per_cent_more_time_is_said_so() -> None:
    time = TrainingTime(seconds=14.0, compute_seconds=10.0)
    assert time.added == pytest.approx(0.4) and time.communication_share == pytest.approx(4 / 14)


def test_without_bytes_and_latency_only_computation_is_left() -> None:
    network = Network(title="made", down=1.0, up=1.0, round_trip=0.0, spread=1.0)
    time = training_time(network, [load([0, 0], [0, 0], [1.0, 2.0])], seed=3)
    assert time.seconds == time.compute_seconds == 2.0 and time.added == 0.0


def test_nothing_takes_no_time_and_has_no_share() -> None:
    time = training_time(PLAIN, [load([], [], [])], seed=0)
    assert time.seconds == 0 and math.isnan(time.added) and math.isnan(time.communication_share)


def test_lines_are_as_slow_as_the_provider_states() -> None:
    network = NETWORKS["clinic_dsl"]
    drawn = slowdowns(network, range(3000), seed=1)
    assert drawn.min() >= 1
    assert np.mean(network.down / drawn >= 9.8e6) == pytest.approx(0.8, abs=0.03)
    sigma = network.spread
    assert drawn.mean() == pytest.approx(2 * math.exp(sigma**2 / 2) * special.ndtr(sigma), rel=0.03)


def test_a_client_keeps_its_line_whoever_else_takes_part() -> None:
    network = NETWORKS["clinic_dsl"]
    assert slowdowns(network, [7, 3], seed=5).tolist() == slowdowns(network, [3, 9, 7], seed=5)[[2, 0]].tolist()
    assert slowdowns(network, [7], seed=5) != slowdowns(network, [7], seed=6)
    assert slowdowns(NETWORKS["hospital_wan"], [1, 2], seed=0).tolist() == [1.0, 1.0]


def test_the_named_networks_are_in_order_and_a_known_model_takes_known_time() -> None:
    assert list(NETWORKS) == ["hospital_lan", "hospital_wan", "clinic_dsl"]
    one = RoundLoad(clients=[1], bytes_down=[5_000_000], bytes_up=[5_000_000], compute_seconds=[1.0])
    assert training_time(NETWORKS["hospital_lan"], [one], seed=0).seconds == pytest.approx(1.081)
    assert training_time(NETWORKS["hospital_wan"], [one], seed=0).seconds == pytest.approx(0.4 + 1 + 0.8 + 0.02)
    factor = slowdowns(NETWORKS["clinic_dsl"], [1], seed=0)[0]
    expected = factor * (2.5 + 5e6 * 8 / 2.4e6) + 1.04
    assert training_time(NETWORKS["clinic_dsl"], [one], seed=0).seconds == pytest.approx(expected)


@pytest.mark.parametrize("compute", [[1.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]])
def test_a_round_that_cannot_have_been_is_refused(compute: list[float]) -> None:
    with refused(DataError, "compute_seconds", compute, 2):
        load([1, 1], [1, 1], compute)
