"""Models without a gradient: ONNX files, scikit-learn's estimators, and networks whose backward pass fails."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import CheckpointError, UserError
from assay.models.black_box import EstimatorNetwork, OnnxNetwork, WithoutGradient, why_no_gradient
from assay.registry import build

X = torch.rand(7, 3, generator=torch.Generator().manual_seed(0))


class Rounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([x.sum(1), -x.sum(1)], 1)


class Inferred(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return torch.stack([x.sum(1), -x.sum(1)], 1)


class Broken(nn.Module):
    """Its backward pass raises what no framework expects."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise KeyError("nothing leads back")

    def forward(self, x: Tensor) -> Tensor:
        return self.Function.apply(x)[:, :2]  # type: ignore[no-untyped-call]


class Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), 2)


@pytest.mark.parametrize("model", [Rounded(), Inferred(), Broken(), Constant()], ids=lambda m: type(m).__name__)
def test_a_missing_gradient_is_told(model: nn.Module) -> None:
    assert why_no_gradient(model, X) != ""


def test_a_gradient_that_is_there_is_found() -> None:
    assert why_no_gradient(nn.Linear(3, 2), X) == ""


@pytest.mark.parametrize("model", [Inferred(), Broken()], ids=lambda m: type(m).__name__)
def test_without_its_backward_pass_a_model_answers_the_same_and_raises_nothing(model: nn.Module) -> None:
    wrapped = WithoutGradient(model)
    point = X.clone().requires_grad_(True)
    logits = wrapped(point)
    assert torch.equal(logits, model(X).detach().clone())
    assert not logits.requires_grad
    assert not logits.is_inference()


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], str]:
    """A linear model as ONNX, of any number of records or of two at once."""
    folder = tmp_path_factory.mktemp("onnx")
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    weight, bias = (p.detach().numpy() for p in linear().parameters())

    def write(fixed: bool, inputs: int = 1) -> str:
        rows = 2 if fixed else "n"
        given = [helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, [rows, 3]) for i in range(inputs)]
        out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [rows, 2])
        held = [onnx.numpy_helper.from_array(weight.T.copy(), "w"), onnx.numpy_helper.from_array(bias, "b")]
        nodes = [helper.make_node("Gemm", ["x0", "w", "b"], ["out"])]
        graph = helper.make_graph(nodes, "linear", given, [out], held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path = folder / f"{fixed}-{inputs}.onnx"
        path.write_bytes(model.SerializeToString())
        return str(path)

    return write


@pytest.mark.parametrize("fixed", [False, True], ids=["any batch", "batches of two"])
def test_an_onnx_file_answers_as_the_network_that_it_came_from(onnx_file: Callable[..., str], fixed: bool) -> None:
    model = build("model", {"name": "onnx", "path": onnx_file(fixed)}).build((3,), 2, seed=0)  # type: ignore[attr-defined]
    with torch.no_grad():
        torch.testing.assert_close(model(X), linear()(X))
    assert why_no_gradient(model, X) != ""


def test_an_onnx_network_can_be_copied_and_sent_to_workers(onnx_file: Callable[..., str]) -> None:
    model = OnnxNetwork(onnx_file(False))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(X), model(X))


def test_what_is_no_onnx_or_has_two_inputs_is_refused(onnx_file: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    for path, given in ((str(tmp_path / "broken.onnx"), str), (str(tmp_path / "absent.onnx"), str)):
        with pytest.raises(CheckpointError) as caught:
            OnnxNetwork(path)
        assert (caught.value.setting, type(caught.value.given)) == ("model", given)
    with pytest.raises(CheckpointError) as caught:
        OnnxNetwork(onnx_file(False, inputs=2))
    assert (caught.value.given, caught.value.allowed) == (2, 1)


@pytest.fixture(scope="module")
def records() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(60, 3))
    return x, (x[:, 0] > 0).astype(int)


def test_an_estimator_answers_with_its_own_probabilities(records: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.linear_model import LogisticRegression

    from assay.models.files import estimator_network

    fitted = LogisticRegression().fit(*records)
    model = estimator_network(fitted, "a test", (3,), 2, None)
    expected = torch.from_numpy(fitted.predict_proba(X.numpy().astype(float))).float()
    torch.testing.assert_close(model(X).softmax(1), expected)


def test_decision_values_are_logits(records: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.svm import LinearSVC

    from assay.models.files import estimator_network

    fitted = LinearSVC().fit(*records)
    model = estimator_network(fitted, "a test", (3,), 2, None)
    assert model(X).argmax(1).tolist() == fitted.predict(X.numpy().astype(float)).tolist()


def test_an_estimator_that_is_not_fitted_or_has_other_labels_is_refused(
    records: tuple[np.ndarray, np.ndarray],
) -> None:
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(UserError) as caught:
        EstimatorNetwork(LogisticRegression(), "a test")
    assert caught.value.given == "LogisticRegression"
    named = LogisticRegression().fit(records[0], np.where(records[1] == 1, "ill", "well"))
    with pytest.raises(UserError) as caught:
        EstimatorNetwork(named, "a test")
    assert caught.value.given == ["ill", "well"]


def test_a_skops_file_is_read_and_types_it_does_not_trust_are_refused_by_name(
    records: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import FunctionTransformer

    fitted = LogisticRegression().fit(*records)
    skops.dump(fitted, tmp_path / "fitted.skops")
    model = build("model", {"name": "skops", "path": str(tmp_path / "fitted.skops")}).build((3,), 2, seed=0)  # type: ignore[attr-defined]
    assert model(X).argmax(1).tolist() == fitted.predict(X.numpy().astype(float)).tolist()
    skops.dump(FunctionTransformer(np.save), tmp_path / "strange.skops")
    strange = build("model", {"name": "skops", "path": str(tmp_path / "strange.skops")})
    with pytest.raises(CheckpointError) as caught:
        strange.build((3,), 2, seed=0)  # type: ignore[attr-defined]
    assert any("save" in name for name in caught.value.given)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [False, True], ["0", "1"]])
def test_labels_of_an_estimator_may_be_real_numbers_or_truth_values(
    records: tuple[np.ndarray, np.ndarray], labels: list[Any]
) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = records
    fitted = LogisticRegression().fit(x, np.array(labels)[y])
    assert torch.equal(
        EstimatorNetwork(fitted, "it")(torch.from_numpy(x)).argmax(1),
        torch.from_numpy(fitted.predict_proba(x).argmax(1)),
    )


@pytest.mark.parametrize("labels", [[1.0, 2.0], ["ill", "well"]])
def test_other_labels_of_an_estimator_are_refused(records: tuple[np.ndarray, np.ndarray], labels: list[Any]) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = records
    with pytest.raises(UserError) as caught:
        EstimatorNetwork(LogisticRegression().fit(x, np.array(labels)[y]), "it")
    assert (caught.value.setting, caught.value.allowed) == ("classes_", [0, 1])
