"""How much of what a method asks a model lies off the data (Slack et al. 2020, arXiv:1911.02508).

Methods that take groups of features away ask the model for records that nobody has. A model can be built that decides
by one feature on records like those of the data and by another elsewhere: occlusion, LIME and Shapley values then show
the second. A high share is no proof of that, but such a map rests on answers that nothing has tested.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.explain.base import Explainer, ExplanationError
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.replacements.base import prepared
from assay.explain.measures.replacements.donor import Conditional, Marginal
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.explain.untouched import untouched
from assay.models.batches import respond
from assay.models.recurrent import differentiable

Detector = Callable[[Tensor], Tensor]
"""From records (n, ...) to whether each is unlike the data, (n,) bool."""
_RECORDS_AN_ENTRY = 4
"""Background records an entry from which correlations are estimated."""
_SHRINKAGE = 0.02
"""Share of the correlations that is that of independent entries."""


def nearest_neighbour(background: Tensor, *, share: float = 0.95) -> Detector:
    """Returns a detector of records that are further from the background than its records are from each other.

    Each entry is divided by its standard deviation in the background, or by the mean of these where it does not vary.
    Where there are at least four records an entry, distances are those of Mahalanobis, with shrunk correlations: two
    entries that are nearly copies of each other differ much if they differ by a little. Otherwise they are Euclidean.
    The limit is a quantile of the distances of background records to the nearest other.

    Args:
        background: (m, ...) records like those of the data, other than those that are explained.
        share: of the background records that are like the data.

    Returns:
        The detector.

    Raises:
        ValueError: fewer than 20 background records, which have no such quantile.
    """
    if len(background) < 20:
        raise ValueError(
            f"{len(background)} background records do not tell what is unlike them: give 20 or more, better 200"
        )
    flat = background.flatten(1).double()
    deviation = flat.std(0)
    usual = deviation[deviation > 0].mean() if bool((deviation > 0).any()) else deviation.new_ones(())
    scale = torch.where(deviation > 0, deviation, usual)
    change = torch.diag(1 / scale)
    if len(flat) >= _RECORDS_AN_ENTRY * flat.shape[1]:
        standard = (flat - flat.mean(0)) / scale
        correlation = (1 - _SHRINKAGE) * standard.T @ standard / len(flat)
        correlation += _SHRINKAGE * torch.eye(len(correlation)).to(correlation)
        change = change @ torch.linalg.cholesky(torch.linalg.inv(correlation))
    known = flat @ change
    between = torch.cdist(known, known)
    between.fill_diagonal_(torch.inf)
    limit = between.amin(1).quantile(share)

    def unlike(records: Tensor) -> Tensor:
        return torch.cdist(records.flatten(1).to(known) @ change, known).amin(1) > limit

    return unlike


def share_off_data(  # noqa: PLR0917
    explainer: Explainer,
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    reference: Reference,
    detector: Detector,
    *,
    seed: int = 0,
) -> Tensor:
    """Returns the share of the records that a method makes up which a detector calls unlike the data.

    The model is watched while the method explains, one record after the other, so this holds for every method. Records
    that are asked as they are do not count.

    Args:
        explainer: the method, such as ``kernel_shap``, ``lime``, ``occlusion`` or ``exact_shapley``.
        model: from records to logits.
        x: (n, ...) records.
        target: (n,) class that is explained.
        reference: what records are compared with.
        detector: of records unlike the data.
        seed: of random numbers, as for ``Explainer.explain``.

    Returns:
        (n,) shares, float64; 0 where the method makes up no record.

    Raises:
        ExplanationError: the method does not support the network, or the records are texts.
    """
    if reference.modality == "text":
        raise ExplanationError("records of text have no distance from each other: give records of one length")
    found = torch.zeros(len(x), dtype=torch.float64)
    with untouched(model), differentiable(model):
        for row in range(len(x)):
            watched = _Watched(model, x[row], detector)
            draw: np.random.Generator = seeds.stream(seed, "explain", explainer.name)
            explainer.attribute(watched, x[row : row + 1], target[row : row + 1], reference, draw)
            found[row] = watched.unlike / max(watched.asked, 1)
    return found


@torch.no_grad()
def effects_on_data(records: MeasuredRecords) -> Tensor:
    """Returns how much each column of a table moves the answer on records like the data.

    A column is drawn anew given all others (``Conditional``), so the record stays like the data. The change of the
    answer by a unit of the column is multiplied by the usual distance of two records in it, so that a column which the
    others nearly determine does not count less.

    Args:
        records: of a table, with the model and a pool.

    Returns:
        (columns,) mean changes of the log-odds, float64.
    """
    given, apart = prepared(records, Conditional()), prepared(records, Marginal())
    rows = torch.arange(len(records.x), device=records.x.device)
    x, found = records.x.flatten(1).double(), []
    for column in range(x.shape[1]):
        removed = torch.zeros_like(records.features).flatten(1)
        removed[:, column] = True
        removed = removed.view_as(records.features)
        near, far = (fill(rows, removed) for fill in (given, apart))
        moved = (records.whole - log_odds(respond(records.model, near), records.target)).abs().double().mean()
        own, usual = ((x - other.flatten(1))[:, column].abs().mean() for other in (near, far))
        found.append(moved / own.clamp_min(1e-12) * usual)
    return torch.stack(found)


class _Watched(nn.Module):
    """A model that counts the records that it is asked, other than one.

    Args:
        model: that answers.
        record: that is explained.
        detector: of records unlike the data.
    """

    def __init__(self, model: nn.Module, record: Tensor, detector: Detector) -> None:
        super().__init__()
        self.model, self.asked, self.unlike = model, 0, 0
        self._record, self._detector = record, detector

    def forward(self, x: Tensor) -> Tensor:
        made_up = x.detach()[(x != self._record).flatten(1).any(1)]
        if len(made_up):
            self.asked += len(made_up)
            self.unlike += int(self._detector(made_up).sum())
        out: Tensor = self.model(x)
        return out
