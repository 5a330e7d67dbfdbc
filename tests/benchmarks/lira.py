"""Members recognised at 1 % false accusations: LiRA beside the published formula, on the same shadow models.

Generated records, an overfitted network of one hidden layer of 256, 16 shadows. Eighteen networks are trained, each on
half of the records, all in one tensor; each is attacked by those that are neither it nor its complement.
"""

from typing import Any

import numpy as np
import torch

from assay.data.generated import Generated
from assay.evaluations.likelihood import Mode, likelihood_ratio
from assay.evaluations.roc import threshold

NETWORKS, HIDDEN, EPOCHS, BATCH, RATE = 18, 256, 60, 64, 0.01


def measure() -> dict[str, Any]:
    """True-positive rates, mean over all networks, and ratios to the better of the two published formulas."""
    dataset = Generated(size=2200).load()
    assert isinstance(dataset.x, np.ndarray)
    inside = _halves(len(dataset))
    said = _trained(torch.from_numpy(dataset.x), torch.from_numpy(dataset.y), inside)
    rates: dict[str, float] = {}
    modes: tuple[Mode, ...] = ("online", "offline")
    for mode in modes:
        for name, per_record in {"shared_variance": False, "own_variance": True, "ours": None}.items():
            rates[f"{mode}_{name}"] = _recognised(said, inside, mode, per_record)
    better = {mode: max(rates[f"{mode}_shared_variance"], rates[f"{mode}_own_variance"]) for mode in modes}
    return {
        "unit": f"true-positive rate at a false-positive rate of {RATE:g}, mean over {NETWORKS} networks",
        **{name: round(rate, 4) for name, rate in rates.items()},
        "ratio": {mode: round(rates[f"{mode}_ours"] / better[mode], 2) for mode in modes},
        "bar": {"online": 1.3, "offline": 0.95},
    }


def _halves(records: int) -> np.ndarray:
    """(networks, records) bool: who is trained on; two after each other share out the records."""
    generator = np.random.default_rng(0)
    firsts = np.stack([generator.permutation(records) < records // 2 for _ in range(NETWORKS // 2)])
    return np.stack([firsts, ~firsts], 1).reshape(NETWORKS, records)


def _trained(x: torch.Tensor, y: torch.Tensor, inside: np.ndarray) -> np.ndarray:
    """(networks, records) confidence of the true class after training."""
    generator = np.random.default_rng(1)
    torch.manual_seed(0)
    shapes = [(x.shape[1], x.shape[1], HIDDEN), (x.shape[1], 1, HIDDEN), (HIDDEN, HIDDEN, 2), (HIDDEN, 1, 2)]
    weights = [((torch.rand(NETWORKS, *shape) * 2 - 1) / inputs**0.5).requires_grad_() for inputs, *shape in shapes]

    def logits(records: torch.Tensor) -> torch.Tensor:
        return torch.relu(records @ weights[0] + weights[1]) @ weights[2] + weights[3]

    optimizer = torch.optim.Adam(weights, lr=0.003)
    members = [np.flatnonzero(one) for one in inside]
    for _ in range(EPOCHS):
        order = np.stack([generator.permutation(own) for own in members])
        for start in range(0, order.shape[1], BATCH):
            batch = torch.from_numpy(order[:, start : start + BATCH])
            answers, labels = logits(x[batch]).flatten(0, 1), y[batch].flatten()
            loss = torch.nn.functional.cross_entropy(answers, labels, reduction="sum") / batch.shape[1]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        margin = logits(x.expand(NETWORKS, -1, -1)).double().diff(dim=2)[..., 0].numpy()
    return np.asarray(np.where(y.numpy() == 1, margin, -margin))


def _recognised(said: np.ndarray, inside: np.ndarray, mode: Mode, per_record: bool | None) -> float:
    rates = []
    for target in range(NETWORKS):
        shadows = np.arange(NETWORKS) // 2 != target // 2
        score = likelihood_ratio(said[target], said[shadows], inside[shadows], mode=mode, per_record=per_record)
        member = inside[target]
        rates.append(float((score[member] > threshold(score[~member], RATE)).mean()))
    return float(np.mean(rates))
