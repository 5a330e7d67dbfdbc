"""Inversion by matching gradients (Zhu et al. 2019, arXiv:1906.08935; Geiping et al. 2020, arXiv:2003.14053)."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap

from assay.errors import UserError
from assay.federated.inversion.observed import ObservedUpdate
from assay.registry import Settings
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds
from assay.training.modes import eval_mode_except_rnn

_TOGETHER = 600_000
"""Greatest count of gradient entries that are computed together; it limits memory and changes no result."""
_CANDIDATES_AT_ONCE = 10_000_000
"""The same for gradients of candidates, through which nothing is searched."""
_DROPS = (3 / 8, 5 / 8, 7 / 8)
"""Shares of all steps after which the step size falls to a tenth, as in Geiping et al."""

Parameters = dict[str, Tensor]
Cost = Callable[[Tensor, Tensor, Tensor], Tensor]
Slope = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class GradientMatching(Settings):
    """Searches for records whose gradient is that of the update.

    ``cosine`` with ``signed_adam`` is the attack of Geiping et al. 2020: the angle between the gradients plus total
    variation, Adam on the sign of the search's own gradient, and records confined to the bounds of the data. ``l2``
    with ``lbfgs`` is that of Zhu et al. 2019 (DLG), with the same bounds. The search is run ``restarts`` times, and the
    server keeps what matches best. Records are searched in units of the range of each input.
    """

    distance: Literal["cosine", "l2"] = "cosine"
    optimizer: Literal["signed_adam", "lbfgs"] = "signed_adam"
    iterations: int = Field(default=240, ge=1)
    restarts: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=0.1, gt=0)
    """Size of a first step, as a share of the range of an input."""
    total_variation: float = Field(default=1e-3, ge=0)
    """Weight of the mean absolute difference of neighbouring pixels or samples; tables have none."""

    def reconstruct(
        self,
        model: nn.Module,
        updates: Sequence[ObservedUpdate],
        labels: Tensor,
        *,
        shape: tuple[int, ...],
        bounds: Bounds,
        generator: np.random.Generator,
        task: Task = CLASSIFICATION,
    ) -> Tensor:
        """Reconstructs the records of several updates of one network; each update is attacked by itself.

        The network runs in evaluation mode: the server does not know a client's dropout.

        Args:
            model: with the weights that the server sent.
            updates: (u,) updates.
            labels: (u, b) a class for each record that is searched.
            shape: of a record.
            bounds: of a valid record.
            generator: of the first guesses.
            task: gives the loss of a record.

        Returns:
            (u, b, *shape) records within the bounds.

        Raises:
            UserError: an update has other parameters than the network.
        """
        places = {name: p for name, p in model.named_parameters() if p.requires_grad}
        for update in updates:
            if [tuple(g.shape) for g in update.gradients] != [tuple(p.shape) for p in places.values()]:
                raise UserError(
                    "the update has other parameters than the network; give an update of this very network",
                    given=[tuple(g.shape) for g in update.gradients],
                    allowed=[tuple(p.shape) for p in places.values()],
                )
        device = next(iter(places.values())).device
        targets = torch.stack([torch.cat([g.flatten() for g in one.gradients]) for one in updates]).float().to(device)
        low = bounds.low.to(device).float().expand(shape)
        width = bounds.high.to(device).float().expand(shape) - low
        cost = self._cost(model, low, width, task)
        y = labels.to(device)
        best, least = torch.zeros((*y.shape, *shape), device=device), torch.full((len(y),), torch.inf, device=device)
        search = self._lbfgs if self.optimizer == "lbfgs" else self._signed_adam
        with eval_mode_except_rnn(model):
            for _ in range(self.restarts):
                first = generator.normal(0.5, 0.25, (*y.shape, *shape)).clip(0, 1)
                z, reached = search(cost, torch.from_numpy(first.astype(np.float32)).to(device), y, targets)
                better = reached < least
                best[better], least[better] = z[better], reached[better]
        return low + best * width

    def _cost(self, model: nn.Module, low: Tensor, width: Tensor, task: Task) -> Cost:
        """Returns the cost of one guess (b, *shape) in units of the range, its labels (b,) and the update (d,)."""
        weights = {name: p.detach() for name, p in model.named_parameters()}
        trained = {name: weights[name] for name, p in model.named_parameters() if p.requires_grad}
        fixed = {**{k: v for k, v in weights.items() if k not in trained}, **dict(model.named_buffers())}

        def loss(parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
            return task.losses(functional_call(model, {**parameters, **fixed}, (x,)), y).mean()

        def cost(z: Tensor, y: Tensor, target: Tensor) -> Tensor:
            gradients = grad(loss)(trained, low + z * width, y)
            own = torch.cat([gradients[name].flatten() for name in trained])
            if self.distance == "cosine":
                # The constant keeps a slope at a guess whose gradient is 0.
                length = (own.square().sum() + 1e-30).sqrt() * target.norm()
                apart = 1 - own @ target / length.clamp_min(1e-20)
            else:
                apart = (own - target).square().sum()
            return apart + self.total_variation * _total_variation(z)

        return cost

    def _signed_adam(self, cost: Cost, first: Tensor, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        slope = _each(grad_and_value(cost), entries=targets.shape[1] * y.shape[1])
        z = first.clone()
        adam = torch.optim.Adam([z], lr=self.learning_rate)
        drops = [int(share * self.iterations) for share in _DROPS]
        schedule = torch.optim.lr_scheduler.MultiStepLR(adam, drops, gamma=0.1)
        for _ in range(self.iterations):
            z.grad = slope(z, y, targets)[0].sign()
            adam.step()
            schedule.step()
            z.clamp_(0, 1)
        z.grad = None
        return z, slope(z, y, targets)[1]

    def _lbfgs(self, cost: Cost, first: Tensor, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        slope, found = grad_and_value(cost), []
        for guess, label, target in zip(first, y, targets, strict=True):
            z = guess.clone()
            search = torch.optim.LBFGS([z], max_iter=self.iterations, line_search_fn="strong_wolfe")

            def closure(z: Tensor = z, label: Tensor = label, target: Tensor = target) -> Tensor:
                z.grad, value = slope(z, label, target)
                return value

            search.step(closure)
            found.append(z.detach().nan_to_num(0.5).clamp(0, 1))
        z = torch.stack(found)
        return z, _each(slope, entries=targets.shape[1] * y.shape[1])(z, y, targets)[1]


def _each(slope: Slope, *, entries: int) -> Slope:
    """Returns a function that computes the slope and cost of several guesses, each by itself.

    Small networks are computed together, which saves calls; of large ones that is slower than one after the other.

    Args:
        slope: from one guess, its labels and the update to the slope and the cost.
        entries: of the gradient of one guess, times its records.
    """
    at_once = _TOGETHER // entries
    if at_once > 1:
        return vmap(slope, chunk_size=at_once)

    def one_by_one(z: Tensor, y: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        slopes, costs = zip(*map(slope, z, y, targets), strict=True)
        return torch.stack(slopes), torch.stack(costs)

    return one_by_one


def candidate_scores(
    model: nn.Module, update: ObservedUpdate, x: Tensor, y: Tensor, *, task: Task = CLASSIFICATION
) -> Tensor:
    """Returns the cosine between an update and the gradient of each candidate: identification without reconstruction.

    A server that holds the candidates needs no inversion. So this attacker is stronger than one that must reconstruct.

    Args:
        model: with the weights that the server sent.
        update: of one client.
        x: (n, ...) candidates.
        y: (n,) their labels.
        task: gives the loss of a record.

    Returns:
        (n,) cosines in [-1, 1]; 0 for a candidate without gradient.
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    fixed |= dict(model.named_buffers())
    target = torch.cat([gradient.flatten() for gradient in update.gradients]).float().to(x.device)

    def score(one: Tensor, label: Tensor) -> Tensor:
        def loss(parameters: Parameters) -> Tensor:
            answers = functional_call(model, {**parameters, **fixed}, (one[None],))
            return task.losses(answers, label[None]).sum()

        gradients = grad(loss)(weights)
        own = torch.cat([gradients[name].flatten() for name in weights])
        return own @ target / (own.norm() * target.norm()).clamp_min(1e-20)

    with eval_mode_except_rnn(model):
        return vmap(score, chunk_size=max(1, _CANDIDATES_AT_ONCE // target.numel()))(x, y).detach()


def _total_variation(z: Tensor) -> Tensor:
    """Returns the mean absolute difference of neighbours of images (b, c, h, w) or signals (b, c, s); 0 of tables."""
    if z.ndim < 3:
        return z.new_zeros(())
    across = z.diff(dim=-1).abs().mean()
    return across + z.diff(dim=-2).abs().mean() if z.ndim == 4 else across
