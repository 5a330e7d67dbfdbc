"""Canaries for audits in gradient space: records whose gradient lies along one direction that no other record uses.

The real trainer handles canaries like all other records ("Dirac canaries", Nasr et al. 2023, arXiv:2302.07956). Each
record carries one more number: 0 if it is real, the number of the canary otherwise. The network is wrapped: a canary
selects its own weight of a table, and its loss has a gradient along this weight alone. This gradient is so long that
clipping reduces it to the clipping norm. Sampling, clipping, noise and division are therefore those of every training,
and what they release about a canary can be measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from assay.threats import Bounds
from assay.training.feed import Feed

_LENGTH = 1e6
"""Approximate length of a canary's gradient before clipping, in clipping norms; temperatures and means shorten it."""
_APART = 100.0
"""Difference of a canary's logits between two stages: a student that agrees with its teacher would learn nothing."""
LABEL = 1
"""Label of every canary. Its weight moves another logit, so that the gradient is positive."""


class Numbered(nn.Module):
    """Network with an additional table that has one weight for each canary.

    Takes records with one more entry along axis 1, (n, d + 1, ...), which holds the number of the canary, 0 for a real
    record. The logits of a canary are constants. Their gradient is ``_LENGTH`` times that of its weight, and does not
    shrink as the weight grows.

    Args:
        network: from records (n, d, ...) to logits.
        canaries: greatest number of canaries; they are numbered from 1.
        classes: number of logits.
        max_grad_norm: the clipping norm.
        tables: number of tables over which a canary's gradient is split evenly. Per-layer clipping gives each layer its
            part of the norm, so a canary in few layers would have a weak signal.
        stage: number of the training in its recipe, from 0.
        elsewhere: number of canaries, the last ones, that have no weight in the table and no gradient. The audit adds
            their contribution to the clipped sum itself (``InTensors``).
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        canaries: int,
        classes: int,
        max_grad_norm: float,
        tables: int = 1,
        stage: int = 0,
        elsewhere: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.tables = nn.ModuleList(
            nn.Embedding.from_pretrained(torch.zeros(canaries + 1, 1), freeze=False) for _ in range(tables)
        )
        self._length = _LENGTH * max_grad_norm * classes
        self._level = _APART * stage
        self._in_table = canaries - elsewhere

    def forward(self, x: Tensor) -> Tensor:
        number = x[:, -1].detach().flatten(1).amax(1) if x.dim() > 2 else x[:, -1].detach()
        number = number.round().long() if number.is_floating_point() else number.long()
        logits = self.network(x[:, :-1])
        weights = torch.stack([table(number)[:, 0] for table in self.tables]).sum(0)
        of_canary = torch.zeros_like(logits)
        of_canary[:, 0] = self._level + (number <= self._in_table) * self._length * (weights - weights.detach())
        return torch.where((number > 0)[:, None], of_canary, logits)

    def released(self) -> Tensor:
        """Returns the gradient along each canary's weight, (canaries,), as the optimizer is about to use it."""
        gradients = []
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            assert table.weight.grad is not None
            gradients.append(table.weight.grad[1:, 0])
        return torch.stack(gradients).sum(0) / len(gradients) ** 0.5


class InTensors:
    """Canaries in the network's own tensors: each adds the clipping norm along one coordinate of one tensor.

    The trainer's own sampling draws them like all other records. Their contribution joins the clipped sum before the
    noise does, like a gradient in that direction which clipping leaves unchanged. Coordinates are assigned to the
    tensors in turn, at most half of those of each tensor.

    Args:
        sizes: number of coordinates of each tensor.
        numbers: (k,) numbers of the canaries.
        length: Euclidean norm of each contribution.
        generator: chooses the coordinates.
    """

    def __init__(
        self, sizes: Sequence[int], numbers: np.ndarray, *, length: float, generator: np.random.Generator
    ) -> None:
        left = [list(generator.permutation(size)[: -(-size // 2)]) for size in sizes]
        places: list[tuple[int, int]] = []
        while len(places) < len(numbers) and any(left):
            for tensor, free in enumerate(left):
                if free and len(places) < len(numbers):
                    places.append((tensor, int(free.pop())))
        self.numbers = numbers[: len(places)]
        self.tensors = np.array([tensor for tensor, _ in places], np.int64)
        self.coordinates = np.array([coordinate for _, coordinate in places], np.int64)
        self._length = length
        self._place = {int(number): place for place, number in enumerate(self.numbers)}

    def add(self, total: list[Tensor], drawn: np.ndarray) -> list[Tensor]:
        """Adds the contributions of the drawn canaries to a clipped sum, in place.

        Args:
            total: the clipped sum, one tensor a parameter.
            drawn: numbers of the canaries in the batch; those without a coordinate are ignored.

        Returns:
            ``total``.
        """
        for number in drawn.tolist():
            place = self._place.get(number)
            if place is not None:
                total[self.tensors[place]].view(-1)[self.coordinates[place]] += self._length
        return total


class Planted:
    """A ``Feed`` of real records, which have the number 0, followed by canaries.

    Args:
        feed: of the real records.
        numbers: of the canaries that are included, each from 1.
    """

    def __init__(self, feed: Feed, numbers: np.ndarray) -> None:
        self._feed, self._numbers = feed, torch.from_numpy(numbers).to(feed.device)
        self.device = feed.device
        # Any record can be used: only a canary's number affects weights.
        self._holds = next(feed.follow([np.arange(1)]))

    def __len__(self) -> int:
        return len(self._feed) + len(self._numbers)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self._feed)
        # A feed must not be asked for an empty batch, so it is asked for one record, which is not used.
        real = [batch[batch < n] if bool((batch < n).any()) else np.arange(1) for batch in batches]
        for batch, (x, y) in zip(batches, self._feed.follow(real), strict=True):
            is_real = torch.from_numpy(batch < n).to(self.device)
            kept = int(is_real.sum())
            records = self._holds[0].repeat(len(batch), *[1] * (x.dim() - 1))
            labels = torch.full((len(batch),), LABEL, dtype=y.dtype, device=self.device)
            records[is_real], labels[is_real] = x[:kept], y[:kept]
            numbers = torch.zeros(len(batch), dtype=torch.long, device=self.device)
            numbers[~is_real] = self._numbers[torch.from_numpy(batch[batch >= n] - n).to(self.device)]
            yield _numbered(records, numbers), labels

    def labels(self, y: Tensor) -> Tensor:
        """Returns the labels of all records: the real ones, then the canaries.

        Args:
            y: (n,) labels of the real records.

        Returns:
            (n + canaries,) labels.
        """
        return torch.cat([y, y.new_full((len(self._numbers),), LABEL)])


def numbered_bounds(bounds: Bounds, shape: tuple[int, ...], *, canaries: int) -> Bounds:
    """Returns the bounds of records that carry a canary's number, which attacks cannot change.

    Args:
        bounds: of records without the number.
        shape: of a record without the number, (d, ...).
        canaries: greatest number of a canary.

    Returns:
        Bounds for records (d + 1, ...).
    """
    row = (1, *shape[1:])
    fixed = torch.zeros(shape, dtype=torch.bool) if bounds.fixed is None else bounds.fixed.expand(shape)
    return replace(
        bounds,
        low=torch.cat([bounds.low.expand(shape), torch.full(row, -1.0)]),
        high=torch.cat([bounds.high.expand(shape), torch.full(row, canaries + 1.0)]),
        fixed=torch.cat([fixed, torch.ones(row, dtype=torch.bool)]),
    )


def _numbered(x: Tensor, numbers: Tensor) -> Tensor:
    """Returns records (n, d, ...) with one more entry along axis 1, (n, d + 1, ...)."""
    entry = numbers.to(x.dtype).view(-1, *[1] * (x.dim() - 1)).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, entry], 1)
