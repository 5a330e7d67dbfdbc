"""Answers to many coalitions from a few passes: what each place adds to the first linear layer is looked up.

Behind the local layers of a network (see ``local_layers``), an entry depends on a few groups. Groups on which no entry
depends together may share a bit of a pattern: with patches of an image, 16 patterns show all that an entry can become,
whatever the number of patches. What entries add to the linear layer behind them is summed once for each combination of
their groups. A coalition then costs a few rows of these tables and the rest of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.explain.local_layers import LocalSplit, local_split

_USUAL = 6
"""Groups of a table up to which smaller ones are joined: there are fewer look-ups, and they still fit the cache."""
_MOST = 10
"""Greatest number of bits of a pattern."""
_WORTH, _FEWEST = 4, 64
"""Coalitions for each pattern, and for each record, from which tables pay."""
_WIDE = 128
"""Entries before the linear layer from which tables pay: with fewer, a product is as quick as look-ups."""
_ENTRIES = 2**16
"""Greatest number of entries behind the linear layer that are computed at once."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    groups: Tensor
    """(k,) some groups."""
    parts: tuple[tuple[Tensor, Tensor], ...]
    """Groups (j,) among them, and the entries (m,) that depend on no others."""


@dataclass(frozen=True, kw_only=True)
class CoalitionTables:
    """What a network answers when only some groups of records are present."""

    split: LocalSplit
    numbers: Tensor
    """(...) group number of each entry of a record; that of no group is the number of groups."""
    bits: Tensor
    """(groups,) bit of each group in a pattern."""
    tables: tuple[_Table, ...]

    def places(self, shown: Tensor) -> Tensor:
        """Returns the rows of the tables that coalitions need.

        Args:
            shown: (k, groups) bool, whether a group is present.

        Returns:
            (k, tables) int64.
        """
        starts, found = 0, []
        for table in self.tables:
            found.append(starts + _number(shown[:, table.groups]))
            starts += 2 ** len(table.groups)
        return torch.stack(found, dim=1)

    def logits(self, x: Tensor, absent: Tensor, places: Tensor) -> Tensor:
        """Returns the logits of one record for coalitions.

        Args:
            x: (...) the record.
            absent: (...) values of absent groups.
            places: (k, tables) from ``places``.

        Returns:
            (k, classes) logits.
        """
        rows = self._rows(x, absent)
        size = max(1, _ENTRIES // rows.shape[1])
        return torch.cat([self.split.rest(F.embedding_bag(some, rows, mode="sum")) for some in places.split(size)])

    def _rows(self, x: Tensor, absent: Tensor) -> Tensor:
        """Returns the rows of all tables, (rows, width)."""
        patterns = _combinations(int(self.bits.max()) + 1)
        always = torch.cat([patterns[:, self.bits], patterns.new_ones(len(patterns), 1)], dim=1)
        here = always[:, self.numbers].to(x)
        entries = self.split.local(here * x + (1 - here) * absent).flatten(1)
        found = []
        for table in self.tables:
            combinations = _combinations(len(table.groups))
            rows = self.split.weight.new_zeros(len(combinations), self.split.weight.shape[1])
            for groups, some in table.parts:
                own = _combinations(len(groups))
                pattern = (own << self.bits[groups]).sum(1)
                # Groups of other entries may share a bit of the pattern: they change nothing here.
                added = entries[pattern][:, some] @ self.split.weight[some]
                columns = (table.groups == groups[:, None]).int().argmax(1)
                rows += added[_number(combinations[:, columns])]
            found.append(rows)
        found[0] += self.split.bias
        return torch.cat(found)


def coalition_tables(model: nn.Module, groups: Tensor, coalitions: int) -> CoalitionTables | None:
    """Returns the tables of a network, where they are right and save time.

    Args:
        model: from records to logits, in evaluation mode.
        groups: (...) group number of each entry of a record, from 0; −1 for entries that never change.
        coalitions: number of coalitions that will be asked of each record.

    Returns:
        The tables; None where the layers do not say what their entries depend on, where that is too many groups, or
        where there are too few entries or coalitions.
    """
    # Tables are built on the processor, where they were measured.
    split = local_split(model, groups) if coalitions >= _FEWEST and groups.device.type == "cpu" else None
    if split is None or len(split.weight) < _WIDE:
        return None
    kinds, kind_of = split.depends.unique(dim=1, return_inverse=True)
    bits = _bits(kinds)
    if bits is None or coalitions < _WORTH * 2 ** (int(bits.max()) + 1):
        return None
    within = [frozenset(column.nonzero().flatten().tolist()) for column in kinds.t()]
    widest = _maximal(within)
    home = torch.tensor([next(place for place, one in enumerate(widest) if kind <= one) for kind in within])[kind_of]
    tables = []
    for joined, places in _joined(widest):
        parts = [
            (torch.tensor(sorted(widest[place]), dtype=torch.long), (home == place).nonzero().flatten())
            for place in places
        ]
        tables.append(_Table(groups=torch.tensor(sorted(joined), dtype=torch.long), parts=tuple(parts)))
    return CoalitionTables(split=split, numbers=groups.where(groups >= 0, len(bits)), bits=bits, tables=tuple(tables))


def _bits(kinds: Tensor) -> Tensor | None:
    """Returns a bit for each group so that groups on which some entry depends together differ; None without room.

    Args:
        kinds: (groups, kinds) bool, sets of groups on which an entry depends.

    Returns:
        (groups,) from 0.
    """
    together = (kinds.double() @ kinds.double().t()) > 0
    bits = torch.zeros(len(kinds), dtype=torch.long)
    for group in range(len(kinds)):
        taken = set(bits[:group][together[group, :group]].tolist())
        bits[group] = next(bit for bit in range(len(kinds)) if bit not in taken)
    return bits if int(bits.max()) < _MOST else None


def _maximal(sets: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Returns the sets that lie within no other."""
    found: list[frozenset[int]] = []
    for one in sorted(sets, key=len, reverse=True):
        if not any(one <= other for other in found):
            found.append(one)
    return found


def _joined(sets: Sequence[frozenset[int]]) -> list[tuple[frozenset[int], list[int]]]:
    """Returns unions of sets of up to ``_USUAL`` groups, each with the positions of its sets."""
    found: list[tuple[frozenset[int], list[int]]] = []
    for place, one in enumerate(sets):
        room = [(len(union | one), number) for number, (union, _) in enumerate(found) if len(union | one) <= _USUAL]
        if room:
            number = min(room)[1]
            found[number] = (found[number][0] | one, [*found[number][1], place])
        else:
            found.append((one, [place]))
    return found


def _combinations(count: int) -> Tensor:
    """Returns all combinations of groups, (2^count, count) of 0 and 1; bit g of a row's number is column g."""
    return (torch.arange(2**count)[:, None] >> torch.arange(count)) & 1


def _number(shown: Tensor) -> Tensor:
    """Returns the number of each combination, whose bit g is column g."""
    return (shown.long() << torch.arange(shown.shape[1])).sum(1)
