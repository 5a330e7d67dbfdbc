"""A walk along the boundary finds the nearest one where nothing but the answered class can be asked."""

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.hop_skip_jump import HopSkipJump
from assay.attacks.pgd import PGD
from assay.threats import Bounds, Norm, Threat

BOUNDS = Bounds(low=torch.tensor(-3.0), high=torch.tensor(3.0))


class Lookup(nn.Module):
    """Says of a record what is known of the nearest of some others, and nothing else: two points, far apart."""

    def __init__(self) -> None:
        super().__init__()
        self.known = torch.tensor([[-1.0, -0.5, 0.0, 0.2], [1.0, 0.5, 0.4, -0.2]])

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.cdist(x, self.known).argmin(1), 2).float()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_distance_to_the_border_between_two_neighbours_is_found(norm: Norm) -> None:
    """It is a plane: |w·x − b| / ‖w‖ away, in the dual norm."""
    model = Lookup().eval()
    x = model.known.repeat_interleave(20, 0) + 0.3 * torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    weight, middle = model.known[1] - model.known[0], model.known.mean(0)
    exact = ((x - middle) @ weight).abs() / torch.linalg.vector_norm(weight, 1 if norm == "linf" else 2)
    threat = Threat(norm=norm, epsilon=float("inf"), bounds=BOUNDS)
    found = HopSkipJump().run(model, x, y, threat, seed=0)
    assert found.fooled.all()
    assert (found.distance >= exact - 1e-4).all()
    assert float((found.distance / exact).median()) < 1.15
    assert PGD(loss="margin").run(model, x, y, threat.at(1.2 * float(exact.max())), seed=0).accuracy == 1.0


def test_without_steps_it_goes_straight_back_from_records_of_the_other_class() -> None:
    model = Lookup().eval()
    x = model.known.repeat_interleave(3, 0)
    found = HopSkipJump(steps=0).run(
        model, x, model(x).argmax(1), Threat(norm="l2", epsilon=float("inf"), bounds=BOUNDS), seed=0
    )
    torch.testing.assert_close(found.x, model.known.mean(0).expand_as(x), rtol=0, atol=2e-3)


def test_it_starts_from_records_that_it_is_told_of_beyond_its_batch() -> None:
    """One record in a thousand directions is answered otherwise: no random one is, nor any of the batch."""
    elsewhere = torch.zeros(1, 1000)
    elsewhere[0, 7] = 2.5

    class Needle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot((torch.cdist(x, elsewhere)[:, 0] < 2).long(), 2).float()

    x, y = torch.zeros(3, 1000), torch.zeros(3, dtype=torch.long)
    threat = Threat(norm="l2", epsilon=float("inf"), bounds=BOUNDS)
    attack = HopSkipJump(steps=0)
    assert not attack.run(Needle(), x, y, threat, seed=0).fooled.any()
    found = attack.run(Needle(), x, y, threat, seed=0, known=torch.cat([x, elsewhere]))
    assert found.fooled.all()
    torch.testing.assert_close(found.distance, torch.full((3,), 0.5), rtol=0, atol=2e-3)
    assert attack == HopSkipJump(steps=0)
    assert attack.starting_from(elsewhere).model_dump() == attack.model_dump()
