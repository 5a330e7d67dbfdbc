"""Proofs and explanations on a GPU are those of the CPU."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.bounds.interval import certified_by_intervals, interval, logits_and_worst
from assay.bounds.smoothing import Smoothing, certify, predict
from assay.models.lstm import LSTM
from assay.models.resnet import Basic, Bottleneck, ResNet18
from assay.threats import Threat
from tests.bounds.networks import box, convolutional, one_hidden, residual_network, small_blocks, two_hidden
from tests.explaining import curves, deep_shap, integrated_gradients
from tests.gpu.devices import ARCHITECTURES, CLASSES, CPU, DEVICE, UNIT, records, trained

SMALL: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...], float]] = {
    "one hidden layer": (one_hidden, (3,), 1.0),
    "two hidden layers": (two_hidden, (3,), 0.5),
    "convolutional": (convolutional, (1, 8, 8), 0.1),
    "basic blocks": (lambda seed: small_blocks(Basic, seed), (1, 4, 4), 0.2),
    "bottlenecks": (lambda seed: small_blocks(Bottleneck, seed), (1, 4, 4), 0.2),
    "residual network": (lambda seed: residual_network(Basic, seed), (1, 4, 4), 0.03),
}


@pytest.mark.parametrize("name", SMALL)
def test_boxes_are_those_of_the_cpu(name: str) -> None:
    make, shape, radius = SMALL[name]
    low, high = box(shape, radius, 0)
    ours, theirs = (interval(make(0).to(d), low.to(d), high.to(d)) for d in (DEVICE, CPU))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-9, atol=1e-9)


def test_the_loss_of_certified_training_is_that_of_the_cpu() -> None:
    x, y = records("cnn", 16)
    found = []
    for device in (DEVICE, CPU):
        model = ResNet18(stem="small").build((1, 8, 8), CLASSES, seed=0).double().train().to(device)
        own, labels = x.double().to(device), y.to(device)
        logits, worst = logits_and_worst(model, own, own - 0.01, own + 0.01, labels)
        gradient = torch.autograd.grad(worst.logsumexp(1).sum(), list(model.parameters()))
        kept = [value for value in model.state_dict().values() if value.is_floating_point()]
        found.append([one.detach().cpu() for one in (logits, worst, *gradient, *kept)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_same_records_are_certified(name: str, norm: str) -> None:
    x, y = records(name, 200, start=900)
    for epsilon in (0.0, 0.005, 0.02):
        threat = Threat(norm=norm, epsilon=epsilon, bounds=UNIT)  # type: ignore[arg-type]
        proven = certified_by_intervals(trained(name).to(DEVICE), x.to(DEVICE), y.to(DEVICE), threat)
        assert torch.equal(proven.cpu(), certified_by_intervals(trained(name), x, y, threat))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_smoothed_answers_are_those_of_the_cpu(name: str) -> None:
    x, _ = records(name, 12, start=900)
    asked, rows = Smoothing(sigma=0.3, samples=200, selection_samples=50), np.arange(12)
    ours, theirs = (certify(trained(name).to(d), x.to(d), UNIT, asked, seed=0, names=rows) for d in (DEVICE, CPU))
    assert (ours.answer == theirs.answer).mean() >= 0.9
    both = ours.answer == theirs.answer
    np.testing.assert_allclose(ours.radius[both], theirs.radius[both], atol=0.02)
    said = [predict(trained(name).to(d), x.to(d), UNIT, asked, seed=0, names=rows) for d in (DEVICE, CPU)]
    assert (said[0] == said[1]).mean() >= 0.9


def explained(name: str, device: torch.device) -> dict[str, Tensor]:
    """Two maps of some records, in float64, and how faithful they are."""
    model = copy.deepcopy(trained(name)).double().to(device)
    x, background = (records(name, 24, start=start)[0].double().to(device) for start in (900, 0))
    with torch.no_grad():
        target = model(x).argmax(1)
    gradients = integrated_gradients(model, x, target, baseline=background.mean(0, keepdim=True))
    found = {"integrated gradients": gradients.values, "their error": gradients.error}
    if name != "lstm":
        shap = deep_shap(model, x, target, background=background)
        found |= {"shap": shap.values, "its error": shap.error}
    areas = curves(model, x, target, gradients.values, background.mean(0, keepdim=True))
    found |= {"deletion": areas.deletion, "insertion": areas.insertion}
    return {key: value.cpu() for key, value in found.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_explanations_and_their_measures_are_those_of_the_cpu(name: str) -> None:
    ours, theirs = explained(name, DEVICE), explained(name, CPU)
    for key, expected in theirs.items():
        torch.testing.assert_close(
            ours[key], expected, rtol=1e-6, atol=1e-7, msg=lambda said, key=key: f"{key}: {said}"
        )


def test_entries_of_one_score_go_in_the_same_order_on_every_device() -> None:
    """Most pixels of an image may have a score of exactly 0."""
    x, _ = records("cnn", 24)
    scores = (x > 0.5).float()
    found = []
    for device in (DEVICE, CPU):
        model = trained("cnn").to(device)
        target = torch.zeros(24, dtype=torch.long, device=device)
        about = (model, x.to(device), target, scores.to(device))
        ties = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)).to(device)
        found.append(curves(*about, torch.zeros(1, 1, 8, 8), ties).insertion.cpu())
    torch.testing.assert_close(*found, rtol=0, atol=1e-3)


def test_weights_of_attention_are_those_of_the_cpu() -> None:
    model = LSTM(hidden=6, dropout=0.0, attention=True).build((9, 4), 2, seed=0).double().eval()
    x = torch.randn(5, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 6:] = 0
    there = copy.deepcopy(model).to(DEVICE)
    torch.testing.assert_close(there.attention_weights(x.to(DEVICE)).cpu(), model.attention_weights(x))  # type: ignore[operator]
