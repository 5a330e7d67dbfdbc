"""Nobody but a task knows what an answer means: no class is picked, and no loss of one computed, anywhere else."""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import assay
from tests.trees import nodes

PACKAGE = Path(assay.__file__).parent
ROOT = Path(__file__).parents[2]
FILES = sorted(
    file
    for folder in (PACKAGE, ROOT / "serve", ROOT / "jobs", ROOT / "tune_spaces")
    for file in folder.rglob("*.py")
    if not file.is_relative_to(PACKAGE / "tasks")
)

OVER_CLASSES = {"argmax", "softmax", "log_softmax"}
"""Functions that turn outputs into a class or into probabilities, where they run along the last axis or axis 1."""
LOSSES = {"cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss", "binary_cross_entropy_with_logits", "mse_loss"}

ALLOWED = {
    "assay/data/partition.py": ({"counts.argmax(axis=1)"}, "the class of most records of a patient, not an answer"),
    "assay/report/best_set.py": ({"fold.drawn(counts).argmax(1)"}, "the best point of a sweep in each draw"),
    "assay/attacks/adaptive.py": ({"softmax.logits.log_softmax(1)"}, "a stand-in undoes the softmax of a suspect"),
    "assay/attacks/curve.py": (
        {"climbs.argmax(1)", "here.logits.softmax(1)"},
        "the best of several climbs; how steep the cross-entropy is that the attack itself climbs",
    ),
    "assay/attacks/expectation.py": (
        {"F.log_softmax(checkpoint(self.model, x, use_reentrant=False) if kept else self.model(x), dim=1)"},
        "mean probabilities of a model that answers at random",
    ),
    "assay/attacks/losses.py": (
        {"F.cross_entropy(logits, y, reduction='none')"},
        "an attack's own method: what it climbs, and no judge",
    ),
    "assay/attacks/straight_through.py": (
        {"torch.softmax(x / (spread / _MILD).clamp_min(1.0), along)"},
        "stands in for the softmax inside a network",
    ),
    "assay/data/clusters.py": ({"one.max() + 1"}, "numbers of groups, no labels"),
    "assay/data/label_copies.py": ({"table.argmax(1)"}, "counts of labels, no answers"),
    "assay/data/suspicion.py": (
        {"table[repeated].argmax(1)", "label.max() + 1"},
        "counts of columns of a user's table, no answers",
    ),
    "assay/explain/coalition_tables.py": (
        {"(table.groups == groups[:, None]).int().argmax(1)", "bits.max() + 1", "self.bits.max() + 1"},
        "places and numbers of groups of features, no answers",
    ),
    "assay/explain/local_layers.py": ({"groups.max() + 1"}, "numbers of groups of features, no labels"),
    "assay/evaluations/out_of_distribution.py": ({"own.max() + 1"}, "numbers of groups, no labels"),
    "assay/models/lstm.py": ({"scores.masked_fill(~kept, torch.finfo(scores.dtype).min).softmax(1)"}, "attention"),
    "assay/privacy/attention.py": ({"scores.softmax(-1)"}, "attention"),
    "assay/training/build.py": ({"owners.max() + 1"}, "numbers of patients, no labels"),
    "assay/training/loop.py": ({"owners.max() + 1"}, "numbers of patients, no labels"),
    "assay/training/masks.py": ({"scores.softmax(-1)"}, "attention"),
}
"""What looks alike and is none: expressions by file, with the reason."""


def axis_of(call: ast.Call, place: int) -> str:
    """The axis that a call names, in the source's own words; empty where it names none."""
    named = [keyword.value for keyword in call.keywords if keyword.arg in ("dim", "axis")]
    given = [*named, *call.args[place : place + 1]]
    return ast.unparse(given[0]) if given else ""


def is_one(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is int and node.value == 1


def knowing(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Expressions that know what an answer means."""
    for node in nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and is_one(node.right):
            left = node.left.args[0] if isinstance(node.left, ast.Call) and node.left.args else node.left
            if isinstance(left, ast.Call) and ast.unparse(left).endswith(".max()"):
                yield f"{ast.unparse(left)} + 1"
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in LOSSES and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node)
        if name not in OVER_CLASSES:
            continue
        of_module = isinstance(node.func, ast.Name) or ast.unparse(node.func).split(".")[0] in ("F", "np", "torch")
        if axis_of(node, 1 if of_module else 0) not in ("", "0"):
            yield ast.unparse(node)


def told(file: Path) -> str:
    return str(file.relative_to(PACKAGE.parent if file.is_relative_to(PACKAGE) else ROOT))


@functools.cache
def known_by_file() -> dict[str, set[str]]:
    return {told(file): set(knowing(nodes(file))) for file in FILES}


def test_only_tasks_know_what_an_answer_means() -> None:
    strange = {
        name: own for name, known in known_by_file().items() if (own := known - ALLOWED.get(name, (set(), ""))[0])
    }
    assert not strange, "ask the task: decide, wrong, losses, probabilities, outputs"


def test_what_is_allowed_is_still_there() -> None:
    found = known_by_file()
    assert {name: own for name, (known, _) in ALLOWED.items() if (own := known - found.get(name, set()))} == {}


@pytest.mark.parametrize(
    ("line", "known"),
    [
        ("right = logits.argmax(1) == y", "logits.argmax(1)"),
        ("right = np.argmax(logits, axis=-1)", "np.argmax(logits, axis=-1)"),
        ("p = model(x).softmax(dim=1)", "model(x).softmax(dim=1)"),
        ("p = softmax(logits, axis=1)", "softmax(logits, axis=1)"),
        ("loss = F.cross_entropy(model(x), y)", "F.cross_entropy(model(x), y)"),
        ("classes = int(y.max()) + 1", "y.max() + 1"),
        ("classes = y.max() + 1", "y.max() + 1"),
    ],
)
def test_what_knows_too_much_is_found(line: str, known: str) -> None:
    assert list(knowing(ast.walk(ast.parse(line)))) == [known]


def goals(nodes: Iterable[ast.AST]) -> Iterator[ast.Call]:
    """Where a threat, a batch or a probe is made."""
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Threat", "Batch"):
            yield node


def test_whoever_attacks_says_what_counts_as_wrong() -> None:
    """A default is for tests alone: under another task it would judge by classes."""
    missing = [
        f"{told(file)}:{call.lineno}"
        for file in FILES
        for call in goals(nodes(file))
        if not {"goal", "task"} & {keyword.arg for keyword in call.keywords}
    ]
    # It compares features of two records, and asks no model for an answer.
    assert [place.split(":")[0] for place in missing] == ["assay/data/poisoning/feature_collision.py"]
