"""Curves of maps over a panel of replacements, as shares of the change, with their controls and the oracle."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.controls.base import Control, controls_of
from assay.explain.measures.curves import STEPS, Areas, areas
from assay.explain.measures.oracle import GROUPS, best_of, greedy_maps
from assay.explain.measures.replacements.base import Fill, panel, prepared

_SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Panel:
    """All replacements of some records, ready to measure maps.

    Areas are divided by the mean change of the log-odds between the records and the records without their features by
    the same replacement, so that replacements weigh alike.
    """

    records: MeasuredRecords
    steps: int = STEPS
    draws: int = 20
    """Draws of a random control; they are dealt to the replacements in turn, at least one to each."""
    groups: int = GROUPS
    """Greatest number of groups of the oracle's search."""
    _of_records: dict[str, Tensor] = field(default_factory=dict, compare=False)
    """Scores of controls that do not depend on the map, by name."""

    @cached_property
    def fills(self) -> dict[str, Fill]:
        """The function of each replacement, by its name."""
        return {one.name: prepared(self.records, one) for one in panel(self.records.reference.modality)}

    @cached_property
    def controls(self) -> tuple[Control, ...]:
        """The controls of these records."""
        few = len(self.records.x) < 2
        found = controls_of(self.records.reference.modality)
        return tuple(one for one in found if not (few and one.name in {"other_record", "global_ranking"}))

    def measured(self, values: Tensor, names: Sequence[str] | None = None) -> dict[str, Areas]:
        """Returns the areas of a map by each replacement, as shares of the change.

        Args:
            values: (n, ...) by feature.
            names: of the replacements; all by default.

        Returns:
            Areas by the name of the replacement; ``deletion`` and ``insertion`` count from the record without features.
        """
        found = {}
        for name, area in self.raw(values, names).items():
            scale = max(float(area.change.double().mean()), _SMALLEST)
            found[name] = Areas(
                deletion=(area.deletion - area.without) / scale,
                insertion=(area.insertion - area.without) / scale,
                whole=(area.whole - area.without) / scale,
                without=torch.zeros_like(area.without),
            )
        return found

    def raw(self, values: Tensor, names: Sequence[str] | None = None) -> dict[str, Areas]:
        """Returns the areas of a map by each replacement, in log-odds.

        Args:
            values: (n, ...) by feature.
            names: of the replacements; all by default.

        Returns:
            Areas by the name of the replacement.
        """
        chosen = self.fills if names is None else names
        return {name: areas(self.records, values, self.fills[name], steps=self.steps) for name in chosen}

    def between(self, values: Tensor) -> Tensor:
        """Returns the area between the curves, the mean over the panel.

        Args:
            values: (n, ...) by feature.

        Returns:
            (n,) shares of the change.
        """
        return mean_between(self.measured(values))

    def of_control(self, control: Control, values: Tensor) -> Tensor:
        """Returns the mean area between the curves of a control over its draws.

        Args:
            control: one of ``controls``.
            values: (n, ...) by feature, the map that is compared.

        Returns:
            (n,) shares of the change.
        """
        if not control.of_the_map and control.name in self._of_records:
            return self._of_records[control.name]
        names = list(self.fills)
        if not control.random:
            found = self.between(control.draw(self.records, values, 0))
        else:
            sums = {name: torch.zeros_like(self.records.whole) for name in names}
            draws = max(self.draws, len(names))
            for number in range(draws):
                name = names[number % len(names)]
                drawn = control.draw(self.records, values, number)
                sums[name] += self.measured(drawn, [name])[name].between
            counts = [len(range(place, draws, len(names))) for place in range(len(names))]
            means = [total / count for total, count in zip(sums.values(), counts, strict=True)]
            found = torch.stack(means).mean(0)
        if not control.of_the_map:
            self._of_records[control.name] = found
        return found

    def searched(self) -> Tensor:
        """Returns the greatest area that greedy searches find for each record: what an oracle has at least.

        The oracle of a map is this, or the map's own area where that is greater; other maps do not matter to it.

        Returns:
            (n,) shares of the change, the mean over the panel.
        """
        best = []
        for name, fill in self.fills.items():
            tried = greedy_maps(self.records, fill, most=self.groups)
            best.append(best_of([self.measured(one, [name])[name].between for one in tried]))
        return torch.stack(best).mean(0)


def mean_between(found: dict[str, Areas]) -> Tensor:
    """Returns the area between the curves, the mean over replacements.

    Args:
        found: areas by replacement.

    Returns:
        (n,) areas.
    """
    return torch.stack([area.between for area in found.values()]).mean(0)
