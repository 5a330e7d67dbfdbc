"""Attention weights as a map: what a network reads, which need not be what its answer depends on."""

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay.explain.base import Explained, Explainer, ExplanationError
from assay.explain.references import Reference
from assay.registry import register


@register("explainer")
class Attention(Explainer):
    """Weights of a network's attention, the same for every class and never negative.

    They are no attribution: a head whose output is not used has weights too. So they are measured like any other map.
    """

    name: Literal["attention"] = "attention"
    title: ClassVar[str] = "Attention"
    adds_up: ClassVar[bool] = False
    needs_gradient: ClassVar[bool] = False

    @torch.no_grad()
    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        network: Any = getattr(model, "network", model)
        if getattr(network, "attention", None) is None or not hasattr(network, "attention_weights"):
            raise ExplanationError("the network has no attention")
        # One weight a word or a sample, for all entries of it.
        front = getattr(model, "front", None)
        weights: Tensor = network.attention_weights(x if front is None else front(x))
        along = -1 if reference.modality == "text" else 1
        return Explained(values=(weights.unsqueeze(along) / x.shape[along]).expand_as(x))
