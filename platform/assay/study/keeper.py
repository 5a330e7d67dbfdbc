"""Keeps the ledgers of a study's data: reserves before a training begins, and notes every trial that has ended."""

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from assay.data.base import Dataset
from assay.data.splits import Split, split
from assay.errors import DataError, LedgerError, UserError
from assay.privacy.ledger import Ledger
from assay.privacy.ledger.charges import Offer
from assay.privacy.ledger.database import Collection
from assay.privacy.ledger.experiments import UNFINISHED, Experiment, Processing, patient_hash
from assay.results import TrialRecord
from assay.study.charge import forecast_charge, noise_of
from assay.study.spec import Study
from assay.study.trial import Trial

VARIABLE = "ASSAY_LEDGER"
Opening = Callable[[Path, Collection], Ledger]
"""Opens the ledger of a data set in a folder, or makes it."""
_MOST_SPLITS = 64
"""That are remembered at once."""


class Keeper:
    """Keeps the ledgers of one study, or of one sweep.

    Args:
        folder: of the ledgers.
        results: where the trials are stored.
        processing: why the records are processed.
        opening: how a ledger is reached; on a cluster, through its one actor.
    """

    def __init__(
        self,
        folder: Path,
        *,
        results: str,
        processing: Processing = Processing(),  # noqa: B008
        opening: Opening = Ledger.create,
    ) -> None:
        self.folder, self._results, self._processing, self._opening = folder, results, processing, opening
        self._ledgers: dict[str, Ledger] = {}
        self._splits: dict[tuple[object, ...], Split] = {}

    def ledger(self, dataset: Dataset) -> Ledger:
        """The ledger of a data set; made if it is not there yet."""
        digest = dataset.origin.digest
        if digest not in self._ledgers:
            self._ledgers[digest] = self._opening(self.folder, collection_of(dataset))
        return self._ledgers[digest]

    def begin(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> dict[str, UserError]:
        """Before any of these trainings sees a record: hold what they will spend, and note that they begin.

        Only what may ever be released holds a part of the budget: training with ``noise: entropy``.

        Args:
            datasets: by cohort.

        Returns:
            Why a trial must not run, by id: the budget does not hold it, or no noise reaches its ε.

        Raises:
            LedgerError: a ledger cannot be written.
        """
        refused: dict[str, UserError] = {}
        begun: dict[str, list[tuple[Experiment, np.ndarray]]] = {}
        for trial in trials:
            dataset = datasets[trial.cohort]
            ledger = self.ledger(dataset)
            if noise_of(trial) == "entropy":
                try:
                    charge = forecast_charge(trial, dataset, self._split(trial, dataset).train)
                    ledger.reserve(Offer(trial=trial.id, label=self._label(trial), charge=charge))
                except UserError as error:
                    refused[trial.id] = error
                    continue
            noted = (self._experiment(trial, UNFINISHED), self._roles(trial, dataset))
            begun.setdefault(dataset.origin.digest, []).append(noted)
        for digest, experiments in begun.items():
            self._ledgers[digest].record(experiments)
        return refused

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        """Note how a trial ended, before it is stored; what was reserved for one that failed is given back."""
        ledger = self.ledger(dataset)
        noted = self._experiment(trial, record.error.partition("\n")[0])
        ledger.record([(noted, self._roles(trial, dataset))])
        if record.failed and noise_of(trial) == "entropy":
            ledger.drop([trial.id])

    def _experiment(self, trial: Trial, error: str) -> Experiment:
        return Experiment(
            trial=trial.id,
            results=self._results,
            label=self._label(trial),
            noise=noise_of(trial),
            error=error,
            processing=self._processing,
        )

    def _split(self, trial: Trial, dataset: Dataset) -> Split:
        """The trial's parts of the records; all recipes of a fold share them."""
        key = (trial.data_digest, trial.splitting.model_dump_json(), trial.fold, trial.repeat, trial.seed)
        if key not in self._splits:
            if len(self._splits) >= _MOST_SPLITS:
                self._splits.clear()
            self._splits[key] = split(dataset, trial.splitting, fold=trial.fold, repeat=trial.repeat, seed=trial.seed)
        return self._splits[key]

    def _roles(self, trial: Trial, dataset: Dataset) -> np.ndarray:
        """What the trial does with each record of the whole data set, (records,) uint8; see ``ledger.experiments``."""
        origin = dataset.origin
        roles = np.zeros(origin.records, np.uint8)
        try:
            rows = self._split(trial, dataset)
        except DataError:
            # The data cannot be split as asked: the trial fails with that, and touches nothing.
            return roles
        for code, part in enumerate((rows.train, rows.validation, rows.calibration, rows.test), start=1):
            roles[origin.places[part]] = code
        return roles

    def _label(self, trial: Trial) -> str:
        return f"{Path(self._results).name} · {trial.label}"


def ledger_folder(results: str, given: str | None) -> Path | None:
    """Where ledgers are kept: as given, or where ``ASSAY_LEDGER`` says, or ``ledger`` beside the folder of the results.

    None where neither says anything and results go to a URI: SQLite needs a file system.
    """
    chosen = given or os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    return None if "://" in results else Path(results).expanduser().resolve().parent / "ledger"


def keeper_of(
    study: Study,
    *,
    results: str,
    given: str | None,
    processing: Processing,
    opening: Opening,
    warn: Callable[[str], object],
) -> Keeper | None:
    """The keeper of a study's ledgers; None where there can be none, and nothing of the study may be released.

    Args:
        given: ``--ledger``.
        warn: told why there is none.

    Raises:
        LedgerError: there can be none, and a recipe is to be released, or a folder was named.
    """
    folder = ledger_folder(results, given)
    why = f"results go to {results}, and a ledger needs a folder"
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"{folder} cannot be made ({error})"
        else:
            if os.access(folder, os.W_OK):
                return Keeper(folder, results=results, processing=processing, opening=opening)
            why = f"{folder} cannot be written"
    why += f": give --ledger or set {VARIABLE}, the same for everything that uses these data"
    recipes = [recipe for cohort in study.cohorts.values() for recipe in cohort.recipes.values()]
    asked = given or os.environ.get(VARIABLE)
    if asked or any(recipe.privacy is not None and recipe.privacy.noise == "entropy" for recipe in recipes):
        raise LedgerError(why)
    warn(f"no ledger keeps account of these trials: {why}")
    return None


def collection_of(dataset: Dataset) -> Collection:
    """A data set as its ledger knows it: a sample of it has the same."""
    origin = dataset.origin
    patients, most = b"", 1
    if origin.groups is not None:
        known, place, counts = np.unique(origin.groups, return_inverse=True, return_counts=True)
        hashes = [patient_hash(origin.digest, one) for one in known]
        patients, most = zlib.compress(b"".join(hashes[one] for one in place)), int(counts.max())
    return Collection(
        digest=origin.digest,
        name=dataset.name,
        records=origin.records,
        licence=dataset.licence,
        patients=patients,
        most_of_a_patient=most,
    )
