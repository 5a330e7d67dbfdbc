"""Federated recipes that cannot be trained with their clients, refused before any training."""

from assay.data.base import Dataset
from assay.data.partition import partition_dataset
from assay.data.splits import keeps_official, split
from assay.errors import SpecError, UserError
from assay.recipes import Recipe
from assay.study.spec import Cohort, Study
from assay.study.trial import seed_of


def refuse_impossible_federations(study: Study, cohort: Cohort, name: str, dataset: Dataset | None) -> None:
    """Raises if the records of the first fold cannot be dealt to clients, or a strategy needs more of them.

    Args:
        study: with the split and the seed.
        cohort: with the recipes.
        name: of the cohort, for the error.
        dataset: of the cohort; None where the data are absent. Then only strategies are judged, and only where the
            recipe says how many clients there are.

    Raises:
        SpecError: names the cohort and the recipe, and what is wrong.
    """
    for recipe_name, recipe in cohort.recipes.items():
        if recipe.federation is None:
            continue
        try:
            _refuse(study, recipe, dataset)
        except UserError as error:
            raise SpecError(
                f"cohort {name!r}, recipe {recipe_name!r}: {error}",
                setting=error.setting,
                given=error.given,
                allowed=error.allowed,
            ) from None


def _refuse(study: Study, recipe: Recipe, dataset: Dataset | None) -> None:
    """Raises a ``UserError`` if a federated recipe cannot be trained."""
    federation = recipe.federation
    assert federation is not None
    if dataset is not None and (study.split.folds > 1 or keeps_official(dataset, study.split)):
        rows = split(dataset, study.split, fold=0, repeat=0, seed=study.seed).train
        dealt = partition_dataset(dataset, rows, federation, seed=seed_of(study.seed, fold=0, repeat=0))
        federation = federation.model_copy(update={"clients": len(dealt)})
    elif federation.partition == "natural":
        return
    if federation.policy == "at_least" and federation.at_least > federation.asked:
        raise SpecError(
            f"federation.at_least is {federation.at_least}, and a round asks {federation.asked} of "
            f"{federation.clients} clients; set it to at most {federation.asked}",
            setting="federation.at_least",
            given=federation.at_least,
            allowed=federation.asked,
        )
    federation.strategy.refuse(federation.least_answers, recipe)
