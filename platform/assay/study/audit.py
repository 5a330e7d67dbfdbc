"""Audits the trainer of a trial, without training the trial itself."""

import torch

from assay.data.base import Dataset
from assay.devices import device, on_cpu, repeatable
from assay.evaluations.audit import Audit
from assay.evaluations.canary_runs import OnCanaryEpoch
from assay.evaluations.subject import Subject
from assay.evaluations.two_runs import noise_shared
from assay.results import Measurement, judged
from assay.study.training import network_of, prepare_records
from assay.study.trial import Trial


def audit_trial(trial: Trial, dataset: Dataset, audit: Audit, watch: OnCanaryEpoch | None = None) -> list[Measurement]:
    """Runs one audit of a trial's trainer.

    Args:
        trial: whose recipe is audited.
        dataset: of the trial.
        audit: the evaluation, with its settings.
        watch: called after each epoch with the number of finished epochs and of all epochs.

    Returns:
        The audited ε and its checks.
    """
    with on_cpu(trial.device == "cpu"), repeatable(tf32=False):
        return judged(audit.read(audit.run(_subject(trial, dataset), watch)))


def compare_noise(trial: Trial, other: Trial, dataset: Dataset) -> list[Measurement]:
    """Checks whether two private trials draw the same noise.

    Args:
        trial: a private trial.
        other: another private trial on the same data.
        dataset: of both.

    Returns:
        One check.
    """
    with on_cpu(trial.device == "cpu"):
        return judged([noise_shared(_subject(trial, dataset), _subject(other, dataset))])


def _subject(trial: Trial, dataset: Dataset) -> Subject:
    torch.set_num_threads(trial.threads)
    dataset, parts = prepare_records(trial, dataset)
    network = network_of(trial, dataset)
    return Subject(
        model=network().to(device()),
        dataset=dataset,
        split=parts,
        recipe=trial.recipe,
        log=None,
        seed=trial.trial_seed,
        device=device(),
        network=network,
        task=trial.task,
    )
