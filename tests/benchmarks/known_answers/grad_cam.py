"""Rows on Grad-CAM: its place, its sign, and empty maps."""

import torch
from torch import Tensor

from tests.benchmarks.known_answers.networks import hot_patch
from tests.benchmarks.known_answers.row import Row, below, says
from tests.benchmarks.known_answers.systems import assay, captum

PLACE = (5, 60)


def _away(fine: Tensor) -> float:
    """Distance in pixels of the peak from the patch; the middle of the peak where several pixels share it."""
    peak = (fine[0, 0] >= fine.max() - 1e-9).nonzero().double().mean(0)
    return float((peak - torch.tensor(PLACE, dtype=torch.float64)).abs().max())


def _ours(sign: float = 1.0) -> Tensor:
    model, image = hot_patch()
    model[4].weight.data[1] *= sign
    return assay("grad_cam", model, image, 0 * image, modality="image").values


def _captum(sign: float = 1.0) -> Tensor:
    from captum.attr import LayerAttribution

    model, image = hot_patch()
    model[4].weight.data[1] *= sign
    return LayerAttribution.interpolate(captum("LayerGradCam", model, image, model[0]), tuple(image.shape[2:]))


def _kind(fine: Tensor) -> str:
    if not bool(fine.isfinite().all()):
        return "not finite"
    return "empty" if not fine.any() else f"{float(fine.min()):.3g} to {float(fine.max()):.3g}"


def _of_second_record() -> float:
    """Distance of the second record's peak from its own patch, in a batch whose first record has another."""
    model, image = hot_patch()
    other = image.flip(2, 3)
    both = assay("grad_cam", model, torch.cat([other, image]), 0 * image, modality="image").values
    return _away(both[1:])


def _of_second_record_in_captum() -> float:
    from captum.attr import LayerAttribution

    model, image = hot_patch()
    coarse = captum("LayerGradCam", model, torch.cat([image.flip(2, 3), image]), model[0])
    return _away(LayerAttribution.interpolate(coarse, tuple(image.shape[2:]))[1:])


def _constant(system: str) -> str:
    model, image = hot_patch()
    if system == "assay":
        fine = assay("grad_cam", model, 0 * image, 0 * image, modality="image").values
    else:
        fine = captum("LayerGradCam", model, 0 * image, model[0])
    return _kind(fine)


_ABOUT = {"fault": "A14"}
ROWS = (
    Row(
        name="place",
        input="an image of 40 × 80 with a patch at row 5, column 60; stride 2: distance of the peak",
        right="at most 2 pixels",
        accepts=below(2.0),
        assay=lambda: _away(_ours()),
        captum=lambda: _away(_captum()),
        **_ABOUT,
    ),
    Row(
        name="all_negative",
        input="the same with a negative weight: the map, with default settings",
        right="empty",
        accepts=says("empty"),
        assay=lambda: _kind(_ours(-1.0)),
        captum=lambda: _kind(_captum(-1.0)),
        **_ABOUT,
    ),
    Row(
        name="constant_map",
        input="an image of zeros, whose map is constant",
        right="empty, and not NaN",
        accepts=says("empty"),
        assay=lambda: _constant("assay"),
        captum=lambda: _constant("captum"),
        **_ABOUT,
    ),
    Row(
        name="second_record",
        input="a batch of two images with patches at different places: distance of the second record's peak",
        right="at most 2 pixels",
        accepts=below(2.0),
        assay=_of_second_record,
        captum=_of_second_record_in_captum,
        **_ABOUT,
    ),
)
