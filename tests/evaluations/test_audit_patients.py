"""Where patients are protected, the audit's canaries are patients, and its checks take patients out of batches."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay.evaluations.audit import Audit
from assay.evaluations.subject import Subject
from assay.models.mlp import MLP
from assay.privacy.update import PrivateUpdate
from assay.recipes import Privacy, Recipe, Training
from assay.results import Check

Make = Callable[..., Subject]


def concluded(audit: Audit, subject: Subject) -> list[Any]:
    """What an audit says, read as one of as many as it states."""
    return list(audit.read(audit.measure(subject)))


def grouped(make: Make) -> Subject:
    """40 patients with one to five records each, and others to test."""
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), generator.integers(1, 6, 60))
    y = groups % 2
    x = generator.normal(size=(len(y), 5)) + y[:, None]
    training = Training(epochs=8, batch_size=20, optimizer="sgd", learning_rate=0.1)
    return make(
        nn.Identity(),
        x,
        y,
        train=np.flatnonzero(groups < 40),
        groups=groups,
        recipe=Recipe(training=training, privacy=Privacy(epsilon=4.0, max_grad_norm=0.05)),
        network=lambda: MLP(hidden=(8,)).build((5,), 2, seed=0),
    )


def checks(subject: Subject) -> dict[str, Check]:
    found = concluded(Audit(canaries=60), subject)
    return {check.rule: check for check in found if isinstance(check, Check)}


def test_a_sound_trainer_of_patients_passes(make: Make) -> None:
    found = checks(grouped(make))
    assert not {rule for rule, check in found.items() if check.verdict == "fail"}
    assert found["one_record_bounded"].figure == pytest.approx(1.0, abs=1e-3)


def test_records_that_are_drawn_where_patients_are_claimed_are_caught(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Records(PrivateUpdate):
        """Draws each record by a coin of its own."""

        def batch(self, step: int) -> np.ndarray:
            whole = self._sampling.draw(self._seed, step, 1.0)
            return whole[np.random.default_rng(step).random(len(whole)) < self.planned.sample_rate]

    monkeypatch.setattr("assay.training.build.PrivateUpdate", Records)
    assert checks(grouped(make))["poisson_sampling"].verdict == "fail"
