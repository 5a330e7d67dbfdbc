"""The rules of evidence for robustness: each a function from figures to a verdict that stands beside the number.

After Carlini et al. 2019 (arXiv:1902.06705) and the checks of AutoAttack (Croce & Hein 2020, arXiv:2003.01690).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from assay.attacks.losses import cross_entropy
from assay.results import Check, Verdict

WORST = "worst_case_accuracy"
CURVE = "robust_accuracy"


def clean_at_zero(clean: float, at_zero: list[float]) -> Check:
    """At ε = 0 every attack must leave clean accuracy as it is."""
    gap = max(abs(clean - accuracy) for accuracy in at_zero)
    return _check(
        "clean_at_zero",
        WORST,
        "fail" if gap > 0 else "pass",
        gap,
        f"accuracy at ε = 0 differs from clean accuracy by {gap:.4f}; it must not differ",
    )


def monotone(attack: str, accuracies: list[float]) -> Check:
    """Success must not fall as ε grows. A dip of an iterative attack means that it is too weak."""
    rise = max((after - before for before, after in pairwise(accuracies)), default=0.0)
    return _check(
        "monotone_in_epsilon",
        CURVE,
        "warn" if rise > 0.01 else "pass",
        max(rise, 0.0),
        f"accuracy under {attack} rises by up to {max(rise, 0):.1%} as ε grows (limit 1 point): "
        "a larger ball holds the smaller, so the attack is too weak there; trust the worst case",
        attack=attack,
    )


def unbounded_attack_wins(accuracy: float) -> Check:
    """Free to write any valid record, an attack must win."""
    return _check(
        "unbounded_attack",
        WORST,
        "fail" if accuracy > 0.05 else "pass",
        accuracy,
        f"{accuracy:.1%} of the records withstand an attack without a radius (limit 5 %): gradients are masked",
    )


def step_doubling(white_box: Tensor, doubled: Tensor, epsilon: float) -> Check:
    """Twice the steps and one more start must change less than one point."""
    gain = float((white_box | doubled).double().mean() - white_box.double().mean())
    return _check(
        "step_doubling",
        WORST,
        "warn" if gain >= 0.01 else "pass",
        gain,
        f"doubling the steps and restarting fools {gain:.1%} more of the records at ε = {epsilon:g} (limit 1 point): "
        "the attack has not converged; raise steps",
        epsilon=epsilon,
    )


def noise_loses(white_box: Tensor, noise: Tensor, epsilon: float) -> Check:
    """Blind noise must not fool what the gradient could not."""
    beaten = float((noise & ~white_box).double().mean())
    return _check(
        "noise_against_white_box",
        WORST,
        "fail" if beaten > 0 else "pass",
        beaten,
        f"random noise fools {beaten:.1%} of the records at ε = {epsilon:g} that the white-box attack "
        "could not: gradients mislead it",
        epsilon=epsilon,
    )


def losses_agree(attack: str, said: float, cross_entropy: float, margin: float, epsilon: float) -> Check:
    """The same attack must not find much more through a margin loss than through cross-entropy, which can vanish.

    Args:
        attack: an attack that climbs cross-entropy.
        said: accuracy under it.
        cross_entropy: accuracy under PGD with cross-entropy.
        margin: accuracy under PGD with a margin loss.
    """
    gap = cross_entropy - margin
    return _check(
        "gradient_masking",
        CURVE,
        "warn" if gap > 0.05 else "pass",
        max(gap, 0.0),
        f"{attack} leaves {said:.1%} at ε = {epsilon:g}; PGD leaves {cross_entropy:.1%} through cross-entropy and "
        f"{margin:.1%} through a margin loss: more than 5 points apart, gradients are masked and {attack} shows no "
        "robustness",
        attack=attack,
        epsilon=epsilon,
    )


def certified_is_never_fooled(proven: Tensor, fooled: Tensor, epsilon: float) -> Check:
    """A proof that an attack refutes is no proof: one of the two is broken.

    Args:
        proven: (n,) bool, records whose answer is proven right within ε.
        fooled: (n,) bool, records that any attack fooled within ε.
    """
    refuted = int((proven & fooled).sum())
    return _check(
        "certified_is_never_fooled",
        "certified_accuracy",
        "fail" if refuted else "pass",
        float(refuted),
        f"{refuted} of {int(proven.sum())} certified records were fooled at ε = {epsilon:g}: "
        "the certificate or the attack is wrong",
        epsilon=epsilon,
    )


def invalid_outputs(count: int) -> Check:
    """NaN is no robustness."""
    return _check(
        "finite_outputs",
        WORST,
        "fail" if count else "pass",
        float(count),
        f"the model answered NaN or infinity {count} times under attack; each counts as fooled",
    )


def model_behaviour(model: nn.Module, x: Tensor, y: Tensor) -> list[Check]:
    """Zero gradients, probability outputs, randomised passes and train mode."""
    trained = any(layer.training for layer in model.modules())
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_(True)
        logits = model(point)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, y).sum(), point)
    logits = logits.detach()
    with torch.no_grad():
        again = model(x)
    dead = float((gradient.flatten(1) == 0).all(1).double().mean())
    sums = logits.nan_to_num().sum(1)
    probabilities = bool((logits >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4))
    same = (again == logits) | (again.isnan() & logits.isnan())
    drift = float(torch.where(same, 0.0, (again - logits).abs().nan_to_num(torch.inf)).max())
    return [
        _check(
            "zero_gradients",
            WORST,
            "fail" if dead > 0.05 else "pass",
            dead,
            f"the loss has no gradient at {dead:.1%} of the records (limit 5 %): a gradient attack is blind there",
        ),
        _check(
            "probability_outputs",
            WORST,
            "warn" if probabilities else "pass",
            float(probabilities),
            "the model returns probabilities instead of logits: cross-entropy saturates and hides gradients",
        ),
        _check(
            "randomised_forward",
            WORST,
            "warn" if drift > 0 else "pass",
            drift,
            f"two passes over the same records differ by {drift:.2g}: attack the expectation over the randomness",
        ),
        _check(
            "train_mode",
            WORST,
            "fail" if trained else "pass",
            float(trained),
            "the model is in training mode",
        ),
    ]


def _check(rule: str, concerns: str, verdict: Verdict, figure: float, message: str, **conditions: str | float) -> Check:
    return Check(rule=rule, concerns=concerns, verdict=verdict, figure=figure, message=message, conditions=conditions)
