"""Rows on what is explained: the decision and not a lone logit, with its sign."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.benchmarks.known_answers.curves import areas_of
from tests.benchmarks.known_answers.networks import DOUBLE, linear, shifted_linear
from tests.benchmarks.known_answers.row import Row, below, listed, numbers_near
from tests.benchmarks.known_answers.systems import (
    assay,
    captum,
    shap_deep,
    shap_gradient,
    shap_kernel,
    shap_of_function,
)

ONES, ZEROS = torch.ones(1, 3, dtype=DOUBLE), torch.zeros(2, 3, dtype=DOUBLE)
SHIFT = 5.0


def _third(values: Tensor) -> float:
    return abs(float(values[0, 2]))


def _ours(method: str) -> float:
    return _third(assay(method, shifted_linear(SHIFT), ONES, ZEROS).values)


class ShiftedImage(nn.Module):
    """Two channels of a convolution: one decides, and the other is added to both logits."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.shift = nn.Conv2d(1, 2, 3, padding=1).to(DOUBLE), shift

    def forward(self, x: Tensor) -> Tensor:
        decides, common = self.convolution(x).relu().mean((2, 3)).unbind(1)
        return torch.stack([self.shift * common, decides + self.shift * common], dim=1)


IMAGE = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def _moves(values: Callable[[float], Tensor]) -> float:
    """Greatest change of a value by the shift, relative; draws are the same."""
    maps = []
    for c in (0.0, SHIFT):
        torch.manual_seed(0)
        maps.append(values(c))
    return float((maps[0] - maps[1]).abs().max() / maps[0].abs().max())


def _cam_moves() -> float:
    maps = [assay("grad_cam", ShiftedImage(c), IMAGE, 0 * IMAGE, modality="image").values for c in (0.0, SHIFT)]
    return float((maps[0] - maps[1]).abs().max() / maps[0].abs().max())


def _cam_moves_in_captum() -> float:
    maps = []
    for c in (0.0, SHIFT):
        model = ShiftedImage(c)
        maps.append(captum("LayerGradCam", model, IMAGE, model.convolution, relu_attributions=True))
    return float((maps[0] - maps[1]).abs().max() / maps[0].abs().max())


def _curve_moves() -> float:
    scores = torch.tensor([[3.0, 1.0, 2.0]])
    found = [areas_of(shifted_linear(c), ONES, scores, ZEROS[:1]).deletion for c in (0.0, SHIFT)]
    return float((found[0] - found[1]).abs())


_ABOUT = {
    "fault": "A1",
    "input": "logits (5·x₃, 2x₁ − x₂ + 5·x₃): x₃ changes no probability; x = (1, 1, 1), baseline 0",
    "right": "x₃ gets 0",
    "accepts": below(1e-9),
}
ROWS = (
    Row(
        name="shift_integrated_gradients",
        assay=lambda: _ours("integrated_gradients"),
        captum=lambda: _third(captum("IntegratedGradients", shifted_linear(SHIFT), ONES)),
        **_ABOUT,
    ),
    Row(
        name="shift_deep_shap",
        assay=lambda: _ours("deep_shap"),
        captum=lambda: _third(captum("DeepLift", shifted_linear(SHIFT), ONES)),
        shap=lambda: _third(shap_deep(nn.Sequential(shifted_linear(SHIFT)), ONES, ZEROS)),
        **_ABOUT,
    ),
    Row(
        name="shift_expected_gradients",
        assay=lambda: _ours("expected_gradients"),
        captum=lambda: _third(captum("GradientShap", shifted_linear(SHIFT), ONES, baselines=ZEROS)),
        shap=lambda: _third(shap_gradient(shifted_linear(SHIFT), ONES, ZEROS)),
        **_ABOUT,
    ),
    Row(
        name="shift_gradient",
        assay=lambda: _ours("saliency"),
        captum=lambda: _third(captum("Saliency", shifted_linear(SHIFT), ONES.clone())),
        **_ABOUT,
    ),
    Row(
        name="shift_smooth_gradient",
        assay=lambda: _ours("smooth_gradient"),
        **_ABOUT,
    ),
    Row(
        name="shift_input_times_gradient",
        assay=lambda: _ours("input_times_gradient"),
        captum=lambda: _third(captum("InputXGradient", shifted_linear(SHIFT), ONES.clone())),
        **_ABOUT,
    ),
    Row(
        name="shift_occlusion",
        assay=lambda: _ours("occlusion"),
        captum=lambda: _third(captum("Occlusion", shifted_linear(SHIFT), ONES, sliding_window_shapes=(1,))),
        **_ABOUT,
    ),
    Row(
        name="shift_exact_shapley",
        assay=lambda: _ours("exact_shapley"),
        captum=lambda: _third(captum("ShapleyValues", shifted_linear(SHIFT), ONES)),
        shap=lambda: _third(shap_of_function("ExactExplainer", shifted_linear(SHIFT), ONES, ZEROS)),
        **_ABOUT,
    ),
    Row(
        name="shift_permutation_shapley",
        assay=lambda: _ours("permutation_shapley"),
        captum=lambda: _third(captum("ShapleyValueSampling", shifted_linear(SHIFT), ONES)),
        **_ABOUT,
    ),
    Row(
        name="shift_kernel_shap",
        assay=lambda: _ours("kernel_shap"),
        captum=lambda: _third(captum("KernelShap", shifted_linear(SHIFT), ONES)),
        shap=lambda: _third(shap_kernel(shifted_linear(SHIFT), ONES, ZEROS)),
        **_ABOUT,
    ),
    Row(
        fault="A1",
        name="shift_lime",
        input="LIME of these logits, with 5·x₃ added to both and without: greatest relative change of a coefficient",
        right="at most 1e-9",
        accepts=below(1e-9),
        assay=lambda: _moves(lambda c: assay("lime", shifted_linear(c), ONES, ZEROS).values),
        captum=lambda: _moves(lambda c: captum("Lime", shifted_linear(c), ONES)),
    ),
    Row(
        name="shift_gradient_shap",
        assay=lambda: _ours("gradient_shap"),
        **_ABOUT,
    ),
    Row(
        name="shift_lrp",
        assay=lambda: _ours("lrp"),
        captum=lambda: _third(captum("LRP", nn.Sequential(shifted_linear(SHIFT)), ONES.clone())),
        **_ABOUT,
    ),
    Row(
        fault="A1",
        name="shift_grad_cam",
        input="a channel of the last convolution is added to both logits, 0 or 5 times; 8 × 8 image",
        right="the same map",
        accepts=below(1e-9),
        assay=_cam_moves,
        captum=_cam_moves_in_captum,
    ),
    Row(
        fault="A1",
        name="shift_deletion",
        input="deletion of the same map, with 5·x₃ added to both logits and without",
        right="the same area",
        accepts=below(1e-9),
        assay=_curve_moves,
    ),
    Row(
        fault="A15",
        name="sign_of_the_gradient",
        input="log-odds −3·x₁ + x₂: gradient by x₁ and x₂, with default settings",
        right="(−3, 1)",
        accepts=numbers_near(-3.0, 1.0),
        assay=lambda: listed(assay("saliency", linear(-3.0, 1.0), ONES[:, :2], ZEROS[:, :2]).values[0]),
        captum=lambda: listed(captum("Saliency", linear(-3.0, 1.0), ONES[:, :2].clone())[0]),
    ),
    Row(
        fault="A15",
        name="both_classes_are_opposite",
        input="log-odds 2x₁ − x₂: values for class 0 plus those for class 1",
        right="0 for both features",
        accepts=below(1e-9),
        assay=lambda: float(
            sum(
                assay("integrated_gradients", linear(2.0, -1.0), ONES[:, :2], ZEROS[:, :2], torch.tensor([k])).values
                for k in (0, 1)
            )
            .abs()
            .max()  # type: ignore[union-attr]
        ),
        captum=lambda: float(
            sum(captum("IntegratedGradients", linear(2.0, -1.0), ONES[:, :2], target=k) for k in (0, 1)).abs().max()
        ),
    ),
)
