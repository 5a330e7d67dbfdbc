"""What attacks climb, against values worked out by hand."""

import pytest
import torch

from assay.attacks.losses import LOSSES, dlr, margin
from assay.tasks.classification import CLASSIFICATION

LOGITS = torch.tensor([[5.0, 3.0, 1.0, 0.0], [2.0, 6.0, 4.0, -2.0]], dtype=torch.float64)


def test_dlr_is_the_margin_over_the_lead_on_the_third_class() -> None:
    # (3 - 5) / (5 - 1), and where the label is the second class in rank (6 - 4) / (6 - 2).
    torch.testing.assert_close(dlr(LOGITS, torch.tensor([0, 2])), torch.tensor([-0.5, 0.5]).double())


def test_dlr_of_two_classes_is_the_margin() -> None:
    logits = LOGITS[:, :2]
    for label in (0, 1):
        y = torch.full((2,), label)
        assert torch.equal(dlr(logits, y), margin(logits, y))


@pytest.mark.parametrize(("factor", "shift"), [(1e-3, 0.0), (1e3, 0.0), (1.0, 50.0), (7.0, -3.0)])
def test_dlr_looks_at_neither_scale_nor_shift(factor: float, shift: float) -> None:
    y = torch.tensor([3, 1])
    torch.testing.assert_close(dlr(factor * LOGITS + shift, y), dlr(LOGITS, y))


@pytest.mark.parametrize("name", ["margin", "dlr"])
def test_a_loss_is_positive_exactly_where_the_record_is_misclassified(name: str) -> None:
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    y = torch.arange(200) % 5
    assert torch.equal(LOSSES[name](logits, y) > 0, CLASSIFICATION.wrong(logits, y))


@pytest.mark.parametrize("name", list(LOSSES))
def test_equal_logits_leave_a_finite_gradient(name: str) -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    LOSSES[name](logits, torch.tensor([0, 1])).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
