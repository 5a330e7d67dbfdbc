"""Which method explains best? All methods on four planted sets, by the truth and by the measures that need no truth.

For each kind of records a network learns a planted set. The maps of test records are compared with the truth (average
precision, enrichment, the pointing game; records without a truth are left out) and by the area between the curves of
insertion and deletion over the panel. The default method, integrated gradients, must reach nine tenths of the best area
in each kind of records. There is no peer.

    python -m jobs.benchmark explain-methods
"""

import time
from typing import Any

import torch
from torch import Tensor

import assay.explain.methods  # noqa: F401
from assay.explain.base import Explainer, ExplanationError
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.panel import Panel
from assay.explain.measures.truth import average_precision, enrichment, known_mean, pointing_game
from assay.registry import build, methods
from tests.benchmarks.explain_rulers import CASES, records_of, tested

SETTINGS: dict[str, dict[str, Any]] = {
    "exact_shapley": {"groups": 10},
    "permutation_shapley": {"groups": 36, "orders": 8},
    "kernel_shap": {"groups": 36, "budget": 512},
    "lime": {"groups": 36, "samples": 500},
    "occlusion": {"groups": 36},
}
"""Of methods that ask for combinations of groups; the others are as they are."""
DEFAULT, BAR = "integrated_gradients", 0.9


def measure() -> dict[str, Any]:
    """Returns the scores of each method by kind of records, and the area of the default over the best one."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    best: dict[str, str] = {}
    ratio: dict[str, float] = {}
    for modality, (data, *_) in CASES.items():
        records, source = records_of(modality), build("dataset", data)
        truth = torch.from_numpy(source.truth(tested(source)))  # type: ignore[attr-defined, arg-type]
        scores = {name: _scored(name, records, truth) for name in _names()}
        found[modality] = scores
        known = {name: one["area"] for name, one in scores.items() if "area" in one}
        best[modality] = max(known, key=lambda name: known[name])
        ratio[modality] = round(known[DEFAULT] / known[best[modality]], 3)
    return {"scores": found, "best_by_area": best, "ratio": ratio, "bar": dict.fromkeys(ratio, BAR)}


def _names() -> list[str]:
    return sorted(name for name, kind in methods("explainer").items() if kind.__module__.startswith("assay."))


def _scored(name: str, records: MeasuredRecords, truth: Tensor) -> dict[str, Any]:
    explainer: Explainer = build("explainer", {"name": name, **SETTINGS.get(name, {})})  # type: ignore[assignment]
    began = time.perf_counter()
    try:
        values = explainer.explain(records.model, records.x, records.target, records.reference).values
    except ExplanationError as error:
        return {"refused": str(error)[:100]}
    seconds = time.perf_counter() - began
    by_feature = records.reference.by_feature(values)
    by_truth = {
        measure.__name__: round(known_mean(measure(by_feature, truth, records.features)).value, 3)
        for measure in (average_precision, enrichment, pointing_game)
    }
    area = float(Panel(records=records, steps=25).between(by_feature).mean())
    return {**by_truth, "area": round(area, 3), "seconds": round(seconds, 2)}
