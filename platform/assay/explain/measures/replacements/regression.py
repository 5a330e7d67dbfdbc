"""Linear regression of records on some of their features, for many sets of features at once.

Curves of deletion and a greedy search ask for sets of one record that differ by little, so that one factorisation of
its correlations serves all of them; see ``Regression``.
"""

import torch
from torch import Tensor

_ENTRIES = 2**24
"""Entries of the matrices that are solved at once."""


class Regression:
    """Weights w of the kept features K: C_KK w_K = b_K, and 0 elsewhere.

    Args:
        correlations: (d, d) C, positive definite, with ones on its diagonal.
    """

    def __init__(self, correlations: Tensor) -> None:
        self._correlations = correlations

    def weights(self, record: Tensor, kept: Tensor, values: Tensor) -> Tensor:
        """Solves for each set.

        Where the sets of each record are nested, as the states of a curve are, one Cholesky factor of its correlations,
        with the features in the order in which they are kept longest, holds those of all sets in its corner. Where each
        has one feature less, or one more, than a set that they share, as the candidates of a step of a search have, its
        inverse is corrected for that feature. Other sets are solved one by one.

        Args:
            record: (m,) number of the record of each set, from 0 to n − 1; all sets of a record are of one call.
            kept: (m, d) its features, bool.
            values: (n, d) b of each record.

        Returns:
            (m, d) weights.
        """
        found = values.new_zeros(kept.shape)
        most = max(1, _ENTRIES // self._correlations.numel())
        for first in range(0, len(values), most):
            here = (record >= first) & (record < first + most)
            if bool(here.any()):
                found[here] = self._weights(record[here] - first, kept[here], values[first : first + most], most)
        return found

    def _weights(self, record: Tensor, kept: Tensor, values: Tensor, most: int) -> Tensor:
        for way in (self._nested, self._one_less, self._one_more):
            found = way(record, kept, values)
            if found is not None:
                return found
        parts = zip(kept.split(most), record.split(most), strict=True)
        return torch.cat([self._one_by_one(some, values[rows]) for some, rows in parts])

    def _one_by_one(self, kept: Tensor, values: Tensor) -> Tensor:
        """Solves each set by a Cholesky factor of its own."""
        factor = torch.linalg.cholesky(self._among(kept))
        return torch.cholesky_solve((kept * values).unsqueeze(-1), factor).squeeze(-1)

    def _among(self, kept: Tensor) -> Tensor:
        """Returns (m, d, d) correlations of the kept features; rows and columns of the others are the identity's."""
        kept = kept.to(self._correlations)
        inner = self._correlations * kept[:, :, None] * kept[:, None]
        inner.diagonal(dim1=1, dim2=2).fill_(1.0)
        return inner

    def _nested(self, record: Tensor, kept: Tensor, values: Tensor) -> Tensor | None:
        """Solves nested sets; returns None where those of a record are not nested.

        With C = L Lᵀ, the features in the order in which they are kept longest, and L y = b, the first k features have
        w = L_k⁻ᵀ y_k, with the first k rows and columns of L and the first k entries of y.
        """
        counts = torch.zeros_like(values).index_add_(0, record, kept.to(values))
        order = counts.argsort(dim=1, descending=True)
        corner = kept.gather(1, order[record])
        if not bool((corner[:, :-1] >= corner[:, 1:]).all()):
            return None
        factor = torch.linalg.cholesky(self._correlations[order[:, :, None], order[:, None]])
        forward = torch.linalg.solve_triangular(factor, values.gather(1, order).unsqueeze(-1), upper=False).squeeze(-1)
        place = _place_in_record(record)
        right = values.new_zeros(len(values), int(torch.bincount(record).max()), values.shape[1])
        right[record, place] = forward[record] * corner
        solved = torch.linalg.solve_triangular(factor.mT, right.mT, upper=True).mT
        return torch.zeros_like(right[record, place]).scatter_(1, order[record], solved[record, place])

    def _one_less(self, record: Tensor, kept: Tensor, values: Tensor) -> Tensor | None:
        """Solves sets that lack at most one feature j of their union; returns None where they are others.

        With G the inverse of the union's correlations and w its weights, w − G_:j w_j / G_jj are those without j.
        """
        shared = torch.zeros_like(values).index_add_(0, record, kept.to(values)) > 0
        without = shared[record] & ~kept
        if not bool((without.sum(1) <= 1).all()):
            return None
        inverse, weights = self._inverse(shared, values)
        gone = _feature(without)
        column = inverse[record, gone]
        factor = weights[record].gather(1, gone[:, None]) / column.gather(1, gone[:, None])
        factor = torch.where(without.any(1, keepdim=True), factor, 0)  # not a product: 0 / 0 is no number
        return (weights[record] - column * factor) * kept

    def _one_more(self, record: Tensor, kept: Tensor, values: Tensor) -> Tensor | None:
        """Solves sets that have at most one feature j beside those they share, K; returns None where they are others.

        With G the inverse of C_KK and w its weights, w_j = (b_j − C_jK w) / (1 − C_jK G C_Kj), K has w − G C_Kj w_j.
        """
        count = torch.bincount(record, minlength=len(values)).to(values)[:, None]
        shared = (torch.zeros_like(values).index_add_(0, record, kept.to(values)) == count) & (count > 0)
        added = kept & ~shared[record]
        if not bool((added.sum(1) <= 1).all()):
            return None
        inverse, weights = self._inverse(shared, values)
        new = _feature(added)
        with_all = shared.to(values)[:, :, None] * self._correlations
        solved, with_new = (inverse @ with_all)[record, :, new], with_all[record, :, new]
        schur = 1 - (with_new * solved).sum(1, keepdim=True)
        weight = (values[record].gather(1, new[:, None]) - (with_new * weights[record]).sum(1, keepdim=True)) / schur
        weight = torch.where(added.any(1, keepdim=True), weight, 0)
        return (weights[record] - solved * weight) * shared[record] + weight * added

    def _inverse(self, shared: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (n, d, d) inverses for the features that the sets of each record share, and (n, d) their weights."""
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(self._among(shared)))
        return inverse, (inverse @ (shared * values).unsqueeze(-1)).squeeze(-1) * shared


def _feature(only: Tensor) -> Tensor:
    """Returns (m,) the place of the one feature of each set; 0 where it has none."""
    return (only * torch.arange(only.shape[1], device=only.device)).sum(1)


def _place_in_record(record: Tensor) -> Tensor:
    """Returns (m,) how many earlier sets are of the same record."""
    order = record.argsort(stable=True)
    counts = torch.bincount(record)
    starts = counts.cumsum(0) - counts
    return torch.empty_like(record).scatter_(
        0, order, torch.arange(len(record), device=record.device) - starts[record[order]]
    )
