"""Canaries of an audit in gradient space: records whose gradient lies in one direction that is theirs alone.

The real trainer sees them as it sees any record. The network is put behind a switch: a record carries one more number,
0 where it is real; a canary's selects its own weight of a table, and its loss has a gradient there and nowhere else, so
long that clipping cuts it to the clipping norm ("Dirac canaries", Nasr et al. 2023, arXiv:2302.07956). So sampling,
clipping, noise and division are those of every training, and what they release of a canary can be read off.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from assay.threats import Bounds
from assay.training.feed import Feed

_LENGTH = 1e6
"""Length of a canary's gradient before clipping, in clipping norms, about: temperatures and means make it shorter."""
_APART = 100.0
"""How far the logits of a canary lie apart in two stages: a student that agrees with its teacher learns nothing."""
LABEL = 1
"""Label of every canary: not that of the logit which its weight moves, so that the gradient is positive."""


class Numbered(nn.Module):
    """The network, and beside it a table with one weight a canary.

    Takes records with one more entry along axis 1, (n, d + 1, ...), which holds the number of the canary, 0 for a real
    record. The logits of a canary are constants, but their gradient is that of ``_LENGTH`` times its weight: it
    does not fade as the weight grows.

    Args:
        network: from records (n, d, ...) to logits.
        canaries: how many there may be; numbered from 1.
        classes: number of logits.
        max_grad_norm: the clipping norm.
        tables: among which a canary's gradient is shared out evenly. Clipping by layer gives each layer its part of the
            norm, and a canary that moves few layers would show little.
        stage: number of the training in its recipe, from 0.
        elsewhere: how many of the canaries, the last ones, have no weight in the table and no gradient: what they add
            is given to the clipped sum by whoever audits (``InTensors``).
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
        own = torch.stack([table(number)[:, 0] for table in self.tables]).sum(0)
        of_canary = torch.zeros_like(logits)
        of_canary[:, 0] = self._level + (number <= self._in_table) * self._length * (own - own.detach())
        return torch.where((number > 0)[:, None], of_canary, logits)

    def released(self) -> Tensor:
        """(canaries,) the gradient that the optimizer is about to descend, along each canary's weight of the table."""
        found = []
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            assert table.weight.grad is not None
            found.append(table.weight.grad[1:, 0])
        return torch.stack(found).sum(0) / len(found) ** 0.5


class InTensors:
    """Canaries that live in the network's own tensors: each adds the clipping norm along one coordinate of one tensor.

    They are records as all others, drawn by the trainer's own sampling; what they add joins the clipped sum before the
    noise does, as a gradient in that direction would that clipping leaves whole. Tensors take turns, so that each has
    some, and at most half of its coordinates.

    Args:
        sizes: numbers of coordinates of the tensors.
        numbers: (k,) of the canaries.
        length: of what each adds.
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
        """What the canaries among the drawn numbers add to a clipped sum, in place."""
        for number in drawn.tolist():
            place = self._place.get(number)
            if place is not None:
                total[self.tensors[place]].view(-1)[self.coordinates[place]] += self._length
        return total


class Planted:
    """A ``Feed`` of real records, numbered 0, and behind them canaries.

    Args:
        feed: of the real records.
        numbers: of the canaries that are in, each from 1.
    """

    def __init__(self, feed: Feed, numbers: np.ndarray) -> None:
        self._feed, self._numbers = feed, torch.from_numpy(numbers).to(feed.device)
        self.device = feed.device
        # Any record will do: what a canary holds beside its number reaches no weight.
        self._holds = next(feed.follow([np.arange(1)]))

    def __len__(self) -> int:
        return len(self._feed) + len(self._numbers)

    def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        n = len(self._feed)
        # A feed is asked for no empty batch, so it is asked for one record that nobody takes.
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
        """Labels of all records, from those of the real ones."""
        return torch.cat([y, y.new_full((len(self._numbers),), LABEL)])


def numbered_bounds(bounds: Bounds, shape: tuple[int, ...], *, canaries: int) -> Bounds:
    """What a valid record is with its number, which nobody can change.

    Args:
        bounds: of records without.
        shape: of a record without.
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
    """Records (n, d, ...) with one more entry along axis 1, (n, d + 1, ...)."""
    entry = numbers.to(x.dtype).view(-1, *[1] * (x.dim() - 1)).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, entry], 1)
