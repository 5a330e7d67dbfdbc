"""Deep SHAP: Shapley values by DeepLIFT over a sample of reference records (Lundberg & Lee 2017, arXiv:1705.07874)."""

import copy
import warnings

import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.explain.base import Attribution


class ExplanationError(UserError):
    """A method of explanation cannot follow the network."""


def deep_shap(model: nn.Module, x: Tensor, target: Tensor, *, background: Tensor) -> Attribution:
    """Attribute each record's target logit to its inputs, against the mean logit of the background.

    The library works on a float64 copy: its limit on additivity, 0.01 logits, then tells a layer that it cannot follow
    from rounding, however large the logits.

    Args:
        model: from records to logits, every operation but addition and slicing a module of its own; left as it is.
        x: (n, ...) records.
        target: (n,) class whose logit is explained.
        background: (m, ...) records that stand for "nothing known"; the cost grows with their number.

    Raises:
        ExplanationError: the values do not sum to the change of the logit, or a layer cannot be followed.
    """
    import shap

    own = copy.deepcopy(model).double().eval()
    for layer in own.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]
    given, reference = x.detach().double(), background.detach().double()
    values = torch.zeros_like(given)
    for one in target.unique().tolist():
        rows = target == one
        with warnings.catch_warnings(), torch.enable_grad():
            # A layer that is unknown is taken to be linear; whether it is, the additivity check tells.
            warnings.filterwarnings("ignore", message="unrecognized nn.Module", category=UserWarning)
            try:
                explainer = shap.DeepExplainer(_Logit(own, one), reference)
                found = explainer.shap_values(given[rows], check_additivity=True)
            except Exception as error:  # whatever the library meets in a layer that it cannot follow
                raise ExplanationError(_cannot(own, error)) from None
        values[rows] = torch.from_numpy(found[..., 0]).to(values)
    values = values.to(x)
    with torch.no_grad():
        rise = (own(given) - own(reference).mean(0)).gather(1, target[:, None]).squeeze(1)
    return Attribution(values=values, error=(values.double().flatten(1).sum(1) - rise).abs().to(x))


class _Logit(nn.Module):
    """One class of a network, as a column: the library checks additivity of what it explains, and of that only."""

    def __init__(self, model: nn.Module, chosen: int) -> None:
        super().__init__()
        self.model, self.chosen = model, chosen

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)[:, self.chosen : self.chosen + 1]


def _cannot(model: nn.Module, error: Exception) -> str:
    from shap.explainers._deep.deep_pytorch import op_handler

    kinds = {type(layer).__name__ for layer in model.modules() if not list(layer.children())}
    unknown = sorted(kinds - set(op_handler))
    why = (
        f"it does not know {', '.join(unknown)}, and takes an unknown layer to be linear"
        if unknown
        else "every operation must be a layer of its own, used once; pooling windows must not overlap"
    )
    return f"SHAP cannot explain this network: {why}. It said: {type(error).__name__}: {error}"
