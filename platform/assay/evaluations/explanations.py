"""Explanations of single records: errors, faithfulness against controls, dependence on what was learnt, and cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import intervals
from assay.evaluations.base import Evaluation, Subject, estimated
from assay.evaluations.explained_records import (
    BACKGROUND,
    answers_differ,
    learnt_by,
    measured_records,
    reference_of,
)
from assay.evaluations.explanation_checks import along_the_data, errors, off_the_data, sum_of
from assay.evaluations.explanation_examples import examples_of
from assay.evaluations.explanation_gains import ExplainedMap, Gains
from assay.evaluations.explanation_metrics import EXPLANATION_METRICS
from assay.evaluations.explanation_secondary import metrics_of, secondary
from assay.evaluations.explanation_weights import ValuesOf, depends_on_weights, second_network
from assay.explain.base import Attribution, Explainer, ExplanationError
from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.explain.measures.panel import Panel
from assay.explain.measures.randomisation import rank_agreement
from assay.explain.methods.attention import Attention
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.metrics import Metric
from assay.registry import choice_of, methods, register
from assay.results import Finding, Measurement, ReasonCode, not_applicable

_TRIED = 4
"""Records that are asked twice, to find models that answer at random."""
_MOST_SEARCHED = 2000
"""Test records among which examples are chosen; few are answered wrong."""
_OF_CURVES = {"deletion", "insertion", "area_between"}
_MEASURES: list[Any] = [one for one in methods("explanation_measure").values() if one.__module__.startswith("assay.")]
_FURTHER = [one for one in _MEASURES if one.model_fields["name"].default not in _OF_CURVES]


@register("evaluation")
class Explanations(Evaluation):
    """Errors of explanations, their faithfulness against controls, agreement, and time.

    Explained are the log-odds of the predicted class (by Deep SHAP, its lead), whose curves are measured. Removed
    features get values from a panel of replacements, none of which is a baseline of a method: see
    ``explain/measures/replacements``. The primary endpoint is the same for all kinds of records and was named before
    any run: the area between the curves of insertion and deletion, the mean over the panel, placed between the
    strongest control (0) and the best order that is known (1). A method beats the controls if it beats each of them,
    with Holm's correction over methods; further ``measures`` are corrected together and decide nothing alone.

    In text a feature is a word; in an image, a pixel with all its channels. Integrated gradients also undergo the
    randomised-weights test, for which the recipe is trained once more with another seed where it is not private.
    """

    name: Literal["explanations"] = "explanations"
    metrics: ClassVar[tuple[Metric, ...]] = EXPLANATION_METRICS + metrics_of(_FURTHER)

    methods: tuple[choice_of("explainer"), ...] = Field(default=(), validate_default=True)  # type: ignore[valid-type]
    """Further explanation methods, beside integrated gradients, Deep SHAP, and the attention of a network with one."""
    measures: tuple[choice_of("explanation_measure"), ...] = Field(default=(), validate_default=True)  # type: ignore[valid-type]
    """Further measures of maps; ``deletion``, ``insertion`` and ``area_between`` are always measured."""
    points: int = Field(default=243, ge=3)
    """Greatest number of points of integrated gradients. It starts with 9 points, or with a third of this number where
    that is less, and triples them up to this number. Not used where ``methods`` names integrated gradients."""
    measured: int = Field(default=50, ge=2)
    """Records whose maps are compared with controls, and that all methods but integrated gradients explain."""
    control_draws: int = Field(default=20, ge=3)
    """Draws of each random control for a record."""
    steps: int = Field(default=25, ge=1)
    """Greatest number of steps of a curve."""
    shap_background: int = Field(default=BACKGROUND, ge=2)
    """Training records of the background."""
    examples: int = Field(default=4, ge=0, le=12)
    """Records that are kept with their maps for readers, where the licence lets everybody publish records."""
    from_training: bool = True
    """Whether training records serve as baseline and background. Never those of a private recipe: to compare it with
    others, turn this off for all."""
    retrained: bool = True
    """Whether a second network is trained for the randomised-weights test."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap samples of an interval of a ratio."""
    records: int | None = Field(default=None, ge=2)
    """Test records that integrated gradients explain, stratified; all by default, of texts as ``Subject.examined``
    says."""

    def sample(self, subject: Subject) -> np.ndarray:
        return subject.examined(subject.split.test, self.records)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = self.sample(subject)
        few = subject.chosen(rows, self.measured)
        reference = reference_of(subject, self.shap_background, from_training=self.from_training)
        every, some = (measured_records(subject, chosen, reference) for chosen in (rows, few))
        if any(measure.trains for measure in self.measures):
            some = replace(some, learnt=learnt_by(subject))
        asked = _Asked(subject=subject, every=every, some=some, rows=rows, few=few)
        explainers = self._explainers(subject)
        if answers_differ(subject, rows[:_TRIED]):
            why = "the model answers the same record differently each time: a map would explain one draw"
            return [row for one in explainers for row in asked.unanswered(one, why, "random_answers")]
        found: list[Finding] = []
        by_method: list[tuple[Explainer, ExplainedMap]] = []
        for explainer in explainers:
            explained, rows_of_method = asked.explained(explainer, retrained=self.retrained)
            found += rows_of_method
            by_method += [] if explained is None else [(explainer, explained)]
        maps = [one for _, one in by_method]
        if maps:
            panel = Panel(records=some, steps=self.steps, draws=self.control_draws)
            clusters = subject.clusters(few)
            gains = Gains(panel=panel, clusters=clusters, seed=subject.seed, draws=self.draws)
            try:
                found += gains.findings(maps)
            except ExplanationError as error:
                return [*found, *asked.unmeasured(maps, error)]
            found += secondary(self._further(), maps, some, clusters, draws=self.control_draws)
            found += asked.examples(by_method, self.examples)
        return [*found, *asked.agreements(maps)]

    def _further(self) -> list[ExplanationMeasure]:
        return [one for one in self.measures if one.name not in _OF_CURVES]

    def _explainers(self, subject: Subject) -> list[Explainer]:
        """Returns the methods that are measured, integrated gradients first."""
        start = 9 if self.points >= 27 else max(1, self.points // 3)
        usual: list[Explainer] = [IntegratedGradients(points=start, most=self.points), DeepShap()]
        network: Any = getattr(subject.model, "network", subject.model)
        if getattr(network, "attention", None) is not None and hasattr(network, "attention_weights"):
            usual.append(Attention())
        # A usual method that is named with settings takes the place of the usual one.
        named = {explainer.name: explainer for explainer in usual}
        others = [one for one in self.methods if one.name not in named]
        named |= {one.name: one for one in self.methods if one.name in named}
        return [*named.values(), *others]


class _Asked:
    """The records of one subject, and what methods say of them.

    Args:
        subject: the model with its data.
        every: all records of the sample.
        some: those whose maps are measured.
        rows: positions of ``every``.
        few: positions of ``some``.
    """

    def __init__(
        self, *, subject: Subject, every: MeasuredRecords, some: MeasuredRecords, rows: np.ndarray, few: np.ndarray
    ) -> None:
        self._subject, self._every, self._some, self._rows, self._few = subject, every, some, rows, few

    def explained(self, explainer: Explainer, *, retrained: bool) -> tuple[ExplainedMap | None, list[Finding]]:
        """Explains records by one method; integrated gradients all of them, others those that are measured.

        Args:
            explainer: the method.
            retrained: whether a second network is trained for the randomised-weights test.

        Returns:
            The map of the measured records, None where the method gives none, and what was found.
        """
        if explainer.needs_gradient and self._subject.why_no_gradient:
            why = f"{explainer.title} needs a gradient: {self._subject.why_no_gradient}"
            return None, self.unanswered(explainer, why, "no_gradient")
        first = isinstance(explainer, IntegratedGradients)
        records, rows = (self._every, self._rows) if first else (self._some, self._few)
        about, clusters = self._conditions(explainer), self._subject.clusters(rows)
        try:
            attribution = self._values(explainer, self._subject.model, records, records.x)
        except ExplanationError as error:
            return None, self.unanswered(explainer, str(error), error.reason)
        found = [*errors(explainer, attribution, clusters, about), _seconds(attribution.seconds, len(rows), about)]
        found += along_the_data(explainer, attribution.values, records, clusters, about)
        by_feature = records.reference.by_feature(attribution.values)
        order = np.argsort(rows)
        place = torch.from_numpy(order[np.searchsorted(rows, self._few, sorter=order)]).to(by_feature.device)
        values = by_feature[place]
        if first:
            second = second_network(self._subject) if retrained else None
            few = self._subject.clusters(self._few)
            again = self._again(explainer, self._some)
            found += depends_on_weights(explainer, self._subject, self._some, values, again, second, few, about)
        else:
            found += off_the_data(explainer, records, by_feature, about)
        return ExplainedMap(about=about, map=self._map(explainer, attribution.values[place], values)), found

    def unmeasured(self, maps: Sequence[ExplainedMap], error: ExplanationError) -> list[Finding]:
        """Returns the questions about maps that cannot be measured.

        Args:
            maps: of all methods.
            error: why.

        Returns:
            Rows without a value.
        """
        names = ("faithfulness", "deletion_gain", "insertion_gain")
        return [not_applicable(name, str(error), reason=error.reason, **one.about) for one in maps for name in names]

    def unanswered(self, explainer: Explainer, why: str, reason: ReasonCode) -> list[Finding]:
        """Returns the questions about a method that has no answer.

        Args:
            explainer: the method.
            why: it has none.
            reason: as a code.

        Returns:
            Rows without a value.
        """
        names = [sum_of(explainer)[0]] if explainer.adds_up else []
        names += ["faithfulness", "deletion_gain", "insertion_gain", "explanation_seconds"]
        if not isinstance(explainer, IntegratedGradients | Attention):
            names.append("explanation_agreement")
        about = self._conditions(explainer)
        return [not_applicable(name, why, reason=reason, **about) for name in names]

    def examples(self, by_method: Sequence[tuple[Explainer, ExplainedMap]], count: int) -> list[Measurement]:
        """Returns a few records with the maps of each method, where everybody may publish records of the data set.

        Args:
            by_method: methods with their maps of the measured records.
            count: of records.

        Returns:
            A row for each method.
        """
        rows = self._subject.chosen(self._subject.split.test, _MOST_SEARCHED)
        shown = examples_of(self._subject, rows, self._some, count)
        if shown is None:
            return []
        found: list[Measurement] = []
        for explainer, one in by_method:
            try:
                values = self._values(explainer, self._subject.model, shown.records, shown.records.x).values
            except ExplanationError as error:
                why, reason = str(error), error.reason
                found.append(not_applicable("explanation_examples", why, reason=reason, **dict(one.about)))
                continue
            by_feature = shown.records.reference.by_feature(values)
            found.append(shown.finding(explainer, one.about, by_feature, one.map.values))
        return found

    def agreements(self, maps: Sequence[ExplainedMap]) -> list[Finding]:
        """Returns how alike the maps of each method and of integrated gradients are.

        Args:
            maps: of all methods, integrated gradients first where they have one.

        Returns:
            A row for each other method but attention, which is no attribution.
        """
        known = {str(one.about["method"]): one for one in maps}
        first = known.get("integrated_gradients")
        if first is None:
            return []
        found: list[Finding] = []
        clusters = self._subject.clusters(self._few)
        for one in maps:
            if one.about["method"] in {"integrated_gradients", "attention"}:
                continue
            agreement = rank_agreement(one.map.values, first.map.values, self._some.features)
            about = {**one.about, "against": "integrated_gradients"}
            interval = intervals.mean(agreement, clusters).interval
            unit = "Spearman correlation"
            found.append(estimated("explanation_agreement", interval, n=len(agreement), unit=unit, conditions=about))
        return found

    def _conditions(self, explainer: Explainer) -> dict[str, Any]:
        about: dict[str, Any] = {"method": explainer.name}
        if isinstance(explainer, IntegratedGradients):
            about["points"] = explainer.most
        else:
            about |= explainer.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        return {**about, "reference": self._some.reference.source}

    def _values(self, explainer: Explainer, model: nn.Module, records: MeasuredRecords, x: Tensor) -> Attribution:
        return explainer.explain(model, x, records.target, records.reference, seed=self._subject.seed)

    def _again(self, explainer: Explainer, records: MeasuredRecords) -> ValuesOf:
        return lambda model: records.reference.by_feature(self._values(explainer, model, records, records.x).values)

    def _map(self, explainer: Explainer, entries: Tensor, values: Tensor) -> MeasuredMap:
        records, reference = self._some, self._some.reference
        middle = reference.background.to(records.x).mean(0, keepdim=True).expand_as(records.x)
        return MeasuredMap(
            values=values,
            entries=entries,
            kind="contributions" if explainer.multiplies_by_change else "slopes",
            baseline=middle if explainer.from_background else reference.baseline(records.x),
            of_others=lambda x, target: records.reference.by_feature(
                explainer.explain(self._subject.model, x, target, records.reference, seed=self._subject.seed).values
            ),
            again=lambda model, x: records.reference.by_feature(self._values(explainer, model, records, x).values),
        )


def _seconds(seconds: float, n: int, about: Mapping[str, object]) -> Measurement:
    return Measurement(name="explanation_seconds", value=seconds / n, unit="seconds", n=n, conditions=about)
