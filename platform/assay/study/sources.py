"""Which code a result depends on: the modules that a module imports, and theirs, down to the last one of Assay.

Of a method that another package brings (``registry.PLUGINS``), the modules of that package count like those of Assay.
"""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from assay.registry import modules_of

_ASSAY = "assay"
_BY_NAME = ("choice_of", "build")
"""Functions of the registry by which a module takes methods of a kind by name: any of that kind may be used."""


def digest_of(modules: Iterable[str], *, without: Iterable[str] = (), by_name: bool = True) -> str:
    """Hash of the code of some modules and of all that they import of Assay; documentation and comments are no code.

    Imports within functions count. Those under ``if TYPE_CHECKING`` do not, since nothing of them runs; nor do
    packages of Assay, whose ``__init__`` only loads what is registered. Where a module takes methods by name, as by
    ``choice_of("attack")``, every method of Assay of that kind counts.

    Args:
        modules: full names, such as ``assay.evaluations.explanations``.
        without: names of modules that are imported and never called there; what they import does not count either.
    """
    return _digest(tuple(sorted(modules)), tuple(sorted(without)), by_name)


def modules_in(settings: BaseModel) -> set[str]:
    """Names of the modules that define some settings and every method among them, however deep."""
    found = {type(settings).__module__}
    for _, value in settings:
        inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else [value]
        found = found.union(*(modules_in(one) for one in inner if isinstance(one, BaseModel)))
    return found


def modules_behind(*values: object) -> tuple[str, ...]:
    """Returns the names of the modules that define some values, without Python's, NumPy's and PyTorch's, sorted.

    Args:
        values: what a data set is made of, such as its preparation; None counts for nothing.
    """
    names = {type(value).__module__ for value in values if value is not None}
    top = {name: name.partition(".")[0] for name in names}
    return tuple(sorted(name for name in names if top[name] not in {"numpy", "torch", *sys.stdlib_module_names}))


@lru_cache(maxsize=256)
def _digest(modules: tuple[str, ...], without: tuple[str, ...], by_name: bool) -> str:
    sha = hashlib.sha256()
    for name in sorted(closure(modules, without=without, by_name=by_name)):
        if (read := _read(name)) is not None:
            sha.update(name.encode() + read.code.encode())
    return sha.hexdigest()[:20]


class _Read(NamedTuple):
    """What a module is made of."""

    code: str
    """Hash of its code."""
    imports: frozenset[str]
    """The modules of Assay, and of its own package, that it imports."""
    by_name: frozenset[str]
    """The modules of all methods of the kinds that it takes by name."""


def _read(module: str) -> _Read | None:
    """Reads a module, once for each state of its file; None of a package of Assay, and of what has no source."""
    path = _file(module)
    if path is None:
        return None
    stat = path.stat()
    return _parsed(module, path, (stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=2048)
def _parsed(module: str, path: Path, stamp: tuple[int, int]) -> _Read:
    source = path.read_bytes()
    tree = ast.parse(source)
    # Methods from elsewhere may be registered in one process and not in another: ``modules_in`` finds those in use.
    kinds: Iterable[str] = _kinds(tree) if any(name.encode() in source for name in _BY_NAME) else ()
    by_name = {name for kind in kinds for name in modules_of(kind) if name.startswith("assay.")}
    top = module.partition(".")[0]
    # Importing a module runs the packages in which it lies, too.
    around = set() if top == _ASSAY else {module.rpartition(".")[0]} - {""}
    imports = frozenset({*_imported(tree, {_ASSAY, top}, _package(module)), *around})
    return _Read(code=hashlib.sha256(code_of(tree).encode()).hexdigest(), imports=imports, by_name=frozenset(by_name))


def code_of(tree: ast.AST) -> str:
    """Returns what a syntax tree does, as text: without documentation, comments and layout, on which nothing depends.

    Args:
        tree: of a module; its bare strings are taken out.
    """
    left = [tree]
    while left:
        node = left.pop()
        for statements in (
            getattr(node, "body", None),
            getattr(node, "orelse", None),
            getattr(node, "finalbody", None),
        ):
            if isinstance(statements, list):
                statements[:] = [statement for statement in statements if not _documents(statement)]
        left.extend(_blocks(node))
    return ast.dump(tree, annotate_fields=False)


def _blocks(node: ast.AST) -> Iterator[ast.AST]:
    """The statements of a node, and what else holds statements; no expression does."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield inner


def _documents(statement: ast.AST) -> bool:
    """Whether a statement is a bare string: a docstring, or what documents an attribute."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def closure(modules: Iterable[str], *, without: Iterable[str] = (), by_name: bool = True) -> set[str]:
    """Names of the given modules and of all modules that they need, of Assay and of the package in which each lies.

    Args:
        without: modules that are left out, and theirs with them.
    """
    left_out = frozenset(without)
    found: set[str] = set()
    left = list(modules)
    while left:
        name = left.pop()
        if name not in found and name not in left_out:
            found.add(name)
            read = _read(name)
            if read is not None:
                left.extend((read.imports | (read.by_name if by_name else frozenset())) - found)
    return found


def _package(module: str) -> str:
    """The package from which a module's relative imports start."""
    path = getattr(sys.modules.get(module), "__path__", None)
    return module if path is not None else module.rpartition(".")[0]


def _kinds(tree: ast.AST) -> Iterator[str]:
    """The kinds of methods that a module takes by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _BY_NAME and node.args:
            kind = node.args[0]
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                yield kind.value


def _imported(tree: ast.AST, tops: set[str], package: str) -> Iterator[str]:
    """Names of the modules of some packages that are imported anywhere in a tree.

    Args:
        tops: names of the packages.
        package: from which relative imports start.
    """
    for node in _blocks(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name.partition(".")[0] in tops and _file(one.name))
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            for name in node.names if source.partition(".")[0] in tops else ():
                # ``from assay import seeds`` names a module, ``from assay.seeds import Draw`` something in one.
                inner = f"{source}.{name.name}"
                name_of_module = inner if _file(inner) is not None else source
                if _file(name_of_module) is not None:
                    yield name_of_module
        else:
            yield from _imported(node, tops, package)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The full name of what is imported from."""
    if not node.level:
        return node.module or ""
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


@lru_cache(maxsize=1024)
def _file(module: str) -> Path | None:
    """The file of a module; None of a package of Assay, and of what is no module or has no source."""
    known = sys.modules.get(module)
    if known is not None:
        path = getattr(known, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            return None
        path = None if spec is None else spec.origin
    ours = module.partition(".")[0] == _ASSAY
    if path is None or not path.endswith(".py") or (ours and path.endswith("__init__.py")):
        return None
    return Path(path)
