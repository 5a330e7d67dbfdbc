"""Which code a result depends on: the modules that a module imports, and theirs, down to the last one of Assay."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel

from assay.registry import modules_of

_BY_NAME = ("choice_of", "build")
"""Functions of the registry by which a module takes methods of a kind by name: any of that kind may be used."""


def digest_of(modules: Iterable[str], *, without: Iterable[str] = ()) -> str:
    """Hash of the source of some modules and of all that they import of Assay.

    Imports within functions count. Those under ``if TYPE_CHECKING`` do not, since nothing of them runs; nor do
    packages, whose ``__init__`` only loads what is registered. Where a module takes methods by name, as by
    ``choice_of("attack")``, every method of Assay of that kind counts.

    Args:
        modules: full names, such as ``assay.evaluations.explanations``.
        without: names of modules that are imported and never called there; what they import does not count either.
    """
    return _digest(tuple(sorted(modules)), tuple(sorted(without)))


def modules_in(settings: BaseModel) -> set[str]:
    """Names of the modules that define some settings and every method among them, however deep."""
    found = {type(settings).__module__}
    for _, value in settings:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        found = found.union(*(modules_in(one) for one in inner if isinstance(one, BaseModel)))
    return found


@lru_cache(maxsize=256)
def _digest(modules: tuple[str, ...], without: tuple[str, ...]) -> str:
    sha = hashlib.sha256()
    for name in sorted(closure(modules, without=without)):
        path = _file(name)
        if path is not None:
            sha.update(name.encode() + path.read_bytes())
    return sha.hexdigest()[:20]


def closure(modules: Iterable[str], *, without: Iterable[str] = ()) -> set[str]:
    """Names of the given modules and of all modules of Assay that they need, but for those left out and theirs."""
    left_out = frozenset(without)
    found: set[str] = set()
    left = list(modules)
    while left:
        name = left.pop()
        if name not in found and name not in left_out:
            found.add(name)
            left.extend(_needs(name) - found)
    return found


@lru_cache(maxsize=1024)
def _needs(module: str) -> frozenset[str]:
    """The modules of Assay that one imports or takes by name."""
    path = _file(module)
    if path is None:
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Methods from elsewhere may be registered in one process and not in another: ``modules_in`` finds those in use.
    by_name = {name for kind in _kinds(tree) for name in modules_of(kind) if name.startswith("assay.")}
    return frozenset({*_imported(tree), *by_name})


def _kinds(tree: ast.AST) -> Iterator[str]:
    """The kinds of methods that a module takes by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _BY_NAME and node.args:
            kind = node.args[0]
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                yield kind.value


def _imported(tree: ast.AST) -> Iterator[str]:
    """Names of the modules of Assay that are imported anywhere in a tree."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.startswith("assay.") and _file(one.name))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "assay":
            assert node.module is not None
            for name in node.names:
                # ``from assay import seeds`` names a module, ``from assay.seeds import Draw`` something in one.
                inner = f"{node.module}.{name.name}"
                name_of_module = inner if _file(inner) is not None else node.module
                if _file(name_of_module) is not None:
                    yield name_of_module
        else:
            yield from _imported(node)


@lru_cache(maxsize=1024)
def _file(module: str) -> Path | None:
    """The file of a module; None of a package, and of what is no module or has no source."""
    known = sys.modules.get(module)
    if known is not None:
        path = getattr(known, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            return None
        path = None if spec is None else spec.origin
    if path is None or not path.endswith(".py") or path.endswith("__init__.py"):
        return None
    return Path(path)
