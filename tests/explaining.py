"""Explanations of records with a reference that a test gives as a tensor."""

from torch import Tensor, nn

from assay.data.base import Modality
from assay.explain.base import Attribution
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
