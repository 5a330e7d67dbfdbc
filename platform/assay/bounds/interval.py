"""Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715).

A box of inputs is passed through the network function by function. The result contains every output that an input of
the box can have, and usually more: the bound is sound, but often loose.

The network's own forward pass runs on the box, so every composition of functions that have a rule can be bounded:
layers of ``torch.nn`` or their functional forms, residual connections, layers used twice. Supported are linear layers,
convolutions, batch norm in evaluation mode, ReLU, leaky ReLU, sigmoid, tanh, maximum and average pooling, dropout (as
in evaluation mode), sums of two values, sums and products with constants, and changes of shape. Each record is bounded
separately, so nothing may be averaged, concatenated or moved along axis 0, the batch axis.
"""

import copy
import traceback

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.bounds import rules
from assay.bounds.interval_tensor import IntervalTensor, NoRuleError
from assay.errors import UserError
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Threat

Box = tuple[Tensor, Tensor]
"""Least and greatest value of each entry, (n, ...) each."""
_SUPPORTED = (
    "linear layers, convolutions, batch norm in evaluation mode, ReLU, LeakyReLU, sigmoid, tanh, pooling, dropout, "
    "residual addition, arithmetic with constants, and changes of shape"
)


class UnboundableError(UserError):
    """A network uses a function without a rule for interval bounds."""


def interval(model: nn.Module, low: Tensor, high: Tensor) -> Box:
    """Returns bounds of the output for every input between ``low`` and ``high``; differentiable in the weights.

    Dropout is always treated as in evaluation mode, because the bounds are those of the deployed network.

    Args:
        model: any composition of the functions that the module's docstring lists.
        low: (n, ...) least value of each input.
        high: (n, ...) greatest value of each input, nowhere below ``low``.

    Returns:
        Least and greatest value of each output, (n, ...) each.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    return _followed(model, IntervalTensor.between(low, high)).ends


def logits_and_worst(model: nn.Module, x: Tensor, low: Tensor, high: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the logits of records, and the worst logits in the boxes around them, in one pass.

    The worst logits are upper bounds of every logit minus the true one; exactly 0 for the true class. A linear last
    layer
    is merged with these differences, which is tighter than a bound of each logit (elision of the last layer). Their
    cross-entropy is the loss of certified training.

    Batch norm in training mode normalises the boxes by the statistics of the records, and updates its running
    statistics
    as in a pass of the records alone.

    Args:
        model: from records to logits; see ``interval``.
        x: (n, ...) records, one in each box.
        low: (n, ...) least value of each input.
        high: (n, ...) greatest value of each input.
        y: (n,) true classes.

    Returns:
        Logits and worst logits, (n, classes) each.

    Raises:
        UnboundableError: see ``interval``.
    """
    logits = _followed(model, IntervalTensor.between(low, high, records=x))
    assert logits.records is not None
    return logits.records, _worst(logits, y)


@torch.no_grad()
def certified_by_intervals(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, task: Task = CLASSIFICATION
) -> Tensor:
    """Returns which records are proven to be classified correctly under every perturbation that the threat allows.

    Bounds are computed in float64, on a copy in evaluation mode, and widened by the greatest rounding error of the
    model's
    own arithmetic in any order of summation. So a certified record is not fooled by the float32 network as it runs, if
    that
    network sums products of inputs and weights. Arithmetic coarser than the type of the records is not covered (TF32,
    which
    evaluations switch off, or autocast). Convolutions by Winograd's or Fourier transforms, which cuDNN and oneDNN may
    choose, are not covered either, because they round other intermediate values. To exclude them, run the network with
    ``torch.backends.cudnn.enabled`` and ``torch.backends.mkldnn.enabled`` set to False. In L2 the box around the ball
    is
    used, which is sound and loose. At ε = 0 no bound is computed: a record counts if the model classifies it correctly,
    without a tie.

    Args:
        model: from records to logits; not changed.
        x: (n, ...) valid records, in the model's own type.
        y: (n,) true classes.
        threat: threat model with its radius.
        task: decides when an answer stays right.

    Returns:
        (n,) bool.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    network = copy.deepcopy(model).eval()
    if threat.epsilon == 0:
        logits = network(threat.bounds.clip(x))
        return task.stays_right(logits - logits.gather(1, y[:, None]), y)
    # Four times the rounding error of one operation: for the model, and for these bounds where they are no finer.
    unit = 2 * torch.finfo(x.dtype).eps
    centre = x.double()
    # A projected record is rounded too, and in L2 also the length of its change.
    steps = 4 if threat.norm == "linf" else 4 + x[0].numel()
    radius = threat.epsilon * (1 + unit * steps) + unit * centre.abs()
    low, high = threat.bounds.box(centre, radius)
    return task.stays_right(_worst(_followed(network.double(), IntervalTensor.between(low, high, unit=unit)), y), y)


def _worst(logits: IntervalTensor, y: Tensor) -> Tensor:
    if logits.product is None:
        low, high = logits.ends
        return (high - low.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    inner, weight, bias, added = logits.product
    apart = weight - weight[y][:, None]
    spread = torch.einsum("nkf,nf->nk", apart.abs(), inner.radius)
    worst = logits.centre - logits.centre.gather(1, y[:, None]) + spread
    if logits.unit:
        size, slack = F.linear(inner.magnitude, weight.abs(), rules.absolute(bias)), rules.slack(weight, logits.unit)
        if added is not None:
            size, slack = size + added.abs(), slack + logits.unit
        worst = worst + slack * (size + size.gather(1, y[:, None]))
    return worst.scatter(1, y[:, None], 0.0)


def _followed(model: nn.Module, box: IntervalTensor) -> IntervalTensor:
    """Runs the model's forward pass on a box.

    A ``TypeError`` or ``AttributeError`` means that the model uses the box in a way that has no rule.
    """
    try:
        output = model(box)
    except NoRuleError as error:
        raise _unboundable(model, error, str(error)) from None
    except (TypeError, AttributeError) as error:
        raise _unboundable(model, error, f"cannot be followed by interval bounds: {error}") from error
    if not isinstance(output, IntervalTensor):
        raise UnboundableError(f"the model ({type(model).__name__}) returned {type(output).__name__}, not its logits")
    return output


def _unboundable(model: nn.Module, error: Exception, why: str) -> UnboundableError:
    """Returns an error that names the innermost layer that was running when ``error`` was raised."""
    running = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layer = next(owner for owner in reversed([model, *running]) if isinstance(owner, nn.Module))
    name = next((name for name, module in model.named_modules() if module is layer), "")
    where = f"layer {name!r}" if name else "the model"
    return UnboundableError(
        f"{where} ({type(layer).__name__}) {why}; interval bounds follow these alone, supported: {_SUPPORTED}"
    )
