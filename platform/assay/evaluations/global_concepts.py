"""Which concepts move a network's answers: TCAV (Kim et al. 2018, arXiv:1711.11279), against random concepts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from assay import intervals, seeds
from assay.errors import UserError
from assay.evaluations.base import Evaluation
from assay.evaluations.concept_changes import CHANGE, compared_with_changes, concept_changes
from assay.evaluations.explained_records import answers_differ
from assay.evaluations.global_units import answer_name, words_of_texts
from assay.evaluations.shares import estimated
from assay.evaluations.subject import Subject
from assay.explain.base import ExplanationError, RandomAnswersError
from assay.explain.concepts.base import FEWEST_EXAMPLES, Concept, Pool
from assay.explain.concepts.blur import Blur
from assay.explain.concepts.border import Border
from assay.explain.concepts.bright_stripe import BrightStripe
from assay.explain.concepts.marker import Marker
from assay.explain.concepts.opacity import Opacity
from assay.explain.global_.concept_layers import ConceptLayer, gradients_at, layer_for_concepts
from assay.explain.global_.concepts import ConceptScore, ConceptScores, VectorKind, concept_vectors, random_sets, scored
from assay.explain.scalars import log_odds
from assay.intervals import Interval
from assay.metrics import Metric
from assay.registry import choice_of, register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.statistics import holm

_NAME = "concept_score"
_RANDOM = "random_concept_score"
_TRIED = 32
"""Records by which the layer is chosen, and that are asked twice."""
_OTHERS = 10
"""Random sets that each concept is separated from."""
_MOST_CLASSES = 10
_ALPHA = 0.05
_USUAL: tuple[Concept, ...] = (Marker(), Border(), Blur(), BrightStripe(), Opacity())
"""Concepts of images that are asked where a study names none."""


@register("evaluation")
class Concepts(Evaluation):
    """Whether concepts, such as a marker in the corner of an X-ray or a negation in a text, move a network's answers.

    A concept is given by examples: planted into images (``marker``, ``border``, ``blur``, ``bright_stripe``,
    ``opacity``), read from ``files``, or texts with one of some ``words``. Its vector, at a layer, leads from random
    records to these; its score is the share of test records whose log-odds of a class rise in that direction. Random
    concepts, which are sets of random records, say what a score is worth: the p-value is the rank of the concept's
    effect on the log-odds among theirs, with Holm's correction over concepts and classes. Of concepts that can be
    planted, the change of the log-odds by planting them is measured, too, without a layer; a check warns where it
    contradicts a score.

    Examples and random records are held-out records that are not examined; no training record is read. Of two classes
    the second one is explained, for the first is its opposite. Concepts of columns of a table are not asked: a column
    has a meaning of its own, and ``global_explanations`` speaks of it.
    """

    looks_at = "both"  # log-odds know no threshold, and the accuracy on the same records does
    name: Literal["concepts"] = "concepts"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=_NAME,
            title="Score of a concept",
            meaning="Share of test records whose log-odds of a class rise where the network's representation moves "
            "towards a concept: 1 speaks for the class in every record, 0 against it. It counts beside random concepts "
            "alone, by the p-value in its row.",
        ),
        Metric(
            name=_RANDOM,
            title="Score of random concepts",
            meaning="Mean score of concepts that are sets of random records. It should lie near 0.5; single ones may "
            "have any score.",
        ),
        CHANGE,
    )

    concepts: tuple[choice_of("concept"), ...] = Field(default=(), validate_default=True)  # type: ignore[valid-type]
    """Concepts, each with a name of its own; of images ``marker``, ``border``, ``blur``, ``bright_stripe`` and
    ``opacity`` by default."""
    layer: str | None = None
    """Name of the layer, as ``model.named_modules`` has it. By default that nearest to the answer which everything
    passes, whose output is one vector a record, without places, and behind which the architecture is not linear;
    trained weights have no influence. A layer that is named may have a linear network behind it."""
    vector: VectorKind = "difference"
    """Direction of a concept: ``difference``, by which it moves the mean activation, or ``logistic``, which separates
    it best from random records, as in the paper. The second misses concepts where activations are correlated."""
    size: int = Field(default=40, ge=FEWEST_EXAMPLES)
    """Greatest number of examples of a concept, and records of a random set."""
    random_sets: int = Field(default=200, ge=10, le=2000)
    """Random concepts. The least p-value is one over their number and one, and Holm's correction counts concepts ×
    classes that are explained (one of two classes, else up to ten): for all of k concepts × c classes to be able to be
    significant, there must be 20 k c or more. A warning says where none can be."""
    records: int = Field(default=200, ge=10)
    """Test records that are examined, stratified; at most a half of them, since others must serve as examples."""

    @field_validator("concepts")
    @classmethod
    def _have_names(cls, concepts: tuple[Concept, ...]) -> tuple[Concept, ...]:
        names = [one.shown for one in concepts]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two concepts are called {name!r}: give each a label of its own")
        return concepts

    @property
    def of_training_records(self) -> bool:
        return False

    def fingerprint(self) -> str:
        return " ".join(filter(None, (one.fingerprint() for one in self.concepts)))

    def sample(self, subject: Subject) -> np.ndarray:
        test = subject.split.test
        return subject.chosen(test, max(1, min(self.records, len(test) // 2)))

    def measure(self, subject: Subject) -> Sequence[Finding]:
        modality, asked = subject.dataset.modality, self.concepts or _USUAL
        fitting = [one for one in asked if modality in one.modalities]
        found: list[Finding] = [_of_other_records(one, modality) for one in asked if one not in fitting]
        if not fitting:
            return found if self.concepts else [_none_named(modality)]
        if subject.why_no_gradient:
            why = f"concepts need a gradient: {subject.why_no_gradient}"
            return [*found, *(not_applicable(_NAME, why, reason="no_gradient", concept=one.shown) for one in fitting)]
        rows = self.sample(subject)
        if answers_differ(subject, rows[:_TRIED]):
            random = RandomAnswersError("the model answers the same record differently each time")
            return [*found, *(_not_found(one, random) for one in fitting)]
        pool = _pool(subject, rows)
        changes = concept_changes(subject, rows, fitting, pool, _explained(subject))
        try:
            scores, others = self._measured(subject, rows, fitting, pool)
        except ExplanationError as error:
            return [*found, *(_not_found(one, error) for one in fitting), *changes]
        scores, checks = compared_with_changes(scores, changes)
        return [*found, *scores, *others, *changes, *checks]

    def _measured(
        self, subject: Subject, rows: np.ndarray, concepts: Sequence[Concept], pool: Pool
    ) -> tuple[list[Measurement], list[Finding]]:
        """Returns the rows of scores, and all others."""
        size = min(self.size, len(pool.x) // 2)
        if size < FEWEST_EXAMPLES:
            why = (
                f"{len(pool.x)} records are left for examples; {2 * FEWEST_EXAMPLES} are needed: raise split.validation"
            )
            return [], [not_applicable(_NAME, why, reason="too_few_records", concept=one.shown) for one in concepts]
        x, _ = subject.records(rows)
        first = torch.full((len(x),), subject.dataset.classes - 1, dtype=torch.long, device=x.device)
        layer = layer_for_concepts(subject.model, x[:_TRIED], first[:_TRIED], wanted=self.layer)
        found, by_size = self._examples(subject, concepts, pool, size)
        scores: list[_Scores] = []
        for count, examples in by_size.items():
            sets = random_sets(
                pool.x, size=count, count=self.random_sets, seed=seeds.torch_seed(subject.seed, "concepts")
            )
            vectors = concept_vectors(subject.model, layer.name, examples, sets, others=_OTHERS, kind=self.vector)
            for number in _explained(subject):
                target = torch.full_like(first, number)
                gradients = gradients_at(subject.model, layer.name, x, target, log_odds)
                if not np.isfinite(gradients).all():
                    why = "the model answers NaN or infinity, or its gradient is such"
                    silent = [not_applicable(_NAME, why, reason="no_finite_answers", concept=c.shown) for c in concepts]
                    return [], list(silent)
                scores.append(_Scores(number=number, size=count, scores=scored(vectors, gradients)))
        measured, random = _findings(subject, rows, concepts, scores, layer, vector=self.vector)
        return measured, [*found, *random]

    def _examples(
        self, subject: Subject, concepts: Sequence[Concept], pool: Pool, size: int
    ) -> tuple[list[Finding], dict[int, dict[str, torch.Tensor]]]:
        """Returns the examples of each concept by their number: random sets must be as large."""
        found: list[Finding] = []
        by_size: dict[int, dict[str, torch.Tensor]] = {}
        for one in concepts:
            # By its name: neither other concepts nor their order change what is drawn.
            draw = seeds.stream(subject.seed, "concept", one.shown)
            try:
                examples = one.examples(pool, size, draw)
            except UserError as error:
                found.append(_not_found(one, error))
                continue
            by_size.setdefault(len(examples), {})[one.shown] = examples
        return found, by_size


@dataclass(frozen=True, kw_only=True)
class _Scores:
    """Scores of concepts with equally many examples, for one class."""

    number: int
    size: int
    scores: ConceptScores


def _pool(subject: Subject, rows: np.ndarray) -> Pool:
    """Returns the held-out records that are not examined."""
    split, dataset = subject.split, subject.dataset
    held = np.setdiff1d(np.concatenate([split.validation, split.calibration, split.test]), rows)
    bounds = subject.bounds
    return Pool(
        x=subject.records(held)[0] if len(held) else subject.records(rows)[0][:0],
        modality=dataset.modality,
        low=bounds.low,
        high=bounds.high,
        words=words_of_texts(subject, held) if dataset.modality == "text" else None,
    )


def _explained(subject: Subject) -> list[int]:
    """Returns the classes that are explained: the second of two, else the first ten."""
    classes = subject.dataset.classes
    return [1] if classes == 2 else list(range(min(classes, _MOST_CLASSES)))


def _findings(
    subject: Subject,
    rows: np.ndarray,
    concepts: Sequence[Concept],
    found: Sequence[_Scores],
    layer: ConceptLayer,
    *,
    vector: VectorKind,
) -> tuple[list[Measurement], list[Finding]]:
    """Returns the rows of concepts, and those of random ones with their check."""
    clusters = subject.clusters(rows)
    about = {"layer": layer.name, "linear_behind": not layer.curved, "vector": vector}
    each = [(part, name, score) for part in found for name, score in part.scores.concepts.items()]
    corrected = holm([score.p for *_, score in each])
    described = {one.shown: one.described for one in concepts}
    measured = [
        _row(
            subject, part, score, {**about, "concept": name, "means": described[name], "p_holm": p_holm}, clusters
        ).warn(*_never_significant(len(each), len(part.scores.random)))
        for (part, name, score), p_holm in zip(each, corrected, strict=True)
    ]
    return measured, [row for part in found for row in _of_random(subject, part, about)]


def _never_significant(tests: int, random: int) -> list[str]:
    """Returns a warning where no concept can be significant after Holm's correction, however few random ones reach it.

    Args:
        tests: concepts × classes.
        random: random concepts.
    """
    if tests / (random + 1) < _ALPHA:
        return []
    return [
        f"no concept can be significant: the least p of {random} random concepts is 1 / {random + 1}, and Holm's "
        f"correction multiplies it by {tests} concepts × classes; set random_sets to {round(tests / _ALPHA)} or more, "
        "or ask fewer concepts"
    ]


def _row(
    subject: Subject, part: _Scores, score: ConceptScore, about: Mapping[str, Any], clusters: np.ndarray | None
) -> Measurement:
    rising = np.array(score.rising)
    low, high = np.quantile(part.scores.random, [0.025, 0.975])
    conditions = {
        **about,
        "class": answer_name(subject.dataset, part.number),
        "p": score.p,
        "alignment": score.alignment,
        "effect": score.effect,
        "examples": part.size,
        "random_low": float(low),
        "random_high": float(high),
    }
    return estimated(_NAME, _interval(rising, clusters), n=len(rising), conditions=conditions)


def _interval(rising: np.ndarray, clusters: np.ndarray | None) -> Interval:
    """Returns the share with its binomial interval; by Student's t where records stay as they are, and count half."""
    if np.isin(rising, (0.0, 1.0)).all():
        hits = rising == 1
        if clusters is None:
            return intervals.proportion(int(hits.sum()), len(hits))
        return intervals.proportion_of_clusters(hits, clusters)
    found = intervals.mean(rising, clusters).interval
    return Interval(value=found.value, low=max(0.0, found.low), high=min(1.0, found.high))


def _of_random(subject: Subject, part: _Scores, about: Mapping[str, Any]) -> list[Finding]:
    scores = part.scores
    conditions = {
        **about,
        "class": answer_name(subject.dataset, part.number),
        "examples": part.size,
        "binomial_low": scores.low,
        "binomial_high": scores.high,
    }
    interval = _interval(np.array(scores.random), None)
    count = len(scores.random)
    told = (
        f"the mean score of {count} random concepts is {scores.random_mean:.2f}; chance gives "
        f"{scores.low:.2f} to {scores.high:.2f}"
    )
    check = Check(
        rule="random_concepts_are_even",
        concerns=_NAME,
        verdict="pass" if scores.random_is_fair else "warn",
        figure=scores.random_mean,
        message=told if scores.random_is_fair else f"random records differ among themselves: {told}",
        conditions={"class": conditions["class"], "examples": part.size},
    )
    return [estimated(_RANDOM, interval, n=count, conditions=conditions), check]


def _of_other_records(one: Concept, modality: str) -> Measurement:
    why = f"the concept {one.shown!r} is one of {' and '.join(one.modalities)} records; these are {modality}"
    return not_applicable(_NAME, why, reason="other_kind_of_records", concept=one.shown)


def _none_named(modality: str) -> Measurement:
    why = {
        "tabular": "a column of a table has a meaning of its own: global_explanations speaks of it",
        "text": "no concept is named: give lists of words, as {name: words, label: negation, words: [no, not]}",
    }.get(modality, "no concept is named: give examples, as {name: files, path: concepts/tube.npy}")
    return not_applicable(_NAME, why, reason="not_asked" if modality != "tabular" else "other_kind_of_records")


def _not_found(one: Concept, error: UserError) -> Measurement:
    """Returns the row of a concept without a score; files that cannot be used are a failure, and name themselves."""
    if isinstance(error, ExplanationError):
        return not_applicable(_NAME, str(error), reason=error.reason, concept=one.shown)
    return Measurement(
        name=_NAME, status="failed", reason="error", conditions={"concept": one.shown}, warnings=(str(error),)
    )
