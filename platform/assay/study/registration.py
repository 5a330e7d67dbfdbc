"""When requirements were stated: a file beside the results that tells those of before the first measurement."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from assay.data.base import Dataset
from assay.errors import StorageError
from assay.store.folder import Store
from assay.study.requirements import digest
from assay.study.spec import Cohort, Study

FILE = "requirements.json"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What was required of a cohort's recipes from one moment on."""

    cohort: str
    time: str
    hash: str
    """See ``requirements.digest``."""
    after_measurement: bool
    """Whether these records had been measured by then."""
    requirements: tuple[str, ...]
    candidates: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The requirements and candidates of a cohort that hold now, and which of them came after a measurement."""

    post_hoc: frozenset[str] = frozenset()
    """Requirements that were first written, or changed, after it; in words."""
    post_hoc_candidates: frozenset[str] = frozenset()
    withdrawn: tuple[str, ...] = ()
    """Requirements and candidates that were dropped after it, in words."""
    hash: str = ""
    time: str = ""
    """When what holds now was stated; empty if nobody noted it."""


@dataclass
class _Since:
    """What has been stated so far of one kind, and since when."""

    late: dict[str, bool] = field(default_factory=dict)
    """By what was stated, whether that was after a measurement."""
    dropped: dict[str, None] = field(default_factory=dict)

    def now(self, stated: Sequence[str], *, after: bool) -> None:
        """Follow one more statement."""
        gone = [one for one in self.late if one not in stated]
        self.dropped |= dict.fromkeys(one for one in gone if after and not self.late[one])
        self.late = {one: self.late.get(one, after) for one in stated}
        self.dropped = {one: None for one in self.dropped if one not in stated}


def register_requirements(study: Study, store: Store, datasets: Mapping[str, Dataset]) -> None:
    """Note the requirements of each cohort where they are not those that were noted last.

    Called before a run measures anything, under the lock of the store.
    """
    known = list(statements(store))
    added = []
    for name, cohort in study.cohorts.items():
        last = next((one for one in reversed(known) if one.cohort == name), None)
        told = digest(cohort.requirements, cohort.candidates)
        if (last is None and not cohort.requirements) or (last is not None and last.hash == told):
            continue
        measured = _measured(store, name, datasets[name])
        added.append(_statement(name, cohort, after_measurement=measured))
    if added:
        everything = [vars(one) for one in (*known, *added)]
        store.write_text(FILE, json.dumps({"statements": everything}, indent=2, ensure_ascii=False) + "\n")


def registration(store: Store, name: str, cohort: Cohort, *, measured: bool) -> Registration:
    """What is known of the requirements of a cohort as the study states them now.

    Args:
        measured: whether there are results; what was never noted before them is post hoc.
    """
    known = [one for one in statements(store) if one.cohort == name]
    if not known or known[-1].hash != digest(cohort.requirements, cohort.candidates):
        known.append(_statement(name, cohort, after_measurement=measured, time=""))
    requirements, candidates = _Since(), _Since()
    for one in known:
        requirements.now(one.requirements, after=one.after_measurement)
        candidates.now(one.candidates, after=one.after_measurement)
    return Registration(
        post_hoc=frozenset(text for text, late in requirements.late.items() if late),
        post_hoc_candidates=frozenset(recipe for recipe, late in candidates.late.items() if late),
        withdrawn=(*requirements.dropped, *(f"candidate {recipe}" for recipe in candidates.dropped)),
        hash=known[-1].hash,
        time=known[-1].time,
    )


def statements(store: Store) -> list[Statement]:
    """Everything that was noted, in the order of its noting.

    Raises:
        StorageError: the file is damaged.
    """
    text = store.read_text(FILE)
    try:
        return [_read(one) for one in json.loads(text)["statements"]] if text else []
    except (ValueError, KeyError, TypeError) as error:
        said = (
            f"{store.location}/{FILE} is damaged ({error}); it tells which requirements were stated before the results"
        )
        fix = "restore it, or delete it, and every requirement counts as post hoc"
        raise StorageError(f"{said}: {fix}", setting="results", given=FILE) from error


def _read(raw: Mapping[str, Any]) -> Statement:
    return Statement(
        cohort=str(raw["cohort"]),
        time=str(raw["time"]),
        hash=str(raw["hash"]),
        after_measurement=bool(raw["after_measurement"]),
        requirements=tuple(raw["requirements"]),
        candidates=tuple(raw["candidates"]),
    )


def _statement(name: str, cohort: Cohort, *, after_measurement: bool, time: str | None = None) -> Statement:
    return Statement(
        cohort=name,
        time=datetime.now(UTC).isoformat(timespec="seconds") if time is None else time,
        hash=digest(cohort.requirements, cohort.candidates),
        after_measurement=after_measurement,
        requirements=tuple(one.text for one in cohort.requirements),
        candidates=cohort.candidates,
    )


def _measured(store: Store, name: str, dataset: Dataset) -> bool:
    """Whether anything of these records is stored, of this plan or an earlier one."""
    if store.trained_on(dataset.origin.digest, dataset.name):
        return True
    failed, trainings = store.failures(), store.trainings()
    ours = [trial for trial, asked in store.asked().items() if trial in failed and asked.get("cohort") == name]
    return any(store.answered(trainings[trial]) for trial in ours)
