"""An audit of the explanations of one checkpoint: ours, and a script of at most 60 lines with Captum and Quantus.

Both explain the same 20 X-rays by the same five methods, with as many points, background records, patches and
coalitions, and measure the maps by deletion, infidelity, sensitivity, randomisation and sparseness, with as many steps,
subsets, copies and stages (``peers/explain_audit.py``, in the environment of ``make peers``). ``common`` is this work;
seconds are processor time of one thread, without imports and training. Its ratio has the bar.

``whole`` is the evaluation ``explanations`` with these methods and measures, which adds what the script does not have,
listed in ``only_ours``. Its ratio has no bar: it is not the same work.

    python -m jobs.benchmark explain-audit
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assay.cluster.memory import keep_freed_memory
from assay.data.images.medmnist import PneumoniaMNIST
from assay.data.splits import Split
from assay.errors import UserError
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.explain.base import Explainer
from assay.explain.groups import grouped
from assay.explain.measures.base import MeasuredMap, MeasuredRecords
from assay.explain.measures.curves import curve, ranks
from assay.explain.measures.randomisation import Cascade
from assay.explain.measures.sparseness import Sparseness
from assay.explain.measures.stability import MaxSensitivity
from assay.explain.measures.subsets import Infidelity, _subsets
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.kernel_shap import KernelShap
from assay.explain.methods.occlusion import Occlusion
from assay.explain.methods.saliency import Saliency
from assay.results import Check, Measurement
from tests.benchmarks.explain import Case, xrays
from tests.benchmarks.explain_measures import Constant

ROUNDS = 3
RECORDS, BACKGROUND, GROUPS, BUDGET, STEPS, SUBSETS, COPIES = 20, 50, 12, 256, 28, 80, 8
BAR = 10.0
METHODS: tuple[Explainer, ...] = (
    IntegratedGradients(points=50, most=50),
    DeepShap(),
    Saliency(),
    Occlusion(groups=16),
    KernelShap(groups=GROUPS, budget=BUDGET),
)
MEASURES = (Infidelity(subsets=SUBSETS), MaxSensitivity(copies=COPIES), Cascade(), Sparseness())
PEER = Path(__file__).parent / "peers" / "explain_audit.py"
PYTHON = Path(__file__).parents[2] / ".venv-peers-explain" / "bin" / "python"


def measure() -> dict[str, Any]:
    """Returns the seconds of both, by method, and those of the script over ours."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every worker does
    case = xrays()
    dataset = PneumoniaMNIST().load()
    x = torch.from_numpy(dataset.x[-RECORDS:])
    reference = replace(case.reference, background=case.reference.background[:BACKGROUND], source="50 records")
    with torch.no_grad():
        target = case.model(x).argmax(1)
    case = Case(model=case.model, x=x, target=target, reference=reference)
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, dict[str, float]]] = []
    for _ in range(ROUNDS):
        ours.append({one.name: _seconds(partial(_common, case, one)) for one in METHODS})
        theirs.append(_script(case))
    rows: list[Any] = []
    whole = _seconds(lambda: rows.extend(_whole(case, dataset)))
    return _result(ours, theirs, whole, rows)


def _result(
    ours: list[dict[str, float]], theirs: list[dict[str, dict[str, float]]], whole: float, rows: list[Any]
) -> dict[str, Any]:
    names = list(ours[0])
    own = {name: statistics.median(each[name] for each in ours) for name in names}
    script = {name: statistics.median(sum(each[name].values()) for each in theirs) for name in names}
    kinds = Counter(row.name for row in rows if isinstance(row, Measurement))
    checks = Counter(row.rule for row in rows if isinstance(row, Check))
    total = sum(script.values())
    return {
        "unit": "seconds of processor time, medians of alternating rounds; whole: once",
        "common": {name: {"assay": round(own[name], 3), "script": round(script[name], 3)} for name in names},
        "common_seconds": {"assay": round(sum(own.values()), 2), "script": round(total, 2)},
        "script_by_measure": {
            name: {key: round(value, 3) for key, value in theirs[-1][name].items()} for name in names
        },
        "whole_seconds": round(whole, 2),
        "script_over_whole": round(total / whole, 2),
        "only_ours": {
            "numbers_with_intervals": sum(isinstance(row, Measurement) and not np.isnan(row.low) for row in rows),
            "controls": kinds["control_area"],
            "oracle": kinds["oracle_area"],
            "checks": dict(sorted(checks.items())),
        },
        "ratio": {"common": round(total / sum(own.values()), 2)},
        "bar": {"common": BAR},
    }


def _seconds(work: Any) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _common(case: Case, explainer: Explainer) -> None:
    """Explains the records and measures the maps, as the script does."""

    def again(model: Any, x: Any) -> Any:
        return explainer.explain(model, x, case.target, case.reference).values

    records = MeasuredRecords(
        model=case.model, x=case.x, target=case.target, reference=case.reference, pool=case.reference.background, seed=0
    )
    values = again(case.model, case.x)
    explained = MeasuredMap(
        values=values,
        entries=values,
        kind="contributions" if explainer.multiplies_by_change else "slopes",
        baseline=case.reference.baseline(case.x),
        again=again,
    )
    fill = Constant().prepare(records)
    curve(records, ranks(values, records.ties), fill, STEPS, removes_first=True)
    MEASURES[0]._of(_subsets(records, explained, Constant(), SUBSETS))
    for one in MEASURES[1:]:
        one.score(records, explained)


def _whole(case: Case, dataset: Any) -> list[Any]:
    """Returns what the evaluation finds."""
    count = len(dataset.x)
    split = Split(
        train=np.arange(2000),
        validation=np.arange(0),
        calibration=np.arange(0),
        test=np.arange(count - RECORDS, count),
    )
    subject = Subject(model=case.model, dataset=dataset, split=split, recipe=None, log=None, seed=0)
    asked = Explanations(methods=METHODS, measures=MEASURES, measured=RECORDS, shap_background=BACKGROUND)
    return list(asked.measure(subject))


def _script(case: Case) -> dict[str, dict[str, float]]:
    if not PYTHON.exists():
        raise UserError(f"Captum and Quantus are not installed: {PYTHON} is missing; run make peers", setting="peers")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(case.model.state_dict(), folder / "weights.pt")
        given = {"x": case.x, "target": case.target, "background": case.reference.background}
        given["groups"] = grouped(case.x[:1], case.reference, GROUPS)
        np.savez(folder / "given.npz", **{key: value.numpy() for key, value in given.items()})
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        alone.pop("PYTHONPATH", None)
        asked = [str(PYTHON), str(PEER), name]
        ran = subprocess.run(asked, check=True, capture_output=True, text=True, env=alone)
    found: dict[str, dict[str, float]] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found
