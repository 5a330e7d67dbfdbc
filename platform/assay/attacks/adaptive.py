"""Adaptive attacks: chosen by the checks that suspect gradient masking (Tramèr et al. 2020, arXiv:2002.08347).

Some attack a substitute model with the same outputs and a useful backward pass; others need no gradient. All are judged
on the model itself.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from assay.attacks.base import Attack
from assay.attacks.expectation import Expectation
from assay.attacks.gradients import input_gradient
from assay.attacks.pgd import PGD
from assay.attacks.straight_through import straight_through
from assay.attacks.targeted_pgd import TargetedPGD
from assay.registry import build
from assay.seeds import generators_kept

_BLACK_BOX = frozenset({"black_box_against_white_box", "black_box_on_survivors"})
BLINDED = _BLACK_BOX | {"zero_gradients", "unbounded_attack"}
"""Checks that fail where gradients are zero or useless."""
SHATTERED = _BLACK_BOX | {"true_slopes"}
"""Checks that fail where gradients exist but point in wrong directions."""
SEARCHED = BLINDED | SHATTERED
"""Checks after which attacks without a gradient may succeed where gradient attacks fail."""
SATURATED = frozenset({"gradient_masking"})
"""Checks that fail where cross-entropy saturates and a margin loss does not."""
RANDOM = frozenset({"randomised_forward"})
PROBABILITIES = frozenset({"probability_outputs"})
STOPPED_EARLY = frozenset({"stronger_attack", "step_size", "boundary_reached", "monotone_in_epsilon"})
"""Checks that fail where an attack stopped too early."""
_SHAKEN = 0.05
"""Standard deviation of the noise that smooths a shattered gradient, as a share of each input's own."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveAttack:
    """One adaptive attack."""

    label: str
    attack: Attack
    through: nn.Module | None
    """Network that the attack sees; None for the model itself."""
    because: tuple[str, ...]
    """Names of the checks that it responds to."""


class LogitsOfProbabilities(nn.Module):
    """Logits of a model that returns probabilities: their logarithm.

    If the probabilities come from a softmax, the logarithm is computed from the logits, so no precision is lost.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with _LastSoftmax() as softmax:
            probabilities = self.model(x)
        if softmax.value is probabilities and softmax.logits is not None:
            return softmax.logits.log_softmax(1)
        # Avoids the logarithm of 0, and keeps a steep, non-zero slope there.
        limits = torch.finfo(probabilities.dtype)
        steep = (probabilities + (probabilities.clamp_min(limits.eps) - probabilities).detach()).log()
        return steep + (probabilities.clamp_min(limits.tiny).log() - steep).detach()


class _LastSoftmax(TorchFunctionMode):
    """Records the input and the output of the last softmax over classes within the block."""

    def __init__(self) -> None:
        super().__init__()
        self.logits: Tensor | None = None
        self.value: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        value = func(*args, **kwargs)
        softmax = args and getattr(func, "__name__", "") in ("softmax", "special_softmax")
        if softmax and value.dim() == 2 and (args[1] if len(args) > 1 else kwargs.get("dim")) in (1, -1):
            self.logits, self.value = args[0].to(value.dtype), value
        return value


class NearBy(nn.Module):
    """Model with noise on its inputs; averaged over many passes, its gradient is that of a smoothed model.

    Args:
        model: the model under suspicion.
        spread: (...) standard deviation of the noise, broadcasts to one record.
    """

    def __init__(self, model: nn.Module, spread: Tensor) -> None:
        super().__init__()
        self.model = model
        self.spread: Tensor
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x + self.spread.to(x) * torch.randn_like(x))


def answers(raised: Collection[str], model: nn.Module, x: Tensor, *, steps: int, samples: int) -> list[AdaptiveAttack]:
    """Returns the adaptive attacks that respond to checks that did not pass.

    Args:
        raised: names of the checks with a verdict of ``warn`` or ``fail``.
        model: the model under suspicion, in evaluation mode.
        x: (n, ...) some valid records, on which its gradients are probed.
        steps: of PGD.
        samples: passes over which a randomised model is averaged.

    Returns:
        The attacks; none where all checks passed.
    """
    raised, stand_in = frozenset(raised), _stand_in(raised, model, x, samples)
    margin = PGD(steps=steps, loss="margin")
    thorough = TargetedPGD(steps=5 * steps, restarts=3, momentum=0.75)
    smooth = Expectation(NearBy(model if stand_in is None else stand_in[1], _SHAKEN * x.std(0, correction=0)), samples)
    possible: list[tuple[str, Attack, nn.Module | None, frozenset[str]]] = [
        ("pgd_margin", margin, None, SATURATED),
        ("pgd_smoothed_input", PGD(steps=2 * steps, loss="margin", momentum=1.0), smooth, SHATTERED),
        ("pgd_long", thorough, None, STOPPED_EARLY | SHATTERED),
        ("spsa", _attack("spsa"), None, SEARCHED),
        ("square", _attack("square"), None, SEARCHED | SATURATED),
        ("hop_skip_jump", _attack("hop_skip_jump"), None, SEARCHED),
    ]
    if stand_in is not None:
        name, through = stand_in
        possible.insert(0, (f"pgd_{name}", margin, through, BLINDED | RANDOM | PROBABILITIES))
    return [
        AdaptiveAttack(label=label, attack=attack, through=through, because=tuple(sorted(raised & rules)))
        for label, attack, through, rules in possible
        if raised & rules
    ]


def _stand_in(raised: Collection[str], model: nn.Module, x: Tensor, samples: int) -> tuple[str, nn.Module] | None:
    """Returns the substitute model that the failed checks require, and its name; None to use the model itself."""
    # The logarithm is the innermost wrapper: it must see the output of the model's own softmax.
    seen: nn.Module = LogitsOfProbabilities(model) if PROBABILITIES & set(raised) else model
    steps = [] if seen is model else ["logarithm"]
    if BLINDED & set(raised):
        bridged = straight_through(seen, x)
        if not _same_gradient(seen, bridged, x):
            seen, steps = bridged, ["straight_through", *steps]
    if RANDOM & set(raised):
        seen, steps = Expectation(seen, samples), [*steps, "expectation"]
    return ("_".join(steps), seen) if steps else None


def _same_gradient(model: nn.Module, other: nn.Module, x: Tensor) -> bool:
    """Returns whether two networks have equal gradients at some records."""
    gradients = []
    for network in (model, other):
        point = x.clone().requires_grad_(True)
        # The generator is restored each time, so that both networks see the same random draws.
        with generators_kept(), torch.enable_grad():
            best = network(point).amax(1)
        gradients.append(input_gradient(best, point).nan_to_num())
    return torch.equal(*gradients)


def _attack(name: str) -> Attack:
    attack = build("attack", name)
    assert isinstance(attack, Attack)
    return attack
