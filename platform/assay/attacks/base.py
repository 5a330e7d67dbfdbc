"""The verifying wrapper: an attack proposes records, and this judges them. No attack reports its own success."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from assay import seeds
from assay.attacks.curve import answers_alike
from assay.devices import repeatable
from assay.models.batches import places
from assay.models.recurrent import differentiable
from assay.registry import Method
from assay.seeds import Draw
from assay.threats import Norm, Threat


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What an attack achieved, record by record."""

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


@dataclass(frozen=True, kw_only=True)
class Attacked(Judged):
    """The same, with the records that did it."""

    x: Tensor
    """(n, ...) the perturbed records, inside the threat model."""


class Attack(Method):
    """Register with ``@register("attack")``; write ``perturb``, and ``perturb_curve`` where a curve comes cheaper."""

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    """In which it can be run."""
    minimal: ClassVar[bool] = False
    """Whether it looks for the smallest change: then one run without a radius gives the whole curve."""
    follows_gradient: ClassVar[bool] = True
    """Whether it looks at the gradient of the network, so that no blind attack should do better."""
    needs_surrogate: ClassVar[bool] = False
    """Whether it is crafted on another network than the one that is judged."""
    starts_elsewhere: ClassVar[bool] = False
    """Whether it starts from valid records of other classes, so that it gains by knowing many."""

    @property
    def label(self) -> str:
        """What a table calls it, settings that make it another attack included."""
        return self.name

    def _labelled(self, **short: str) -> str:
        """The name, and of each of these fields that is not as usual what it is called and its value, in this order."""
        usual = type(self).model_fields
        changed = {field: getattr(self, field) for field in short if getattr(self, field) != usual[field].default}
        return "_".join([self.name, *(f"{short[field]}{value:g}" for field, value in changed.items())])

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """Propose perturbed records, (n, ...). What lies outside the threat model is projected back."""
        raise NotImplementedError

    def perturb_curve(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epsilons: Sequence[float], draw: Draw
    ) -> Iterator[Tensor]:
        """Propose perturbed records, (n, ...), for each radius in turn.

        Args:
            threat: its own radius is not looked at.
            epsilons: finite radii above 0, in rising order.
        """
        if self.minimal:
            found = self.perturb(model, x, y, threat.at(float("inf")).capped(x), draw)
            yield from (found for _ in epsilons)
        else:
            yield from (self.perturb(model, x, y, threat.at(epsilon), draw) for epsilon in epsilons)

    def without_early_stopping(self) -> "Attack":
        """The same attack, for a network other than the one that is judged: it does not rest where that is fooled.

        What only just fools a surrogate, or fooled one of many random answers, need not fool the judge.
        """
        return self

    def starting_from(self, records: Tensor) -> "Attack":
        """The same attack, which may start from these records too, (k, ...); one that has no use for them ignores them.

        Settings of a study file hold no tensors, so whoever runs an attack hands them over.
        """
        return self

    @final
    def run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int,
        through: nn.Module | None = None,
        known: Tensor | None = None,
    ) -> Attacked:
        """Attack every record, batch by batch, and judge the result with the model in evaluation mode.

        Args:
            model: from records to logits; left in the mode in which it came.
            x: (n, ...) valid records.
            y: (n,) their labels.
            threat: what is allowed; at ε = 0 the result is the record itself, at ε = ∞ any valid record may be.
            seed: of random starts and samples.
            through: the network that the attack looks at, where it is not the one that is judged: a surrogate, or the
                same with another backward pass.
            known: (k, ...) valid records from which an attack may start; by default those of the batch.

        Raises:
            ValueError: the model's output is not (n, classes), a label has no logit, a record breaks the bounds, or
                the attack knows nothing of the norm.
        """
        (radius,) = radii = [threat.capped(x).epsilon]
        found = self._judged(model, x, y, threat, radii, seed=seed, through=through, known=known)
        parts = [points[radius] for points in found]
        judged = concatenate(parts)
        return Attacked(
            x=torch.cat([part.x for part in parts]),
            fooled=judged.fooled,
            distance=judged.distance,
            invalid=judged.invalid,
        )

    @final
    def curve(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        epsilons: Sequence[float],
        *,
        seed: int,
        through: nn.Module | None = None,
        known: Tensor | None = None,
    ) -> dict[float, Judged]:
        """Attack every record at every radius; what comes out is judged as ``run`` does.

        Args:
            epsilons: radii of at least 0, in any order; ``threat`` has the rest. For all others see ``run``.
        """
        radii = sorted({threat.at(epsilon).epsilon for epsilon in epsilons})
        parts = [
            {
                e: Judged(fooled=point.fooled, distance=point.distance, invalid=point.invalid)
                for e, point in points.items()
            }
            for points in self._judged(model, x, y, threat, radii, seed=seed, through=through, known=known)
        ]
        return {epsilon: concatenate([points[epsilon] for points in parts]) for epsilon in radii}

    def _judged(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        radii: Sequence[float],
        *,
        seed: int,
        through: nn.Module | None,
        known: Tensor | None,
    ) -> Iterator[dict[float, Attacked]]:
        """For each batch of records, what was achieved at each radius."""
        _check_records(x, threat)
        if threat.norm not in self.norms:
            raise ValueError(f"attack {self.name!r} works in {' and '.join(self.norms)}, not in {threat.norm}")
        if self.needs_surrogate and through is None:
            raise ValueError(f"attack {self.name!r} is crafted on a surrogate: give one as through=")
        threat = replace(threat, bounds=threat.bounds.on(x.device))
        attack = self if known is None else self.starting_from(known)
        networks = (model,) if through is None else (model, through)
        modes = {layer: layer.training for network in networks for layer in network.modules()}
        threats = {radius: threat.at(radius).capped(x) for radius in radii}
        try:
            with repeatable(), differentiable(*networks):
                for number, place in enumerate(places(len(x), tuple(x.shape[1:]))):
                    for network in networks:
                        network.eval()
                    draw = Draw(seeds.stream(seed, "attack", self.name, number), total=len(x[place]))
                    epsilons = [capped.epsilon for capped in threats.values() if capped.epsilon > 0]
                    # A radius at a time: what fools another network is no reason to leave a record alone at larger
                    # radii.
                    alike = through is None or (not self.needs_surrogate and answers_alike(model, x[place], through))
                    propose = (
                        attack.perturb_curve
                        if alike
                        else partial(Attack.perturb_curve, attack.without_early_stopping())
                    )
                    proposals = _proposals(propose, networks[-1], x[place], y[place], threat, epsilons, draw)
                    yield {
                        radius: judge_proposal(
                            model, x[place], y[place], next(proposals) if radius > 0 else x[place], capped
                        )
                        for radius, capped in threats.items()
                    }
        finally:
            for layer, training in modes.items():
                layer.training = training


def _proposals(  # noqa: PLR0917
    propose: Callable[..., Iterator[Tensor]],
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    epsilons: Sequence[float],
    draw: Draw,
) -> Iterator[Tensor]:
    """What the author's code makes of copies: the records and labels that it is judged by stay out of its reach."""
    try:
        yield from (found.detach() for found in propose(model, x.clone(), y.clone(), threat, epsilons, draw))
    except (RuntimeError, IndexError, ValueError):
        # Most often the model's output is not what an attack can climb: say so in words.
        with torch.no_grad():
            threat.goal.task.check(model(x), y)
        raise


@torch.no_grad()
def judge_proposal(model: nn.Module, x: Tensor, y: Tensor, proposed: Tensor, threat: Threat) -> Attacked:
    """Project what was proposed into the threat model, and let the model answer."""
    if proposed.shape != x.shape:
        raise ValueError(f"perturb returned shape {tuple(proposed.shape)}; it must keep {tuple(x.shape)}")
    finite = torch.isfinite(proposed).flatten(1).all(1)
    kept = torch.where(finite.view(-1, *[1] * (x.dim() - 1)), proposed, x)
    perturbed = threat.project(kept, x)
    logits = model.eval()(perturbed)
    threat.goal.task.check(logits, y)
    answered = threat.goal.task.answered(logits)
    fooled = threat.goal(logits, y)
    distance = threat.distance(perturbed, x).masked_fill(~fooled, torch.inf)
    return Attacked(x=perturbed, fooled=fooled, distance=distance, invalid=int((~answered).sum()))


def concatenate(parts: Sequence[Judged]) -> Judged:
    """Records that were attacked in parts, as one."""
    return Judged(
        fooled=torch.cat([part.fooled for part in parts]),
        distance=torch.cat([part.distance for part in parts]),
        invalid=sum(part.invalid for part in parts),
    )


def _check_records(x: Tensor, threat: Threat) -> None:
    excess = (x - threat.bounds.clip(x)).abs().max()
    if not float(excess) <= 1e-5:
        raise ValueError(f"a record lies outside the bounds of a valid input by {float(excess):g}; widen the bounds")
