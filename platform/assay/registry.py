"""The registry: names that a study file may use, and the methods they stand for.

A method (an attack, an objective, a model, a data set, an evaluation) is one frozen pydantic class in one file:
its fields are its settings, and its functions do the work. ``@register("attack")`` makes its ``name`` known.
"""

import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from assay.errors import SpecError, UserError


class Settings(BaseModel):
    """Frozen, keyword-only, validated; an unknown key is an error that lists the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_what_it_says(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses a value of another type that pydantic would convert: ``yes`` for 1, 3.0 for 3, ``"5"`` for 5."""
        field = cls.model_fields[str(info.field_name)]
        why = misread(value, Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
        if why:
            raise ValueError(why)
        return value

    @model_validator(mode="before")
    @classmethod
    def _names_known_keys(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in values:
                if key not in cls.model_fields:
                    raise unknown_name("key", str(key), list(cls.model_fields), setting="")
        return values


def as_number(value: Any) -> Any:
    """Converts a fraction in text, such as ``8/255``, to a number.

    Args:
        value: anything.

    Returns:
        The number; any other value unchanged.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*", value) if isinstance(value, str) else None
    return value if match is None or not float(match[2]) else float(match[1]) / float(match[2])


Number = Annotated[float, BeforeValidator(as_number)]
"""A number of a study file, which may be written as a fraction: radii of images are multiples of 1/255."""


def misread(value: Any, kind: Any) -> str:
    """Returns why a value does not have the type of its setting although pydantic would convert it.

    YAML reads ``yes``, ``no``, ``on`` and ``off`` as true and false, which Python accepts as 1 and 0. A number in
    quotes
    is text. Only ``1e-3`` without a point is accepted, because YAML reads it as text.

    Args:
        value: as it was given.
        kind: the annotated type of the setting.

    Returns:
        The reason as text; empty if the value has the right type.
    """
    if get_origin(kind) is Annotated:
        kind, *metadata = get_args(kind)
        if isinstance(value, str) and isinstance(as_number(value), float) and _takes_fractions(metadata):
            return ""
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        reasons = [misread(value, member) for member in get_args(kind) if _may_be(value, member)]
        return "" if "" in reasons else next(iter(reasons), "")
    if origin in (tuple, list, Sequence) and isinstance(value, list | tuple):
        inner = [item for item in get_args(kind) if item is not Ellipsis]
        each = inner if len(inner) == len(value) and Ellipsis not in get_args(kind) else inner[:1] * len(value)
        return next(filter(None, map(misread, value, each)), "")
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return next(filter(None, (misread(item, get_args(kind)[1]) for item in value.values())), "")
    return _misread_number(value, kind)


def _misread_number(value: Any, kind: Any) -> str:
    wanted = {int: "a whole number, as 3", float: "a number, as 0.5", bool: "true or false"}.get(kind, "")
    if not wanted:
        return ""
    if isinstance(value, bool):
        said = f"{str(value).lower()} is no number: YAML reads yes, no, on and off as true and false"
        return "" if kind is bool else f"{said}; write {wanted}"
    if isinstance(value, str):
        scientific = kind is float and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value) is not None
        passes = scientific or (kind is not bool and not _is_number(value))  # pydantic refuses what is no number
        return "" if passes else f"{value!r} is text; write {wanted}, without quotes"
    if kind is bool:
        return "" if value is None else f"{value!r} is neither; write {wanted}"
    return f"{value!r} is no whole number; write {wanted}" if kind is int and isinstance(value, float) else ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _may_be(value: Any, kind: Any) -> bool:
    """Returns whether a value is meant as this member of a union, or is mistaken for it."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    origin = get_origin(kind)
    if kind in (int, float, bool):
        return isinstance(value, int | float | str)
    if kind in (NoneType, str):
        return value is None if kind is NoneType else isinstance(value, str)
    if origin is Literal:
        return value in get_args(kind)
    return isinstance(value, list | tuple) if origin in (tuple, list, Sequence) else not isinstance(value, bool)


def _takes_fractions(metadata: Sequence[Any]) -> bool:
    return any(getattr(item, "func", None) is as_number for item in metadata)


class Method(Settings):
    """Settings with a name that a study file can use."""

    name: str
    shorthand: ClassVar[str] = ""
    """The setting that a name may end with after a colon: ``flower:FedAdam`` is {name: flower, strategy: FedAdam}."""


_PACKAGES = {
    "strategy": "assay.federated.strategies",
    "personalisation": "assay.federated.personalisation",
    "transform": "assay.federated.transforms",
}
"""Packages that are imported when a method of their kind is named: few recipes are federated."""
_METHODS: dict[tuple[str, str], type[Method]] = {}
_M = TypeVar("_M", bound=type[Method])


def register(kind: str) -> Callable[[_M], _M]:
    """Returns a class decorator that registers a class under its default ``name``.

    Args:
        kind: of method, such as ``attack``.

    Returns:
        The decorator.

    Raises:
        AssertionError: another class of this kind has the name.
    """

    def add(method: _M) -> _M:
        name = dict(method.__pydantic_fields__)["name"].default
        other = _METHODS.setdefault((kind, name), method)
        if other is not method:
            raise AssertionError(f"{kind} {name!r} is registered twice: {other} and {method}")
        return method

    return add


def build(kind: str, choice: Any) -> Method:
    """Builds the method that a study file names.

    Args:
        kind: of method, such as ``attack``.
        choice: ``"pgd"``, ``{"name": "pgd", "steps": 7}`` or a method itself.

    Returns:
        The method with its settings.

    Raises:
        SpecError: the name is unknown (the message lists the known ones) or a setting is impossible.
    """
    if isinstance(choice, Method):
        kinds = {known for (known, _), method in _METHODS.items() if method is type(choice)}
        if kinds and kind not in kinds:
            raise SpecError(f"{choice!r} is no {kind}; {_known(kind)}", given=choice, allowed=names(kind))
        return choice
    settings = {"name": choice} if isinstance(choice, str) else choice
    if not isinstance(settings, Mapping) or "name" not in settings:
        raise SpecError(
            f"{choice!r} is no {kind}: give a name, or a mapping with a name; {_known(kind)}",
            given=choice,
            allowed=names(kind),
        )
    settings = _without_shorthand(kind, settings)
    if (kind, str(settings["name"])) not in _METHODS:
        load_plugins()
        if kind in _PACKAGES:
            importlib.import_module(_PACKAGES[kind])
            settings = _without_shorthand(kind, settings)
    method = _METHODS.get((kind, str(settings["name"])))
    if method is None:
        raise unknown_name(kind, str(settings["name"]), names(kind), setting="name")
    try:
        return method.model_validate(dict(settings))
    except ValidationError as error:
        raise SpecError(f"{kind} {settings['name']!r}: {'; '.join(explain(error))}", **first_mistake(error)) from None


def _without_shorthand(kind: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns settings whose name is split at a colon, where the method that is named before it has a shorthand."""
    name, colon, value = str(settings["name"]).partition(":")
    method = _METHODS.get((kind, name))
    if not colon or method is None or not method.shorthand:
        return settings
    return {method.shorthand: value, **settings, "name": name}


def names(kind: str) -> list[str]:
    """Returns the registered names of a kind, sorted.

    Args:
        kind: of method, such as ``attack``.

    Returns:
        The names.
    """
    return sorted(name for known, name in _METHODS if known == kind)


def methods(kind: str) -> dict[str, type[Method]]:
    """Returns the registered methods of a kind, sorted by name.

    Args:
        kind: of method, such as ``attack``.

    Returns:
        Classes by name.
    """
    return {name: _METHODS[kind, name] for name in names(kind)}


def modules_of(kind: str) -> list[str]:
    """Returns the modules that define the registered methods of a kind, sorted.

    Args:
        kind: of method, such as ``attack``.

    Returns:
        Module names with dots.
    """
    return sorted({method.__module__ for (known, _), method in _METHODS.items() if known == kind})


def choice_of(kind: str) -> Any:
    """Returns the type of a pydantic field that holds one method; it is stored with all its settings.

    Args:
        kind: of method, such as ``attack``.

    Returns:
        An annotated type.
    """
    return Annotated[SerializeAsAny[Method], BeforeValidator(lambda value: build(kind, value))]


PLUGINS = "ASSAY_PLUGINS"
"""Environment variable: names of packages that register further methods, separated by commas."""
_LOADED: set[str] = set()


def plugins() -> tuple[str, ...]:
    """Returns the package names in ``ASSAY_PLUGINS``.

    Returns:
        The names, in their order.
    """
    return tuple(name.strip() for name in os.environ.get(PLUGINS, "").split(",") if name.strip())


def load_plugins() -> None:
    """Imports the packages that ``ASSAY_PLUGINS`` names, with all their modules, so that their methods are registered.

    Raises:
        SpecError: a package cannot be imported.
    """
    for name in plugins():
        if name in _LOADED:
            continue
        _LOADED.add(name)
        try:
            package = importlib.import_module(name)
            for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}."):
                if not module.name.endswith(".__main__"):
                    importlib.import_module(module.name)
        except Exception as error:  # whatever a module of another package raises while it is imported
            _LOADED.discard(name)
            raise SpecError(
                f"{PLUGINS} names {name!r}, which cannot be imported: {error} "
                f"({type(error).__name__}); mend it, install it, or put its folder on PYTHONPATH, here and "
                "on every machine of a cluster",
                setting=PLUGINS,
                given=name,
            ) from error


def source_of(method: type[Method]) -> Path:
    """Returns the file that defines a method.

    Args:
        method: a registered class.

    Returns:
        Path of its module.
    """
    return Path(str(sys.modules[method.__module__].__file__))


def load_siblings(package: str, path: list[str]) -> None:
    """Imports every module of a package, so that the methods they define are registered.

    Args:
        package: its name with dots.
        path: its ``__path__``.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def unknown(kind: str, given: str, known: list[str]) -> str:
    """Returns the error message for an unknown name.

    Args:
        kind: of thing that is named, such as ``attack``.
        given: the unknown name.
        known: names that are allowed.

    Returns:
        The message, with a suggestion where a known name is similar.
    """
    close = get_close_matches(given, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {given!r}; allowed: {', '.join(known)}.{hint}"


def unknown_name(kind: str, given: str, known: list[str], *, setting: str | None = None) -> SpecError:
    """Returns the error for an unknown name; the caller raises it.

    Args:
        kind: of thing that is named, such as ``attack``.
        given: the unknown name.
        known: names that are allowed.
        setting: that holds the name; ``kind`` by default.

    Returns:
        The error.
    """
    return SpecError(
        unknown(kind, given, known), setting=kind if setting is None else setting, given=given, allowed=known
    )


def first_mistake(error: ValidationError) -> dict[str, Any]:
    """Returns the fields of a ``UserError`` for the first error of a validation.

    Args:
        error: as pydantic raised it.

    Returns:
        ``setting`` with dots, ``given`` and ``allowed``. Allowed are the limits by name, such as ``{"gt": 0}``, or else
        pydantic's name of the error type.
    """
    detail = error.errors()[0]
    context = dict(detail.get("ctx", {}))
    inner, where = context.pop("error", None), ".".join(str(part) for part in detail["loc"])
    if isinstance(inner, UserError):
        setting = ".".join(part for part in (where, inner.setting) if part)
        return {"setting": setting, "given": inner.given, "allowed": inner.allowed}
    return {"setting": where, "given": detail["input"], "allowed": context or detail["type"]}


def explain(error: ValidationError) -> list[str]:
    """Returns one line for each error of a validation: the setting, the given value and what is allowed.

    Args:
        error: as pydantic raised it.

    Returns:
        The lines.
    """
    lines = []
    for detail in error.errors():
        where = ".".join(str(part) for part in detail["loc"])
        said = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "string_type" and detail["loc"][-1:] == ("[key]",):
            said = "a name must be text, and YAML reads no, 3 and 2020-01-01 as other things; write it in quotes"
        simple = isinstance(detail["input"], str | int | float | bool) and "unknown" not in said
        given = f" (given: {detail['input']!r})" if simple else ""
        lines.append(f"{where}: {said}{given}" if where else said)
    return lines


def _known(kind: str) -> str:
    return f"allowed: {', '.join(names(kind))}"
