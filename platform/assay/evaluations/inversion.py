"""What the update of a federated client tells the server: inversion of gradients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import intervals, progress, seeds
from assay.errors import TrainingError, UserError
from assay.evaluations.base import Evaluation, Subject, estimated, share
from assay.evaluations.inversion_cases import (
    Attacked,
    Case,
    Victims,
    WeightsAre,
    cases_of,
    labels_of,
    network_of,
    updates_of,
)
from assay.evaluations.inversion_pictures import encoded, may_be_shown
from assay.evaluations.inversion_scores import Found, Lineup, identified_by_gradient, lineup, pool_of, score
from assay.federated.inversion.analytic import first_layer, invert_first_layer
from assay.federated.inversion.labels import infer_labels
from assay.federated.inversion.matching import GradientMatching
from assay.metrics import Chosen, Metric, ScorecardColumn
from assay.registry import register
from assay.results import Check, Finding, Flag, Measurement, ReasonCode, not_applicable
from assay.tasks.classification import Classification

_MUST = 0.95
"""Share that the exact attack must identify on one record without privacy."""
_PICTURES = 6
"""Most records of a data set that are shown."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many records are looked for, and how hard."""

    victims: int
    """Records, where inversion is exact and costs nothing."""
    searched: int
    """Records, where gradients are matched."""
    iterations: int
    restarts: int
    clients: int


EFFORTS: Mapping[str, Effort] = {
    "quick": Effort(victims=40, searched=6, iterations=100, restarts=1, clients=2),
    "thorough": Effort(victims=200, searched=40, iterations=1_000, restarts=3, clients=5),
}
"""The presets of ``effort``."""


@register("evaluation")
class Inversion(Evaluation):
    """Share of training records that an honest-but-curious server identifies from the update of one client.

    The server knows the network, the weights that it sent, the number of records behind an update, and the update, which
    the client's own trainer computes (``evaluations.inversion_cases``): the gradient of one step, the worst case of
    gradient sharing, or the weight change of the client's first round, divided by the sum of its learning rates. It
    does not simulate local steps, and does not know the masks of dropout. Weights are fresh or those of the final
    model.

    **Attacks.** Where the first layer is fully connected with a bias, the quotient of its gradients is the record (Phong
    et al. 2018): exact for one record, mixtures for several. Any other network is attacked by matching gradients
    (Geiping et al. 2020), with labels known or inferred from the last layer (Zhao et al. 2020). Where all labels are
    inferred right, known ones change nothing, and the search runs once.

    **Identification.** A victim stands among ``candidates`` records of its class, none of which is behind the update.
    It is identified if it is nearer to a reconstruction than all others. An attacker who knows nothing, or the class
    alone, finds it with probability ``chance``, as does the mean of the training records
    (``inversion_mean_record``). Victims, candidates and their distances are the same for every recipe.
    ``inversion_by_candidates`` compares the update with the gradient of each candidate. This attacker needs no
    reconstruction; where he finds more, a failed reconstruction is no protection.

    **Privacy.** For a private recipe the server sees clipped, noised gradients; the same update without privacy stands
    beside it. For others ``epsilons`` are hypothetical: the recipe's own training at that ε.

    It is asked of recipes with ``federation``; with ``as_if_federated`` of any, as if one client held all training
    records and sent every step's gradient, or the change of an epoch. Batch norm, recurrent layers and text are
    ``not_applicable``: gradients through batch statistics in training mode are not those that this attack matches, and
    an attack in evaluation mode would be on a setting that no client has.
    """

    looks_at = "probabilities"
    name: Literal["inversion"] = "inversion"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="inversion_identified",
            title="Identified from an update",
            meaning="Share of training records that the server identifies among others of their class by what it "
            "reconstructs from a client's update; an attacker who knows nothing identifies the share chance.",
            better="lower",
            columns=(
                ScorecardColumn(
                    key="inversion",
                    group="privacy",
                    place=50,
                    title="Identified from a gradient",
                    meaning="Share of training records that the server identifies by what it reconstructs from the "
                    "gradient of one record at fresh weights: the worst case of gradient sharing.",
                    where={
                        "actual": True,
                        "update": "step",
                        "weights": "fresh",
                        "compression": "none",
                        "records": Chosen(preferred=1),
                        "labels": Chosen(preferred="inferred"),
                    },
                    optional=True,
                ),
            ),
        ),
        Metric(
            name="inversion_mean_record",
            title="Identified by the mean record",
            meaning="The same share for the mean of the training records in place of a reconstruction: the baseline.",
        ),
        Metric(
            name="inversion_by_candidates",
            title="Identified by its gradient",
            meaning="Share of training records whose own gradient is nearer to the update than that of all other "
            "candidates: identification without reconstruction.",
            better="lower",
        ),
        Metric(
            name="inversion_labels",
            title="Labels inferred",
            meaning="Share of records whose label the server infers from the gradient of one record.",
            better="lower",
        ),
        Metric(
            name="inversion_error",
            title="Error of reconstructions",
            meaning="Root mean squared difference between a record and the nearest reconstruction: in ranges of a pixel "
            "or sample, of tables in standard deviations of a column.",
            unit="",
            better="higher",
            limits=(0.0, float("inf")),
        ),
        Metric(
            name="inversion_psnr",
            title="PSNR of reconstructions",
            meaning="Peak signal-to-noise ratio of reconstructed images in dB, 100 where nothing differs.",
            unit="dB",
            better="lower",
            limits=(-100.0, 100.0),
        ),
        Metric(
            name="inversion_pictures",
            title="Pictures of reconstructions",
            meaning="Number of records that are shown beside their reconstructions, where their licence allows it.",
            unit="records",
            limits=(0.0, float(_PICTURES)),
        ),
    )

    effort: Literal["quick", "thorough"] = "quick"
    """``quick`` takes under a minute on two cores for small images; ``EFFORTS`` states the figures of both."""
    victims: int | None = Field(default=None, ge=1)
    """Records that are looked for; those of ``effort`` by default."""
    candidates: int = Field(default=50, ge=2)
    """Records among which each is looked for; fewer where its class has fewer."""
    batch_sizes: tuple[int, ...] = Field(default=(1,), min_length=1)
    """Records behind the gradient of a step; the first must be 1, where the attack must work."""
    weights: tuple[WeightsAre, ...] = Field(default=("fresh", "trained"), min_length=1)
    """The first must be ``fresh``, where the attack must work."""
    labels: tuple[Literal["known", "inferred"], ...] = Field(default=("inferred", "known"), min_length=1)
    rounds: bool = True
    """Whether the weight change of a client's round is attacked too."""
    epsilons: tuple[float, ...] = (1.0,)
    """Hypothetical ε of recipes without privacy."""
    matching: GradientMatching | None = None
    """Settings of the search; those of ``effort`` by default."""
    searched_records: int = Field(default=4, ge=1)
    """Records that the search looks for in an update of more."""
    pictures: bool = True
    """Whether pictures are kept where the licence of the data lets everybody publish them."""
    as_if_federated: bool = False
    """Whether a recipe without federation is measured too, as if all training records were one client's."""

    def forecast(self, records: int) -> str:
        effort = EFFORTS[self.effort]
        return (
            f"{self.name}: {self._iterations} steps of a search for each of {self.victims or effort.searched} records, "
            "privacy and weights, unless the first layer is fully connected"
        )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if (why := self._why_not(subject)) is not None:
            return [not_applicable(metric.name, why[1], reason=why[0]) for metric in self.metrics]
        assert subject.recipe is not None
        cases = cases_of(
            subject.recipe,
            weights=self.weights,
            batches=self.batch_sizes,
            rounds=self.rounds,
            epsilons=self.epsilons,
        )
        effort, layer = EFFORTS[self.effort], first_layer(network_of(subject, "fresh"))
        number = self.victims or (effort.searched if layer is None else effort.victims)
        victims = Victims.of(subject, victims=number, clients=effort.clients)
        pool, found = pool_of(subject), list[Finding]()
        for done, case in enumerate(cases):
            found += self._of_case(subject, case, victims, pool)
            progress.tell(done + 1, len(cases))
        return [*found, *_checks(found, exact=layer is not None)]

    def _of_case(self, subject: Subject, case: Case, victims: Victims, pool: np.ndarray) -> list[Finding]:
        """Attacks all updates of a case."""
        try:
            updates = list(updates_of(subject, case, victims))
        except (UserError, TrainingError) as error:
            about = {**case.conditions, "records": case.batch or None}
            reason: ReasonCode = "error" if isinstance(error, TrainingError) else "no_method"
            return [not_applicable(name, str(error), reason=reason, **about) for name in _OF_CASE]
        each = [(one, int(victim)) for one in updates for victim in one.victims]
        lineups = [lineup(subject, pool, one, victim, self.candidates) for one, victim in each]
        kept = [place for place, line in enumerate(lineups) if len(line.others)]
        if not kept:
            why = "no record of a victim's class is left to compare it with; lower the clients' share of the records"
            about = {**case.conditions, "records": case.batch or None}
            return [not_applicable(name, why, reason="too_few_records", **about) for name in _OF_CASE]
        each, lineups = [each[place] for place in kept], [lineups[place] for place in kept]
        attack = _Attack(self, subject, case, updates, each, lineups)
        return list(attack.findings())

    @property
    def _iterations(self) -> int:
        return EFFORTS[self.effort].iterations if self.matching is None else self.matching.iterations

    def search(self) -> GradientMatching:
        """Returns the search for networks whose first layer cannot be inverted."""
        effort = EFFORTS[self.effort]
        return self.matching or GradientMatching(iterations=effort.iterations, restarts=effort.restarts)

    def _why_not(self, subject: Subject) -> tuple[ReasonCode, str] | None:
        """Returns why nothing can be measured; None where it can."""
        recipe = subject.recipe
        if recipe is None or subject.network is None:
            return "not_trained_here", "clients train by a recipe and from fresh weights, and none are known here"
        if recipe.federation is None and not self.as_if_federated:
            return "not_federated", "the recipe is not federated, so no update leaves anybody; set as_if_federated: true"
        if subject.dataset.modality == "text":
            return "other_kind_of_records", "words are no numbers that a search could approach step by step"
        if not isinstance(subject.task, Classification):
            return "no_method", "the attack matches gradients of cross-entropy"
        if recipe.objective.teachers:
            return "no_method", "the loss compares with a teacher, whom the attack does not know"
        for name, layer in network_of(subject, "fresh").named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.RNNBase):
                kind = type(layer).__name__
                return "no_method", f"layer {name!r} is a {kind}: its gradients in training are not those of the attack"
        return None


_OF_CASE = ("inversion_identified", "inversion_by_candidates")
_SEVERAL = "all records of one update are attacked together: they are not independent"


class _Attack:
    """The attack on the updates of one case, and its figures."""

    def __init__(
        self,
        settings: Inversion,
        subject: Subject,
        case: Case,
        updates: Sequence[Attacked],
        each: Sequence[tuple[Attacked, int]],
        lineups: Sequence[Lineup],
    ) -> None:
        self._settings, self._subject, self._case = settings, subject, case
        self._updates, self._each, self._lineups = updates, each, lineups
        self._network = network_of(subject, case.weights)
        self._layer = first_layer(self._network)
        of_update = np.array([next(i for i, one in enumerate(updates) if one is update) for update, _ in each])
        self._of_update = of_update
        self._clusters = of_update if case.update == "round" else subject.patients(np.array([v for _, v in each]))
        sizes = np.array([len(line.others) + 1 for line in lineups])
        self._about = {
            **case.conditions,
            "records": case.batch or int(max(len(one.rows) for one in updates)),
            "steps": int(max(one.update.steps for one in updates)),
            "candidates": int(sizes.max()),
            "chance": float((1 / sizes).mean()),
            "clients": len({one.client for one in updates}),
        }

    def findings(self) -> Iterator[Measurement]:
        """Yields the figures of the case."""
        subject, rows = self._subject, np.array([victim for _, victim in self._each])
        gradient = identified_by_gradient(subject, self._network, [one for one, _ in self._each], self._lineups)
        by_candidates = share("inversion_by_candidates", gradient, self._clusters, **self._about)
        yield by_candidates
        mean = torch.from_numpy(subject.dataset.x[subject.split.train].astype(np.float64).mean(0))[None].float()
        middle = score(subject, [mean] * len(rows), self._lineups)
        yield share("inversion_mean_record", middle.identified, self._clusters, **self._about)
        for labels, guesses in self._reconstructions(mean):
            if labels == "inferred" and self._case.batch == 1:
                yield self._labels()
            found = score(subject, [guesses[place] for place in self._of_update], self._lineups)
            about = {**self._about, "attack": "first layer" if self._layer else "gradient matching", "labels": labels}
            yield self._identified(found, by_candidates, about)
            yield from self._quality(found, about)

    def _identified(self, found: Found, by_candidates: Measurement, about: dict[str, Any]) -> Measurement:
        row = share("inversion_identified", found.identified, self._clusters, **about)
        if self._case.update == "round":
            row = row.warn(_SEVERAL)
        if by_candidates.value > row.high:
            message = (
                f"the server reconstructs {row.value:.0%} of the records, and identifies {by_candidates.value:.0%} by "
                "their gradients alone: that a reconstruction fails is no protection"
            )
            row = row.flag(Flag(verdict="warn", message=message, rule="identified_without_reconstruction"))
        return row

    def _quality(self, found: Found, about: dict[str, Any]) -> Iterator[Measurement]:
        dataset, case = self._subject.dataset, self._case
        unit = "standard deviations" if dataset.modality == "tabular" else "ranges"
        yield self._mean("inversion_error", found.error, unit, about)
        if dataset.modality == "image":
            yield self._mean("inversion_psnr", found.psnr, "dB", about)
        if self._settings.pictures and case.update == "step" and case.batch == 1 and may_be_shown(dataset):
            shown = [victim for _, victim in self._each][:_PICTURES]
            pictures = {
                "originals": encoded(dataset, [dataset.x[row] for row in shown]),
                "reconstructions": encoded(dataset, found.nearest[: len(shown)]),
            }
            n = len(shown)
            yield Measurement(
                name="inversion_pictures", value=n, n=n, unit="records", conditions={**about, **pictures}
            )

    def _mean(self, name: str, values: np.ndarray, unit: str, about: dict[str, Any]) -> Measurement:
        generator = seeds.stream(self._subject.seed, "inversion", "bootstrap")
        interval = intervals.bootstrap(
            lambda rows: float(values[rows].mean()), len(values), generator=generator, groups=self._clusters
        )
        return estimated(name, interval, n=len(values), unit=unit, conditions=about)

    def _labels(self) -> Measurement:
        y = self._subject.dataset.y
        right = [int(self._inferred(one)[0]) == y[victim] for one, victim in self._each]
        return share("inversion_labels", np.array(right), self._clusters, **self._about)

    def _inferred(self, attacked: Attacked) -> Tensor:
        most = min(attacked.update.records, self._searched(attacked))
        return infer_labels(self._network, attacked.update, classes=self._subject.dataset.classes, records=most)

    def _searched(self, attacked: Attacked) -> int:
        few = self._settings.searched_records if self._case.update == "round" else len(attacked.rows)
        return min(few, len(attacked.rows))

    def _reconstructions(self, mean: Tensor) -> Iterator[tuple[str, list[Tensor]]]:
        """Yields how labels were known, and (r, *shape) reconstructions of each update."""
        subject = self._subject
        if self._layer is not None:
            shape, bounds = subject.dataset.shape, subject.bounds
            found = [invert_first_layer(self._layer, one.update, shape=shape, bounds=bounds) for one in self._updates]
            # Where no unit has a gradient, the server is left with the mean record.
            yield "inferred" if self._case.batch == 1 else "unused", [one if len(one) else mean for one in found]
            return
        known = [labels_of(subject, one.rows, self._searched(one)) for one in self._updates]
        last: list[Tensor] | None = None
        for labels in self._settings.labels:
            y = known if labels == "known" else [self._inferred(one) for one in self._updates]
            if last is None or any(not torch.equal(a, b) for a, b in zip(y, searched, strict=True)):
                last, searched = self._search(y), y
            yield labels, last

    def _search(self, labels: Sequence[Tensor]) -> list[Tensor]:
        """Returns the reconstructions of each update; those with as many records are searched together."""
        subject, search = self._subject, self._settings.search()
        found: dict[int, Tensor] = {}
        for size in sorted({len(one) for one in labels}):
            places = [place for place, one in enumerate(labels) if len(one) == size]
            records = search.reconstruct(
                self._network,
                [self._updates[place].update for place in places],
                torch.stack([labels[place] for place in places]),
                shape=subject.dataset.shape,
                bounds=subject.bounds,
                generator=seeds.stream(subject.seed, "inversion", "first guesses"),
                task=subject.task,
            )
            found |= dict(zip(places, records, strict=True))
        return [found[place] for place in range(len(labels))]


def _checks(found: Sequence[Finding], *, exact: bool) -> Iterator[Check]:
    """Yields the check that the attack works where it must: fresh weights, one record, no privacy."""
    rows = [
        one
        for one in found
        if isinstance(one, Measurement) and one.name == "inversion_identified" and one.status == "measured"
    ]
    must = [
        one
        for one in rows
        if one.conditions["weights"] == "fresh"
        and one.conditions["privacy"] == "none"
        and one.conditions["update"] == "step"
        and one.conditions["records"] == 1
        and one.conditions["compression"] == "none"
    ]
    if not must:
        return
    best = max(must, key=lambda one: one.value)
    chance = float(best.conditions["chance"])
    works = best.value >= _MUST if exact else best.low > chance
    limit = f"at least {_MUST:.0%}" if exact else f"surely more than chance, {chance:.0%}"
    yield Check(
        rule="inversion_works",
        concerns="inversion_identified",
        verdict="pass" if works else "fail" if exact else "warn",
        figure=best.value,
        message=f"at fresh weights, without privacy, the attack identifies {best.value:.0%} of {best.n} records from "
        f"the gradient of one, where it must identify {limit}"
        + ("" if works else ": it is too weak, and its low figures elsewhere say nothing"),
    )
