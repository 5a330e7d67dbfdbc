"""A sweep: some settings of a recipe of a study, or of its model, are varied. Each point is an ordinary trial."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from assay.data.base import Dataset
from assay.errors import SpecError
from assay.models.base import Architecture
from assay.recipes import Recipe
from assay.registry import build, explain, first_mistake
from assay.study.plan import plan
from assay.study.search.base import Settings
from assay.study.spec import Cohort, Study, cohort_with
from assay.study.trial import Trial

_MODEL = "model."
"""How the keys of settings of the model begin; all others are settings of the recipe."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The varied settings, and the study in which each point runs."""

    space: str
    """Name of the search space."""
    study: Study
    """One cohort with one recipe, which is varied."""
    keys: tuple[str, ...]
    """The varied settings, with dotted keys such as ``objective.epsilon`` or ``model.hidden``."""

    @property
    def name(self) -> str:
        """Name of the sweep, under which its trials are grouped elsewhere."""
        return f"sweep-{self.space}-{self.study.name}"

    @property
    def cohort_name(self) -> str:
        """Name of the only cohort."""
        return next(iter(self.study.cohorts))

    @property
    def cohort(self) -> Cohort:
        """The only cohort."""
        return self.study.cohorts[self.cohort_name]

    @property
    def base(self) -> Recipe:
        """The recipe that is varied."""
        return next(iter(self.cohort.recipes.values()))

    def point_name(self, point: Settings) -> str:
        """Returns the name of a point, which may be part of a path.

        Args:
            point: of the sweep.

        Returns:
            Text such as ``epsilon-0.1_steps-7``.
        """
        return point_name({key: point[key] for key in self.keys})

    def settings_in(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the settings of a point as a trial stored them.

        Args:
            asked: settings of the trial; see ``Trial.description``.

        Returns:
            A value for each key of the sweep.
        """
        return {key: setting_in(asked, key) for key in self.keys}

    def recipe_at(self, point: Settings) -> Recipe:
        """Returns the base recipe with the settings of a point.

        Args:
            point: of the sweep.

        Returns:
            The recipe.

        Raises:
            SpecError: the recipe has no such setting, or cannot have this value.
        """
        raw = self.base.model_dump(mode="json")
        for key in self.keys:
            if not key.startswith(_MODEL):
                self._set(raw, key, point[key], of="the base recipe")
        return self._checked(point, lambda: Recipe.model_validate(raw))

    def model_at(self, point: Settings) -> Architecture:
        """Returns the model of the cohort with the settings of a point.

        Args:
            point: of the sweep.

        Returns:
            The model.

        Raises:
            SpecError: the model has no such setting, or cannot have this value.
        """
        keys = [key for key in self.keys if key.startswith(_MODEL)]
        if not keys:
            return self.cohort.model
        raw = self.cohort.model.model_dump(mode="json")
        for key in keys:
            self._set(raw, key, point[key], of=f"the model {self.cohort.model.name}")
        return self._checked(point, lambda: build("model", raw))

    def _set(self, raw: dict[str, Any], key: str, value: Any, *, of: str) -> None:
        """Changes one setting of plain values."""
        *path, last = key.removeprefix(_MODEL).split(".")
        inner = raw
        for part in path:
            inner = inner[part] if isinstance(inner.get(part), dict) else {}
        if last not in inner:
            message = f"space {self.space!r} varies {key!r}, which {of} does not have"
            raise SpecError(message, setting=self.space, given=key)
        inner[last] = value

    def _checked(self, point: Settings, made: Callable[[], Any]) -> Any:
        """Returns settings that are made of a point; a mistake among them names the point."""
        try:
            return made()
        except ValueError as error:
            why = explain(error) if isinstance(error, ValidationError) else [str(error)]
            named = {key: getattr(error, key, None) for key in ("setting", "given", "allowed")}
            fields = first_mistake(error) if isinstance(error, ValidationError) else named
            raise SpecError(f"space {self.space!r} at {dict(point)}: {'; '.join(why)}", **fields) from None

    def at(self, point: Settings) -> tuple[str, Study]:
        """Returns the name of a point, and the study with its recipe and model.

        Args:
            point: of the sweep.

        Returns:
            The name, and a study with one cohort and one recipe.
        """
        name = self.point_name(point)
        changes = {"recipes": {name: self.recipe_at(point)}, "model": self.model_at(point)}
        return name, self.study.model_copy(
            update={"cohorts": {self.cohort_name: self.cohort.model_copy(update=changes)}}
        )

    def trials(self, point: Settings, dataset: Dataset, *, folds: int = 1) -> list[Trial]:
        """Returns the trials of a point, as a study of its recipe would plan them.

        Args:
            point: of the sweep.
            dataset: of the cohort.
            folds: number of folds on which the point runs.

        Returns:
            The trials of the first folds, in the first repeat.
        """
        _, study = self.at(point)
        trials = plan(study, {self.cohort_name: dataset})
        return [trial for trial in trials if trial.repeat == 0 and trial.fold < folds]


def setting_in(asked: Mapping[str, Any], key: str) -> Any:
    """Returns one setting of a recipe or of its model.

    Args:
        asked: the entries ``recipe`` and ``model``, as plain values.
        key: of the setting, such as ``objective.epsilon`` or ``model.hidden``.

    Returns:
        The value.
    """
    value: Any = asked["model"] if key.startswith(_MODEL) else asked["recipe"]
    for part in key.removeprefix(_MODEL).split("."):
        value = value[part]
    return value


def point_name(settings: Mapping[str, Any]) -> str:
    """Returns the name of a point, which may be part of a path.

    Args:
        settings: value of each varied setting.

    Returns:
        Text such as ``epsilon-0.1_steps-7``. A setting is named by the last part of its key, or by as many parts as
        tell it from the others.
    """
    return "_".join(f"{_short(key, settings)}-{_text(value)}" for key, value in settings.items())


def _short(key: str, keys: Mapping[str, Any]) -> str:
    """Returns the end of a dotted key that no other key ends with."""
    parts = key.split(".")
    ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
    return next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)


def _text(value: Any) -> str:
    """Returns a value as a part of a file name."""
    if isinstance(value, list | tuple):
        return "x".join(map(_text, value)) or "none"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text)


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
            # A sweep tunes by itself.
            "tuned": None,
            "split": study.split.model_copy(update={"tested": tested}),
        }
    )
