"""Is a network better than a model that can be read? An explainable boosting machine on the same records."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay import intervals, seeds
from assay.data.base import Dataset
from assay.evaluations.base import Evaluation, OwnTraining
from assay.evaluations.glass_box_models import EXTRA, GlassBox, installed, train_glass_box, train_private_glass_box
from assay.evaluations.global_metrics import GLASS_BOX_METRICS, LOG_ODDS
from assay.evaluations.shares import estimated, share_by_record
from assay.evaluations.subject import Subject
from assay.metrics import Metric
from assay.outcomes import Outcomes
from assay.paired import paired_reach
from assay.recipes import Recipe
from assay.registry import register
from assay.results import Finding, Measurement, ReasonCode, not_applicable

_Z = 1.959963984540054
_BINS = 10


@register("evaluation")
class GlassBoxRival(Evaluation):
    """Trains an explainable boosting machine on the network's training records, and compares their test answers.

    The machine adds up one curve a feature, and some of pairs, each of which can be drawn: what it does is its own
    explanation. A network that is not surely better gives that up for nothing.

    For a private recipe the machine is a private one (DP-EBM) with the recipe's ε and δ. Its training spends this ε a
    second time: ``glass_box_epsilon`` states it, the ledger has an entry of its own for it, and it is no part of the
    recipe's. Its noise follows from the seed and it is thrown away, so its figures stay with the curator. Where
    a recipe draws its noise from entropy, its trainings reserve a part of a budget, and nothing reserves one for this
    training: the question is then not asked. Nor is it where a patient's records are protected together, where bounds
    are learnt from records, or with more than two classes: the library's machine covers none of these.

    The plain machine stops by records that it leaves out: whole patients, where there are some. Treatments and
    augmentations of the recipe are not applied to its records.
    """

    looks_at = "both"
    name: Literal["glass_box"] = "glass_box"
    metrics: ClassVar[tuple[Metric, ...]] = GLASS_BOX_METRICS

    bags: int = Field(default=8, ge=1)
    """Machines that are averaged (not of the private one)."""
    pairs: int = Field(default=5, ge=0)
    """Terms of two features (the private machine has none)."""
    terms: int = Field(default=15, ge=1)
    """Terms that are reported, those with the greatest mean |contribution|."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap samples of an interval."""

    def forecast(self, records: int) -> str:
        return f"{self.name}: one more training of every recipe on a table, an explainable boosting machine"

    def own_training(self, recipe: Recipe, dataset: Dataset | None) -> OwnTraining | None:
        why = "" if dataset is None else _why_not_table(dataset)[0] or _why_not_private(dataset, recipe)[0]
        if why or (recipe.privacy is not None and recipe.privacy.noise == "entropy"):
            return None
        if recipe.privacy is None:
            return OwnTraining(label="explainable boosting machine")
        privacy = recipe.privacy
        return OwnTraining(label="DP-EBM", epsilon=privacy.epsilon, delta=privacy.delta, accountant="gdp")

    def measure(self, subject: Subject) -> Sequence[Finding]:
        why, reason = _why_not(subject)
        if why:
            return [not_applicable(metric.name, why, reason=reason) for metric in self.metrics]
        machine, about = self._trained(subject)
        rival = replace(subject, model=machine.eval(), operating_point=None)
        return [
            *self._accuracies(subject, rival, about),
            *self._aurocs(subject, rival, about),
            *self._strengths(rival, machine, about),
            _epsilon(subject, about),
        ]

    def _trained(self, subject: Subject) -> tuple[GlassBox, dict[str, Any]]:
        """Trains the machine: private for a private recipe."""
        dataset, rows = subject.dataset, subject.split.train
        names = dataset.feature_names or tuple(f"feature {number}" for number in range(dataset.shape[0]))
        x, y = np.asarray(dataset.x[rows]), dataset.y[rows]
        seed = seeds.torch_seed(subject.seed, "glass box") % 2**31
        privacy = None if subject.recipe is None else subject.recipe.privacy
        if privacy is None:
            groups = subject.groups(rows)
            settings = {"seed": seed, "bags": self.bags, "pairs": self.pairs, "classes": dataset.classes}
            machine = train_glass_box(x, y, names=names, groups=groups, **settings)
            return machine, {"machine": "EBM"}
        bounds = (np.broadcast_to(dataset.low, dataset.shape), np.broadcast_to(dataset.high, dataset.shape))
        machine = train_private_glass_box(
            x, y, names=names, bounds=bounds, epsilon=privacy.epsilon, delta=privacy.delta, seed=seed
        )
        return machine, {"machine": "DP-EBM", "delta": privacy.delta}

    def _accuracies(self, subject: Subject, rival: Subject, about: dict[str, Any]) -> list[Finding]:
        """Returns the machine's accuracy, and the difference by record."""
        rows, clusters = subject.split.test, subject.clusters(subject.split.test)
        ours, theirs = subject.right(rows), rival.right(rows)
        accuracy = share_by_record(self.metrics[0].name, theirs, clusters, rows, **about, **rival.decided_at)
        sides = [[Outcomes.of(hits, rows, clusters)] for hits in (ours, theirs)]
        reach = paired_reach(sides, [1.0, -1.0])
        value = float(ours.mean() - theirs.mean())
        low, high = (np.nan, np.nan) if reach is None else (value - reach.below(_Z), value + reach.above(_Z))
        difference = Measurement(
            name="glass_box_difference",
            value=value,
            low=float(np.maximum(-1.0, low)),
            high=float(np.minimum(1.0, high)),
            n=len(rows),
            conditions={**about, "only_network_right": int((ours & ~theirs).sum()),
                        "only_glass_box_right": int((theirs & ~ours).sum())},
        )  # fmt: skip
        return [accuracy, difference]

    def _aurocs(self, subject: Subject, rival: Subject, about: dict[str, Any]) -> list[Finding]:
        """Returns the machine's AUROC, and the difference on the same bootstrap samples."""
        rows, name = subject.split.test, "glass_box_auroc"
        y, each = subject.dataset.y[rows], []
        for one in (subject, rival):
            logits = one.logits(rows)
            if not np.isfinite(logits).all():
                why = "the network answers NaN or infinity"
                return [not_applicable(n, why, reason="no_finite_answers") for n in (name, f"{name}_difference")]
            decided = one.decisions(logits)
            each.append(one.task.metrics(logits, y, decided=decided, about={}, bins=_BINS)["auroc"][0])
        network, glass = each
        ours = intervals.bootstrap_curve(
            lambda chosen: np.array([glass(chosen), network(chosen) - glass(chosen)]),
            len(rows),
            generator=seeds.stream(subject.seed, "bootstrap", name),
            draws=self.draws,
            groups=subject.clusters(rows),
        )
        if np.isnan(ours[0].value):
            why = "the test records do not hold every class"
            return [not_applicable(n, why, reason="no_records") for n in (name, f"{name}_difference")]
        return [
            estimated(name, ours[0], unit="AUROC", n=len(rows), conditions=about),
            estimated(f"{name}_difference", ours[1], n=len(rows), conditions=about),
        ]

    def _strengths(self, rival: Subject, machine: GlassBox, about: dict[str, Any]) -> list[Finding]:
        """Returns the machine's own terms with the greatest mean |contribution| over the test records."""
        rows = rival.split.test
        given = np.abs(machine.contributions(np.asarray(rival.dataset.x[rows])))
        by_term = given.mean(-1) if given.ndim == 3 else given
        shown = np.argsort(-by_term.mean(0), kind="stable")[: self.terms]
        own = by_term[:, shown]
        each = intervals.bootstrap_curve(
            lambda chosen: own[chosen].mean(0),
            len(rows),
            generator=seeds.stream(rival.seed, "bootstrap", "glass_box_strength"),
            draws=self.draws,
            groups=rival.clusters(rows),
        )
        names = machine.terms
        return [
            estimated(
                "glass_box_strength",
                interval,
                unit=LOG_ODDS,
                n=len(rows),
                conditions={**about, "feature": names[place]},
            )
            for place, interval in zip(shown, each, strict=True)
        ]


def _why_not(subject: Subject) -> tuple[str, ReasonCode]:
    """Returns why no machine is trained, in words and as a code; no words where one is."""
    dataset, recipe = subject.dataset, subject.recipe
    why, reason = _why_not_table(dataset)
    if why:
        return why, reason
    if not len(subject.split.train):
        return "the training records of this model are not known", "not_trained_here"
    if not installed():
        return EXTRA, "not_installed"
    if recipe is None or recipe.privacy is None:
        return "", "unspecified"
    why, reason = _why_not_private(dataset, recipe)
    return (why, reason) if why else _why_not_bounded(dataset)


def _why_not_table(dataset: Dataset) -> tuple[str, ReasonCode]:
    """Returns why no machine can read these records."""
    if dataset.modality != "tabular" or len(dataset.shape) != 1:
        said = f"the machine reads tables; these records are {dataset.modality}, shape {dataset.shape}"
        return said, "other_kind_of_records"
    return "", "unspecified"


def _why_not_private(dataset: Dataset, recipe: Recipe) -> tuple[str, ReasonCode]:
    """Returns why no private machine is trained beside a private recipe, whatever its records are prepared by."""
    privacy = recipe.privacy
    if privacy is None:
        return "", "unspecified"
    if privacy.noise == "entropy":
        said = "a training beside a recipe with noise: entropy would spend ε that no ledger has reserved"
        return said, "unpaid"
    if dataset.patients is not None and privacy.unit != "record":
        said = "the private machine protects single records, and the recipe protects patients with all of theirs"
        return said, "unpaid"
    if dataset.classes != 2:
        return f"the private machine decides between two classes, and there are {dataset.classes}", (
            "other_number_of_classes"
        )
    return "", "unspecified"


def _why_not_bounded(dataset: Dataset) -> tuple[str, ReasonCode]:
    """Returns why prepared records have no bounds that a private machine may use."""
    if dataset.owes:
        return f"the private machine needs bounds that no record was asked for: {dataset.owes}", "unpaid"
    if not (np.isfinite(dataset.low).all() and np.isfinite(dataset.high).all()):
        return "the private machine needs stated bounds of every input, and some are infinite", "unpaid"
    return "", "unspecified"


def _epsilon(subject: Subject, about: dict[str, Any]) -> Measurement:
    """Returns the ε that the machine's own training has spent."""
    privacy = None if subject.recipe is None else subject.recipe.privacy
    if privacy is None:
        return not_applicable("glass_box_epsilon", "the recipe is not private", reason="not_private")
    return Measurement(
        name="glass_box_epsilon",
        value=privacy.epsilon,
        unit="epsilon",
        n=len(subject.split.train),
        conditions={**about, "accountant": "Gaussian differential privacy, by interpret-core", "unit": "record"},
        warnings=(
            "an experiment: the noise follows from the seed, the number of records counts as known, and the library's "
            "accountant is not checked here",
            "a training of its own on the same records: it adds to the ε of the recipe",
        ),
    )
