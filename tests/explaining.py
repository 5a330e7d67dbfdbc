"""Explanations of records with a reference that a test gives as a tensor."""

import torch
from torch import Tensor, nn

from assay.data.base import Modality
from assay.explain.base import Attribution
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.curves import Areas, areas
from assay.explain.measures.replacements.base import Fill
from assay.explain.methods.deep_shap import DeepShap
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference


def reference(background: Tensor, modality: Modality = "tabular") -> Reference:
    """A reference whose baseline is the mean of the background, or in text words without a meaning."""
    return Reference(modality=modality, background=background, source="records of a test")


def integrated_gradients(
    model: nn.Module, x: Tensor, target: Tensor, *, baseline: Tensor, points: int = 81, modality: Modality = "tabular"
) -> Attribution:
    """Integrated gradients with a fixed number of points."""
    explainer = IntegratedGradients(points=points, most=points)
    return explainer.explain(model, x, target, reference(baseline.expand(1, *x.shape[1:]), modality))


def deep_shap(model: nn.Module, x: Tensor, target: Tensor, *, background: Tensor) -> Attribution:
    """Deep SHAP."""
    return DeepShap().explain(model, x, target, reference(background))


def measured(model: nn.Module, x: Tensor, target: Tensor, modality: Modality = "tabular") -> MeasuredRecords:
    """Records that are measured, each of which may be replaced by the others."""
    return MeasuredRecords(model=model, x=x, target=target, reference=reference(x, modality), pool=x, seed=0)


def by(records: MeasuredRecords, replacement: Tensor) -> Fill:
    """Replaces removed features by given values, which broadcast to the records."""
    values = replacement.to(records.x).expand_as(records.x)
    return lambda rows, removed: torch.where(removed, values[rows], records.x[rows])


def curves(  # noqa: PLR0917
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    scores: Tensor,
    replacement: Tensor,
    ties: Tensor | None = None,
    features: Tensor | None = None,
    steps: int = 50,
) -> Areas:
    """Areas under the curves of a map with a replacement, an order of ties and features that a test gives."""
    records = measured(model, x, target)
    vars(records)["ties"] = scores if ties is None else ties
    if features is not None:
        vars(records)["features"] = features
    return areas(records, scores, by(records, replacement), steps=steps)
