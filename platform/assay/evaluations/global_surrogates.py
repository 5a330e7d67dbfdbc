"""How well a small decision tree gives a model's answers, and its rules."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from assay import intervals, seeds
from assay.data.base import Dataset
from assay.evaluations.global_units import answer_name
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.explain.global_.surrogate import FEWEST, rules, surrogate_tree
from assay.results import Finding, not_applicable


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """Learns the tree on some records and measures its fidelity on others."""

    subject: Subject
    depth: int
    digits: int
    """Significant digits of its thresholds."""
    from_training: bool
    """Whether it learns from the training records; else from validation and calibration records."""
    draws: int

    names: ClassVar[tuple[str, ...]] = ("surrogate_fidelity", "surrogate_baseline", "surrogate_gain")

    def measured(self, rows: np.ndarray) -> list[Finding]:
        """Returns fidelity, that of one answer, and the difference.

        Args:
            rows: (n,) positions of the test records on which fidelity is measured. Without other records, the tree
                learns on a half of these, and is measured on the other half.

        Returns:
            The findings, with the rules among the conditions of the fidelity.
        """
        subject = self.subject
        learns, rows, source = self._divided(rows)
        logits = [subject.logits(part) for part in (learns, rows)]
        if not all(np.isfinite(part).all() for part in logits):
            why = "the model answers NaN or infinity"
            return [not_applicable(name, why, reason="no_finite_answers") for name in self.names]
        if len(learns) < FEWEST or not len(rows):
            why = f"a tree needs {FEWEST} records to learn from, and has {len(learns)}; raise split.validation"
            return [not_applicable(name, why, reason="too_few_records") for name in self.names]
        answers = [subject.decisions(part) for part in logits]
        seed = seeds.torch_seed(subject.seed, "surrogate")
        tree = surrogate_tree(self._reported(learns), answers[0], depth=self.depth, digits=self.digits, seed=seed)
        counts = np.bincount(answers[0])
        usual = int(np.flatnonzero(counts == counts.max())[0])
        agrees, constant = tree.answers(self._reported(rows)) == answers[1], answers[1] == usual
        names = [answer_name(subject.dataset, answer) for answer in range(logits[0].shape[1])]
        lines = rules(tree, _with_units(subject.dataset), names)
        about: dict[str, Any] = {"depth": self.depth, "learnt_on": source, "learnt_from": len(learns)}
        clusters = subject.clusters(rows)
        gain = intervals.bootstrap(
            lambda chosen: float(agrees[chosen].mean() - constant[chosen].mean()),
            len(rows),
            generator=seeds.stream(subject.seed, "bootstrap", self.names[2]),
            draws=self.draws,
            groups=clusters,
        )
        return [
            share(self.names[0], agrees, clusters, **about, leaves=tree.leaves, rules={"lines": lines}),
            share(self.names[1], constant, clusters, **about, answer=names[usual]),
            estimated(self.names[2], gain, n=len(rows), conditions=about),
        ]

    def _divided(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
        """Returns the records to learn from, those to measure on, and a description of the former."""
        parts = self.subject.split
        if self.from_training:
            return parts.train, rows, "training records"
        held = np.sort(np.concatenate([parts.validation, parts.calibration]))
        if len(held) >= FEWEST:
            return held, rows, "validation and calibration records"
        clusters = self.subject.clusters(rows)
        known, unit = np.unique(rows if clusters is None else clusters, return_inverse=True)
        count = len(known)
        first = seeds.stream(self.subject.seed, "surrogate", "halves").permutation(count) < count / 2
        chosen = first[unit]
        return rows[chosen], rows[~chosen], "one half of the test records"

    def _reported(self, rows: np.ndarray) -> np.ndarray:
        """Returns records in the columns' own units, float64."""
        x = np.asarray(self.subject.dataset.x[rows], np.float64)
        features = self.subject.dataset.features
        if not features:
            return x
        return np.array([one.center for one in features]) + x * np.array([one.scale for one in features])


def _with_units(dataset: Dataset) -> list[str]:
    """Returns the name of each input with its unit."""
    names = dataset.feature_names or tuple(f"feature {number}" for number in range(dataset.shape[0]))
    units = [one.unit for one in dataset.features] or [""] * len(names)
    return [f"{name} ({unit})" if unit else str(name) for name, unit in zip(names, units, strict=True)]
