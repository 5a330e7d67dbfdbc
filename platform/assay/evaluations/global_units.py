"""What global explanations speak of: columns of a table, patches of an image, windows of a signal, words of a text."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.data.base import Dataset
from assay.evaluations.explained_records import columns_of
from assay.evaluations.subject import Subject
from assay.explain.groups import group_count, grouped, resolved
from assay.explain.named_groups import Groups, named_places
from assay.explain.references import Reference


@dataclass(frozen=True, kw_only=True)
class Units:
    """Features, each of one or more inputs, the same in every record."""

    kind: str
    """``column``, ``patch``, ``window``, or ``group`` where a study names them."""
    names: tuple[str, ...]
    place: Tensor
    """In the shape of a record: number of the feature to which each input belongs."""

    def summed(self, values: Tensor) -> np.ndarray:
        """Returns the attribution of each feature: the sum of those of its inputs.

        Args:
            values: (n, ...) attributions of the inputs.

        Returns:
            (n, features) float64.
        """
        place = self.place.flatten().to(values.device)
        total = torch.zeros(len(values), len(self.names), dtype=torch.float64, device=values.device)
        return total.index_add_(1, place, values.flatten(1).double()).cpu().numpy()


def units_of(dataset: Dataset, groups: Groups, reference: Reference | None = None) -> Units | None:
    """Returns the features of records that are no texts.

    Args:
        dataset: the prepared data.
        groups: greatest number of patches or windows, or groups with names.
        reference: of the explanations; it knows which columns are correlated.

    Returns:
        The features; None where the records are neither a table of columns, nor images, nor signals.
    """
    blank = torch.zeros(1, *dataset.shape)
    plain = Reference(modality=dataset.modality, background=blank, source="", columns=columns_of(dataset))
    known_groups = resolved(groups, plain if reference is None else reference)
    if known_groups is not None:
        place, names = named_places(known_groups, dataset.shape, dataset.modality, plain.columns)
        return Units(kind="group", names=names, place=place)
    if dataset.modality == "tabular" and len(dataset.shape) == 1:
        return _columns(dataset)
    known = {("image", 3): "patch", ("signal", 2): "window"}
    kind = known.get((dataset.modality, len(dataset.shape)))
    if kind is None:
        return None
    place = grouped(blank, plain, groups)[0]
    names = tuple(_place_name(place == number, kind) for number in range(group_count(place)))
    return Units(kind=kind, names=names, place=place)


def _columns(dataset: Dataset) -> Units:
    """Returns the columns of a table; the inputs of a category are one feature."""
    columns = columns_of(dataset)
    names = tuple(dict.fromkeys(columns))
    return Units(kind="column", names=names, place=torch.tensor([names.index(column) for column in columns]))


def _place_name(inside: Tensor, kind: str) -> str:
    """Returns where a patch or a window lies, from 1."""
    across = np.flatnonzero(inside.any(0).any(0).numpy() if kind == "patch" else inside.any(0).numpy()) + 1
    if kind == "window":
        return f"samples {across[0]} to {across[-1]}"
    down = np.flatnonzero(inside.any(0).any(1).numpy()) + 1
    return f"rows {down[0]} to {down[-1]}, columns {across[0]} to {across[-1]}"


def answer_name(dataset: Dataset, answer: int) -> str:
    """Returns the name of a class that a model gives.

    Args:
        dataset: with the names of its classes.
        answer: number of the class; a model may have more outputs than the data have classes.

    Returns:
        The name.
    """
    return dataset.class_names[answer] if answer < dataset.classes else f"output {answer}"


def words_of_texts(subject: Subject, rows: np.ndarray) -> list[list[str]] | None:
    """Returns the word, or piece of one, at each position of texts, without padding.

    Args:
        subject: with prepared texts.
        rows: (n,) positions of the texts.

    Returns:
        Words of each text; None where positions of the records cannot be told in words.
    """
    dataset = subject.dataset
    if dataset.tokens is not None and len(dataset.shape) == 1:
        numbers, words = np.asarray(dataset.x[rows]), dataset.tokens.words
    elif dataset.written is not None and dataset.written.shape[1:] == dataset.shape[:1]:
        numbers, words = dataset.written[rows], dataset.words
    else:
        return None
    return [[words[number] for number in text if number] for text in numbers.tolist()]
