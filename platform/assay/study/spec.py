"""Settings of a study file."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationInfo, model_validator

# What these packages register is what a study file may name.
import assay.attacks
import assay.data
import assay.evaluations
import assay.federated.strategies
import assay.models
import assay.objectives
import assay.tasks  # noqa: F401
from assay.data.base import Dataset
from assay.data.splits import Splitting, sampled
from assay.errors import SpecError
from assay.evaluations.base import Evaluation
from assay.recipes import Recipe
from assay.registry import Number, Settings, choice_of, unknown, unknown_name
from assay.study.requirements import Requirement
from assay.study.tuned import Tuned

_DEFAULT_EVALUATIONS = (
    "accuracy",
    "clinical",
    "robustness",
    "certificates",
    "privacy",
    "membership",
    "explanations",
    "clients",
    "training_data",
    "shift",
    "selective",
    "conformal",
    "out_of_distribution",
    "word_substitution",
    "cost",
)

RENAMED = {"sparing": "selected_evaluations"}
"""Keys of a cohort that were renamed, with their present names; the old ones still work."""

TO_RUN = {"to_run": True}
"""Context in which a study is validated that is about to run. Without it recipes may be compared that cannot be asked
alike: results of earlier versions were measured so, and can be opened. To plan such a study is refused."""

GIVEN = "given"
"""Name of the recipe of a model that Assay did not train."""
PathName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name that may be part of a path."""


class SelectedEvaluations(Settings):
    """Evaluations of some recipes only, because they train many times or need a training of their own."""

    evaluations: tuple[choice_of("evaluation"), ...] = Field(min_length=1)  # type: ignore[valid-type]
    recipes: tuple[PathName, ...] = Field(min_length=1)
    """Recipes that they are run on."""
    asked: Literal["first_repeat", "first_fold"] = "first_repeat"
    """All folds of the first repeat, or only its first fold; on an official split, the first seed."""

    def of(self, recipe: str, *, fold: int, repeat: int) -> bool:
        """Returns whether these evaluations are run on a trial.

        Args:
            recipe: of the trial.
            fold: of the trial, from 0.
            repeat: of the trial, from 0.

        Returns:
            True if they are.
        """
        return recipe in self.recipes and repeat == 0 and (fold == 0 or self.asked == "first_repeat")


class Cohort(Settings):
    """A data set with a model, the recipes that train it, and the evaluations of the trained models."""

    dataset: choice_of("dataset")  # type: ignore[valid-type]
    model: choice_of("model") = Field(default="mlp")  # type: ignore[valid-type]
    recipes: dict[PathName, Recipe] = Field(min_length=1)
    """By name; all are compared with the study's ``baseline``."""
    task: choice_of("task") = Field(default="classification")  # type: ignore[valid-type]
    """The meaning of the labels. ``{name: classification, decide_at: operating_point}`` decides two classes at the
    threshold that reaches a sensitivity on the validation records, and evaluates everything at this threshold.
    """
    reference_epsilon: Annotated[Number, Field(gt=0)] | None = None
    """The radius at which the scorecard shows robustness; the middle one of the grid by default."""
    evaluations: tuple[choice_of("evaluation"), ...] = Field(default=_DEFAULT_EVALUATIONS)  # type: ignore[valid-type]
    selected_evaluations: tuple[SelectedEvaluations, ...] = ()
    """Evaluations of some recipes in some trials, in addition to ``evaluations``."""
    device: Literal["gpu", "cpu"] = "gpu"
    """``gpu``: its trials use a GPU where there is one. ``cpu``: they are trained and measured on the CPU everywhere,
    as suits small networks on tables, and leave the GPUs to other cohorts; so do sweeps, audits and trainings over
    several workers. Clients of a federation run on the workers of the others, and use no GPU of these.
    """
    records: int | None = Field(default=None, ge=2)
    """Use about this many records of the data set, stratified, for a quick look; all by default."""
    immutable: tuple[str, ...] = ()
    """Features that cannot be changed, such as a patient's age: attacks, adversarial training and certificates keep
    them.
    """
    requirements: tuple[Requirement, ...] = ()
    """What a recipe must show to be chosen; stated before the run, judged for each of the ``candidates``."""
    candidates: tuple[PathName, ...] = ()
    """Recipes that may be chosen: each is tested on all requirements, with Holm's correction over the candidates."""

    def load(self) -> Dataset:
        """Loads the data of this cohort.

        Returns:
            The data set, or a sample of it where ``records`` is set.

        Raises:
            DataError: the data are absent or unusable.
            SpecError: the task cannot be used with them.
        """
        dataset = self.dataset.load().with_immutable(self.immutable)
        self.task.refuse(dataset.classes)
        return dataset if self.records is None else sampled(dataset, self.records, seed=0)

    def radius_among(self, radii: Iterable[float]) -> float:
        """Returns the radius at which the report reads robustness: ``reference_epsilon``, or the middle one above 0.

        Args:
            radii: that are measured, in the units of the data.

        Returns:
            The radius; NaN where there is none above 0.
        """
        if self.reference_epsilon is not None:
            return self.reference_epsilon
        above_zero = sorted({float(radius) for radius in radii} - {0.0})
        return above_zero[len(above_zero) // 2] if above_zero else math.nan

    def radii_of(self, dataset: Dataset) -> tuple[float, ...]:
        """Returns the radii at which robustness is measured: those of the evaluation, or those of the data set.

        Args:
            dataset: of this cohort.

        Returns:
            Radii in the units of the data.
        """
        stated = [radius for e in self.evaluations if e.name == "robustness" for radius in e.epsilons]
        return tuple(stated) or dataset.epsilons

    def asked_of(self, recipe: str, *, fold: int, repeat: int) -> tuple[Evaluation, ...]:
        """Returns the evaluations of one trial.

        Args:
            recipe: of the trial.
            fold: of the trial, from 0.
            repeat: of the trial, from 0.

        Returns:
            ``evaluations``, and those of ``selected_evaluations`` that apply, as asked of recipes that are compared.

        Raises:
            SpecError: one of them allows no comparison of the recipes.
        """
        asked = self._listed_for(recipe, fold=fold, repeat=repeat)
        return tuple(evaluation.among(self.recipes.values()) for evaluation in asked)

    def _listed_for(self, recipe: str, *, fold: int, repeat: int) -> tuple[Evaluation, ...]:
        """Returns the evaluations of one trial as the study file lists them."""
        selected = [one for one in self.selected_evaluations if one.of(recipe, fold=fold, repeat=repeat)]
        return (*self.evaluations, *(evaluation for one in selected for evaluation in one.evaluations))

    def narrowed(self, recipe: str) -> "Cohort":
        """Returns the cohort with one recipe only.

        Args:
            recipe: to keep.

        Returns:
            A copy without requirements and candidates, whose evaluations are asked as in the whole cohort.
        """
        selected = [
            one.model_copy(update={"recipes": (recipe,), "evaluations": self._as_compared(one.evaluations, recipe)})
            for one in self.selected_evaluations
            if recipe in one.recipes
        ]
        kept = {
            "recipes": {recipe: self.recipes[recipe]},
            "evaluations": self._as_compared(self.evaluations, recipe),
            "selected_evaluations": tuple(selected),
        }
        # One recipe alone is compared with no other, and nothing is chosen.
        return self.model_copy(update={**kept, "requirements": (), "candidates": ()})

    def _as_compared(self, evaluations: Sequence[Evaluation], recipe: str) -> tuple[Evaluation, ...]:
        """Returns evaluations that ask of one recipe alone what they ask of it in the whole cohort."""
        pairs = [(one, one.among(self.recipes.values()), one.among([self.recipes[recipe]])) for one in evaluations]
        # What the recipe alone would decide alike stays undecided: a sweep compares it with other recipes.
        return tuple(one if whole == alone else whole for one, whole, alone in pairs)

    @model_validator(mode="before")
    @classmethod
    def _names_of_an_earlier_version(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        for old, new in RENAMED.items():
            if old in raw and new in raw:
                raise ValueError(f"{old} and {new} are the same setting; leave {old} out")
        return {RENAMED.get(key, key): value for key, value in raw.items()}

    @model_validator(mode="after")
    def _evaluations_compare_alike(self, info: ValidationInfo) -> "Cohort":
        every = (*self.evaluations, *(one for each in self.selected_evaluations for one in each.evaluations))
        for evaluation in every if info.context == TO_RUN else ():
            evaluation.among(self.recipes.values())
        return self

    @model_validator(mode="after")
    def _selected_recipes_exist(self) -> "Cohort":
        for name in dict.fromkeys(recipe for one in self.selected_evaluations for recipe in one.recipes):
            self._refuse_unknown("selected_evaluations", name)
        return self

    @model_validator(mode="after")
    def _requirements_can_be_judged(self) -> "Cohort":
        for name in self.candidates:
            self._refuse_unknown("candidates", name)
        if bool(self.requirements) != bool(self.candidates):
            there, absent = ("requirements", "candidates")[:: 1 if self.requirements else -1]
            fix = f"name the recipes that may be chosen, of {', '.join(self.recipes)}"
            fix = fix if absent == "candidates" else "state what they must show, as 'accuracy >= 0.90'"
            message = f"{there} are given without {absent}; {fix}"
            raise SpecError(message, setting=absent, given=[], allowed=list(self.recipes))
        for key, stated in (("candidates", self.candidates), ("requirements", [r.text for r in self.requirements])):
            if twice := [one for one in stated if list(stated).count(one) > 1]:
                raise SpecError(f"{key}: {twice[0]!r} stands twice; keep one of them", setting=key, given=twice[0])
        for requirement in self.requirements:
            if requirement.against is not None:
                self._refuse_unknown("requirements", requirement.against)
            self._refuse_unmeasured(requirement)
        return self

    def _refuse_unknown(self, setting: str, recipe: str) -> None:
        if recipe not in self.recipes:
            names = list(self.recipes)
            message = f"{setting}: {unknown('recipe', recipe, names)}"
            raise SpecError(message, setting=setting, given=recipe, allowed=names)

    def _refuse_unmeasured(self, requirement: Requirement) -> None:
        """Refuses a requirement at a radius or rate that its evaluation does not measure.

        Where the evaluation is not run at all (a sweep, a quick look), the verdict says that it was not measured.
        """
        selected = [evaluation for one in self.selected_evaluations for evaluation in one.evaluations]
        name = requirement.about.evaluation
        asked = [evaluation for evaluation in (*self.evaluations, *selected) if evaluation.name == name]
        for key, setting in (("epsilon", "epsilons"), ("fpr", "false_positive_rates")):
            wanted, each = getattr(requirement, key), [getattr(evaluation, setting, ()) for evaluation in asked]
            values = [value for one in each for value in one]
            # Without radii of its own an evaluation takes those of the data.
            if wanted is not None and each and all(each) and wanted not in values:
                message = (
                    f"requirements: {requirement.text}: {name} measures at {setting} {values}; add {wanted:g} there"
                )
                raise SpecError(message, setting="requirements", given=wanted, allowed=values)

    @model_validator(mode="after")
    def _has_one_operating_point(self) -> "Cohort":
        selected = [evaluation for one in self.selected_evaluations for evaluation in one.evaluations]
        for evaluation in (*self.evaluations, *selected) if self.task.chooses_threshold else ():
            # An evaluation that states none takes that of the task.
            other = getattr(evaluation, "sensitivity", self.task.sensitivity)
            if "sensitivity" in evaluation.model_fields_set and other != self.task.sensitivity:
                message = (
                    f"{evaluation.name}.sensitivity is {other:g} and task.sensitivity {self.task.sensitivity:g}: there "
                    "is one operating point; set both alike"
                )
                setting = f"{evaluation.name}.sensitivity"
                raise SpecError(message, setting=setting, given=other, allowed=self.task.sensitivity)
        return self

    @model_validator(mode="after")
    def _clinical_figures_are_asked_once(self) -> "Cohort":
        for name in self.recipes:
            asked = [one for one in self._listed_for(name, fold=0, repeat=0) if one.name == "clinical"]
            if len(asked) > 1:
                raise SpecError(
                    f"recipe {name!r} is asked clinical {len(asked)} times: figures at several prevalences would be "
                    "averaged in one column; ask it once, with all thresholds in one list",
                    setting="clinical",
                    given=len(asked),
                    allowed=1,
                )
        return self

    @model_validator(mode="after")
    def _reference_is_measured(self) -> "Cohort":
        asked = [radius for e in self.evaluations if e.name == "robustness" for radius in e.epsilons]
        if self.reference_epsilon is not None and asked and self.reference_epsilon not in asked:
            message = f"reference_epsilon: {self.reference_epsilon} is none of the radii measured: {asked}"
            raise SpecError(message, setting="reference_epsilon", given=self.reference_epsilon, allowed=asked)
        return self


class Study(Settings):
    """A study: every recipe of every cohort over the same folds and seeds."""

    name: PathName
    title: str = ""
    question: str = ""
    """What the study is to answer, in a sentence; shown on the report."""
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=1, ge=1)
    """PyTorch threads of each trial. They affect the result, because they change the order of floating-point sums."""
    split: Splitting = Splitting()
    tuned: Tuned | None = None
    """Every recipe tries the same number of points of its own grid within its trial, and keeps the best on the
    validation records; None trains every recipe as it stands."""
    baseline: str = "standard"
    cohorts: dict[PathName, Cohort] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_tuned(self, info: ValidationInfo) -> "Study":
        if self.tuned is not None:
            for cohort in self.cohorts.values():
                self.tuned.refuse(cohort.recipes, seed=self.seed, validated=self.split.tested == "test")
        return self

    @model_validator(mode="after")
    def _baseline_exists(self) -> "Study":
        for name, cohort in self.cohorts.items():
            # The default may name nothing: then nothing is compared.
            if self.baseline != "standard" and self.baseline not in cohort.recipes:
                names = list(cohort.recipes)
                message = f"baseline: cohort {name!r}: {unknown('recipe', self.baseline, names)}"
                raise SpecError(message, setting="baseline", given=self.baseline, allowed=names)
        return self


def cohort_with(study: Study, recipe: str, *, cohort: str | None = None) -> str:
    """Returns the cohort that is named, or the first that has the recipe.

    Args:
        study: with its cohorts.
        recipe: name of a recipe.
        cohort: name of a cohort, or None.

    Returns:
        The name of the cohort.

    Raises:
        SpecError: there is no such cohort, or it does not have the recipe.
    """
    if cohort is not None and cohort not in study.cohorts:
        raise unknown_name("cohort", cohort, list(study.cohorts))
    candidates = {name: settings for name, settings in study.cohorts.items() if cohort in (None, name)}
    for name, settings in candidates.items():
        if recipe in settings.recipes:
            return name
    recipes = dict.fromkeys(name for settings in candidates.values() for name in settings.recipes)
    raise unknown_name("recipe", recipe, list(recipes))


def with_one_recipe(study: Study, *, cohort: str | None, recipe: str, fold: int) -> Study:
    """Returns the study with one recipe of one cohort only.

    Args:
        study: with its cohorts.
        cohort: name of a cohort; the first that has the recipe by default.
        recipe: to keep.
        fold: that is wanted, from 1; it is only checked.

    Returns:
        A copy of the study.

    Raises:
        SpecError: there is no such cohort, recipe or fold, or the study tunes the recipe.
    """
    name = cohort_with(study, recipe, cohort=cohort)
    if fold > study.split.folds:
        message = f"fold {fold} does not exist; the study has {study.split.folds}"
        raise SpecError(message, setting="fold", given=fold, allowed=study.split.folds)
    if study.tuned is not None and study.tuned.of(recipe) is not None:
        raise SpecError(
            f"the study tunes {recipe!r} within each trial, and this job trains it as it stands; give --set tuned=null",
            setting="tuned",
            given=recipe,
            allowed=None,
        )
    return study.model_copy(update={"cohorts": {name: study.cohorts[name].narrowed(recipe)}, "tuned": None})
