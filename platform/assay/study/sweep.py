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
"""A value for each varied setting, keys dotted: ``objective.epsilon``; and perhaps ``fold``, from 0."""
FOLD = "fold"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is varied, and what is asked of every point."""

    space: str
    """Name of the search space."""
    study: Study
    """One cohort with one recipe: the base."""
    keys: tuple[str, ...]
    """The varied settings."""

    @property
    def cohort_name(self) -> str:
        return next(iter(self.study.cohorts))

    @property
    def cohort(self) -> Cohort:
        return self.study.cohorts[self.cohort_name]

    def recipe_at(self, point: Point) -> Recipe:
        """The base recipe with the settings of a point.

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
                said = f"space {self.space!r} varies {key!r}, which the base recipe does not have"
                raise SpecError(said, setting=self.space, given=key)
            inner[last] = point[key]
        try:
            return Recipe.model_validate(raw)
        except ValueError as error:
            why = explain(error) if isinstance(error, ValidationError) else [str(error)]
            fields = first_mistake(error) if isinstance(error, ValidationError) else {}
            raise SpecError(f"space {self.space!r} at {dict(point)}: {'; '.join(why)}", **fields) from None

    def at(self, point: Point) -> tuple[str, Study]:
        """The name of a point, and the study of that one recipe."""
        name = point_name({key: point[key] for key in self.keys})
        cohort = self.cohort.model_copy(update={"recipes": {name: self.recipe_at(point)}})
        return name, self.study.model_copy(update={"cohorts": {self.cohort_name: cohort}})

    def trial(self, point: Point, dataset: Dataset) -> Trial:
        """The trial of a point: the one that a study of its recipe would plan."""
        _, study = self.at(point)
        fold = point.get(FOLD, 0)
        return next(t for t in plan(study, {self.cohort_name: dataset}) if (t.fold, t.repeat) == (fold, 0))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep that may begin."""

    sweep: Sweep
    dataset: Dataset
    radius: float
    """At which robustness is read."""
    space: Mapping[str, Any]
    """Tune's space: the values of each varied setting, and ``fold``."""
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
    """The sweep of a search space over one recipe of a study.

    Args:
        name: of the space.
        space: of Tune, given the radius at which robustness is read; see ``tune_spaces``.
        cohort: see ``base_of``, as for ``recipe``, ``asked`` and ``tested``.
        folds: that every point is run on.
        samples: points of a random space, or repeats of a grid.

    Raises:
        SpecError: there is no such cohort or recipe, or there are not so many folds.
        DataError: the data are absent or unusable.
    """
    base = base_of(study, cohort=cohort, recipe=recipe, asked=asked, tested=tested)
    if folds > base.split.folds:
        said = f"--folds {folds}: the study has {base.split.folds}"
        raise SpecError(said, setting="--folds", given=folds, allowed=base.split.folds)
    (one,) = base.cohorts.values()
    dataset = one.load()
    refuse_beyond_official("--folds", folds, dataset, base.split)
    radius = one.radius_among(one.radii_of(dataset))
    points = space(radius)
    return Prepared(
        sweep=Sweep(space=name, study=base, keys=tuple(points)),
        dataset=dataset,
        radius=radius,
        space={**points, FOLD: {"grid_search": list(range(folds))}},
        samples=samples,
    )


def point_name(settings: Mapping[str, Any]) -> str:
    """``epsilon-0.1_steps-7``: what tells a point from its neighbours, fit for a path."""
    return "_".join(
        f"{key.split('.')[-1]}-{value:.6g}" if isinstance(value, float) else f"{key.split('.')[-1]}-{value}"
        for key, value in settings.items()
    )


def base_of(study: Study, *, cohort: str | None, recipe: str, asked: tuple[str, ...], tested: str) -> Study:
    """The study of which a sweep varies one recipe.

    Args:
        cohort: may be left out where only one has the recipe, or for the first that has it.
        asked: evaluations that are kept.
        tested: ``test`` or ``validation``.

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
    """The study whose recipes are the points, as it is kept beside the results."""
    recipes = {name: study.cohorts[sweep.cohort_name].recipes[name] for name, study in map(sweep.at, points)}
    return sweep.study.model_copy(
        update={"cohorts": {sweep.cohort_name: sweep.cohort.model_copy(update={"recipes": recipes})}}
    )
