"""PGD towards each wrong class finds what PGD by the best wrong class cannot."""

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.losses import runners_up, targeted_margin
from assay.attacks.pgd import PGD
from assay.attacks.targeted_pgd import TargetedPGD
from assay.threats import Bounds, Norm, Threat

WIDE = Bounds(low=torch.tensor(-9.0), high=torch.tensor(9.0))


class Decoy(nn.Module):
    """Class 1 is always the best wrong one and never wins; class 2 wins where the second input exceeds 0.4."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, 0], x[:, 1]
        lead = 5 * (second - 0.4)
        return torch.stack(
            [torch.zeros_like(lead), -0.01 - 0.01 * first.abs(), torch.where(lead > 0, lead, lead - 1)], 1
        )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_class_that_never_leads_on_the_way_is_reached(norm: Norm) -> None:
    x, y = torch.zeros(6, 2), torch.zeros(6, dtype=torch.long)
    threat, radii = Threat(norm=norm, epsilon=0.0, bounds=WIDE), [0.2, 0.39, 0.45, 1.0]
    untargeted, targeted = (
        attack.curve(Decoy(), x, y, threat, radii, seed=0) for attack in (PGD(loss="margin"), TargetedPGD())
    )
    assert [point.accuracy for point in untargeted.values()] == [1, 1, 1, 1]
    assert [point.accuracy for point in targeted.values()] == [1, 1, 0, 0]


def test_a_target_that_is_left_out_is_not_climbed_towards() -> None:
    x, y = torch.zeros(6, 2), torch.zeros(6, dtype=torch.long)
    threat = Threat(norm="linf", epsilon=0.45, bounds=WIDE)
    assert TargetedPGD(targets=1).run(Decoy(), x, y, threat, seed=0).accuracy == 1
    assert TargetedPGD(targets=2).run(Decoy(), x, y, threat, seed=0).accuracy == 0


def test_runners_up_are_the_wrong_classes_in_the_order_of_their_logits() -> None:
    logits, y = torch.tensor([[5.0, 3.0, 1.0, 4.0], [2.0, 6.0, 4.0, -2.0]]), torch.tensor([0, 2])
    assert runners_up(logits, y, 9).tolist() == [[3, 1, 2], [1, 0, 3]]
    assert runners_up(logits, y, 1).tolist() == [[3], [1]]
    assert targeted_margin(logits, y, torch.tensor([3, 0])).tolist() == [-1.0, -2.0]


class Valley(nn.Module):
    """A margin that rises gently along a crest, and falls steeply on both sides of it."""

    def forward(self, x: Tensor) -> Tensor:
        rise = 0.3 * x[:, 1] - x[:, 0].abs()
        return torch.stack([torch.full_like(rise, 0.2), rise], 1)


def test_a_climb_goes_on_along_a_crest_instead_of_swinging_across_it() -> None:
    bounds = Bounds(low=torch.tensor(-5.0), high=torch.tensor(5.0))
    threat = Threat(norm="l2", epsilon=1.0, bounds=bounds)
    x, y = torch.zeros(40, 2), torch.zeros(40, dtype=torch.long)
    fooled = {m: TargetedPGD(momentum=m).run(Valley(), x, y, threat, seed=0).fooled for m in (0.0, 0.75)}
    assert fooled[0.0].double().mean() < 0.7
    assert fooled[0.75].double().mean() > 0.9
    assert torch.equal(TargetedPGD().run(Valley(), x, y, threat, seed=0).fooled, fooled[0.75]), "as it is by default"
