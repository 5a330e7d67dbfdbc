"""Which method explains best, and which is the default? All methods on four planted sets, by the truth and without it.

For each kind of records a network learns a planted set. The maps of test records are compared with the truth (average
precision, enrichment, the pointing game; records without a truth are left out) and by the area between the curves of
insertion and deletion over the panel. One half of the records chooses the default, by the rule of
``assay.explain.defaults``; on the other half, which has chosen nothing, it must reach nine tenths of the best area, in
each kind of records. There is no peer.

    python -m jobs.benchmark explain-methods
"""

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import assay.explain.methods  # noqa: F401
from assay.explain.base import Explainer, ExplanationError
from assay.explain.defaults import DEFAULTS, ORDER, SHARE_OF_BEST
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.panel import Panel
from assay.explain.measures.truth import average_precision, enrichment, known_mean, pointing_game
from assay.registry import build, methods
from tests.benchmarks.explain_rulers import CASES, records_of, tested

SETTINGS: dict[str, dict[str, Any]] = {
    "exact_shapley": {"groups": 10},
    "permutation_shapley": {"groups": 36, "orders": 8},
    "lime": {"groups": 36, "samples": 500},
    "occlusion": {"groups": 36},
}
"""Of methods that ask for combinations of groups; those that may be a default have its settings, others their own."""
HALVES = ("chooses", "reports")
"""What the records at even places do, and those at odd ones."""


def measure() -> dict[str, Any]:
    """Returns the scores of each method by kind of records, the choices, and what each reaches of the best area."""
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    chosen: dict[str, str] = {}
    best: dict[str, str] = {}
    ratio: dict[str, float] = {}
    for modality, (data, *_) in CASES.items():
        records, source = records_of(modality), build("dataset", data)
        truth = torch.from_numpy(source.truth(tested(source)))  # type: ignore[attr-defined, arg-type]
        panels = [Panel(records=_some(records, half), steps=25) for half in range(len(HALVES))]
        scores = {name: _scored(name, records, truth, panels) for name in _names()}
        found[modality] = scores
        areas = {half: {name: one[half] for name, one in scores.items() if half in one} for half in HALVES}
        chosen[modality] = choice(areas["chooses"])
        held = areas["reports"]
        best[modality] = max(held, key=lambda name: held[name])
        ratio[modality] = round(held[DEFAULTS[modality].method.name] / held[best[modality]], 3)
    as_chosen = {name: one.method.name for name, one in DEFAULTS.items()} == chosen
    bar = {**dict.fromkeys(ratio, SHARE_OF_BEST), "defaults_as_chosen": 1.0}
    ratio["defaults_as_chosen"] = float(as_chosen)
    return {"scores": found, "chosen": chosen, "best_by_area": best, "ratio": ratio, "bar": bar}


def choice(areas: dict[str, float]) -> str:
    """Returns the default that the rule takes: the first method of the order that is near enough to the best.

    Args:
        areas: by the name of the method.

    Returns:
        The name; of the best method of the order where none is near enough.
    """
    known = [one.name for one in ORDER if one.name in areas]
    near = [name for name in known if areas[name] >= SHARE_OF_BEST * max(areas.values())]
    return near[0] if near else max(known, key=lambda name: areas[name])


def _some(records: MeasuredRecords, half: int) -> MeasuredRecords:
    rows = slice(half, None, 2)
    return replace(records, x=records.x[rows], target=records.target[rows], cache={})


def _names() -> list[str]:
    return sorted(name for name, kind in methods("explainer").items() if kind.__module__.startswith("assay."))


def _built(name: str) -> Explainer:
    own = [one for one in ORDER if one.name == name]
    return own[0] if own else build("explainer", {"name": name, **SETTINGS.get(name, {})})  # type: ignore[return-value]


def _scored(name: str, records: MeasuredRecords, truth: Tensor, panels: list[Panel]) -> dict[str, Any]:
    began = time.perf_counter()
    try:
        found = _built(name).explain(records.model, records.x, records.target, records.reference)
    except ExplanationError as error:
        return {"refused": str(error)[:100]}
    seconds = time.perf_counter() - began
    by_feature = records.reference.by_feature(found.values)
    by_truth = {
        measure.__name__: round(known_mean(measure(by_feature, truth, records.features)).value, 3)
        for measure in (average_precision, enrichment, pointing_game)
    }
    areas = {
        half: round(float(panel.between(by_feature[place :: len(HALVES)]).mean()), 3)
        for place, (half, panel) in enumerate(zip(HALVES, panels, strict=True))
    }
    value_error = float(found.value_error.double().quantile(0.99))
    return {**by_truth, **areas, "value_error": round(value_error, 3), "seconds": round(seconds, 2)}
