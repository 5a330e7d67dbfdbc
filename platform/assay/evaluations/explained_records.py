"""The records that an evaluation of explanations explains, and what they are compared with."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.base import Dataset
from assay.errors import SpecError
from assay.evaluations.subject import Subject
from assay.explain.measures.base import Learnt, MeasuredRecords
from assay.explain.named_groups import correlated_columns
from assay.explain.references import Reference
from assay.models.batches import respond
from assay.recipes import Recipe
from assay.results import ReasonCode
from assay.training.build import build_trainer

BACKGROUND = 50
"""Usual number of background records."""
_MOST_AVERAGED = 2000
"""Records whose mean is the baseline."""
_FEWEST_OTHERS = 20
"""Records beside those that are measured that suffice to replace features; with fewer, these may, too."""
_POOL = 300
"""Records whose values replace removed features."""
OF_NO_RECORDS = "a record of zeros, moved into the valid bounds: no training records"
"""Source of a reference that depends on no training record, the same for every recipe."""
GREY = "a uniform image, midway between the valid bounds: no training records"
"""The same for images: black would be one of two extremes, and a black pixel could have no share."""


def keeps_records_away(recipe: Recipe | None) -> bool:
    """Returns whether explanations may not count from training records.

    Args:
        recipe: that trained the model; None for a model that Assay did not train.

    Returns:
        True for a private recipe, whose ε does not pay for it, and for a federated one, whose records are never in one
        place.
    """
    return recipe is not None and (recipe.privacy is not None or recipe.federation is not None)


def compared(from_training: bool | None, recipes: Iterable[Recipe]) -> bool | None:
    """Returns whether maps of recipes that are compared may count from training records.

    A difference between two recipes of which one counts from training records, and the other from zeros, would be one
    of their references. So none of them does where one of them may not.

    Args:
        from_training: as the study says; None where it says nothing.
        recipes: that are compared.

    Returns:
        The setting for all of them.

    Raises:
        SpecError: training records are demanded where only some recipes may use them.
    """
    away = [keeps_records_away(recipe) for recipe in recipes]
    if from_training is None:
        return not any(away)
    if from_training and any(away) and not all(away):
        raise SpecError(
            "from_training: true compares maps that count from training records with those of private or federated "
            "recipes, which count from zeros; leave it out (then all count from zeros), or give these recipes a cohort "
            "of their own",
            setting="from_training",
            given=True,
            allowed=[None, False],
        )
    return from_training


def reference_of(subject: Subject, size: int = BACKGROUND, *, from_training: bool = True) -> Reference:
    """Returns what records of a subject are compared with: in evaluations, and by the served model.

    The baseline is the mean of up to 2,000 training records, and the background a sample of them; without a training
    split, of the given records. A private model gets a neutral record (zeros; of images, grey): an ε does not cover
    what an explanation would tell of training records. So does a federated one, whose training records never are in one
    place. Ranges of inputs are then those of the stated bounds; of inputs without finite bounds, those of up to 2,000
    test records, and the source says so. In text the baseline is a word without a meaning in each place.

    Args:
        subject: the model with its data.
        size: number of background records.
        from_training: whether training records may serve; without them every recipe has the reference of a private one.
            In a cohort of several recipes: ``compared``.

    Returns:
        The reference.
    """
    modality = subject.dataset.modality
    rows, whose = _held(subject)
    if modality == "text":
        blank = torch.zeros_like(subject.records(rows[:1])[0])
        return Reference(modality="text", background=blank, source="words without a meaning")
    if keeps_records_away(subject.recipe) or not from_training:
        neutral, source = _neutral(subject)
        spread, whose = _stated_range(subject)
        return Reference(
            modality=modality,
            columns=columns_of(subject.dataset),
            background=neutral,
            spread=spread,
            source=f"{source}{whose}",
        )
    some = subject.chosen(rows, _MOST_AVERAGED)
    known = subject.records(some)[0]
    chosen = np.sort(_shuffled(subject, rows)[:size])
    columns = columns_of(subject.dataset)
    return Reference(
        modality=modality,
        columns=columns,
        correlated=correlated_columns(known.cpu().numpy(), columns) if columns else None,
        background=subject.records(chosen)[0],
        middle=known.mean(0, keepdim=True),
        spread=_range(known),
        source=f"{len(chosen)} {whose}, or the mean of {'all' if len(some) == len(rows) else f'{len(some)} of them'}",
    )


def columns_of(dataset: Dataset) -> tuple[str, ...]:
    """Returns the column of each input of a table.

    Args:
        dataset: the prepared data.

    Returns:
        The names, by number where the columns have none; empty where records are no rows of columns.
    """
    if dataset.modality != "tabular" or len(dataset.shape) != 1:
        return ()
    names = dataset.feature_names or tuple(f"feature {number}" for number in range(dataset.shape[0]))
    return tuple(feature.column for feature in dataset.features) or tuple(names)


def measured_records(subject: Subject, rows: np.ndarray, reference: Reference) -> MeasuredRecords:
    """Returns records whose maps are measured, with the predicted class as the target.

    Removed features get values of other records: training records that are not in the background of explanations, as
    far as there are enough; records of the other splits where the recipe is private or nothing was trained.

    Args:
        subject: the model with its data.
        rows: (n,) positions of the records.
        reference: of the explanations.

    Returns:
        The records.
    """
    x = subject.records(rows)[0]
    order = _shuffled(subject, _others(subject, rows, reference))
    others = order[len(reference.background) :] if len(order) >= 2 * len(reference.background) else order
    return MeasuredRecords(
        model=subject.model,
        x=x,
        target=subject.decisions(respond(subject.model, x)),
        reference=reference,
        pool=subject.records(np.sort(others[:_POOL]))[0],
        seed=subject.seed,
        task=subject.task,
        decide=subject.decisions,
    )


def learnt_by(subject: Subject) -> Learnt | None:
    """Returns the training records for measures that train a network, and how they train one.

    A network is trained with the settings of the recipe's last stage by the usual loss, whatever its objective.

    Args:
        subject: the model with its data.

    Returns:
        Up to 2,000 records; None where nothing can be trained, or ``keeps_records_away``.
    """
    recipe, rows, made = subject.recipe, subject.split.train, subject.network
    if recipe is None or made is None or keeps_records_away(recipe) or not len(rows):
        return None
    x, y = subject.records(subject.chosen(rows, _MOST_AVERAGED))
    training = recipe.training.model_copy(update={"early_stopping": None})

    def train(given: Tensor, of: Tensor) -> nn.Module:
        network, seed = made().to(subject.device), seeds.derive(subject.seed, "measure of explanations")
        build_trainer(
            network,
            Recipe(training=training),
            given,
            of,
            bounds=subject.bounds,
            seed=seed,
            classes=subject.dataset.classes,
        ).run()
        return network.eval()

    return Learnt(x=x, y=y, train=train)


def why_not_learnt(subject: Subject) -> tuple[str, ReasonCode]:
    """Returns why ``learnt_by`` gives nothing, in words and as a code.

    Args:
        subject: the model with its data.

    Returns:
        Both; only valid where it gives nothing.
    """
    recipe = subject.recipe
    if recipe is not None and recipe.privacy is not None:
        return "of a private recipe no ε pays for it", "unpaid"
    if recipe is not None and recipe.federation is not None:
        return "those of a federated recipe are never in one place", "not_in_one_place"
    return "none are known here", "not_trained_here"


def answers_differ(subject: Subject, rows: np.ndarray) -> bool:
    """Returns whether the model gives a record another answer when it is asked again.

    Args:
        subject: the model with its data.
        rows: (n,) positions of the records that are tried.

    Returns:
        True for a model that answers at random.
    """
    with seeds.generators_kept():
        x = subject.records(rows)[0]
        once, again = (respond(subject.model, x) for _ in range(2))
    rounding = 64 * torch.finfo(once.dtype).eps * once.nan_to_num().abs().max()
    return bool(((once - again).abs() > rounding).any())


def _others(subject: Subject, rows: np.ndarray, reference: Reference) -> np.ndarray:
    """Returns the records whose values replace features: of training, or else all but these and those of training."""
    split = subject.split
    if len(split.train) and not keeps_records_away(subject.recipe) and len(reference.background) > 1:
        return split.train
    held = np.concatenate([split.validation, split.calibration, split.test])
    others = np.setdiff1d(held, rows)
    return others if len(others) >= _FEWEST_OTHERS else held


def _shuffled(subject: Subject, rows: np.ndarray) -> np.ndarray:
    order: np.ndarray = seeds.stream(subject.seed, "background").permutation(rows)
    return order


def _neutral(subject: Subject) -> tuple[Tensor, str]:
    """Returns a record that depends on no data, (1, ...), and its description."""
    bounds, shape = subject.dataset.bounds, subject.dataset.shape
    middle = ((bounds.low + bounds.high) / 2).expand(shape)[None]
    if subject.dataset.modality == "image" and bool(middle.isfinite().all()):
        return middle.clone().to(subject.device), GREY
    return bounds.clip(torch.zeros(1, *shape)).to(subject.device), OF_NO_RECORDS


def _stated_range(subject: Subject) -> tuple[Tensor, str]:
    """Returns the range of each input by its bounds, (1, ...), and which records tell it where these are not finite."""
    bounds = subject.dataset.bounds
    stated = (bounds.high - bounds.low).expand(subject.dataset.shape)[None].to(subject.device)
    finite = stated.isfinite()
    if bool(finite.all()):
        return stated, ""
    rows = subject.chosen(subject.split.test, _MOST_AVERAGED)
    return torch.where(finite, stated, _range(subject.records(rows)[0])), f"; ranges of {len(rows)} test records"


def _range(known: Tensor) -> Tensor:
    return known.amax(0, keepdim=True) - known.amin(0, keepdim=True)


def _held(subject: Subject) -> tuple[np.ndarray, str]:
    """Returns records for averages and backgrounds, and their description."""
    rows = subject.split
    return (rows.train, "training records") if len(rows.train) else (rows.test, "given records")
