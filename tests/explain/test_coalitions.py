"""Games of groups: absent groups at the baseline or over the background, in batches of any size."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import assay.explain.coalitions as module
from assay.explain.base import ExplanationError
from assay.explain.coalitions import Game, GroupExplainer, by_count
from assay.explain.methods.kernel_shap import KernelShap
from assay.explain.methods.permutation import PermutationShapley
from assay.explain.methods.shapley import ExactShapley
from assay.explain.scalars import log_odds
from tests.explaining import reference

DOUBLE = torch.float64


class Product(nn.Module):
    """Log-odds x₀·x₁ for class 1."""

    def forward(self, x: Tensor) -> Tensor:
        value = x[:, 0] * x[:, 1]
        return torch.stack([torch.zeros_like(value), value], dim=1)


@pytest.mark.parametrize("method", [ExactShapley, PermutationShapley, KernelShap])
@pytest.mark.parametrize(("absent", "value", "base"), [("baseline", 0.375, 0.25), ("background", 0.25, 0.5)])
def test_each_game_has_its_own_values_and_base(
    method: type[GroupExplainer], absent: str, value: float, base: float
) -> None:
    about = reference(torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=DOUBLE))
    explainer = method.model_validate({"name": method.model_fields["name"].default, "absent": absent})
    found = explainer.explain(Product(), torch.ones(1, 2, dtype=DOUBLE), torch.tensor([1]), about)
    torch.testing.assert_close(found.values, torch.full((1, 2), value, dtype=DOUBLE))
    assert float(found.change) == pytest.approx(1 - base)
    assert float(found.error) < 1e-12


def game(records: int, versions: int, *, images: bool = False) -> Game:
    torch.manual_seed(0)
    shape = (2, 4, 4) if images else (6,)
    layers = [nn.Flatten(), nn.Linear(32 if images else 6, 8), nn.Tanh(), nn.Linear(8, 3)]
    x = torch.randn(records, *shape, dtype=DOUBLE)
    groups = torch.arange(16).view(1, 4, 4) % 5 if images else torch.tensor([0, 1, 1, 2, -1, 3])
    return Game(
        model=nn.Sequential(*layers).to(DOUBLE),
        x=x,
        target=torch.arange(records) % 3,
        absent=torch.randn(1, versions, *shape, dtype=DOUBLE).expand(records, versions, *shape),
        groups=groups.expand_as(x),
        scalar=log_odds,
    )


def one_by_one(played: Game, shown: Tensor) -> Tensor:
    """The mean answer over what absent groups become, for each record and coalition in turn."""
    rows = []
    for x, target, absent, groups in zip(played.x, played.target, played.absent, played.groups, strict=True):
        answers = []
        for coalition in shown:
            here = torch.tensor([number < 0 or bool(coalition[number]) for number in groups.flatten().tolist()])
            mixed = torch.where(here.view_as(x), x, absent)
            answers.append(log_odds(played.model(mixed), target.expand(len(mixed))).mean())
        rows.append(torch.stack(answers))
    return torch.stack(rows).detach()


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("versions", [1, 3])
@pytest.mark.parametrize("entries", [1, 100, 10**6])
def test_answers_are_those_of_each_record_and_coalition_alone(
    monkeypatch: pytest.MonkeyPatch, images: bool, versions: int, entries: int
) -> None:
    monkeypatch.setattr(module, "_ENTRIES", entries)
    monkeypatch.setattr(module, "_FEWEST", 1)
    played = game(4, versions, images=images)
    shown = torch.rand(7, 5 if images else 4, generator=torch.Generator().manual_seed(1)) < 0.5
    expected = one_by_one(played, shown)
    torch.testing.assert_close(played.answers(shown), expected, rtol=0, atol=1e-12)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(played.of(rows).answers(shown), expected[rows], rtol=0, atol=1e-12)


def test_records_with_other_groups_are_answered_by_their_own() -> None:
    played = replace(game(4, 2), groups=torch.stack([torch.arange(6).roll(shift) % 4 for shift in range(4)]))
    shown = torch.rand(5, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    torch.testing.assert_close(played.answers(shown), one_by_one(played, shown), rtol=0, atol=1e-12)


def test_a_text_has_no_background_records() -> None:
    x = torch.ones(1, 3, 2, dtype=DOUBLE)
    with pytest.raises(ExplanationError, match="use absent: baseline"):
        ExactShapley(absent="background").explain(
            nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).to(DOUBLE), x, torch.tensor([0]), reference(x, "text")
        )


def test_records_are_taken_by_their_number_of_groups() -> None:
    groups = torch.tensor([[0, 1, 2], [0, -1, -1], [-1, -1, -1], [0, 1, 2]])
    assert [(rows.tolist(), count) for rows, count in by_count(groups)] == [([1], 1), ([0, 3], 3)]
