"""What benchmarks import from Assay exists, and what Assay answers in the conformance table is right."""

import ast
import importlib
from pathlib import Path

import pytest

from tests.benchmarks.conformance.row import Row, answer
from tests.benchmarks.federated_conformance import ROWS

FOLDER = Path(__file__).parent / "benchmarks"
FILES = sorted(FOLDER.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(FOLDER)) for file in FILES])
def test_what_a_benchmark_imports_from_assay_exists(file: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.split(".")[0] == "assay":
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    try:
                        importlib.import_module(f"{node.module}.{name.name}")
                    except ImportError:
                        missing.append(f"{node.module}.{name.name}")
    assert not missing


@pytest.mark.parametrize("row", [row for row in ROWS if row.assay is not None], ids=lambda row: row.name)
def test_assays_answers_in_the_conformance_table_are_right(row: Row) -> None:
    assert row.assay is not None
    given = answer(row.assay)
    assert row.accepts(given), f"{row.input}: {given}, right is {row.right}"
