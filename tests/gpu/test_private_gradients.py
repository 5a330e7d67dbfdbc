"""The clipped sum of per-record gradients on a GPU is that of the CPU, for every layer that has a rule."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.devices import repeatable
from assay.errors import IncompatibleRecipeError
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.resnet import Basic, Bottleneck, ResNet
from assay.privacy.clipping import Clipping, PerRecordGradients
from assay.privacy.update import PrivateUpdate
from assay.recipes import Privacy
from tests.gpu.devices import CPU, DEVICE, assert_alike, assert_same_bits, numbered
from tests.privacy.mixers import KEEPERS, MIXERS, SOUND
from tests.privacy.networks import NETWORKS, SLOW, drawn, made

# Torch's advice on the speed of even kernels, once a process.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
WITHIN = {torch.float64: 1e-9, torch.float32: 2e-4}
every_type = pytest.mark.parametrize("dtype", WITHIN, ids=str)


def sums(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    device: torch.device,
    clipping: Clipping = "flat",
    updates: int = 1,
    tf32: bool = False,
) -> list[Tensor]:
    """Of the last of so many updates: at the first two the model is asked whether it keeps records apart."""
    model, x, y = copy.deepcopy(model).to(device), x.to(device), y.to(device)
    gradients = PerRecordGradients(model, clipping=clipping)
    with repeatable(tf32=tf32):
        for _ in range(updates):
            found = gradients.clipped_sum(F.cross_entropy(model(x), y, reduction="none"), 0.5)
    gradients.remove()
    return found


@pytest.mark.parametrize("name", [*NETWORKS, *SLOW])
@every_type
def test_every_layer_with_a_rule(name: str, dtype: torch.dtype) -> None:
    model, x, y = made(name, 6, dtype=dtype)
    ours, theirs = (numbered(sums(model, x, y, device=device, updates=3)) for device in (DEVICE, CPU))
    assert all(one.device.type == DEVICE.type for one in ours.values())
    assert_alike(ours, theirs, within=WITHIN[dtype])


@pytest.mark.parametrize("seed", range(40))
def test_networks_of_layers_that_are_drawn(seed: int) -> None:
    model, x, y = drawn(seed, 1 + seed % 6, dtype=torch.float64)
    ours, theirs = (numbered(sums(model, x, y, device=device)) for device in (DEVICE, CPU))
    assert_alike(ours, theirs, within=1e-9)


@pytest.mark.parametrize("name", ["mlp", "conv2d", "group norm", "layer norm", "embedding", "layer used twice"])
@pytest.mark.parametrize("clipping", ["per_layer", "automatic"])
def test_every_kind_of_clipping(name: str, clipping: Clipping) -> None:
    model, x, y = made(name, 6, dtype=torch.float64)
    ours, theirs = (numbered(sums(model, x, y, device=device, clipping=clipping)) for device in (DEVICE, CPU))
    assert_alike(ours, theirs, within=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_halves_are_summed_in_more_than_halves(dtype: torch.dtype) -> None:
    for name in ("mlp", "conv2d", "lstm"):
        model, x, y = made(name, 6)
        found = sums(model.to(dtype), x.to(dtype), y, device=DEVICE)
        assert all(one.dtype in (torch.float32, torch.float64) for one in found)
        assert float(torch.cat([one.double().flatten() for one in found]).norm()) <= 6 * 0.5 * (1 + 1e-3)


LARGE: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "cnn": (CNN(channels=(16, 32, 64)).build((1, 28, 28), 2, seed=0), (32, 1, 28, 28)),
    "lstm": (LSTM(hidden=32, dropout=0.0).build((30, 50), 2, seed=0), (32, 30, 50)),
    "residual": (ResNet(Basic, (1, 1, 1, 1), 3, 2, norm="group", stem="small", width=8), (8, 3, 16, 16)),
    "bottlenecks": (ResNet(Bottleneck, (1, 1, 1, 1), 3, 2, norm="group", stem="imagenet", width=8), (8, 3, 64, 64)),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 5e-3)], ids=str)
def test_the_networks_of_studies(name: str, dtype: torch.dtype, within: float) -> None:
    model, shape = LARGE[name]
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(shape, generator=draw, dtype=dtype), torch.randint(2, shape[:1], generator=draw)
    given = (copy.deepcopy(model).to(dtype), x, y)
    ours, again, theirs = (numbered(sums(*given, device=device, updates=2)) for device in (DEVICE, DEVICE, CPU))
    assert_same_bits(ours, again)
    assert_alike(ours, theirs, within=within)


@pytest.mark.parametrize("kind", [Basic, Bottleneck])
def test_a_network_whose_forward_pass_rounds_to_tf32_is_not_refused(kind: type[Basic | Bottleneck]) -> None:
    """As training lets it; what is clipped and added is the gradient in whole float32 from there on."""
    torch.manual_seed(0)
    model = ResNet(kind, (1, 1, 1, 1), 3, 2, norm="group", stem="small", width=64)
    x, y = torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    ours, again = (numbered(sums(model, x, y, device=DEVICE, updates=3, tf32=True)) for _ in range(2))
    assert_same_bits(ours, again)
    assert float(torch.cat([one.flatten() for one in ours.values()]).norm()) <= 8 * 0.5


@pytest.mark.parametrize("name", MIXERS)
def test_a_model_that_mixes_records_is_refused_there_too(name: str) -> None:
    torch.manual_seed(0)
    model = MIXERS[name]().train()
    x, y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
    with pytest.raises(IncompatibleRecipeError, match="depends on other records"):
        sums(model, x, y, device=DEVICE)


@pytest.mark.parametrize("name", KEEPERS)
def test_a_model_that_keeps_something_is_refused_there_too(name: str) -> None:
    if name == "object without a dictionary":
        pytest.skip("keeps a tensor that nothing moves")
    if name in {"closure", "list of the class", "global dictionary", "global name", "number of the class"}:
        pytest.skip("keeps what another test, on another device, has left")
    torch.manual_seed(0)
    model = KEEPERS[name]().train()
    x, y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
    with pytest.raises(IncompatibleRecipeError, match="the forward pass changed"):
        sums(model, x, y, device=DEVICE)


@pytest.mark.parametrize("name", SOUND)
def test_a_model_that_keeps_records_apart_is_not_refused(name: str) -> None:
    torch.manual_seed(0)
    model = SOUND[name]().train()
    if isinstance(vars(model).get("turn"), Tensor):
        model.turn = model.turn.to(DEVICE)  # no buffer: nothing moves it
    x, y = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
    sums(model, x, y, device=DEVICE, updates=2)


def test_noise_is_that_of_the_cpu() -> None:
    found = []
    for device in (DEVICE, CPU):
        model = nn.Linear(5, 3).to(device)
        update = PrivateUpdate(model, Privacy(epsilon=8), records=100, batch_size=10, steps=10, seed=2**100)
        total = [torch.zeros_like(weight) for weight in model.parameters()]
        found.append(numbered(update.finish(total, np.arange(10), 3)))
        update.close()
    assert_alike(found[0], found[1], within=1e-6)
