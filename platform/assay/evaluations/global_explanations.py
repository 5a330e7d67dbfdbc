"""What a model does over all test records, not in one of them: features by class, pairs, rules, counterfactuals."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from assay import seeds
from assay.evaluations.base import Evaluation
from assay.evaluations.explained_records import answers_differ, compared, keeps_records_away, reference_of
from assay.evaluations.global_attributions import ExplainedAll, numerical_errors
from assay.evaluations.global_counterfactuals import Counterfactual
from assay.evaluations.global_metrics import GLOBAL_METRICS, LOG_ODDS
from assay.evaluations.global_surrogates import Surrogate
from assay.evaluations.global_units import Units, answer_name, units_of, words_of_texts
from assay.evaluations.licences import is_public
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.base import Explainer, ExplanationError, RandomAnswersError
from assay.explain.global_.by_class import FEWEST, by_class, by_word, contrasts, strongest
from assay.explain.global_.interactions import MOST_FEATURES, averaged_pairs, pair_values
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.permutation import PermutationShapley
from assay.explain.methods.shapley import MOST_GROUPS, ExactShapley
from assay.explain.named_groups import Groups
from assay.explain.references import Reference
from assay.metrics import Metric
from assay.models.batches import respond
from assay.recipes import Recipe
from assay.registry import register
from assay.results import Finding, Measurement, ReasonCode, not_applicable

_OF_FEATURES = ("attribution_strength", "attribution_direction", "attribution_contrast")
_OF_PAIRS = ("interaction_strength",)
_OF_COLUMNS = (*Surrogate.names, *Counterfactual.names)
_OF_TABLES = (*_OF_PAIRS, *_OF_COLUMNS)
_TRIED = 4
"""Records that are asked twice, to find models that answer at random."""
_FEWEST_GROUPS, _MOST_GROUPS = 2, 256
_NO_TABLE = "it is asked of tables whose records are rows of columns"


@register("evaluation")
class GlobalExplanations(Evaluation):
    """Features by predicted class, interactions of pairs, a surrogate tree, and nearest counterfactuals.

    Explained are the log-odds of the predicted class, by integrated gradients; a model without a gradient is explained
    by Shapley values, exact ones of up to 14 features, else by random orders. Features are columns of a table, patches
    of an image, windows of a signal, words of a text, or groups that ``groups`` names. Interactions are asked of tables
    and of named groups, the tree and counterfactuals of tables alone.

    The baseline is the mean of the training split; the tree learns from training records; changed values of a
    counterfactual stay within the ranges of these. For a private recipe, whose ε pays for none of it, and for a
    federated one, whose records are never in one place, the baseline is a record of zeros, the tree learns from
    held-out records, and the ranges are the bounds of a valid input. So it is for every recipe of a cohort that has
    such a recipe, or else differences between recipes would be differences of their baselines.
    """

    looks_at = "decisions"
    name: Literal["global_explanations"] = "global_explanations"
    metrics: ClassVar[tuple[Metric, ...]] = GLOBAL_METRICS

    from_training: bool | None = None
    """Whether training records may serve as baseline, as learning records of the tree, and as ranges of values; by
    default where every recipe of the cohort may use them."""
    groups: Groups = Field(default=16)
    """Greatest number of patches of an image, or windows of a signal, from 2 to 256; or groups with names, of any
    records but texts, whose attributions and interactions are then those of the features; or ``correlated``, columns of
    a table that go together in the training records."""
    most_features: int = Field(default=64, ge=2)
    """Features that are reported, those with the greatest mean |attribution|."""
    pair_features: int = Field(default=8, ge=2, le=MOST_FEATURES)
    """Features whose interactions are measured, those with the greatest mean |attribution|; a record takes 2 to this
    power answers of the model."""
    pair_records: int = Field(default=60, ge=2)
    """Test records whose interactions are measured, stratified."""
    depth: int = Field(default=3, ge=1, le=8)
    """Questions in a row of the surrogate tree."""
    immutable: tuple[str, ...] | None = None
    """Columns that a counterfactual may not change; by default age, sex, gender, race and ethnicity where there are
    some. Those that the data set declares immutable stay too."""
    digits: int = Field(default=3, ge=1, le=7)
    """Digits of a column's range to which a counterfactual is rounded before its decision counts, and digits of the
    thresholds of the tree."""
    counterfactual_records: int = Field(default=60, ge=2)
    """Test records whose counterfactuals are searched, stratified."""
    few_changes: int = Field(default=3, ge=1)
    """Greatest number of numbers that change in a second search, whose results are the examples: the nearest
    counterfactual changes nearly all of them, which nobody can read."""
    examples: int = Field(default=5, ge=0)
    """Counterfactuals whose changes are shown, where the licence of the data lets everybody publish records."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap samples of an interval."""
    records: int | None = Field(default=None, ge=2)
    """Test records whose attributions are averaged, stratified; all by default, of texts as ``Subject.examined`` says.
    """

    @field_validator("groups")
    @classmethod
    def _some_groups(cls, groups: Groups) -> Groups:
        if isinstance(groups, int) and not _FEWEST_GROUPS <= groups <= _MOST_GROUPS:
            raise ValueError(f"{groups} groups: give {_FEWEST_GROUPS} to {_MOST_GROUPS}, or name them")
        return groups

    @property
    def of_training_records(self) -> bool:
        return self.from_training is not False

    def among(self, recipes: Iterable[Recipe]) -> "GlobalExplanations":
        return self.model_copy(update={"from_training": compared(self.from_training, recipes)})

    def sample(self, subject: Subject) -> np.ndarray:
        return subject.examined(subject.split.test, self.records)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows, text = self.sample(subject), subject.dataset.modality == "text"
        reference = reference_of(subject, from_training=self.reads_training(subject))
        try:
            units = units_of(subject.dataset, self.groups, reference)
            if units is None and not text:
                return _not_asked((*_OF_FEATURES, *_OF_TABLES), subject)
            if answers_differ(subject, rows[:_TRIED]):
                raise RandomAnswersError("the model answers the same record differently each time")
            explained = self._explained(subject, rows, units, reference)
        except ExplanationError as error:
            names = (*(("word_attribution",) if text else _OF_FEATURES), *_OF_TABLES)
            return [not_applicable(name, str(error), reason=error.reason) for name in names]
        errors = numerical_errors(explained)
        if units is None:
            return [*self._words(explained), *errors, *_not_asked(_OF_TABLES, subject)]
        found = [*self._features(explained, units), *errors]
        table = subject.dataset.modality == "tabular"
        pairs = self._pairs(explained, units) if table or units.kind == "group" else _not_asked(_OF_PAIRS, subject)
        return [*found, *pairs, *(self._of_the_table(subject, rows) if table else _not_asked(_OF_COLUMNS, subject))]

    def _of_the_table(self, subject: Subject, rows: np.ndarray) -> list[Finding]:
        """Returns what the surrogate tree and the counterfactuals of a table say."""
        reads = self.reads_training(subject)
        tree = Surrogate(subject=subject, depth=self.depth, digits=self.digits, from_training=reads, draws=self.draws)
        changes = Counterfactual(
            subject=subject,
            immutable=self.immutable,
            digits=self.digits,
            from_training=reads,
            few=self.few_changes,
            examples=self.examples,
            draws=self.draws,
        )
        return [*tree.measured(rows), *changes.measured(subject.chosen(rows, self.counterfactual_records))]

    def reads_training(self, subject: Subject) -> bool:
        """Returns whether training records serve as baseline and for the tree; see ``keeps_records_away``.

        Args:
            subject: the model with its data.

        Returns:
            True if they do.
        """
        held = len(subject.split.train) > 0
        return self.from_training is not False and not keeps_records_away(subject.recipe) and held

    def _explained(self, subject: Subject, rows: np.ndarray, units: Units | None, reference: Reference) -> ExplainedAll:
        """Returns the attributions of records to their predicted class."""
        x, _ = subject.records(rows)
        target = subject.decisions(respond(subject.model, x))
        explainer = self._explainer(subject, units)
        attribution = explainer.explain(subject.model, x, target, reference, seed=subject.seed)
        return ExplainedAll(
            subject=subject,
            rows=rows,
            x=x,
            target=target,
            reference=reference,
            attribution=attribution,
            about={"method": explainer.name, "baseline": _baseline(reference)},
        )

    def _explainer(self, subject: Subject, units: Units | None) -> Explainer:
        if not subject.why_no_gradient:
            return IntegratedGradients()
        if units is None:
            return PermutationShapley()
        inputs = subject.dataset.shape[0] if units.kind == "column" else self.groups
        count = inputs if isinstance(inputs, int) else len(units.names)
        return ExactShapley(groups=inputs) if count <= MOST_GROUPS else PermutationShapley(groups=inputs)

    def _features(self, explained: ExplainedAll, units: Units) -> list[Finding]:
        """Returns strength, direction and contrasts of features by predicted class."""
        subject, names = explained.subject, units.names
        values, target = units.summed(explained.attribution.values), explained.target.cpu().numpy()
        clusters, second = subject.clusters(explained.rows), explained.attribution.second
        shown = strongest(values, self.most_features)
        own = values[:, shown]
        again = None if second is None else units.summed(second)[:, shown]
        found: list[Finding] = []
        generator = seeds.stream(subject.seed, "bootstrap", "attribution_strength")
        for one in by_class(own, target, generator=generator, draws=self.draws, clusters=clusters):
            about = {
                **explained.about,
                "feature": names[shown[one.feature]],
                "class": answer_name(subject.dataset, one.target),
            }
            other = None if again is None else again[target == one.target, one.feature]
            others = (None, None) if other is None else (float(np.abs(other).mean()), float(other.mean()))
            for name, interval, second_value in zip(_OF_FEATURES, (one.strength, one.direction), others, strict=False):
                # By how much the figure itself differs where a second rule computes the attributions.
                off = {} if second_value is None else {"numerical_error": abs(second_value - interval.value)}
                found.append(estimated(name, interval, unit=LOG_ODDS, n=one.n, conditions={**about, **off}))
        for number, name in enumerate(subject.dataset.class_names):
            if (count := int((target == number).sum())) < FEWEST:
                why = f"the model gives this class to {count} of {len(target)} records"
                found.append(not_applicable(_OF_FEATURES[0], why, reason="too_few_records", **{"class": name}))
        return [*found, *self._contrasts(explained, own, [names[place] for place in shown])]

    def _contrasts(self, explained: ExplainedAll, values: np.ndarray, names: list[str]) -> list[Measurement]:
        subject = explained.subject
        target = explained.target.cpu().numpy()
        compared = contrasts(values, target, clusters=subject.clusters(explained.rows))
        if not compared:
            why = "fewer than two classes are given to two records each"
            return [not_applicable(_OF_FEATURES[2], why, reason="too_few_records")]
        return [
            estimated(
                _OF_FEATURES[2],
                one.difference,
                unit=LOG_ODDS,
                n=len(target),
                conditions={
                    **explained.about,
                    "feature": names[one.feature],
                    "class": answer_name(subject.dataset, one.target),
                    "p_holm": one.p_holm,
                },
            )
            for one in compared
        ]

    def _words(self, explained: ExplainedAll) -> list[Finding]:
        """Returns the words with the greatest mean attribution to each predicted class."""
        subject, name = explained.subject, "word_attribution"
        if not is_public(subject.dataset):
            why = f"words of these texts stand in no report: their licence is {subject.dataset.licence!r}"
            return [not_applicable(name, why, reason="not_public")]
        words = words_of_texts(subject, explained.rows)
        if words is None:
            return [not_applicable(name, "positions of these records cannot be told in words", reason="no_method")]
        values = explained.reference.by_feature(explained.attribution.values).flatten(1).double().cpu().numpy()
        found = by_word(
            values,
            words,
            explained.target.cpu().numpy(),
            generator=seeds.stream(subject.seed, "bootstrap", name),
            clusters=subject.clusters(explained.rows),
            draws=self.draws,
        )
        if not found:
            return [not_applicable(name, "no word stands in five texts of one class", reason="too_few_records")]
        return [
            estimated(
                name,
                one.value,
                unit=LOG_ODDS,
                n=one.n,
                conditions={**explained.about, "word": one.word, "class": answer_name(subject.dataset, one.target)},
            )
            for one in found
        ]

    def _pairs(self, explained: ExplainedAll, units: Units) -> list[Finding]:
        """Returns the interactions of the strongest features."""
        subject, name = explained.subject, "interaction_strength"
        if len(units.names) < 2:
            return [not_applicable(name, "there is one feature alone", reason="other_kind_of_records")]
        features = sorted(strongest(units.summed(explained.attribution.values), self.pair_features))
        rows = subject.chosen(explained.rows, self.pair_records)
        same = torch.from_numpy(_places(explained.rows, rows)).to(explained.x.device)
        about = {"baseline": _baseline(explained.reference), "features": len(features)}
        try:
            values = pair_values(
                subject.model,
                explained.x[same],
                explained.target[same],
                explained.reference,
                units.place.to(explained.x.device),
                features,
            )
        except ExplanationError as error:
            return [not_applicable(name, str(error), reason=error.reason, **about)]
        pairs = averaged_pairs(
            values,
            generator=seeds.stream(subject.seed, "bootstrap", name),
            draws=self.draws,
            clusters=subject.clusters(rows),
        )
        return [
            estimated(
                name,
                pair.strength,
                unit=LOG_ODDS,
                n=len(rows),
                conditions={
                    **about,
                    "first": units.names[features[pair.first]],
                    "second": units.names[features[pair.second]],
                    "direction": pair.direction.value,
                },
            )
            for pair in pairs
        ]


def _baseline(reference: Reference) -> str:
    """Returns what records are compared with, in words."""
    return reference.source


def _not_asked(names: Sequence[str], subject: Subject) -> list[Finding]:
    reason: ReasonCode = "other_kind_of_records"
    why = f"{_NO_TABLE}; these are {subject.dataset.modality}, shape {subject.dataset.shape}"
    return [not_applicable(name, why, reason=reason) for name in names]


def _places(held: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns where rows stand among others, in whatever order these are."""
    order = np.argsort(held)
    found: np.ndarray = order[np.searchsorted(held, rows, sorter=order)]
    return found
