"""Faithfulness, errors and cost of explanations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import intervals, seeds
from assay.evaluations.base import Evaluation, Subject, estimated
from assay.evaluations.explained_records import ExplainedRecords, averaged, sampled
from assay.evaluations.explanation_metrics import EXPLANATION_METRICS, SHARE, SHARE_OF_GREATEST
from assay.explain.base import Attribution, Explainer, ExplanationError
from assay.explain.measures.curves import deletion, insertion
from assay.explain.measures.randomisation import randomised, rank_agreement
from assay.explain.methods.attention import Attention
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.explain.scalars import log_odds
from assay.metrics import Metric
from assay.models.batches import respond
from assay.registry import choice_of, register
from assay.results import Check, Finding, Measurement, not_applicable

_LARGEST_ERROR = 0.1
"""Greatest error of a sum, as a share of the change, and of a value, as a share of the greatest, without a warning."""
_NEARLY_ALL = 0.99
"""Share of the records whose errors must be below."""
_MOST_SIMILAR = 0.7
"""Greatest likeness to a map of random weights where no second network can be trained: a convention."""
_SMALLEST = 1e-12

_Explain = Callable[[nn.Module], Tensor]


@register("evaluation")
class Explanations(Evaluation):
    """Errors of explanations, deletion and insertion against a random map, agreement, and time.

    Explained are the log-odds of the predicted class (by Deep SHAP, its lead), whose curves are measured. A feature is
    "removed" by setting it to the mean of the training split, which is also the baseline of integrated gradients; the
    background of SHAP is a sample of that split. Without a training split the given records are used. In text a feature
    is a word, whose whole vector is replaced by padding, and the baseline of integrated gradients is a word without a
    meaning in each place; in an image it is a pixel with all its channels. Integrated gradients also undergo the
    randomised-weights test, for which the recipe is trained once more with another seed where it is not private.
    """

    name: Literal["explanations"] = "explanations"
    metrics: ClassVar[tuple[Metric, ...]] = EXPLANATION_METRICS

    methods: tuple[choice_of("explainer"), ...] = Field(default=(), validate_default=True)  # type: ignore[valid-type]
    """Further explanation methods, beside integrated gradients, Deep SHAP, and the attention of a network with one."""
    points: int = Field(default=243, ge=3)
    """Greatest number of points of integrated gradients; taken are 9, 27, 81 …, or a third of it and three times that
    where it is below 27. Not used where ``methods`` names integrated gradients."""
    shap_records: int = Field(default=50, ge=1)
    """Records that are explained by methods that take a background; their cost grows with its size."""
    shap_background: int = Field(default=50, ge=2)
    """Training records of the background."""
    retrained: bool = True
    """Whether a second network is trained for the randomised-weights test."""
    draws: int = Field(default=200, ge=50)
    """Bootstrap samples of an interval."""
    records: int | None = Field(default=None, ge=2)
    """Test records that are explained, stratified; all by default, of texts as ``Subject.examined`` says."""

    def sample(self, subject: Subject) -> np.ndarray:
        return subject.examined(subject.split.test, self.records)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        rows = self.sample(subject)
        fewer = subject.chosen(rows, self.shap_records)
        same = torch.from_numpy(np.searchsorted(rows, fewer)).to(subject.device)
        records, some = ExplainedRecords.of(subject, rows), ExplainedRecords.of(subject, fewer)
        found: list[Finding] = []
        first: Tensor | None = None
        for explainer in self._explainers(subject):
            chosen = some if explainer.from_background else records
            values, findings = self._explained(explainer, chosen)
            found += findings
            if isinstance(explainer, IntegratedGradients):
                first = values
            elif values is not None and first is not None and not isinstance(explainer, Attention):
                other = first[same] if explainer.from_background else first
                found.append(self._agreement(explainer, chosen, values, other))
        return found

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

    def _explained(self, explainer: Explainer, records: ExplainedRecords) -> tuple[Tensor | None, list[Finding]]:
        """Returns the values of one method by feature, None where it gives none; and what was found."""
        subject = records.subject
        reference = sampled(subject, self.shap_background) if explainer.from_background else averaged(subject)
        about = self._conditions(explainer, records, reference)
        if explainer.needs_gradient and subject.why_no_gradient:
            why = f"{explainer.title} needs a gradient: {subject.why_no_gradient}"
            return None, _unanswered(explainer, why, "no_gradient", about)

        def values_of(model: nn.Module) -> Tensor:
            found = explainer.explain(model, records.x, records.target, reference, seed=subject.seed)
            return reference.by_feature(found.values)

        try:
            attribution = explainer.explain(subject.model, records.x, records.target, reference, seed=subject.seed)
        except ExplanationError as error:
            return None, _unanswered(explainer, str(error), error.reason, about)
        values = reference.by_feature(attribution.values)
        found = [*self._errors(explainer, attribution, records, about), *self._faithful(records, values, about)]
        found.append(_seconds(attribution.seconds, records, about))
        if isinstance(explainer, IntegratedGradients):
            found.append(self._depends_on_weights(records, values, values_of))
        return values, found

    def _conditions(self, explainer: Explainer, records: ExplainedRecords, reference: Reference) -> dict[str, Any]:
        about: dict[str, Any] = {"method": explainer.name, "replacement": records.replaced_by}
        if isinstance(explainer, IntegratedGradients):
            about["points"] = explainer.most
        else:
            about |= explainer.model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
        if explainer.from_background:
            about["background"] = reference.source
        return about

    def _errors(
        self, explainer: Explainer, attribution: Attribution, records: ExplainedRecords, about: Mapping[str, object]
    ) -> list[Finding]:
        """Returns the errors of sums and of values, where the method has them, with a check of each."""
        found: list[Finding] = []
        name, rule = _sum_of(explainer)
        sums = (name, rule, attribution.error, SHARE, "the values miss the change that they explain by")
        what = "two rules of a value differ by"
        single = ("value_error", "values_agree", attribution.value_error, SHARE_OF_GREATEST, what)
        advice = "; raise points" if isinstance(explainer, IntegratedGradients) else ""
        for metric, check, error, unit, told in (sums, single):
            if bool(error.isnan().any()):
                continue
            worst = float(error.double().quantile(_NEARLY_ALL))
            limit = f"limit {_LARGEST_ERROR:.0%}"
            found.append(self._mean(metric, error, records, unit, about))
            found.append(
                Check(
                    rule=check,
                    concerns="insertion_gain",
                    verdict="warn" if worst > _LARGEST_ERROR else "pass",
                    figure=worst,
                    message=f"{told} at most {worst:.1%} for 99 % of the records ({limit}){advice}",
                    conditions={"method": explainer.name},
                )
            )
        return found

    def _agreement(self, explainer: Explainer, records: ExplainedRecords, values: Tensor, other: Tensor) -> Measurement:
        about = {"method": explainer.name, "replacement": records.replaced_by, "against": "integrated_gradients"}
        agreement = torch.from_numpy(rank_agreement(values, other, records.features))
        return self._mean("explanation_agreement", agreement, records, "Spearman correlation", about)

    def _faithful(self, records: ExplainedRecords, values: Tensor, about: Mapping[str, object]) -> list[Finding]:
        """Measures deletion and insertion in the order of a map and in a random one, and the gain of the map."""
        subject, method = records.subject, str(about["method"])
        # Features with equal scores are taken in the order of the random map: a constant map gains exactly nothing.
        maps = {method: values, "random": records.ties}
        without = log_odds(respond(subject.model, records.replacement), records.target)
        change = (log_odds(respond(subject.model, records.x), records.target) - without).abs()
        found: list[Finding] = []
        for name, curve, sign in (("deletion", deletion, -1), ("insertion", insertion, 1)):
            areas = {
                key: curve(
                    subject.model,
                    records.x,
                    records.target,
                    scores,
                    replacement=records.replacement,
                    ties=records.ties,
                    features=records.features,
                )
                - without
                for key, scores in maps.items()
            }
            found += [
                self._mean(name, area, records, SHARE, {**about, "map": key}, per=change) for key, area in areas.items()
            ]
            gain = sign * (areas[method] - areas["random"])
            found.append(
                self._mean(f"{name}_gain", gain, records, SHARE, {**about, "against": "random map"}, per=change)
            )
        return found

    def _depends_on_weights(self, records: ExplainedRecords, values: Tensor, values_of: _Explain) -> Check:
        """Checks that random weights change the map more than another seed does; else it explains the data."""
        subject = records.subject
        other = randomised(subject.model, seeds.torch_seed(subject.seed, "random weights"))
        second = self._second_network(subject)
        random = _agreement_with(values, values_of, other, records)
        again = None if second is None else _agreement_with(values, values_of, second, records)
        if random is None:
            return _untested("whether the map depends on the weights is not tested: random weights give no numbers")
        if again is None:
            figure, limit = float(random.mean()), _MOST_SIMILAR
            told = f"with random weights the ranking of inputs keeps a correlation of {figure:.2f} (limit {limit})"
            verdict = "warn" if figure > limit else "pass"
        else:
            beyond = self._mean(
                "beyond",
                torch.from_numpy(again - random),
                records,
                "Spearman correlation",
                {},
            )
            figure = beyond.value
            verdict = "pass" if beyond.low > 0 else "warn"
            told = (
                f"the ranking of inputs is more like that of a network of another seed than that of random weights by "
                f"{figure:.2f} of correlation (must be above 0, with its interval from {beyond.low:.2f})"
            )
        return Check(
            rule="randomised_weights",
            concerns="insertion_gain",
            verdict=verdict,  # type: ignore[arg-type]
            figure=figure,
            message=told,
            conditions={"method": "integrated_gradients"},
        )

    def _second_network(self, subject: Subject) -> nn.Module | None:
        """Trains the recipe with another seed; None where that cannot be done, or would tell more than ε allows."""
        private = subject.recipe is not None and subject.recipe.privacy is not None
        if subject.train is None or private or not self.retrained or not len(subject.split.train):
            return None
        if subject.dataset.modality == "text":  # each network has word vectors of its own, and the records are vectors
            return None
        return subject.train(subject.split.train, "second network").eval()

    def _mean(
        self,
        name: str,
        values: Tensor,
        records: ExplainedRecords,
        unit: str,
        conditions: Mapping[str, object],
        *,
        per: Tensor | None = None,
    ) -> Measurement:
        """Returns the mean of a figure of each record, or its ratio to the mean of another."""
        known = values.double().cpu().numpy()
        scale = np.ones_like(known) if per is None else per.double().cpu().numpy()
        interval = intervals.bootstrap(
            lambda i: float(known[i].mean() / max(scale[i].mean(), _SMALLEST)),
            len(known),
            generator=seeds.stream(records.subject.seed, "bootstrap", name),
            draws=self.draws,
            groups=records.subject.clusters(records.rows),
        )
        return estimated(name, interval, unit=unit, n=len(known), conditions=conditions)


def _agreement_with(
    values: Tensor, values_of: _Explain, network: nn.Module, records: ExplainedRecords
) -> np.ndarray | None:
    """Returns how alike the maps of another network are, (n,); None where it gives no numbers."""
    try:
        return rank_agreement(values, values_of(network), records.features)
    except ExplanationError:
        return None


def _untested(why: str) -> Check:
    return Check(
        rule="randomised_weights",
        concerns="insertion_gain",
        verdict="warn",
        figure=0.0,
        message=why,
        conditions={"method": "integrated_gradients"},
    )


def _sum_of(explainer: Explainer) -> tuple[str, str]:
    """Returns the metric and the rule about the sum of a method's values."""
    return ("additivity_error", "additivity") if explainer.from_background else ("completeness_error", "completeness")


def _unanswered(explainer: Explainer, why: str, reason: Any, about: Mapping[str, Any]) -> list[Finding]:
    """Returns the questions about a method that has no answer."""
    names = [_sum_of(explainer)[0]] if explainer.adds_up else []
    names += ["deletion_gain", "insertion_gain", "explanation_seconds"]
    if not isinstance(explainer, IntegratedGradients | Attention):
        names.append("explanation_agreement")
    return [not_applicable(name, why, reason=reason, **about) for name in names]


def _seconds(seconds: float, records: ExplainedRecords, about: Mapping[str, object]) -> Measurement:
    n = len(records.x)
    return Measurement(name="explanation_seconds", value=seconds / n, unit="seconds", n=n, conditions=about)
