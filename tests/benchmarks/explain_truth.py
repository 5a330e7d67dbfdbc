"""What explanations and their measures answer where the right answer is known: Assay, Captum, shap, Quantus and LIME.

One row is one check: sections A (methods), B (measures) and C (models made to deceive). Assay, Captum and shap answer
in this process. Quantus and LIME answer in an environment of their own, where there is one (``make peers``;
``ASSAY_EXPLAIN_PEERS`` names its Python). A peer is asked where it has such a thing, with its default settings; an
error that says what it cannot explain counts as a refusal. Prints a table, then JSON; below the bar if one answer of
Assay is wrong, or if there are fewer than 60 checks.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tests.benchmarks.conformance.row import NOT_YET
from tests.benchmarks.known_answers import (
    arbitrary_maps,
    curves,
    deceivers,
    deep,
    draws,
    fooling,
    grad_cam,
    maps,
    measures,
    model_free,
    near_baseline,
    paths,
    perturbing,
    scalars,
    shapley,
    state,
    text,
)
from tests.benchmarks.known_answers.row import PEERS, Row

ROWS: tuple[Row, ...] = (
    *scalars.ROWS,
    *paths.ROWS,
    *deep.ROWS,
    *draws.ROWS,
    *shapley.ROWS,
    *state.ROWS,
    *text.ROWS,
    *grad_cam.ROWS,
    *maps.ROWS,
    *curves.ROWS,
    *measures.ROWS,
    *perturbing.ROWS,
    *deceivers.ROWS,
    *fooling.ROWS,
    *arbitrary_maps.ROWS,
    *model_free.ROWS,
    *near_baseline.ROWS,
)
CHECKS = 60
"""Checks that there must be."""
ROOT = Path(__file__).parents[2]
OTHERS = Path(os.environ.get("ASSAY_EXPLAIN_PEERS", ROOT / ".venv-peers-explain" / "bin" / "python"))
SCRIPT = Path(__file__).parent / "peers" / "explain_truth.py"
"""Prints a JSON object: answers of Quantus and LIME by the names of rows."""


def measure() -> dict[str, Any]:
    """Answers of all systems to each row, and the share of right ones."""
    torch.set_num_threads(1)
    of_others = answers_of_others()
    rows = [row.answered(of_others) for row in ROWS]
    _print(rows)
    known = [row for row in rows if row["assay"]["answer"] != NOT_YET]
    right = [row for row in known if row["assay"]["right"]]
    return {
        "rows": rows,
        "sections": dict(Counter(row["fault"][0] for row in rows)),
        "assay_right": f"{len(right)} of {len(known)}; {len(rows) - len(known)} not yet",
        "peers_right": {peer: _share(rows, peer) for peer in PEERS},
        "ratio": {"assay_right": len(right) / len(known), "checks": len(known) / CHECKS},
        "bar": {"assay_right": 1.0, "checks": 1.0},
    }


def answers_of_others() -> dict[str, dict[str, Any]]:
    """Answers of the peers in their own environment, by peer and row; empty where it is not installed."""
    if not OTHERS.exists():
        return {}
    done = subprocess.run([str(OTHERS), str(SCRIPT)], capture_output=True, text=True, check=True)
    answers: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def _share(rows: list[dict[str, Any]], peer: str) -> str:
    asked = [row[peer] for row in rows if row[peer]["answer"] is not None]
    return f"{sum(one['right'] for one in asked)} of {len(asked)}" if asked else "not asked"


def _print(rows: list[dict[str, Any]]) -> None:
    """Prints the table to the error stream, so that the output is JSON alone."""
    table = Table("fault", "check", "input", "right", "Assay", "Captum", "shap", "Quantus", "LIME", show_lines=True)
    for row in rows:
        cells = (_cell(row[system]) for system in ("assay", *PEERS))
        table.add_row(row["fault"], row["name"], row["input"], row["right"], *cells)
    Console(file=sys.stderr, width=240).print(table)


def _cell(said: dict[str, Any]) -> str:
    answer = said["answer"]
    if answer is None or answer == NOT_YET:
        return answer or ""
    text = ", ".join(map(str, answer)) if isinstance(answer, list) else str(answer)
    return f"{text} {'✓' if said['right'] else '✗'}"
