"""Can the model's explanations be trusted?"""

import copy
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from scipy.stats import rankdata
from torch import Tensor, nn

from assay import seeds, statistics
from assay.evaluations.base import Evaluation, Subject, estimated
from assay.explain.fidelity import deletion, insertion
from assay.explain.integrated_gradients import integrated_gradients
from assay.registry import register
from assay.results import Check, Measurement, beside, not_applicable
from assay.seeds import Draw

# Both maps are a gradient times the same (record − baseline): that factor alone makes their rankings agree by about
# one half where nothing of the weights is shared, so only what clearly exceeds it tells.
_MOST_SIMILAR = 0.7


@register("evaluation")
class Explanations(Evaluation):
    """Integrated gradients: completeness, deletion and insertion against a random map, and the randomised-weights test.

    A pixel or feature is "removed" by setting it to the mean of the training split, which is the baseline too.
    """

    name: Literal["explanations"] = "explanations"
    points: int = Field(default=64, ge=2)
    """Quadrature points of integrated gradients."""
    draws: int = Field(default=200, ge=50)

    def measure(self, subject: Subject) -> list[Measurement]:
        rows = subject.split.test
        x, _ = subject.records(rows)
        baseline = self._baseline(subject, x)
        with torch.no_grad():
            target = subject.model(x).argmax(1)
        map_ = integrated_gradients(subject.model, x, target, baseline=baseline, points=self.points)
        noise = Draw(seeds.stream(subject.seed, "random map"), total=len(x)).uniform(x)
        about = {
            "method": "integrated_gradients",
            "points": self.points,
            "replacement": "mean of the training split" if len(subject.split.train) else "mean of the given records",
        }
        if not bool(map_.completeness_error.isfinite().all()):
            why = "the model answers NaN or infinity, which nothing explains"
            return [not_applicable(name, why) for name in ("completeness_error", "deletion_gain", "insertion_gain")]
        scores = {"integrated_gradients": map_.values, "random": noise}
        found = [self._mean("completeness_error", map_.completeness_error, subject, "logits", about)]
        for name, curve in (("deletion", deletion), ("insertion", insertion)):
            areas = {key: curve(subject.model, x, target, score, replacement=baseline) for key, score in scores.items()}
            found += [
                self._mean(name, area, subject, "probability", {**about, "map": key}) for key, area in areas.items()
            ]
            sign = 1 if name == "insertion" else -1
            gain = sign * (areas["integrated_gradients"] - areas["random"])
            found.append(self._mean(f"{name}_gain", gain, subject, "probability", {**about, "against": "random map"}))
        return beside(
            found,
            [self._complete(map_.completeness_error), self._sane(subject, x, target, baseline, map_.values)],
        )

    def _baseline(self, subject: Subject, x: Tensor) -> Tensor:
        rows = subject.split.train
        return subject.records(rows)[0].mean(0, keepdim=True) if len(rows) else x.mean(0, keepdim=True)

    def _mean(
        self, name: str, values: Tensor, subject: Subject, unit: str, conditions: dict[str, object]
    ) -> Measurement:
        known = values.double().cpu().numpy()
        interval = statistics.bootstrap(
            lambda i: float(known[i].mean()),
            len(known),
            generator=seeds.stream(subject.seed, "bootstrap", name),
            draws=self.draws,
            groups=subject.groups(subject.split.test),
        )
        return estimated(
            name,
            interval,
            unit=unit,
            n=len(known),
            conditions=conditions,
        )

    @staticmethod
    def _complete(error: Tensor) -> Check:
        worst = float(error.max())
        return Check(
            rule="completeness",
            concerns="insertion_gain",
            verdict="warn" if worst > 0.1 else "pass",
            figure=worst,
            message=f"attributions miss the change of a record's logit by up to {worst:.3g} (limit 0.1): raise points",
        )

    def _sane(self, subject: Subject, x: Tensor, target: Tensor, baseline: Tensor, values: Tensor) -> Check:
        """A map that survives random weights explains the data, not the model (Adebayo et al. 2018)."""
        other = _randomised(subject.model, seeds.torch_seed(subject.seed, "random weights"))
        random = integrated_gradients(other, x, target, baseline=baseline, points=self.points).values
        similarity = _rank_similarity(values, random)
        return Check(
            rule="randomised_weights",
            concerns="insertion_gain",
            verdict="warn" if similarity > _MOST_SIMILAR else "pass",
            figure=similarity,
            message=f"with random weights the ranking of inputs keeps a correlation of {similarity:.2f} "
            f"(limit {_MOST_SIMILAR})",
        )


def _randomised(model: nn.Module, seed: int) -> nn.Module:
    """The same network with every weight drawn anew, at the scale it had."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            scale = float(parameter.std()) if parameter.numel() > 1 else 1.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator).to(parameter) * (scale or 1.0))
    return other


def _rank_similarity(one: Tensor, other: Tensor) -> float:
    """Mean over records of Spearman's correlation of the absolute attributions."""
    ranks = [rankdata(values.detach().flatten(1).abs().cpu().numpy(), axis=1) for values in (one, other)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return float(((centred[0] * centred[1]).sum(1) / np.maximum(scale, 1e-12)).mean())
