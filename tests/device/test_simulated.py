"""The simulated device computes as the CPU does, and refuses what a GPU refuses."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import assay.explain.methods  # noqa: F401  # registers the methods
from assay.registry import build
from tests.device.networks import network, records, reference
from tests.device.simulated import DEVICE, MixedDevicesError, simulated


def test_a_training_step_gives_the_same_weights() -> None:
    torch.manual_seed(0)
    here = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.randn(5, 1, 8, 8), torch.arange(5) % 3
    there = copy.deepcopy(here)
    with simulated():
        there.to(DEVICE)
        for model, device in ((here, torch.device("cpu")), (there, DEVICE)):
            optimizer = torch.optim.Adam(model.parameters())
            nn.functional.cross_entropy(model(x.to(device)), y.to(device)).backward()
            optimizer.step()
        for ours, theirs in zip(there.parameters(), here.parameters(), strict=True):
            assert ours.device == DEVICE
            assert torch.equal(ours.cpu(), theirs)


ALIKE: dict[str, Callable[[Tensor], Tensor]] = {
    "list of rows": lambda x: x[[2, 0]],
    "mask": lambda x: x[x[:, 0] > 3],
    "write to rows": lambda x: x.clone().index_put_((torch.tensor([0, 2]),), x[[1, 1]]),
    "write through a view": lambda x: x.clone().view(-1)[2:4].zero_().sum() + x.sum(),
    "transposed in place": lambda x: x.clone().t_().contiguous(),
    "new values": lambda x: x + x.new_tensor([1.0, 2.0]),
    "from a list": lambda x: x + torch.tensor([1.0, 2.0], device=x.device),
    "a number of the CPU": lambda x: x * torch.tensor(3.0),
    "another type": lambda x: x.double().half().float(),
}


@pytest.mark.parametrize("name", ALIKE)
def test_values_are_those_of_the_cpu(name: str) -> None:
    x = torch.arange(12.0).view(6, 2)
    with simulated():
        assert torch.equal(ALIKE[name](x.to(DEVICE)).cpu(), ALIKE[name](x))


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "positions of the CPU": lambda x: x + torch.arange(len(x)),
    "records of the CPU at indices of the device": lambda x: torch.ones(6)[x.argsort()],
    "joined": lambda x: torch.cat([x, torch.ones(2)]),
    "a generator of the CPU": lambda x: torch.rand(3, device=x.device, generator=torch.Generator()),
    "an array": lambda x: x.numpy(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_gpu_refuses_is_refused(name: str) -> None:
    with simulated(), pytest.raises((MixedDevicesError, RuntimeError)):
        REFUSED[name](torch.ones(6, device=DEVICE))


def test_copies_to_the_cpu_are_counted() -> None:
    with simulated() as transfers:
        x = torch.ones(3, device=DEVICE)
        x.cpu(), float(x[0]), bool(x.any()), x.tolist()
        (x + 1).sum()
    assert sum(transfers.reads.values()) == 4


def test_look_up_tables_are_for_processors_alone() -> None:
    """They mix tensors of the CPU with those of the records."""
    x, y = records("X-ray CNN", 2, start=900)
    asked: Any = build("explainer", {"name": "kernel_shap", "groups": 16, "budget": 256})
    model, background = network("X-ray CNN").eval(), reference("X-ray CNN", torch.device("cpu"), torch.float32)
    here = asked.explain(model, x.float(), y, background)
    with simulated():
        model.to(DEVICE)
        there = asked.explain(model, x.float().to(DEVICE), y.to(DEVICE), background)
        torch.testing.assert_close(there.values.cpu(), here.values, rtol=0, atol=1e-6)
