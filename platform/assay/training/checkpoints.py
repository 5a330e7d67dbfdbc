"""Weights and training state as safetensors: nothing here, or anywhere in Assay, unpickles a file."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from assay.errors import CheckpointError
from assay.training.averaging import Averaging
from assay.training.foreign_files import described
from assay.training.lookout import Lookout
from assay.training.loop import Trainer
from assay.training.snapshots import put_back, snapshot, under, weights_of
from assay.training.stopping import Stopping

_STATE = "assay"


def to_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Tensors by name, with a JSON-able description of them."""
    # A clone for each: safetensors refuses tensors that share memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save_tensors(plain, metadata={_STATE: json.dumps(about)})


def from_bytes(content: bytes, source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description; ``source`` names the file in errors.

    Raises:
        CheckpointError: the content is not safetensors.
    """
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError) as error:
        hint = described(content, source) or f"{error}; save model.state_dict() with safetensors.torch.save_file"
        raise CheckpointError(
            f"weights {source!r} are not safetensors: {hint}", setting="weights", given=source, allowed="safetensors"
        ) from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, json.loads(header.get("__metadata__", {}).get(_STATE, "{}"))


def artefact_of(content: bytes) -> str:
    """Hash that names a checkpoint. It covers the log beside the weights: two trainings of a trial are two."""
    return hashlib.sha256(content).hexdigest()[:20]


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put weights into a model of the same names, shapes and kinds of number.

    Names may all begin with a prefix that the model's lack, such as ``module.`` of DataParallel or ``_orig_mod.`` of
    torch.compile, or the other way round.

    Raises:
        CheckpointError: names, shapes or kinds of number differ; the message lists them.
    """
    expected = model.state_dict()
    tensors = _without_prefix(tensors, expected)
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    for name in expected:
        if name in tensors and (why := _misfit(tensors[name], expected[name])):
            problems.append(f"{name} {why}")
    if problems:
        more = f" and {len(problems) - 6} more" if len(problems) > 6 else ""
        raise CheckpointError(
            f"weights {source!r} do not fit the model: {'; '.join(problems[:6])}{more}",
            setting="weights",
            given=problems,
        )
    model.load_state_dict(dict(tensors))


def _misfit(given: Tensor, wanted: Tensor) -> str:
    """Why a tensor cannot take another's place; empty where it can.

    Integers in the place of floating-point weights are quantised or broken: cast, they would answer something else.
    """
    if given.shape != wanted.shape:
        return f"has shape {tuple(given.shape)}, the model wants {tuple(wanted.shape)}"
    kinds = [(one.is_floating_point(), one.is_complex()) for one in (given, wanted)]
    if kinds[0] != kinds[1]:
        names = [str(one.dtype).removeprefix("torch.") for one in (given, wanted)]
        return f"holds {names[0]}, the model wants {names[1]}"
    return ""


def _without_prefix(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The same tensors under the model's names, where one prefix of all names is the only difference."""
    if not expected or set(tensors) == set(expected):
        return tensors
    first = next(iter(expected))
    for name in tensors:
        if name.endswith(f".{first}"):
            prefix = name.removesuffix(first)
            if {prefix + one for one in expected} == set(tensors):
                return {one: tensors[prefix + one] for one in expected}
        if first.endswith(f".{name}"):
            prefix = first.removesuffix(name)
            if {prefix + one for one in tensors} == set(expected):
                return {prefix + one: tensor for one, tensor in tensors.items()}
    return tensors


def read_weights(path: str) -> dict[str, Tensor]:
    """Weights from a safetensors file.

    Raises:
        CheckpointError: there is no such file, or it is something else.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"weights file {path!r} does not exist", setting="weights", given=path, allowed="a file")
    return from_bytes(Path(path).read_bytes(), path)[0]


def trainer_state(trainer: Trainer) -> bytes:
    """All that a trainer needs to go on where it stopped.

    Randomness needs nothing: it depends on the seed and the step, and with ``noise: entropy`` on a seed that nothing
    stores, so that the rest of the training draws anew.
    """
    tensors = snapshot(trainer.model, trainer.optimizer)
    about: dict[str, Any] = {"step": trainer.step, "seconds": trainer.seconds, "losses": trainer.losses}
    for owner, guard in _guards(trainer).items():
        kept, about[owner] = guard.state()
        tensors |= {f"{owner}.{name}": tensor for name, tensor in kept.items()}
    return to_bytes(tensors, about)


def restore_trainer(trainer: Trainer, content: bytes) -> None:
    """Bring a fresh trainer of the same recipe to the stored state."""
    tensors, about = from_bytes(content, "training state")
    if "step" not in about:
        said = "the training state holds weights only: it is no checkpoint of a training run"
        raise CheckpointError(said, setting="training state", allowed="a checkpoint of a training run")
    load_weights(trainer.model, weights_of(tensors), "training state")
    put_back(trainer.model, trainer.optimizer, tensors)
    for owner, guard in _guards(trainer).items():
        guard.restore(under(owner, tensors), about[owner])
    trainer.step, trainer.seconds, trainer.losses = about["step"], about["seconds"], list(about["losses"])


def _guards(trainer: Trainer) -> dict[str, Lookout | Stopping | Averaging]:
    """What looks at the weights on the way, and keeps some."""
    guards = {"lookout": trainer.lookout, "stopping": trainer.stopping, "averaging": trainer.averaging}
    return {owner: guard for owner, guard in guards.items() if guard is not None}
