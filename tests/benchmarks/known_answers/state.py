"""Rows on the model afterwards: keys, values, gradients, modes, hooks and attributes as before."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from assay.models.resnet import ResNet18
from tests.benchmarks.known_answers.networks import DOUBLE, drawn
from tests.benchmarks.known_answers.row import Row, says
from tests.benchmarks.known_answers.systems import assay, captum, shap_deep, shap_gradient

IMAGES, GREY = drawn(2, 1, 8, 8), drawn(3, 1, 8, 8, seed=1)


class Block(nn.Module):
    """A custom block with layers of its own, as networks of users have them."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.bend = nn.Conv2d(1, 4, 3), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.bend(self.convolution(x))


class Own(nn.Module):
    """A network in a block of its own, with a hook, a gradient, and a layer in training mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block, self.flat, self.last = Block(), nn.Flatten(), nn.Linear(144, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.flat(self.block(x)))


def _own() -> nn.Module:
    model = Own().to(DOUBLE)
    model(IMAGES).sum().backward()
    model.train()
    model.block.register_forward_hook(lambda *_: None)
    return model


def _resnet() -> nn.Module:
    model = ResNet18(stem="small", norm="group").build((1, 16, 16), 2, seed=0).to(DOUBLE)
    model(drawn(2, 1, 16, 16)).sum().backward()
    return model.eval()


def _state(model: nn.Module) -> dict[str, Any]:
    """What must be as before."""
    return {
        "keys": list(model.state_dict()),
        "values": [value.clone() for value in model.state_dict().values()],
        "gradients": [None if one.grad is None else one.grad.clone() for one in model.parameters()],
        "modes": [layer.training for layer in model.modules()],
        "hooks": [(len(one._forward_hooks), len(one._backward_hooks)) for one in model.modules()],
        "attributes": [sorted(vars(layer)) for layer in model.modules()],
        "parameters": [name for name, _ in model.named_parameters()],
    }


def _changed(make: Callable[[], nn.Module], explain: Callable[[nn.Module], Any]) -> str:
    model = make()
    before = _state(model)
    explain(model)
    after = _state(model)
    names = [name for name in before if not _equal(before[name], after[name])]
    return f"changed: {', '.join(names)}" if names else "as before"


def _equal(one: list[Any], other: list[Any]) -> bool:
    if len(one) != len(other):
        return False
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b for a, b in pairs
    )


def _ours(method: str, make: Callable[[], nn.Module], x: Tensor, background: Tensor) -> str:
    return _changed(make, lambda model: assay(method, model, x, background, None, "image"))


_PEERS: dict[str, dict[str, Callable[[nn.Module], Any]]] = {
    "integrated_gradients": {"captum": lambda model: captum("IntegratedGradients", model, IMAGES)},
    "expected_gradients": {
        "captum": lambda model: captum("GradientShap", model, IMAGES, baselines=GREY),
        "shap": lambda model: shap_gradient(model, IMAGES, GREY),
    },
    "deep_shap": {
        "captum": lambda model: captum("DeepLift", model, IMAGES),
        "shap": lambda model: shap_deep(model, IMAGES, GREY),
    },
    "guided_grad_cam": {
        "captum": lambda model: captum("GuidedGradCam", model, IMAGES, model.block.convolution)  # type: ignore[union-attr]
    },
    "lrp": {"captum": lambda model: captum("LRP", model, IMAGES)},
    "kernel_shap": {"captum": lambda model: captum("KernelShap", model, IMAGES)},
    "grad_cam": {"captum": lambda model: captum("LayerGradCam", model, IMAGES, model.block.convolution)},  # type: ignore[union-attr]
}
_METHODS = tuple(
    dict.fromkeys(
        (
            *_PEERS,
            "saliency",
            "smooth_gradient",
            "occlusion",
            "permutation_shapley",
            "kernel_shap",
            "lime",
            "gradient_shap",
        )
    )
)
SMALL, SMALL_GREY = drawn(1, 1, 16, 16), drawn(2, 1, 16, 16, seed=1)
ROWS = (
    *(
        Row(
            fault="A10",
            name=f"model_after_{method}",
            input=f"a network in training mode with a block of its own and a hook, after {method.replace('_', ' ')}",
            right="as before",
            accepts=says("as before"),
            assay=lambda method=method: _ours(method, _own, IMAGES, GREY),
            **{
                peer: lambda explain=explain: _changed(_own, explain)
                for peer, explain in _PEERS.get(method, {}).items()
            },
        )
        for method in _METHODS
    ),
    Row(
        fault="A10",
        name="resnet_after_guided_grad_cam",
        input="a ResNet-18 with gradients, after guided Grad-CAM",
        right="as before",
        accepts=says("as before"),
        assay=lambda: _ours("guided_grad_cam", _resnet, SMALL, SMALL_GREY),
        captum=lambda: _changed(
            _resnet,
            lambda model: captum(
                "GuidedGradCam", model, SMALL, [m for m in model.modules() if isinstance(m, nn.Conv2d)][-1]
            ),
        ),
    ),
)
