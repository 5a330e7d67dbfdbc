"""Measures of maps against closed forms: linear models, whose right values are known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.explain.measures.base import Learnt, MeasuredMap, MeasuredRecords
from assay.explain.measures.f_fidelity import FFidelity, tuned_on_gaps
from assay.explain.measures.randomisation import Cascade, cascade, randomised
from assay.explain.measures.removal import Road
from assay.explain.measures.roar import Roar
from assay.explain.measures.sparseness import Sparseness
from assay.explain.measures.stability import MaxSensitivity, Stability
from assay.explain.measures.subsets import CorrelationOfSums, Infidelity
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.registry import build, methods
from tests.explaining import measured, reference

WEIGHTS = torch.tensor([3.0, -2.0, 1.0, 0.5, 0.0, -0.25])


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def linear() -> nn.Module:
    """Log-odds of class 1 are the weighted sum of the inputs."""
    model = nn.Linear(6, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros(6), WEIGHTS]))
    return model


@pytest.fixture
def records(linear: nn.Module) -> MeasuredRecords:
    return measured(linear, numbers(8, 6), torch.ones(8, dtype=torch.long))


def gradient(records: MeasuredRecords) -> MeasuredMap:
    slopes = WEIGHTS.expand_as(records.x)
    return MeasuredMap(values=slopes, entries=slopes, kind="slopes")


def integrated(records: MeasuredRecords) -> MeasuredMap:
    baseline = records.reference.baseline(records.x)
    values = WEIGHTS * (records.x - baseline)
    return MeasuredMap(values=values, entries=values, baseline=baseline)


@pytest.mark.parametrize("right", [gradient, integrated])
def test_right_values_of_a_linear_model_have_no_infidelity(
    records: MeasuredRecords, right: Callable[[MeasuredRecords], MeasuredMap]
) -> None:
    explained = right(records)
    torch.testing.assert_close(Infidelity().score(records, explained), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(CorrelationOfSums().score(records, explained), torch.ones(8), rtol=0, atol=1e-4)


def test_infidelity_does_not_depend_on_the_scale_and_knows_the_sign(records: MeasuredRecords) -> None:
    right = integrated(records)
    large = MeasuredMap(values=100 * right.values, entries=100 * right.values, baseline=right.baseline)
    torch.testing.assert_close(
        Infidelity().score(records, large), Infidelity().score(records, right), rtol=0, atol=1e-5
    )
    turned = MeasuredMap(values=-right.values, entries=-right.values, baseline=right.baseline)
    torch.testing.assert_close(Infidelity().score(records, turned), torch.ones(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(CorrelationOfSums().score(records, turned), -torch.ones(8), rtol=0, atol=1e-4)
    nothing = MeasuredMap(values=torch.zeros(8, 6))
    torch.testing.assert_close(Infidelity().score(records, nothing), torch.ones(8), rtol=0, atol=1e-5)


def test_sums_of_equal_values_follow_nothing(records: MeasuredRecords) -> None:
    constant = MeasuredMap(values=torch.ones(8, 6))
    assert float(CorrelationOfSums().score(records, constant).abs().max()) < 1e-6


def test_sparseness_is_the_gini_index(records: MeasuredRecords) -> None:
    values = torch.zeros(8, 6)
    values[:, 2] = -5.0
    values[1] = 1.0
    values[2] = torch.arange(6.0)
    values[3] = 0.0
    found = Sparseness().score(records, MeasuredMap(values=values))
    # One of six: 1 − 1/6; equal ones: 0; 0 to 5: the mean absolute difference over twice the mean.
    apart = np.abs(np.subtract.outer(np.arange(6), np.arange(6))).mean() / (2 * 2.5)
    assert found[:3].tolist() == pytest.approx([5 / 6, 0.0, apart], abs=1e-6)
    assert bool(found[3].isnan())


def test_road_keeps_decisions_without_what_does_not_matter(records: MeasuredRecords) -> None:
    right = integrated(records)
    turned = MeasuredMap(values=-right.values)
    own, other = (Road().score(records, one) for one in (right, turned))
    assert float(own.mean()) > 0.2
    torch.testing.assert_close(other, -own)


def test_a_constant_map_is_not_sensitive_and_one_that_turns_is(records: MeasuredRecords) -> None:
    def constant(model: nn.Module, x: Tensor) -> Tensor:
        return torch.ones(8, 6)

    def jumping(model: nn.Module, x: Tensor) -> Tensor:
        return (1000 * x).sin()

    for measure, still, moved in ((MaxSensitivity(), 0.0, 0.5), (Stability(), 0.0, None)):
        values = measure.score(records, MeasuredMap(values=torch.ones(8, 6), again=constant))
        assert values.abs().tolist() == pytest.approx([still] * 8)
        found = measure.score(records, MeasuredMap(values=jumping(records.model, records.x), again=jumping))
        known = found[found.isfinite()]
        assert len(known) and (float(known.mean()) > moved if moved else float(known.mean()) < 0.5)


def test_the_change_of_a_map_of_zeros_has_no_relative_size(records: MeasuredRecords) -> None:
    def some(model: nn.Module, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    def none(model: nn.Module, x: Tensor) -> Tensor:
        return torch.zeros_like(x)

    zeros = torch.zeros(8, 6)
    assert MaxSensitivity().score(records, MeasuredMap(values=zeros, again=some)).isnan().all()
    assert MaxSensitivity().score(records, MeasuredMap(values=zeros, again=none)).tolist() == [0.0] * 8


def test_the_untouched_network_is_no_stage_of_the_cascade(records: MeasuredRecords) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    trained = dict(model.named_parameters())
    stages = [
        [not torch.equal(weight, trained[name]) for name, weight in other.named_parameters()]
        for other in cascade(model, 0, most=6)
    ]
    # From the last layer down, weights and biases.
    assert stages == [[False] * 4 + [True] * 2, [False] * 2 + [True] * 4, [True] * 6]
    assert len(list(cascade(model, 0, most=2))) == 2

    def edges(network: nn.Module, x: Tensor) -> Tensor:
        return x.abs()

    def of_weights(network: nn.Module, x: Tensor) -> Tensor:
        return x * next(network.parameters())[0]

    about = measured(model, records.x, records.target)
    fixed = Cascade().score(about, MeasuredMap(values=edges(model, records.x), again=edges))
    learnt = Cascade().score(about, MeasuredMap(values=of_weights(model, records.x), again=of_weights))
    assert fixed.tolist() == pytest.approx([1.0] * 8)
    assert float(learnt.mean()) < 0.9


def test_random_gains_of_a_normalisation_do_not_turn_channels_off() -> None:
    model = nn.Sequential(nn.Conv2d(1, 64, 3), nn.BatchNorm2d(64))
    with torch.no_grad():
        model[1].weight.copy_(1 + 0.1 * numbers(64))
    gains = randomised(model, 0)[1].weight.detach()
    assert float(gains.min()) > 0.4 and not torch.equal(gains, model[1].weight)


class Scaled(nn.Module):
    """A network whose inputs are shifted by a number."""

    def __init__(self, network: nn.Module, by: Tensor) -> None:
        super().__init__()
        self.network, self.by = network, by

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x + self.by)
        return out


NAMES = [name for name, kind in methods("explanation_measure").items() if kind.__module__.startswith("assay.")]


@pytest.mark.parametrize("name", NAMES)
def test_scores_depend_on_the_record_alone_and_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    x, target = numbers(9, 6, seed=4), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    held = reference(numbers(20, 6, seed=5))
    measure = build("explanation_measure", name)
    # A "trained" network that depends on its records, without the time of a training.
    learnt = Learnt(x=held.background, y=torch.arange(20) % 2, train=lambda given, _: Scaled(model, given.mean()))

    def of_others(other: Tensor, of_target: Tensor) -> Tensor:
        return IntegratedGradients().explain(model, other, of_target, held).values

    def of(rows: Tensor) -> Tensor:
        about = MeasuredRecords(
            model=model, x=x[rows], target=target[rows], reference=held, pool=held.background, seed=1, learnt=learnt
        )

        def again(network: nn.Module, other: Tensor) -> Tensor:
            return IntegratedGradients().explain(network, other, target[rows], held).values

        values = again(model, x[rows])
        explained = MeasuredMap(
            values=values,
            entries=values,
            baseline=held.baseline(about.x),
            again=again,
            of_others=of_others,
        )
        before = values.clone()
        score: Tensor = measure.score(about, explained)  # type: ignore[attr-defined]
        assert torch.equal(values, before)
        return score

    whole = of(torch.arange(9))
    order = torch.tensor([8, 0, 5, 2, 7, 1, 3, 6, 4])
    torch.testing.assert_close(of(order), whole[order], rtol=0, atol=1e-4, equal_nan=True)
    torch.testing.assert_close(of(torch.tensor([5])), whole[5:6], rtol=0, atol=1e-4, equal_nan=True)


def test_every_measure_has_a_card() -> None:
    for name in NAMES:
        kind = methods("explanation_measure")[name]
        for text in (kind.title, kind.meaning, kind.catches, kind.misses):  # type: ignore[attr-defined]
            assert text and text[0].isupper()
        assert kind.better in {"higher", "lower", "neither"}  # type: ignore[attr-defined]


def test_a_tuned_copy_reads_records_with_gaps_better() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    x = numbers(400, 6)
    y = (x[:, 0] + x[:, 1] > 0).long()
    about = measured(model, x, y)
    held = replace(about, learnt=Learnt(x=x, y=y, train=lambda *_: model), cache={})
    tuned = tuned_on_gaps(held, epochs=20, learning_rate=0.01, removed=0.3)
    before, after = (float((network(x).argmax(1) == y).double().mean()) for network in (model, tuned))
    assert after > max(before, 0.85)
    right = MeasuredMap(values=torch.tensor([1.0, 1, 0, 0, 0, 0]) * x * (2 * y - 1)[:, None])
    wrong = MeasuredMap(values=-right.values)
    own, other = (float(FFidelity(epochs=20).score(held, one).mean()) for one in (right, wrong))
    assert own > 0.05 > other


def test_networks_that_learn_without_the_right_features_err_more() -> None:
    torch.manual_seed(0)
    x = numbers(300, 6)
    y = (x[:, 0] > 0).long()

    def train(given: Tensor, of: Tensor) -> nn.Module:
        network = nn.Linear(6, 2)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(given), of).backward()
            optimiser.step()
        return network.eval()

    about = replace(measured(train(x, y), x[:100], y[:100]), pool=x, learnt=Learnt(x=x, y=y, train=train), cache={})

    def first(other: Tensor, _: Tensor) -> Tensor:
        return (torch.arange(6) == 0).to(other).expand_as(other)

    def last(other: Tensor, _: Tensor) -> Tensor:
        return (torch.arange(6) == 5).to(other).expand_as(other)

    own, other = (
        float(Roar().score(about, MeasuredMap(values=of(about.x, y), of_others=of)).mean()) for of in (first, last)
    )
    assert own > 0.1 > other


def test_both_measures_of_nearby_records_explain_these_once(records: MeasuredRecords) -> None:
    asked: list[Tensor] = []

    def again(_: nn.Module, x: Tensor) -> Tensor:
        asked.append(x)
        return WEIGHTS * x

    explained = MeasuredMap(values=WEIGHTS * records.x, again=again)
    together = [kind(copies=3).score(records, explained) for kind in (MaxSensitivity, Stability)]
    assert len(asked) == 3
    alone = [
        kind(copies=3).score(replace(records, cache={}), replace(explained, cache={}))
        for kind in (Stability, MaxSensitivity)
    ]
    assert torch.equal(together[0], alone[1]) and torch.equal(together[1], alone[0])


def test_what_measures_keep_of_one_map_is_not_said_of_another(records: MeasuredRecords) -> None:
    kinds = [gradient(records), integrated(records), MeasuredMap(values=integrated(records).values)]
    other = integrated(records)
    kinds.append(replace(other, baseline=records.reference.baseline(records.x) + 1.0, cache={}))
    for kind in (Infidelity, CorrelationOfSums):
        shared = [kind().score(records, one) for one in kinds]
        fresh = [kind().score(replace(records, cache={}), replace(one, cache={})) for one in kinds]
        for one, expected in zip(shared, fresh, strict=True):
            torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)
        assert not torch.allclose(shared[1], shared[3])


def test_a_share_of_removed_features_trains_a_network_of_its_own(records: MeasuredRecords) -> None:
    trained: list[Tensor] = []

    def train(x: Tensor, _: Tensor) -> nn.Module:
        trained.append(x)
        return records.model

    x = numbers(12, 6, seed=3)
    learnt = Learnt(x=x, y=torch.ones(12, dtype=torch.long), train=train)
    for shares in ((0.5,), (0.3, 0.6)):
        about = replace(records, learnt=learnt, cache={})
        for _ in range(2):  # two methods: networks without random features are trained for the first alone
            Roar(shares=shares).score(about, MeasuredMap(values=about.x, of_others=lambda x, _: x))
        assert len(trained) == 3 * len(shares)
        trained.clear()
