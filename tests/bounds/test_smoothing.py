"""Randomised smoothing against closed forms: a linear model's smoothed margin is its margin."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor, nn

from assay import seeds
from assay.bounds.smoothing import ABSTAINED, NoisyCopies, Smoothing, attack, certify, lower_end, noisy, predict
from assay.threats import Bounds, Threat

VALID = Bounds(low=torch.tensor(-1.0), high=torch.tensor(1.0))
USUAL = Smoothing(sigma=0.5)


def linear() -> nn.Module:
    """Class 1 where the first input is positive; its distance from 0 is the true radius, noisy or not."""
    model = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-3.0, 0.0, 0.0], [3.0, 0.0, 0.0]]))
    return model.requires_grad_(False)


def at(*first: float) -> Tensor:
    return torch.stack([torch.tensor([float(value), 0.3, -0.2]) for value in first])


@pytest.mark.parametrize(("hits", "samples"), [(1, 10), (7, 10), (10, 10), (993, 1000), (100_000, 100_000)])
def test_the_lower_end_is_clopper_and_pearsons(hits: int, samples: int) -> None:
    low, _ = proportion_confint(hits, samples, alpha=2 * 0.001, method="beta")
    assert lower_end(hits, samples, 0.001) == pytest.approx(low, rel=1e-9)
    assert lower_end(0, samples, 0.001) == 0


def test_the_lower_end_covers_as_often_as_it_says() -> None:
    alpha, samples = 0.05, 50
    hits = np.arange(samples + 1)
    ends = np.array([lower_end(int(k), samples, alpha) for k in hits])
    for p in (0.3, 0.6, 0.9, 0.99):
        assert float(stats.binom.pmf(hits[ends > p], samples, p).sum()) <= alpha


def test_the_radius_of_a_linear_model_is_nearly_its_margin_and_never_more() -> None:
    margins = np.array([0.1, 0.3, 0.5, 0.8])
    found = certify(linear(), at(*margins), VALID, replace(USUAL, samples=20_000), seed=0, names=range(4))
    assert (found.answer == 1).all()
    assert (found.radius <= margins).all()
    assert (found.radius >= 0.9 * margins - 0.02).all()


def test_a_radius_grows_with_the_samples_up_to_what_they_can_prove() -> None:
    few, many = (
        certify(linear(), at(9.0), VALID, replace(USUAL, samples=n), seed=0, names=[0]).radius[0] for n in (100, 1000)
    )
    for radius, samples in ((few, 100), (many, 1000)):
        assert radius == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / samples)))
    assert few < many


def test_between_two_classes_it_abstains() -> None:
    x = at(0.0, 0.9)
    found = certify(linear(), x, VALID, USUAL, seed=0, names=[0, 1])
    assert found.answer.tolist() == [ABSTAINED, 1]
    assert found.radius[0] == 0
    assert predict(linear(), x, VALID, USUAL, seed=0, names=[0, 1]).tolist() == [ABSTAINED, 1]


def test_a_record_that_must_abstain_costs_fewer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.bounds.smoothing.at_once", lambda shape: 50)
    seen: list[int] = []
    model = linear()
    model.register_forward_hook(lambda layer, given, answer: seen.append(len(answer)))
    certify(model, at(0.9), VALID, USUAL, seed=0, names=[0])
    assert sum(seen) == USUAL.passes
    seen.clear()
    with torch.no_grad():  # the greatest of the ends of two axes: four classes, at the origin as frequent as each other
        ends = torch.eye(3)[:2]
        model.weight, model.out_features = nn.Parameter(torch.cat([ends, -ends])), 4
    found = certify(model, torch.zeros(1, 3), VALID, USUAL, seed=0, names=[0])
    assert found.answer.tolist() == [ABSTAINED]
    assert sum(seen) < 0.75 * USUAL.passes


def test_an_answer_depends_on_no_other_record_and_on_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    x, names = at(0.1, 0.05, 0.4, -0.2), [7, 3, 12, 5]
    together = certify(linear(), x, VALID, USUAL, seed=1, names=names)
    answers = predict(linear(), x, VALID, USUAL, seed=1, names=names)
    monkeypatch.setattr("assay.bounds.smoothing.at_once", lambda shape: 33)
    for place, name in enumerate(names):
        one = slice(place, place + 1)
        alone = certify(linear(), x[one], VALID, USUAL, seed=1, names=[name])
        assert (alone.answer[0], alone.radius[0]) == (together.answer[place], together.radius[place])
        assert predict(linear(), x[one], VALID, USUAL, seed=1, names=[name])[0] == answers[place]
    other = certify(linear(), x, VALID, USUAL, seed=2, names=names)
    assert (other.radius != together.radius).any()
    twins = certify(linear(), at(0.4, 0.4), VALID, USUAL, seed=1, names=[1, 2])
    assert twins.radius[0] != twins.radius[1], "two records shared their noise"


def test_noise_is_normal_unclipped_and_not_on_what_nobody_can_change() -> None:
    fixed = Bounds(low=VALID.low, high=VALID.high, fixed=torch.tensor([False, True, False]))
    noise = NoisyCopies(at(0.9)[0], fixed, 0.5, seeds.stream(0, "noise"))
    copies = torch.cat([noise.copies(n) for n in (1000, 3000)])
    assert float(copies.max()) > 1.5
    assert (copies[:, 1] == 0.3).all()
    change = (copies - at(0.9))[:, [0, 2]].flatten() / 0.5
    assert stats.kstest(change.numpy(), "norm").pvalue > 0.01


def test_padding_stays_empty() -> None:
    padded = Bounds(low=VALID.low, high=VALID.high, padding=True)
    x = torch.tensor([[[0.5, 0.0], [0.0, 0.0]]])
    assert (noisy(x, torch.ones(4, 2, 2), padded, 1.0)[:, 1] == 0).all()


def test_what_is_not_finite_is_no_answer_of_a_class() -> None:
    model = linear()
    nn.init.constant_(model.weight, float("nan"))  # type: ignore[arg-type]
    assert certify(model, at(0.5), VALID, USUAL, seed=0, names=[0]).answer.tolist() == [2]


def test_the_attack_goes_straight_for_the_boundary_and_stays_within_the_ball() -> None:
    x, y = at(0.2, 0.7), torch.tensor([1, 1])
    drawn = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(0))
    threat = Threat(norm="l2", epsilon=0.4, bounds=VALID)
    found = attack(linear(), x, y, threat, drawn, sigma=0.5, steps=10, start=x)
    assert (threat.distance(found, x) <= 0.4 + 1e-6).all()
    torch.testing.assert_close(found, x - torch.tensor([0.4, 0.0, 0.0]), atol=1e-3, rtol=0)
    sure = replace(USUAL, samples=20_000)
    assert predict(linear(), found, VALID, sure, seed=0, names=[0, 1]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Smoothing(sigma=0.0), "sigma must be a number above 0, given: 0.0"),
        (lambda: Smoothing(sigma=float("nan")), "given: nan"),
        (lambda: Smoothing(sigma=1.0, alpha=1.0), "alpha must lie between 0 and 1"),
        (lambda: Smoothing(sigma=1.0, samples=0), "at least 1 sample"),
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], Smoothing], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
