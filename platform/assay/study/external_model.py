"""Prepares a model that Assay did not train: finds its file or factory, loads its weights, and checks its output."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.errors import CheckpointError
from assay.models.batches import places
from assay.models.black_box import EstimatorNetwork, WithoutGradient, why_no_gradient
from assay.models.outputs import are_distributions, lie_in_unit_interval, network_outputs
from assay.training.checkpoints import load_weights, read_weights
from assay.training.foreign_files import describe_file

_FACTORY = re.compile(r"[\w.]+:[\w.]+")
_FILES = {".onnx": "onnx", ".skops": "skops"}
"""Endings of files that hold a whole model, and the name of the architecture that reads them."""


def architecture_of(model: str, output: str | None = None) -> dict[str, Any]:
    """Returns the settings of the architecture that ``--model`` names: a file by its ending, otherwise an import path.

    Args:
        model: ``package.module:factory``, or a path that ends in ``.onnx`` or ``.skops``.
        output: ``logits`` or ``probabilities``; None to find out.

    Returns:
        Settings of a registered model.

    Raises:
        CheckpointError: it is neither.
    """
    settings = {} if output is None else {"output": output}
    for ending, name in _FILES.items():
        if model.lower().endswith(ending):
            return {"name": name, "path": model, **settings}
    if not _FACTORY.fullmatch(model):
        raise _no_model(model)
    return {"name": "imported", "factory": model, **settings}


def _no_model(model: str) -> CheckpointError:
    """Returns the error for a ``--model`` that is neither an import path nor a readable file."""
    path = Path(model).expanduser()
    allowed = ("package.module:factory", *_FILES)
    if path.is_file():
        hint = describe_file(path.read_bytes(), model)
        why = f": {hint}" if hint else ", and no file of a model that is read"
    elif re.fullmatch(r"[\w.]+", model):
        why = " has no colon between the module and the function that makes the model"
    else:
        why = " is no import path, and there is no such file"
    return CheckpointError(
        f"--model {model!r}{why}; give package.module:factory, a callable that returns the model, or an .onnx or "
        ".skops file",
        setting="model",
        given=model,
        allowed=allowed,
    )


def loaded(model: nn.Module, weights: str | None) -> dict[str, Tensor]:
    """Loads weights from a file into a model; without a file, keeps those that the model has.

    Args:
        model: is changed in place.
        weights: path of a safetensors file, or None.

    Returns:
        The weights by name, as they were read.

    Raises:
        CheckpointError: they do not fit the model, or hold NaN or infinity.
    """
    if weights is not None and not model.state_dict():
        raise CheckpointError(
            f"--weights {weights!r}: this model holds its weights itself (ONNX, scikit-learn); leave --weights out",
            setting="weights",
            given=weights,
        )
    tensors = dict(model.state_dict()) if weights is None else read_weights(weights)
    if weights is not None:
        load_weights(model, tensors, weights)
    # As the model holds them: what a file of 64 bits holds may be infinite in 32.
    broken = [name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())]
    if broken:
        source = "the weights that the model brings" if weights is None else f"weights {weights!r}"
        raise CheckpointError(
            f"{source} hold NaN or infinity in {', '.join(broken[:6])}; give those of a training that went well",
            setting="weights",
            given=broken,
        )
    return tensors


def with_logits(model: nn.Module, dataset: Dataset, device: torch.device, *, output: str | None) -> nn.Module:
    """Runs the model on a few records and checks that it returns logits.

    Args:
        model: on ``device``, in evaluation mode.
        dataset: whose records it must take.
        device: of the model.
        output: what the user says that it returns; None where that was found out.

    Returns:
        The model; wrapped so that it has no backward pass, where its own fails.

    Raises:
        CheckpointError: it cannot take the records, or what it returns cannot be read as logits.
    """
    for part in model.modules():
        if isinstance(part, EstimatorNetwork):
            part.name_columns(dataset.feature_names)
    for number in (3, 2):  # of two numbers, for one may be a fixed number of rows
        x = torch.from_numpy(dataset.x[:number]).to(device)
        _check_logits(_first_answer(model, x), len(x), dataset.classes)
    _check_reading(model, dataset, device, output)
    why = why_no_gradient(model, x) if x.is_floating_point() else ""
    return WithoutGradient(model) if why else model


def _first_answer(model: nn.Module, x: Tensor) -> Any:
    """Returns the output of a model for a few records.

    Raises:
        CheckpointError: the model raises an exception of any kind.
    """
    try:
        with torch.no_grad():
            return model(x)
    except (Exception, SystemExit) as error:  # whatever the user's network raises
        shape = tuple(x.shape[1:])
        types = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
        other_types = sorted(types - {"float32"})
        fix = f"; its weights are {', '.join(other_types)} and records are float32: call .float() on it in the factory"
        raise CheckpointError(
            f"the model cannot take records of shape {shape}: {_message(error)}{fix if other_types else ''}",
            setting="model",
            given=other_types or shape,
            allowed=["float32"] if other_types else None,
        ) from error


def _message(error: BaseException) -> str:
    """Returns the message of an error; of a SystemExit, that it ends the program."""
    return f"it ends the program (SystemExit {error})" if isinstance(error, SystemExit) else str(error)


def _check_logits(logits: Any, records: int, classes: int) -> None:
    if not isinstance(logits, Tensor):
        raise CheckpointError(
            f"the model returned {type(logits).__name__}; it must return one tensor of logits",
            setting="model",
            given=type(logits).__name__,
        )
    if not logits.is_floating_point():
        kind = str(logits.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"the model returned numbers of type {kind}; logits must be floating-point numbers, not answers or counts",
            setting="model",
            given=kind,
            allowed="floating-point numbers",
        )
    shape = tuple(logits.shape)
    if len(shape) != 2 or shape[0] != records:
        raise CheckpointError(
            f"the model returned shape {shape} for {records} records; logits must be ({records}, classes)",
            setting="model",
            given=shape,
            allowed=(records, classes),
        )
    if shape[1] < classes:
        raise CheckpointError(
            f"the model has {shape[1]} classes, the data {classes}", setting="model", given=shape[1], allowed=classes
        )
    if shape[1] > classes == 2:
        raise CheckpointError(
            f"the model has {shape[1]} classes and the data 2: which of the {shape[1]} is the class to detect is "
            f"unknown, so sensitivity, specificity and AUROC would be wrong; give the data the names of all "
            f"{shape[1]} classes (class_names), in the order of the outputs and with the labels in it, or give a model "
            "of two outputs",
            setting="class_names",
            given=shape[1],
            allowed=classes,
        )


def _check_reading(model: nn.Module, dataset: Dataset, device: torch.device, output: str | None) -> None:
    """Refuses outputs that look like probabilities and were read as logits by default, or the other way round."""
    some = [dataset.x[place] for place in places(min(len(dataset), 2000), dataset.form.network_shape)]
    outputs, as_probabilities = network_outputs(model, [torch.from_numpy(x).to(device) for x in some])
    least, most = float(outputs.min()), float(outputs.max())
    told = f"the model returns {outputs.shape[1]} number{'s' * (outputs.shape[1] > 1)} a record, from {least:.3g} to "
    told += f"{most:.3g}"
    if as_probabilities and not are_distributions(outputs):
        sums = "" if outputs.shape[1] == 1 else ", and those of a record must sum to 1"
        raise _misread(
            f"{told}: they cannot be read as probabilities, which lie between 0 and 1{sums}; say --output logits, or "
            "give a model that returns probabilities",
            (least, most),
        )
    if as_probabilities or output is not None or not lie_in_unit_interval(outputs):
        return
    if are_distributions(outputs):
        raise _misread(
            f"{told}{', which sum to 1' * (outputs.shape[1] > 1)}: that looks like probabilities, and taken for logits "
            "they would be wrong (one would call every record positive); say --output probabilities, or --output "
            "logits to insist",
            (least, most),
        )
    if least < most:
        raise _misread(
            f"{told}, which do not sum to 1: that looks like a probability for each class on its own, behind a "
            "sigmoid; give the model without its last sigmoid, or say --output logits to insist",
            (least, most),
        )


def _misread(message: str, given: tuple[float, float]) -> CheckpointError:
    return CheckpointError(message, setting="output", given=given, allowed=("logits", "probabilities"))
