"""Matching gradients finds the record of a convolutional network, and finds none in noise."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from assay.data.base import Dataset
from assay.errors import UserError
from assay.federated.inversion.matching import GradientMatching, candidate_scores
from assay.federated.inversion.observed import ObservedUpdate, gradient_of_step
from assay.training.loop import Trainer

Client = Callable[..., Trainer]
ROWS = (0, 1, 2)


def searched(
    search: GradientMatching, trainer: Trainer, updates: list[ObservedUpdate], digits: Dataset
) -> torch.Tensor:
    return search.reconstruct(
        trainer.model,
        updates,
        torch.from_numpy(digits.y[list(ROWS), None]),
        shape=digits.shape,
        bounds=digits.bounds,
        generator=np.random.default_rng(0),
    )[:, 0]


@pytest.mark.parametrize(
    ("search", "limit"),
    [
        (GradientMatching(iterations=80), 1e-2),
        (GradientMatching(optimizer="lbfgs", distance="l2", iterations=60, total_variation=0, restarts=2), 5e-2),
    ],
    ids=["Geiping", "DLG"],
)
def test_the_record_of_a_convolutional_network_is_found(
    client: Client, digits: Dataset, search: GradientMatching, limit: float
) -> None:
    trainer = client("cnn")
    found = searched(search, trainer, [gradient_of_step(trainer, [row]) for row in ROWS], digits)
    everyone = torch.from_numpy(digits.x[:600])
    apart = torch.cdist(found.flatten(1), everyone.flatten(1))
    assert apart.argmin(1).tolist() == list(ROWS)
    assert (found - everyone[list(ROWS)]).square().mean() < limit
    assert found.min() >= 0
    assert found.max() <= 1


def test_each_update_is_attacked_by_itself(client: Client, digits: Dataset) -> None:
    trainer, search = client("cnn"), GradientMatching(iterations=3)
    updates = [gradient_of_step(trainer, [row]) for row in ROWS]
    together = searched(search, trainer, updates, digits)
    others = [updates[0], *(gradient_of_step(trainer, [row]) for row in (7, 8))]
    assert torch.allclose(together[0], searched(search, trainer, others, digits)[0], atol=1e-4)


def test_large_networks_give_the_same_one_after_the_other(
    client: Client, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, search = client("cnn"), GradientMatching(iterations=3)
    updates = [gradient_of_step(trainer, [row]) for row in ROWS]
    together = searched(search, trainer, updates, digits)
    monkeypatch.setattr("assay.federated.inversion.matching._TOGETHER", 1)
    assert torch.allclose(together, searched(search, trainer, updates, digits), atol=1e-4)


def test_the_network_is_left_as_it_was(client: Client, digits: Dataset) -> None:
    trainer = client("cnn")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.model.train()
    searched(GradientMatching(iterations=1), trainer, [gradient_of_step(trainer, [row]) for row in ROWS], digits)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in trainer.parameters)


def test_an_update_of_another_network_is_refused(client: Client, digits: Dataset) -> None:
    other = gradient_of_step(client("mlp"), [0])
    with pytest.raises(UserError, match="other parameters than the network"):
        searched(GradientMatching(iterations=1), client("cnn"), [other] * 3, digits)


def test_candidates_are_scored_by_the_angle_of_their_gradients(client: Client, digits: Dataset) -> None:
    trainer = client("cnn")
    x, y = torch.from_numpy(digits.x[:6]), torch.from_numpy(digits.y[:6])
    scores = candidate_scores(trainer.model, gradient_of_step(trainer, [4]), x, y)
    gradients = [torch.cat([g.flatten() for g in gradient_of_step(trainer, [row]).gradients]) for row in range(6)]
    expected = [torch.cosine_similarity(one, gradients[4], dim=0) for one in gradients]
    assert torch.allclose(scores, torch.stack(expected), atol=1e-5)
    assert int(scores.argmax()) == 4
