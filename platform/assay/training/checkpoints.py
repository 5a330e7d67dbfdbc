"""Weights and training state as safetensors. No part of Assay unpickles a file."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from assay.errors import CheckpointError
from assay.training.foreign_files import describe_file
from assay.training.hooks.base import by_name
from assay.training.loop import Trainer
from assay.training.snapshots import put_back, snapshot, under, weights_of

_STATE = "assay"
_NETWORKS = "networks"
"""Key of the description with the names of all networks that have a name."""
_PARTS = ("progress", "hooks", "next_by")
"""Keys of the description of a trainer's state."""


def to_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """Returns tensors with a description as the content of a safetensors file.

    Args:
        tensors: by name.
        about: JSON-able description.

    Returns:
        The content of the file.
    """
    # Cloned, because safetensors refuses tensors that share memory.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save_tensors(plain, metadata={_STATE: json.dumps(about)})


def from_bytes(content: bytes, source: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads tensors and their description from the content of a safetensors file.

    Args:
        content: of the file.
        source: name of the file, for errors.

    Returns:
        The tensors by name, and the description; empty if the file has none.

    Raises:
        CheckpointError: the content is not safetensors.
    """
    try:
        tensors = load_tensors(content)
    except (SafetensorError, ValueError) as error:
        hint = describe_file(content, source) or f"{error}; save model.state_dict() with safetensors.torch.save_file"
        raise CheckpointError(
            f"weights {source!r} are not safetensors: {hint}", setting="weights", given=source, allowed="safetensors"
        ) from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, json.loads(header.get("__metadata__", {}).get(_STATE, "{}"))


def networks_to_bytes(networks: Mapping[str, Mapping[str, Tensor]], about: Mapping[str, Any]) -> bytes:
    """Returns the weights of one or several networks as one artefact.

    Args:
        networks: tensors of each network by its name. The network without a name belongs to all clients that have none
            of their own; a recipe without personalisation has only this one.
        about: JSON-able description.

    Returns:
        The content of a safetensors file.
    """
    others = sorted(networks.keys() - {""})
    # By number: a client's name may hold whatever stands between name and tensor.
    tensors = dict(networks.get("", {}))
    tensors |= {f"{place}/{key}": tensor for place, name in enumerate(others) for key, tensor in networks[name].items()}
    return to_bytes(tensors, {**about, _NETWORKS: others} if others else about)


def networks_from_bytes(content: bytes, source: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Reads the weights of one or several networks from an artefact.

    Args:
        content: as ``networks_to_bytes`` returned it.
        source: name of the file, for errors.

    Returns:
        The tensors of each network by its name (a file with one network gives one, without a name), and the
        description.

    Raises:
        CheckpointError: the content is not safetensors.
    """
    tensors, about = from_bytes(content, source)
    networks: dict[str, dict[str, Tensor]] = {"": {}}
    for place, name in enumerate(about.pop(_NETWORKS, ())):
        keys = [key for key in tensors if key.startswith(f"{place}/")]
        networks[name] = {key.removeprefix(f"{place}/"): tensors.pop(key) for key in keys}
    networks[""] = tensors
    return networks, about


def is_whole(content: bytes) -> bool:
    """Returns whether a file begins as safetensors do and holds as many bytes as its header says.

    Args:
        content: of the file.
    """
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8:
        return False
    try:
        header = json.loads(content[8 : 8 + length])
        ends = [about["data_offsets"][1] for name, about in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return 8 + length + max(ends, default=0) == len(content)


def artefact_of(content: bytes) -> str:
    """Returns the hash that names a checkpoint: 20 hexadecimal digits.

    It covers the training log too, so two trainings of one trial have two names.

    Args:
        content: of the checkpoint file.

    Returns:
        The first 20 digits of its SHA-256.
    """
    return hashlib.sha256(content).hexdigest()[:20]


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads weights into a model of the same names, shapes and kinds of number.

    All names may have one prefix that the model's names lack, or lack one that these have, such as ``module.`` of
    DataParallel or ``_orig_mod.`` of torch.compile.

    Args:
        model: changed in place.
        tensors: weights by name.
        source: name of the file, for errors.

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
    """Returns why a tensor cannot replace another; empty if it can.

    Integers in place of floating-point weights are refused: they are quantised or damaged, and a cast would change the
    model.
    """
    if given.shape != wanted.shape:
        return f"has shape {tuple(given.shape)}, the model wants {tuple(wanted.shape)}"
    kinds = [(tensor.is_floating_point(), tensor.is_complex()) for tensor in (given, wanted)]
    if kinds[0] != kinds[1]:
        names = [str(tensor.dtype).removeprefix("torch.") for tensor in (given, wanted)]
        return f"holds {names[0]}, the model wants {names[1]}"
    return ""


def _without_prefix(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Returns the tensors under the model's names, where one prefix of all names is the only difference."""
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
    """Reads weights from a safetensors file.

    Args:
        path: of the file.

    Returns:
        The tensors by name.

    Raises:
        CheckpointError: there is no such file, or it is not safetensors.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"weights file {path!r} does not exist", setting="weights", given=path, allowed="a file")
    return from_bytes(Path(path).read_bytes(), path)[0]


def trainer_state(trainer: Trainer, *, next_by: int | None = None) -> bytes:
    """Returns all that a trainer needs to resume, at any step: safetensors with a JSON-able description.

    No random state is stored: random numbers depend on the seed and the step, and so does the place within an epoch's
    order of records. With ``noise: entropy`` the seed is stored nowhere; see ``restore_trainer``. Each hook's state is
    stored under its name: tensors as ``hooks.NAME.…``, the rest in ``hooks`` of the description.

    Args:
        trainer: between two steps.
        next_by: step by which the next state is stored at the latest; the last step by default. It says how many steps
            may be lost, for the account of a private training that continues with other random numbers.

    Returns:
        The content of a safetensors file.
    """
    tensors = snapshot(trainer.model, trainer.optimizer)
    progress_tensors, progress = trainer.state()
    tensors |= {f"progress.{key}": tensor for key, tensor in progress_tensors.items()}
    next_by = trainer.total_steps if next_by is None else min(next_by, trainer.total_steps)
    about: dict[str, Any] = {"progress": progress, "hooks": {}, "next_by": next_by}
    for name, hook in by_name(trainer.hooks).items():
        hook_tensors, about["hooks"][name] = hook.state()
        tensors |= {f"hooks.{name}.{key}": tensor for key, tensor in hook_tensors.items()}
    return to_bytes(tensors, about)


def restore_trainer(trainer: Trainer, content: bytes) -> None:
    """Restores the stored state in a fresh trainer of the same recipe with the same hooks, of any number of workers.

    Which steps count as spent: all that lead to the weights, each once. A step that was lost after the state was stored
    is taken again. With the same random numbers (a seed, or the entropy that the trainer before drew) it is the same
    step with the same noise, so it releases nothing more. With other random numbers it is a second noisy answer about
    the records. Nobody may have seen the first one, but how the training failed may depend on it, so all steps that may
    have been lost are counted once more: up to the one by which the next state was due.

    States of earlier versions cannot be read; such a training must start again.

    Args:
        trainer: has taken no step.
        content: what ``trainer_state`` returned.

    Raises:
        CheckpointError: the content is no state of a training, or that of another model or of other hooks.
    """
    tensors, about = from_bytes(content, "training state")
    if not about.keys() >= {*_PARTS}:
        reason = "the training state holds weights only, or is of another version: it is no checkpoint of this training"
        raise CheckpointError(reason, setting="training state", allowed="a checkpoint of a training run")
    hooks = by_name(trainer.hooks)
    if hooks.keys() != about["hooks"].keys():
        raise CheckpointError(
            f"the training state is of a training with the hooks {_listed(about['hooks'])}, and this one has "
            f"{_listed(hooks)}: go on with the same recipe and the same hooks",
            setting="training state",
            given=sorted(about["hooks"]),
            allowed=sorted(hooks),
        )
    load_weights(trainer.model, weights_of(tensors), "training state")
    put_back(trainer.model, trainer.optimizer, tensors)
    for name, hook in hooks.items():
        hook.restore(under(f"hooks.{name}", tensors), about["hooks"][name])
    progress = about["progress"]
    lost = 0 if trainer.mechanism is None else about["next_by"] - progress["step"]
    trainer.restore(under("progress", tensors), progress, lost=lost)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
