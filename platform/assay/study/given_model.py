"""Makes a model that Assay did not train ready to be measured: its file or factory, its weights, a first answer."""

from typing import Any

import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.errors import CheckpointError
from assay.models.batches import places
from assay.models.black_box import WithoutGradient, why_no_gradient
from assay.models.outputs import single_output_range
from assay.training.checkpoints import load_weights, read_weights

_FILES = {".onnx": "onnx", ".skops": "skops"}
"""Endings of files that hold a whole model, and the name of the architecture that reads them."""


def architecture_of(model: str, output: str | None = None) -> dict[str, Any]:
    """Settings of the architecture that ``--model`` names: a file by its ending, otherwise an import path.

    Args:
        model: ``package.module:factory``, or a path that ends in ``.onnx`` or ``.skops``.
        output: ``logits`` or ``probabilities``; None to find out.
    """
    said = {} if output is None else {"output": output}
    for ending, name in _FILES.items():
        if model.lower().endswith(ending):
            return {"name": name, "path": model, **said}
    return {"name": "imported", "factory": model, **said}


def loaded(model: nn.Module, weights: str | None) -> dict[str, Tensor]:
    """The weights of a file, which the model has now; without a file those that it came with.

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
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(
            f"weights {weights!r} hold NaN or infinity in {', '.join(broken[:6])}", setting="weights", given=broken
        )
    return tensors


def answering(model: nn.Module, dataset: Dataset, device: torch.device, *, output: str | None) -> nn.Module:
    """The model after it has answered a few records; without its backward pass, where that fails.

    Args:
        model: on ``device``, in evaluation mode.
        output: what the user says that it returns; None where that was found out.

    Raises:
        CheckpointError: it cannot take the records, or what it returns cannot be read as logits.
    """
    x = torch.from_numpy(dataset.x[:2]).to(device)
    try:
        with torch.no_grad():
            logits = model(x)
    except Exception as error:  # whatever the user's network raises
        raise CheckpointError(
            f"the model cannot take records of shape {dataset.shape}: {error}", setting="model", given=dataset.shape
        ) from error
    _check_logits(logits, len(x), dataset.classes)
    if output is None:
        _check_single_output(model, dataset, device)
    why = why_no_gradient(model, x) if x.is_floating_point() else ""
    return WithoutGradient(model) if why else model


def _check_logits(logits: Any, records: int, classes: int) -> None:
    if not isinstance(logits, Tensor):
        raise CheckpointError(
            f"the model returned {type(logits).__name__}; it must return one tensor of logits",
            setting="model",
            given=type(logits).__name__,
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


def _check_single_output(model: nn.Module, dataset: Dataset, device: torch.device) -> None:
    """Refuse one output that was taken for a logit and looks like a probability: all of them between 0 and 1."""
    some = [dataset.x[place] for place in places(min(len(dataset), 2000), dataset.form.network_shape)]
    found = single_output_range(model, [torch.from_numpy(x).to(device) for x in some])
    if found is not None and found[0] >= 0 and found[1] <= 1:
        raise CheckpointError(
            f"the model returns one number a record, from {found[0]:.3g} to {found[1]:.3g}: that looks like a "
            "probability, and as a logit it would call every record positive; say --output probabilities, or --output "
            "logits to insist",
            setting="output",
            given=found,
            allowed=("logits", "probabilities"),
        )
