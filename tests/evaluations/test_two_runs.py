"""Two trainings that share their noise are told, which no audit of one of them can see."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay import seeds
from assay.evaluations.canary_runs import noise_of_first_epochs
from assay.evaluations.subject import Subject
from assay.evaluations.two_runs import noise_shared
from assay.models.mlp import MLP
from assay.privacy.noise_levels import between_runs
from assay.recipes import Privacy, Recipe, Training

Make = Callable[..., Subject]


def private(make: Make, *, seed: int = 0, **privacy: Any) -> Subject:
    y = np.arange(60) % 2
    x = np.random.default_rng(0).normal(size=(60, 5)) + y[:, None]
    training = Training(epochs=3, batch_size=40, optimizer="sgd", learning_rate=0.1)
    return make(
        nn.Identity(),
        x,
        y,
        train=np.arange(40),
        recipe=Recipe(training=training, privacy=Privacy(**{"epsilon": 4.0, **privacy})),
        network=lambda: MLP(hidden=(8,)).build((5,), 2, seed=0),
        seed=seed,
    )


def test_recipes_that_draw_from_one_seed_share_their_noise_and_it_is_said(make: Make) -> None:
    check = noise_shared(private(make), private(make, epsilon=1.0))
    assert (check.verdict, check.rule) == ("warn", "noise_of_its_own")
    assert check.figure < 0.01
    assert noise_shared(private(make), private(make, seed=1)).verdict == "pass"


def test_noise_from_entropy_is_nobody_elses_and_where_it_is_the_check_fails(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = private(make, noise="entropy"), private(make, noise="entropy", epsilon=1.0)
    assert noise_shared(one, other).verdict == "pass"
    # As if a machine's entropy were the same at every start.
    monkeypatch.setattr(seeds, "entropy", lambda: 7)
    found = noise_shared(one, other)
    assert found.verdict == "fail"
    assert "difference" in found.message


def test_what_a_pass_says_of_the_noise_is_a_lower_bound(make: Make) -> None:
    one, other = private(make), private(make, seed=1)
    found = noise_shared(one, other)
    directions = between_runs(noise_of_first_epochs(one)[0], noise_of_first_epochs(other)[0])
    seen = min(float(np.sqrt(d.squares / d.counts).min()) / d.signal for d in directions)
    assert found.verdict == "pass"
    assert 0 < found.figure < seen
    assert f"at least {found.figure:.3g}" in found.message
