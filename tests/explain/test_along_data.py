"""Effects that a map names are compared with what is left of them on records of the data."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.explain.along_data import share_left, share_needed, slopes_of
from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.saliency import InputTimesGradient, Saliency
from assay.explain.references import Reference


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize(("slopes", "left"), [((1.0, -1.0), 0.0), ((1.0, 1.0), 2.0), ((1.0, 0.0), 1.0)])
def test_opposite_slopes_of_a_column_and_its_copy_leave_nothing(slopes: tuple[float, float], left: float) -> None:
    column = normal(50, 1)
    found = share_left(torch.tensor([slopes]), torch.cat([column, column], 1))
    assert float(found) == pytest.approx(left, abs=1e-12)


def test_slopes_of_random_signs_leave_one_whatever_the_correlations() -> None:
    data = normal(300, 8) @ normal(8, 8, seed=1)
    sizes = normal(8, seed=2).abs()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 8)
    assert float(share_left(signs * sizes, data).mean()) == pytest.approx(1, abs=1e-9)


def test_neither_units_nor_the_size_of_a_map_matter() -> None:
    data, slopes = normal(60, 5), normal(3, 5, seed=1)
    units = torch.tensor([1e-3, 1.0, 10.0, 1e3, 7.0], dtype=torch.float64)
    torch.testing.assert_close(share_left(5 * slopes / units, data * units), share_left(slopes, data))


def test_a_slope_at_a_constant_pixel_counts_where_all_have_one_unit() -> None:
    data = torch.cat([normal(400, 1), torch.zeros(400, 1)], 1)
    slopes = torch.tensor([[1.0, 10.0]])
    assert float(share_left(slopes, data)) == pytest.approx(1)
    # The constant pixel has the usual variance, a half: terms of 1/2 + 100/2 beside a sum of 1.
    assert float(share_left(slopes, data, one_unit=True)) == pytest.approx(2 / 101)
    assert share_left(torch.tensor([[0.0, 10.0]]), data).isnan().all()


def pair(correlation: float) -> Tensor:
    """Two columns whose sum and difference are orthogonal in each half of the records, with this correlation."""
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    sums, differences = signs.repeat_interleave(2, 0).repeat(50, 1).T
    sums, differences = sums * np.sqrt((1 + correlation) / 2), differences * np.sqrt((1 - correlation) / 2)
    return torch.stack([sums + differences, sums - differences], 1)


def test_a_contrast_leaves_little_and_needs_its_slopes() -> None:
    data, contrast = pair(0.9), torch.tensor([[1.0, -1.0]])
    assert float(share_left(contrast, data)) == pytest.approx(0.1)
    # In one direction, effects with an error of 5 % of the variance need 1 − √0.05 of the length; penalties are a grid.
    assert (1 - 0.05**0.5) ** 2 <= float(share_needed(contrast, data)) < 0.8


def test_slopes_across_the_data_are_not_needed() -> None:
    # 1 along the data and 10 across: of a variance of 2 · 1.999 + 100 · 2 · 0.001, the second part is 5 %.
    data = pair(0.999)
    fooled = torch.tensor([[1.0 + 10, 1.0 - 10]])
    assert float(share_needed(fooled, data)) < 0.1
    assert float(share_needed(torch.tensor([[1.0 + 30, 1.0 - 30]]), data)) > 0.3


def test_more_directions_than_records_are_all_needed() -> None:
    data, slopes = normal(40, 200), normal(3, 200, seed=1)
    torch.testing.assert_close(share_needed(slopes, data), torch.ones(3, dtype=torch.float64))


def test_neither_units_nor_the_size_of_a_map_change_what_is_needed() -> None:
    data, slopes = normal(60, 5), normal(3, 5, seed=1)
    units = torch.tensor([1e-3, 1.0, 10.0, 1e3, 7.0], dtype=torch.float64)
    torch.testing.assert_close(share_needed(5 * slopes / units, data * units), share_needed(slopes, data))


def test_a_slope_at_a_constant_pixel_is_not_needed() -> None:
    data = torch.cat([normal(400, 1), torch.zeros(400, 1)], 1)
    assert float(share_needed(torch.tensor([[1.0, 10.0]]), data, one_unit=True)) < 0.01
    assert share_needed(torch.tensor([[0.0, 10.0]]), data).isnan().all()


def records(modality: str = "tabular") -> MeasuredRecords:
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0] * 4, [1.0, -2.0, 3.0, 0.5]]))
    background = normal(30, 4).float()
    about = Reference(modality=modality, background=background, source="")  # type: ignore[arg-type]
    x = normal(6, 4, seed=3).float()
    x[0, 0] = background.mean(0)[0]
    return MeasuredRecords(model=model, x=x, target=torch.ones(6, dtype=torch.int64), reference=about, pool=x, seed=0)


@pytest.mark.parametrize("method", [IntegratedGradients(), InputTimesGradient(), Saliency()])
def test_slopes_of_a_linear_model_are_its_weights(method: IntegratedGradients) -> None:
    given = records()
    values = method.explain(given.model, given.x, given.target, given.reference).values
    slopes = slopes_of(method, values, given)
    assert slopes is not None
    right = torch.tensor([1.0, -2.0, 3.0, 0.5]).repeat(6, 1)
    if method.multiplies_by_change:  # an entry equal to the baseline's has no effect, so its slope is not known
        right[0, 0] = 0
    torch.testing.assert_close(slopes, right, rtol=1e-4, atol=1e-4)


def test_methods_without_slopes_and_texts_have_none() -> None:
    given = records()
    assert slopes_of(DeepShap(), given.x, given) is None
    assert slopes_of(Saliency(), given.x, records("text")) is None
