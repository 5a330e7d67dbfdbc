"""Rows on optimisation: SCAFFOLD, FedProx, FedAdam."""

from typing import Any

import numpy as np
import torch

from assay.federated.buffers import BatchNormMoments
from assay.federated.flat import FlatNetwork
from assay.federated.strategies.scaffold import Scaffold
from assay.training.hooks.control_variate import CONTROL_VARIATE, ControlVariate
from tests.benchmarks.conformance.rounds import assay_round, strategy
from tests.benchmarks.conformance.row import Row, near
from tests.federated.flower_peer import flower, flower_round, flower_vector
from tests.federated.quadratics import Federation, vector

_QUADRATICS = (lambda x: x, lambda x: 4 * (x - 1))
"""Gradients of ½x² and 2(x - 1)²."""


def _scaffold() -> float:
    run = Federation(strategy=Scaffold(), gradients=_QUADRATICS, weights=vector(0.0), steps=[10, 10])
    for _ in range(400):
        run.round()
    return float(run.weights)


def _scaffold_of_pfl() -> Any:
    """pfl's formulas: c_i⁺ = c_i - c + (y - x) / (Kη), gradients corrected by c - c_i."""
    x, c, own = 0.0, 0.0, [0.0, 0.0]
    for number in range(1, 401):
        ends, changes = [], []
        for place, gradient in enumerate(_QUADRATICS):
            y = x
            for _ in range(10):
                y -= 0.1 * (gradient(y) + c - own[place])
            changes.append(-c + (y - x) / (10 * 0.1))
            own[place] += changes[-1]
            ends.append(y)
        x, c = sum(ends) / 2, c + sum(changes) / 2
        if not abs(x) < 1e6:
            return f"diverges in round {number}"
    return x


def _bookkeeping() -> float:
    """Greatest distance of c from the mean of all c_i over 20 rounds of 3 of 10 clients."""
    draw = np.random.default_rng(0)
    gradients = [lambda x, target=target: x - target for target in draw.normal(size=10)]
    run = Federation(strategy=Scaffold(), gradients=gradients, weights=vector(0.0), steps=[8] * 10)
    worst = 0.0
    for _ in range(20):
        run.round(draw.choice(10, 3, replace=False).tolist())
        variates = [hook.variate for (hook,) in run.hooks if isinstance(hook, ControlVariate)]
        mean = sum(float(variate) for variate in variates if variate is not None) / 10
        worst = max(worst, abs(float(run.server.sent()[CONTROL_VARIATE]) - mean))
    return worst


def _first_round() -> float:
    ends = []
    for made in (Scaffold(), strategy("fedavg")):
        run = Federation(strategy=made, gradients=_QUADRATICS, weights=vector(0.3), steps=[10, 7], records=[7, 3])
        run.round()
        ends.append(float(run.weights))
    return abs(ends[0] - ends[1])


def _pull() -> float:
    (term,) = strategy("fedprox", proximal_mu=1.0).hooks()
    term.start_round([torch.zeros(2)], {})
    return float(term.gradients(0, [torch.tensor([3.0, 4.0])], [torch.zeros(2)])[0].norm())


def _documented_pull() -> float:
    """The snippet of the docstring of Flower's FedProx: μ/2 times the sum of the norms, not squared."""
    weights = torch.tensor([3.0, 4.0], requires_grad=True)
    (0.5 * 1.0 * (weights - torch.zeros(2)).norm(2)).backward()
    assert weights.grad is not None
    return float(weights.grad.norm())


def _variance() -> float:
    """Variance of batch norm after a round of FedAdam, in a network that has one."""
    flat = FlatNetwork(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1)))
    flat.network[1].running_var.fill_(0.05)
    moments = BatchNormMoments(flat.network)
    assay_round(strategy("fedadam"), flat.vector.double(), [torch.ones(len(flat.vector)).double()] * 3, [5, 5, 5])
    sent = flat.buffers()
    after = {**sent, "1.running_var": torch.tensor([0.02]), "1.num_batches_tracked": torch.tensor(1000)}
    replies = [moments.vector(sent, after) for _ in range(3)]
    joined = moments.joined(torch.stack(replies).mean(0), [1], sent)
    return float(joined["1.running_var"])


def _variance_of_flower(name: str) -> float:
    found = flower_round(flower(name, 3, eta=0.1), {"var": np.array([0.05])}, [{"var": np.array([0.02])}] * 3)
    assert found is not None
    return float(found["var"][0])


def _first_step() -> float:
    made = strategy("fedadam", learning_rate=1.0, tau=0.0)
    return float(assay_round(made, vector(0.0), [vector(1.0)], [1]))


def _first_step_of_flower() -> float:
    found = flower_vector(flower("FedAdam", 1, eta=1.0, tau=0.0), [0.0], [[1.0]])
    assert found is not None
    return float(found[0])


ROWS = (
    Row(
        fault=1,
        name="scaffold_sign",
        input="½x² and 2(x - 1)², η 0.1, 10 steps, 400 rounds of SCAFFOLD",
        right="0.8",
        accepts=near(0.8),
        assay=_scaffold,
        pfl=_scaffold_of_pfl,
    ),
    Row(
        fault=2,
        name="scaffold_bookkeeping",
        input="10 clients, 3 drawn a round, 8 steps: distance of c from the mean of all c_i",
        right="0, to 1e-12",
        accepts=near(0.0, 1e-12),
        assay=_bookkeeping,
    ),
    Row(
        fault=3,
        name="scaffold_start",
        input="first round of SCAFFOLD less that of FedAvg, unequal records and steps",
        right="0, bit for bit",
        accepts=near(0.0, 0.0),
        assay=_first_round,
    ),
    Row(
        fault=5,
        name="proximal_term",
        input="μ 1, distance (3, 4): length of the pull; Flower by the snippet of its docstring",
        right="5",
        accepts=near(5.0, 1e-6),
        assay=_pull,
        flower=_documented_pull,
    ),
    *(
        Row(
            fault=6,
            name=f"{name.lower()}_on_variances",
            input=f"{name}, η 0.1: running_var 0.05, clients say 0.02",
            right="no variance below 0: buffers are never optimised",
            accepts=lambda given: isinstance(given, float) and given >= 0,
            assay=_variance,
            flower=lambda name=name: _variance_of_flower(name),
        )
        for name in ("FedAdam", "FedYogi")
    ),
    Row(
        fault=7,
        name="fedadam_first_step",
        input="FedAdam, η 1, Δ 1, τ 0, first round",
        right="1",
        accepts=near(1.0),
        assay=_first_step,
        flower=_first_step_of_flower,
    ),
)
