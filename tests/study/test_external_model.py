"""What ``--model`` names: a file that is read, an import path, or an error that says what it is instead."""

import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from assay.data.base import Dataset
from assay.errors import CheckpointError
from assay.models.files import estimator_network
from assay.study.external_model import architecture_of, loaded, with_logits
from tests.mistakes import refused


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.joblib", pickle.dumps([1]), "joblib or pickle"),
        ("m.pkl", pickle.dumps([1]), "joblib or pickle"),
        ("w.pt", pickle.dumps({"w": 1}), "torch.save"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
        ("m.txt", b"hello", "no file of a model"),
    ],
)
def test_a_file_that_is_no_model_is_named_by_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        architecture_of(str(path))
    assert (caught.value.setting, caught.value.given) == ("model", str(path))


@pytest.mark.parametrize(("model", "said"), [("package.factory", "no colon"), ("/nowhere/m.pkl", "no such file")])
def test_a_name_that_is_no_import_path_says_what_is_missing(model: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        architecture_of(model)
    assert (caught.value.setting, caught.value.given) == ("model", model)


def test_an_import_path_and_files_are_taken() -> None:
    assert architecture_of("package.module:factory", "logits")["factory"] == "package.module:factory"
    assert architecture_of("m.ONNX")["name"] == "onnx"


X = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32) * [1, 10, 100]
Y = (X[:, 0] > 0).astype(int)


def data(features: tuple[str, ...]) -> Dataset:
    """Records of which the first feature tells the class."""
    return Dataset(
        name="made",
        x=X.astype(np.float32),
        y=Y,
        class_names=("ok", "ill"),
        feature_names=features,
        low=X.min(0).astype(np.float32) - 1,
        high=X.max(0).astype(np.float32) + 1,
        units="units",
        epsilons=(0.1,),
    )


def on_columns(order: list[str], by_name: bool) -> LogisticRegression:
    """A classifier fitted on named columns in some order, of which ``a`` tells the class."""
    frame = pd.DataFrame(X, columns=["a", "b", "c"])[order]
    chosen = ColumnTransformer([("a", StandardScaler(), ["a"])], remainder="passthrough")
    return make_pipeline(*([chosen] if by_name else []), LogisticRegression(max_iter=2000)).fit(frame, Y)


def ready(network: nn.Module, dataset: Dataset) -> nn.Module:
    return with_logits(network.eval(), dataset, torch.device("cpu"), output=None)


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("order", [["a", "b", "c"], ["c", "b", "a"]])
def test_an_estimator_is_given_each_column_under_its_name(order: list[str], by_name: bool) -> None:
    network = estimator_network(on_columns(order, by_name), "f", (3,), 2, None)
    answer = ready(network, data(("a", "b", "c")))(torch.from_numpy(X.astype(np.float32)))
    assert (answer.argmax(1).numpy() == Y).mean() > 0.95


def test_decision_values_of_an_estimator_of_named_columns_are_two_logits() -> None:
    chosen = ColumnTransformer([("a", StandardScaler(), ["a"])])
    fitted = make_pipeline(chosen, LinearSVC()).fit(pd.DataFrame(X, columns=["a", "b", "c"]), Y)
    answer = ready(estimator_network(fitted, "f", (3,), 2, None), data(("a", "b", "c")))(torch.from_numpy(X).float())
    assert answer.shape == (60, 2) and (answer.argmax(1).numpy() == Y).mean() > 0.95


@pytest.mark.parametrize("features", [(), ("feature 0", "feature 1", "feature 2"), ("a", "b", "d")])
def test_an_estimator_of_other_columns_is_refused(features: tuple[str, ...]) -> None:
    network = estimator_network(on_columns(["a", "b", "c"], by_name=False), "f", (3,), 2, None)
    with refused(CheckpointError, "feature_names", list(features), ["a", "b", "c"]):
        ready(network, data(features))


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.bfloat16])
def test_a_network_of_another_precision_is_told_how_to_become_one_of_this(kind: torch.dtype) -> None:
    with refused(CheckpointError, "model", [str(kind).removeprefix("torch.")], ["float32"]):
        ready(nn.Linear(3, 2).to(kind), data(("a", "b", "c")))


def test_broken_weights_that_a_model_brings_are_told_as_such() -> None:
    network = nn.Linear(3, 2)
    nn.init.constant_(network.bias, float("nan"))
    with pytest.raises(CheckpointError) as caught:
        loaded(network, None)
    assert "None" not in str(caught.value) and caught.value.given == ["bias"]


def test_weights_that_are_infinite_as_the_model_holds_them_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "w.safetensors")
    save_file({"weight": torch.zeros(2, 3).double(), "bias": torch.full((2,), 1e300, dtype=torch.float64)}, path)
    with refused(CheckpointError, "weights", ["bias"]):
        loaded(nn.Linear(3, 2), path)


class Turned(nn.Module):
    """A network that does something to the answers of another."""

    def __init__(self, turn: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.layer, self.turn = nn.Linear(3, 2), turn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.turn(self.layer(x))


@pytest.mark.parametrize(
    ("turn", "kind"), [(lambda z: torch.complex(z, z), "complex64"), (lambda z: (9 * z).long(), "int64")]
)
def test_answers_that_are_no_floating_point_numbers_are_refused(turn: Callable[..., torch.Tensor], kind: str) -> None:
    with refused(CheckpointError, "model", kind, "floating-point numbers"):
        ready(Turned(turn), data(("a", "b", "c")))


def test_a_network_that_ends_the_program_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="ends the program"):
        ready(Turned(lambda z: sys.exit(0)), data(("a", "b", "c")))


class OfTwoRows(nn.Module):
    """A network that returns two rows whatever it is given, as one does that averages over the wrong axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:2, :2]


def test_a_network_whose_rows_do_not_follow_the_records_is_refused() -> None:
    with refused(CheckpointError, "model", (2, 2), (3, 2)):
        ready(OfTwoRows(), data(("a", "b", "c")))
