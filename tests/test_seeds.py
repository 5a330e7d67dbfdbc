"""Randomness is a function of the seed and of what it is for."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from assay import seeds
from assay.seeds import Draw

NAMES = st.lists(st.text("abcxyz ", min_size=1) | st.integers(0, 1000), max_size=4)
SEEDS = st.integers(0, 2**128 - 1)


@given(SEEDS, NAMES, NAMES)
def test_different_names_give_different_seeds(seed: int, one: list[str | int], other: list[str | int]) -> None:
    same = [str(name) for name in one] == [str(name) for name in other]
    assert (seeds.derive(seed, *one) == seeds.derive(seed, *other)) == same


@given(SEEDS, SEEDS, NAMES)
def test_different_seeds_give_different_seeds(one: int, other: int, names: list[str | int]) -> None:
    assert (seeds.derive(one, *names) == seeds.derive(other, *names)) == (one == other)


def test_a_slash_in_a_name_does_not_make_two_names_of_it() -> None:
    assert seeds.derive(1, "a/b") != seeds.derive(1, "a", "b")


def test_derived_seeds_are_the_same_in_every_process() -> None:
    code = "from assay import seeds; print(seeds.derive(7, 'noise', 3))"
    path = str(next(p for p in sys.path if p.endswith("platform")))
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    assert int(told.stdout) == seeds.derive(7, "noise", 3)


@given(SEEDS, NAMES)
def test_derived_seeds_fit_their_generators(seed: int, names: list[str | int]) -> None:
    assert 0 <= seeds.derive(seed, *names) < 2**128
    assert 0 <= seeds.torch_seed(seed, *names) < 2**63


def test_a_stream_repeats() -> None:
    first, second, other = (seeds.stream(5, "noise", step).standard_normal(100) for step in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.isin(first, other).any()


def test_the_whole_128_bits_reach_the_generator() -> None:
    draws = {np.random.Generator(np.random.Philox(key=1 << bit)).random() for bit in range(128)}
    assert len(draws) == 128


def test_entropy_never_repeats_and_has_128_bits() -> None:
    drawn = [seeds.entropy() for _ in range(200)]
    assert len(set(drawn)) == 200
    assert 2**120 < max(drawn) < 2**128


@given(st.data(), st.integers(1, 12), st.sampled_from(["uniform", "normal"]))
def test_a_draw_for_some_rows_is_the_slice_of_the_whole(data: st.DataObject, total: int, kind: str) -> None:
    rows = np.array(data.draw(st.lists(st.integers(0, total - 1), unique=True)), dtype=int)
    like = torch.empty(total, 2, 3)
    whole, part = Draw(seeds.stream(1), total), Draw(seeds.stream(1), total, rows)
    for _ in range(2):
        everything, own = getattr(whole, kind)(like), getattr(part, kind)(like[: len(rows)])
        assert torch.equal(own, everything[rows])


def test_rows_of_rows_are_rows_of_the_whole() -> None:
    like = torch.empty(6, 2)
    everything = Draw(seeds.stream(1), 6).normal(like)
    own = Draw(seeds.stream(1), 6, np.array([4, 1, 3]))
    assert torch.equal(own.of(torch.tensor([2, 0])).normal(like[:2]), everything[[3, 4]])


def test_the_seed_of_a_draw_is_that_of_the_whole_batch() -> None:
    whole, part = Draw(seeds.stream(1), 6), Draw(seeds.stream(1), 6, np.array([4]))
    first = whole.seed()
    assert part.of(torch.tensor([0])).seed() == first
    assert whole.seed() != first


def test_uniform_draws_fill_minus_one_to_one() -> None:
    drawn = Draw(seeds.stream(2), 20_000).uniform(torch.empty(20_000, 1))
    assert -1 <= drawn.min() < -0.999
    assert 0.999 < drawn.max() < 1
    assert abs(drawn.mean()) < 4 / np.sqrt(3 * 20_000)


def test_normal_draws_have_mean_0_and_variance_1() -> None:
    drawn = Draw(seeds.stream(2), 20_000).normal(torch.empty(20_000, 1))
    assert abs(drawn.mean()) < 4 / np.sqrt(20_000)
    assert abs(drawn.var() - 1) < 4 * np.sqrt(2 / 20_000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_draw_has_the_type_of_what_it_is_for(dtype: torch.dtype) -> None:
    drawn = Draw(seeds.stream(2), 3).normal(torch.empty(3, 2, dtype=dtype))
    assert drawn.dtype == dtype
    assert torch.equal(drawn.float(), Draw(seeds.stream(2), 3).normal(torch.empty(3, 2)))


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("block", [1, 7, 12, 30, 1000])
def test_what_is_drawn_in_blocks_is_what_is_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch, block: int, kind: str
) -> None:
    like, rows = torch.empty(9, 3, 2), np.array([8, 0, 5, 4])
    expected = [getattr(draw, kind)(like) for draw in [Draw(seeds.stream(1), 9)] for _ in range(2)]
    monkeypatch.setattr(seeds, "_BLOCK", block)
    draw = Draw(seeds.stream(1), 9, rows)
    for whole in expected:
        assert torch.equal(getattr(draw, kind)(like[:4]), whole[rows])
