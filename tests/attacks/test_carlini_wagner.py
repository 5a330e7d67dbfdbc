"""Carlini & Wagner against the closed-form distance of linear models."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.carlini_wagner import CarliniWagner
from assay.data.base import Dataset
from assay.threats import Bounds, Threat

ANYTHING = Threat(
    norm="l2",
    epsilon=float("inf"),
    bounds=Bounds(low=torch.full((6,), -4.0), high=torch.tensor([4.0, 5.0, 6.0, 4.0, 5.0, 6.0])),
)


def linear(seed: int, classes: int = 2) -> tuple[nn.Linear, Tensor, Tensor]:
    generator = np.random.default_rng(seed)
    model = nn.Linear(6, classes).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(generator.normal(size=(classes, 6))))
        model.bias.copy_(torch.from_numpy(generator.normal(size=classes)))
    x = torch.from_numpy(generator.normal(size=(10, 6))).clamp(-3, 3)
    return model, x, model(x).argmax(1)


def distances(model: nn.Linear, x: Tensor, y: Tensor, confidence: float = 0.0) -> Tensor:
    """Least L2 distance to where another class leads by ``confidence``: the nearest of several hyperplanes."""
    logits = model(x)
    found = []
    for row, label, values in zip(x, y, logits, strict=True):
        assert len(row) == model.in_features
        ways = [
            (values[label] - values[other] + confidence) / (model.weight[label] - model.weight[other]).norm()
            for other in range(model.out_features)
            if other != label
        ]
        found.append(torch.stack(ways).min())
    return torch.stack(found).detach()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("classes", [2, 4])
def test_the_distance_of_a_linear_model_is_found_within_a_few_per_cent(seed: int, classes: int) -> None:
    model, x, y = linear(seed, classes)
    result = CarliniWagner().run(model, x, y, ANYTHING, seed=0)
    ratio = result.distance / distances(model, x, y)
    assert result.fooled.all()
    assert (ratio >= 1 - 1e-9).all()
    assert ratio.quantile(0.5) <= 1.02
    assert ratio.quantile(0.9) <= 1.06


@pytest.mark.parametrize("confidence", [0.5, 2.0])
def test_confidence_is_the_lead_of_the_wrong_class(confidence: float) -> None:
    model, x, y = linear(0)
    result = CarliniWagner(search_steps=6, confidence=confidence).run(model, x, y, ANYTHING, seed=0)
    logits = model(result.x)
    lead = logits.gather(1, 1 - y[:, None]) - logits.gather(1, y[:, None])
    assert (lead[:, 0] > confidence).all()
    assert (result.distance / distances(model, x, y, confidence) <= 1.03).all()


def test_records_on_a_bound_can_move() -> None:
    model, _, _ = linear(0)
    x = torch.stack([ANYTHING.bounds.low, ANYTHING.bounds.high]).double()
    assert CarliniWagner().run(model, x, model(x).argmax(1), ANYTHING, seed=0).fooled.all()


def test_a_record_that_is_already_misclassified_needs_no_change() -> None:
    model, x, y = linear(0)
    result = CarliniWagner(steps=20).run(model, x, 1 - y, ANYTHING, seed=0)
    assert result.fooled.all()
    assert result.distance.tolist() == [0.0] * len(x)


def test_more_searching_never_finds_a_longer_way() -> None:
    model, x, y = linear(1)
    runs = [CarliniWagner(search_steps=n).run(model, x, y, ANYTHING, seed=0).distance for n in (1, 3, 6)]
    assert (runs[1] <= runs[0]).all()
    assert (runs[2] <= runs[1]).all()


def test_a_boundary_beyond_the_reach_of_one_search_is_found_by_the_next() -> None:
    model = nn.Linear(1, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        model.bias.copy_(torch.tensor([1.0, 0.0]))
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=Bounds(low=torch.tensor([-1.0]), high=torch.tensor([1.0])))
    x, y = torch.full((1, 1), -0.9).double(), torch.zeros(1, dtype=torch.long)
    # Steps of 0.02 that fall to nothing go 0.61 in one search of 60, and the boundary is 1.4 away.
    few = CarliniWagner(steps=60, search_steps=1, initial_constant=100)
    assert not few.run(model, x, y, threat, seed=0).fooled.any()
    found = CarliniWagner(steps=60, search_steps=8, initial_constant=100).run(model, x, y, threat, seed=0)
    assert found.fooled.all()
    assert 1.4 <= found.distance.item() <= 1.42


def test_linf_is_refused() -> None:
    model, x, y = linear(0)
    threat = Threat(norm="linf", epsilon=1.0, bounds=ANYTHING.bounds)
    with pytest.raises(ValueError, match="works in l2, not in linf"):
        CarliniWagner().run(model, x, y, threat, seed=0)


def test_carlini_wagner_is_no_weaker_than_pgd_in_l2(
    trained: nn.Module, records: tuple[Tensor, Tensor], wdbc: Dataset
) -> None:
    from assay.attacks.pgd import PGD

    threat = Threat(norm="l2", epsilon=1.0, bounds=wdbc.bounds)
    right = trained(records[0]).argmax(1) == records[1]
    x, y = records[0][right], records[1][right]
    least = CarliniWagner().run(trained, x, y, threat.at(float("inf")), seed=0).distance
    assert (least <= 1.0).double().mean() >= PGD().run(trained, x, y, threat, seed=0).fooled.double().mean() - 0.01


class Counting(nn.Module):
    """A model that counts the records it is asked about, and the most at once."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.asked, self.most = model, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked, self.most = self.asked + len(x), max(self.most, len(x))
        return self.model(x)


def test_records_that_are_wrong_already_cost_one_pass_and_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y = linear(1)
    y[:7] = 1 - y[:7]
    attack = CarliniWagner(steps=10, search_steps=2)
    counting = Counting(model)
    found = attack.perturb(counting, x, y, ANYTHING, None)  # type: ignore[arg-type]
    assert torch.equal(found[:7], x[:7])
    assert counting.asked == 10 + 3 * 10 * 2
    # And each record's search is its own, however many there are at once.
    monkeypatch.setattr("assay.attacks.carlini_wagner._CACHED", 6)
    x, y = x.repeat(8, 1), y.repeat(8)
    counting = Counting(model)
    again = attack.perturb(counting, x, y, ANYTHING, None)  # type: ignore[arg-type]
    assert torch.allclose(again[:10], found, atol=1e-9)
    assert torch.equal(again[70:], again[:10])
