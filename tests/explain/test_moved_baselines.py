"""Maps are compared with those by gradients on lines that keep away from the baseline."""

import math

import pytest
import torch
from torch import Tensor, nn

from assay.explain.measures.base import MeasuredRecords
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.moved_baselines import LINES, likeness_on_moved_lines, lines_away
from assay.explain.references import Reference
from tests.benchmarks.known_answers.near_baseline import Bump
from tests.benchmarks.known_answers.networks import DOUBLE, Score, linear


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def records(model: nn.Module, *, n: int = 12, entries: int = 8) -> MeasuredRecords:
    x = numbers(n, entries, seed=1)
    pool = numbers(60, entries, seed=2) + 1
    about = Reference(modality="tabular", background=pool[:10], middle=pool.mean(0, keepdim=True), source="a test")
    return MeasuredRecords(model=model, x=x, target=torch.ones(n, dtype=torch.long), reference=about, pool=pool, seed=0)


def likeness(given: MeasuredRecords) -> tuple[Tensor, Tensor]:
    values = IntegratedGradients().explain(given.model, given.x, given.target, given.reference).values
    return likeness_on_moved_lines(values, given)


def test_maps_of_a_linear_network_are_the_same_on_all_lines() -> None:
    alike, among = likeness(records(linear(*numbers(8).tolist())))
    torch.testing.assert_close(alike, torch.ones_like(alike))
    torch.testing.assert_close(among, torch.ones_like(among))


@pytest.mark.parametrize("shape", ["round", "long", "slope"])
def test_a_bump_at_the_baseline_changes_the_map_and_no_moved_line(shape: str) -> None:
    given = records(linear(*numbers(8).tolist()))
    middle = given.reference.baseline(given.x)[:1]
    radius = float((given.pool - middle).norm(dim=1).min())
    bump = Bump(given.model, middle, radius=radius, shape=shape, height=300.0).to(DOUBLE).eval()  # type: ignore[arg-type]
    torch.testing.assert_close(bump(given.pool), given.model(given.pool))
    alike, among = likeness(records(bump))
    assert float(alike.mean()) < 0.5
    assert float(among.min()) > 0.99


def test_lines_pass_the_baseline_no_nearer_than_the_nearest_record() -> None:
    away, offsets = numbers(20, 5, seed=3), numbers(200, 5, seed=4)
    least = float(offsets.norm(dim=1).min())
    share = torch.linspace(0, 1, 2001, dtype=DOUBLE).view(-1, 1, 1)
    for record, chosen in zip(away, lines_away(away, offsets), strict=True):
        assert len(set(chosen.tolist())) == LINES
        line = (1 - share) * offsets[chosen] + share * record
        if float(record.norm()) > least:
            assert float(line.norm(dim=2).min()) > least - 1e-6


def test_where_few_lines_keep_away_those_are_taken_that_keep_farthest() -> None:
    # All moved baselines lie on one axis: those on the record's side, and those beyond the baseline.
    offsets = torch.cat([torch.linspace(1, 3, 4, dtype=DOUBLE), -torch.linspace(1, 3, 40, dtype=DOUBLE)])[:, None]
    (chosen,) = lines_away(torch.tensor([[2.0]], dtype=DOUBLE), offsets)
    assert set(range(4)) <= set(chosen.tolist()) and len(chosen) == LINES


def test_maps_of_zeros_and_of_no_numbers_have_no_likeness() -> None:
    for score in (lambda x: 0 * x.sum(1), lambda x: (x.sum(1) * 1e308) * 1e308):
        given = records(Score(score))
        alike, among = likeness_on_moved_lines(torch.zeros_like(given.x), given)
        assert bool(alike.isnan().all()) and bool(among.isnan().all())


def test_a_record_has_the_same_likeness_alone_and_beside_others_and_the_model_stays_as_it_was() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)).to(DOUBLE)
    given = records(network)
    values = IntegratedGradients().explain(network, given.x, given.target, given.reference).values
    alike, among = likeness_on_moved_lines(values, given)
    alone = MeasuredRecords(
        model=network, x=given.x[3:4], target=given.target[3:4], reference=given.reference, pool=given.pool, seed=0
    )
    again = likeness_on_moved_lines(values[3:4], alone)
    assert float(again[0]) == pytest.approx(float(alike[3]), abs=1e-9)
    assert float(again[1]) == pytest.approx(float(among[3]), abs=1e-9)
    assert network.training and all(parameter.grad is None for parameter in network.parameters())
    assert math.isfinite(float(alike.sum()))
