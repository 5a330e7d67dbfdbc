"""What equal effort costs: the points that each recipe of a study tries, without training anything."""

from collections.abc import Iterable
from dataclasses import dataclass

from assay.study.plan import Forecast
from assay.study.spec import Study


@dataclass(frozen=True, kw_only=True)
class TuningCost:
    """Trainings of one recipe of one cohort, of which each trial keeps the best."""

    cohort: str
    recipe: str
    points: int
    """Trainings in each trial: 1 for a recipe that stays as it is."""
    epochs: int
    """Epochs of all points of a trial together."""
    own_epochs: int
    """Epochs of the recipe as it stands."""
    trials: int

    @property
    def trainings(self) -> int:
        """Trainings over all trials."""
        return self.points * self.trials

    @property
    def factor(self) -> float:
        """Epochs of a tuned trial over those of a trial that is not tuned."""
        return self.epochs / self.own_epochs


def tuning_costs(study: Study, forecasts: Iterable[Forecast]) -> list[TuningCost]:
    """Returns what ``tuned`` of a study costs.

    Args:
        study: that is forecast.
        forecasts: of its recipes; see ``plan.forecast_study``.

    Returns:
        One entry for each recipe of each cohort; none where the study tunes nothing.
    """
    if study.tuned is None:
        return []
    costs = []
    for one in forecasts:
        recipe, tuned = study.cohorts[one.cohort].recipes[one.recipe], study.tuned.of(one.recipe)
        points = [recipe.training] if tuned is None else tuned.points_of(recipe, seed=study.seed)
        costs.append(
            TuningCost(
                cohort=one.cohort,
                recipe=one.recipe,
                points=len(points),
                epochs=sum(point.epochs for point in points),
                own_epochs=recipe.training.epochs,
                trials=one.trials,
            )
        )
    return costs
