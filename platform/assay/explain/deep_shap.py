"""Deep SHAP: Shapley values by DeepLIFT over a sample of reference records (Lundberg & Lee 2017, arXiv:1705.07874)."""

import copy
import warnings

import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.explain.base import Attribution


class ExplanationError(UserError):
    """An explanation method does not support the network."""


def deep_shap(model: nn.Module, x: Tensor, target: Tensor, *, background: Tensor) -> Attribution:
    """Attributes each record's target logit to its inputs, relative to the mean logit of the background.

    The library runs on a float64 copy. Its tolerance on additivity, 0.01 logits, then separates an unsupported layer
    from
    rounding errors, however large the logits are.

    Args:
        model: from records to logits; every operation except addition and slicing must be a module of its own; not
            changed.
        x: (n, ...) records.
        target: (n,) class whose logit is explained.
        background: (m, ...) reference records; the cost grows with their number.

    Returns:
        The attribution with its additivity error, in logits.

    Raises:
        ExplanationError: the values do not sum to the change of the logit, or a layer is not supported.
    """
    import shap

    network = copy.deepcopy(model).double().eval()
    for layer in network.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False  # type: ignore[assignment]
    records, reference = x.detach().double(), background.detach().double()
    values = torch.zeros_like(records)
    for chosen in target.unique().tolist():
        rows = target == chosen
        with warnings.catch_warnings(), torch.enable_grad():
            # The library treats an unknown layer as linear; the additivity check fails if it is not.
            warnings.filterwarnings("ignore", message="unrecognized nn.Module", category=UserWarning)
            try:
                explainer = shap.DeepExplainer(_Logit(network, chosen), reference)
                shapley_values = explainer.shap_values(records[rows], check_additivity=True)
            except Exception as error:  # the library raises many types for an unsupported layer
                raise ExplanationError(_cannot(network, error)) from None
        values[rows] = torch.from_numpy(shapley_values[..., 0]).to(values)
    values = values.to(x)
    with torch.no_grad():
        rise = (network(records) - network(reference).mean(0)).gather(1, target[:, None]).squeeze(1)
    return Attribution(values=values, error=(values.double().flatten(1).sum(1) - rise).abs().to(x))


class _Logit(nn.Module):
    """One logit of a network, as a column: the library checks additivity only of the outputs that it explains."""

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
