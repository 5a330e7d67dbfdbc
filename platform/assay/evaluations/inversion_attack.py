"""The attack on all updates of one case, and its figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay import intervals, seeds
from assay.evaluations.inversion_cases import Attacked, Case, labels_of, network_of
from assay.evaluations.inversion_pictures import encoded, may_be_shown
from assay.evaluations.inversion_scores import Found, Lineup, identified_by_gradient, score
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.federated.inversion.analytic import FirstLayer, first_layer, invert_first_layer
from assay.federated.inversion.labels import infer_labels
from assay.federated.inversion.matching import GradientMatching
from assay.results import Flag, Measurement

Labels = Literal["known", "inferred"]
MOST_PICTURES = 6
"""Records of a data set that are shown."""
_SEVERAL = "all records of one update are attacked together: they are not independent"


@dataclass(frozen=True, kw_only=True)
class CaseAttack:
    """The attack on all updates of one case, and its figures."""

    subject: Subject
    case: Case
    updates: Sequence[Attacked]
    each: Sequence[tuple[Attacked, int]]
    """Every victim with the update in which it is."""
    lineups: Sequence[Lineup]
    """The candidates of each victim."""
    search: GradientMatching
    """For networks whose first layer cannot be inverted."""
    labels: Sequence[Labels]
    searched_records: int
    """Records that are searched in a round."""
    pictures: bool

    @cached_property
    def network(self) -> nn.Module:
        """The network with the weights that the server sent."""
        return network_of(self.subject, self.case.weights)

    @cached_property
    def layer(self) -> FirstLayer | None:
        """The first layer, where it can be inverted."""
        return first_layer(self.network)

    @cached_property
    def of_update(self) -> np.ndarray:
        """(v,) number of the update in which each victim is."""
        place = {id(one): number for number, one in enumerate(self.updates)}
        return np.array([place[id(update)] for update, _ in self.each])

    @cached_property
    def clusters(self) -> np.ndarray | None:
        """(v,) victims that count together: those of one round, or else of one patient."""
        if self.case.update == "round":
            return self.of_update
        return self.subject.patients(np.array([victim for _, victim in self.each]))

    @cached_property
    def about(self) -> dict[str, Any]:
        """Conditions of all figures."""
        sizes = np.array([len(line.others) + 1 for line in self.lineups])
        return {
            **self.case.conditions,
            "records": self.case.batch or max(len(one.rows) for one in self.updates),
            "steps": max(one.update.steps for one in self.updates),
            "candidates": int(sizes.max()),
            "chance": float((1 / sizes).mean()),
            "clients": len({one.client for one in self.updates}),
        }

    def findings(self) -> Iterator[Measurement]:
        """Yields the figures of the case."""
        subject, rows = self.subject, np.array([victim for _, victim in self.each])
        gradient = identified_by_gradient(subject, self.network, [one for one, _ in self.each], self.lineups)
        by_candidates = share("inversion_by_candidates", gradient, self.clusters, **self.about)
        yield by_candidates
        mean = torch.from_numpy(subject.dataset.x[subject.split.train].astype(np.float64).mean(0))[None].float()
        middle = score(subject, [mean] * len(rows), self.lineups)
        yield share("inversion_mean_record", middle.identified, self.clusters, **self.about)
        for labels, guesses in self._reconstructions(mean):
            if labels == "inferred" and self.case.batch == 1:
                yield self._labels_inferred()
            found = score(subject, [guesses[place] for place in self.of_update], self.lineups)
            about = {**self.about, "attack": "first layer" if self.layer else "gradient matching", "labels": labels}
            yield self._identified(found, by_candidates, about)
            yield from self._quality(found, about)

    def _identified(self, found: Found, by_candidates: Measurement, about: dict[str, Any]) -> Measurement:
        row = share("inversion_identified", found.identified, self.clusters, **about)
        if self.case.update == "round":
            row = row.warn(_SEVERAL)
        if by_candidates.value > row.high:
            message = (
                f"the server reconstructs {row.value:.0%} of the records, and identifies {by_candidates.value:.0%} by "
                "their gradients alone: that a reconstruction fails is no protection"
            )
            row = row.flag(Flag(verdict="warn", message=message, rule="identified_without_reconstruction"))
        return row

    def _quality(self, found: Found, about: dict[str, Any]) -> Iterator[Measurement]:
        dataset, case = self.subject.dataset, self.case
        unit = "standard deviations" if dataset.modality == "tabular" else "ranges"
        yield self._mean("inversion_error", found.error, unit, about)
        if dataset.modality == "image":
            yield self._mean("inversion_psnr", found.psnr, "dB", about)
        first = about["labels"] == self.labels[0] or self.layer is not None
        if first and self.pictures and case.update == "step" and case.batch == 1 and may_be_shown(dataset):
            shown = [victim for _, victim in self.each][:MOST_PICTURES]
            pictures = {
                "originals": encoded(dataset, [dataset.x[row] for row in shown]),
                "reconstructions": encoded(dataset, found.nearest[: len(shown)]),
            }
            n = len(shown)
            yield Measurement(name="inversion_pictures", value=n, n=n, unit="records", conditions={**about, **pictures})

    def _mean(self, name: str, values: np.ndarray, unit: str, about: dict[str, Any]) -> Measurement:
        generator = seeds.stream(self.subject.seed, "inversion", "bootstrap")
        interval = intervals.bootstrap(
            lambda rows: float(values[rows].mean()), len(values), generator=generator, groups=self.clusters
        )
        return estimated(name, interval, n=len(values), unit=unit, conditions=about)

    def _labels_inferred(self) -> Measurement:
        y = self.subject.dataset.y
        right = [int(self._inferred(one)[0]) == y[victim] for one, victim in self.each]
        return share("inversion_labels", np.array(right), self.clusters, **self.about)

    def _inferred(self, attacked: Attacked) -> Tensor:
        most = min(attacked.update.records, self._searched(attacked))
        return infer_labels(self.network, attacked.update, classes=self.subject.dataset.classes, records=most)

    def _searched(self, attacked: Attacked) -> int:
        few = self.searched_records if self.case.update == "round" else len(attacked.rows)
        return min(few, len(attacked.rows))

    def _reconstructions(self, mean: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
        """Yields how labels were known, and (r, *shape) reconstructions of each update."""
        subject = self.subject
        if self.layer is not None:
            shape, bounds = subject.dataset.shape, subject.bounds
            found = [invert_first_layer(self.layer, one.update, shape=shape, bounds=bounds) for one in self.updates]
            # Where no unit has a gradient, the server is left with the mean record.
            yield "inferred" if self.case.batch == 1 else "unused", [one if len(one) else mean for one in found]
            return
        known = [labels_of(subject, one.rows, self._searched(one)) for one in self.updates]
        searched: list[Tensor] = []
        for labels in self.labels:
            y = known if labels == "known" else [self._inferred(one) for one in self.updates]
            if not searched or any(not torch.equal(a, b) for a, b in zip(y, searched, strict=True)):
                found, searched = self._search(y), y
            yield labels, found

    def _search(self, labels: Sequence[Tensor]) -> list[Tensor]:
        """Returns the reconstructions of each update; those with as many records are searched together."""
        subject = self.subject
        found: dict[int, Tensor] = {}
        for size in sorted({len(one) for one in labels}):
            places = [place for place, one in enumerate(labels) if len(one) == size]
            records = self.search.reconstruct(
                self.network,
                [self.updates[place].update for place in places],
                torch.stack([labels[place] for place in places]),
                shape=subject.dataset.shape,
                bounds=subject.bounds,
                generator=seeds.stream(subject.seed, "inversion", "first guesses"),
                task=subject.task,
            )
            found |= dict(zip(places, records, strict=True))
        return [found[place] for place in range(len(labels))]
