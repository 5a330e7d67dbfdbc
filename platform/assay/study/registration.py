"""Records when requirements were stated, to tell those from before the first measurement from later ones."""

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
    """Requirements and candidates of a cohort, as they were stated at one time."""

    cohort: str
    time: str
    hash: str
    """See ``requirements.digest``."""
    after_measurement: bool
    """Whether these records had been measured by that time."""
    requirements: tuple[str, ...]
    candidates: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Registration:
    """The present requirements and candidates of a cohort, and which of them were stated after a measurement."""

    post_hoc: frozenset[str] = frozenset()
    """Requirements that were first written, or changed, after a measurement; in words."""
    post_hoc_candidates: frozenset[str] = frozenset()
    withdrawn: tuple[str, ...] = ()
    """Requirements and candidates that were dropped after a measurement, in words."""
    hash: str = ""
    time: str = ""
    """When the present requirements were stated; empty if that was not recorded."""


@dataclass
class _History:
    """Requirements, or candidates, over several statements."""

    late: dict[str, bool] = field(default_factory=dict)
    """For each present text, whether it was first stated after a measurement."""
    dropped: dict[str, None] = field(default_factory=dict)

    def follow(self, stated: Sequence[str], *, after: bool) -> None:
        """Takes in one more statement."""
        gone = [text for text in self.late if text not in stated]
        self.dropped |= dict.fromkeys(text for text in gone if after and not self.late[text])
        self.late = {text: self.late.get(text, after) for text in stated}
        self.dropped = {text: None for text in self.dropped if text not in stated}


def register_requirements(study: Study, store: Store, datasets: Mapping[str, Dataset]) -> None:
    """Records the requirements of each cohort where they differ from the last ones that were recorded.

    Called before a run measures anything, under the lock of the store.

    Args:
        study: with its cohorts.
        store: of its results.
        datasets: by the name of the cohort.
    """
    earlier = list(statements(store))
    added = []
    for name, cohort in study.cohorts.items():
        last = next((statement for statement in reversed(earlier) if statement.cohort == name), None)
        current = digest(cohort.requirements, cohort.candidates)
        if (last is None and not cohort.requirements) or (last is not None and last.hash == current):
            continue
        measured = _measured(store, name, datasets[name])
        added.append(_statement(name, cohort, after_measurement=measured))
    if added:
        everything = [vars(statement) for statement in (*earlier, *added)]
        store.write_text(FILE, json.dumps({"statements": everything}, indent=2, ensure_ascii=False) + "\n")


def registration(store: Store, name: str, cohort: Cohort, *, measured: bool) -> Registration:
    """Returns which of the present requirements of a cohort were stated after a measurement.

    Args:
        store: of the results.
        name: of the cohort.
        cohort: with its present requirements.
        measured: whether there are results; requirements that were never recorded before them are post hoc.

    Returns:
        The registration.
    """
    stated = [statement for statement in statements(store) if statement.cohort == name]
    if not stated or stated[-1].hash != digest(cohort.requirements, cohort.candidates):
        stated.append(_statement(name, cohort, after_measurement=measured, time=""))
    requirements, candidates = _History(), _History()
    for statement in stated:
        requirements.follow(statement.requirements, after=statement.after_measurement)
        candidates.follow(statement.candidates, after=statement.after_measurement)
    return Registration(
        post_hoc=frozenset(text for text, late in requirements.late.items() if late),
        post_hoc_candidates=frozenset(recipe for recipe, late in candidates.late.items() if late),
        withdrawn=(*requirements.dropped, *(f"candidate {recipe}" for recipe in candidates.dropped)),
        hash=stated[-1].hash,
        time=stated[-1].time,
    )


def statements(store: Store) -> list[Statement]:
    """Reads all recorded statements, in their order.

    Args:
        store: of the results.

    Returns:
        The statements of all cohorts.

    Raises:
        StorageError: the file is damaged.
    """
    text = store.read_text(FILE)
    try:
        return [_read(one) for one in json.loads(text)["statements"]] if text else []
    except (ValueError, KeyError, TypeError) as error:
        message = (
            f"{store.location}/{FILE} is damaged ({error}); it tells which requirements were stated before the results"
        )
        fix = "restore it, or delete it, and every requirement counts as post hoc"
        raise StorageError(f"{message}: {fix}", setting="results", given=FILE) from error


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
    """Returns whether results on these records are stored, of this plan or an earlier one."""
    if store.trained_on(dataset.origin.digest, dataset.name):
        return True
    failed, trainings = store.failures(), store.trainings()
    ours = [trial for trial, asked in store.asked().items() if trial in failed and asked.get("cohort") == name]
    return any(store.answered(trainings[trial]) for trial in ours)
