"""Bookkeeping for a study: reserves budget before trainings begin, and records every trial in its ledgers."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from assay.data.base import Dataset
from assay.data.splits import Split, split
from assay.errors import BudgetError, DataError, LedgerError, UserError
from assay.evaluations.base import Evaluation, OwnTraining
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.experiments import ROLES, UNFINISHED, Experiment, Processing
from assay.ledger.protocol import LedgerProtocol
from assay.ledger.trainings import TrainingRow
from assay.privacy.composition import UNBOUNDED, Charge
from assay.release.charge import charge_of_own, forecast_charge, noise_source
from assay.release.ledgers import LEDGER_VARIABLE, Opening, ledger_folder, location_of, open_ledger
from assay.results import TrialRecord
from assay.study.objections import other_neighbours, unclaimed
from assay.study.spec import Study
from assay.study.trial import Trial
from assay.training.checkpoints import artefact_of

_MOST_SPLITS = 64
"""Greatest number of splits in the cache."""
_NO_ANSWER = "the evaluation gave no results"
"""Error of a training of an evaluation that ended without results in a trial without an error."""


class Keeper:
    """The ledgers of one study, or of one sweep.

    Args:
        folder: of the ledgers.
        results: location of the stored trials.
        processing: purpose of processing the records.
        opening: function that opens a ledger; on a cluster, through the ledger actor.
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
        self._begun: set[tuple[str, str]] = set()

    def ledger(self, dataset: Dataset) -> LedgerProtocol:
        """Returns the ledger of a data set; creates it if the study never had one.

        Args:
            dataset: the data set.

        Returns:
            The ledger.

        Raises:
            LedgerError: the study's earlier ledger is missing, or the folder cannot be written.
        """
        digest = dataset.origin.digest
        if digest not in self._ledgers:
            self._ledgers[digest] = open_ledger(
                dataset, results=self._results, folder=self.folder, opening=self._opening
            )
        return self._ledgers[digest]

    def trainings(self, dataset: Dataset) -> list[TrainingRow]:
        """Returns every training of this study on a data set.

        Args:
            dataset: the data set.

        Returns:
            The trainings.
        """
        return self.ledger(dataset).trainings(self._results)

    def reserve(self, trials: Sequence[Trial], datasets: Mapping[str, Dataset]) -> dict[str, UserError]:
        """Reserves what a plan will spend. Only trainings that may be released reserve: those with ``noise: entropy``.

        Args:
            trials: the planned trials.
            datasets: by cohort.

        Returns:
            Why a trial must not run, by identifier: the budget is too small, or no noise level reaches its ε.

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
        """Records the start of a training and reserves what it spends, before it sees a record.

        Args:
            trial: the trial.
            dataset: its data set.

        Raises:
            UserError: the budget is too small, or no noise level reaches its ε.
        """
        charge = self._charge(trial, dataset)
        self.ledger(dataset).begin(self._experiment(trial, UNFINISHED), self._roles(trial, dataset), charge)

    def ask(self, trial: Trial, evaluation: Evaluation, dataset: Dataset) -> None:
        """Records what an evaluation trains itself on the training records, before it sees one.

        Args:
            trial: that is measured.
            evaluation: of the trial.
            dataset: its data set.
        """
        own = evaluation.own_training(trial.recipe, dataset)
        if own is not None:
            asked = self._question(trial, evaluation, own, UNFINISHED)
            self.ledger(dataset).begin(asked, self._learnt_from(trial, dataset), charge_of_own(own))
            self._begun.add((trial.id, trial.answer(evaluation)))

    def end(self, trial: Trial, record: TrialRecord, dataset: Dataset) -> None:
        """Records the outcome of a trial before it is stored. Its part of the budget stays reserved, failed or not.

        Args:
            trial: the trial.
            record: its results.
            dataset: its data set.
        """
        objections, accounted = [], False
        artefact = record.artefact or (artefact_of(record.weights) if record.weights else "")
        # A model whose evaluation failed has spent ε that no measurement states yet.
        if noise_source(trial) and (artefact or not record.failed):
            rows = pd.DataFrame(record.rows())
            accounted = bool((rows["name"] == "epsilon").any())
            objections = [*unclaimed(rows), *other_neighbours(rows)]
        self.ledger(dataset).end(
            self._experiment(trial, record.error.partition("\n")[0]),
            self._roles(trial, dataset),
            artefact=artefact,
            objection="; ".join(objections),
            accounted=accounted,
        )
        for evaluation in trial.evaluations:
            own, name = evaluation.own_training(trial.recipe, dataset), trial.answer(evaluation)
            begun = (trial.id, name) in self._begun
            if own is not None and (begun or name in record.answers):
                # Without an answer, what ended the trial ended this training, or came before it.
                error = "" if name in record.answers else record.error.partition("\n")[0] or _NO_ANSWER
                asked = self._question(trial, evaluation, own, error)
                self.ledger(dataset).end(asked, self._learnt_from(trial, dataset))
                self._begun.discard((trial.id, name))

    def _question(self, trial: Trial, evaluation: Evaluation, own: OwnTraining, error: str) -> Experiment:
        """Returns the entry of what an evaluation trains; its name is the key of the evaluation's results."""
        return Experiment(
            training=trial.answer(evaluation),
            results=self._results,
            label=f"{self._label(trial)} · {evaluation.name} · {own.label}",
            noise="" if own.epsilon is None else "seeded",
            error=error,
            processing=self._processing,
        )

    def _learnt_from(self, trial: Trial, dataset: Dataset) -> np.ndarray:
        """Returns the roles of records in a training of an evaluation, which sees the training records alone."""
        roles = self._roles(trial, dataset)
        return np.where(roles == ROLES.index("trained on"), roles, 0).astype(np.uint8)

    def _charge(self, trial: Trial, dataset: Dataset) -> Charge:
        """Returns what a training will spend."""
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
        """Returns the trial's split of the records; all recipes of a fold share it."""
        key = (trial.data_digest, trial.splitting.model_dump_json(), trial.fold, trial.repeat, trial.seed)
        if key not in self._splits:
            if len(self._splits) >= _MOST_SPLITS:
                self._splits.clear()
            self._splits[key] = split(dataset, trial.splitting, fold=trial.fold, repeat=trial.repeat, seed=trial.seed)
        return self._splits[key]

    def _roles(self, trial: Trial, dataset: Dataset) -> np.ndarray:
        """Returns the role of each record of the whole data set in the trial, (records,) uint8; see
        ``ledger.experiments``.
        """
        origin = dataset.origin
        roles = np.zeros(origin.records, np.uint8)
        try:
            rows = self._split(trial, dataset)
        except DataError:
            # The data cannot be split as requested: the trial will fail, and uses no record.
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
    """Returns the keeper of a study's ledgers; None where there can be no ledger, and then nothing may be released.

    Args:
        study: the study.
        results: location of the stored trials.
        given: the option ``--ledger``.
        processing: purpose of processing the records.
        opening: function that opens a ledger.
        warn: called with the reason why there is no ledger, or which data it does not count.

    Returns:
        The keeper, or None.

    Raises:
        LedgerError: there can be no ledger, although a recipe is to be released, or a folder was named.
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
    """Returns why there can be no ledger; empty if there can be one."""
    if folder is None:
        return f"results go to {results}, and a ledger needs a folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({str(error.strerror).lower()})"
    return "" if os.access(folder, os.W_OK) else f"{folder} cannot be written"
