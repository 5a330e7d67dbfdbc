"""A sweep that is ready to begin: its study, its data, its search and its goals."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.data.base import Dataset
from assay.data.splits import refuse_beyond_official
from assay.errors import SpecError
from assay.registry import unknown_name
from assay.study.halving import Halving, Jobs, Plain, Rungs, refuse_unhalvable
from assay.study.search.base import Search
from assay.study.search.grid import Grid
from assay.study.search.optuna import Optuna
from assay.study.search.random import Random
from assay.study.search.space import Axis, Values, axes_of
from assay.study.spec import Cohort, Study
from assay.study.sweep import Sweep, base_of
from assay.study.sweep_goals import Goal, goals_named

SEARCHES = ("grid", "random", "optuna")
SCHEDULERS = ("none", "asha")


@dataclass(frozen=True, kw_only=True)
class PreparedSweep:
    """A sweep that is ready to begin."""

    sweep: Sweep
    dataset: Dataset
    radius: float
    """At which the report reads robustness."""
    axes: Mapping[str, Axis]
    """The values of each varied setting."""
    folds: int
    """Folds on which every point runs."""
    search: str
    """One of ``SEARCHES``."""
    samples: int
    """Number of points that ``random`` and ``optuna`` propose."""
    goals: tuple[Goal, ...]
    """The most important first: it decides which point is chosen, and what goes on training."""
    rungs: Rungs | None = None
    """After how many epochs points are stopped; None trains every point to the end."""
    ahead: int | None = None
    """Points that may be under way while the next one is proposed; None for a number that grows with the pool: see
    ``sweep_queue.Lookahead``."""

    @property
    def device(self) -> str:
        """Where its trials are computed, ``gpu`` or ``cpu``: see ``Cohort.device``."""
        return self.sweep.study.cohorts[self.sweep.cohort_name].device

    @property
    def about(self) -> dict[str, Any]:
        """What is searched and how, as plain values."""
        return {
            "space": self.sweep.space,
            "tested": self.sweep.study.split.tested,
            "keys": list(self.sweep.keys),
            "search": self.search,
            "points": self.points().total,
            "folds": self.folds,
            "goals": [goal.key for goal in self.goals],
            "radius": self.radius,
            "rungs": None if self.rungs is None else list(self.rungs.epochs),
            "ahead": self.ahead,
        }

    def points(self) -> Search:
        """Returns a search that has proposed nothing yet."""
        seed, space = self.sweep.study.seed, self.sweep.space
        if self.search == "grid":
            return Grid(space, self.axes)
        if self.search == "random":
            return Random(self.axes, samples=self.samples, seed=seed)
        # At a rung the first goal alone is known.
        better = [goal.better for goal in (self.goals if self.rungs is None else self.goals[:1])]
        return Optuna(space, self.axes, samples=self.samples, seed=seed, better=better)

    def jobs(self) -> Jobs:
        """Returns the jobs of the sweep in their order, none of which was taken yet.

        Where a job depends on outcomes, it depends on those of all jobs but the last ``ahead`` before it, and on no
        others: the points are then the same however often the sweep was killed and whichever worker was faster.
        """
        if self.rungs is None:
            return Plain(self.points())
        return Halving(self.points(), self.rungs, sign=self.goals[0].sign)


def prepare_sweep(
    study: Study,
    *,
    name: str,
    space: Callable[..., Mapping[str, Any]],
    cohort: str | None,
    recipe: str,
    asked: tuple[str, ...],
    tested: str,
    folds: int = 1,
    samples: int | None = None,
    default_samples: int = 1,
    search: str | None = None,
    goals: Sequence[str] = ("accuracy",),
    scheduler: str = "none",
    eta: int = 3,
    ahead: int | None = None,
) -> PreparedSweep:
    """Prepares the sweep of a search space over one recipe of a study.

    Args:
        study: with the recipe.
        name: of the space.
        space: returns distributions of Ray Tune by setting, given the radius at which robustness is read, and, where it
            has an argument ``model``, the name of the cohort's model; see ``tune_spaces``.
        cohort: see ``base_of``, as for ``recipe``, ``asked`` and ``tested``.
        recipe: to vary.
        asked: names of evaluations that are kept.
        tested: ``test`` or ``validation``.
        folds: number of folds on which every point runs.
        samples: number of points to draw; None for ``default_samples``.
        default_samples: of the space.
        search: one of ``SEARCHES``; by default ``grid`` where the space is one, else ``random``.
        goals: names of goals, the most important first.
        scheduler: one of ``SCHEDULERS``.
        eta: of ``asha``: one in so many points goes on at each rung.
        ahead: see ``PreparedSweep.ahead``.

    Returns:
        The sweep, its data and its space.

    Raises:
        SpecError: there is no such cohort, recipe, search or goal, there are not so many folds, or the search cannot
            search this space.
        DataError: the data are absent or unusable.
    """
    base = base_of(study, cohort=cohort, recipe=recipe, asked=asked, tested=tested)
    (only,) = base.cohorts.values()
    dataset = _loaded(base, only, folds=folds)
    radius = only.radius_among(only.radii_of(dataset))
    axes = axes_of(name, _distributions(space, radius, only.model.name))
    chosen = _search_named(search, name, axes, samples=samples, tested=tested)
    sweep = Sweep(space=name, study=base, keys=tuple(axes))
    wanted = goals_named(goals, only)
    ready = PreparedSweep(
        sweep=sweep,
        dataset=dataset,
        radius=radius,
        axes=axes,
        folds=folds,
        search=chosen,
        samples=samples or default_samples,
        goals=wanted,
        rungs=_rungs_of(sweep, scheduler, wanted, eta=eta),
        ahead=ahead,
    )
    ready.points()  # refuses what cannot be searched, before anything starts
    return ready


def _loaded(base: Study, only: Cohort, *, folds: int) -> Dataset:
    """Returns the data of the only cohort; raises an error where there are not so many folds."""
    if folds > base.split.folds:
        message = f"--folds {folds}: the study has {base.split.folds}"
        raise SpecError(message, setting="--folds", given=folds, allowed=base.split.folds)
    dataset = only.load()
    refuse_beyond_official("--folds", folds, dataset, base.split)
    return dataset


def _distributions(space: Callable[..., Mapping[str, Any]], radius: float, model: str) -> Mapping[str, Any]:
    """Returns the distributions of a space; one that varies the model is told its name."""
    told = {"model": model} if "model" in inspect.signature(space).parameters else {}
    return space(radius, **told)


def _search_named(search: str | None, name: str, axes: Mapping[str, Axis], *, samples: int | None, tested: str) -> str:
    """Returns the search that is asked for, or that suits the space."""
    is_grid = all(isinstance(axis, Values) and axis.grid for axis in axes.values())
    chosen = search or ("grid" if is_grid else "random")
    if chosen not in SEARCHES:
        raise unknown_name("search", chosen, list(SEARCHES), setting="--search")
    if chosen == "grid" and samples is not None:
        raise SpecError(
            f"--samples {samples}: --search grid runs every point of the space {name!r} once, so there is nothing to "
            "draw; leave --samples out, or draw points with --search random",
            setting="--samples",
            given=samples,
            allowed="--search random or optuna",
        )
    if chosen == "optuna" and tested == "test":
        raise SpecError(
            f"space {name!r} is evaluated on the test records, and Optuna chooses points by what is measured: nothing "
            'may be chosen by test records; set TESTED = "validation" in the space',
            setting="TESTED",
            given="test",
            allowed="validation",
        )
    return chosen


def _rungs_of(sweep: Sweep, scheduler: str, goals: Sequence[Goal], *, eta: int) -> Rungs | None:
    """Returns the rungs of a scheduler; None without one."""
    if scheduler not in SCHEDULERS:
        raise unknown_name("scheduler", scheduler, list(SCHEDULERS), setting="--scheduler")
    if scheduler == "none":
        return None
    refuse_unhalvable(sweep.space, sweep.base, sweep.keys, goals[0])
    return Rungs.up_to(sweep.base.training.epochs, eta=eta)
