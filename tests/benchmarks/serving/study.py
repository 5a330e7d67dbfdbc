"""A small finished study of a table and of X-rays, the networks of the peer, and exact explanations."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.executors import LocalExecutor
from assay.explain.base import gradient_of
from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study

POINTS = 64
"""Points of integrated gradients where both use the same number."""
_BRIEF = {"name": "explanations", "measured": 10, "records": 10, "steps": 2, "control_draws": 3, "draws": 50}
_BRIEF |= {"retrained": False, "examples": 0}
_FIXED = {"methods": [{"name": "integrated_gradients", "points": POINTS, "most": POINTS}]}
_XRAY = {"dataset": "pneumoniamnist", "model": {"name": "cnn", "channels": [8, 16, 32]}, "records": 2000}
_TRAINING = {"training": {"epochs": 3, "batch_size": 64, "learning_rate": 0.002}}
STUDY: dict[str, Any] = {
    "name": "served",
    "split": {"folds": 2},
    "cohorts": {
        "table": {
            "dataset": "wdbc",
            "model": {"name": "mlp", "hidden": [64, 32]},
            "evaluations": ["accuracy", {**_BRIEF, **_FIXED}],
            "recipes": {"table": {"training": {"epochs": 20, "learning_rate": 0.003}}},
        },
        "xray": {**_XRAY, "evaluations": ["accuracy", _BRIEF], "recipes": {"xray": _TRAINING}},
        # With fewer than ten background records, integrated gradients are the default of images, too.
        "xray_64": {
            **_XRAY,
            "evaluations": ["accuracy", {**_BRIEF, **_FIXED, "shap_background": 9}],
            "recipes": {"xray_64": {"training": {**_TRAINING["training"], "learning_rate": 0.0021}}},
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A served model with the records that are sent."""

    finished: Finished
    reference: Reference
    x: np.ndarray
    """(n, ...) float32 test records."""

    @property
    def network(self) -> nn.Module:
        """The network."""
        return self.finished.model

    def target(self) -> Tensor:
        """Returns the predicted classes."""
        with torch.no_grad():
            return self.network(torch.from_numpy(self.x)).argmax(1)

    def exact_integrated(self, count: int) -> np.ndarray:
        """Returns integrated gradients of the first records by 2,048 midpoints in float64."""
        model, x = copy.deepcopy(self.network).double(), torch.from_numpy(self.x[:count])
        start, target = self.reference.baseline(x).double(), self.target()[:count]
        difference, points = x.double() - start, 2048
        total = torch.zeros_like(start)
        for number in range(points):
            total += gradient_of(model, start + (number + 0.5) / points * difference, target, log_odds)
        return (total / points * difference).numpy()

    def exact_expected(self, count: int) -> np.ndarray:
        """Returns expected gradients of the first records by 255 points on each line."""
        x, target = torch.from_numpy(self.x[:count]), self.target()[:count]
        method = ExpectedGradients(points=255, most=255, tolerance=0.001)
        return method.explain(self.network, x, target, self.reference).values.numpy()


def made(folder: Path, *, records: int = 64) -> dict[str, Case]:
    """Runs the study, and writes the networks of the peer.

    Args:
        folder: ``results`` and ``peer`` are written there.
        records: of each model that are sent.

    Returns:
        The models by name.
    """
    study = build_study(STUDY, "benchmark")
    store, datasets = Store(str(folder / "results")), load_datasets(study)
    trials = plan(study, datasets)
    write_study(study, store, {trial.id: trial.label for trial in trials}, {})
    for trial in trials:
        if trial.fold == 0:
            store.write(run_trial(trial, LocalExecutor(), datasets[trial.cohort]))
    (folder / "peer").mkdir()
    cases = {}
    for name in STUDY["cohorts"]:
        finished = open_finished(store, recipe=name, cohort=name)
        reference = finished.explanations.reference(finished.subject)
        cases[name] = Case(finished=finished, reference=reference, x=finished.dataset.x[finished.split.test[:records]])
        about = {
            "network": finished.model.eval(),
            "names": list(finished.dataset.class_names),
            "baseline": reference.baseline(torch.from_numpy(cases[name].x[:1])),
            "background": reference.background,
        }
        torch.save(about, folder / "peer" / f"{name}.pt")
    return cases


def error_of(values: np.ndarray, exact: np.ndarray) -> float:
    """Returns the greatest error of a value relative to the record's greatest value, of 99 % of the records.

    Args:
        values: (n, ...) attributions.
        exact: (n, ...) as many.
    """
    rows = len(exact)
    apart = np.abs(values - exact).reshape(rows, -1).max(1) / np.abs(exact).reshape(rows, -1).max(1)
    return float(np.quantile(apart, 0.99))
