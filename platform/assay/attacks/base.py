"""Base class of attacks: an attack proposes perturbed records, and the wrapper decides which ones fool the model."""

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
    """Result of an attack, record by record."""

    fooled: Tensor
    """(n,) bool: the attack reached its goal, or the model returned NaN or infinity."""
    distance: Tensor
    """(n,) size of the perturbation in the norm of the threat; infinite where the attack failed."""
    invalid: int
    """Number of records on which the model returned NaN or infinity; they count as fooled."""

    @property
    def accuracy(self) -> float:
        """Share of records that withstood the attack."""
        return float((~self.fooled).double().mean())


@dataclass(frozen=True, kw_only=True)
class Attacked(Judged):
    """Result of an attack, with the perturbed records."""

    x: Tensor
    """(n, ...) the perturbed records, inside the threat model."""


class Attack(Method):
    """Base class. Register with ``@register("attack")``; write ``perturb``, and ``perturb_curve`` if it saves time."""

    norms: ClassVar[tuple[Norm, ...]] = ("linf", "l2")
    """Norms in which the attack can run."""
    minimal: ClassVar[bool] = False
    """Whether it searches for the smallest perturbation: one run without a radius then gives the whole curve."""
    follows_gradient: ClassVar[bool] = True
    """Whether it uses the gradient of the network; then no attack without a gradient should do better."""
    needs_surrogate: ClassVar[bool] = False
    """Whether it is crafted on a surrogate: a network other than the one under test."""
    starts_elsewhere: ClassVar[bool] = False
    """Whether it starts from valid records of other classes; more such records make it stronger."""

    @property
    def label(self) -> str:
        """Name in tables; includes settings that differ from the defaults."""
        return self.name

    def _labelled(self, **short: str) -> str:
        """Returns the name, followed by those of these fields that differ from their defaults."""
        usual = type(self).model_fields
        changed = {field: getattr(self, field) for field in short if getattr(self, field) != usual[field].default}
        return "_".join([self.name, *(f"{short[field]}{value:g}" for field, value in changed.items())])

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        """Proposes perturbed records. The wrapper projects them into the threat model.

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

    def perturb_curve(  # noqa: PLR0917
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, epsilons: Sequence[float], draw: Draw
    ) -> Iterator[Tensor]:
        """Proposes perturbed records for each radius in turn.

        Args:
            model: from records to logits, in evaluation mode.
            x: (n, ...) valid records.
            y: (n,) labels.
            threat: threat model; its own radius is not used.
            epsilons: finite radii above 0, in rising order, in the units of the data.
            draw: random numbers of the batch.

        Returns:
            Iterator over (n, ...) perturbed records, one for each radius.
        """
        if self.minimal:
            perturbed = self.perturb(model, x, y, threat.at(float("inf")).capped(x), draw)
            yield from (perturbed for _ in epsilons)
        else:
            yield from (self.perturb(model, x, y, threat.at(epsilon), draw) for epsilon in epsilons)

    def without_early_stopping(self) -> "Attack":
        """Returns the same attack without early stopping, for a surrogate or a randomised network.

        A record that only just fools a surrogate, or one pass of a randomised network, need not fool the network under
        test.

        Returns:
            The attack; unchanged where it never stops early.
        """
        return self

    def starting_from(self, records: Tensor) -> "Attack":
        """Returns the same attack with records from which it may start; attacks that do not need them ignore them.

        The settings of a study file hold no tensors, so the caller passes these records.

        Args:
            records: (k, ...) valid records.

        Returns:
            The attack.
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
        """Attacks every record, batch by batch, and judges the result with the model in evaluation mode.

        Args:
            model: from records to logits; its mode is restored.
            x: (n, ...) valid records.
            y: (n,) their labels.
            threat: threat model; at ε = 0 the result is the record itself, at ε = ∞ it may be any valid record.
            seed: of random starts and samples.
            through: the network that the attack sees, where it is not the one under test: a surrogate, or the same
                network with another backward pass.
            known: (k, ...) valid records from which an attack may start; by default those of the batch.

        Returns:
            The perturbed records, and which of them fool the model.

        Raises:
            ValueError: the model's output is not (n, classes), a label has no logit, a record lies outside the bounds,
                or the attack does not support the norm.
        """
        (radius,) = radii = [threat.capped(x).epsilon]
        batches = self._judged(model, x, y, threat, radii, seed=seed, through=through, known=known)
        parts = [points[radius] for points in batches]
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
        """Attacks every record at every radius, and judges the results as ``run`` does.

        Args:
            model: from records to logits; its mode is restored.
            x: (n, ...) valid records.
            y: (n,) their labels.
            threat: threat model; its own radius is not used.
            epsilons: radii of at least 0, in any order, in the units of the data.
            seed: of random starts and samples.
            through: the network that the attack sees; see ``run``.
            known: (k, ...) valid records from which an attack may start; see ``run``.

        Returns:
            Results by radius, in rising order.

        Raises:
            ValueError: see ``run``.
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
        """Yields, for each batch of records, the result at each radius."""
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
                    # Each radius is attacked separately: a record that fools a surrogate must still be attacked at
                    # larger radii.
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
    """Yields an attack's proposals. The attack works on copies, so it cannot change the records it is judged by."""
    try:
        yield from (perturbed.detach() for perturbed in propose(model, x.clone(), y.clone(), threat, epsilons, draw))
    except (RuntimeError, IndexError, ValueError):
        # The usual cause is an output of the model that no attack can use: raise an error that says so.
        with torch.no_grad():
            threat.goal.task.check(model(x), y)
        raise


@torch.no_grad()
def judge_proposal(model: nn.Module, x: Tensor, y: Tensor, proposed: Tensor, threat: Threat) -> Attacked:
    """Projects proposed records into the threat model, and tests whether they fool the model.

    Args:
        model: from records to logits; set to evaluation mode.
        x: (n, ...) valid records.
        y: (n,) labels.
        proposed: (n, ...) perturbed records; a record with NaN or infinity is replaced by the original.
        threat: threat model with its radius.

    Returns:
        The projected records and the result for each.

    Raises:
        ValueError: ``proposed`` has another shape than ``x``, or the logits do not fit the labels.
    """
    if proposed.shape != x.shape:
        raise ValueError(f"perturb returned shape {tuple(proposed.shape)}; it must keep {tuple(x.shape)}")
    finite = torch.isfinite(proposed).flatten(1).all(1)
    candidates = torch.where(finite.view(-1, *[1] * (x.dim() - 1)), proposed, x)
    perturbed = threat.project(candidates, x)
    logits = model.eval()(perturbed)
    threat.goal.task.check(logits, y)
    answered = threat.goal.task.answered(logits)
    fooled = threat.goal(logits, y)
    distance = threat.distance(perturbed, x).masked_fill(~fooled, torch.inf)
    return Attacked(x=perturbed, fooled=fooled, distance=distance, invalid=int((~answered).sum()))


def concatenate(parts: Sequence[Judged]) -> Judged:
    """Joins the results of batches.

    Args:
        parts: results in the order of the records.

    Returns:
        One result for all records.
    """
    return Judged(
        fooled=torch.cat([part.fooled for part in parts]),
        distance=torch.cat([part.distance for part in parts]),
        invalid=sum(part.invalid for part in parts),
    )


def _check_records(x: Tensor, threat: Threat) -> None:
    bounds = threat.bounds
    # Rounding grows with the values: what a data set may exceed its bounds by (assay.data.checks) passes here, too.
    slack = (1e-6 * (bounds.high - bounds.low)).clamp_min(1e-5).to(x)
    excess = (x - bounds.clip(x)).abs()
    beyond = ~(excess <= slack)
    if bool(beyond.any()):
        # NaN is beyond any bound.
        over = torch.where(beyond, (excess - slack).nan_to_num(nan=torch.inf), -torch.inf)
        place = int(over.flatten().argmax())
        record = place // x[0].numel()
        by, value, allowed = (float(each.expand_as(x).flatten()[place]) for each in (excess, x, slack))
        raise ValueError(
            f"record {record} of 0 … {len(x) - 1} lies outside the bounds of a valid input by {by:g}, at {value:g}; "
            f"{allowed:g} are allowed for rounding: widen low and high of the data set, or mend the record"
        )
