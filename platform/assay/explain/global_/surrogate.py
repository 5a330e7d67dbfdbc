"""A small decision tree that gives a model's answers (Craven & Shavlik 1996), as rules that can be read."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 20
"""Records below which no tree is learnt."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A question about one feature, or an answer."""

    answer: int
    """The class that most records here are given by the model."""
    records: int
    """Records of the learning sample that come here."""
    feature: int = -1
    threshold: float = math.nan
    """Records with at most this value go left. It is the rounded one, so the tree is the one that is printed."""
    left: "Node | None" = None
    right: "Node | None" = None

    @property
    def asks(self) -> bool:
        """Whether it is a question."""
        return self.left is not None

    @property
    def leaves(self) -> int:
        """Number of answers below it."""
        if self.left is None or self.right is None:
            return 1
        return self.left.leaves + self.right.leaves

    def answers(self, x: np.ndarray) -> np.ndarray:
        """Returns the class that the tree gives each record.

        Args:
            x: (n, features) records, in the units in which the tree was learnt.

        Returns:
            (n,) classes.
        """
        if self.left is None or self.right is None:
            return np.full(len(x), self.answer)
        goes_left = x[:, self.feature] <= self.threshold
        found = np.empty(len(x), np.int64)
        found[goes_left] = self.left.answers(x[goes_left])
        found[~goes_left] = self.right.answers(x[~goes_left])
        return found


def surrogate_tree(x: np.ndarray, answers: np.ndarray, *, depth: int, digits: int = 4, seed: int = 0) -> Node:
    """Learns a decision tree that gives a model's answers.

    Thresholds are rounded, and a question whose sides give the same answer is left out, so that what is measured is the
    tree that a reader sees. A leaf holds at least 1 % of the records, and at least five: no rule is about one record.

    Args:
        x: (n, features) records.
        answers: (n,) classes that the model gives them.
        depth: greatest number of questions in a row.
        digits: significant digits of a threshold.
        seed: decides between equally good questions.

    Returns:
        The root of the tree.

    Raises:
        ValueError: there are fewer than ``FEWEST`` records.
    """
    from sklearn.tree import DecisionTreeClassifier

    if len(x) < FEWEST:
        raise ValueError(f"{len(x)} records teach no tree; {FEWEST} or more are needed")
    smallest = max(5, len(x) // 100)
    learnt = DecisionTreeClassifier(max_depth=depth, min_samples_leaf=smallest, random_state=seed % 2**32)
    return _node(learnt.fit(x, answers), 0, digits)


def rules(tree: Node, names: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Returns a tree as indented lines of text.

    Args:
        tree: its root.
        names: of the features, with their units.
        class_names: of the answers.

    Returns:
        One line for each question and answer.
    """
    return list(_lines(tree, names, class_names, 0))


def _lines(node: Node, names: Sequence[str], class_names: Sequence[str], level: int) -> Iterator[str]:
    indent = "  " * level
    if node.left is None or node.right is None:
        yield f"{indent}answer {class_names[node.answer]} ({node.records} records)"
        return
    yield f"{indent}if {names[node.feature]} ≤ {node.threshold:g}:"
    yield from _lines(node.left, names, class_names, level + 1)
    yield f"{indent}else:"
    yield from _lines(node.right, names, class_names, level + 1)


def _node(learnt: object, number: int, digits: int) -> Node:
    """Returns a node of scikit-learn's tree with all below it."""
    tree, classes = learnt.tree_, learnt.classes_  # type: ignore[attr-defined]
    answer = int(classes[int(np.argmax(tree.value[number][0]))])
    records = int(tree.n_node_samples[number])
    if tree.children_left[number] < 0:
        return Node(answer=answer, records=records)
    left = _node(learnt, int(tree.children_left[number]), digits)
    right = _node(learnt, int(tree.children_right[number]), digits)
    if not left.asks and not right.asks and left.answer == right.answer:
        return Node(answer=answer, records=records)
    threshold = float(f"{tree.threshold[number]:.{digits}g}")
    return Node(
        answer=answer,
        records=records,
        feature=int(tree.feature[number]),
        threshold=threshold,
        left=left,
        right=right,
    )
