"""Base class of attacks that attack only the records that withstood a smaller radius."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.attacks.curve import answers_alike
from assay.models.batches import respond
from assay.seeds import Draw
from assay.threats import Threat


class SurvivorAttack(Attack):
    """Attack whose perturbations are kept for all larger radii. The author of an attack writes ``seek``."""

    def seek(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """Proposes perturbed records, for records that the model classifies correctly.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, ...) valid records.
            y: (n,) labels.
            threat: threat model with its radius.
            draw: random numbers of the batch.

        Returns:
            (n, ...) perturbed records.
        """
        raise NotImplementedError

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        (perturbed,) = self.perturb_curve(model, x, y, threat, [threat.epsilon], draw)
        return perturbed

    def perturb_curve(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epsilons: Sequence[float], draw: Draw
    ) -> Iterator[Tensor]:
        if len(epsilons) > 1 and not answers_alike(model, x):
            # A randomised network may be fooled once by chance, so every radius is attacked from the start.
            yield from super().perturb_curve(model, x, y, threat, epsilons, draw)
            return
        perturbed = x.clone()
        rows = torch.arange(len(x), device=x.device)[~threat.goal(respond(model, x), y)]
        for epsilon in epsilons:
            if len(rows):
                allowed = threat.at(epsilon)
                perturbed[rows] = allowed.project(self.seek(model, x[rows], y[rows], allowed, draw.of(rows)), x[rows])
                rows = rows[~threat.goal(respond(model, perturbed[rows]), y[rows])]
            yield perturbed.clone()
