"""Residual networks (He et al. 2016, arXiv:1512.03385) under torchvision's names, so that its weights load."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from assay.data.base import Form
from assay.errors import CheckpointError, SpecError
from assay.models.base import Architecture, GivenWeights, file_digest
from assay.registry import register

NormLayer = Literal["batch", "group"]
Stem = Literal["imagenet", "small"]
NormOf = Callable[[int], nn.Module]
"""Creates the normalisation for a number of channels."""


class Residual(Architecture):
    """Base of all depths. The stride of a bottleneck is at its 3 × 3 convolution, as in torchvision."""

    norm: NormLayer = "batch"
    """``group`` normalises each record separately (Wu & He 2018, arXiv:1803.08494), as private training requires."""
    stem: Stem = "imagenet"
    """``small`` processes images of 28 to 64 pixels at full size: 3 × 3 at stride 1 and no pooling."""
    weights: str | None = None
    """Safetensors file of torchvision's state dict, readable by every worker. The last layer (``fc``) starts with new
    weights if the number of classes differs; for grey images the weights of the first layer are summed over the
    colours."""
    public_weights: bool = False
    """States that the weights of the file were trained on no record of these data; otherwise no private ε is claimed.
    """

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        if len(shape) != 3:
            fits = "cnn or lstm" if len(shape) == 2 else "mlp"
            raise SpecError(
                f"{self.name} needs images (channels, height, width); these records have shape {shape}: use {fits}",
                setting="model",
                given=self.name,
                allowed=tuple(fits.split(" or ")),
            )
        if self.stem == "imagenet" and min(shape[1:]) <= 32:
            raise SpecError(
                f"{self.name} with the stem of ImageNet leaves one pixel of images of 32 or less, "
                f"and these records have shape {shape}: set stem: small",
                setting="stem",
                given=self.stem,
                allowed="small",
            )
        model = self._net(shape[0], classes)
        if self.weights is not None:
            load_pretrained(model, self.weights)
        return model

    def fingerprint(self) -> str:
        """Returns the hash of the file of weights: other weights make another network."""
        return "" if self.weights is None else file_digest(self.weights)

    def given_weights(self, form: Form) -> GivenWeights | None:
        return None if self.weights is None else GivenWeights.of_file(self.weights, public=self.public_weights)

    def bare(self) -> Architecture:
        return self.model_copy(update={"weights": None})

    def _net(self, channels: int, classes: int) -> "ResNet":
        raise NotImplementedError


@register("model")
class ResNet18(Residual):
    """18 layers: two blocks of two 3 × 3 convolutions at each of four sizes."""

    name: Literal["resnet18"] = "resnet18"

    def _net(self, channels: int, classes: int) -> "ResNet":
        return ResNet(Basic, (2, 2, 2, 2), channels, classes, norm=self.norm, stem=self.stem)


@register("model")
class ResNet50(Residual):
    """50 layers: 3, 4, 6 and 3 bottlenecks at four sizes."""

    name: Literal["resnet50"] = "resnet50"

    def _net(self, channels: int, classes: int) -> "ResNet":
        return ResNet(Bottleneck, (3, 4, 6, 3), channels, classes, norm=self.norm, stem=self.stem)


class Basic(nn.Module):
    """Residual block: two 3 × 3 convolutions and a shortcut."""

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: NormOf) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.relu1 = norm(width), nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2, self.relu2 = norm(width), nn.ReLU()
        self.downsample = _shortcut(inputs, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(inner)) + self.downsample(x))


class Bottleneck(nn.Module):
    """Residual block: a 3 × 3 convolution between two of 1 × 1, and a shortcut."""

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: NormOf) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1, self.relu1 = norm(width), nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2, self.relu2 = norm(width), nn.ReLU()
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3, self.relu3 = norm(4 * width), nn.ReLU()
        self.downsample = _shortcut(inputs, 4 * width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        return self.relu3(self.bn3(self.conv3(inner)) + self.downsample(x))


class ResNet(nn.Module):
    """From images (n, channels, height, width) to logits. No module is used twice and nothing is changed in place.

    Args:
        block: type of the blocks.
        depths: number of blocks at each size.
        channels: of the images.
        classes: number of logits.
        norm: ``batch`` or ``group``.
        stem: first layers.
        width: channels at the first size; they double at each later one.
    """

    keeps_rows = True
    """The first axis is that of the rows wherever there is a kink."""

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        depths: tuple[int, ...],
        channels: int,
        classes: int,
        *,
        norm: NormLayer,
        stem: Stem,
        width: int = 64,
    ) -> None:
        super().__init__()
        norm_of: NormOf = nn.BatchNorm2d if norm == "batch" else _group_norm
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1, self.relu = norm_of(width), nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "imagenet" else nn.Identity()
        stages, inputs = [], width
        for place, depth in enumerate(depths):
            stage_width = width * 2**place
            strides = [1 if place == 0 else 2, *[1] * (depth - 1)]
            ends = [inputs, *[stage_width * block.expansion] * (depth - 1)]
            stages.append(
                nn.Sequential(
                    *(block(end, stage_width, stride, norm_of) for end, stride in zip(ends, strides, strict=True))
                )
            )
            inputs = stage_width * block.expansion
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc = nn.Linear(inputs, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flatten(self.avgpool(x)))


def _shortcut(inputs: int, outputs: int, stride: int, norm: NormOf) -> nn.Module:
    """Returns the identity, which has no weights, where shapes agree; otherwise a 1 × 1 convolution."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm(outputs))


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(32, channels), channels)


def load_pretrained(model: ResNet, path: str) -> None:
    """Loads torchvision's weights into a network, in place; ``Residual.weights`` describes permitted differences.

    Args:
        model: the network.
        path: of the safetensors file.

    Raises:
        CheckpointError: the file cannot be read, or names or shapes differ; the message lists them.
    """
    given, expected = _read(path), model.state_dict()
    first, last = given.get("conv1.weight"), given.get("fc.weight")
    if first is not None and first.shape[1:2] == (3,) and model.conv1.in_channels == 1:
        given["conv1.weight"] = first.sum(1, keepdim=True)
    if last is not None and len(last) != model.fc.out_features:
        given |= {name: expected[name] for name in ("fc.weight", "fc.bias")}
    # Older files lack PyTorch's counter of batches.
    missing = [name for name in expected if name not in given and not name.endswith("num_batches_tracked")]
    problems = [f"missing {name}" for name in missing]
    problems += [f"unexpected {name}" for name in given if name not in expected]
    problems += [
        f"{name} has shape {tuple(tensor.shape)}, the model wants {tuple(expected[name].shape)}"
        for name, tensor in given.items()
        if name in expected and tensor.shape != expected[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise CheckpointError(
            f"weights {path!r} do not fit the network: {'; '.join(problems[:6])}{more}. Torchvision's fit images of "
            "1 or 3 channels with norm: batch and stem: imagenet",
            setting="weights",
            given=path,
            allowed=problems,
        )
    model.load_state_dict({**expected, **given})


def _read(path: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise CheckpointError(
            f"weights file {path!r} does not exist where this runs; give a path that every worker has",
            setting="weights",
            given=path,
            allowed="a file",
        )
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"weights {path!r} are not safetensors: {error}; load torchvision's where you trust them and save "
            "model.state_dict() with safetensors.torch.save_file",
            setting="weights",
            given=path,
            allowed="safetensors",
        ) from None
