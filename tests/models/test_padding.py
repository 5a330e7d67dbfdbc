"""A position that holds nothing is never there."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from assay.models.padding import close_up, occupied

sentences = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=5)


@given(kept=sentences)
def test_what_is_held_moves_to_the_beginning_in_order(kept: list[list[bool]]) -> None:
    mask = torch.tensor(kept)
    x = (1.0 + torch.arange(mask.numel() * 2).view(*mask.shape, 2)) * mask[..., None]
    closed, still = close_up(x)
    longest = max(1, int(mask.sum(1).max()))
    assert closed.shape == (len(mask), longest, 2)
    for row in range(len(mask)):
        held_here = x[row][mask[row]]
        assert torch.equal(closed[row, : len(held_here)], held_here)
        assert not closed[row, len(held_here) :].any()
        assert still[row].tolist() == [True] * len(held_here) + [False] * (longest - len(held_here))


def test_one_entry_that_is_not_zero_holds_something() -> None:
    assert occupied(torch.tensor([[[0.0, 0.0], [0.0, -1e-9], [-0.0, 0.0]]])).tolist() == [[False, True, False]]


def test_gradients_return_to_where_the_vectors_were() -> None:
    x = torch.tensor([[[1.0], [0.0], [2.0]], [[0.0], [0.0], [3.0]]], requires_grad=True)
    closed, _ = close_up(x)
    (closed * torch.tensor([10.0, 20.0])[:, None]).sum().backward()
    assert x.grad is not None
    # Row 1 holds one word, at the first of its two places; the second is one of its own empty positions.
    assert x.grad[0, :, 0].tolist() == [10.0, 0.0, 20.0]
    assert x.grad[1, 2, 0].item() == 10.0
