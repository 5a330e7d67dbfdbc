"""The house stays in order: no package shadows the standard library, imports run one way, nothing unpickles."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import assay

PACKAGE = Path(assay.__file__).parent
ROOT = Path(__file__).parents[1]
FILES = sorted(PACKAGE.rglob("*.py"))

VOCABULARY = {"errors", "seeds", "registry", "threats", "recipes", "results", "executors", "progress"}
BESIDE = {"statistics", "tracking"}
STAGES = [
    {"data"},
    {"models"},
    {"attacks", "bounds"},
    {"objectives"},
    {"privacy", "training", "federated"},
    {"explain"},
    {"evaluations"},
    {"study"},
    {"report"},
    {"cluster"},
]


def part(file: Path) -> str:
    """The package or module of assay to which a file belongs."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """Full names of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
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


every_file = pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])


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


@every_file
def test_imports_run_one_way(file: Path) -> None:
    own = {name.split(".")[1] for name in imports(file) if name.startswith("assay.")}
    if part(file) == "__init__":
        assert own == set()
    else:
        assert own <= allowed(part(file))


@every_file
def test_only_the_cluster_knows_ray(file: Path) -> None:
    assert part(file) == "cluster" or "ray" not in {name.split(".")[0] for name in imports(file)}


@every_file
def test_nothing_unpickles(file: Path) -> None:
    roots = {name.split(".")[0] for name in imports(file)}
    assert not roots & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("torch", "load")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
    assert "torch.load" not in set(imports(file))
