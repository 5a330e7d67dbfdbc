"""What a small network can really do in a box: a mixed-integer programme over its neurons, and its relaxation."""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor, nn

from assay.models.resnet import Basic, Bottleneck, ResNet


@dataclass
class Form:
    """Values of a layer, (...), as affine functions of all variables of a programme."""

    factors: Tensor
    """(variables, ...)."""
    offset: Tensor
    """(1, ...)."""


@dataclass
class Programme:
    """Which inputs of a box lead to which outputs of a network (Tjeng et al. 2019, arXiv:1711.07356).

    Each unstable ReLU is one variable for what it gives and one for whether it is active. If the latter may be any
    share, the programme is the triangle relaxation (Ehlers 2017, arXiv:1705.01320).
    """

    low: Tensor
    """(1, ...) of the box."""
    high: Tensor
    ends: list[tuple[float, float]] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    rows: list[dict[int, float]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def of(self, model: nn.Module) -> Form:
        """The network's outputs; the network must be in evaluation mode and in float64."""
        count = self.low.numel()
        self.ends += zip(self.low.flatten().tolist(), self.high.flatten().tolist(), strict=True)
        self.whole += [0] * count
        factors = torch.eye(count, dtype=self.low.dtype).view(count, *self.low.shape[1:])
        return self._through(model, Form(factors, torch.zeros_like(self.low)))

    def greatest(self, form: Form, weights: np.ndarray, *, exact: bool) -> tuple[float, Tensor]:
        """Greatest weighted sum of a layer of values, and an input of the box that gives it if it is ``exact``."""
        gain = self._padded(form).flatten(1).numpy() @ weights
        rows = np.zeros((len(self.rows), len(self.ends)))
        for place, row in enumerate(self.rows):
            rows[place, list(row)] = list(row.values())
        found = milp(
            -gain,
            constraints=LinearConstraint(rows, ub=self.limits) if self.rows else (),
            bounds=Bounds(*np.array(self.ends).T),
            integrality=self.whole if exact else None,
            options={"mip_rel_gap": 1e-9},
        )
        assert found.status == 0, found.message
        point = torch.from_numpy(found.x[: self.low.numel()]).view_as(self.low)
        return float(form.offset.flatten().numpy() @ weights - found.fun), point

    def _through(self, model: nn.Module, form: Form) -> Form:
        if isinstance(model, nn.Sequential):
            for layer in model:
                form = self._through(layer, form)
            return form
        if isinstance(model, ResNet):
            parts = (model.conv1, model.bn1, model.relu, model.maxpool, model.layer1, model.layer2)
            rest = (model.layer3, model.layer4, model.avgpool, model.flatten, model.fc)
            return self._through(nn.Sequential(*parts, *rest), form)
        if isinstance(model, Basic | Bottleneck):
            return self._block(model, form)
        return self._relu(form) if isinstance(model, nn.ReLU) else self._affine(model, form)

    def _block(self, block: Basic | Bottleneck, form: Form) -> Form:
        layers = [block.conv1, block.bn1, block.relu1, block.conv2, block.bn2]
        last: nn.Module = block.relu2
        if isinstance(block, Bottleneck):
            layers += [block.relu2, block.conv3, block.bn3]
            last = block.relu3
        inner, shortcut = self._through(nn.Sequential(*layers), form), self._through(block.downsample, form)
        together = Form(self._padded(inner) + self._padded(shortcut), inner.offset + shortcut.offset)
        return self._through(last, together)

    def _affine(self, layer: nn.Module, form: Form) -> Form:
        nothing = layer(torch.zeros_like(form.offset))
        return Form(layer(form.factors) - nothing, layer(form.offset))

    def _relu(self, form: Form) -> Form:
        factors, offset = self._padded(form).flatten(1), form.offset.flatten()
        ends = torch.tensor(self.ends, dtype=factors.dtype)
        reached = torch.stack([factors * ends[:, :1], factors * ends[:, 1:]])
        low, high = offset + reached.amin(0).sum(0), offset + reached.amax(0).sum(0)
        given: dict[int, int] = {}
        for place in torch.nonzero((low < 0) & (high > 0))[:, 0].tolist():
            given[place] = self._bent(factors[:, place], float(offset[place]), float(low[place]), float(high[place]))
        active = (low >= 0).to(factors)
        found = self._padded(Form(factors * active, offset[None]))
        for place, variable in given.items():
            found[variable, place] = 1.0
        return Form(found.view(-1, *form.offset.shape[1:]), (offset * active).view_as(form.offset))

    def _bent(self, factors: Tensor, offset: float, low: float, high: float) -> int:
        """A variable for max(0, f), where ``f`` = factors · variables + offset lies between ``low`` and ``high``."""
        own = {place: value for place, value in enumerate(factors.tolist()) if value}
        value, on = len(self.ends), len(self.ends) + 1
        self.ends += [(0.0, high), (0.0, 1.0)]
        self.whole += [0, 1]
        self.rows += [
            {**own, value: -1.0},  # f ≤ value
            {**{place: -factor for place, factor in own.items()}, value: 1.0, on: -low},  # value ≤ f − low (1 − on)
            {value: 1.0, on: -high},  # value ≤ high · on
        ]
        self.limits += [-offset, offset - low, 0.0]
        return value

    def _padded(self, form: Form) -> Tensor:
        """Factors of all variables that there are by now."""
        missing = len(self.ends) - len(form.factors)
        return torch.cat([form.factors, form.factors.new_zeros(missing, *form.factors.shape[1:])])
