"""The unit cube in which torchattacks works, and the conversion of records to it and back.

torchattacks 3.5.1 (Kim 2020, arXiv:2010.01950) takes float32 in four dimensions between 0 and 1, draws from torch's
global generator, and leaves gradients on the weights of the model. Its ``robustbench`` folder is never imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import UserError
from assay.seeds import Draw
from assay.threats import Norm, Threat

TORCHATTACKS_NORMS: dict[Norm, str] = {"linf": "Linf", "l2": "L2"}
"""Names of the norms in torchattacks."""


class UnitCube(nn.Module):
    """A model and its records in the form that torchattacks needs: from (n, 1, 1, free inputs) to logits.

    Fixed inputs are left out. The unit is the range of the widest input, so that a norm keeps its meaning. The cube
    then
    contains invalid records, which are clipped before the model sees them. By default no gradient passes where a value
    was
    clipped, so that an attack does not push further there. With ``climbed``, a gradient that leads back into the bounds
    passes, so that no input is stuck after a long step. With ``each_its_own`` the range of each input is its own unit:
    L2
    norms then have no meaning, but an L∞ ball and the bounds are exactly those of the threat.

    A record on which the model returns NaN or infinity counts as misclassified, with a gradient of 0.

    Args:
        model: from records to (n, classes) logits.
        x: (n, ...) records; every forward pass is over all of them.
        y: (n,) their labels.
        threat: its bounds and its finite radius.
        each_its_own: whether each input has its own unit.
        climbed: whether the attack maximises a loss along its gradient.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        each_its_own: bool = False,
        climbed: bool = False,
    ) -> None:
        super().__init__()
        # torchattacks reads the device from the first weight, and prints a warning where there is none.
        self.device = nn.Parameter(torch.empty(0, device=x.device), requires_grad=False)
        self.model, self.x, self.y, self.bounds, self.climbed = model, x, y, threat.bounds, climbed
        low, high = (bound.flatten(1) for bound in threat.bounds.box(x, torch.inf))
        movable = high > low
        self.free = movable.any(0).nonzero().squeeze(1)
        self.least, self.most = low[:, self.free], high[:, self.free]
        span = (threat.bounds.high - threat.bounds.low).to(x).expand_as(x[0]).flatten()[self.free]
        self.unit = span if each_its_own else span.max()
        self.low = threat.bounds.low.to(x).expand_as(x[0]).flatten()[self.free]
        reach = (threat.epsilon / self.unit * movable[:, self.free]) if each_its_own else threat.epsilon / self.unit
        self.radius = reach.float()[:, None, None] if each_its_own else float(reach)
        """Radius of the ball in the cube: one number, or (n, 1, 1, free inputs) of each input's own unit."""

    def inside(self, x: Tensor) -> Tensor:
        """Converts records to points of the cube.

        Args:
            x: (n, ...) records.

        Returns:
            (n, 1, 1, free inputs) float32.
        """
        return ((x.flatten(1)[:, self.free] - self.low) / self.unit).float()[:, None, None]

    def outside(self, points: Tensor) -> Tensor:
        """Converts points of the cube to the nearest valid records.

        Args:
            points: (n, 1, 1, free inputs).

        Returns:
            (n, ...) records.
        """
        values = self.low + points.flatten(1).to(self.x) * self.unit
        flat = torch.index_copy(self.x.flatten(1), 1, self.free, values).view_as(self.x)
        valid = self.bounds.confine(flat, self.x)
        if not values.requires_grad:
            return valid
        if not self.climbed:
            values.register_hook(torch.nan_to_num)
            return valid
        above, below = (values > self.most).detach(), (values < self.least).detach()
        values.register_hook(lambda slope: _inward(slope.nan_to_num(), above, below))
        return flat + (valid - flat).detach()

    def forward(self, points: Tensor) -> Tensor:
        # Keeps the graph connected where the model has no gradient: that is a finding, not an error.
        logits = self.model(self.outside(points)).float() + 0 * points.flatten(1).sum(1, keepdim=True)
        classes = logits.shape[1]
        wrong = F.one_hot((self.y + 1) % classes, classes).to(logits)
        return torch.where(logits.isfinite().all(1, keepdim=True), logits, wrong)


def _inward(slope: Tensor, above: Tensor, below: Tensor) -> Tensor:
    """Returns a gradient without the entries that lead further out of the bounds."""
    return slope.masked_fill((above & (slope > 0)) | (below & (slope < 0)), 0.0)


def torchattacks() -> ModuleType:
    """Imports torchattacks.

    Returns:
        The module.

    Raises:
        UserError: it is not installed.
    """
    try:
        import torchattacks as package
    except ImportError as error:
        raise UserError(
            f"attacks apgd and fab are those of torchattacks 3.5.1, which cannot be imported ({error}): run "
            "`pip install --no-deps torchattacks==3.5.1` (with its dependencies it would pin an old requests)"
        ) from None
    return package


@contextmanager
def contained(model: nn.Module, draw: Draw) -> Iterator[None]:
    """Seeds torch's generator from ``draw`` within the block, and keeps gradients off the weights; restores both.

    Args:
        model: the model whose weights are protected.
        draw: gives the seed.

    Returns:
        Context manager.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        # torchattacks draws on the CPU, whatever the device.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(draw.seed())
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
