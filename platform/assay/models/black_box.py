"""Models without a gradient: an ONNX file, a scikit-learn estimator, or a network whose backward pass fails.

Each is a ``torch.nn.Module`` from records to outputs that computes without autograd. Gradient-based attacks detect
this; attacks that only query the model, and all measures, work as on any other model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import CheckpointError, UserError
from assay.models.recurrent import differentiable


class WithoutGradient(nn.Module):
    """Wraps a network whose backward pass cannot be used, as a function of its inputs alone.

    Args:
        network: from records to outputs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = self.network(x.detach())
        # A tensor from inference mode cannot be used in later computations with autograd; a copy can. Interval bounds
        # pass an interval instead of a tensor.
        return outputs.clone() if isinstance(outputs, Tensor) else outputs


class OnnxNetwork(nn.Module):
    """An ONNX graph from one input of records to outputs (n, classes), run by ONNX Runtime on the CPU.

    Args:
        path: the ``.onnx`` file.

    Raises:
        CheckpointError: the file cannot be read, or takes more than one input.
        UserError: ONNX Runtime is not installed.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise CheckpointError(f"ONNX file {path!r} does not exist", setting="model", given=path)
        self.path = path
        self._content = Path(path).read_bytes()
        self._open()

    def _open(self) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UserError(
                f"{self.path!r} is an ONNX file, and ONNX Runtime is not installed: pip install 'assay[onnx]'",
                setting="model",
                given=self.path,
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = onnxruntime.InferenceSession(self._content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime may raise anything on a damaged file
            raise CheckpointError(
                f"{self.path!r} cannot be read as ONNX: {error}", setting="model", given=self.path
            ) from None
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise CheckpointError(
                f"{self.path!r} takes {len(inputs)} inputs ({', '.join(i.name for i in inputs)}); Assay gives a model "
                "one array of records: export it with a single input",
                setting="model",
                given=len(inputs),
                allowed=1,
            )
        self._session, self._input = session, inputs[0]
        self._output = _scores(session.get_outputs(), self.path)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs (n, classes), in the type of the records."""
        given = x.detach().cpu().numpy().astype(_numpy_type(self._input.type))
        fixed = self._input.shape[0] if self._input.shape and isinstance(self._input.shape[0], int) else None
        outputs = [self._run(part) for part in _batches(given, fixed)]
        return torch.from_numpy(np.concatenate(outputs)[: len(given)]).to(x)

    def _run(self, records: np.ndarray) -> np.ndarray:
        return np.asarray(self._session.run([self._output], {self._input.name: records})[0])

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state without the session, which cannot be copied; the file's content can."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_session", "_input")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()


class EstimatorNetwork(nn.Module):
    """Wraps a fitted scikit-learn classifier, from records to probabilities, or to decision values where it has none.

    Args:
        estimator: the classifier.
        source: its origin, for errors.

    Raises:
        UserError: it is not fitted, or its classes are not 0, 1, … like the labels of the data.
    """

    def __init__(self, estimator: Any, source: str) -> None:
        super().__init__()
        self.estimator = estimator
        classes = getattr(estimator, "classes_", None)
        if classes is None or list(np.shape(classes)) != [len(classes)]:
            raise UserError(
                f"{source} returned a {type(estimator).__name__} that is no fitted classifier of one label (it has no "
                "classes_); fit it before, or load a fitted one",
                setting="model",
                given=type(estimator).__name__,
            )
        if not _are_labels(classes):
            raise UserError(
                f"{source}: its classes are {list(classes)[:8]}, and Assay's labels are 0 to {len(classes) - 1}: fit "
                "it on those numbers",
                setting="classes_",
                given=[str(one) for one in classes[:8]],
                allowed=list(range(len(classes))),
            )
        self.returns_probabilities = hasattr(estimator, "predict_proba")
        self.columns = self._fitted

    def name_columns(self, features: Sequence[str]) -> None:
        """Passes each feature to the estimator under its name from now on, if it was fitted on named columns.

        Args:
            features: names of the inputs of a record.

        Raises:
            CheckpointError: they are not the columns on which it was fitted, so that some would be confused.
        """
        fitted = self._fitted
        if not fitted:
            return
        if sorted(fitted) != sorted(features):
            absent = [name for name in fitted if name not in features] or fitted
            raise CheckpointError(
                f"the estimator was fitted on the columns {', '.join(fitted[:8])}, and the features of the data are "
                f"{', '.join(features[:8]) or 'without names'}: {absent[0]!r} is not among them, so some would be "
                "taken for others; give the data these names (feature_names, in the order of their values), or fit the "
                "estimator on these data",
                setting="feature_names",
                given=list(features),
                allowed=list(fitted),
            )
        self.columns = tuple(features)

    @property
    def _fitted(self) -> tuple[str, ...]:
        """Names of the columns on which it was fitted, in their order; empty for plain arrays."""
        return tuple(str(name) for name in getattr(self.estimator, "feature_names_in_", ()))

    def forward(self, x: Tensor) -> Tensor:
        """Returns probabilities (n, classes), or decision values (n, 1) or (n, classes), in the type of the records."""
        records: Any = x.detach().cpu().double().flatten(1).numpy()
        if self.columns:
            import pandas as pd

            records = pd.DataFrame(records, columns=list(self.columns))[list(self._fitted)]
        ask = self.estimator.predict_proba if self.returns_probabilities else self.estimator.decision_function
        return torch.from_numpy(np.asarray(ask(records))).to(x)


def why_no_gradient(model: nn.Module, x: Tensor) -> str:
    """Returns why a model's outputs have no gradient with respect to its records; empty if they have one.

    Args:
        model: from records to logits, in evaluation mode.
        x: (n, ...) a few records, in floating point.

    Returns:
        The reason, as a sentence, or an empty string.
    """
    point = x.detach().clone().requires_grad_(True)
    try:
        with torch.enable_grad(), differentiable(model):
            logits = model(point)
            if logits.is_inference():
                return "the model computes in inference mode, which keeps no gradient"
            if not logits.requires_grad:
                return "nothing in the computation leads back from the answers to a record (no_grad, NumPy, ONNX)"
            (gradient,) = torch.autograd.grad(logits.sum(), point, allow_unused=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # the user's own backward pass may raise anything
        return f"the model's backward pass fails: {type(error).__name__}: {error}"
    return "no path of the model's computation leads back from its answers to the record" if gradient is None else ""


def is_estimator(made: Any) -> bool:
    """Returns whether an object is a classifier by scikit-learn's convention.

    Args:
        made: any object.

    Returns:
        True if it has ``predict_proba`` or ``decision_function``.
    """
    return hasattr(made, "predict_proba") or hasattr(made, "decision_function")


def _are_labels(classes: Any) -> bool:
    """Returns whether the classes of an estimator are 0, 1, …, as integers, real numbers, truth values or text."""
    array = np.asarray(classes)
    if array.dtype.kind in "biuf":
        return bool(np.array_equal(array.astype(np.float64), np.arange(len(array))))
    return [str(one) for one in classes] == [str(number) for number in range(len(array))]


def _scores(outputs: list[Any], path: str) -> str:
    """Returns the name of the output with one number a class; classifiers from skl2onnx return labels beside it."""
    floats = [output for output in outputs if output.type in ("tensor(float)", "tensor(double)", "tensor(float16)")]
    if len(floats) != 1:
        shown = ", ".join(f"{output.name}: {output.type}" for output in outputs)
        raise CheckpointError(
            f"{path!r} returns {shown}; Assay needs one tensor of logits or probabilities (n, classes). A classifier "
            "of scikit-learn is exported with options={'zipmap': False}",
            setting="model",
            given=shown,
        )
    return str(floats[0].name)


def _numpy_type(onnx_type: str) -> Any:
    return {"tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64}.get(
        onnx_type, np.float32
    )


def _batches(records: np.ndarray, size: int | None) -> list[np.ndarray]:
    """Returns the records in batches of a graph's fixed size, the last one filled up.

    Without a fixed size they are one batch.
    """
    if size is None:
        return [records]
    missing = -len(records) % size
    filled = np.concatenate([records, np.repeat(records[-1:], missing, axis=0)]) if missing else records
    return [filled[start : start + size] for start in range(0, len(filled), size)]
