"""Faithfulness, additivity and cost of explanations."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.stats import rankdata
from torch import Tensor, nn

from assay import intervals, seeds
from assay.evaluations.base import Evaluation, Subject, estimated
from assay.explain.deep_shap import ExplanationError, deep_shap
from assay.explain.fidelity import deletion, insertion
from assay.explain.integrated_gradients import blank_words, integrated_gradients
from assay.metrics import SIGNED, Metric, ScorecardColumn
from assay.models.batches import places, respond
from assay.registry import register
from assay.results import Check, Finding, Measurement, not_applicable
from assay.seeds import Draw

# Both maps are a gradient times the same (record − baseline): that factor alone makes their rankings agree by about
# one half where nothing of the weights is shared, so only what clearly exceeds it tells.
_MOST_SIMILAR = 0.7
_MOST_AVERAGED = 2000
"""Records whose mean replaces a missing feature."""
_QUESTIONS = (
    "completeness_error",
    "deletion_gain",
    "insertion_gain",
    "additivity_error",
    "explanation_agreement",
    "explanation_seconds",
)
"""Metrics of explanations, which are listed also where nothing can be explained."""
_ENTRIES_OF_A_FEATURE = {"text": -1, "image": 1}
"""The axis whose entries make up one feature: the numbers of a word's vector, the channels of a pixel."""


@register("evaluation")
class Explanations(Evaluation):
    """Integrated gradients and SHAP: additivity, deletion and insertion against a random map, agreement, and time.

    A feature is "removed" by setting it to the mean of the training split, which is also the baseline of integrated
    gradients; SHAP's background is a sample of that split. Without a training split the given records are used. In text
    a feature is a word, whose whole vector is replaced by padding, and the baseline of integrated gradients is a word
    without a meaning in each place; in an image it is a pixel with all its channels. Integrated gradients also undergo
    the randomised-weights test.
    """

    name: Literal["explanations"] = "explanations"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="insertion_gain",
            title="Fidelity gain",
            meaning="How much faster the prediction returns when inputs are restored in the explanation's order than "
            "in random order; 0 means that the explanation is no better than chance.",
            unit="probability",
            better="higher",
            limits=SIGNED,
            columns=(
                ScorecardColumn(
                    key="insertion",
                    group="explanation",
                    place=10,
                    where={"method": "integrated_gradients"},
                    shown="number",
                    sampled=True,
                ),
            ),
        ),
        Metric(
            name="deletion_gain",
            title="Deletion gain",
            meaning="How much faster the prediction falls when inputs are removed in the explanation's order than in "
            "random order.",
            unit="probability",
            better="higher",
            limits=SIGNED,
        ),
        Metric(
            name="insertion",
            title="Insertion",
            meaning="Mean probability of the prediction while inputs are restored in the order of a map.",
            unit="probability",
        ),
        Metric(
            name="deletion",
            title="Deletion",
            meaning="Mean probability of the prediction while inputs are removed in the order of a map.",
            unit="probability",
        ),
        Metric(
            name="completeness_error",
            title="Completeness error",
            meaning="Difference between the sum of the attributions and the change of the logit that they explain.",
            unit="logits",
            better="lower",
        ),
        Metric(
            name="additivity_error",
            title="Additivity error",
            meaning="Difference between the sum of the SHAP values and the change of the logit that they explain.",
            unit="logits",
            better="lower",
        ),
        Metric(
            name="explanation_agreement",
            title="Agreement of explanations",
            meaning="Rank correlation of SHAP and integrated gradients over the features of a record.",
            unit="Spearman correlation",
            better="higher",
        ),
        Metric(
            name="explanation_seconds",
            title="Time of an explanation",
            meaning="Wall time of explaining one record.",
            unit="seconds",
            better="lower",
        ),
    )

    points: int = Field(default=64, ge=2)
    """Quadrature points of integrated gradients."""
    shap_records: int = Field(default=50, ge=1)
    """How many of the explained records SHAP explains too; it costs as much as its background is large."""
    shap_background: int = Field(default=50, ge=2)
    """Training records of SHAP's background."""
    draws: int = Field(default=200, ge=50)
    records: int | None = Field(default=None, ge=2)
    """Test records that are explained, stratified; all by default, of texts as ``Subject.examined`` says."""

    def sample(self, subject: Subject) -> np.ndarray:
        return subject.examined(subject.split.test, self.records)

    def measure(self, subject: Subject) -> Sequence[Finding]:
        if subject.why_no_gradient:
            why = f"integrated gradients and Deep SHAP need a gradient: {subject.why_no_gradient}"
            return [not_applicable(name, why, reason="no_gradient") for name in _QUESTIONS]
        rows = self.sample(subject)
        records = _ExplainedRecords.of(subject, rows)
        about = {"method": "integrated_gradients", "points": self.points, "replacement": records.replacement}
        started = time.perf_counter()
        gradients = integrated_gradients(
            subject.model, records.x, records.target, baseline=records.start, points=self.points
        )
        seconds = time.perf_counter() - started
        if not bool(gradients.error.isfinite().all()):
            why = "the model answers NaN or infinity, which nothing explains"
            return [not_applicable(name, why, reason="no_finite_answers") for name in _QUESTIONS]
        found: list[Finding] = [
            self._mean("completeness_error", gradients.error, records, "logits", about),
            *self._faithful(records, gradients.values, about),
            _seconds(seconds, records, about),
        ]
        found += [_complete(gradients.error), _sane(records, gradients.values), *self._attention(records)]
        fewer = subject.chosen(rows, self.shap_records)
        same = torch.from_numpy(np.searchsorted(rows, fewer)).to(subject.device)
        return found + self._shap(_ExplainedRecords.of(subject, fewer), gradients.values[same])

    def _shap(self, records: "_ExplainedRecords", gradients: Tensor) -> list[Finding]:
        """Measures SHAP in the same way, on fewer records, and the agreement of the two maps."""
        names = ("additivity_error", "insertion_gain", "explanation_agreement")
        about = {"method": "shap", "replacement": records.replacement}
        held, whose = _background(records.subject)
        chosen = seeds.stream(records.subject.seed, "background").permutation(held)[: self.shap_background]
        about["background"] = f"{len(chosen)} of the {whose}"
        started = time.perf_counter()
        try:
            shap = deep_shap(
                records.subject.model, records.x, records.target, background=records.subject.records(np.sort(chosen))[0]
            )
        except ExplanationError as error:
            return [not_applicable(name, str(error), reason="no_method", **about) for name in names]
        seconds = time.perf_counter() - started
        agreement = _rank_agreement(records.whole(shap.values), records.whole(gradients), records.features)
        worst = float(shap.error.max())
        return [
            self._mean("additivity_error", shap.error, records, "logits", about),
            *self._faithful(records, shap.values, about),
            self._mean(
                "explanation_agreement",
                torch.from_numpy(agreement),
                records,
                "Spearman correlation",
                {**about, "against": "integrated_gradients"},
            ),
            _seconds(seconds, records, about),
            Check(
                rule="additivity",
                concerns="insertion_gain",
                verdict="warn" if worst > 0.1 else "pass",
                figure=worst,
                message=f"SHAP values miss the change of a record's logit by up to {worst:.3g} (limit 0.1)",
                conditions={"method": "shap"},
            ),
        ]

    def _attention(self, records: "_ExplainedRecords") -> list[Finding]:
        """Measures the weights of a network with attention as an explanation, like any other."""
        network: Any = getattr(records.subject.model, "network", records.subject.model)
        if getattr(network, "attention", None) is None or not hasattr(network, "attention_weights"):
            return []
        with torch.no_grad():
            weights = torch.cat(
                [network.attention_weights(records.x[p]) for p in places(len(records.x), tuple(records.x.shape[1:]))]
            )
        along = -1 if records.subject.dataset.modality == "text" else 1
        about = {"method": "attention", "replacement": records.replacement}
        return self._faithful(records, weights.unsqueeze(along), about)

    def _faithful(self, records: "_ExplainedRecords", values: Tensor, about: Mapping[str, object]) -> list[Finding]:
        """Measures deletion and insertion in the order of a map and in a random one, and the gain of the map."""
        scores = records.whole(values)
        noise = Draw(seeds.stream(records.subject.seed, "random map"), total=len(records.x)).uniform(scores)
        maps = {str(about["method"]): scores, "random": noise}
        found: list[Finding] = []
        for name, curve, sign in (("deletion", deletion, -1), ("insertion", insertion, 1)):
            areas = {
                key: curve(
                    records.subject.model,
                    records.x,
                    records.target,
                    map_,
                    replacement=records.baseline,
                    features=records.features,
                    task=records.subject.task,
                )
                for key, map_ in maps.items()
            }
            found += [
                self._mean(name, area, records, "probability", {**about, "map": key}) for key, area in areas.items()
            ]
            gain = sign * (areas[str(about["method"])] - areas["random"])
            found.append(self._mean(f"{name}_gain", gain, records, "probability", {**about, "against": "random map"}))
        return found

    def _mean(
        self, name: str, values: Tensor, records: "_ExplainedRecords", unit: str, conditions: Mapping[str, object]
    ) -> Measurement:
        known = values.double().cpu().numpy()
        interval = intervals.bootstrap(
            lambda i: float(known[i].mean()),
            len(known),
            generator=seeds.stream(records.subject.seed, "bootstrap", name),
            draws=self.draws,
            groups=records.subject.clusters(records.rows),
        )
        return estimated(name, interval, unit=unit, n=len(known), conditions=conditions)


@dataclass(frozen=True, kw_only=True)
class _ExplainedRecords:
    """Some test records, the predicted classes, and the replacement of a missing feature."""

    subject: Subject
    rows: np.ndarray
    x: Tensor
    target: Tensor
    """(n,) the predicted class, whose logit is explained."""
    baseline: Tensor
    replacement: str

    @classmethod
    def of(cls, subject: Subject, rows: np.ndarray) -> "_ExplainedRecords":
        x, _ = subject.records(rows)
        baseline, replacement = _nothing(subject, x)
        return cls(
            subject=subject,
            rows=rows,
            x=x,
            target=subject.decisions(respond(subject.model, x)),
            baseline=baseline,
            replacement=replacement,
        )

    @property
    def start(self) -> Tensor:
        """The baseline of integrated gradients. In text, words without a meaning, not padding: the path would begin
        with a jump where a network stops skipping padding.
        """
        return blank_words(self.x) if self.subject.dataset.modality == "text" else self.baseline

    @property
    def features(self) -> Tensor | None:
        """Which features exist, in the shape of ``whole``: in text, words; None where all do."""
        return (self.x != 0).any(-1, keepdim=True) if self.subject.dataset.modality == "text" else None

    def whole(self, values: Tensor) -> Tensor:
        """Returns one score for each feature, the sum of its entries; broadcastable to the records."""
        axis = _ENTRIES_OF_A_FEATURE.get(self.subject.dataset.modality)
        return values if axis is None else values.sum(axis, keepdim=True)


def _nothing(subject: Subject, x: Tensor) -> tuple[Tensor, str]:
    """Returns the replacement of a missing feature, and its description."""
    if subject.dataset.modality == "text":
        return torch.zeros_like(x[:1]), "padding, as if no word stood there"
    held, whose = _background(subject)
    some = subject.chosen(held, _MOST_AVERAGED)
    told = f"mean of the {whose}" if len(some) == len(held) else f"mean of {len(some)} of the {whose}"
    return subject.records(some)[0].mean(0, keepdim=True), told


def _background(subject: Subject) -> tuple[np.ndarray, str]:
    """Returns records for averages and backgrounds, and their description."""
    rows = subject.split
    return (rows.train, "training records") if len(rows.train) else (rows.test, "given records")


def _seconds(seconds: float, records: _ExplainedRecords, about: Mapping[str, object]) -> Measurement:
    n = len(records.x)
    return Measurement(name="explanation_seconds", value=seconds / n, unit="seconds", n=n, conditions=about)


def _complete(error: Tensor) -> Check:
    worst = float(error.max())
    return Check(
        rule="completeness",
        concerns="insertion_gain",
        verdict="warn" if worst > 0.1 else "pass",
        figure=worst,
        message=f"attributions miss the change of a record's logit by up to {worst:.3g} (limit 0.1): raise points",
        conditions={"method": "integrated_gradients"},
    )


def _sane(records: _ExplainedRecords, values: Tensor) -> Check:
    """Checks that random weights change the map (Adebayo et al. 2018); otherwise it explains the data."""
    other = _randomised(records.subject.model, seeds.torch_seed(records.subject.seed, "random weights"))
    random = integrated_gradients(other, records.x, records.target, baseline=records.start).values
    similarity = float(_rank_agreement(records.whole(values), records.whole(random), records.features).mean())
    return Check(
        rule="randomised_weights",
        concerns="insertion_gain",
        verdict="warn" if similarity > _MOST_SIMILAR else "pass",
        figure=similarity,
        message=f"with random weights the ranking of inputs keeps a correlation of {similarity:.2f} "
        f"(limit {_MOST_SIMILAR})",
        conditions={"method": "integrated_gradients"},
    )


def _randomised(model: nn.Module, seed: int) -> nn.Module:
    """Returns the network with every weight drawn again, at its scale."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            scale = float(parameter.std()) if parameter.numel() > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator).to(parameter) * (scale or 1.0))
    return other


def _rank_agreement(one: Tensor, other: Tensor, features: Tensor | None) -> np.ndarray:
    """Returns Spearman's correlation of the absolute attributions of each record, (n,)."""
    size = [values.detach().flatten(1).abs().cpu().numpy() for values in (one, other)]
    if features is None:
        return _spearman(*size)
    real = features.flatten(1).cpu().numpy()
    return np.array([_spearman(*(values[i][None, real[i]] for values in size))[0] for i in range(len(real))])


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the rank correlation of each row, (n,); 0 where a row is constant."""
    ranks = [rankdata(values, axis=1) for values in (one, other)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return (centred[0] * centred[1]).sum(1) / np.maximum(scale, 1e-12)
