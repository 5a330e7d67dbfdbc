"""Reads study files: ``extends``, presets, ``--set`` assignments, and mistakes named by file, key and value."""

import copy
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from assay.errors import SpecError
from assay.registry import explain, first_mistake, unknown
from assay.study.spec import RENAMED, TO_RUN, Study

_log = logging.getLogger(__name__)


def read_study(name_or_file: str, assignments: tuple[str, ...] = (), *, folder: Path) -> Study:
    """Reads a study by the name of a file in ``folder``, or by path, and applies ``--set`` assignments.

    A file that ``extends`` another contains only what it changes or adds.

    Args:
        name_or_file: ``quickstart``, or a path to a YAML file.
        assignments: ``key.subkey=value``; the value is YAML. ``preset=NAME`` applies one of the file's presets.
        folder: of the named studies.

    Returns:
        The study.

    Raises:
        SpecError: names the file, the key, the value and what is allowed.
    """
    path = _find(name_or_file, folder)
    raw = _extended(path, folder, ())
    presets = raw.pop("presets", {})
    if not isinstance(presets, dict) or not all(isinstance(preset, dict) for preset in presets.values()):
        message = f"{path}: presets must be a mapping from names to mappings of settings"
        raise SpecError(message, setting="presets", given=presets)
    pairs = [_pair(assignment) for assignment in assignments]
    for preset in [value for key, value in pairs if key == "preset"]:
        if not isinstance(preset, str) or preset not in presets:
            raise SpecError(
                f"{path}: {unknown('preset', str(preset), sorted(presets)) if presets else 'it has no presets'}",
                setting="preset", given=preset, allowed=sorted(presets),
            )  # fmt: skip
        raw = _merge(raw, presets[preset])
    for key, value in pairs:
        if key != "preset":
            _assign(raw, _path_of(key), value)
    return build_study(raw, str(path))


def build_study(raw: Mapping[str, Any], source: str) -> Study:
    """Builds a study that is to run from plain values.

    Args:
        raw: settings as in a study file.
        source: names the values in errors.

    Returns:
        The study.

    Raises:
        SpecError: every mistake on its own line; its fields are those of the first.
    """
    try:
        return Study.model_validate(raw, context=TO_RUN)
    except ValidationError as error:
        message = "\n".join(f"{source}: {line}" for line in explain(error))
        raise SpecError(message, **first_mistake(error)) from None


def _path_of(key: str) -> list[str]:
    """Returns the parts of a dotted key; a key of a cohort under the name that it has now."""
    path = key.split(".")
    if path[0] == "cohorts" and len(path) > 2:
        path[2] = RENAMED.get(path[2], path[2])
    return path


def _with_new_names(raw: Any, source: str, inside: str = "") -> Any:
    """Returns values of a file with the keys of ``RENAMED`` under their present names; logs each once.

    Args:
        inside: name of the key that contains the values.
    """
    if not isinstance(raw, Mapping):
        return raw
    renamed = {}
    for key, value in raw.items():
        new = RENAMED.get(key, key) if inside == "cohort" else key
        if new != key and new not in raw:
            _log.warning("%s: %s is called %s now; the old name still works", source, key, new)
        # A cohort lies below its name, which lies below "cohorts".
        below = "cohort" if inside == "cohorts" else "cohorts" if key == "cohorts" else ""
        renamed[key if new in raw else new] = _with_new_names(value, source, below)
    return renamed


def _find(name_or_file: str, folder: Path) -> Path:
    given = Path(name_or_file)
    if given.suffix in (".yaml", ".yml") or len(given.parts) > 1:
        if given.is_file():
            return given
        raise SpecError(f"study file {name_or_file!r} does not exist", setting="study", given=name_or_file)
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name_or_file not in known:
        message = unknown("study", name_or_file, known) + " Or give the path of a .yaml file."
        raise SpecError(message, setting="study", given=name_or_file, allowed=known)
    return folder / f"{name_or_file}.yaml"


def _parse(path: Path) -> dict[str, Any]:
    try:
        raw = _with_new_names(settings_in(path.read_text(encoding="utf-8")), str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: not readable as YAML: {error}", setting=str(path), allowed="YAML") from None
    if not isinstance(raw, dict):
        message = f"{path}: a study is a mapping; its keys: {', '.join(Study.model_fields)}"
        raise SpecError(message, setting=str(path), given=raw, allowed=list(Study.model_fields))
    return raw


def _extended(path: Path, folder: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    """Returns the settings of a file, merged into those of the file that it ``extends``."""
    if path in below:
        message = f"{path}: extends itself, by way of {', '.join(str(file) for file in below)}"
        raise SpecError(message, setting="extends", given=str(path))
    raw: dict[str, Any] = _parse(path)
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        message = f"{path}: extends: {base!r} is no study; give the name of one, or the path of a file"
        raise SpecError(message, setting="extends", given=base)
    return _merge(_extended(_find(base, folder), folder, (*below, path)), raw)


class _OneOfEach(yaml.SafeLoader):
    """A loader that refuses a repeated key; YAML's own loader silently takes the last one."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                message = f"the key {key.value!r} stands twice; keep one of them"
                raise yaml.composer.ComposerError(None, None, message, key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Merges what ``<<`` names; a key of the mapping itself wins, also where this mapping is merged into others.

        PyYAML keeps both, and its next merge takes the first.
        """
        super().flatten_mapping(node)
        last = {key.value if isinstance(key, yaml.ScalarNode) else id(key): (key, value) for key, value in node.value}
        node.value = list(last.values())


def settings_in(text: str) -> Any:
    """Reads a YAML text and resolves its anchors.

    Args:
        text: YAML.

    Returns:
        Plain values.

    Raises:
        yaml.YAMLError: it is not YAML, has a key twice, or an anchor contains itself.
    """
    try:
        return _unshared(yaml.load(text, Loader=_OneOfEach))
    except RecursionError:
        raise yaml.YAMLError("an anchor holds itself, or it is nested too deep; write its value out") from None


def _unshared(value: Any) -> Any:
    """Returns a copy in which YAML anchors no longer share values: setting one recipe must not set another."""
    if isinstance(value, dict):
        return {key: _unshared(inner) for key, inner in value.items()}
    return [_unshared(inner) for inner in value] if isinstance(value, list) else value


def _pair(assignment: str) -> tuple[str, Any]:
    match = re.fullmatch(r"([\w.-]+)=(.*)", assignment, re.DOTALL)
    if match is None:
        message = f"--set {assignment!r}: write key=value, such as split.folds=3 or preset=smoke"
        raise SpecError(message, setting="--set", given=assignment, allowed="key=value")
    try:
        return match[1], settings_in(match[2])
    except yaml.YAMLError:
        message = f"--set {assignment!r}: {match[2]!r} is not readable as YAML"
        raise SpecError(message, setting="--set", given=match[2], allowed="YAML") from None


_METHODS = ("dataset", "model", "task", "objective", "embedding", "foreign")
"""Keys whose value may be the bare name of a method; an assignment to one of its settings keeps that method."""


_NAMED_BY_USERS = {"cohorts": "cohort", "recipes": "recipe"}
"""Keys whose own keys are names that users choose, and what these names are of."""


def _merge(base: Any, change: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(change, dict)):
        return copy.deepcopy(change)
    base = {key: _spelt_out(key, value) if isinstance(change.get(key), dict) else value for key, value in base.items()}
    return {
        key: _merge(base[key], change[key]) if key in base and key in change else copy.deepcopy({**base, **change}[key])
        for key in [*base, *(key for key in change if key not in base)]
    }


def _spelt_out(key: str, value: Any) -> Any:
    return {"name": value} if key in _METHODS and isinstance(value, str) else value


def _assign(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for above, key in zip(["", *keys], keys[:-1], strict=False):
        if above in _NAMED_BY_USERS and key not in raw:
            # Set below a name that is not there, one setting would make a cohort or a recipe beside the one meant.
            message = f"--set {'.'.join(keys)}: {unknown(_NAMED_BY_USERS[above], key, list(raw))}"
            raise SpecError(message, setting="--set", given=key, allowed=list(raw))
        deeper = raw[key] = _spelt_out(key, raw.get(key, {}))
        if not isinstance(deeper, dict):
            message = f"--set {'.'.join(keys)}: {key!r} is {deeper!r} here, which has no keys of its own"
            raise SpecError(message, setting="--set", given=".".join(keys), allowed=key)
        raw = deeper
    raw[keys[-1]] = value
