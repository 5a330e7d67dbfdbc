"""A mirror of finished trials in Weights & Biases.

Parquet is the truth: a failure here is a warning, never a failed trial.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from assay.results import TrialRecord

Mirror = Callable[[TrialRecord], None]


@contextmanager
def mirror(study: Any, *, enabled: bool, warn: Callable[[str], object]) -> Iterator[Mirror]:
    """Shows each record it is given as one W&B run, grouped by study; offline unless ``WANDB_MODE`` says otherwise.

    Args:
        study: anything with ``name`` and ``model_dump``.
        enabled: if false, nothing is imported and nothing shown.
        warn: told, once, why mirroring stopped.
    """
    state = {"on": enabled}

    def show(record: TrialRecord) -> None:
        if not state["on"]:
            return
        try:
            _show(study, record)
        except Exception as error:  # whatever W&B does, the study goes on
            state["on"] = False
            warn(f"warning: no longer mirroring to W&B: {type(error).__name__}: {error}")

    os.environ.setdefault("WANDB_MODE", "offline")
    yield show


def _show(study: Any, record: TrialRecord) -> None:
    import wandb

    run = wandb.init(
        project="assay",
        group=study.name,
        name=f"{record.dataset}-{record.recipe}-{record.repeat}-{record.fold}",
        id=record.trial,
        config={"trial": record.trial, **dict(record.provenance.get("asked", {}))},
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        reinit="finish_previous",
    )
    figures = {}
    for measurement in record.measurements:
        if measurement.status == "measured":
            conditions = [
                f"{key}={measurement.conditions[key]}"
                for key in ("attack", "epsilon", "client", "map")
                if key in measurement.conditions
            ]
            figures["/".join([measurement.name, *conditions])] = measurement.value
    run.log({**figures, "seconds": record.seconds, "failed": int(record.failed)})
    run.finish()
