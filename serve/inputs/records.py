"""Records as a model takes them, with what the answer has to say about each."""

from dataclasses import dataclass

from torch import Tensor

from serve.inputs.placement import Placement


@dataclass(frozen=True, kw_only=True)
class Records:
    """Records of one request."""

    x: Tensor
    """(n, ...) float32, or word numbers for texts: what the model takes."""
    words: list[list[str]] | None = None
    """Words of each text; None for other records."""
    warnings: tuple[tuple[str, ...], ...] = ()
    """Warnings about each record: values outside the training range, filled missing values, doubts about an image.
    Empty if there are none."""
    outside: tuple[bool, ...] = ()
    """Whether each record lies outside the range of the training records. Certificates and conformal sets are void
    there. Empty if none does."""
    doubtful: tuple[bool, ...] = ()
    """Whether the grey values of each image may be scaled otherwise than those of the training records; conformal sets
    are void there. Empty if none is in doubt."""
    abstain: tuple[str, ...] = ()
    """Reason why no decision should be given on each record, by ``ranges.AbstentionRule``; an empty text where one may
    be given. Empty if there is no reason."""
    sites: tuple[str, ...] = ()
    """Hospital of each record by ``intended_use.site_of``, empty where nothing names it. Empty if none is named."""
    placements: tuple[Placement | None, ...] = ()
    """For images: how pixels of the source were mapped to those of the record, so that an overlay returns to them."""

    def __len__(self) -> int:
        return len(self.x)
