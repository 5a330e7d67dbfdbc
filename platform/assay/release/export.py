"""Exports with a claim: the weights of one trial, or the report of a whole study."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import assay
from assay.data.base import Dataset
from assay.errors import DataError, LedgerError, SpecError
from assay.ledger.account import Account
from assay.privacy.composition import rdp_epsilon_of, unit_of
from assay.privacy.unit import NEIGHBOURS, Unit
from assay.release.candidates import (
    Candidate,
    candidates,
    of_training_records,
    require_releasable,
    require_same_weights,
    uncovered,
)
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.spec import Study
from assay.training.checkpoints import artefact_of, networks_from_bytes, networks_to_bytes

Render = Callable[[Study, Mapping[str, Dataset], Store], str]
"""Renders the report of a study from its data sets and its stored results."""
NOT_COVERED = (
    "ε covers the training records in the weights and nothing else: not figures measured on test or validation records "
    "(accuracy, robustness, …), operating points, what is said of the data set, or networks that an evaluation trained "
    "again to compare with; nor the choice by held-out records, where those belong to the same data"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The trials on one data set, which share a ledger."""

    dataset: Dataset
    included: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of a study, with exactly the trials that it shows."""

    page: str
    parts: tuple[Part, ...]


def report_of(store: Store, render: Render) -> Report:
    """Renders the report of a study, if every planned trial and every figure in it may be released.

    Args:
        store: of the study.
        render: makes the page.

    Returns:
        The report.

    Raises:
        SpecError: there is no study, or it is not finished.
        LedgerError: names what may not be released, and why; or the results changed meanwhile.
        DataError: the data differ from those of the trials.
    """
    text = store.read_text("study.yaml")
    if not text:
        message = f"there is no study in {store.location!r}, so there is no report to export"
        raise SpecError(message, setting="results", given=store.location)
    about = yaml.safe_load(text)
    included = candidates(store)
    _refuse_unplanned(store, about["trials"], included)
    require_releasable(included)
    _refuse_uncovered(store)
    study = Study.model_validate(about["study"])
    datasets = load_datasets(study)
    for candidate in included:
        if candidate.data != datasets[candidate.cohort].digest:
            raise DataError(f"{candidate.request.label}: the data have changed since; run the study again")
    page = render(study, {name: dataset.for_others for name, dataset in datasets.items()}, store)
    # Results in an object store cannot be locked. Weights are stored before the figures of a trial: weights that are
    # equal before and after belong to every figure of the report.
    if (store.read_text("study.yaml"), candidates(store), store.failures()) != (text, included, {}):
        raise LedgerError(f"{store.location!r} has changed while the report was made; export it again")
    ledgers: dict[str, Part] = {}
    for name, dataset in datasets.items():
        of_cohort = tuple(candidate for candidate in included if candidate.cohort == name)
        part = ledgers.setdefault(dataset.origin.digest, Part(dataset=dataset, included=()))
        ledgers[dataset.origin.digest] = replace(part, included=part.included + of_cohort)
    return Report(page=page, parts=tuple(ledgers.values()))


def export_model(store: Store, one: Candidate, folder: Path, dataset: Dataset, account: Account) -> list[Path]:
    """Writes weights and claim to a folder, without the training log, which holds losses of training records.

    Args:
        store: of the study.
        one: the trial.
        folder: created if it is missing.
        dataset: of the trial.
        account: of the ledger, after the charge.

    Returns:
        The files.

    Raises:
        CheckpointError: the weights are gone, or differ from those that were charged.
    """
    content = store.checkpoint(one.request.training)
    require_same_weights(
        one.request.training, chosen=one.request.artefact, found="" if content is None else artefact_of(content)
    )
    assert content is not None
    networks, _ = networks_from_bytes(content, f"checkpoint of model {one.request.training}")
    claim = _claim([(Part(dataset=dataset, included=(one,)), account)])
    weights = folder / "model.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(networks_to_bytes(networks, {"claim": claim}))
    return [weights, _write_claim(claim, folder)]


def export_report(report: Report, folder: Path, accounts: Sequence[Account]) -> list[Path]:
    """Writes a report and the claim of all its trials to a folder.

    Args:
        report: the report.
        folder: created if it is missing.
        accounts: of the ledger of each part, after the charge.

    Returns:
        The files.
    """
    page = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(report.page, encoding="utf-8")
    return [page, _write_claim(_claim(list(zip(report.parts, accounts, strict=True))), folder)]


def _refuse_unplanned(store: Store, planned: Mapping[str, str], included: Sequence[Candidate]) -> None:
    """Raises an error if the candidates are not exactly the planned trials of the study.

    Args:
        planned: label of each trial, by identifier.
    """
    if failed := store.failures():
        raise LedgerError(
            f"{len(failed)} trials failed and are named in the report, with why; run the study to its end"
        )
    stored = {candidate.trial for candidate in included}
    missing = [label for trial, label in planned.items() if trial not in stored]
    if missing or not stored:
        first = ", ".join(missing[:5]) + (f", and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise SpecError(
            f"{len(missing)} of {len(planned)} trials have not finished, so there is no report to export ({first}); "
            "run the study to its end"
        )
    if other := sorted(stored - set(planned)):
        raise SpecError(
            f"{store.location!r} holds {len(other)} trials that the study does not plan ({', '.join(other[:5])}); run "
            "it again, which puts them aside"
        )


def _refuse_uncovered(store: Store) -> None:
    frame, asked = store.frame(), store.asked()
    shown = {
        name
        for trial, rows in frame.groupby("trial", sort=False)
        if (rows["status"].to_numpy() == "measured")[uncovered(rows, asked[str(trial)])].any()
        for name in of_training_records(asked[str(trial)])
    }
    if shown:
        raise LedgerError(
            f"the report shows figures of {', '.join(sorted(shown))}, measured on the training records themselves or "
            "on networks that were trained on them again, and no ε pays for that; run the study again without these "
            "evaluations"
        )


def _claim(parts: Sequence[tuple[Part, Account]]) -> dict[str, Any]:
    """Returns the privacy claim of everything that is exported together; JSON-able."""
    together = [_together(part.dataset, account) for part, account in parts]
    # The weaker guarantee of all parts.
    unit: Unit = "record" if any(account.unit == "record" for _, account in parts) else "patient"
    return {
        "assay": assay.__version__,
        "trials": [
            {
                "trial": candidate.trial,
                "label": candidate.request.label,
                "weights": candidate.request.artefact,
                "epsilon": rdp_epsilon_of([candidate.request.charge], delta=account.delta),
                "delta": account.delta,
                "unit": unit_of([candidate.request.charge]),
                "accountant": "RDP",
                "mechanisms": {
                    name: [asdict(mechanism) for mechanism in mechanisms]
                    for name, mechanisms in candidate.request.charge.items()
                },
                "recipe": candidate.recipe,
            }
            for part, account in parts
            for candidate in part.included
        ],
        # Of the data set that spent most.
        "released_together": max(together, key=lambda of_data: float(of_data["epsilon"])),
        "released_of_each": together,
        "neighbours": NEIGHBOURS[unit],
        "unit": unit,
        "sampling": "Poisson",
        "rng": "Philox 4x64 from entropy that is not stored; not a cryptographic generator",
        "not_covered": NOT_COVERED,
    }


def _together(dataset: Dataset, account: Account) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "epsilon": account.bound,
        "delta": account.delta,
        "unit": account.unit,
        "caution": _caution(dataset, account),
        "accountant": account.accountant,
        "bounded_by": account.bounded_by,
        "budget": None if account.budget is None else account.budget.epsilon,
        "releases": sum(bool(record.released) for record in account.charges),
    }


def _caution(dataset: Dataset, account: Account) -> str:
    """Returns a warning where ε protects single records but patients have several; empty elsewhere."""
    groups = dataset.origin.groups
    most = 1 if groups is None else int(np.unique(groups, return_counts=True)[1].max())
    if account.unit == "patient" or most == 1:
        return ""
    return (
        f"ε protects one record, as privacy.unit: record asks; a patient has up to {most} records and is protected "
        "that many times less at best"
    )


def _write_claim(claim: Mapping[str, Any], folder: Path) -> Path:
    file = folder / "claim.json"
    file.write_text(json.dumps(claim, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return file
