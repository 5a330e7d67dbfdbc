"""How Assay, Captum and shap are asked for an explanation of the same network and records."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import assay.explain.methods
from assay.data.base import Modality
from assay.errors import UserError
from assay.explain.base import Attribution
from assay.explain.references import Reference
from assay.registry import build

CLASS_1 = torch.tensor([1])


def reference(background: Tensor, modality: Modality = "tabular") -> Reference:
    """What records are compared with; the baseline is the mean of the background."""
    return Reference(modality=modality, background=background, source="given records")


def assay(  # noqa: PLR0917
    method: str | dict[str, Any],
    model: nn.Module,
    x: Tensor,
    background: Tensor,
    target: Tensor | None = None,
    modality: Modality = "tabular",
    seed: int = 0,
) -> Attribution:
    """Explains class 1, or the given targets."""
    target = torch.ones(len(x), dtype=torch.long) if target is None else target
    explainer = build("explainer", method)
    return explainer.explain(model, x, target, reference(background, modality), seed=seed)  # type: ignore[attr-defined]


class PeerRefusedError(UserError):
    """A peer says that it cannot explain this network."""


def captum(method: str, model: Any, x: Tensor, /, *made: Any, **settings: Any) -> Tensor:
    """Explains the logit of class 1, as Captum is called by its users."""
    import captum.attr

    settings = {"target": 1, **settings}
    try:
        return getattr(captum.attr, method)(model, *made).attribute(x, **settings).detach()
    except RuntimeError as error:
        if "used only once" in str(error):
            raise PeerRefusedError(str(error)) from None
        raise


def shap_gradient(model: nn.Module, x: Tensor, background: Tensor, **settings: Any) -> Any:
    """shap's GradientExplainer, the values of class 1, in single precision, which it demands."""
    import shap

    model, x, background = copy.deepcopy(model).float(), x.float(), background.float()
    found = shap.GradientExplainer(model, background).shap_values(x, **{"nsamples": 200, "rseed": 0, **settings})
    return torch.as_tensor(np.asarray(found)[..., 1])


def shap_deep(model: nn.Module, x: Tensor, background: Tensor) -> Tensor:
    """shap's DeepExplainer, the values of class 1."""
    return shap_deep_of_both(model, x, background)[..., 1]


def shap_deep_of_both(model: nn.Module, x: Tensor, background: Tensor) -> Tensor:
    """shap's DeepExplainer, the values of both classes. Its check of additivity counts as a refusal."""
    import shap

    try:
        return torch.as_tensor(shap.DeepExplainer(model, background).shap_values(x))
    except AssertionError as error:
        raise PeerRefusedError(str(error)) from None


def as_function(model: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The logit of class 1 as a function of arrays, for shap's methods without a gradient."""

    def logit(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.as_tensor(x, dtype=torch.float64))[:, 1].numpy()

    return logit


def shap_of_function(kind: str, model: nn.Module, x: Tensor, background: Tensor, **settings: Any) -> Tensor:
    """shap's exact and permutation explainers on the logit of class 1."""
    import shap

    made = getattr(shap, kind)(as_function(model), background.numpy(), **settings)
    return torch.as_tensor(made(x.numpy(), silent=True).values)


def shap_kernel(model: nn.Module, x: Tensor, background: Tensor, **settings: Any) -> Tensor:
    """shap's KernelExplainer on the logit of class 1."""
    import shap

    made = shap.KernelExplainer(as_function(model), background.numpy())
    return torch.as_tensor(made.shap_values(x.numpy(), silent=True, **settings))
