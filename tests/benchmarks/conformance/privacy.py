"""Rows on privacy: what ε counts, and clipping at the server."""

import numpy as np

from assay.privacy.accounting import Mechanism, calibrate, rdp_epsilon
from tests.benchmarks.conformance.row import Row, near
from tests.federated.flower_peer import flower, flower_round

_DELTA = 1e-5
_BATCH, _CLIENTS, _EPOCHS, _ROUNDS = 0.2, 0.1, 5, 100
"""Share of a client's records in a batch, share of clients in a round, local epochs, rounds."""


def _steps(rounds: int) -> int:
    return rounds * _EPOCHS * round(1 / _BATCH)


def _mechanism(rate: float, steps: int, noise: float = 1.0) -> Mechanism:
    return Mechanism(noise_multiplier=noise, sample_rate=rate, steps=steps, delta=_DELTA)


def _of_a_client() -> float:
    """ε of a client that was drawn in ten rounds: of its own steps."""
    return round(rdp_epsilon(_mechanism(_BATCH, _steps(round(_CLIENTS * _ROUNDS)))), 1)


def _amplified() -> float:
    """FL4Health's accountant: all rounds, at the product of both rates."""
    return round(rdp_epsilon(_mechanism(_BATCH * _CLIENTS, _steps(_ROUNDS))), 1)


def _in_rounds() -> float:
    """ε of 10 rounds of 25 steps less ε of one round of 250."""
    parts = [_mechanism(_BATCH, 25)] * 10
    return rdp_epsilon(*parts) - rdp_epsilon(_mechanism(_BATCH, 250))


def _spent_for_one() -> float:
    """ε by Assay's calibration for 1, after the steps that are taken: 15 rounds of 100 steps, 4 of 199 records."""
    noise = calibrate(epsilon=1.0, delta=_DELTA, sample_rate=4 / 199, steps=1500)
    return rdp_epsilon(_mechanism(4 / 199, 1500, noise))


def _clipped(update: list[float], **buffers: float) -> float:
    """First weight after Flower's server-side clipping at 1, without noise."""
    from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping

    wrapped = DifferentialPrivacyServerSideFixedClipping(
        flower("FedAvg", 1), noise_multiplier=0.0, clipping_norm=1.0, num_sampled_clients=1
    )
    start = {"w": np.zeros(len(update)), **{name: np.zeros(1) for name in buffers}}
    reply = {"w": np.array(update), **{name: np.array([value]) for name, value in buffers.items()}}
    found = flower_round(wrapped, start, [reply])
    assert found is not None
    return float(found["w"][0])


ROWS = (
    Row(
        fault=11,
        name="amplification_by_clients",
        input="clients drawn with 0.1, batches with 0.2, 5 epochs, 100 rounds, z 1, δ 1e-5: ε of one drawn ten times",
        right="26.7: of the steps that it took",
        accepts=near(26.7, 0.05),
        assay=_of_a_client,
        fl4health=_amplified,
    ),
    Row(
        fault=12,
        name="rounds_and_steps",
        input="ε of 10 rounds of 25 steps less ε of one round of 250",
        right="0",
        accepts=near(0.0, 1e-9),
        assay=_in_rounds,
    ),
    Row(
        fault=12,
        name="calibrated_for_steps",
        input="noise calibrated for ε 1; 15 rounds of 100 steps of 4 of 199 records; ε that is spent",
        right="at most 1",
        accepts=near(1.0, 0.01),
        assay=_spent_for_one,
    ),
    Row(
        fault=13,
        name="clip_counts_counters",
        input="client-level clipping at 1: update 0.1 four times, num_batches_tracked +100",
        right="0.1",
        accepts=near(0.1),
        assay=None,
        flower=lambda: _clipped([0.1] * 4, counter=100.0),
    ),
    Row(
        fault=14,
        name="clip_of_zero",
        input="client-level clipping at 1 of an update of zeros",
        right="0",
        accepts=near(0.0),
        assay=None,
        flower=lambda: _clipped([0.0] * 4),
    ),
)
