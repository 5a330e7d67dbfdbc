"""What is handed over, with its claim: the weights of one trial, or the page of a whole study."""

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
"""Makes the page of a study, given the data of its cohorts, from what is stored now."""
NOT_COVERED = (
    "ε covers the training records in the weights and nothing else: not figures measured on test or validation records "
    "(accuracy, robustness, …), operating points, what is said of the data set, or networks that an evaluation trained "
    "again to compare with; nor the choice by held-out records, where those belong to the same data"
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """The trials on one data set: one ledger keeps account of them."""

    dataset: Dataset
    included: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The page of a study, and exactly the trials of which it tells."""

    page: str
    parts: tuple[Part, ...]


def report_of(store: Store, render: Render) -> Report:
    """Render the page of a study, if every trial that the study plans may be released, and every figure on it.

    Raises:
        SpecError: there is no study, or it has not been run to its end.
        LedgerError: names what may not leave, and why; or the results changed meanwhile.
        DataError: the data are no longer those of the trials.
    """
    text = store.read_text("study.yaml")
    if not text:
        said = f"there is no study in {store.location!r}, so there is no report to export"
        raise SpecError(said, setting="results", given=store.location)
    about = yaml.safe_load(text)
    included = candidates(store)
    _refuse_unplanned(store, about["trials"], included)
    require_releasable(included)
    _refuse_uncovered(store)
    study = Study.model_validate(about["study"])
    datasets = load_datasets(study)
    for one in included:
        if one.data != datasets[one.cohort].digest:
            raise DataError(f"{one.request.label}: the data have changed since; run the study again")
    page = render(study, {name: dataset.for_others for name, dataset in datasets.items()}, store)
    # A lock would not do: results in an object store have none. Weights are stored before the figures of a trial, so
    # the same weights before and after are those of every figure on the page.
    if (store.read_text("study.yaml"), candidates(store), store.failures()) != (text, included, {}):
        raise LedgerError(f"{store.location!r} has changed while the report was made; export it again")
    ledgers: dict[str, Part] = {}
    for name, dataset in datasets.items():
        own = tuple(one for one in included if one.cohort == name)
        held = ledgers.setdefault(dataset.origin.digest, Part(dataset=dataset, included=()))
        ledgers[dataset.origin.digest] = replace(held, included=held.included + own)
    return Report(page=page, parts=tuple(ledgers.values()))


def export_model(store: Store, one: Candidate, folder: Path, dataset: Dataset, account: Account) -> list[Path]:
    """Write weights and claim to a folder. The training's log stays: it holds losses of its records.

    Raises:
        CheckpointError: the weights are gone, or are not those that were charged.
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
    """Write a report and the claim of all its trials to a folder.

    Args:
        accounts: of the ledger of each part.
    """
    page = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(report.page, encoding="utf-8")
    return [page, _write_claim(_claim(list(zip(report.parts, accounts, strict=True))), folder)]


def _refuse_unplanned(store: Store, planned: Mapping[str, str], included: Sequence[Candidate]) -> None:
    """Raises unless the candidates are the study's plan: all of it, and nothing else.

    Args:
        planned: label of each trial, by id.
    """
    if failed := store.failures():
        raise LedgerError(
            f"{len(failed)} trials failed and are named in the report, with why; run the study to its end"
        )
    stored = {one.trial for one in included}
    missing = [label for trial, label in planned.items() if trial not in stored]
    if missing or not stored:
        told = ", ".join(missing[:5]) + (f", and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise SpecError(
            f"{len(missing)} of {len(planned)} trials have not finished, so there is no report to export ({told}); run "
            "the study to its end"
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
        for trial, own in frame.groupby("trial", sort=False)
        if (own["status"].to_numpy() == "measured")[uncovered(own, asked[str(trial)])].any()
        for name in of_training_records(asked[str(trial)])
    }
    if shown:
        raise LedgerError(
            f"the report shows figures of {', '.join(sorted(shown))}, measured on the training records themselves or "
            "on networks that were trained on them again, and no ε pays for that; run the study again without these "
            "evaluations"
        )


def _claim(parts: Sequence[tuple[Part, Account]]) -> dict[str, Any]:
    """What is promised of everything that is exported together, and what is not; JSON-able."""
    together = [_together(part.dataset, account) for part, account in parts]
    # Of everything that is claimed here, the weaker promise.
    unit: Unit = "record" if any(account.unit == "record" for _, account in parts) else "patient"
    return {
        "assay": assay.__version__,
        "trials": [
            {
                "trial": one.trial,
                "label": one.request.label,
                "weights": one.request.artefact,
                "epsilon": rdp_epsilon_of([one.request.charge], delta=account.delta),
                "delta": account.delta,
                "unit": unit_of([one.request.charge]),
                "accountant": "RDP",
                "mechanisms": {
                    name: [asdict(mechanism) for mechanism in own] for name, own in one.request.charge.items()
                },
                "recipe": one.recipe,
            }
            for part, account in parts
            for one in part.included
        ],
        # Of the data set that spent most.
        "released_together": max(together, key=lambda of_one: float(of_one["epsilon"])),
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
        "releases": sum(bool(held.released) for held in account.charges),
    }


def _caution(dataset: Dataset, account: Account) -> str:
    """What an ε of single records leaves open where patients have several; empty elsewhere."""
    groups = dataset.origin.groups
    most = 1 if groups is None else int(np.unique(groups, return_counts=True)[1].max())
    if account.unit == "patient" or most == 1:
        return ""
    return (
        f"ε protects one record, as privacy.unit: record asks; a patient has up to {most} records and is protected "
        "that many times less at best"
    )


def _write_claim(claim: Mapping[str, Any], folder: Path) -> Path:
    said = folder / "claim.json"
    said.write_text(json.dumps(claim, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return said
