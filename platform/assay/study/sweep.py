"""A sweep: one recipe of a study with some of its settings varied. Each point is an ordinary trial."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from assay.data.base import Dataset
from assay.data.splits import refuse_beyond_official
from assay.errors import SpecError
from assay.recipes import Recipe
from assay.registry import explain, first_mistake
from assay.study.plan import plan
from assay.study.spec import Cohort, Study, cohort_with
from assay.study.trial import Trial

Point = Mapping[str, Any]
"""A value for each varied setting, with dotted keys such as ``objective.epsilon``; and optionally ``fold``, from 0."""
FOLD = "fold"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The varied settings, and the study in which each point runs."""

    space: str
    """Name of the search space."""
    study: Study
    """One cohort with one recipe, which is varied."""
    keys: tuple[str, ...]
    """The varied settings."""

    @property
    def cohort_name(self) -> str:
        """Name of the only cohort."""
        return next(iter(self.study.cohorts))

    @property
    def cohort(self) -> Cohort:
        """The only cohort."""
        return self.study.cohorts[self.cohort_name]

    def recipe_at(self, point: Point) -> Recipe:
        """Returns the base recipe with the settings of a point.

        Args:
            point: of the sweep.

        Returns:
            The recipe.

        Raises:
            SpecError: the recipe has no such setting, or cannot have this value.
        """
        (base,) = self.cohort.recipes.values()
        raw = base.model_dump(mode="json")
        for key in self.keys:
            *path, last = key.split(".")
            inner = raw
            for part in path:
                inner = inner[part] if isinstance(inner.get(part), dict) else {}
            if last not in inner:
                message = f"space {self.space!r} varies {key!r}, which the base recipe does not have"
                raise SpecError(message, setting=self.space, given=key)
            inner[last] = point[key]
        try:
            return Recipe.model_validate(raw)
        except ValueError as error:
            why = explain(error) if isinstance(error, ValidationError) else [str(error)]
            fields = first_mistake(error) if isinstance(error, ValidationError) else {}
            raise SpecError(f"space {self.space!r} at {dict(point)}: {'; '.join(why)}", **fields) from None

    def at(self, point: Point) -> tuple[str, Study]:
        """Returns the name of a point, and the study with its recipe.

        Args:
            point: of the sweep.

        Returns:
            The name, and a study with one cohort and one recipe.
        """
        name = point_name({key: point[key] for key in self.keys})
        cohort = self.cohort.model_copy(update={"recipes": {name: self.recipe_at(point)}})
        return name, self.study.model_copy(update={"cohorts": {self.cohort_name: cohort}})

    def trial(self, point: Point, dataset: Dataset) -> Trial:
        """Returns the trial of a point, as a study of its recipe would plan it.

        Args:
            point: of the sweep.
            dataset: of the cohort.

        Returns:
            The trial of the point's fold, in the first repeat.
        """
        _, study = self.at(point)
        fold = point.get(FOLD, 0)
        return next(t for t in plan(study, {self.cohort_name: dataset}) if (t.fold, t.repeat) == (fold, 0))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep that is ready to begin."""

    sweep: Sweep
    dataset: Dataset
    radius: float
    """At which the report reads robustness."""
    space: Mapping[str, Any]
    """Search space for Tune: the values of each varied setting, and ``fold``."""
    samples: int
    """Tune's ``num_samples``."""


def prepare_sweep(
    study: Study,
    *,
    name: str,
    space: Callable[[float], Mapping[str, Any]],
    cohort: str | None,
    recipe: str,
    asked: tuple[str, ...],
    tested: str,
    folds: int,
    samples: int,
) -> Prepared:
    """Prepares the sweep of a search space over one recipe of a study.

    Args:
        study: with the recipe.
        name: of the space.
        space: returns a space for Tune, given the radius at which robustness is read; see ``tune_spaces``.
        cohort: see ``base_of``, as for ``recipe``, ``asked`` and ``tested``.
        recipe: to vary.
        asked: names of evaluations that are kept.
        tested: ``test`` or ``validation``.
        folds: number of folds on which every point runs.
        samples: points of a random space, or repeats of a grid.

    Returns:
        The sweep, its data and its space.

    Raises:
        SpecError: there is no such cohort or recipe, or there are not so many folds.
        DataError: the data are absent or unusable.
    """
    base = base_of(study, cohort=cohort, recipe=recipe, asked=asked, tested=tested)
    if folds > base.split.folds:
        message = f"--folds {folds}: the study has {base.split.folds}"
        raise SpecError(message, setting="--folds", given=folds, allowed=base.split.folds)
    (only,) = base.cohorts.values()
    dataset = only.load()
    refuse_beyond_official("--folds", folds, dataset, base.split)
    radius = only.radius_among(only.radii_of(dataset))
    points = space(radius)
    return Prepared(
        sweep=Sweep(space=name, study=base, keys=tuple(points)),
        dataset=dataset,
        radius=radius,
        space={**points, FOLD: {"grid_search": list(range(folds))}},
        samples=samples,
    )


def point_name(settings: Mapping[str, Any]) -> str:
    """Returns the name of a point, which may be part of a path.

    Args:
        settings: value of each varied setting.

    Returns:
        Text such as ``epsilon-0.1_steps-7``.
    """
    return "_".join(
        f"{key.split('.')[-1]}-{value:.6g}" if isinstance(value, float) else f"{key.split('.')[-1]}-{value}"
        for key, value in settings.items()
    )


def base_of(study: Study, *, cohort: str | None, recipe: str, asked: tuple[str, ...], tested: str) -> Study:
    """Returns the study of which a sweep varies one recipe.

    Args:
        study: with the recipe.
        cohort: may be left out where only one has the recipe, or for the first that has it.
        recipe: to vary.
        asked: names of evaluations that are kept.
        tested: ``test`` or ``validation``.

    Returns:
        A study with one cohort and one recipe.

    Raises:
        SpecError: there is no such cohort or recipe.
    """
    chosen = cohort_with(study, recipe, cohort=cohort)
    base = study.cohorts[chosen]
    kept = tuple(evaluation for evaluation in base.evaluations if evaluation.name in asked)
    cohort_of_one = base.narrowed(recipe).model_copy(update={"evaluations": kept, "selected_evaluations": ()})
    return study.model_copy(
        update={
            "cohorts": {chosen: cohort_of_one},
            "baseline": "standard",
            "split": study.split.model_copy(update={"tested": tested}),
        }
    )


def study_of(sweep: Sweep, points: list[Point]) -> Study:
    """Returns the study whose recipes are the points; it is stored with the results.

    Args:
        sweep: of the points.
        points: that were run.

    Returns:
        A study with one cohort.
    """
    recipes = {name: study.cohorts[sweep.cohort_name].recipes[name] for name, study in map(sweep.at, points)}
    return sweep.study.model_copy(
        update={"cohorts": {sweep.cohort_name: sweep.cohort.model_copy(update={"recipes": recipes})}}
    )
