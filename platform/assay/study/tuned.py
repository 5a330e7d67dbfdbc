"""Equal effort: within its trial every recipe tries the same number of points of its own grid on validation records."""

from collections.abc import Mapping
from itertools import product
from typing import Annotated

from pydantic import Field, StringConstraints

from assay import seeds
from assay.errors import IncompatibleRecipeError, SpecError
from assay.recipes import Recipe, Training
from assay.registry import Number, Settings
from assay.threats import Norm

Factor = Annotated[Number, Field(gt=0)]
RecipeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Tuned(Settings):
    """How each recipe is tuned, so that differences between recipes do not measure who was tuned longer.

    The grid of a recipe is its own learning rate, batch size and number of epochs, times factors. Its first point is
    the recipe as it stands; the others are drawn, at the same places of the grid for all recipes. Each point is trained
    on the training records, and the best on the validation records of the trial is kept; test records take no part, so
    the choice is nested in the fold.
    """

    points: int = Field(default=9, ge=2)
    """Points of each recipe, its own settings included."""
    learning_rate: tuple[Factor, ...] = Field(default=(1 / 3, 1.0, 3.0), min_length=1)
    """Factors of the recipe's own learning rate."""
    batch_size: tuple[Factor, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    """Factors of its batch size."""
    epochs: tuple[Factor, ...] = Field(default=(0.5, 1.0, 2.0), min_length=1)
    """Factors of its number of epochs."""
    epsilon: Number = Field(default=0.0, ge=0)
    """Points are compared by their accuracy under PGD within this radius; 0 for accuracy without attack. One radius for
    all recipes: whoever asks for robustness compares by it."""
    norm: Norm = "linf"
    steps: int = Field(default=10, ge=1)
    """Of PGD."""
    without: tuple[RecipeName, ...] = ()
    """Recipes that stay as they are, with one point; private and federated ones must."""

    def points_of(self, recipe: Recipe, *, seed: int) -> list[Training]:
        """Returns the trainings that a recipe tries.

        Args:
            recipe: to tune.
            seed: of the study, which draws the places in the grid.

        Returns:
            ``points`` different trainings, the recipe's own first.

        Raises:
            SpecError: its grid has fewer points.
        """
        own = recipe.training
        grid = list(product(self.learning_rate, self.batch_size, self.epochs))
        order = seeds.stream(seed, "tuned").permutation(len(grid))
        found = [own]
        for place in order:
            rate, batch, epochs = grid[place]
            point = own.model_copy(
                update={
                    "learning_rate": own.learning_rate * rate,
                    "batch_size": max(1, round(own.batch_size * batch)),
                    "epochs": max(1, round(own.epochs * epochs)),
                }
            )
            if point not in found:
                found.append(point)
        if len(found) < self.points:
            raise SpecError(
                f"tuned.points is {self.points}, and the grid of a recipe has {len(found)} different points; lower "
                "points, or add factors",
                setting="tuned.points",
                given=self.points,
                allowed=len(found),
            )
        return found[: self.points]

    def refuse(self, recipes: Mapping[str, Recipe], *, seed: int, validated: bool) -> None:
        """Raises an error where a recipe cannot be tuned.

        Args:
            recipes: of a cohort, by name.
            seed: of the study.
            validated: whether the validation records are not those that are tested.

        Raises:
            IncompatibleRecipeError: a recipe that is not left out is private or federated.
            SpecError: the validation records are tested, or a grid has too few points.
        """
        if not validated:
            raise SpecError(
                "tuned chooses by the validation records, and split.tested says that they are tested; set split.tested "
                "to test, or leave tuned out",
                setting="split.tested",
                given="validation",
                allowed="test",
            )
        for name in self.without:
            if name not in recipes:
                message = f"tuned.without names {name!r}, and the cohort has no such recipe: {', '.join(recipes)}"
                raise SpecError(message, setting="tuned.without", given=name, allowed=list(recipes))
        for name, recipe in recipes.items():
            if name in self.without:
                continue
            if why := _why_not(recipe):
                raise IncompatibleRecipeError(
                    f"recipe {name!r} cannot be tuned within its trial: {why}; name it in tuned.without, and choose "
                    "its settings on other data before (jobs.sweep)",
                    setting="tuned",
                    given=name,
                    allowed="tuned.without",
                )
            self.points_of(recipe, seed=seed)

    def of(self, name: str) -> "Tuned | None":
        """Returns how a recipe is tuned.

        Args:
            name: of the recipe.

        Returns:
            These settings without names of other recipes; None for one that stays as it is.
        """
        return None if name in self.without else self.model_copy(update={"without": ()})


def _why_not(recipe: Recipe) -> str:
    """Returns why a recipe cannot be tuned within its trial; empty if it can."""
    if recipe.privacy is not None:
        return "it is private, and validation records, patients too, would choose its weights: no ε pays for that"
    if recipe.federation is not None:
        return "it is federated: clients keep all their records, so nobody holds validation records to choose by"
    return ""
