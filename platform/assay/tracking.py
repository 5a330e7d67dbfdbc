"""Mirror of finished trials in Weights & Biases.

The Parquet files are the truth: a failure here is a warning, never a failed trial. In offline mode nothing leaves this
machine. In online mode figures leave it, and no ledger charges ε for them. So figures that a ledger must charge for, or
never releases, are not sent.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from assay.results import TELLS_OF, Measurement, TrialRecord

Mirror = Callable[[TrialRecord], None]
_STAYS_HERE = ("offline", "dryrun", "disabled")
"""Modes of W&B that send nothing."""


@contextmanager
def mirror(study: Any, *, enabled: bool, warn: Callable[[str], object], sweep: str = "") -> Iterator[Mirror]:
    """Yields a function that shows a record as one W&B run, grouped by study; offline unless ``WANDB_MODE`` is set.

    A run has the figures and the settings of its trial, and names its model by the key and the hash of the stored file.
    The weights themselves are not sent: a model leaves by ``jobs.ledger`` alone.

    Args:
        study: anything with ``name`` and ``model_dump``.
        enabled: if false, wandb is not imported and nothing is shown.
        warn: called at most once with what ``WANDB_MODE=online`` sends, and once with the reason why mirroring stopped.
        sweep: name of the sweep to which the trials belong, which is then their group; empty for those of a study.

    Returns:
        Context manager; its value takes a trial's record.
    """
    state = {"on": enabled, "told": False}

    def show(record: TrialRecord) -> None:
        if not state["on"]:
            return
        online = os.environ.get("WANDB_MODE") not in _STAYS_HERE
        if online and not state["told"]:
            state["told"] = True
            warn(
                "warning: W&B is online, so what is measured leaves this machine, and no ledger charges for it: "
                "nothing bounds what it adds up to. Left out are figures read off training records, and all figures of "
                "private trials with noise: entropy, which leave through jobs.ledger alone"
            )
        try:
            _show(study, record, sweep=sweep, online=online)
        except Exception as error:  # whatever W&B does, the study goes on
            state["on"] = False
            warn(f"warning: no longer mirroring to W&B: {type(error).__name__}: {error}")

    os.environ.setdefault("WANDB_MODE", "offline")
    yield show


def _show(study: Any, record: TrialRecord, *, sweep: str, online: bool) -> None:
    import wandb

    named = {"trial": record.trial, "training": record.training or record.trial, "artefact": record.artefact}

    run = wandb.init(
        project="assay",
        group=sweep or study.name,
        job_type="sweep" if sweep else "study",
        name=f"{record.dataset}-{record.recipe}-{record.repeat}-{record.fold}",
        id=record.trial,
        config={**named, "sweep": sweep, **dict(record.provenance.get("asked", {}))},
        settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        reinit="finish_previous",
    )
    figures = {}
    for measurement in record.measurements:
        if measurement.status == "measured" and not (online and _stays(record, measurement)):
            conditions = [
                f"{key}={measurement.conditions[key]}"
                for key in ("attack", "epsilon", "client", "map")
                if key in measurement.conditions
            ]
            figures["/".join([measurement.name, *conditions])] = measurement.value
    run.log({**figures, "seconds": record.seconds, "failed": int(record.failed)})
    run.finish()


def _stays(record: TrialRecord, measurement: Measurement) -> bool:
    """Returns whether a figure may not be sent: it needs a charge of ε, or may never be released."""
    privacy = record.provenance.get("asked", {}).get("recipe", {}).get("privacy") or {}
    return TELLS_OF in measurement.conditions or privacy.get("noise") == "entropy"
