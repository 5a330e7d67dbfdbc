"""Checks of a model itself that make a robustness figure an illusion: no gradient, probabilities, randomness, its mode.

After Carlini et al. 2019 (arXiv:1902.06705).
"""

import torch
from torch import Tensor, nn

from assay.attacks.gradients import input_gradient
from assay.attacks.losses import cross_entropy, margin
from assay.evaluations.checks import WORST
from assay.results import Check, Verdict


def model_behaviour(model: nn.Module, x: Tensor, y: Tensor) -> list[Check]:
    """Checks for zero gradients, probability outputs, randomised passes, and answers that depend on the batch.

    Args:
        model: in evaluation mode, as it is judged.
        x: (n, ...) valid records, as many as the model can take at once.
        y: (n,) their labels.

    Returns:
        Four checks.
    """
    with torch.enable_grad():
        point = x.detach().clone().requires_grad_(True)
        gradients = [input_gradient(loss(model(point), y), point) for loss in (cross_entropy, margin)]
    with torch.no_grad():
        logits = model(x)
        drift = _gap(model(x), logits)
        half = len(x) // 2
        shift = _gap(model(x[:half]), logits[:half]) if half else 0.0
    return [
        zero_gradients(*gradients),
        probability_outputs(logits),
        randomised_forward(drift),
        batch_dependence(shift, drift, float(logits.nan_to_num().abs().max())),
    ]


def zero_gradients(*gradients: Tensor) -> Check:
    """Checks that some loss has a gradient at nearly every record.

    A confident model may have no gradient of cross-entropy at some records where a margin has one; ``losses_agree``
    tests whether that hides anything.

    Args:
        gradients: (n, ...) of each record, by loss.

    Returns:
        The check.
    """
    dead = torch.stack([(gradient.flatten(1).nan_to_num() == 0).all(1) for gradient in gradients]).all(0)
    share = float(dead.double().mean())
    return _check(
        "zero_gradients",
        "fail" if share > 0.05 else "pass",
        share,
        f"no loss has a gradient at {share:.1%} of the records (limit 5 %): a gradient attack is blind there; "
        "attack through a stand-in with another backward pass, and without gradients",
    )


def probability_outputs(logits: Tensor) -> Check:
    """Checks that the model does not return probabilities, which hide most of the gradient of cross-entropy.

    Their logarithms are as good as logits: a softmax leaves them unchanged.

    Args:
        logits: (n, classes) output of the model.

    Returns:
        The check.
    """
    known = logits.nan_to_num()
    sums = known.sum(1)
    same_sums = len(sums) > 1 and torch.allclose(sums, sums[:1].expand_as(sums), rtol=1e-4, atol=0)
    probabilities = bool((known >= 0).all() and (same_sums or known.max() <= 1))
    return _check(
        "probability_outputs",
        "warn" if probabilities else "pass",
        float(probabilities),
        "the model returns probabilities instead of logits: cross-entropy saturates and hides gradients; return "
        "what goes into the softmax, or its logarithm",
    )


def randomised_forward(drift: float) -> Check:
    """Checks that two passes over the same records agree.

    Args:
        drift: greatest difference between the two passes.

    Returns:
        The check.
    """
    return _check(
        "randomised_forward",
        "warn" if drift > 0 else "pass",
        drift,
        f"two passes over the same records differ by {drift:.2g}: attacks are judged by the mean of several passes "
        "with fixed draws, all other figures are of single ones; attack the expectation over the randomness",
    )


def batch_dependence(shift: float, drift: float, size: float) -> Check:
    """Checks that the answer to a record does not depend on the other records of its batch.

    Args:
        shift: greatest difference of the same records' logits in two batches.
        drift: the same in one batch twice, which is due to randomness.
        size: greatest logit; sums in another order differ by far less than the limit of 1 %.

    Returns:
        The check.
    """
    shift = max(shift - 3 * drift, 0.0)
    return _check(
        "batch_dependence",
        "fail" if shift > 0.01 * size else "pass",
        shift,
        f"logits shift by {shift:.2g} with the other records of a batch (limit 1 % of the greatest, {size:.2g}): the "
        "model behaves as in training; use the averages that batch norm has learnt",
    )


def train_mode(model: nn.Module) -> Check:
    """Checks that no layer of the model is in training mode.

    Args:
        model: as it was given.

    Returns:
        The check.
    """
    training = sum(layer.training for layer in model.modules())
    return _check(
        "train_mode",
        "fail" if training else "pass",
        float(training),
        f"{training} of the model's layers are in training mode; call model.eval() before it is measured",
    )


def _gap(one: Tensor, other: Tensor) -> float:
    """Returns the greatest difference; infinite where only one of the two is a number."""
    same = (one == other) | (one.isnan() & other.isnan())
    return float(torch.where(same, 0.0, (one - other).abs().nan_to_num(torch.inf)).max())


def _check(rule: str, verdict: Verdict, figure: float, message: str) -> Check:
    return Check(rule=rule, concerns=WORST, verdict=verdict, figure=figure, message=message)
