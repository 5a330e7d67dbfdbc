"""The greatest changes are sent, and the rest in time."""

import numpy as np
import pytest
import torch

from assay.federated.transforms.pipeline import Pipeline
from assay.federated.transforms.top_k import TopK, largest


def test_the_greatest_magnitudes_are_found_as_by_sorting() -> None:
    draw = np.random.default_rng(0)
    for size, count in ((1, 1), (50, 7), (50, 50), (1000, 333)):
        magnitudes = draw.integers(0, 40, size).astype(np.float32)  # with many equal ones
        by_sorting = np.sort(np.lexsort((np.arange(size), -magnitudes))[:count])
        assert largest(magnitudes, count).tolist() == by_sorting.tolist()


@pytest.mark.parametrize(("share", "size", "count"), [(0.01, 50, 1), (0.29, 100, 29), (0.07, 100, 7), (1.0, 9, 9)])
def test_a_share_is_a_whole_number_of_values_and_at_least_one(share: float, size: int, count: int) -> None:
    assert TopK(share=share).count(size, [(size,)]) == count


def test_what_was_held_back_is_sent_once_it_has_grown() -> None:
    pipeline = Pipeline([TopK(share=0.5)], [(2,)])
    state: dict[str, torch.Tensor] = {}
    sent: list[list[float]] = []
    for _ in range(4):
        one = pipeline.encode(torch.tensor([1.0, 0.4]), state, generator=np.random.default_rng(0))
        state = one.state
        sent.append(one.decoded.tolist())
    # The residual of the second weight is 0.4, 0.8, then 1.2 > 1 is sent, and the first weight waits.
    assert sent[:2] == [[1.0, 0.0], [1.0, 0.0]]
    assert sent[2] == pytest.approx([0.0, 1.2]) and sent[3] == pytest.approx([2.0, 0.0])
