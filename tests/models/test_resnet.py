"""Torchvision's residual networks by another forward pass: same names, same answers, fit for privacy and SHAP."""

import copy
from collections import Counter
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.bounds.interval import UnboundableError, interval
from assay.errors import CheckpointError, IncompatibleRecipeError, SpecError
from assay.explain.base import ExplanationError
from assay.models.base import Architecture
from assay.models.resnet import Basic, Bottleneck, NormLayer, ResNet, ResNet18, ResNet50, Stem
from assay.privacy.clipping import PerRecordGradients
from tests.explaining import deep_shap, integrated_gradients
from tests.mistakes import refused

BOTH = pytest.mark.parametrize("architecture", [ResNet18(), ResNet50()], ids=["resnet18", "resnet50"])
BLOCKS = pytest.mark.parametrize("block", [Basic, Bottleneck])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(
    block: type[Basic] | type[Bottleneck] = Basic, *, norm: NormLayer = "batch", stem: Stem = "small", channels: int = 2
) -> ResNet:
    torch.manual_seed(0)
    return ResNet(block, (2, 1, 1, 1), channels, 3, norm=norm, stem=stem, width=8)


def theirs(name: str) -> nn.Module:
    """Torchvision's network with weights and statistics of its own."""
    torch.manual_seed(3)
    model = getattr(torchvision.models, name)()
    for tensor_name, tensor in model.state_dict().items():
        if "bn" in tensor_name or "downsample.1" in tensor_name:
            tensor.copy_(tensor + 0.1 * torch.rand(tensor.shape) if tensor.is_floating_point() else tensor)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Torchvision's resnet18, saved."""
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(theirs("resnet18").state_dict(), path)
    return str(path)


@BOTH
def test_names_and_answers_and_gradients_are_torchvisions(architecture: Architecture) -> None:
    ours, other = architecture.build((3, 40, 40), 1000, seed=0), theirs(architecture.name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
    ours.load_state_dict(other.state_dict())
    x = draw(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), other.eval()(x), rtol=0, atol=1e-5)
    found, expected = ours.train()(x), other.train()(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weight = draw(2, 1000)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for (name, one), two in zip(ours.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5, msg=name)
    assert torch.equal(ours.state_dict()["bn1.running_mean"], other.state_dict()["bn1.running_mean"])


def test_torchvisions_weights_load(file: str) -> None:
    other = theirs("resnet18").eval()
    model = ResNet18(weights=file).build((3, 40, 40), 1000, seed=0).eval()
    x = draw(2, 3, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(x), other(x), rtol=0, atol=1e-5)


def test_another_number_of_classes_starts_a_fresh_classifier(file: str) -> None:
    loaded, fresh = (ResNet18(weights=w).build((3, 40, 40), 4, seed=0) for w in (file, None))
    other = theirs("resnet18").state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name] if name.startswith("fc.") else other[name])


def test_a_grey_image_is_answered_as_if_in_three_equal_colours(file: str) -> None:
    model, x = ResNet18(weights=file).build((1, 40, 40), 1000, seed=0).eval(), draw(2, 1, 40, 40)
    with torch.no_grad():
        torch.testing.assert_close(model(x), theirs("resnet18").eval()(x.expand(2, 3, 40, 40)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "channels", "said"),
    [
        (ResNet18(norm="group"), 3, r"unexpected bn1\.num_batches_tracked.*norm: batch"),
        (ResNet18(stem="small"), 3, r"conv1.weight has shape \(64, 3, 7, 7\), the model wants \(64, 3, 3, 3\)"),
        (ResNet18(), 4, r"conv1.weight has shape \(64, 3, 7, 7\), the model wants \(64, 4, 7, 7\)"),
        (ResNet50(), 3, "missing layer1.0.conv3.weight.*and [0-9]+ more"),
    ],
)
def test_weights_of_another_network_are_refused(
    architecture: ResNet18 | ResNet50, channels: int, said: str, file: str
) -> None:
    with pytest.raises(CheckpointError, match=f"do not fit the network: .*{said}"):
        architecture.model_copy(update={"weights": file}).build((channels, 40, 40), 1000, seed=0)


def test_files_from_before_the_counter_of_batches_load(tmp_path: Path) -> None:
    older = {k: v for k, v in theirs("resnet18").state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(older, tmp_path / "older.safetensors")
    model = ResNet18(weights=str(tmp_path / "older.safetensors")).build((3, 40, 40), 1000, seed=0)
    assert torch.equal(model.state_dict()["bn1.running_var"], older["bn1.running_var"])


def test_a_file_that_is_absent_or_something_else_is_an_error(tmp_path: Path) -> None:
    with refused(CheckpointError, "weights", str(tmp_path / "absent"), "a file"):
        ResNet18(weights=str(tmp_path / "absent")).build((3, 40, 40), 2, seed=0)
    (tmp_path / "pickled").write_bytes(b"PK\x03\x04 and so on")
    with refused(CheckpointError, "weights", str(tmp_path / "pickled"), "safetensors"):
        ResNet18(weights=str(tmp_path / "pickled")).build((3, 40, 40), 2, seed=0)


def test_other_weights_are_another_network(file: str, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"something")
    prints = {ResNet18(weights=w).fingerprint() for w in (None, file, str(tmp_path / "other"))}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((30,), "shape \\(30,\\): use mlp"),
        ((2, 250), "shape \\(2, 250\\): use cnn or lstm"),
        ((1, 28, 28), "shape \\(1, 28, 28\\): set stem: small"),
    ],
)
def test_records_that_it_cannot_take_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        ResNet18().build(shape, 2, seed=0)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_small_images_of_any_channels_become_logits(channels: int, norm: NormLayer) -> None:
    model = ResNet18(stem="small", norm=norm).build((channels, 28, 28), 5, seed=0).eval()
    seen: list[torch.Size] = []
    model.get_submodule("layer1").register_forward_hook(lambda layer, given, made: seen.append(made.shape))
    with torch.no_grad():
        assert model(draw(2, channels, 28, 28)).shape == (2, 5)
    assert seen == [(2, 64, 28, 28)]


def test_first_weights_depend_on_the_seed_alone() -> None:
    one, again, other = (ResNet18().build((3, 40, 40), 2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


@BLOCKS
def test_no_module_is_used_twice_and_nothing_is_changed_in_place(block: type[Basic] | type[Bottleneck]) -> None:
    model, used = tiny(block), Counter[str]()
    for name, layer in model.named_modules():
        layer.register_forward_hook(lambda layer, given, made, name=name: used.update([name]))
    leaves = [name for name, layer in model.named_modules() if not list(layer.children())]
    model(draw(2, 2, 16, 16))
    assert {used[name] for name in leaves} == {1}
    assert not any(getattr(layer, "inplace", False) for layer in model.modules())


@BLOCKS
def test_it_is_explained_exactly(block: type[Basic] | type[Bottleneck]) -> None:
    model, x = tiny(block), draw(3, 2, 16, 16)
    for seed in range(3):
        model(draw(8, 2, 16, 16, seed=seed))
    model.eval()
    target = torch.tensor([0, 1, 2])
    found = deep_shap(model, x, target, background=draw(6, 2, 16, 16, seed=9))
    assert found.error.max() < 1e-5
    assert found.values.abs().flatten(1).amax(1).min() > 1e-3
    assert integrated_gradients(model, x, target, baseline=torch.zeros(1), points=128).error.max() < 0.05


@pytest.mark.parametrize(("norm", "stem"), [("group", "small"), ("batch", "imagenet")])
def test_what_shap_cannot_follow_is_refused_with_the_reason(norm: NormLayer, stem: Stem) -> None:
    model = tiny(norm=norm, stem=stem).eval()
    with torch.no_grad():
        model.fc.weight.mul_(30)
    why = "does not know GroupNorm" if norm == "group" else "pooling windows must not overlap"
    with pytest.raises(ExplanationError, match=why):
        deep_shap(model, draw(3, 2, 40, 40), torch.tensor([0, 1, 2]), background=draw(6, 2, 40, 40, seed=9))


@BLOCKS
def test_group_norm_makes_it_private(block: type[Basic] | type[Bottleneck]) -> None:
    model = tiny(block, norm="group")
    x, y, alone = draw(4, 2, 12, 12), torch.tensor([0, 1, 2, 0]), copy.deepcopy(model)
    total = [torch.zeros_like(p) for p in alone.parameters()]
    for i in range(len(x)):
        loss = nn.functional.cross_entropy(alone(x[i : i + 1]), y[i : i + 1])
        gradient = torch.autograd.grad(loss, list(alone.parameters()))
        factor = min(1.0, 0.5 / float(torch.cat([g.flatten() for g in gradient]).norm()))
        total = [t + factor * g for t, g in zip(total, gradient, strict=True)]
    gradients = PerRecordGradients(model)
    losses = nn.functional.cross_entropy(model(x), y, reduction="none")
    for ours, expected in zip(gradients.clipped_sum(losses, 0.5), total, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_does_not_train_privately() -> None:
    with pytest.raises(IncompatibleRecipeError, match=r"'bn1' is BatchNorm2d.*GroupNorm"):
        PerRecordGradients(tiny())


def test_with_batch_norm_it_has_interval_bounds_and_with_groups_it_says_why_not() -> None:
    x = draw(2, 2, 16, 16)
    least, most = interval(tiny().eval(), x, x + 0.1)
    assert bool((least <= most).all())
    with pytest.raises(UnboundableError, match=r"layer 'bn1' \(GroupNorm\) has no interval bounds"):
        interval(tiny(norm="group").eval(), x, x)
