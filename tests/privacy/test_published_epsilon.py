"""The ε that a published benchmark really spent, by our accountant."""

import math

import pytest

from assay.privacy.accounting import Mechanism, calibrate, rdp_epsilon

ROUNDS, STEPS, BATCH, DELTA = 15, 100, 4, 1e-4
"""Private settings of FLamby's Fed-Heart (arXiv:2210.04620, ``flamby/dp_example``)."""


@pytest.mark.parametrize(
    ("hospital", "records", "spent"),
    [("Cleveland", 199, 1.46), ("Hungary", 172, 1.58), ("Long Beach", 85, 2.30), ("Switzerland", 30, 4.11)],
)
def test_flamby_spends_more_than_the_epsilon_of_1_that_it_states(hospital: str, records: int, spent: float) -> None:
    """Its noise is calibrated for as many epochs as there are rounds, and every round takes 100 steps."""
    batches = math.ceil(records / BATCH)
    noise = calibrate(epsilon=1, delta=DELTA, sample_rate=1 / batches, steps=ROUNDS * batches)

    def epsilon(steps: int) -> float:
        return rdp_epsilon(Mechanism(noise_multiplier=noise, sample_rate=1 / batches, steps=steps, delta=DELTA))

    assert epsilon(ROUNDS * batches) == pytest.approx(1, abs=0.01), hospital
    assert epsilon(ROUNDS * STEPS) == pytest.approx(spent, abs=0.03), hospital
