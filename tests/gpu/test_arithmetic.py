"""A GPU computes in whole float32 wherever a model is judged, and repeats itself everywhere."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.splits import Split
from assay.devices import repeatable
from assay.evaluations.subject import Subject
from assay.models.lstm import LSTM
from assay.models.outputs import TwoLogits, to_logits
from assay.models.resnet import Basic, ResNet
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.study.measure import ask
from assay.training.build import build_trainer
from assay.training.log import TrainingLog
from tests.gpu.devices import CLASSES, DEVICE, UNIT, digits, network, records, trained

Flags = tuple[str, str, bool]


def flags() -> Flags:
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision, cudnn.deterministic


class Listens(nn.Module):
    """Notes how the GPU is set whenever it is asked, in a list that all copies share."""

    def __init__(self, inner: nn.Module, heard: list[tuple[bool, Flags]]) -> None:
        super().__init__()
        self.inner = inner
        self.heard = heard

    def __deepcopy__(self, memo: dict[int, object]) -> "Listens":
        return Listens(copy.deepcopy(self.inner, memo), self.heard)

    def forward(self, x: Tensor) -> Tensor:
        self.heard.append((self.training, flags()))
        return self.inner(x)


EVALUATIONS = (
    "accuracy",
    {"name": "robustness", "records": 20, "epsilons": [0, 0.1], "steps": 2},
    {"name": "smoothing", "sigma": 0.25, "samples": 20, "judging_samples": 20, "attack_steps": 1, "records": 10},
    {"name": "lira", "shadows": 4},
    {"name": "certificates", "records": 10},
    {"name": "explanations", "records": 10, "measured": 2, "shap_background": 4, "points": 4, "draws": 50},
    "membership",
)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="the CPU has no such settings")
def test_a_model_is_judged_in_whole_float32_and_trained_as_torch_trains() -> None:
    heard: list[tuple[bool, Flags]] = []
    rows, before = np.arange(120), flags()

    def train(rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
        x, y = (torch.from_numpy(values[rows]).to(DEVICE) for values in (digits().x, digits().y))
        model = Listens(network("cnn"), heard).to(DEVICE)
        asked = Recipe(training=Training(epochs=1))
        build_trainer(model, asked, x, y, bounds=UNIT, seed=0, classes=CLASSES).run()
        return model

    subject = Subject(
        model=train(rows[60:], "").eval(),
        dataset=digits(),
        split=Split(train=rows[60:], validation=rows[:0], calibration=rows[:0], test=rows[:60]),
        recipe=Recipe(),
        log=TrainingLog(seconds=1, worker_seconds=1, workers=1),
        seed=0,
        device=DEVICE,
        train=train,
    )
    ask(tuple(build("evaluation", one) for one in EVALUATIONS), subject)
    assert {said for training, said in heard if training} == {("tf32", "tf32", True)}
    assert {said for training, said in heard if not training} == {("ieee", "ieee", True)}
    assert flags() == before


@pytest.mark.parametrize(
    "model",
    [
        ResNet(Basic, (1, 1, 1, 1), 3, 2, norm="batch", stem="small", width=64),
        LSTM(hidden=64, dropout=0.0).build((40, 50), 2, seed=0),
    ],
    ids=["residual", "lstm"],
)
def test_answers_are_those_of_float32(model: nn.Module) -> None:
    """TF32 leaves eleven bits, and errors of some 3e-4."""
    shape = (3, 32, 32) if isinstance(model, ResNet) else (40, 50)
    x = torch.randn(32, *shape, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    with torch.no_grad(), repeatable(tf32=False):
        said = copy.deepcopy(model).eval().to(DEVICE)(x)
        exact = copy.deepcopy(model).double().eval().to(DEVICE)(x.double())
    assert float((said - exact).abs().max()) <= 3e-5 * float(exact.abs().max())


def test_a_network_that_its_factory_puts_on_the_gpu_is_read_there() -> None:
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid()).to(DEVICE)
    read = to_logits(model, (4,), 2, None)
    assert isinstance(read[-1], TwoLogits)  # type: ignore[index]
    x = torch.zeros(3, 4, device=DEVICE)
    assert torch.allclose(read.to(DEVICE)(x).softmax(1)[:, 1], model(x)[:, 0])


def test_bounds_lie_with_the_records_once_they_are_moved_there() -> None:
    x, _ = (one.to(DEVICE) for one in records("cnn", 4))
    moved = UNIT.on(x.device)
    assert moved.low.device == moved.high.device == x.device
    assert moved.on(x.device) is moved
    assert torch.equal(moved.clip(3 * x), UNIT.clip(3 * x))


def test_a_copy_of_a_trained_network_answers_alike_on_both() -> None:
    for name in ("mlp", "cnn", "lstm"):
        x, _ = records(name, 64)
        model = trained(name)
        with torch.no_grad(), repeatable(tf32=False):
            there = copy.deepcopy(model).to(DEVICE)(x.to(DEVICE)).cpu()
            torch.testing.assert_close(there, model(x), rtol=1e-4, atol=1e-4)
