"""What the server decodes and what the client holds back are together what was learned; all bytes count."""

import doctest
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.errors import DataError, IncompatibleRecipeError, SpecError, TrainingError
from assay.federated import transforms as package
from assay.federated.transforms.base import Transform
from assay.federated.transforms.low_rank import LowRank
from assay.federated.transforms.pipeline import Pipeline, Sent, read_shape_table, shape_table
from assay.federated.transforms.quantise import Quantise
from assay.federated.transforms.top_k import TopK
from assay.registry import build, names
from tests.mistakes import refused

SHAPES = [(16, 1, 3, 3), (16,), (40, 60), (40,), (3, 40), (3,)]
SIZE = 16 * 9 + 16 + 2400 + 40 + 120 + 3
BIASED: list[list[Transform]] = [
    [TopK(share=0.03)],
    [TopK(share=0.03), Quantise(bits=8)],
    [TopK(share=0.1), Quantise(bits=4, rounding="nearest")],
    [Quantise(bits=4, rounding="nearest")],
    [LowRank(rank=2)],
    [LowRank(rank=3), Quantise(bits=8)],
]
ALL = [[], [Quantise(bits=8)], [Quantise(bits=4)], [TopK(share=1.0)], *BIASED]


def named(transforms: list[Transform]) -> str:
    return "+".join(transform.name for transform in transforms) or "none"


def updates(rounds: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    draw = np.random.default_rng(4)
    return [torch.from_numpy(0.02 * draw.standard_normal(SIZE)).to(dtype) for _ in range(rounds)]


def sends(transforms: list[Transform], given: list[Tensor]) -> list[Sent]:
    pipeline, state, sent = Pipeline(transforms, SHAPES), dict[str, Tensor](), list[Sent]()
    for number, update in enumerate(given):
        sent.append(pipeline.encode(update, state, generator=np.random.default_rng(number)))
        state = sent[-1].state
    return sent


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("transforms", BIASED, ids=named)
def test_all_that_was_sent_and_the_residual_are_the_sum_of_all_updates(
    transforms: list[Transform], dtype: torch.dtype
) -> None:
    given = updates(60, dtype)
    sent = sends(transforms, given)
    total = sum((one.decoded.double() for one in sent), start=sent[-1].state["residual"].double())
    assert (total - sum(update.double() for update in given)).abs().max() < 1e-6
    assert not torch.equal(sent[0].decoded, given[0]), "or nothing was lost that could be held back"


@pytest.mark.parametrize("transforms", ALL, ids=named)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_server_decodes_from_the_bytes_what_the_client_says(
    transforms: list[Transform], dtype: torch.dtype
) -> None:
    for one in sends(transforms, updates(3, dtype)):
        again = Pipeline(transforms, SHAPES).decode(bytes(one.message))
        assert again.dtype is dtype and again.shape == (SIZE,) and torch.equal(again, one.decoded)


@pytest.mark.parametrize("transforms", [[], [TopK(share=1.0)]], ids=named)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_everything_sent_is_no_compression_bit_for_bit(transforms: list[Transform], dtype: torch.dtype) -> None:
    given = [*updates(3, dtype), torch.full((SIZE,), -0.0, dtype=dtype), torch.full((SIZE,), 1e-45).to(dtype)]
    for update, one in zip(given, sends(transforms, given), strict=True):
        assert one.decoded.numpy().tobytes() == update.numpy().tobytes()
        assert one.state == {}


def test_a_plain_update_is_four_bytes_a_weight_and_a_header() -> None:
    (plain,) = sends([], updates(1))
    assert len(plain.message) == 6 + 4 * SIZE
    (everything,) = sends([TopK(share=1.0)], updates(1))
    assert len(everything.message) == 6 + 4 + 4 * SIZE


def test_bytes_count_values_positions_scales_and_headers() -> None:
    (sent,) = sends([Quantise(bits=8, chunk=100)], updates(1))
    assert len(sent.message) == 6 + 4 + 4 * math.ceil(SIZE / 100) + SIZE
    (sent,) = sends([Quantise(bits=4, chunk=100)], updates(1))
    assert len(sent.message) == 6 + 4 + 4 * math.ceil(SIZE / 100) + math.ceil(SIZE / 2)
    (sent,) = sends([LowRank(rank=2)], updates(1))
    assert len(sent.message) == 6 + 4 + 4 * (2 * (16 + 9) + 16 + 2 * (40 + 60) + 40 + 2 * (3 + 40) + 3)
    kept = round(0.1 * SIZE)
    (sent,) = sends([TopK(share=0.1), Quantise(bits=4)], updates(1))
    positions = len(sent.message) - (6 + 4 + 4 + 4 * math.ceil(kept / 256) + math.ceil(kept / 2))
    assert 0.4 * kept < positions < 0.7 * kept, "4.7 bits each at one in ten"


def test_the_state_is_not_changed_and_waits_while_a_client_is_not_drawn() -> None:
    pipeline = Pipeline([LowRank(rank=1), Quantise(bits=4)], SHAPES)
    first, second = updates(2)
    state = pipeline.encode(first, {}, generator=np.random.default_rng(0)).state
    before = {key: held.clone() for key, held in state.items()}
    once = pipeline.encode(second, state, generator=np.random.default_rng(1))
    again = pipeline.encode(second, state, generator=np.random.default_rng(1))
    assert all(torch.equal(state[key], before[key]) for key in before)
    assert once.message == again.message


def test_random_rounding_alone_is_right_on_average_and_holds_nothing_back() -> None:
    sent = sends([Quantise(bits=4, chunk=50)], updates(1) * 300)
    mean = torch.stack([one.decoded for one in sent]).double().mean(0)
    step = 0.02 * 4 / 7
    assert (mean - updates(1)[0]).abs().max() < 5 * step / 2 / math.sqrt(300)
    assert sent[-1].state == {}


@pytest.mark.parametrize("transforms", ALL, ids=named)
def test_an_update_of_zeros_stays_one(transforms: list[Transform]) -> None:
    zeros, ones = torch.zeros(SIZE), torch.ones(SIZE)
    for one in sends(transforms, [zeros, zeros]):
        assert not one.decoded.any() and "residual" not in one.state
    assert sends(transforms, [zeros, ones])[-1].decoded.any()


@pytest.mark.parametrize("transforms", ALL, ids=named)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_update_that_is_not_finite_is_not_sent(transforms: list[Transform], value: float) -> None:
    update = updates(1)[0]
    update[7] = value
    with pytest.raises(TrainingError, match="1 of 2723 weights"):
        sends(transforms, [update])


def test_a_sum_with_the_residual_that_overflows_is_not_sent() -> None:
    huge = torch.full((SIZE,), 3e38)
    with pytest.raises(TrainingError, match="too large"):
        sends([TopK(share=0.01)], [huge, huge])


@pytest.mark.parametrize("transforms", ALL, ids=named)
def test_a_message_that_is_cut_longer_or_not_finite_is_refused(transforms: list[Transform]) -> None:
    pipeline, message = Pipeline(transforms, SHAPES), sends(transforms, updates(1))[0].message
    for length in {0, 5, 6, 9, 11, 20, len(message) // 2, len(message) - 1}:
        with pytest.raises(DataError):
            pipeline.decode(message[:length])
    for wrong in (
        message + b"\x00",
        b"\x02" + message[1:],
        message[:1] + b"\x08" + message[2:],
        b"\xff" * len(message),
    ):
        with pytest.raises(DataError):
            pipeline.decode(wrong)
    with pytest.raises(DataError):
        Pipeline(transforms, SHAPES[:-1]).decode(message)


def test_scales_that_are_not_numbers_are_refused() -> None:
    (sent,) = sends([Quantise()], updates(1))
    start = 6 + 4
    poisoned = sent.message[:start] + np.float32(math.nan).tobytes() + sent.message[start + 4 :]
    with pytest.raises(DataError, match="not finite"):
        Pipeline([Quantise()], SHAPES).decode(poisoned)


def test_what_does_not_fit_the_network_is_refused() -> None:
    pipeline, draw = Pipeline([TopK()], SHAPES), np.random.default_rng(0)
    with refused(DataError, "federation.transforms", (4,), (SIZE,)):
        pipeline.encode(torch.zeros(4), {}, generator=draw)
    with pytest.raises(DataError, match="float16"):
        pipeline.encode(torch.zeros(SIZE, dtype=torch.float16), {}, generator=draw)
    with refused(DataError, "federation.transforms", (4,), (SIZE,)):
        pipeline.encode(torch.zeros(SIZE), {"residual": torch.zeros(4)}, generator=draw)


def test_an_order_that_means_nothing_is_refused_before_training() -> None:
    with refused(IncompatibleRecipeError, "federation.transforms", "low_rank", "top_k"):
        Pipeline([TopK(), LowRank()], SHAPES)
    with refused(IncompatibleRecipeError, "federation.transforms", "quantise", "quantise"):
        Pipeline([Quantise(bits=8), Quantise(bits=4)], SHAPES)
    with refused(IncompatibleRecipeError, "federation.transforms", ["quantise", "top_k"], "top_k first"):
        Pipeline([Quantise(), TopK()], SHAPES)


def test_a_recipe_names_transforms_and_their_limits() -> None:
    assert {"low_rank", "quantise", "top_k"} <= set(names("transform"))
    assert build("transform", {"name": "top_k", "share": "1/100"}) == TopK(share=0.01)
    for wrong in ({"name": "top_k", "share": 0}, {"name": "quantise", "bits": 5}, {"name": "low_rank", "rank": 0}):
        with pytest.raises(SpecError):
            build("transform", wrong)


def test_the_table_of_shapes_comes_back_in_order() -> None:
    table = {"b": (3, 4), "a": (), "c": (5,)}
    assert list(read_shape_table(shape_table(table)).items()) == list(table.items())
    assert len(shape_table(table)) == len('{"b":[3,4],"a":[],"c":[5]}')


def test_the_example_of_the_readme_runs() -> None:
    readme = Path(str(package.__file__)).with_name("README.md")
    assert doctest.testfile(str(readme), module_relative=False) == (0, 7)
