"""The choices of a recipe that cannot be combined, each with the reason."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Incompatibility(NamedTuple):
    """Two choices that exclude each other."""

    what: str
    applies: Callable[[Any], bool]
    why: str


def _keeps_layers(recipe: Any) -> bool:
    """Returns whether some layers of a recipe stay at each client."""
    personal = None if recipe.federation is None else recipe.federation.personalisation
    return personal is not None and not personal.shares_all


INCOMPATIBLE: list[Incompatibility] = [
    Incompatibility(
        "an objective that mixes records × privacy",
        lambda recipe: recipe.privacy is not None and not recipe.objective.per_record,
        "record-level privacy clips the gradient of one record, so its loss may look at no other record; "
        "choose an objective whose per_record is true, or drop privacy",
    ),
    Incompatibility(
        "an objective that reads weights past the layers (interval_bounds) × privacy",
        lambda recipe: recipe.privacy is not None and not recipe.objective.through_layers,
        "one record's gradient is taken at the layers' own forward passes, and bounds are computed from the weights "
        "beside them, so clipping would miss what they contribute; train privately with pgd, or drop privacy",
    ),
    Incompatibility(
        "a treatment of one record that depends on others (poisoning, sanitation, reweighting) × privacy",
        lambda recipe: recipe.privacy is not None and not all(step.per_record for step in recipe.data),
        "whether one record is kept, changed or weighed then depends on which others there are, and no ε of the "
        "training pays for that; treat the data by public figures before, or drop privacy",
    ),
    Incompatibility(
        "an objective that watches its training records (fast) × privacy",
        lambda recipe: recipe.privacy is not None and recipe.objective.watching is not None,
        "what is seen on some records decides which weights are kept, and no ε pays for those looks; "
        "switch them off with watch: null, or train with pgd",
    ),
    Incompatibility(
        "early stopping × privacy",
        lambda recipe: recipe.privacy is not None and recipe.training.early_stopping is not None,
        "validation records, patients too, would choose the weights, and no ε pays for that; "
        "fix the number of epochs before",
    ),
    Incompatibility(
        "precision: bf16 × privacy",
        lambda recipe: recipe.privacy is not None and recipe.training.precision == "bf16",
        "what one record adds is bounded by lengths and sums of gradients that bfloat16 would round, by more than the "
        "bound where sums are long; leave precision at float32",
    ),
    Incompatibility(
        "precision: bf16 × an objective that reads weights past the layers (interval_bounds)",
        lambda recipe: recipe.training.precision == "bf16" and not recipe.objective.through_layers,
        "bounds that are rounded to bfloat16 no longer enclose what they bound, so training would be for another "
        "certificate than the one that is measured; leave precision at float32",
    ),
    Incompatibility(
        "early stopping × federation",
        lambda recipe: recipe.federation is not None and recipe.training.early_stopping is not None,
        "clients keep all their records, so nobody holds validation records to choose the weights by; "
        "fix the number of rounds before",
    ),
    Incompatibility(
        "averaged weights × federation",
        lambda recipe: recipe.federation is not None and recipe.training.averaging > 0,
        "a client's average would reach back over weights that the others have replaced since; leave averaging at 0",
    ),
    Incompatibility(
        "layers that stay at clients (fedper, fedrep, fedbn) × an objective with teachers (distillation)",
        lambda recipe: _keeps_layers(recipe) and bool(recipe.objective.teachers),
        "the network of a stage teaches the next one, and the shared network is none: some of its layers were never "
        "trained; choose another objective, or ditto, apfl or fine_tuning",
    ),
]
