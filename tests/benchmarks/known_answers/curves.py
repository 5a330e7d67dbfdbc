"""Rows on deletion and insertion: what replaces, where a curve begins, its scale, its batches, its ties."""

import torch
from torch import Tensor, nn

from assay.data.base import Modality
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.curves import Areas, areas
from assay.explain.measures.replacements.donor import Donor
from tests.benchmarks.known_answers.networks import Score, linear
from tests.benchmarks.known_answers.row import Row, below, between, numbers_near, says
from tests.benchmarks.known_answers.systems import reference


class Seen(nn.Module):
    """Keeps what it was asked about; answers by the mean of the entries."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.asked += list(x.clone()[:, None])
        score = x.flatten(1).mean(1)
        return torch.stack([0 * score, score], 1)


def measured(model: nn.Module, x: Tensor, pool: Tensor, modality: Modality = "tabular") -> MeasuredRecords:
    """Records of class 1 whose removed features have values of the pool."""
    target = torch.ones(len(x), dtype=torch.long)
    return MeasuredRecords(
        model=model, x=x, target=target, reference=reference(0 * x[:1], modality), pool=pool, seed=0
    )  # fmt: skip


def areas_of(model: nn.Module, x: Tensor, scores: Tensor, pool: Tensor, modality: Modality = "tabular") -> Areas:
    """Areas of maps where removed features have the values of a record of the pool."""
    records = measured(model, x, pool, modality)
    return areas(records, scores, Donor().prepare(records))


def _asked(x: Tensor, scores: Tensor, pool: Tensor, modality: Modality = "tabular") -> list[Tensor]:
    """What the model is asked about while features are removed, then while they are restored."""
    model = Seen()
    areas_of(model, x, scores, pool, modality)
    return [one[0] for one in model.asked]


FOUR = torch.tensor([[4.0, 0.0, 0.0, 0.0]])
ORDER = torch.tensor([[4.0, 3.0, 2.0, 1.0]])


def _replaced() -> list[float]:
    """What the model sees when all is removed, where the mean of the record is what replaces."""
    return _asked(FOUR, ORDER, FOUR.mean(1, keepdim=True).expand_as(FOUR))[4].tolist()


def _channels() -> float:
    """Channels of a pixel that are replaced in the first step, of three."""
    image = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)) + 1
    scores = reference(image, "image").by_feature(torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(1)))
    replaced = [int((one == 0).sum()) for one in _asked(image, scores, 0 * image, "image")]
    return float(min(count for count in replaced if count))


def _first_value() -> float:
    """The answer at which a deletion curve begins, less that to the intact record."""
    x = FOUR + 1
    found = areas_of(Seen(), x, ORDER, 0 * FOUR).whole
    return float((found - x.mean()).abs().max())


def _scale() -> float:
    """Area of a constant answer over 784 features, over that of 28."""
    found = []
    for features in (784, 28):
        model = nn.Linear(features, 2)
        with torch.no_grad():
            model.weight.zero_()
            model.bias.copy_(torch.tensor([0.0, 1.0]))
        scores = torch.arange(features).float()[None]
        found.append(float(areas_of(model, scores, scores, 0 * scores).deletion))
    return found[0] / found[1]


RECORDS, SURVIVORS = 200, 64


def _survivors() -> float:
    """Share of 200 records whose answer does not change when all but the last feature is removed: the first 64."""
    x = torch.ones(RECORDS, 4)
    x[:, 3] = (torch.arange(RECORDS) < SURVIVORS).float()

    def score(given: Tensor) -> Tensor:
        return torch.where(given[:, 3] > 0, 1.0, given[:, :3].sum(1) - 1.5)

    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]]).expand(RECORDS, 4)
    found = areas_of(Score(score), x, scores, torch.tensor([[0.0, 0.0, 0.0, 2.0]])).deletion
    return float((found >= 1.0).float().mean())


def _loud_neighbour() -> float:
    """Change of the area of one record by a neighbour whose map is a million times greater, relative."""
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [4e6, 3e6, 2e6, 1e6]])
    model = linear(1.0, 2.0, 3.0, 4.0).float()
    both = areas_of(model, x, scores, 0 * x[:1]).deletion
    alone = areas_of(model, x[:1], scores[:1], 0 * x[:1]).deletion
    return float((both[0] - alone[0]).abs() / alone[0].abs())


def _constant_map() -> str:
    """Whether a constant map has the areas of a random one."""
    x = 1 + torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    records = measured(linear(6.0, 0.0, 0.0, 0.0, 0.0, 0.0).float(), x, 0 * x[:1])
    fill = Donor().prepare(records)
    found = [areas(records, scores, fill) for scores in (torch.ones(50, 6), records.ties)]
    same = all(torch.equal(getattr(found[0], name), getattr(found[1], name)) for name in ("deletion", "insertion"))
    return "the area of a random order" if same else "another area"


def _raster() -> float:
    """Mean area of a constant map on a model of the first of four features, over that of a random order."""
    # Records differ a little, since equal records are in the same order.
    x = torch.ones(2000, 4) + 1e-6 * torch.arange(2000)[:, None]
    # The value is there in 0, 1, 2, 3 of 4 steps, with equal chance; the trapezium adds half a step.
    found = areas_of(linear(4.0, 0.0, 0.0, 0.0).float(), x, 0 * x, 0 * x[:1]).deletion
    return float(found.mean()) / (4 * 0.5)


ROWS = (
    Row(
        fault="B4",
        name="mean_of_the_intact_record",
        input="record (4, 0, 0, 0), features replaced by its mean, one after the other: what stands there at the end",
        right="(1, 1, 1, 1)",
        accepts=numbers_near(1, 1, 1, 1),
        assay=_replaced,
    ),
    Row(
        fault="B4",
        name="intact_start",
        input="answer at which a deletion curve begins, less that to the intact record",
        right="0",
        accepts=lambda given: given == 0,
        assay=_first_value,
    ),
    Row(
        fault="B4",
        name="channels_of_a_pixel",
        input="channels of a pixel that the first step of an image with three channels replaces",
        right="3",
        accepts=lambda given: given == 3,
        assay=_channels,
    ),
    Row(
        fault="B4",
        name="scale_of_the_area",
        input="area of an answer that never changes, over 784 features by over 28",
        right="1",
        accepts=between(0.999, 1.001),
        assay=_scale,
    ),
    Row(
        fault="B3",
        name="all_batches_count",
        input="200 records of which the first 64 keep their class: share that keeps it",
        right="0.32",
        accepts=between(0.319, 0.321),
        assay=_survivors,
    ),
    Row(
        fault="B7",
        name="loud_neighbour",
        input="area of one record beside one whose map is a million times greater: change, relative",
        right="at most 1e-6",
        accepts=below(1e-6),
        assay=_loud_neighbour,
    ),
    Row(
        fault="B11",
        name="constant_map_by_curves",
        input="deletion and insertion of a constant map, and of the random one",
        right="the area of a random order",
        accepts=says("the area of a random order"),
        assay=_constant_map,
    ),
    Row(
        fault="B11",
        name="no_raster_order",
        input="mean area of a constant map, where the first of four features decides, over that of a random order",
        right="1, to 5 %",
        accepts=between(0.95, 1.05),
        assay=_raster,
    ),
)
