"""The explanation method that is used where nobody names one, for each kind of records.

``python -m jobs.benchmark explain-methods`` chooses: on one half of the test records of four planted sets it takes the
first method of ``ORDER`` whose area between the curves reaches nine tenths of the best, and it reports what that method
reaches on the other half. ``ORDER`` begins with the cheapest method that needs least: integrated gradients need
no background; expected gradients need background records; Kernel SHAP needs no gradient and a few hundred
answers a record. Deep SHAP is none of them, since it refuses many layers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from assay.data.base import Modality
from assay.explain.base import Explainer
from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.methods.kernel_shap import KernelShap
from assay.explain.references import Reference

COMMAND = "python -m jobs.benchmark explain-methods"
"""Measures what the choices rest on."""
SHARE_OF_BEST = 0.9
"""Share of the best area that a default must reach."""
FEWEST_BACKGROUND = 10
"""Background records below which their mean says little of a population."""


@dataclass(frozen=True, kw_only=True)
class Default:
    """A method with its settings, and why it is used."""

    method: Explainer
    reason: str
    """For readers."""


ORDER: tuple[Explainer, ...] = (IntegratedGradients(), ExpectedGradients(), KernelShap())
"""Methods that may be a default, the first one that is good enough is taken."""
_GRADIENTS, _EXPECTED, _SHAPLEY = ORDER
_REACHES = f"it is the cheapest method that reaches {SHARE_OF_BEST:.0%} of the best area between the curves ({COMMAND})"
DEFAULTS: Mapping[Modality, Default] = {
    "tabular": Default(method=_GRADIENTS, reason=f"of tables {_REACHES}"),
    "image": Default(method=_EXPECTED, reason=f"of images {_REACHES}"),
    "signal": Default(method=_GRADIENTS, reason=f"of signals {_REACHES}"),
    "text": Default(method=_SHAPLEY, reason=f"of texts {_REACHES}"),
}
"""The choice for each kind of records."""


def default_for(reference: Reference, *, gradient: bool = True) -> Default:
    """Returns the method to use for records of a kind.

    A network without a gradient is explained by Kernel SHAP. Expected gradients over a single neutral record, which is
    all that a private recipe may use, would be integrated gradients with a few points: then it is integrated gradients.

    Args:
        reference: what records are compared with.
        gradient: whether the network has a gradient.

    Returns:
        The method, which suits every network of this kind, with the reason.
    """
    chosen = DEFAULTS[reference.modality]
    if chosen.method.needs_gradient and not gradient:
        return Default(method=_SHAPLEY, reason="the network has no gradient, and Kernel SHAP asks it for answers alone")
    if chosen.method.from_background and len(reference.background) < FEWEST_BACKGROUND:
        known = len(reference.background)
        what = f"{chosen.method.title} need background records, and there {'is' if known == 1 else 'are'} {known}"
        return Default(method=_GRADIENTS, reason=f"{what} (at least {FEWEST_BACKGROUND} are needed)")
    return chosen
