"""The share of perturbed records unlike the data, and a model that answers otherwise there."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import assay.explain.methods  # noqa: F401
from assay.explain.base import Explainer, ExplanationError
from assay.explain.off_data import nearest_neighbour, share_off_data
from assay.registry import build
from tests.explaining import reference

DOUBLE = torch.float64
PERTURBING = ["kernel_shap", "lime", "occlusion", "exact_shapley", "permutation_shapley"]


def correlated(n: int, seed: int, width: int = 8) -> Tensor:
    """Records whose features are nearly equal: a record with one of them at the mean is unlike all."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, dtype=DOUBLE, generator=draw) * 3 + 0.05 * torch.randn(
        n, width, dtype=DOUBLE, generator=draw
    )


def explainer(name: str) -> Explainer:
    settings: dict[str, Any] = {"lime": {"samples": 200}, "kernel_shap": {"budget": 64}, "exact_shapley": {"groups": 6}}
    found = build("explainer", {"name": name, **settings.get(name, {})})
    assert isinstance(found, Explainer)
    return found


class Scaffold(nn.Module):
    """Decides by the first feature on records like those of the data, and by the last elsewhere (Slack et al. 2020)."""

    def __init__(self, known: Tensor) -> None:
        super().__init__()
        self.unlike = nearest_neighbour(known, share=0.99)

    def forward(self, x: Tensor) -> Tensor:
        value = torch.where(self.unlike(x), x[:, -1], x[:, 0])
        return torch.stack([-value, value], dim=1)


X, KNOWN = correlated(3, 1), correlated(300, 2)
X[:, :] = torch.where(X.abs() < 1, X.sign() * 2, X)
TARGET = torch.ones(3, dtype=torch.long)


@pytest.mark.parametrize("name", PERTURBING)
def test_a_scaffold_looks_innocent_and_is_told_by_the_share(name: str) -> None:
    about = reference(KNOWN.mean(0, keepdim=True))
    model = Scaffold(KNOWN)
    values = explainer(name).explain(model, X, TARGET, about).values
    assert bool((values[:, -1].abs() > 3 * values[:, 0].abs()).all()), "what decides on the data is hidden"
    share = share_off_data(explainer(name), model, X, TARGET, about, nearest_neighbour(correlated(300, 3)))
    assert float(share.min()) > 0.8


@pytest.mark.parametrize("name", PERTURBING)
def test_independent_features_are_hardly_told(name: str) -> None:
    known = torch.randn(400, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    x = torch.randn(4, 4, dtype=DOUBLE, generator=torch.Generator().manual_seed(5)).clamp(-1, 1)
    model = nn.Linear(4, 2).to(DOUBLE)
    about = reference(known.mean(0, keepdim=True))
    share = share_off_data(explainer(name), model, x, torch.zeros(4, dtype=torch.long), about, nearest_neighbour(known))
    assert float(share.mean()) < 0.1


def test_the_detector_leaves_out_the_stated_share_of_new_records() -> None:
    known, new = correlated(400, 2), correlated(2000, 3)
    assert float(nearest_neighbour(known)(known).double().mean()) == 0.0, "each is its own neighbour"
    assert 0.02 < float(nearest_neighbour(known)(new).double().mean()) < 0.1
    assert float(nearest_neighbour(known, share=0.5)(new).double().mean()) == pytest.approx(0.5, abs=0.1)


def test_units_of_a_feature_do_not_matter() -> None:
    known, new = correlated(200, 2), torch.randn(100, 8, dtype=DOUBLE, generator=torch.Generator().manual_seed(4))
    units = torch.logspace(-3, 3, 8, dtype=DOUBLE)
    assert torch.equal(nearest_neighbour(known)(new), nearest_neighbour(known * units)(new * units))


def test_records_are_counted_alone_and_the_record_itself_is_not() -> None:
    about = reference(KNOWN.mean(0, keepdim=True))
    model, detector = nn.Linear(8, 2).to(DOUBLE), nearest_neighbour(KNOWN)
    whole = share_off_data(explainer("kernel_shap"), model, X, TARGET, about, detector, seed=2)
    alone = [
        share_off_data(explainer("kernel_shap"), model, X[r : r + 1], TARGET[:1], about, detector, seed=2)
        for r in range(3)
    ]
    assert torch.equal(torch.cat(alone), whole)
    # Occlusion asks the record, too, and saliency it alone: it is not counted.
    assert (
        share_off_data(explainer("occlusion"), model, X, TARGET, about, lambda x: x[:, 0] > -99).tolist() == [1.0] * 3
    )
    assert not share_off_data(explainer("saliency"), model, X, TARGET, about, lambda x: x[:, 0] > -99).any()


def test_too_few_records_and_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="19 background records"):
        nearest_neighbour(KNOWN[:19])
    x = torch.ones(1, 3, 2, dtype=DOUBLE)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).to(DOUBLE)
    with pytest.raises(ExplanationError, match="records of text"):
        share_off_data(explainer("lime"), model, x, TARGET[:1], reference(x, "text"), nearest_neighbour(KNOWN))


def test_a_small_difference_between_near_copies_is_unlike_the_data() -> None:
    half = torch.randn(400, 10, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(400, 10, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    records = torch.cat([half, half + 0.1 * noise], 1)
    unlike = nearest_neighbour(records[:300])
    assert float(unlike(records[300:]).double().mean()) < 0.15
    apart = records[300:].clone()
    apart[:, 3] += 1.0
    assert float(unlike(apart).double().mean()) > 0.9, "no further than usual by the Euclidean distance"
