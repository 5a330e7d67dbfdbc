"""Weights and training state as safetensors: nothing here, or anywhere in Assay, unpickles a file."""

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
"""In the description: names of the networks beside the one that has none."""
_COUNTED = ("step", "seconds", "losses", "rollbacks", "stopped")
"""What a trainer counts beside its tensors and hooks."""


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
        hint = describe_file(content, source) or f"{error}; save model.state_dict() with safetensors.torch.save_file"
        raise CheckpointError(
            f"weights {source!r} are not safetensors: {hint}", setting="weights", given=source, allowed="safetensors"
        ) from None
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, json.loads(header.get("__metadata__", {}).get(_STATE, "{}"))


def networks_to_bytes(networks: Mapping[str, Mapping[str, Tensor]], about: Mapping[str, Any]) -> bytes:
    """The weights of one or several networks, as one artefact.

    Args:
        networks: tensors of each network by its name. The one without a name is what a client without a network of its
            own answers with: of a recipe that is not personalised it is the only one.
        about: JSON-able description.
    """
    others = sorted(networks.keys() - {""})
    tensors = dict(networks.get("", {}))
    tensors |= {f"{name}/{key}": tensor for name in others for key, tensor in networks[name].items()}
    return to_bytes(tensors, {**about, _NETWORKS: others} if others else about)


def networks_from_bytes(content: bytes, source: str) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """What ``networks_to_bytes`` was given; a file of one network gives one, without a name.

    Raises:
        CheckpointError: the content is not safetensors.
    """
    tensors, about = from_bytes(content, source)
    found: dict[str, dict[str, Tensor]] = {"": {}}
    for name in about.pop(_NETWORKS, ()):
        own = [key for key in tensors if key.startswith(f"{name}/")]
        found[name] = {key.removeprefix(f"{name}/"): tensors.pop(key) for key in own}
    found[""] = tensors
    return found, about


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
    """Returns all that a trainer needs to go on where it stopped: safetensors with a JSON-able description.

    Randomness needs nothing: it depends on the seed and the step, and with ``noise: entropy`` on a seed that nothing
    stores, so that the rest of the training draws anew. Each hook's state stands under its name: tensors as
    ``hooks.NAME.…``, the rest in ``hooks`` of the description.
    """
    tensors = snapshot(trainer.model, trainer.optimizer)
    about: dict[str, Any] = {name: getattr(trainer, name) for name in _COUNTED} | {"hooks": {}}
    for name, hook in by_name(trainer.hooks).items():
        kept, about["hooks"][name] = hook.state()
        tensors |= {f"hooks.{name}.{key}": tensor for key, tensor in kept.items()}
    return to_bytes(tensors, about)


def restore_trainer(trainer: Trainer, content: bytes) -> None:
    """Brings a fresh trainer of the same recipe, with the same hooks, to the stored state.

    States that were written before hooks had names of their own cannot be read; train again.

    Args:
        trainer: has taken no step.
        content: what ``trainer_state`` returned.

    Raises:
        CheckpointError: the content is no state of a training, or that of another model or of other hooks.
    """
    tensors, about = from_bytes(content, "training state")
    if not about.keys() >= {*_COUNTED, "hooks"}:
        said = "the training state holds weights only, or is of another version: it is no checkpoint of this training"
        raise CheckpointError(said, setting="training state", allowed="a checkpoint of a training run")
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
    for name in _COUNTED:
        setattr(trainer, name, about[name])


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
