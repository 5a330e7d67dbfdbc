"""The verifying wrapper: an attack proposes records, and this judges them. No attack reports its own success."""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.losses import misclassified
from assay.models.batches import places
from assay.registry import Method
from assay.seeds import Draw
from assay.threats import Threat


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """What an attack achieved, record by record."""

    x: Tensor
    """(n, ...) the perturbed records, inside the threat model."""
    fooled: Tensor
    """(n,) bool: the model answers wrongly, or not with finite numbers."""
    distance: Tensor
    """(n,) size of the change in the norm of the threat; infinite where the attack failed."""
    invalid: int
    """Records on which the model answered NaN or infinity; counted as fooled, never as robust."""

    @property
    def accuracy(self) -> float:
        """Share of records that withstood the attack."""
        return float((~self.fooled).double().mean())


class Attack(Method):
    """Register with ``@register("attack")`` and write ``perturb``."""

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """Propose perturbed records, (n, ...). What lies outside the threat model is projected back."""
        raise NotImplementedError

    @final
    def run(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, seed: int) -> Attacked:
        """Attack every record, batch by batch, and judge the result with the model in evaluation mode.

        Args:
            model: from records to logits; left in the mode in which it came.
            x: (n, ...) valid records.
            y: (n,) their labels.
            threat: what is allowed; at ε = 0 the result is the record itself, at ε = ∞ any valid record may be.
            seed: of random starts and samples.

        Raises:
            ValueError: the model's output is not (n, classes), a label has no logit, or a record breaks the bounds.
        """
        _check_records(x, threat)
        threat = threat.capped(x)
        modes = {layer: layer.training for layer in model.modules()}
        model.eval()
        try:
            return _joined(
                [
                    self._run_batch(model, x[place], y[place], threat, seeds.stream(seed, "attack", self.name, number))
                    for number, place in enumerate(places(len(x), tuple(x.shape[1:])))
                ]
            )
        finally:
            for layer, training in modes.items():
                layer.training = training

    def _run_batch(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: np.random.Generator
    ) -> Attacked:
        proposed = self._propose(model, x, y, threat, Draw(generator, total=len(x))) if threat.epsilon > 0 else x
        return judge(model.eval(), x, y, proposed, threat)

    def _propose(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """What the author's code makes of copies: the records and labels that it is judged by stay out of its reach."""
        try:
            return self.perturb(model, x.clone(), y.clone(), threat, draw).detach()
        except (RuntimeError, IndexError, ValueError):
            # Most often the model's output is not what an attack can climb: say so in words.
            with torch.no_grad():
                _check_logits(model(x), y)
            raise


@torch.no_grad()
def judge(model: nn.Module, x: Tensor, y: Tensor, proposed: Tensor, threat: Threat) -> Attacked:
    """Project what was proposed into the threat model, and let the model answer."""
    if proposed.shape != x.shape:
        raise ValueError(f"perturb returned shape {tuple(proposed.shape)}; it must keep {tuple(x.shape)}")
    finite = torch.isfinite(proposed).flatten(1).all(1)
    kept = torch.where(finite.view(-1, *[1] * (x.dim() - 1)), proposed, x)
    perturbed = threat.project(kept, x)
    logits = model(perturbed)
    _check_logits(logits, y)
    answered = torch.isfinite(logits).all(1)
    fooled = misclassified(logits, y)
    distance = threat.distance(perturbed, x).masked_fill(~fooled, torch.inf)
    return Attacked(x=perturbed, fooled=fooled, distance=distance, invalid=int((~answered).sum()))


def _joined(parts: list[Attacked]) -> Attacked:
    return Attacked(
        x=torch.cat([part.x for part in parts]),
        fooled=torch.cat([part.fooled for part in parts]),
        distance=torch.cat([part.distance for part in parts]),
        invalid=sum(part.invalid for part in parts),
    )


def _check_records(x: Tensor, threat: Threat) -> None:
    excess = (x - threat.bounds.clip(x)).abs().max()
    if not float(excess) <= 1e-5:
        raise ValueError(f"a record lies outside the bounds of a valid input by {float(excess):g}; widen the bounds")


def _check_logits(logits: Tensor, y: Tensor) -> None:
    if logits.dim() != 2 or len(logits) != len(y):
        raise ValueError(f"the model returned shape {tuple(logits.shape)}; logits must be ({len(y)}, classes)")
    wrong = y[(y < 0) | (y >= logits.shape[1])]
    if len(wrong):
        raise ValueError(f"label {int(wrong[0])} has no logit: the model has {logits.shape[1]} classes")
