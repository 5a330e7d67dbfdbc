"""One audit of a trial's trainer, without training the trial itself."""

import torch

from assay.data.base import Dataset
from assay.evaluations.audit import Audit
from assay.evaluations.base import Subject
from assay.evaluations.canary_runs import Watch
from assay.results import Measurement, judged
from assay.study.training import device, network_of, prepared
from assay.study.trial import Trial


def audit_trial(trial: Trial, dataset: Dataset, audit: Audit, watch: Watch | None = None) -> list[Measurement]:
    """What the evaluation ``audit`` would say of the trial; ``watch`` is told of each epoch."""
    torch.set_num_threads(trial.threads)
    dataset, parts = prepared(trial, dataset)
    network = network_of(trial, dataset)
    subject = Subject(
        model=network().to(device()),
        dataset=dataset,
        split=parts,
        recipe=trial.recipe,
        log=None,
        seed=trial.trial_seed,
        device=device(),
        network=network,
    )
    return judged(audit.run(subject, watch))
