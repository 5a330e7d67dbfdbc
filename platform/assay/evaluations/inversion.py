"""What the update of a federated client tells the server: inversion of gradients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from torch import nn

from assay import progress
from assay.errors import TrainingError, UserError
from assay.evaluations.base import Evaluation
from assay.evaluations.inversion_attack import MOST_PICTURES, CaseAttack, Labels
from assay.evaluations.inversion_cases import (
    Case,
    Victims,
    WeightsAre,
    cases_of,
    decoders_of,
    network_of,
    updates_of,
)
from assay.evaluations.inversion_scores import lineup, pool_of
from assay.evaluations.subject import Subject
from assay.federated.inversion.analytic import first_layer
from assay.federated.inversion.matching import GradientMatching
from assay.metrics import Chosen, Metric, ScorecardColumn
from assay.registry import register
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable
from assay.tasks.classification import Classification

_MUST = 0.95
"""Share that the exact attack must identify on one record without privacy."""
_OF_CASE = ("inversion_identified", "inversion_by_candidates")
"""Figures that say so where a case cannot be measured."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How many records are looked for, and how hard."""

    victims: int
    """Records, where inversion is exact and costs nothing."""
    clients: int
    """Clients that hold them, at most."""
    searched: int
    """Records, where gradients are matched."""
    searched_clients: int
    """Clients that hold them, at most."""
    iterations: int
    restarts: int


EFFORTS: Mapping[str, Effort] = {
    "quick": Effort(victims=40, clients=10, searched=5, searched_clients=2, iterations=60, restarts=1),
    "thorough": Effort(victims=200, clients=20, searched=40, searched_clients=8, iterations=1_000, restarts=3),
}
"""The presets of ``effort``."""


@register("evaluation")
class Inversion(Evaluation):
    """Share of training records that an honest-but-curious server identifies from the update of one client.

    The server knows the network, the weights that it sent, the number of records behind an update, and the update,
    which the client's own trainer computes (``evaluations.inversion_cases``): the gradient of one step, the worst case
    of gradient sharing, or the weight change of the client's first round, divided by the sum of its learning rates. The
    server does not simulate local steps, and does not know the masks of dropout. Weights are fresh or those of the
    final model.

    **Attacks.** Where the first layer is fully connected with a bias, the quotient of its gradients is the record
    (Phong et al. 2018): exact for one record, mixtures for several. Any other network is attacked by matching gradients
    (Geiping et al. 2020), with labels known or inferred from the last layer (Zhao et al. 2020). Where all labels are
    inferred right, known ones change nothing, and the search runs once.

    **Identification.** A victim stands among ``candidates`` records of its class, none of which is behind the update.
    It is identified if it is nearer to a reconstruction than all others. An attacker who knows nothing, or the class
    alone, finds it with probability ``chance``, as does the mean of the training records
    (``inversion_mean_record``). Victims, candidates and their distances are the same for every recipe.
    ``inversion_by_candidates`` compares the update with the gradient of each candidate. This attacker needs no
    reconstruction; where he finds more, a failed reconstruction is no protection.

    **Privacy.** For a private recipe the server sees clipped, noised gradients; the same update without privacy stands
    beside it. For others ``epsilons`` are hypothetical: the recipe's own training at that ε. A step whose batch is
    known to hold the victim is protected by its clipping and noise alone, not by the sampling on which ε rests, too.

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
            meaning="Share of records identified by the mean training record, without a reconstruction: the baseline.",
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
            meaning="Root mean squared difference between a record and the nearest reconstruction: in ranges of a "
            "pixel or sample, of tables in standard deviations of a column.",
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
            limits=(0.0, float(MOST_PICTURES)),
        ),
    )

    effort: Literal["quick", "thorough"] = "quick"
    """``quick`` takes about a minute of a processor for images of 28 × 28 pixels, and seconds where inversion is exact;
    ``EFFORTS`` states the figures of both."""
    victims: int | None = Field(default=None, ge=1)
    """Records that are looked for; those of ``effort`` by default."""
    candidates: int = Field(default=50, ge=2)
    """Records among which each is looked for; fewer where its class has fewer."""
    batch_sizes: tuple[PositiveInt, ...] = Field(default=(1,), min_length=1)
    """Records behind the gradient of a step; the first must be 1, where the attack must work."""
    weights: tuple[WeightsAre, ...] = Field(default=("fresh", "trained"), min_length=1)
    """The first must be ``fresh``, where the attack must work."""
    labels: tuple[Labels, ...] = Field(default=("inferred", "known"), min_length=1)
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

    @field_validator("batch_sizes", "weights")
    @classmethod
    def _begins_where_the_attack_must_work(cls, given: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        first = {"batch_sizes": 1, "weights": "fresh"}[str(info.field_name)]
        if given[0] != first or len(set(given)) < len(given):
            raise ValueError(
                f"it must begin with {first}, where the attack must work for its other figures to mean anything, and "
                "name each value once"
            )
        return given

    def forecast(self, records: int) -> str:
        effort = EFFORTS[self.effort]
        iterations = effort.iterations if self.matching is None else self.matching.iterations
        return (
            f"{self.name}: {iterations} steps of a search for each of {self.victims or effort.searched} records, "
            "privacy and weights, unless the first layer is fully connected"
        )

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if (why := self._why_not(subject)) is not None:
            return [not_applicable(metric.name, why[1], reason=why[0]) for metric in self.metrics]
        assert subject.recipe is not None
        cases = cases_of(
            subject.recipe,
            decoders_of(subject.recipe, network_of(subject, "fresh"), seed=subject.seed),
            weights=self.weights,
            batches=self.batch_sizes,
            rounds=self.rounds,
            epsilons=self.epsilons,
        )
        effort, layer = EFFORTS[self.effort], first_layer(network_of(subject, "fresh"))
        number = self.victims or (effort.searched if layer is None else effort.victims)
        clients = effort.searched_clients if layer is None else effort.clients
        victims = Victims.of(subject, victims=number, clients=clients)
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
        effort = EFFORTS[self.effort]
        attack = CaseAttack(
            subject=subject,
            case=case,
            updates=updates,
            each=each,
            lineups=lineups,
            search=self.matching or GradientMatching(iterations=effort.iterations, restarts=effort.restarts),
            labels=self.labels,
            searched_records=self.searched_records,
            pictures=self.pictures,
        )
        return list(attack.findings())

    def _why_not(self, subject: Subject) -> tuple[ReasonCode, str] | None:
        """Returns why nothing can be measured; None where it can."""
        recipe = subject.recipe
        if recipe is None or subject.network is None:
            return "not_trained_here", "clients train by a recipe and from fresh weights, and none are known here"
        if recipe.federation is None and not self.as_if_federated:
            return "not_federated", "the recipe is not federated: no update leaves anybody; set as_if_federated: true"
        if subject.dataset.modality == "text":
            return "other_kind_of_records", "words are no numbers that a search could approach step by step"
        why = _no_method(subject, network_of(subject, "fresh"))
        return ("no_method", why) if why else None


def _no_method(subject: Subject, network: nn.Module) -> str:
    """Returns why no attack is known for this network and loss; empty where one is."""
    assert subject.recipe is not None
    if not isinstance(subject.task, Classification):
        return "the attack matches gradients of cross-entropy"
    if subject.recipe.objective.teachers:
        return "the loss compares with a teacher, whom the attack does not know"
    federation = subject.recipe.federation
    if federation is not None and federation.personalisation is not None:
        shared = federation.personalisation.is_shared(network)
        own = [name for name, p in network.named_parameters() if p.requires_grad and not shared(name)]
        if own:
            return f"{own[0]!r} and {len(own) - 1} other parameters stay at the client, so the attack lacks them"
    for name, layer in network.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.RNNBase):
            return f"layer {name!r} is a {type(layer).__name__}: its gradients in training are not those of the attack"
    return ""


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
