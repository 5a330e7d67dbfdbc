"""What federated systems answer where the right answer is known: Assay, Flower, pfl and FL4Health, one row a fault.

Assay and Flower are run in this process, by their real code. pfl is run in an environment of its own, where there is
one (``ASSAY_PFL`` names its Python), and FL4Health by its published formulas: it has no build for this Python. Prints a
table, then JSON; below the bar if one answer of Assay is wrong, or if peers have fewer than ten of the faults.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import assay.federated.strategies
import assay.models
import assay.objectives  # noqa: F401
from tests.benchmarks.conformance import averages, optimisation, privacy, robust, secure_aggregation
from tests.benchmarks.conformance.row import NOT_INSTALLED, NOT_YET, Row, shown

ROWS: tuple[Row, ...] = (
    *optimisation.ROWS,
    *averages.ROWS,
    *privacy.ROWS,
    *robust.ROWS,
    *secure_aggregation.ROWS,
)
PEERS_WRONG = 10
"""Faults of which a named peer must have at least one, or the table would show nothing."""
ROOT = Path(__file__).parents[2]
PFL = Path(os.environ.get("ASSAY_PFL", ROOT / ".venv-pfl" / "bin" / "python"))
PFL_SCRIPT = Path(__file__).parent / "peers" / "pfl_conformance.py"
"""Prints a JSON object: answers of pfl by the names of the rows."""


def measure() -> dict[str, Any]:
    """Answers of all systems to each row, and how many are right."""
    of_pfl = pfl_answers()
    rows = [row.answered(of_pfl) for row in sorted(ROWS, key=lambda row: row.fault)]
    _print(rows)
    known = [row for row in rows if row["assay"]["answer"] != NOT_YET]
    right = [row for row in known if row["assay"]["right"]]
    of_peers = {row["fault"] for row in rows if row["wrong_peers"]}
    return {
        "rows": rows,
        "assay_right": f"{len(right)} of {len(known)}; {len(rows) - len(known)} not yet",
        "faults_of_peers": sorted(of_peers),
        "ratio": {"assay_right": len(right) / len(known), "wrong_peers": len(of_peers) / PEERS_WRONG},
        "bar": {"assay_right": 1.0, "wrong_peers": 1.0},
    }


def pfl_answers() -> dict[str, Any] | None:
    """Answers of pfl by the names of the rows; None where it is not installed."""
    if not (PFL.exists() and PFL_SCRIPT.exists()):
        return None
    done = subprocess.run([str(PFL), str(PFL_SCRIPT)], capture_output=True, text=True, check=True)
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # after what pfl logs
    return answers


def _print(rows: list[dict[str, Any]]) -> None:
    """Prints the table to the error stream, so that the output is JSON alone."""
    table = Table("fault", "input", "right", "Assay", "Flower", "pfl", "FL4Health", show_lines=True)
    for row in rows:
        systems = (row[name] for name in ("assay", "flower", "pfl", "fl4health"))
        table.add_row(str(row["fault"]), row["input"], row["right"], *map(_cell, systems))
    Console(file=sys.stderr, width=200).print(table)


def _cell(said: dict[str, Any]) -> str:
    answer = said["answer"]
    if answer is None or answer in (NOT_YET, NOT_INSTALLED):
        return answer or ""
    return f"{shown(answer)} {'✓' if said['right'] else '✗'}"
