"""What a sweep would run, printed before anything runs: ``jobs.sweep --dry-run``."""

from typing import TYPE_CHECKING

from rich.markup import escape

from jobs.console import console, console_table, count_of, print_reading

if TYPE_CHECKING:
    from assay.study.search.space import Axis
    from assay.study.sweep_prepare import PreparedSweep


def print_plan(ready: "PreparedSweep", location: str, *, tuned: bool) -> None:
    """Prints the points, the trials, their epochs and the ε that each would spend.

    Args:
        ready: the sweep.
        location: of its results.
        tuned: whether the study, of which a recipe is varied, has the setting ``tuned``.
    """
    from assay.store.folder import Store
    from assay.study.plan import evaluation_costs, forecast_study

    sweep, points = ready.sweep, ready.points().total
    loaded = {sweep.cohort_name: ready.dataset}
    print_reading(console, sweep.cohort_name, ready.dataset)
    rows = [(key, describe_axis(axis), str(_at_base(ready, key))) for key, axis in ready.axes.items()]
    console.print(console_table(("setting", "values", "in the recipe"), rows))
    (forecast,) = forecast_study(sweep.study, loaded)
    which = ", as the recipe stands" if any(key.startswith("privacy.") for key in sweep.keys) else ""
    lines = [
        f"--search {ready.search}: {count_of(points, 'point')} × {count_of(ready.folds, 'fold')} = "
        f"{count_of(points * ready.folds, 'trial')} of about {forecast.records} training records, asked of the "
        f"{sweep.study.split.tested} records; goals: {', '.join(goal.title for goal in ready.goals)}",
        _epochs(ready, points),
        f"each trial spends{which}: {forecast.spends}",
        *(cost for _, cost in evaluation_costs(sweep.study, loaded)),
    ]
    if tuned:
        lines.append("tuned: the study tunes its recipes, and a sweep does not: it is itself how a recipe is tuned")
    if known := len(Store(location).finished()):
        lines.append(f"{location}: {count_of(known, 'trial')} stored; those of the same points are not run again")
    for line in (*lines, "nothing was run"):
        console.print(escape(line), highlight=False, soft_wrap=True)


def describe_axis(axis: "Axis") -> str:
    """Describes the values of a setting.

    Args:
        axis: of the search space.

    Returns:
        Text such as ``one of 1, 3, 7`` or ``0.001 to 0.1, logarithmic``.
    """
    from assay.study.search.space import Values

    if isinstance(axis, Values):
        return f"{'each' if axis.grid else 'one'} of {', '.join(map(str, axis.values))}"
    step = "" if axis.step is None else f", in steps of {axis.step:g}"
    return f"{axis.low:g} to {axis.high:g}{', logarithmic' if axis.log else ''}{step}"


def _at_base(ready: "PreparedSweep", key: str) -> object:
    """Returns the value of a setting in the recipe, or the model, that is varied."""
    from assay.study.sweep import setting_in

    recipe, model = ready.sweep.base, ready.sweep.cohort.model
    return setting_in({"recipe": recipe.model_dump(mode="json"), "model": model.model_dump(mode="json")}, key)


def _epochs(ready: "PreparedSweep", points: int) -> str:
    """Describes how many epochs the points train."""
    each, trials = ready.sweep.base.training.epochs, points * ready.folds
    if "training.epochs" in ready.sweep.keys:
        return "the epochs of a trial are varied"
    if ready.rungs is None:
        return f"{count_of(each, 'epoch')} in each trial, {trials * each:,} in all"
    ends, eta = ready.rungs.epochs, ready.rungs.eta
    steps = [end - before for before, end in zip((0, *ends), ends, strict=False)]
    about = sum(trials / eta**rung * step for rung, step in enumerate(steps))
    return (
        f"--scheduler asha: after {', '.join(map(str, ends[:-1]))} of {each} epochs one in {eta} goes on: about "
        f"{about:,.0f} epochs in all, in place of {trials * each:,}"
    )
