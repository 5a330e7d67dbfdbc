"""What an explanation compares a record with: a baseline, background records, and which features are there."""

from dataclasses import dataclass

import torch
from torch import Tensor

from assay.data.base import Modality

_BLANK = 1e-6
"""Share of a word's vector that is left in the baseline: not 0, which would be padding."""
_ENTRIES_OF_A_FEATURE = {"text": -1, "image": 1}
"""The axis whose entries make up one feature: the numbers of a word's vector, the channels of a pixel."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Reference of explanations. Evaluations and the served model each build their own.

    The background of texts may have another shape than the records.
    """

    modality: Modality
    background: Tensor
    """(m, ...) records that stand for the population; a single neutral record where none may be used."""
    source: str
    """Where the background comes from, for readers."""
    middle: Tensor | None = None
    """(1, ...) baseline; the mean of the background by default."""
    spread: Tensor | None = None
    """(1, ...) range of each entry over the population; that of the background by default."""
    columns: tuple[str, ...] = ()
    """Of a table, the column of each input; the inputs of a category share one."""
    correlated: tuple[tuple[str, ...], ...] | None = None
    """Of a table, its columns in groups that go together in the population; None where that is unknown."""

    @property
    def one_baseline(self) -> bool:
        """Whether all records have the same baseline."""
        return self.modality != "text"

    def baseline(self, x: Tensor) -> Tensor:
        """Returns the neutral input of each record: the mean of the population; in text, words without a meaning.

        In text it is nearly 0 for words and exactly 0 for padding: at 0 a network would skip the word, and the path
        from the baseline to the record would begin with a jump.

        Args:
            x: (n, ...) records.

        Returns:
            (n, ...) baselines.
        """
        if self.modality == "text":
            return _BLANK * x
        middle = self.background.mean(0, keepdim=True) if self.middle is None else self.middle
        return middle.to(x).expand_as(x)

    def columns_of(self, shape: tuple[int, ...]) -> tuple[str, ...]:
        """Returns the column of each input of a table, by number where they have no names.

        Args:
            shape: of a record.

        Returns:
            The names; empty for other records.
        """
        if self.columns or self.modality != "tabular" or len(shape) != 1:
            return self.columns
        return tuple(f"feature {number}" for number in range(shape[0]))

    def range_of(self, x: Tensor) -> Tensor:
        """Returns the range of each entry, or of all entries of the record where nothing else is known.

        Args:
            x: (n, ...) records.

        Returns:
            Ranges, which broadcast to the records.
        """
        if self.spread is not None:
            return self.spread.to(x)
        if len(self.background) > 1:
            return (self.background.amax(0, keepdim=True) - self.background.amin(0, keepdim=True)).to(x)
        present = self.present(x)
        if present is not None:  # of a text, its words: padding has no part in it
            most = x.masked_fill(~present, -torch.inf).flatten(1).amax(1)
            least = x.masked_fill(~present, torch.inf).flatten(1).amin(1)
            return (most - least).clamp_min(0).nan_to_num(nan=0.0).view(-1, *[1] * (x.dim() - 1))
        flat = x.flatten(1)
        return (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (x.dim() - 1))

    def present(self, x: Tensor) -> Tensor | None:
        """Returns which features are there, in the shape of ``by_feature``: in text, words and no padding.

        Args:
            x: (n, ...) records.

        Returns:
            (n, ...) bool; None where all are.
        """
        return (x != 0).any(-1, keepdim=True) if self.modality == "text" else None

    def by_feature(self, values: Tensor) -> Tensor:
        """Returns one value for each feature, the sum of its entries; it broadcasts to the records.

        Args:
            values: (n, ...) of each entry.

        Returns:
            (n, ...) of each feature.
        """
        axis = _ENTRIES_OF_A_FEATURE.get(self.modality)
        return values if axis is None else values.sum(axis, keepdim=True)
