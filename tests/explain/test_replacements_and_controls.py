"""Replacements of features, control maps and the oracle."""

import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Modality
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.controls.base import controls_of
from assay.explain.measures.curves import areas
from assay.explain.measures.oracle import greedy_maps
from assay.explain.measures.panel import Panel
from assay.explain.measures.replacements.base import panel
from assay.explain.measures.replacements.donor import Conditional
from assay.explain.measures.replacements.neighbours import Neighbours
from assay.explain.measures.replacements.words import LeftOut, word_counts
from tests.explaining import by, measured, reference


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sentences() -> Tensor:
    """Five texts of 3 to 7 words of three numbers each."""
    x = numbers(5, 8, 3)
    for row in range(5):
        x[row, 3 + row :] = 0
    return x


RECORDS: dict[Modality, Tensor] = {
    "tabular": numbers(5, 6),
    "image": numbers(5, 2, 7, 9),
    "signal": numbers(5, 1, 30),
    "text": sentences(),
}
MODALITIES = list(RECORDS)


class Sum(nn.Module):
    """Log-odds of class 1 are the sum of all entries."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total], dim=1)


def records_of(modality: Modality) -> MeasuredRecords:
    x = RECORDS[modality]
    return MeasuredRecords(
        model=Sum(),
        x=x,
        target=torch.ones(len(x), dtype=torch.long),
        reference=reference(x, modality),
        pool=numbers(20, *x.shape[1:], seed=7),
        seed=2,
    )


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_panel_has_three_replacements_none_of_which_is_a_baseline(modality: Modality) -> None:
    records = records_of(modality)
    kinds = panel(modality)
    assert len(kinds) >= 3 and len({kind.name for kind in kinds}) == len(kinds)
    rows = torch.arange(5)
    for kind in kinds:
        bare = kind.prepare(records)(rows, records.features)
        apart = (bare - records.reference.baseline(records.x)).flatten(1).abs().amax(1)
        assert float(apart[1:].min()) > 1e-3, kind.name


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_removed_features_change_and_padding_never_does(modality: Modality) -> None:
    records = records_of(modality)
    removed = (records.drawn("removed", lambda g, shape: g.random(shape)) > 0.6) & records.features
    for kind in panel(modality):
        if isinstance(kind, LeftOut):  # words move up
            continue
        rows = torch.tensor([4, 2, 2])
        found = kind.prepare(records)(rows, removed[rows])
        kept = ~removed[rows].expand_as(found)
        assert torch.equal(found[kept], records.x[rows][kept]), kind.name
        assert bool((found != records.x[rows])[removed[rows].expand_as(found)].all()), kind.name
        assert bool(found.isfinite().all())
        again = kind.prepare(records)(rows, removed[rows])
        assert torch.equal(found, again), kind.name


def test_words_that_are_left_out_leave_no_gap() -> None:
    records = records_of("text")
    removed = torch.zeros_like(records.features)
    removed[2, [0, 3]] = True  # of five words
    found = LeftOut().prepare(records)(torch.tensor([2]), removed[2:3])
    torch.testing.assert_close(found[0, :3], records.x[2, [1, 2, 4]])
    assert not found[0, 3:].any()
    nothing = LeftOut().prepare(records)(torch.tensor([2]), records.features[2:3])
    words = records.pool[(records.pool != 0).any(-1)]
    torch.testing.assert_close(nothing[0, 0], words.mean(0))  # a text without words is no text
    assert not nothing[0, 1:].any()


def test_features_that_determine_each_other_are_filled_from_those_that_are_left() -> None:
    first = numbers(400, 1)
    pool = torch.cat([first, -2 * first, numbers(400, 1, seed=3)], dim=1)
    x = torch.tensor([[1.5, -3.0, 0.0]])
    records = MeasuredRecords(
        model=Sum(), x=x, target=torch.ones(1, dtype=torch.long), reference=reference(pool), pool=pool, seed=0
    )
    fill = Conditional(shrinkage=0.001).prepare(records)
    found = fill(torch.tensor([0]), torch.tensor([[False, True, False]]))
    assert float(found[0, 1]) == pytest.approx(-3.0, abs=0.1)
    # Without anything left, it is another record: the two features still determine each other.
    alone = fill(torch.tensor([0]), torch.ones(1, 3, dtype=torch.bool))[0]
    assert float(alone[1]) == pytest.approx(-2 * float(alone[0]), abs=0.05)
    assert float(alone[0]) != pytest.approx(1.5, abs=1e-3)


def test_a_gap_in_a_straight_line_is_filled_by_it() -> None:
    ramp = torch.linspace(0, 3, 31).expand(2, 1, 31).clone()
    removed = torch.zeros(2, 1, 31, dtype=torch.bool)
    removed[:, :, 5:20] = True
    removed[1, :, 25:] = True
    about = measured(Sum(), ramp, torch.tensor([1, 1]), "signal")
    found = Neighbours(noise=0).prepare(about)(torch.tensor([0, 1]), removed)
    torch.testing.assert_close(found[0], ramp[0])
    torch.testing.assert_close(found[1, 0, 25:], torch.full((6,), float(ramp[1, 0, 24])))


def test_a_hole_in_an_image_is_filled_from_around_it() -> None:
    plain = torch.full((1, 1, 16, 16), 0.7)
    plain[..., 8:] = 0.2
    removed = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    removed[..., 3:6, 2:5] = True
    about = measured(Sum(), plain, torch.tensor([1]), "image")
    found = Neighbours(noise=0).prepare(about)(torch.tensor([0]), removed)
    torch.testing.assert_close(found, plain, rtol=0, atol=0.05)


@pytest.mark.parametrize("modality", MODALITIES)
def test_controls_have_the_shape_of_a_map_and_nothing_on_padding(modality: Modality) -> None:
    records = records_of(modality)
    values = records.drawn("map", lambda g, shape: g.standard_normal(shape))
    kinds = controls_of(modality)
    assert len([kind for kind in kinds if kind.decides]) >= 3
    for kind in kinds:
        before = values.clone()
        drawn = kind.draw(records, values, 0)
        assert drawn.shape == values.shape and torch.equal(values, before)
        assert not drawn[~records.features].any(), kind.name
        assert torch.equal(drawn, kind.draw(records, values, 0)), kind.name
        assert torch.equal(drawn, kind.draw(records, values, 1)) != kind.random, kind.name


def named(modality: Modality, name: str) -> tuple[MeasuredRecords, Tensor, Tensor]:
    records = records_of(modality)
    values = records.drawn("map", lambda g, shape: g.standard_normal(shape))
    (kind,) = (one for one in controls_of(modality) if one.name == name)
    return records, values, kind.draw(records, values, 3)


@pytest.mark.parametrize("modality", ["image", "signal"])
def test_a_random_field_has_the_spectrum_of_the_map(modality: Modality) -> None:
    _, values, drawn = named(modality, "same_spectrum")
    axes = tuple(range(2, values.dim()))
    sizes = [torch.fft.fftn(one.double(), dim=axes).abs() for one in (values, drawn)]
    torch.testing.assert_close(*sizes, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(values, drawn)


@pytest.mark.parametrize("modality", ["tabular", "text"])
def test_a_shuffled_map_has_the_same_values(modality: Modality) -> None:
    records, values, drawn = named(modality, "shuffled")
    for row in range(5):
        here = records.features[row]
        torch.testing.assert_close(values[row][here].sort().values, drawn[row][here].sort().values)


def test_another_records_map_is_never_the_own_one() -> None:
    _, values, drawn = named("tabular", "other_record")
    for row in range(5):
        assert [torch.equal(drawn[row], other) for other in values].count(True) == 1
        assert not torch.equal(drawn[row], values[row])


def test_the_global_ranking_is_the_mean_of_the_others() -> None:
    _, values, drawn = named("tabular", "global_ranking")
    torch.testing.assert_close(drawn[2], values[[0, 1, 3, 4]].mean(0))


def test_deviations_of_columns_do_not_depend_on_units_and_those_of_pixels_do() -> None:
    for modality, unit in (("tabular", 1.0), ("image", 1000.0)):
        records, _, drawn = named(modality, "deviation")  # type: ignore[arg-type]
        # One column, or one column of pixels, in a unit that is a thousand times smaller.
        units = torch.ones(records.x.shape[1:])
        units[..., 0] = 1000
        other = MeasuredRecords(
            model=Sum(), x=records.x * units, target=records.target, reference=records.reference,
            pool=records.pool * units, seed=0,
        )  # fmt: skip
        again = next(one for one in controls_of(modality) if one.name == "deviation").draw(other, drawn, 0)  # type: ignore[arg-type]
        torch.testing.assert_close(again[..., 0], unit * drawn[..., 0])
        torch.testing.assert_close(again[..., 1:], drawn[..., 1:])


def test_a_value_at_the_mean_of_the_pool_deviates_by_nothing_and_a_constant_column_too() -> None:
    records = records_of("tabular")
    pool = records.pool.clone()
    pool[:, 2] = 5.0
    x = pool.mean(0, keepdim=True) + torch.tensor([[0.0, 2.0, 7.0, -1.0, 0.0, 0.0]]) * pool.std(0, correction=0)
    about = MeasuredRecords(
        model=Sum(), x=x, target=torch.ones(1, dtype=torch.long), reference=records.reference, pool=pool, seed=0
    )
    (kind,) = (one for one in controls_of("tabular") if one.name == "deviation")
    torch.testing.assert_close(
        kind.draw(about, x, 0), torch.tensor([[0.0, 2.0, 0.0, 1.0, 0.0, 0.0]]), rtol=1e-5, atol=1e-5
    )


def test_words_are_counted_in_the_pool() -> None:
    records = records_of("text")
    pool = torch.cat([records.x[:1, :2], torch.zeros(1, 2, 3)], dim=1).repeat(4, 1, 1)
    about = MeasuredRecords(
        model=Sum(), x=records.x, target=records.target, reference=records.reference, pool=pool, seed=0
    )
    counts = word_counts(about)
    assert counts[0, :4, 0].tolist() == [4, 4, 0, 0] and not counts[1:].any()


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_greedy_order_of_a_sum_is_the_true_one(modality: Modality) -> None:
    records = records_of(modality)
    fill = by(records, torch.full((1, *records.x.shape[1:]), 1e-7))
    truth = records.reference.by_feature(records.x)
    best = areas(records, truth, fill)
    for found in greedy_maps(records, fill, most=1000):
        own = areas(records, found, fill)
        torch.testing.assert_close(own.deletion, best.deletion, rtol=0, atol=1e-3)
        torch.testing.assert_close(own.insertion, best.insertion, rtol=0, atol=1e-3)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_search_comes_near_the_truth_which_beats_the_controls(modality: Modality) -> None:
    records = records_of(modality)
    about = Panel(records=records, draws=3, groups=200)
    truth = records.reference.by_feature(records.x)
    searched = about.searched()
    noise = records.drawn("a map that knows nothing", lambda g, shape: g.standard_normal(shape))
    assert float(searched.mean()) > 0.9 * float(about.between(truth).mean())
    assert float(searched.mean()) > float(about.between(noise).mean()) + 0.1
    for control in about.controls:
        if control.decides:
            assert float(about.of_control(control, truth).mean()) < float(about.between(truth).mean()), control.name
