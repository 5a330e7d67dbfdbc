"""Candidates for a release: charged to the ledger of their data first, refused where no ε bounds what they reveal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from assay.errors import CheckpointError, LedgerError
from assay.evaluations.base import Evaluation
from assay.ledger.account import ReleaseRequest
from assay.ledger.experiments import Processing
from assay.ledger.protocol import LedgerProtocol
from assay.privacy.composition import UNBOUNDED
from assay.recipes import Recipe
from assay.registry import build
from assay.release.charge import charge_of
from assay.results import TELLS_OF
from assay.store.folder import Store
from assay.study.finished import Finished
from assay.study.objections import WITHOUT_PRIVACY, objections_to, other_neighbours
from assay.training.checkpoints import artefact_of, from_bytes


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One finished trial of a study that may be released."""

    trial: str
    """Its identifier; ``request`` names the model, which other trials may share."""
    cohort: str
    data: str
    """Digest of the data that it was trained on."""
    recipe: Mapping[str, Any]
    """The recipe of the study file; empty for a checkpoint that Assay did not train."""
    request: ReleaseRequest
    objections: tuple[str, ...]
    """Why it may not be released."""


def candidates(store: Store, only: str | None = None) -> list[Candidate]:
    """Returns every finished trial of a study, or one of them.

    Args:
        store: of the study.
        only: identifier of the one; None for all.

    Returns:
        The candidates.
    """
    frame, asked, finished, measured = store.frame(), store.asked(), store.finished(), store.artefacts()
    trainings = store.trainings()
    labels = (yaml.safe_load(store.read_text("study.yaml")) or {}).get("trials", {})
    rows = {str(trial): rows_of_trial for trial, rows_of_trial in frame.groupby("trial", sort=False)}
    return [
        _candidate(
            store,
            (trial, trainings[trial]),
            asked[trial],
            rows[trial],
            label=labels.get(trial, trial),
            measured=measured.get(trial, ""),
        )
        for trial in asked
        if trial in finished and only in (None, trial)
    ]


def require_releasable(candidates: Sequence[Candidate]) -> None:
    """Raises an error if a candidate may not be released.

    Args:
        candidates: the candidates.

    Raises:
        LedgerError: names the candidates, and why they may not be released.
    """
    refused = [candidate for candidate in candidates if candidate.objections]
    if refused:
        reasons = "; ".join(f"{item.request.label}: {', '.join(item.objections)}" for item in refused[:5])
        more = f", and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise LedgerError(f"{len(refused)} of {len(candidates)} trials may not be released: {reasons}{more}")


def uncovered(own: pd.DataFrame, asked: Mapping[str, Any]) -> np.ndarray:
    """Returns which rows of a trial no ε covers; see ``Evaluation.of_training_records``.

    Args:
        own: the rows of one trial.
        asked: the requested trial.

    Returns:
        (rows,) bool.

    Raises:
        LedgerError: an earlier version did not store which rows these are.
    """
    of_training = np.array([TELLS_OF in conditions for conditions in own["conditions"]], dtype=bool)
    if not of_training.any() and (names := of_training_records(asked)):
        raise LedgerError(
            f"an earlier version of Assay measured {', '.join(names)}, and did not note which figures were read off "
            "training records; run the study again"
        )
    return of_training


def of_training_records(asked: Mapping[str, Any]) -> list[str]:
    """Returns the names of a trial's evaluations that read training records, or train on them again.

    Args:
        asked: the requested trial.

    Returns:
        The names.
    """
    evaluations = [build("evaluation", choice) for choice in asked.get("evaluations", ())]
    return [item.name for item in evaluations if isinstance(item, Evaluation) and item.of_training_records]


def for_others(store: Store, finished: Finished) -> Finished:
    """Returns a private model without the figures that no ε covers.

    Args:
        store: of the study.
        finished: the model with all its figures.

    Returns:
        The model with the figures and warnings that may be published.

    Raises:
        LedgerError: an earlier version did not store which figures these are.
    """
    rows = finished.own
    frame = rows[~uncovered(rows, store.asked()[finished.trial])]
    return replace(finished, frame=frame, dataset=finished.dataset.for_others)


def charge(
    ledger: LedgerProtocol,
    chosen: Sequence[Candidate],
    *,
    how: str,
    processing: Processing,
    budget: tuple[float | None, float | None, str] = (None, None, ""),
    looked_at: Sequence[Candidate] = (),
    plan: Sequence[Candidate] | None = None,
    rehearsed: bool = False,
) -> None:
    """Charges a release, and the models that influenced its choice, once.

    Args:
        ledger: of the data.
        chosen: the models to release.
        how: destination, as text.
        processing: purpose of the release.
        budget: ε and δ of all releases together, and why they change; see ``LedgerProtocol.release``.
        looked_at: models whose results influenced the choice.
        plan: the declared plan; its releasable members are charged.
        rehearsed: raise the errors of a release, but charge nothing.

    Raises:
        LedgerError: a model may not be released, or the budget is too small.
    """
    require_releasable([*chosen, *looked_at])
    epsilon, delta, reason = budget
    ledger.release(
        _each_once(chosen),
        how=how,
        looked_at=_each_once(looked_at),
        processing=processing,
        epsilon=epsilon,
        delta=delta,
        reason=reason,
        plan=None if plan is None else _each_once([member for member in plan if not member.objections]),
        rehearsed=rehearsed,
    )


def _each_once(candidates: Sequence[Candidate]) -> list[ReleaseRequest]:
    """Returns each model once, even if several trials share it."""
    requests = [candidate.request for candidate in candidates]
    return list({(request.training, request.artefact): request for request in requests}.values())


def require_same_weights(trial: str, *, chosen: str, found: str) -> None:
    """Raises an error if the weights changed since they were chosen (and charged, for a release).

    Args:
        trial: identifier of the trained model.
        chosen: hash of the weights when they were chosen.
        found: hash of the weights now; empty if they are gone.

    Raises:
        CheckpointError: the hashes differ.
    """
    if found != chosen:
        raise CheckpointError(
            f"the weights of trial {trial} are {found or 'gone'}, not {chosen} as when they were chosen: it was "
            "trained again since; export or serve it anew, and the new ones are charged if they leave"
        )


def _candidate(
    store: Store, names: tuple[str, str], asked: Mapping[str, Any], own: pd.DataFrame, *, label: str, measured: str
) -> Candidate:
    """Returns one trial as a candidate in its present state.

    Args:
        names: identifier of the trial, and of its model in the ledger.
        measured: hash of the weights behind its figures; empty where it is unknown.
    """
    trial, training = names
    recipe = Recipe.model_validate(asked["recipe"]) if "recipe" in asked else None
    content = store.checkpoint(training) or b""
    artefact = artefact_of(content)
    # Read from the same bytes as the hash: the file may change between two reads.
    spent = charge_of(from_bytes(content, f"checkpoint of model {training}")[1]) if content else {}
    objections = [*objections_to(recipe, own), *other_neighbours(own)]
    if recipe is None or recipe.privacy is None:
        objections.append(WITHOUT_PRIVACY)
        spent = UNBOUNDED
    elif not spent:
        objections.append("its weights are gone, or left no account of what they spent; run the study again")
    elif measured not in ("", artefact):
        objections.append("its weights are not those that were measured; run the study again with --force")
    label = f"{Path(store.location).name} · {label}"
    return Candidate(
        trial=trial,
        cohort=asked.get("cohort", ""),
        data=asked.get("data", ""),
        recipe=asked.get("recipe", {}),
        request=ReleaseRequest(training=training, label=label, charge=spent, artefact=artefact),
        objections=tuple(objections),
    )
