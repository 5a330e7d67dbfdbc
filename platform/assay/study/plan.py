"""The trials of a study, and a forecast of what each private trial would spend, without running anything."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from assay.data.base import Dataset, Preparation
from assay.data.splits import keeps_official, split
from assay.errors import DataError, SpecError
from assay.evaluations.audit import Audit
from assay.evaluations.base import Evaluation
from assay.privacy.plan import forecast_mechanism as mechanism_of
from assay.privacy.unit import Unit, protected_unit, refuse_unlikely_patients
from assay.recipes import Recipe
from assay.study.federations import refuse_impossible_federations
from assay.study.sources import modules_behind
from assay.study.spec import Cohort, Study
from assay.study.trial import Trial


def load_datasets(study: Study) -> dict[str, Dataset]:
    """Loads the data of every cohort.

    Args:
        study: with its cohorts.

    Returns:
        Data sets by the name of the cohort.

    Raises:
        DataError: a data set is absent or unusable.
    """
    return {name: cohort.load() for name, cohort in study.cohorts.items()}


def load_unsized(study: Study) -> dict[str, Dataset | DataError]:
    """Loads the data of each cohort whose number of records is not known without loading.

    Args:
        study: with its cohorts.

    Returns:
        By the name of the cohort, the data set, or the error where it cannot be used.
    """
    loaded: dict[str, Dataset | DataError] = {}
    for name, cohort in study.cohorts.items():
        source = cohort.dataset
        if cohort.records is not None or (source.official_train is None and source.records is None):
            try:
                loaded[name] = cohort.load()
            except DataError as error:
                loaded[name] = error
    return loaded


def plan(study: Study, datasets: Mapping[str, Dataset]) -> list[Trial]:
    """Returns every trial of a study, fold by fold, so that the report can show all recipes of a fold early.

    Args:
        study: with its cohorts.
        datasets: by the name of the cohort.

    Returns:
        The trials in the order in which they run.

    Raises:
        SpecError: there is nothing to train on, the study has more audits than the setting ``audits`` allows, or a
            federated recipe cannot be trained with its clients.
    """
    splitting = study.split
    if not all(keeps_official(dataset, splitting) for dataset in datasets.values()):
        _needs_folds(study)
    for name, cohort in study.cohorts.items():
        refuse_impossible_federations(study, cohort, name, datasets[name])
    trials = [
        Trial(
            cohort=name,
            recipe_name=recipe_name,
            fold=fold,
            repeat=repeat,
            seed=study.seed,
            threads=study.threads,
            splitting=splitting,
            model=cohort.model,
            task=cohort.task,
            recipe=recipe,
            tuned=None if study.tuned is None else study.tuned.of(recipe_name),
            evaluations=cohort.asked_of(recipe_name, fold=fold, repeat=repeat),
            data_digest=datasets[name].digest,
            training_data=datasets[name].training_digest,
            evaluation_data=datasets[name].evaluation_digest,
            dataset_name=datasets[name].name,
            device=cohort.device,
            official=keeps_official(datasets[name], splitting),
            data_about=datasets[name].about,
            data_modules=modules_behind(
                cohort.dataset, datasets[name].x, datasets[name].preparation, datasets[name].language
            ),
        )
        for repeat in range(splitting.repeats)
        for fold in range(splitting.folds)
        for name, cohort in study.cohorts.items()
        if fold == 0 or not keeps_official(datasets[name], splitting)
        for recipe_name, recipe in cohort.recipes.items()
    ]
    return _audited_together(trials)


def _audited_together(trials: list[Trial]) -> list[Trial]:
    """Tells every audit how many audits there are, because the highest of several bounds is read with a correction.

    The number enters the key of a trial, but not the key of a result: nothing is trained or measured again when it
    changes.
    """
    asked = [
        evaluation.audits
        for trial in trials
        for evaluation in trial.evaluations
        if isinstance(evaluation, Audit) and not evaluation.why_never(trial.recipe)
    ]
    count = len(asked)
    if few := [audits for audits in asked if audits is not None and audits < count]:
        raise SpecError(
            f"audits is {min(few)}, but the study asks for {count} audits, over all cohorts, recipes, folds and "
            f"repeats, and their bounds are read together: set audits to {count} or more, or leave it out",
            setting="audits",
            given=min(few),
            allowed=count,
        )

    def with_count(evaluation: Evaluation) -> Evaluation:
        if not isinstance(evaluation, Audit):
            return evaluation
        return evaluation.model_copy(update={"audits": evaluation.audits or max(1, count)})

    return [replace(trial, evaluations=tuple(map(with_count, trial.evaluations))) for trial in trials]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Forecast for one recipe of one cohort."""

    cohort: str
    recipe: str
    trials: int
    records: int | None
    """Training records a fold, None where the data are absent and their number unknown."""
    spends: str
    """The ε of each trial, in words."""


def forecast_study(study: Study, loaded: Mapping[str, Dataset | DataError] | None = None) -> Iterator[Forecast]:
    """Forecasts what would run and what it would spend. Works where the data are absent.

    Args:
        study: to forecast.
        loaded: result of ``load_unsized``; loaded here by default.

    Returns:
        Iterator over one forecast for each cohort and recipe.

    Raises:
        SpecError: there is nothing to train on, or a federated recipe cannot be trained with its clients.
    """
    loaded = load_unsized(study) if loaded is None else loaded
    for name, cohort in study.cohorts.items():
        extent = _extent(study, cohort, loaded.get(name))
        refuse_impossible_federations(study, cohort, name, _records_to_deal(cohort, loaded.get(name)))
        for recipe_name, recipe in cohort.recipes.items():
            yield Forecast(
                cohort=name,
                recipe=recipe_name,
                trials=extent.runs * study.split.repeats,
                records=extent.train,
                spends=_spends(recipe, extent) + _spent_by_evaluations(cohort, recipe_name, loaded.get(name)),
            )


def _records_to_deal(cohort: Cohort, loaded: Dataset | DataError | None) -> Dataset | None:
    """Returns the data of a cohort with federated recipes; None where it has none, or the data are absent."""
    if not any(recipe.federation for recipe in cohort.recipes.values()):
        return None
    try:
        data = cohort.load() if loaded is None else loaded
    except DataError:
        return None
    return None if isinstance(data, DataError) else data


def evaluation_costs(
    study: Study, loaded: Mapping[str, Dataset | DataError] | None = None
) -> Iterator[tuple[str, str]]:
    """Describes the cost of expensive evaluations for each cohort. Works where the data are absent.

    Args:
        study: to forecast.
        loaded: result of ``load_unsized``; loaded here by default.

    Returns:
        Iterator over pairs of the name of the cohort and a text with the trials and the cost of each.
    """
    loaded = load_unsized(study) if loaded is None else loaded
    for name, cohort in study.cohorts.items():
        tested = _extent(study, cohort, loaded.get(name)).test
        asked = [("each trial", evaluation) for evaluation in cohort.evaluations]
        for selected in cohort.selected_evaluations:
            which = f"{selected.asked.replace('_', ' ')} of {', '.join(selected.recipes)}"
            asked += [(which, evaluation) for evaluation in selected.evaluations]
        for which, evaluation in asked:
            cost = "" if tested is None else evaluation.forecast(tested)
            if cost:
                yield name, f"{which}: {cost}"


@dataclass(frozen=True, kw_only=True)
class TestSize:
    """Size of the test split of a cohort's trials; None where the data are absent and their number unknown."""

    official: bool
    """Whether the data set's own split is kept: then repeats share their test records."""
    records: int | None
    """Test records of each trial."""
    share: tuple[float, ...] = ()
    """Share of each class among the records; empty where the data are absent."""


def tested(study: Study, name: str, loaded: Mapping[str, Dataset | DataError]) -> TestSize:
    """Returns the size of the test split of a cohort's trials.

    Args:
        study: with the cohort.
        name: of the cohort.
        loaded: result of ``load_unsized``. Data whose number of records is known are loaded for their classes.

    Returns:
        The number of test records and the share of each class.
    """
    cohort, settings = study.cohorts[name], study.split
    try:
        data = loaded.get(name) or cohort.load()
    except DataError as error:
        data = error
    extent = _extent(study, cohort, data if name in loaded else None)
    if isinstance(data, DataError):
        official = cohort.dataset.official_train is not None and settings.official == "keep"
        return TestSize(official=official, records=extent.test)
    counts = np.bincount(np.asarray(data.y).ravel().astype(int)) if np.ndim(data.y) == 1 else np.array([])
    return TestSize(
        official=keeps_official(data, settings),
        records=extent.test,
        share=tuple((counts / counts.sum()).tolist()) if len(counts) else (),
    )


def _needs_folds(study: Study) -> None:
    if study.split.folds < 2:
        message = f"split.folds is {study.split.folds}: training needs at least 2 folds"
        raise SpecError(message, setting="split.folds", given=study.split.folds, allowed=2)


class _Extent(NamedTuple):
    """Number of trials, records and patients of a cohort; None where the data are absent and their number unknown."""

    runs: int
    """Trials of one repeat."""
    train: int | None
    """Training records of each."""
    test: int | None
    patients: int | None = None
    """Patients of whom the training records are; None where records name none."""
    owes: str = ""
    """Reason why no ε can be claimed on the data; empty if one can be claimed, or if that is unknown."""
    everyone: np.ndarray | None = None
    """(records,) the patient of each record of the whole data set, where they are known."""
    preparation: Preparation | None = None
    """What must still be learnt from training records, where the data are here."""


def _extent(study: Study, cohort: Cohort, loaded: Dataset | DataError | None) -> _Extent:
    """Returns the size of a cohort, whose data were loaded, could not be loaded, or need not be loaded."""
    source, settings = cohort.dataset, study.split
    train, total, official = source.official_train, source.records, source.official_train is not None
    if loaded is not None:
        dataset = None if isinstance(loaded, DataError) else loaded
        if dataset is not None and (settings.folds > 1 or keeps_official(dataset, settings)):
            rows = split(dataset, settings, fold=0, repeat=0, seed=study.seed)
            runs = 1 if keeps_official(dataset, settings) else settings.folds
            patients = None if dataset.patients is None else len(np.unique(dataset.patients[rows.train]))
            everyone = dataset.origin.groups
            return _Extent(runs, len(rows.train), len(rows.test), patients, dataset.owes, everyone, dataset.preparation)
        total, train, official = None, None, False
    if official and settings.official == "keep":
        assert train is not None
        # Some official splits have validation records too, which belong to neither.
        tested = None if total is None else total - train
        return _Extent(1, round(train * (1 - settings.calibration)), tested, owes=source.owes())
    _needs_folds(study)
    if total is None:
        return _Extent(settings.folds, None, None, owes=source.owes())
    outside = total - total // settings.folds
    learning = round(outside * (1 - settings.validation - settings.calibration))
    return _Extent(settings.folds, learning, total - outside, owes=source.owes())


def _spends(recipe: Recipe, extent: _Extent) -> str:
    """Describes what a trial spends, and whether any ε can be claimed for it."""
    federation = recipe.federation
    pooled = "" if federation is None or extent.preparation is None else extent.preparation.pools(federation)
    if pooled:
        return f"cannot run: its records are prepared from those of all clients together: {pooled}"
    spends = _budget(recipe, extent)
    if recipe.privacy is None or not extent.owes:
        return spends
    return f"no ε can be claimed (✖): {extent.owes}. Without that: {spends}"


def _spent_by_evaluations(cohort: Cohort, name: str, loaded: Dataset | DataError | None) -> str:
    """Describes the ε that evaluations of a private recipe spend by trainings of their own; empty without any."""
    recipe, told = cohort.recipes[name], ""
    for evaluation in cohort.asked_of(name, fold=0, repeat=0):
        own = evaluation.own_training(recipe, None)
        if own is None or own.epsilon is None:
            continue
        if loaded is None:
            with suppress(DataError):
                loaded = cohort.load()
        own = evaluation.own_training(recipe, None if isinstance(loaded, DataError) else loaded)
        if own is not None and own.epsilon is not None:
            told += f"; {evaluation.name} ({own.label}) ε ≤ {own.epsilon:g} more, in a ledger entry of its own"
    return told


def _budget(recipe: Recipe, extent: _Extent) -> str:
    """Describes what one trial of a recipe spends, whom it protects, and the noise that this takes.

    Raises:
        SpecError: there are more clients than patients, or records.
        IncompatibleRecipeError: patients are to be protected, and the data name none.
    """
    if recipe.privacy is None:
        return "not private (ε = ∞)"
    privacy, federation = recipe.privacy, recipe.federation
    budget = f"ε ≤ {privacy.epsilon:g} at δ = {privacy.delta:g}"
    everywhere = " at each client" if federation else ""
    if extent.train is None:
        who = f"one {privacy.unit}" if privacy.unit else "one patient where the records have patients, else one record"
        return (
            f"{budget} for {who}{everywhere}; the noise depends on how many there are, which is unknown until the data "
            "are here"
        )
    refuse_unlikely_patients(privacy, extent.everyone)
    unit: Unit = "record"
    if extent.patients is not None or privacy.unit == "patient":
        unit = protected_unit(privacy, None if extent.patients is None else np.arange(extent.patients))
    if federation and federation.partition == "natural":
        return f"{budget} for one {unit}{everywhere}; the noise depends on how many each {federation.by} has"
    units = extent.train if unit == "record" or extent.patients is None else extent.patients
    if federation and federation.clients > units:
        raise SpecError(
            f"{units} training {unit}s cannot be shared among {federation.clients} clients; use fewer clients",
            setting="federation.clients",
            given=federation.clients,
            allowed=units,
        )
    at_each = units // federation.clients if federation else units
    mechanism, last = mechanism_of(recipe, units=at_each, unit=unit), recipe.stages()[-1].privacy
    assert last is not None
    together = f" for {last.trainings} trainings together" if last.trainings > 1 else ""
    several = ""
    if unit == "record" and extent.patients is not None and extent.patients < extent.train:
        several = f", not for one of {extent.patients} patients, who have several records each (privacy.unit: record)"
    return (
        f"{budget} for one {unit} of {at_each}{everywhere}{together}{several}; noise multiplier ≈ "
        f"{mechanism.noise_multiplier:.2f}, sample rate ≈ {mechanism.sample_rate:.3f}, {mechanism.steps} steps"
    )
