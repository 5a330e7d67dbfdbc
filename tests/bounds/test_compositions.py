"""Any composition of known layers is bounded as it computes; what is not known is refused by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.bounds.interval import UnboundableError, certified_by_intervals, interval
from assay.bounds.interval_tensor import IntervalTensor
from assay.models.resnet import Basic, Bottleneck
from tests.bounds.networks import (
    DOUBLE,
    ROUNDING,
    Squared,
    box,
    generator,
    inside,
    randomised,
    residual_network,
    small_blocks,
    wide,
    worst_logits,
)


class Done(nn.Module):
    """Any function of the records."""

    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.apply_to = apply

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_to(x)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Functional(nn.Module):
    """A network as users write them: nothing but the weights is a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 1), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = (x - 0.3) / torch.tensor([2.0, -4.0]).view(1, 2, 1, 1)[:, :1]
        x = F.relu(self.first(x))
        x = x - torch.tanh(self.second(F.dropout(x, training=self.training))) * 0.5
        pooled = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2).mean((2, 3))
        joined = torch.cat([x[:, :, 0].reshape(x.size(0), -1), 1 - pooled], 1)
        return self.last(joined.view(x.shape[0], -1))


class InPlace(nn.Module):
    """A block as torchvision writes them; ``copies`` makes it the same without a change in place."""

    def __init__(self, *, copies: bool) -> None:
        super().__init__()
        self.inner, self.copies, self.bend = nn.Linear(4, 4), copies, nn.ReLU(inplace=not copies)

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1
        bent = self.bend(x)
        out = self.inner(bent)
        if self.copies:
            return out + bent
        out += x
        return out


class ChangedView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        seen = x.view(len(x), -1)
        F.relu(x, inplace=True)
        return seen


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Masking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x == 0)


COMPOSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "shortcut": (lambda: Residual(nn.Linear(4, 4), nn.ReLU()), (4,)),
    "scaled": (lambda: Doubled(4, 3), (4,)),
    "functional": (Functional, (1, 4, 4)),
    "in place": (lambda: InPlace(copies=False), (4,)),
    "difference": (lambda: nn.Sequential(Residual(nn.Linear(4, 4)), nn.Flatten(), nn.Tanh()), (4,)),
    "basic blocks": (lambda: small_blocks(Basic, 0), (1, 4, 4)),
    "bottlenecks": (lambda: small_blocks(Bottleneck, 0), (1, 4, 4)),
    "residual network": (lambda: residual_network(Basic, 0), (1, 6, 6)),
    "bottleneck network": (lambda: residual_network(Bottleneck, 0), (1, 6, 6)),
    "stem of ImageNet": (lambda: residual_network(Basic, 0, stem="imagenet"), (1, 40, 40)),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_every_composition_is_bounded(name: str) -> None:
    make, shape = COMPOSED[name]
    model = randomised(make(), 3)
    for radius in (0.01, 1.0):
        low, high = box(shape, radius, 3)
        least, most = interval(model, low, high)
        outputs = model(inside(low, high, 300, 3))
        room = ROUNDING * (1 + outputs.abs().amax())
        assert (outputs >= least - room).all()
        assert (outputs <= most + room).all()
    at_a_point = interval(model, low, low)
    assert all(torch.allclose(end, model(low.clone()), rtol=1e-9, atol=1e-12) for end in at_a_point)


def test_a_change_in_place_is_seen_by_whoever_holds_the_value() -> None:
    model, twin = (randomised(InPlace(copies=copies), 1) for copies in (False, True))
    low, high = box((4,), 1.0, 1)
    assert (low < 0).any(), "nothing would be changed"
    assert all(torch.equal(*ends) for ends in zip(interval(model, low, high), interval(twin, low, high), strict=True))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(Squared(), nn.Linear(2, 2))), r"layer '1.0' \(Squared\)"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1)), r"layer '1' \(Softmax\) has no.*supported: linear layers"),
        (Residual(nn.Linear(2, 2), nn.LayerNorm(2)), r"layer '1' \(LayerNorm\)"),
        (Residual(nn.GroupNorm(1, 2)), r"layer '0' \(GroupNorm\)"),
        (nn.Sequential(nn.LeakyReLU(-0.1)), "falls where its slope is -0.1"),
        (nn.Sequential(nn.BatchNorm1d(2)), "only in evaluation mode"),
        (nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)).eval(), "mixes the records of a batch"),
        (nn.Sequential(ChangedView()), r"layer '0' \(ChangedView\) changes in place"),
        (Choosing(), r"the model \(Choosing\)"),
        (nn.Sequential(Masking()), r"layer '0' \(Masking\) decides by the value of a record"),
        (nn.Sequential(nn.LSTM(2, 2)), r"layer '0' \(LSTM\)"),
    ],
)
def test_what_cannot_be_bounded_is_an_error_that_names_it(model: nn.Module, said: str) -> None:
    x = torch.zeros(2, 2)
    y = torch.tensor([0, 1])
    with pytest.raises(UnboundableError, match=said):
        interval(model, x, x + 1)
    with pytest.raises(UnboundableError, match=said):
        worst_logits(model, x, x + 1, y)


MIXED: dict[str, Callable[[Tensor], Tensor]] = {
    "mean over the records": lambda x: x - x.mean(0),
    "mean over the records, kept": lambda x: x - torch.mean(x, 0, keepdim=True),
    "mean over the records, counted from the end": lambda x: x - x.mean((1, -3), keepdim=True),
    "mean of all": lambda x: x + x.mean(),
    "mean over no axes, which is of all": lambda x: x.mean(()),
    "joined": lambda x: torch.cat([x, x])[:2],
    "joined, counted from the end": lambda x: torch.cat([x, x], -3),
    "one record for all": lambda x: x + x[:1],
    "other order": lambda x: x - x[[1, 0]],
    "last record": lambda x: x[-1],
    "some records, by the only axis that is left": lambda x: x[:, 0, 0][..., :1],
    "flattened": lambda x: x.flatten(0).view(2, -1),
    "merged": lambda x: x.view(-1, 2) + 0,
    "mixed by a view": lambda x: x.transpose(1, 2).reshape(4, 2).mean(1),
    "transposed": lambda x: x.transpose(0, 1),
    "transposed, counted from the end": lambda x: x.transpose(-1, -3),
    "permuted": lambda x: x.permute(1, 0, 2),
    "permuted, after a permutation that is allowed": lambda x: x.permute(0, 2, 1).permute(1, 0, 2),
    "other order by a tensor, after one that is allowed": lambda x: x[torch.tensor([0, 1])][torch.tensor([1, 0])],
    "another axis in front": lambda x: x.unsqueeze(0),
    "indices that are not side by side": lambda x: x[:, [0, 1], :][:, None][:, [0, 0], :, [1, 1]],
    "padded": lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)),
    "records for channels": lambda x: F.conv1d(x[:, 0], torch.ones(2, 2, 1, dtype=DOUBLE)),
    "records for features": lambda x: F.linear(x[:, 0, 0], torch.ones(2, 2, dtype=DOUBLE)),
    "records beside features": lambda x: x[:, 0] + x[:, 0, 0],
    "constant with more axes": lambda x: x + torch.zeros(2, 1, 1, 1, dtype=DOUBLE),
}


@pytest.mark.parametrize("name", MIXED)
def test_what_lets_one_record_meet_another_is_an_error(name: str) -> None:
    model = Done(MIXED[name])
    x = torch.rand(2, 2, 2, generator=generator(1), dtype=DOUBLE)
    model(x)
    with pytest.raises(UnboundableError, match="axis 0, where the records of a batch lie"):
        interval(nn.Sequential(model), x, x + 1)


def test_a_difference_from_the_batch_proves_nothing_of_a_record() -> None:
    x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    model = Done(lambda x: x - x.mean(0))
    assert (model(x[:1]) == 0).all(), "alone, a record has no answer"
    with pytest.raises(UnboundableError, match=r"averages over axis 0"):
        certified_by_intervals(model, x, y, wide("linf", 0.1))


OWN: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda x: x.mean((-1, 1)),
    "joined": lambda x: torch.cat([x, x], -1),
    "flattened": lambda x: x.flatten(1),
    "transposed": lambda x: x.transpose(-1, 1),
    "reshaped": lambda x: x.reshape(x.size(0), -1),
    "indexed": lambda x: x[:, [1, 0], 1:],
    "all but some": lambda x: x[..., 0],
    "unbatched average": lambda x: F.avg_pool2d(x, 2),
    "squeezed": lambda x: x[:, :1].squeeze(1),
    "divided": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("count", [1, 3])
def test_what_a_record_does_with_itself_alone_is_bounded(name: str, count: int) -> None:
    x = torch.rand(count, 2, 2, generator=generator(1), dtype=DOUBLE)
    low, high = interval(Done(OWN[name]), x - 0.1, x + 0.2)
    torch.testing.assert_close(low, OWN[name](x - 0.1))
    torch.testing.assert_close(high, OWN[name](x + 0.2))


def test_an_average_that_falls_is_an_error() -> None:
    x = torch.rand(2, 1, 2, 2, dtype=DOUBLE)
    with pytest.raises(UnboundableError, match="give divisor_override above 0"):
        interval(nn.AvgPool2d(2, divisor_override=-1), x, x + 1)


def test_a_proof_with_reversed_ends_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="reversed"):
        IntervalTensor(torch.zeros(1, 2), torch.tensor([[1.0, -1.0]]), unit=1e-7)
