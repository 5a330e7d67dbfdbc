"""A network is surprised by labels that are wrong."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from assay.data.poisoning.label_flips import LabelFlips
from assay.data.sanitation.loss import LossSanitation
from assay.data.sanitation.ranking import without_greatest
from assay.data.treatment import Learnt, TrainingRecords, Treated
from assay.training.loop import Trainer

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
Apply = Callable[..., Treated]


def test_flipped_labels_of_separable_records_are_dropped_and_few_others(
    clouds: Clouds, learn: Callable[..., Trainer]
) -> None:
    treated = learn([LabelFlips(share=0.1), LossSanitation(share=0.12, epochs=3)], *clouds(400, gap=4.0)).treated
    assert treated is not None
    total = treated.total
    assert total.tampered == 40
    assert total.removed_tampered >= 38
    assert total.removed <= 48


def test_the_records_with_the_greatest_cross_entropy_go(apply: Apply, fixed: type) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(40, 2)).astype(np.float32), np.arange(40) % 2
    found = apply([LossSanitation(share=0.25)], x, y, fit=fixed(lambda records: 2 * records))
    losses = F.cross_entropy(torch.from_numpy(2 * x), torch.from_numpy(y), reduction="none").numpy()
    kept = [i for i in range(40) if losses[i] <= np.sort(losses[y == y[i]])[14]]
    np.testing.assert_array_equal(found.x, x[kept])


def test_the_judge_trains_as_long_as_it_is_told(clouds: Clouds, apply: Apply, fixed: type) -> None:
    asked: list[int | None] = []

    def fit(records: TrainingRecords, *, epochs: int | None = None) -> Learnt:
        asked.append(epochs)
        return fixed(lambda x: x[:, :2])

    apply([LossSanitation(epochs=7)], *clouds(), fit=fit)
    assert asked == [7]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.34, 0.99])
def test_each_class_loses_its_share_and_no_class_more(share: float) -> None:
    y = np.array([0] * 90 + [1] * 9 + [2])
    scores = np.random.default_rng(0).permutation(100).astype(float)
    kept = without_greatest(scores, y, share)
    assert [(y[~kept] == label).sum() for label in range(3)] == [int(share * 90), int(share * 9), 0]
    for label in range(3):
        own = y == label
        assert not (~kept & own).any() or scores[own & ~kept].min() > scores[own & kept].max()
