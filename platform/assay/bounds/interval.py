"""Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715).

A box of inputs is pushed through the network function by function. What comes out holds every output that the box can
lead to, and usually more: a sound bound, often a loose one.

The network's own forward pass is run on the box, so any composition of functions that have a rule is bounded: layers
of ``torch.nn`` or their functional forms, shortcuts, layers used twice. Supported are linear layers, convolutions,
batch norm in evaluation mode, ReLU, leaky ReLU, sigmoid, tanh, maximum and average pooling, dropout (as it answers),
sums of two values, sums and products with constants, and changes of shape. Each record is bounded by itself, so nothing
may be averaged, joined or moved along axis 0, where the records of a batch lie.
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
"""Least and greatest value of each entry, (n, ...) both."""
_SUPPORTED = (
    "linear layers, convolutions, batch norm in evaluation mode, ReLU, LeakyReLU, sigmoid, tanh, pooling, dropout, "
    "residual addition, arithmetic with constants, and changes of shape"
)


class UnboundableError(UserError):
    """A network does something through which no interval bound is known."""


def interval(model: nn.Module, low: Tensor, high: Tensor) -> Box:
    """Bounds of the output for every input between ``low`` and ``high``, differentiable in the weights.

    Dropout counts as in evaluation mode whatever mode it is in: the bounds are of the network that answers.

    Args:
        model: any composition of what the module's docstring lists.
        low: (n, ...) least value of each input.
        high: (n, ...) greatest value of each input, nowhere below ``low``.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    return _followed(model, IntervalTensor.between(low, high)).ends


def logits_and_worst(model: nn.Module, x: Tensor, low: Tensor, high: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of some records, and the worst logits of the boxes around them, in one pass; (n, classes) both.

    The worst logits are upper bounds of every logit minus the true one; exactly 0 for the true class. A last layer that
    is linear is merged with these differences, which is tighter than bounding each logit (elision of the last layer).
    Their cross-entropy is the loss of certified training.

    Batch norm in training mode normalises the boxes by the statistics of the records, and keeps its running ones, as
    in a pass of the records alone: the bounds are of the network that this batch sees.

    Args:
        model: from records to logits; see ``interval``, as for what is raised.
        x: (n, ...) records, one in each box.
        low: (n, ...) least value of each input.
        high: (n, ...) greatest value of each input.
        y: (n,) true classes.
    """
    found = _followed(model, IntervalTensor.between(low, high, records=x))
    assert found.records is not None
    return found.records, _worst(found, y)


@torch.no_grad()
def certified_by_intervals(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, task: Task = CLASSIFICATION
) -> Tensor:
    """Which records are proven to be classified correctly whatever the threat allows, (n,) bool.

    Bounds are computed in float64, on a copy in evaluation mode, and widened by all that rounding in the model's own
    arithmetic can do in any order of summation: a certified record is not fooled by the float32 network as it runs, if
    that sums products of inputs and weights. Not covered is arithmetic coarser than the type of the records (TF32,
    which evaluations switch off, or autocast), nor are convolutions by Winograd's or Fourier transforms, which cuDNN
    and oneDNN may choose and which round sums of other things: where that matters, let the network answer with
    ``torch.backends.cudnn.enabled`` and ``torch.backends.mkldnn.enabled`` set to False. In L2 the box around the ball
    is used, which is sound and loose. At ε = 0 nothing is bounded: a record counts if the model answers it correctly,
    without a tie.

    Args:
        model: from records to logits; left as it is.
        x: (n, ...) valid records, in the model's own type.
        y: (n,) true classes.
        threat: what is allowed.
        task: says when an answer stays right.

    Raises:
        UnboundableError: names the layer, its type and what is supported.
    """
    own = copy.deepcopy(model).eval()
    if threat.epsilon == 0:
        logits = own(threat.bounds.clip(x))
        return task.stays_right(logits - logits.gather(1, y[:, None]), y)
    # Four times what one operation may be off by: for the model, and for these bounds where they are no finer.
    unit = 2 * torch.finfo(x.dtype).eps
    centre = x.double()
    # A projected record is rounded too, and in L2 so is the length of its change.
    steps = 4 if threat.norm == "linf" else 4 + x[0].numel()
    radius = threat.epsilon * (1 + unit * steps) + unit * centre.abs()
    low, high = threat.bounds.box(centre, radius)
    return task.stays_right(_worst(_followed(own.double(), IntervalTensor.between(low, high, unit=unit)), y), y)


def _worst(logits: IntervalTensor, y: Tensor) -> Tensor:
    if logits.product is None:
        low, high = logits.ends
        return (high - low.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    inner, weight, bias, added = logits.product
    apart = weight - weight[y][:, None]
    spread = torch.einsum("nkf,nf->nk", apart.abs(), inner.radius)
    found = logits.centre - logits.centre.gather(1, y[:, None]) + spread
    if logits.unit:
        size, slack = F.linear(inner.magnitude, weight.abs(), rules.absolute(bias)), rules.slack(weight, logits.unit)
        if added is not None:
            size, slack = size + added.abs(), slack + logits.unit
        found = found + slack * (size + size.gather(1, y[:, None]))
    return found.scatter(1, y[:, None], 0.0)


def _followed(model: nn.Module, box: IntervalTensor) -> IntervalTensor:
    """What the model's own forward pass makes of a box.

    Python's complaints that a stand-in is no tensor (a ``TypeError`` or ``AttributeError``) say no more than that the
    model does something that has no rule.
    """
    try:
        found = model(box)
    except NoRuleError as error:
        raise _unboundable(model, error, str(error)) from None
    except (TypeError, AttributeError) as error:
        raise _unboundable(model, error, f"cannot be followed by interval bounds: {error}") from error
    if not isinstance(found, IntervalTensor):
        raise UnboundableError(f"the model ({type(model).__name__}) returned {type(found).__name__}, not its logits")
    return found


def _unboundable(model: nn.Module, error: Exception, why: str) -> UnboundableError:
    """The message names the innermost layer that was at work when the error was raised."""
    at_work = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    layer = next(one for one in reversed([model, *at_work]) if isinstance(one, nn.Module))
    name = next((name for name, one in model.named_modules() if one is layer), "")
    where = f"layer {name!r}" if name else "the model"
    return UnboundableError(
        f"{where} ({type(layer).__name__}) {why}; interval bounds follow these alone, supported: {_SUPPORTED}"
    )
