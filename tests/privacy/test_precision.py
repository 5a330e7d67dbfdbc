"""The bound on what one record adds holds in every type of weights, however large the sum is."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.errors import IncompatibleRecipeError
from assay.privacy import bookkeeping, inspection, precision
from assay.privacy.clipping import Clipping, PerRecordGradients
from assay.privacy.update import PrivateUpdate
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.collective import Distributed
from tests.privacy.networks import made

Blobs = Callable[..., tuple[Tensor, Tensor]]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
KINDS = [
    "mlp",
    "linear over positions",
    "wide linear over positions",
    "conv2d",
    "wide conv2d",
    "conv1d in groups",
    "wide conv1d",
    "group norm",
    "layer norm",
    "embedding",
    "lstm",
    "gru",
    "attention to itself",
    "layer used twice",
    "tied words",
    "parameters of its own",
    "rms norm",
    "instance norm",
]
"""Networks whose gradients are kept, or only measured, by one product or by pairs of positions, or come from Opacus."""
LIMIT = 0.05
ROUNDING = 2 * 1153 * 2**-24
"""Of two sums of 1,153 records of length 1 that are rounded to float32, once."""


@pytest.fixture
def uninspected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "is_due", lambda update: False)


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y, reduction="none")


def moved(together: list[Tensor], without: list[Tensor]) -> float:
    """How far apart two sums are, over all tensors together."""
    return float(sum((a.double() - b.double()).square().sum() for a, b in zip(together, without, strict=True)).sqrt())


@pytest.mark.usefixtures("uninspected")
@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_record_moves_the_sum_by_at_most_the_clipping_norm_in_every_type(
    dtype: torch.dtype, clipping: Clipping
) -> None:
    for name in KINDS:
        model, x, y = made(name, 9, dtype=dtype)
        gradients = PerRecordGradients(model, clipping=clipping)
        together = gradients.clipped_sum(losses(model, x, y), LIMIT)
        assert all(one.dtype in (torch.float32, torch.float64) for one in together)
        for record in (0, 8):
            rest = torch.arange(9) != record
            without = gradients.clipped_sum(losses(model, x[rest], y[rest]), LIMIT)
            assert 0 < moved(together, without) <= LIMIT * (1 + 1e-6), (name, record)


@pytest.mark.usefixtures("uninspected")
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_sum_of_many_equal_records_grows_by_no_more_than_one_of_them(
    dtype: torch.dtype, autocast: torch.dtype | None
) -> None:
    """What is rounded away of a sum grows with it: bfloat16 has steps of 8 between 1,024 and 2,048."""
    if autocast is not None and dtype != torch.float32:
        pytest.skip("autocast concerns weights of float32")
    torch.manual_seed(0)
    model, x, y = nn.Linear(64, 2).to(dtype), torch.randn(1, 64).to(dtype).expand(1153, 64), torch.zeros(1153).long()
    gradients = PerRecordGradients(model)

    def clipped(n: int) -> list[Tensor]:
        # The sum is asked for within autocast, too.
        with nullcontext() if autocast is None else torch.autocast("cpu", autocast):
            return gradients.clipped_sum(losses(model, x[:n], y[:n]), 1.0)

    whole, rounding = clipped(1153), ROUNDING if dtype == torch.float32 else 0.0
    for n in (1152, 1151, 1025, 1):
        assert moved(whole, clipped(n)) <= (1153 - n) * (1 + 1e-6) + rounding
    assert moved(whole, clipped(1152)) >= 1 - 1e-6 - rounding


@pytest.mark.usefixtures("uninspected")
@pytest.mark.parametrize("scale", [1.0, 2.0**10])
def test_losses_in_half_precision_scaled_or_not_keep_the_bound(scale: float) -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(64, 2), torch.randn(1, 64).expand(1153, 64), torch.zeros(1153).long()
    gradients = PerRecordGradients(model)
    whole, without = (gradients.clipped_sum((scale * losses(model, x[:n], y[:n])).half(), 1.0) for n in (1153, 1152))
    assert moved(whole, without) <= 1 + 1e-6 + ROUNDING


@pytest.mark.usefixtures("uninspected")
def test_products_of_lengths_and_sums_are_never_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32, and bfloat16 inside products, are for the network alone."""
    place, seen = torch.backends.mkldnn.matmul, []
    before, rule = place.fp32_precision, bookkeeping.OnePosition
    monkeypatch.setattr(bookkeeping, "OnePosition", lambda *given: (seen.append(place.fp32_precision), rule(*given))[1])
    try:
        place.fp32_precision = "bf16"
        model, x, y = made("mlp", 4)
        PerRecordGradients(model).clipped_sum(losses(model, x, y), 1.0)
        assert (seen, place.fp32_precision) == (["ieee", "ieee"], "bf16")
    finally:
        place.fp32_precision = before


class Notes(torch.autograd.Function):
    """Passes on what it is given, and notes how products are formed as the backward pass comes by."""

    seen: list[str] = []

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, back: Tensor) -> Tensor:
        Notes.seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return back


class Noting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Notes.apply(x)


def test_what_autograd_finds_is_held_against_what_was_recorded_in_the_same_precision() -> None:
    """Else a network whose products are short, as those of TF32 on a GPU, would seem not to be recorded."""
    place = torch.backends.mkldnn.matmul
    before, Notes.seen = place.fp32_precision, []
    model = nn.Sequential(nn.Linear(5, 8), Noting(), nn.Linear(8, 3))
    x, y = torch.randn(6, 5), torch.arange(6) % 3
    try:
        place.fp32_precision = "bf16"
        PerRecordGradients(model).clipped_sum(losses(model, x, y), 1.0)
        assert place.fp32_precision == "bf16"
    finally:
        place.fp32_precision = before
    assert set(Notes.seen) == {"ieee"}
    assert len(Notes.seen) > 3


@pytest.mark.parametrize("pieces", [None, 5])
def test_training_in_bfloat16_adds_noise_before_it_rounds(
    blobs: Blobs, blob_bounds: Bounds, given_noise: float, monkeypatch: pytest.MonkeyPatch, pieces: int | None
) -> None:
    x, y = blobs(40)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)).bfloat16()
    settings = Training(epochs=1, batch_size=20, optimizer="sgd", records_at_once=pieces)
    trainer = build_trainer(
        model, Recipe(privacy=Privacy(epsilon=8.0), training=settings), x.bfloat16(), y, bounds=blob_bounds, seed=3
    )
    totals, steps, finish = [], [], PrivateUpdate.finish

    def noted(self: PrivateUpdate, total: list[Tensor], *rest: object) -> list[Tensor]:
        totals.append(total)
        steps.append(finish(self, total, *rest))
        return steps[-1]

    monkeypatch.setattr(PrivateUpdate, "finish", noted)
    trainer.run()
    for tensors in (*totals, *steps):
        assert all(one.dtype in (torch.float32, torch.float64) for one in tensors)
    assert any(not torch.equal(one, one.bfloat16().to(one.dtype)) for one in steps[0])
    assert all(p.dtype == torch.bfloat16 and p.isfinite().all() for p in model.parameters())


def test_workers_add_halves_in_float32_and_leave_other_types(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[torch.dtype] = []

    def doubled(flat: Tensor) -> None:
        sent.append(flat.dtype)
        flat.mul_(2)

    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", doubled)
    given = [torch.tensor([257.0]).double(), torch.full((2, 2), 1.5).bfloat16(), torch.tensor([3]), torch.ones(2)]
    found = Distributed(torch.device("cpu")).sum(given)
    assert [one.dtype for one in found] == [torch.float64, torch.float32, torch.int64, torch.float32]
    assert sent == [torch.float64, torch.float32, torch.int64]
    assert all(torch.equal(one, 2 * own.to(one.dtype)) for one, own in zip(found, given, strict=True))


@pytest.mark.usefixtures("uninspected")
@pytest.mark.parametrize("records", [3, 1000])
def test_the_type_of_a_sum_depends_on_the_parameter_alone(records: int) -> None:
    """Workers with shares of other sizes add up the same types."""
    single, double = torch.float32, torch.float64
    for dtype, expected in ((single, [single] * 4), (torch.bfloat16, [single, double, double, double])):
        model = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 2)).to(dtype)
        sums = PerRecordGradients(model).clipped_sum(model(torch.randn(records, 300).to(dtype)).sum(1), 1.0)
        assert [one.dtype for one in sums] == expected


@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
def test_weights_of_a_type_that_was_not_shown_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2).to(torch.complex64))
    with pytest.raises(IncompatibleRecipeError) as caught:
        PerRecordGradients(model)
    assert (caught.value.setting, caught.value.given) == ("1.weight", "complex64")
    assert caught.value.allowed == ["float64", "float32", "float16", "bfloat16"]


@pytest.mark.parametrize(("error", "raised"), [(torch.OutOfMemoryError, True), (NotImplementedError, False)])
def test_a_sum_that_does_not_fit_in_memory_is_not_kept_in_a_shorter_type(
    error: type[RuntimeError], raised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(argument: Any) -> Any:
        raise error("CUDA out of memory" if raised else "no float64 kernel")

    x = torch.ones(3)
    monkeypatch.setattr(precision, "_widened", lacking)
    with precision.SumsInFloat64(), pytest.raises(error) if raised else nullcontext():
        assert float(x.sum()) == 3.0
