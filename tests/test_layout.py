"""The house stays in order: no package shadows the standard library, imports run one way, nothing unpickles."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay
from tests.trees import nodes

PACKAGE = Path(assay.__file__).parent
ROOT = Path(__file__).parents[1]
FILES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = {
    *("errors", "seeds", "devices", "registry", "threats", "tasks", "recipes", "results", "metrics", "executors"),
    *("incompatible", "progress", "radii", "statistics", "design", "intervals", "outcomes", "paired", "void_tests"),
}
BESIDE = {"tracking"}
STAGES = [
    {"data"},
    {"models"},
    {"attacks", "bounds"},
    {"objectives"},
    {"privacy", "training", "federated"},
    {"explain"},
    {"evaluations"},
    {"ledger"},
    {"store"},
    {"study"},
    {"release"},
    {"report"},
    {"dashboard"},
    {"cluster"},
]
PICKLERS = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def part(file: Path) -> str:
    """The package or module of assay to which a file belongs."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports(file: Path) -> tuple[str, ...]:
    """Full names of everything that a file imports, wherever in it."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def allowed(importer: str) -> set[str]:
    """What a part of assay may import of it."""
    if importer in VOCABULARY:
        return VOCABULARY
    if importer in BESIDE:
        return VOCABULARY | {importer}
    stage = next(number for number, parts in enumerate(STAGES) if importer in parts)
    return VOCABULARY | BESIDE | set().union(*STAGES[: stage + 1])


def test_platform_is_no_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_librarys_platform_is_not_shadowed() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import platform; print(platform.__file__); platform.python_version()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not Path(told.stdout.strip()).is_relative_to(ROOT / "platform")
    assert Path(told.stdout.strip()).name == "platform.py"


def test_every_part_has_its_place() -> None:
    assert {part(file) for file in FILES} - {"__init__"} <= VOCABULARY | BESIDE | set().union(*STAGES)


def test_imports_run_one_way() -> None:
    wrong = {}
    for file in FILES:
        own = {name.split(".")[1] for name in imports(file) if name.startswith("assay.")}
        if too_far := own - (set() if part(file) == "__init__" else allowed(part(file))):
            wrong[file.relative_to(PACKAGE)] = too_far
    assert not wrong


def test_only_the_cluster_knows_ray() -> None:
    beyond = [file for file in FILES if part(file) != "cluster"]
    assert [file for file in beyond if "ray" in {name.split(".")[0] for name in imports(file)}] == []


def unpickling(file: Path) -> Iterator[str]:
    """Whatever in a file reads pickled objects, or could."""
    names = set(imports(file))
    yield from {name.split(".")[0] for name in names} & PICKLERS
    yield from names & {"torch.load"}
    for node in nodes(file):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield from {f"{node.value.id}.{node.attr}"} & {"torch.load"}
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield "allow_pickle"


def test_nothing_unpickles() -> None:
    assert {file.relative_to(PACKAGE): found for file in FILES if (found := list(unpickling(file)))} == {}


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("from torch import load", "torch.load"),
        ("def f(torch, file):\n    return torch.load(file)", "torch.load"),
        ("def f(np, file):\n    return np.load(file, allow_pickle=True)", "allow_pickle"),
    ],
)
def test_what_would_unpickle_is_found(line: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(line)
    assert list(unpickling(tmp_path / "odd.py")) == [what]
