"""Keeps the ledgers of a study's data: reserves before a training begins, and notes every trial that has ended."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from assay.data.base import Dataset
from assay.data.splits import Split, split
from assay.errors import BudgetError, DataError, LedgerError, UserError
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.experiments import UNFINISHED, Experiment, Processing
from assay.ledger.protocol import LedgerProtocol
from assay.ledger.trainings import TrainingRow
from assay.privacy.composition import UNBOUNDED, Charge
from assay.release.charge import forecast_charge, noise_source
from assay.release.ledgers import LEDGER_VARIABLE, Opening, ledger_folder, location_of, open_ledger
from assay.results import TrialRecord
from assay.study.objections import other_neighbours, unclaimed
from assay.study.spec import Study
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of

_MOST_SPLITS = 64
"""Splits that are remembered at once."""


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
        self.folder, self._results, self._processing, self._opening = folder, location_of(results), processing, opening
        self._ledgers: dict[str, LedgerProtocol] = {}
        self._splits: dict[tuple[object, ...], Split] = {}

    def ledger(self, dataset: Dataset) -> LedgerProtocol:
        """The ledger of a data set; made if the study has never had one."""
        digest = dataset.origin.digest
        if digest not in self._ledgers:
            self._ledgers[digest] = open_ledger(
                dataset, results=self._results, folder=self.folder, opening=self._opening
            )
        return self._ledgers[digest]

    def trainings(self, dataset: Dataset) -> list[TrainingRow]:
        """Every training of this study on these data."""
        return self.ledger(dataset).trainings(self._results)

    def reserve(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> dict[str, UserError]:
        """Hold what a plan will spend. Only what may ever be released does: training with ``noise: entropy``.

        Args:
            datasets: by cohort.

        Returns:
            Why a trial must not run, by id: the budget does not hold it, or no noise reaches its ε.

        Raises:
            LedgerError: a ledger cannot be written.
        """
        refused: dict[str, UserError] = {}
        for trial in trials:
            dataset = datasets[trial.cohort]
            try:
                charge = self._charge(trial, dataset)
            except UserError as error:
                refused[trial.id] = error
                continue
            ledger = self.ledger(dataset)
            if noise_source(trial) == "entropy":
                try:
                    ledger.reserve(ReleaseRequest(training=trial.training, label=self._label(trial), charge=charge))
                except BudgetError as error:
                    refused[trial.id] = error
        return refused

    def begin(self, trial: Trial, dataset: Dataset) -> None:
        """Right before a training sees a record: note that it begins, and hold what it spends, from now on for good.

        Raises:
            UserError: the budget does not hold it, or no noise reaches its ε.
        """
        charge = self._charge(trial, dataset)
        self.ledger(dataset).begin(self._experiment(trial, UNFINISHED), self._roles(trial, dataset), charge)

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        """Note how a trial ended, before it is stored. What it holds of the budget it keeps, failed or not."""
        objections = []
        artefact = record.artefact or (artefact_of(record.weights) if record.weights else "")
        # A model whose evaluation failed has spent what nobody has accounted for yet.
        if noise_source(trial) and (artefact or not record.failed):
            own = pd.DataFrame(record.rows())
            objections = [*unclaimed(own), *other_neighbours(own)]
        self.ledger(dataset).end(
            self._experiment(trial, record.error.partition("\n")[0]),
            self._roles(trial, dataset),
            artefact=artefact,
            objection="; ".join(objections),
        )

    def _charge(self, trial: Trial, dataset: Dataset) -> Charge:
        """What a training is going to spend."""
        return forecast_charge(trial, dataset, self._split(trial, dataset).train) if noise_source(trial) else UNBOUNDED

    def _experiment(self, trial: Trial, error: str) -> Experiment:
        return Experiment(
            training=trial.training,
            results=self._results,
            label=self._label(trial),
            noise=noise_source(trial),
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
        warn: told why there is none, or which data it does not count.

    Raises:
        LedgerError: there can be none, and a recipe is to be released, or a folder was named.
    """
    folder = ledger_folder(results, given)
    named = bool(given or os.environ.get(LEDGER_VARIABLE))
    recipes = [recipe for cohort in study.cohorts.values() for recipe in cohort.recipes.values()]
    releasable = any(recipe.privacy is not None and recipe.privacy.noise == "entropy" for recipe in recipes)
    if why := _why_none(folder, results):
        why += f": give --ledger or set {LEDGER_VARIABLE}, the same for everything that uses these data"
        if named or releasable:
            raise LedgerError(why)
        warn(f"no ledger keeps account of these trials: {why}")
        return None
    assert folder is not None
    if releasable and not named:
        warn(
            f"the ledger of these data lies in {folder}, because their results lie beside it. What is trained on the "
            f"same patients with results elsewhere has another account, unless it is given --ledger {folder} or "
            f"{LEDGER_VARIABLE}: one budget holds only what one ledger counts"
        )
    return Keeper(folder, results=results, processing=processing, opening=opening)


def _why_none(folder: Path | None, results: str) -> str:
    """Why there can be no ledger; empty if there can, and then there is its folder."""
    if folder is None:
        return f"results go to {results}, and a ledger needs a folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({str(error.strerror).lower()})"
    return "" if os.access(folder, os.W_OK) else f"{folder} cannot be written"
