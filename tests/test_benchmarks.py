"""What benchmarks import from Assay exists, and what Assay answers in the tables of known answers is right."""

import ast
import importlib
from pathlib import Path

import pytest

from tests.benchmarks import explain_truth
from tests.benchmarks.conformance.row import Row, answer
from tests.benchmarks.federated_conformance import ROWS
from tests.benchmarks.known_answers.row import PEERS, right_by
from tests.benchmarks.known_answers.row import Row as ExplanationRow

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


FAST = [row for row in explain_truth.ROWS if row.assay is not None and not row.fault.startswith("C")]
"""Those on models made to deceive train networks; ``tests/evaluations/test_explanation_deceivers.py`` has them."""


@pytest.mark.parametrize("row", FAST, ids=lambda row: row.name)
def test_assays_answers_in_the_table_of_explanations_are_right(row: ExplanationRow) -> None:
    assert row.assay is not None
    given = answer(row.assay)
    assert right_by(row.accepts, given), f"{row.input}: {given}, right is {row.right}"


def test_the_table_of_explanations_has_every_check_once_and_enough_of_them() -> None:
    names = [row.name for row in explain_truth.ROWS]
    assert len(names) == len(set(names)) >= explain_truth.CHECKS
    assert {row.fault[0] for row in explain_truth.ROWS} == {"A", "B", "C"}


def test_a_row_keeps_a_wrong_answer_and_the_error_of_a_peer() -> None:
    def fails() -> None:
        raise IndexError("lost")

    row = ExplanationRow(
        fault="A0", name="a", input="", right="1", accepts=lambda given: given == 1, assay=lambda: 2, captum=fails
    )
    found = row.answered({"quantus": {"a": 1}})
    assert (found["assay"]["right"], found["captum"]["answer"], found["captum"]["right"]) == (
        False,
        "IndexError",
        False,
    )
    assert (found["quantus"]["right"], found["shap"]["right"]) == (True, None)
    assert set(PEERS) < set(found)
