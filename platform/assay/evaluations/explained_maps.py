"""What explanation methods say of the records of one subject: maps with their errors, examples and agreement."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay import intervals
from assay.evaluations.explanation_baselines import rests_on_data
from assay.evaluations.explanation_checks import along_the_data, errors, off_the_data, sum_of
from assay.evaluations.explanation_examples import examples_of
from assay.evaluations.explanation_gains import ExplainedMap
from assay.evaluations.explanation_groups import group_findings, shown_groups
from assay.evaluations.explanation_weights import ValuesOf, depends_on_weights, second_network
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.base import Attribution, Explainer, ExplanationError
from assay.explain.measures.base import MeasuredMap, MeasuredRecords
from assay.explain.measures.randomisation import rank_agreement
from assay.explain.methods.attention import Attention
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.results import Finding, Measurement, ReasonCode, not_applicable

_MOST_SEARCHED = 2000
"""Test records among which examples are chosen; few are answered wrong."""


class MapsOfSubject:
    """Maps of the records of one subject by explanation methods, with the findings about them.

    Args:
        subject: the model with its data.
        every: all records of the sample.
        some: those whose maps are measured.
        rows: positions of ``every``.
        few: positions of ``some``.
        primary: the default method.
        chosen: why it is.
    """

    def __init__(
        self,
        *,
        subject: Subject,
        every: MeasuredRecords,
        some: MeasuredRecords,
        rows: np.ndarray,
        few: np.ndarray,
        primary: Explainer,
        chosen: str,
    ) -> None:
        self._subject, self._every, self._some, self._rows, self._few = subject, every, some, rows, few
        self._primary, self._chosen = primary, chosen

    def explained(self, explainer: Explainer, *, retrained: bool) -> tuple[ExplainedMap | None, list[Finding]]:
        """Explains records by one method: integrated gradients all where they are the default, else those measured.

        Args:
            explainer: the method.
            retrained: whether a second network is trained for the randomised-weights test.

        Returns:
            The map of the measured records, None where the method gives none, and what was found.
        """
        if explainer.needs_gradient and self._subject.why_no_gradient:
            why = f"{explainer.title} needs a gradient: {self._subject.why_no_gradient}"
            return None, self.unanswered(explainer, why, "no_gradient")
        first = explainer is self._primary
        # Other methods cost many times as much for a record.
        all_of_them = first and isinstance(explainer, IntegratedGradients)
        records, rows = (self._every, self._rows) if all_of_them else (self._some, self._few)
        about, clusters = self._conditions(explainer), self._subject.clusters(rows)
        try:
            attribution = self._values(explainer, self._subject.model, records, records.x)
        except ExplanationError as error:
            return None, self.unanswered(explainer, str(error), error.reason)
        found = [*errors(explainer, attribution, clusters, about), _seconds(attribution.seconds, len(rows), about)]
        found += along_the_data(explainer, attribution.values, records, clusters, about)
        found += rests_on_data(explainer, attribution.values, records, clusters, about)
        by_feature = records.reference.by_feature(attribution.values)
        found += group_findings(explainer, records, attribution.values, clusters, about)
        found += off_the_data(explainer, records, by_feature, about)
        order = np.argsort(rows)
        place = torch.from_numpy(order[np.searchsorted(rows, self._few, sorter=order)]).to(by_feature.device)
        values = by_feature[place]
        if first:
            second = second_network(self._subject) if retrained else None
            few, again = self._subject.clusters(self._few), self._again(explainer, self._some)
            found += depends_on_weights(explainer, self._subject, self._some, values, again, second, few, about)
        return ExplainedMap(about=about, map=self._map(explainer, attribution.values[place], values)), found

    def reasoned(self, found: Sequence[Finding]) -> list[Finding]:
        """Adds to the faithfulness of the default method why it is the default.

        Args:
            found: rows and checks.

        Returns:
            The same, one of them with one more condition.
        """
        return [
            replace(one, conditions={**one.conditions, "chosen": self._chosen})
            if isinstance(one, Measurement) and one.name == "faithfulness" and one.conditions["primary"]
            else one
            for one in found
        ]

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
            groups = shown_groups(explainer, shown.records, values)
            found.append(shown.finding(explainer, one.about, by_feature, one.map.values, groups))
        return found

    def agreements(self, maps: Sequence[ExplainedMap]) -> list[Finding]:
        """Returns how alike the maps of each method and of integrated gradients are.

        Args:
            maps: of all methods.

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

    @cached_property
    def _middle(self) -> Tensor:
        """The mean of the background, for each record; one tensor for all methods, by which measures keep figures."""
        x = self._some.x
        return self._some.reference.background.to(x).mean(0, keepdim=True).expand_as(x)

    @cached_property
    def _baseline(self) -> Tensor:
        return self._some.reference.baseline(self._some.x)

    def _conditions(self, explainer: Explainer) -> dict[str, Any]:
        about = {"method": explainer.name, "primary": explainer is self._primary}
        return {**about, **settings_of(explainer), "reference": self._some.reference.source}

    def _values(self, explainer: Explainer, model: nn.Module, records: MeasuredRecords, x: Tensor) -> Attribution:
        return explainer.explain(model, x, records.target, records.reference, seed=self._subject.seed)

    def _again(self, explainer: Explainer, records: MeasuredRecords) -> ValuesOf:
        return lambda model: records.reference.by_feature(self._values(explainer, model, records, records.x).values)

    def _map(self, explainer: Explainer, entries: Tensor, values: Tensor) -> MeasuredMap:
        records = self._some
        return MeasuredMap(
            values=values,
            entries=entries,
            kind="contributions" if explainer.multiplies_by_change else "slopes",
            baseline=self._middle if explainer.from_background else self._baseline,
            of_others=lambda x, target: records.reference.by_feature(
                explainer.explain(self._subject.model, x, target, records.reference, seed=self._subject.seed).values
            ),
            again=lambda model, x: records.reference.by_feature(self._values(explainer, model, records, x).values),
        )


def settings_of(explainer: Explainer) -> dict[str, Any]:
    """Returns the settings of a method that its rows state.

    Args:
        explainer: the method.

    Returns:
        Those that are not the usual ones; of integrated gradients always the greatest number of points that is used.
    """
    stated = explainer.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    if not isinstance(explainer, IntegratedGradients):
        return stated
    points = explainer.points
    while 2 * points + 1 <= explainer.most:
        points = 2 * points + 1
    return {"points": points, **{key: value for key, value in stated.items() if key not in ("points", "most")}}


def _seconds(seconds: float, n: int, about: Mapping[str, object]) -> Measurement:
    return Measurement(name="explanation_seconds", value=seconds / n, unit="seconds", n=n, conditions=about)
