"""Deep SHAP: Shapley values by DeepLIFT over background records (Lundberg & Lee 2017, arXiv:1705.07874)."""

import copy
import warnings
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, ExplanationError
from assay.explain.references import Reference
from assay.explain.scalars import Scalar, lead
from assay.registry import register

_ROUNDING = 1e-10
"""Changes below this share of the greatest logit are rounding in float64."""
_LARGEST_ERROR = 1e-4
"""Greatest difference between the sum of the values and the change, relative to the change or the greatest value.
It separates an unsupported layer from rounding in float64, however small or large the logits are."""
_MIXING = (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d)
"""Layers whose entries depend on each other: the values would add up, and be wrong."""


@register("explainer")
class DeepShap(Explainer):
    """Rules of DeepLIFT, by the library shap on a float64 copy, where they are exact; else refused with the layer.

    Every operation except addition and slicing must be a module of its own. The scalar is linear in the logits, as the
    rules need. The cost grows with the number of background records.
    """

    name: Literal["deep_shap"] = "deep_shap"
    title: ClassVar[str] = "Deep SHAP"
    scalar: ClassVar[Scalar] = staticmethod(lead)

    @property
    def from_background(self) -> bool:
        return True

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        network = copy.deepcopy(model).double().eval()
        if bad := [type(layer).__name__ for layer in network.modules() if isinstance(layer, _MIXING)]:
            raise ExplanationError(_cannot(network, f"the library treats {bad[0]} as if it worked on each entry alone"))
        for layer in network.modules():
            if hasattr(layer, "inplace"):
                layer.inplace = False  # type: ignore[assignment]
        records, background = x.detach().double(), reference.background.to(x.device).double()
        values = torch.zeros_like(records)
        for chosen in target.unique().tolist():
            rows = target == chosen
            values[rows] = _values(_Lead(network, chosen), records[rows], background)
        with torch.no_grad():
            try:
                logits, neutral = network(records), network(background)
            except RuntimeError as error:
                raise ExplanationError(_cannot(network, f"it does not run in float64: {error}")) from None
        change = lead(logits, target) - torch.stack([lead(neutral, one.expand(len(neutral))).mean() for one in target])
        floor = (_ROUNDING * torch.maximum(logits.abs().amax(1), neutral.abs().max())).clamp_min(1e-300)
        scale = torch.maximum(torch.maximum(change.abs(), values.flatten(1).abs().amax(1)), floor)
        worst = float(((values.flatten(1).sum(1) - change).abs() / scale).max())
        if not worst <= _LARGEST_ERROR:
            raise ExplanationError(_cannot(network, f"the values miss the change of the answer by {worst:.1%} of it"))
        return Explained(values=values.to(x))


class _Lead(nn.Module):
    """The target's logit minus the mean of the others, as a column, by a linear layer, which the library knows."""

    def __init__(self, model: nn.Module, chosen: int) -> None:
        super().__init__()
        self.model, self.chosen = model, chosen
        self.difference: nn.Linear | None = None

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        if self.difference is None:
            classes = logits.shape[1]
            weight = torch.full((1, classes), -1 / (classes - 1), dtype=logits.dtype, device=logits.device)
            weight[0, self.chosen] = 1.0
            self.difference = nn.Linear(classes, 1, bias=False).to(logits)
            self.difference.weight.data = weight
        out: Tensor = self.difference(logits)
        return out


def _values(network: _Lead, x: Tensor, background: Tensor) -> Tensor:
    import shap

    with torch.no_grad():
        network(background[:1])  # makes the linear layer, before the library adds its hooks
    with warnings.catch_warnings(), torch.enable_grad():
        # The library treats an unknown layer as linear; the sum of the values shows where that is wrong.
        warnings.filterwarnings("ignore", message="unrecognized nn.Module", category=UserWarning)
        try:
            explainer = shap.DeepExplainer(network, background)
            values = explainer.shap_values(x, check_additivity=False)
        except Exception as error:  # the library raises many types for an unsupported layer
            raise ExplanationError(_cannot(network.model, f"{type(error).__name__}: {error}")) from None
    return torch.from_numpy(values[..., 0]).to(x)


def _cannot(model: nn.Module, why_not: str) -> str:
    from shap.explainers._deep.deep_pytorch import op_handler

    kinds = {type(layer).__name__ for layer in model.modules() if not list(layer.children())}
    unknown = sorted(kinds - set(op_handler))
    why = (
        f"it does not know {', '.join(unknown)}, and takes an unknown layer to be linear"
        if unknown
        else "every operation must be a layer of its own, used once; pooling windows must not overlap"
    )
    return f"SHAP cannot explain this network: {why}. It said: {why_not}"
