"""What the recipe ``standard`` of each study reaches on the official test records, over five seeds.

The bars are what the field reaches with networks of this size; ``accuracy.md`` keeps a run. Needs ``ASSAY_DATA``.
Trials are kept in ``results/benchmark-accuracy``, so a run that was cut short goes on.
"""

from pathlib import Path
from typing import Any

from assay.cluster.executor import RayExecutor
from assay.cluster.session import set_defaults
from assay.registry import build
from assay.store.folder import Store
from assay.study.reading import read_study
from assay.study.run import run_study
from assay.study.spec import Study
from jobs.console import STUDIES
from tests.benchmarks.study import Silent

ASKED = {
    "pneumonia": ("pneumoniamnist",),
    "ecg": ("mitbih",),
    "sst2": ("word2vec", "encoder"),
    "imdb": ("text_cnn",),
    "cifar10": ("cnn",),
}
"""Cohorts of each study."""
BARS = {
    ("pneumonia", "pneumoniamnist", "accuracy"): 0.84,
    ("pneumonia", "pneumoniamnist", "auroc"): 0.93,
    ("ecg", "mitbih", "f1"): 0.40,
    ("sst2", "word2vec", "accuracy"): 0.77,
    ("sst2", "encoder", "accuracy"): 0.80,
}
RESULTS = Path("results/benchmark-accuracy").resolve()
FIGURES = ("accuracy", "auroc", "f1")


def measure() -> dict[str, Any]:
    """Mean of each figure over seeds, what each study took, and ratios to the bars."""
    set_defaults()
    found: dict[str, dict[str, float]] = {}
    with RayExecutor() as executor:
        for name in ASKED:
            store = Store(str(RESULTS / name))
            summary = run_study(_study(name), store, executor, watcher=Silent(), publish=lambda datasets: None)
            assert not summary.failures, summary.failures
            found |= _figures(name, store)
    reached = {" ".join(key): found[" ".join(key[:2])][key[2]] for key in BARS}
    return {
        "unit": "mean over 5 seeds on the test records",
        "figures": found,
        "ratio": {" ".join(key): round(reached[" ".join(key)] / bar, 3) for key, bar in BARS.items()},
        "bar": {" ".join(key): 1.0 for key in BARS},
        "bars": {" ".join(key): bar for key, bar in BARS.items()},
    }


def _study(name: str) -> Study:
    """The study with its recipe ``standard`` and its accuracy alone."""
    whole = read_study(name, folder=STUDIES)
    update = {"evaluations": (build("evaluation", "accuracy"),)}
    return whole.model_copy(
        update={
            "cohorts": {
                cohort: whole.cohorts[cohort].model_copy(
                    update={**update, "recipes": {"standard": whole.cohorts[cohort].recipes["standard"]}}
                )
                for cohort in ASKED[name]
            }
        }
    )


def _figures(name: str, store: Store) -> dict[str, dict[str, float]]:
    frame = store.frame()
    known = frame[(frame["status"] == "measured") & frame["name"].isin(FIGURES)]
    means = known.groupby(["cohort", "name"])["value"].mean()
    return {
        f"{name} {cohort}": {figure: round(float(means[cohort, figure]), 4) for figure in FIGURES}
        for cohort in ASKED[name]
    }
