"""The default method suits every network of its kind of records, or something else is used and the reason said."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from assay.explain.defaults import DEFAULTS, FEWEST_BACKGROUND, default_for
from assay.explain.references import Reference
from tests.benchmarks.explain_methods import choice
from tests.benchmarks.explain_rulers import CASES

IMAGES = Reference(modality="image", background=torch.rand(20, 1, 4, 4), source="training records")


def test_every_kind_of_records_has_a_default_with_its_reason() -> None:
    assert set(DEFAULTS) == set(CASES)
    assert all("explain-methods" in one.reason for one in DEFAULTS.values())


def test_a_background_that_is_no_population_is_not_averaged_over() -> None:
    assert default_for(IMAGES).method.name == "expected_gradients"
    for known in (1, FEWEST_BACKGROUND - 1):
        found = default_for(replace(IMAGES, background=IMAGES.background[:known]))
        assert found.method.name == "integrated_gradients"
        assert f"there {'is' if known == 1 else 'are'} {known}" in found.reason


@pytest.mark.parametrize("modality", sorted(CASES))
def test_a_network_without_a_gradient_has_a_default_too(modality: str) -> None:
    reference = replace(IMAGES, modality=modality)  # type: ignore[arg-type]
    assert not default_for(reference, gradient=False).method.needs_gradient


def test_the_default_of_images_is_repeatable_and_says_its_error() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 2)).eval()
    x, target = torch.rand(6, 1, 4, 4), torch.tensor([0, 1, 0, 1, 0, 1])
    method = default_for(IMAGES).method
    one, again = (method.explain(model, x, target, IMAGES) for _ in range(2))
    assert torch.equal(one.values, again.values)
    alone = method.explain(model, x[2:3], target[2:3], IMAGES).values[0]
    assert torch.allclose(alone, one.values[2], atol=1e-6)
    assert float(one.value_error.max()) < 0.1 and float(one.error.max()) < 0.1


@pytest.mark.parametrize(
    ("areas", "chosen"),
    [
        ({"integrated_gradients": 0.91, "expected_gradients": 1.0, "lrp": 1.0}, "integrated_gradients"),
        ({"integrated_gradients": 0.89, "expected_gradients": 0.9, "lrp": 1.0}, "expected_gradients"),
        ({"integrated_gradients": 0.5, "kernel_shap": 0.8, "lrp": 1.0}, "kernel_shap"),
    ],
)
def test_the_first_method_that_is_near_enough_to_the_best_is_taken(areas: dict[str, float], chosen: str) -> None:
    assert choice(areas) == chosen
