"""Points proposed by Optuna: TPE for one goal (Bergstra et al. 2011), NSGA-II for several (Deb et al. 2002).

Optuna keeps its trials in memory alone. The results of the store are the truth: a sweep that goes on tells them again.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from assay import seeds
from assay.errors import SpecError
from assay.study.search.base import Settings
from assay.study.search.space import Axis, Values

POPULATION = 12
"""Points of a generation of NSGA-II. Optuna's default, 50, is more than most sweeps of trained models have in all."""


class Optuna:
    """Proposes points by the outcomes of earlier ones.

    Args:
        space: its name, for errors.
        axes: by setting.
        samples: number of points.
        seed: of the sampler.
        better: ``higher`` or ``lower`` for each goal.

    Raises:
        SpecError: the space is a grid.
    """

    learns = True

    def __init__(self, space: str, axes: Mapping[str, Axis], *, samples: int, seed: int, better: Sequence[str]) -> None:
        if grids := [key for key, axis in axes.items() if isinstance(axis, Values) and axis.grid]:
            raise SpecError(
                f"space {space!r} is a grid over {', '.join(grids)}, and --search grid runs all of it; Optuna chooses "
                "among draws: write tune.choice, tune.uniform or tune.loguniform in the space, or leave --search out",
                setting="--search",
                given="optuna",
                allowed=("grid", "random"),
            )
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.total, self._next, self._axes = samples, 0, axes
        self._distributions = {key: _distribution(optuna, axis) for key, axis in axes.items()}
        seed = seeds.derive(seed, "optuna") % 2**32
        sampler = (
            optuna.samplers.TPESampler(seed=seed)
            if len(better) == 1
            else optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        )
        directions = ["maximize" if one == "higher" else "minimize" for one in better]
        self._study = optuna.create_study(directions=directions, sampler=sampler)
        self._failed = optuna.trial.TrialState.FAIL
        self._open: dict[int, Any] = {}

    def propose(self) -> Settings | None:
        """Returns the sampler's next point; see ``Search.propose``."""
        if self._next == self.total:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental features of Optuna that its samplers use themselves
            trial = self._study.ask(self._distributions)
        self._open[self._next] = trial
        self._next += 1
        return {key: _value(axis, trial.params[key]) for key, axis in self._axes.items()}

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Tells the sampler an outcome; a failed point counts for nothing; see ``Search.tell``."""
        trial = self._open.pop(number)
        if values is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, list(values))


def _distribution(optuna: Any, axis: Axis) -> Any:
    """Returns Optuna's distribution of a setting; of a list, of the places in it, since values may be lists."""
    if isinstance(axis, Values):
        return optuna.distributions.CategoricalDistribution(tuple(range(len(axis.values))))
    if axis.whole:
        # Optuna has no step on a logarithmic scale: such a draw is rounded to it afterwards.
        step = 1 if axis.log or axis.step is None else int(axis.step)
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log, step=step)
    width = None if axis.log else axis.step
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log, step=width)


def _value(axis: Axis, drawn: Any) -> Any:
    return axis.values[drawn] if isinstance(axis, Values) else axis.rounded(drawn)
