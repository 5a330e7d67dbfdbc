"""A trial leaves the curator: charged to the ledger of its data first, refused where nothing bounds what it reveals."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import assay
from assay.errors import CheckpointError, LedgerError, SpecError
from assay.privacy.composition import NEIGHBOURS, UNBOUNDED, rdp_epsilon_of
from assay.privacy.ledger.charges import Account, Offer
from assay.recipes import Recipe
from assay.study.charge import charge_of
from assay.study.finished import objections_to
from assay.study.store import Store
from assay.training.checkpoints import from_bytes, to_bytes

_OF_TRAINING_RECORDS = ("membership", "lira", "epsilon_audited", "local_only_accuracy", "centralised_accuracy")
"""Beginnings of the names of figures that show training records, or networks trained on them again, uncharged."""
NOT_COVERED = (
    "ε covers the training records in the weights and nothing else: not figures measured on test or validation records "
    "(accuracy, robustness, …), operating points, what is said of the data set, or networks that an evaluation trained "
    "again to compare with"
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One finished trial of a study, as it would be released."""

    cohort: str
    data: str
    """Digest of the data that it was trained on."""
    offer: Offer
    objections: tuple[str, ...]
    """Why it may not leave."""

    @property
    def private(self) -> bool:
        return self.offer.charge != UNBOUNDED


def candidates(store: Store, only: str | None = None) -> list[Candidate]:
    """Every finished trial of a study, or one.

    Args:
        only: id of the one.
    """
    frame, asked, finished = store.frame(), store.asked(), store.finished()
    labels = (yaml.safe_load(store.read_text("study.yaml")) or {}).get("trials", {})
    rows = {str(trial): own for trial, own in frame.groupby("trial", sort=False)}
    return [
        _candidate(store, trial, asked[trial], rows[trial], labels.get(trial, trial))
        for trial in asked
        if trial in finished and only in (None, trial)
    ]


def refuse(candidates: Sequence[Candidate]) -> None:
    """Let pass what may be released.

    Raises:
        LedgerError: names what may not be, and why.
    """
    refused = [one for one in candidates if one.objections]
    if refused:
        told = "; ".join(f"{one.offer.label}: {', '.join(one.objections)}" for one in refused[:5])
        more = f", and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise LedgerError(f"{len(refused)} of {len(candidates)} trials may not be released: {told}{more}")


def refuse_report(store: Store, included: Sequence[Candidate]) -> None:
    """Let a report pass if every trial in it may be released and no figure in it was read off training records.

    Raises:
        LedgerError: names what may not leave, and why.
    """
    if not included:
        raise SpecError(f"no trial in {store.location!r} has finished, so there is no report to export")
    failed = store.failures()
    if failed:
        raise LedgerError(
            f"{len(failed)} trials failed and are named in the report, with why; run the study to its end"
        )
    refuse(included)
    frame = store.frame()
    measured = frame[frame["status"] == "measured"]["name"].unique()
    leaking = sorted(name for name in measured if name.startswith(_OF_TRAINING_RECORDS))
    if leaking:
        raise LedgerError(
            f"the report shows {', '.join(leaking)}, measured on the training records themselves, and no ε pays for "
            "that; run the study again without these evaluations"
        )


def export_model(store: Store, one: Candidate, folder: Path, account: Account) -> list[Path]:
    """Write weights and claim to a folder. The training's log stays: it holds losses of its records."""
    content = store.checkpoint(one.offer.trial)
    if content is None:
        raise CheckpointError(f"the weights of trial {one.offer.trial} are not in {store.location!r}")
    tensors, _ = from_bytes(content, f"checkpoint of trial {one.offer.trial}")
    claim = _claim(store, [one], account)
    folder.mkdir(parents=True, exist_ok=True)
    weights, said = folder / "model.safetensors", folder / "claim.json"
    weights.write_bytes(to_bytes(tensors, {"claim": claim}))
    said.write_text(json.dumps(claim, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [weights, said]


def export_report(store: Store, included: Sequence[Candidate], folder: Path, account: Account) -> list[Path]:
    """Copy the report and the claim of all its trials to a folder.

    Raises:
        SpecError: the study has no report.
    """
    page = store.read_text("report.html")
    if not page:
        raise SpecError(f"there is no report.html in {store.location!r}; run the study to its end")
    folder.mkdir(parents=True, exist_ok=True)
    report, said = folder / "report.html", folder / "claim.json"
    report.write_text(page, encoding="utf-8")
    claim = _claim(store, included, account)
    said.write_text(json.dumps(claim, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return [report, said]


def _candidate(store: Store, trial: str, asked: Mapping[str, Any], own: pd.DataFrame, label: str) -> Candidate:
    recipe = Recipe.model_validate(asked["recipe"]) if "recipe" in asked else None
    charge, content = charge_of(store.checkpoint_log(trial)), store.checkpoint(trial)
    objections = [*objections_to(recipe, own), *_other_neighbours(own)]
    if recipe is None or recipe.privacy is None:
        objections.append("it was trained without privacy, so nothing bounds what it reveals of a patient (ε = ∞)")
        charge = UNBOUNDED
    elif not charge:
        objections.append("its weights are gone, or left no account of what they spent; run the study again")
    label = f"{Path(store.location).name} · {label}"
    artefact = hashlib.sha256(content or b"").hexdigest()[:20]
    return Candidate(
        cohort=asked.get("cohort", ""),
        data=asked.get("data", ""),
        offer=Offer(trial=trial, label=label, charge=charge, artefact=artefact),
        objections=tuple(objections),
    )


def _other_neighbours(own: pd.DataFrame) -> Iterator[str]:
    """What is claimed of another neighbouring relation cannot be added up with the rest."""
    claimed = own[(own["name"] == "epsilon") & (own["status"] == "measured")]
    for about in claimed["conditions"]:
        if about.get("neighbours") != NEIGHBOURS or about.get("unit") != "record":
            yield (
                f"its ε is of neighbours by {about.get('neighbours')!r}, of unit {about.get('unit')!r}; what adds up "
                f"here is of {NEIGHBOURS!r}, of unit 'record'"
            )


def _claim(store: Store, included: Sequence[Candidate], account: Account) -> dict[str, Any]:
    """What is promised of everything that is exported together, and what is not; JSON-able."""
    asked = store.asked()
    return {
        "assay": assay.__version__,
        "trials": [
            {
                "trial": one.offer.trial,
                "label": one.offer.label,
                "weights": one.offer.artefact,
                "epsilon": rdp_epsilon_of([one.offer.charge], delta=account.delta),
                "delta": account.delta,
                "accountant": "RDP",
                "mechanisms": {
                    name: [asdict(mechanism) for mechanism in own] for name, own in one.offer.charge.items()
                },
                "recipe": asked[one.offer.trial]["recipe"],
            }
            for one in included
        ],
        "released_together": {
            "epsilon": account.released,
            "delta": account.delta,
            "accountant": account.accountant,
            "budget": None if account.budget is None else account.budget.epsilon,
            "releases": sum(bool(held.released) for held in account.charges),
        },
        "neighbours": NEIGHBOURS,
        "unit": "record",
        "sampling": "Poisson",
        "rng": "Philox 4x64 from entropy that is not stored; not a cryptographic generator",
        "not_covered": NOT_COVERED,
    }
