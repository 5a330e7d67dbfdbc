"""Explanations of single records: errors, faithfulness against controls, dependence on what was learnt, and cost."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.base import Dataset
from assay.errors import SpecError
from assay.evaluations.base import Evaluation, OwnTraining
from assay.evaluations.explained_maps import MapsOfSubject
from assay.evaluations.explained_records import (
    BACKGROUND,
    answers_differ,
    compared,
    keeps_records_away,
    learnt_by,
    measured_records,
    reference_of,
    why_not_learnt,
)
from assay.evaluations.explanation_gains import ExplainedMap, Gains
from assay.evaluations.explanation_metrics import EXPLANATION_METRICS
from assay.evaluations.explanation_secondary import metrics_of, secondary, why_unfit
from assay.evaluations.subject import Subject
from assay.explain.base import Explainer, ExplanationError
from assay.explain.defaults import COMMAND, Default, default_for
from assay.explain.measures.base import ExplanationMeasure
from assay.explain.measures.panel import Panel
from assay.explain.methods.attention import Attention
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.metrics import Metric
from assay.recipes import Recipe
from assay.registry import choice_of, methods, register
from assay.results import Finding

_TRIED = 4
"""Records that are asked twice, to find models that answer at random."""
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

    In text a feature is a word; in an image, a pixel with all its channels. The default method of the kind of records
    (``explain/defaults.py``) is the one of the scorecard: its rows have ``primary: true``. It
    undergoes the randomised-weights test, for which the recipe is trained once more with another seed where it is
    neither private nor federated. Recipes that are compared count from the same reference: see ``compared``.
    """

    name: Literal["explanations"] = "explanations"
    metrics: ClassVar[tuple[Metric, ...]] = EXPLANATION_METRICS + metrics_of(_FURTHER)

    methods: tuple[choice_of("explainer"), ...] = Field(default=(), validate_default=True)  # type: ignore[valid-type]
    """Further explanation methods, beside the default of the kind of records, integrated gradients, Deep SHAP, and the
    attention of a network with one."""
    measures: tuple[choice_of("explanation_measure"), ...] = Field(default=(), validate_default=True)  # type: ignore[valid-type]
    """Further measures of maps; ``deletion``, ``insertion`` and ``area_between`` are always measured."""
    points: int = Field(default=255, ge=3)
    """Greatest number of points of integrated gradients. It uses 3, 7, 15, 31, … points, or below 7 first 1 and then 3,
    as far as this number allows: 4, 5 and 6 do what 3 does, and 100 does what 63 does. Rows state the greatest number
    that may be used. Not used where ``methods`` names integrated gradients."""
    measured: int = Field(default=50, ge=2)
    """Records whose maps are compared with controls. With fewer than ten, or of fewer than ten patients, no map can be
    shown to be no better than a control."""
    control_draws: int = Field(default=20, ge=3)
    """Draws of each random control for a record."""
    steps: int = Field(default=25, ge=1)
    """Greatest number of steps of a curve."""
    shap_background: int = Field(default=BACKGROUND, ge=2)
    """Training records of the background."""
    examples: int = Field(default=4, ge=0, le=12)
    """Records that are kept with their maps for readers, where the licence lets everybody publish records."""
    from_training: bool | None = None
    """Whether training records serve as baseline and background; never those of a private or federated recipe. By
    default they do where every recipe of the cohort may use them."""
    retrained: bool = True
    """Whether a second network is trained for the randomised-weights test; never for a private or federated recipe, nor
    for texts."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap samples of an interval of a ratio."""
    records: int | None = Field(default=None, ge=2)
    """Test records from which those are taken, stratified; all by default, of texts as ``Subject.examined`` says.
    Integrated gradients explain all of them where they are the default, and other methods the ``measured`` ones."""

    def among(self, recipes: Iterable[Recipe]) -> "Explanations":
        # Refused here and not where settings are read, so that stored studies can be opened.
        for number, one in enumerate(self.methods):
            if one in self.methods[:number]:
                message = f"methods: {one.name} is named twice with the same settings; name it once"
                raise SpecError(message, setting="methods", given=one.name)
        return self.model_copy(update={"from_training": compared(self.from_training, recipes)})

    def own_training(self, recipe: Recipe, dataset: Dataset | None) -> OwnTraining | None:
        if keeps_records_away(recipe):
            return None
        trained = [one.title for one in self.measures if one.trains and _is_asked(one, dataset)]
        # Networks of texts have word vectors of their own, so no second one is trained.
        trained += ["another seed"] if self.retrained and (dataset is None or dataset.modality != "text") else []
        return OwnTraining(label=f"networks for maps: {', '.join(trained)}") if trained else None

    def sample(self, subject: Subject) -> np.ndarray:
        return subject.examined(subject.split.test, self.records)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = self.sample(subject)
        few = subject.chosen(rows, self.measured)
        reference = self.reference(subject)
        every, some = (measured_records(subject, chosen, reference) for chosen in (rows, few))
        if any(measure.trains for measure in self.measures):
            some = replace(some, learnt=learnt_by(subject))
        explainers, chosen = self._explainers(subject, reference)
        maps_of = MapsOfSubject(
            subject=subject, every=every, some=some, rows=rows, few=few, primary=explainers[0], chosen=chosen
        )
        if answers_differ(subject, rows[:_TRIED]):
            why = "the model answers the same record differently each time: a map would explain one draw"
            return [row for one in explainers for row in maps_of.unanswered(one, why, "random_answers")]
        found: list[Finding] = []
        by_method: list[tuple[Explainer, ExplainedMap]] = []
        for explainer in explainers:
            explained, rows_of_method = maps_of.explained(explainer, retrained=self.retrained)
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
                return [*found, *maps_of.unmeasured(maps, error)]
            found = maps_of.reasoned(found)
            unlearnt = why_not_learnt(subject)
            found += secondary(self._further(), maps, some, clusters, draws=self.control_draws, unlearnt=unlearnt)
            found += maps_of.examples(by_method, self.examples)
        return [*found, *maps_of.agreements(maps)]

    def _further(self) -> list[ExplanationMeasure]:
        return [one for one in self.measures if one.name not in _OF_CURVES]

    def reference(self, subject: Subject) -> Reference:
        """Returns what the records of a subject are compared with.

        Args:
            subject: the model with its data.

        Returns:
            The reference, with ``shap_background`` records where training records may serve.
        """
        return reference_of(subject, self.shap_background, from_training=self.from_training is not False)

    def default(self, subject: Subject, reference: Reference) -> Default:
        """Returns the method of the scorecard's figure with the settings of this evaluation, and why it is the one.

        Args:
            subject: the model with its data.
            reference: of the explanations.

        Returns:
            The method, as the service answers with it too.
        """
        explainers, reason = self._explainers(subject, reference)
        return Default(method=explainers[0], reason=reason)

    def _explainers(self, subject: Subject, reference: Reference) -> tuple[list[Explainer], str]:
        """Returns the methods that are measured, the default of the kind of records first, and why it is the default.

        A method that is named with settings takes the place of the usual one.
        """
        start = 3 if self.points >= 7 else 1
        usual: list[Explainer] = [IntegratedGradients(points=start, most=self.points), DeepShap()]
        network: Any = getattr(subject.model, "network", subject.model)
        if getattr(network, "attention", None) is not None and hasattr(network, "attention_weights"):
            usual.append(Attention())
        default = default_for(reference, gradient=not subject.why_no_gradient)
        name = default.method.name
        if name not in {one.name for one in usual}:
            usual.append(default.method)
        named: dict[str, Explainer] = {one.name: one for one in usual}
        replaced: set[str] = set()
        others: list[Explainer] = []
        for one in self.methods:
            if one.name in named and one.name not in replaced:
                named[one.name] = one
                replaced.add(one.name)
            else:
                others.append(one)
        primary = named.pop(name)
        own = (
            "" if primary == default.method else f"; its settings are the study's own, which {COMMAND} did not measure"
        )
        return [primary, *named.values(), *others], f"{default.reason}{own}"


def _is_asked(measure: ExplanationMeasure, dataset: Dataset | None) -> bool:
    """Returns whether a measure is asked of the records of a data set, as far as is known before these are prepared."""
    return dataset is None or not why_unfit(measure, dataset.modality, math.prod(dataset.shape))
