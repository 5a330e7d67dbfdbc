"""bfloat16 for the layers alone: weights, losses, gradients and attacks keep float32."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.mlp import MLP
from assay.models.resnet import ResNet18
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.autocast import Bfloat16
from assay.training.build import build_trainer

Blobs = Callable[..., tuple[Tensor, Tensor]]
NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "mlp": (MLP(hidden=(16,)).build((5,), 2, seed=0), (5,)),
    "cnn": (CNN(channels=(4, 8)).build((1, 16, 16), 2, seed=0), (1, 16, 16)),
    "lstm": (LSTM(hidden=8).build((12, 3), 2, seed=0), (12, 3)),
    "resnet": (ResNet18(norm="group", stem="small").build((3, 16, 16), 2, seed=0), (3, 16, 16)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_float32_and_those_of_layers_in_bfloat16(name: str) -> None:
    network, shape = NETWORKS[name]
    network.eval()
    x = torch.randn(4, *shape)
    answers, exact = Bfloat16(network)(x), network(x)
    assert answers.dtype == torch.float32
    assert not torch.equal(answers, exact)
    torch.testing.assert_close(answers, exact, rtol=0.05, atol=0.05)


def test_float64_stays() -> None:
    network = nn.Linear(3, 2).double()
    x = torch.randn(4, 3).double()
    assert torch.equal(Bfloat16(network)(x), network(x))


@pytest.mark.parametrize("objective", [{"name": "standard"}, {"name": "pgd", "epsilon": 0.3}])
def test_training_learns_as_in_float32_and_keeps_its_types(
    objective: dict[str, Any], blobs: Blobs, blob_bounds: Bounds
) -> None:
    found = {}
    for precision in ("float32", "bf16"):
        training = Training(epochs=15, batch_size=16, learning_rate=0.02, precision=precision)  # type: ignore[arg-type]
        model = MLP(hidden=(16,)).build((5,), 2, seed=0)
        trainer = build_trainer(
            model, Recipe(objective=objective, training=training), *blobs(60), bounds=blob_bounds, seed=0
        )
        trainer.run()
        found[precision] = trainer
    short, exact = found["bf16"], found["float32"]
    assert {p.dtype for p in short.model.parameters()} == {torch.float32}
    assert {t.dtype for s in short.optimizer.state.values() for t in s.values()} == {torch.float32}
    pairs = zip(short.model.parameters(), exact.model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    assert short.losses[-1] == pytest.approx(exact.losses[-1], abs=0.05)
    assert short.losses[-1] < 0.9 * short.losses[0]


def test_what_an_attack_may_do_is_not_rounded(
    blobs: Blobs, blob_bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perturbed records lie in the ball to float32, and the layers compute in bfloat16 in the attack too."""
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].register_forward_hook(lambda layer, given, out: seen.append((given[0].dtype, out.dtype)))
    recipe = Recipe(
        objective={"name": "pgd", "epsilon": 0.3, "steps": 2},
        training=Training(epochs=1, batch_size=50, precision="bf16"),
    )
    build_trainer(model, recipe, *blobs(50), bounds=blob_bounds, seed=0).run()
    assert seen == [(torch.float32, torch.bfloat16)] * 3
