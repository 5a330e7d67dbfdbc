"""300 honest models, whose explanations must not be accused, and models made to deceive, each of which must be caught.

The honest models (``known_answers/honest.py``) are small networks on planted sets, ``wdbc`` and ``digits``, on whose
seeds no check was tuned. An accusation is a check of the evaluation ``explanations`` that warns or fails; inconclusive
ones are counted by themselves. The deceivers are the rows of section C of ``explain-truth``, and for each rule one that
no other rule catches (``known_answers/one_rule.py``). Below the bar if more than 1 % of the honest models are accused,
by one rule or by any, or if a deceiver is not caught. ``--quick`` takes 18 models, one of each kind and more of the
usual ones.
"""

import math
import sys
import time
from collections import Counter
from typing import Any

import torch

from assay.evaluations.explanations import Explanations
from assay.results import RAISED, Check, Finding, Measurement
from tests.benchmarks.known_answers import (
    arbitrary_maps,
    deceivers,
    fooling,
    model_free,
    near_baseline,
    one_rule,
)
from tests.benchmarks.known_answers.honest import Honest, honest_models

MODELS, FEW = 300, 18
FIRST = 7000
"""Number of the first model: checks were mended by what they said of those before."""
MOST_ACCUSED = 0.01
LEFT = "left_on_the_data"
SETTINGS = {"records": 60, "control_draws": 3, "steps": 6, "draws": 50}
"""Of the evaluation, smaller than usual: of 300 models, each is asked in a few seconds."""


def measure(quick: bool = False) -> dict[str, Any]:
    """Accusations of honest models by rule, and deceivers that are caught."""
    torch.set_num_threads(1)
    count = FEW if quick else MODELS
    by_rule: Counter[str] = Counter()
    undecided: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    by_task: Counter[str] = Counter()
    of_task: Counter[str] = Counter()
    accused = []
    left: dict[str, float] = {}
    started = time.perf_counter()
    for one in honest_models(count, FIRST):
        rows = rows_of(one)
        checks = [row for row in rows if isinstance(row, Check)]
        shares = [row.value for row in rows if isinstance(row, Measurement) and row.name == LEFT]
        left[one.task] = min([left.get(one.task, math.inf), *(share for share in shares if not math.isnan(share))])
        for rule in {check.rule for check in checks}:
            asked[rule] += 1
        wrong = [check for check in checks if check.verdict in RAISED]
        undecided.update({check.rule for check in checks if check.verdict == "inconclusive"})
        by_rule.update({check.rule for check in wrong})
        by_task.update({f"{one.task}: {check.rule}" for check in wrong})
        of_task[one.task] += 1
        if wrong:
            said = [f"{check.rule} ({check.conditions.get('method', 'all')}): {check.message}" for check in wrong]
            accused.append({"model": one.name, "said": said})
            print(one.name, *said, sep="\n    ", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - started
    caught = {
        row.name: row.answered({})["assay"]["right"]
        for kind in (deceivers, fooling, arbitrary_maps, model_free, near_baseline, one_rule)
        for row in kind.ROWS
    }
    by_share = {rule: by_rule[rule] / asked[rule] for rule in sorted(asked)}
    return {
        "models": count,
        "seconds": round(seconds, 1),
        "accused_by_rule": {rule: f"{by_rule[rule]} of {asked[rule]}" for rule in sorted(asked)},
        "inconclusive_by_rule": {rule: f"{n} of {asked[rule]}" for rule, n in sorted(undecided.items())},
        "accused_by_task": {key: f"{n} of {of_task[key.partition(': ')[0]]}" for key, n in sorted(by_task.items())},
        "accused": accused,
        "least_left_on_the_data": {task: round(least, 3) for task, least in left.items() if math.isfinite(least)},
        "deceivers": caught,
        "ratio": {
            **{rule: round(1 - share, 4) for rule, share in by_share.items()},
            "models_not_accused": round(1 - len(accused) / count, 4),
            "deceivers_caught": sum(caught.values()) / len(caught),
        },
        "bar": {**dict.fromkeys((*by_share, "models_not_accused"), 1 - MOST_ACCUSED), "deceivers_caught": 1.0},
    }


def checks_of(one: Honest) -> list[Check]:
    """The checks of the evaluation on one model."""
    return [row for row in rows_of(one) if isinstance(row, Check)]


def rows_of(one: Honest) -> list[Finding]:
    """The rows and checks of the evaluation on one model."""
    return list(Explanations(measured=one.measured, **SETTINGS).measure(one.subject))
