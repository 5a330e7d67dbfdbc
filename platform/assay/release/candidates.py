"""A trial leaves the curator: charged to the ledger of its data first, refused where nothing bounds what it reveals."""

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
    """One finished trial of a study, as it would be released."""

    trial: str
    """Its id; its ``request`` names the model, which other trials may show too."""
    cohort: str
    data: str
    """Digest of the data that it was trained on."""
    recipe: Mapping[str, Any]
    """As it was asked; empty for a checkpoint that Assay did not train."""
    request: ReleaseRequest
    objections: tuple[str, ...]
    """Why it may not leave."""


def candidates(store: Store, only: str | None = None) -> list[Candidate]:
    """Every finished trial of a study, or one.

    Args:
        only: id of the one.
    """
    frame, asked, finished, measured = store.frame(), store.asked(), store.finished(), store.artefacts()
    trainings = store.trainings()
    labels = (yaml.safe_load(store.read_text("study.yaml")) or {}).get("trials", {})
    rows = {str(trial): own for trial, own in frame.groupby("trial", sort=False)}
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
    """Raises LedgerError unless all candidates may be released.

    Raises:
        LedgerError: names what may not be, and why.
    """
    refused = [one for one in candidates if one.objections]
    if refused:
        told = "; ".join(f"{one.request.label}: {', '.join(one.objections)}" for one in refused[:5])
        more = f", and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise LedgerError(f"{len(refused)} of {len(candidates)} trials may not be released: {told}{more}")


def uncovered(own: pd.DataFrame, asked: Mapping[str, Any]) -> np.ndarray:
    """Which rows of a trial no ε pays for, (rows,) bool; see ``Evaluation.of_training_records``.

    Raises:
        LedgerError: an earlier version did not note which these are.
    """
    told = np.array([TELLS_OF in conditions for conditions in own["conditions"]], dtype=bool)
    if not told.any() and (names := of_training_records(asked)):
        raise LedgerError(
            f"an earlier version of Assay measured {', '.join(names)}, and did not note which figures were read off "
            "training records; run the study again"
        )
    return told


def of_training_records(asked: Mapping[str, Any]) -> list[str]:
    """Names of the evaluations of a trial that look at training records, or train on them again."""
    evaluations = [build("evaluation", choice) for choice in asked.get("evaluations", ())]
    return [one.name for one in evaluations if isinstance(one, Evaluation) and one.of_training_records]


def for_others(store: Store, finished: Finished) -> Finished:
    """A private model with what may be said of it to others: figures and warnings, less those that no ε pays for.

    Raises:
        LedgerError: an earlier version did not note which these are.
    """
    own = finished.own
    frame = own[~uncovered(own, store.asked()[finished.trial])]
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
    """Charge what leaves, and what it was chosen by, once.

    Args:
        budget: ε and δ that all releases together may spend, and why it changes; see ``Charges.release``.
        plan: what was declared as a whole; of it, whatever may be released.
        rehearsed: raise what would be raised, and charge nothing.

    Raises:
        LedgerError: something may not be released, or the budget does not hold it.
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
        plan=None if plan is None else _each_once([one for one in plan if not one.objections]),
        rehearsed=rehearsed,
    )


def _each_once(candidates: Sequence[Candidate]) -> list[ReleaseRequest]:
    """Each model once, however many trials show it."""
    return list({(one.request.training, one.request.artefact): one.request for one in candidates}.values())


def require_same_weights(trial: str, *, chosen: str, found: str) -> None:
    """Raises CheckpointError unless the weights are those that were chosen, and charged if they leave.

    Raises:
        CheckpointError: they are others.
    """
    if found != chosen:
        raise CheckpointError(
            f"the weights of trial {trial} are {found or 'gone'}, not {chosen} as when they were chosen: it was "
            "trained again since; export or serve it anew, and the new ones are charged if they leave"
        )


def _candidate(
    store: Store, names: tuple[str, str], asked: Mapping[str, Any], own: pd.DataFrame, *, label: str, measured: str
) -> Candidate:
    """One trial, as it would be released now.

    Args:
        names: its id, and the name of its model, by which its ledger knows it.
        measured: hash of the weights behind its figures, empty where it is not known.
    """
    trial, training = names
    recipe = Recipe.model_validate(asked["recipe"]) if "recipe" in asked else None
    content = store.checkpoint(training) or b""
    artefact = artefact_of(content)
    # From the same bytes as the hash: the file may change between two readings.
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
