"""A certified record is never fooled, rounding included; what is proven changes with what may be reached."""

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.losses import margin
from assay.attacks.pgd import PGD
from assay.bounds.interval import certified_by_intervals
from assay.bounds.interval_tensor import IntervalTensor
from assay.data.base import Dataset, Normalisation
from assay.models.front import Normalise
from assay.models.resnet import Basic, Bottleneck
from assay.threats import Bounds, Norm, Threat
from tests.attacks.linear import BOUNDS, HALF_FIXED, ROOMY, distances, linear
from tests.bounds.networks import DOUBLE, Squared, convolutional, generator, residual_network, wide, worst_logits

FIGURES = Normalisation(mean=(0.5,), deviation=(0.05,))


@pytest.mark.parametrize("bounds", [ROOMY, BOUNDS, HALF_FIXED], ids=["roomy", "binding", "half fixed"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_linear_model_is_certified_to_its_distance_and_no_further(classes: int, bounds: Bounds) -> None:
    model, x, y = linear(5, classes)
    distance = distances(model, x, y, bounds, "linf")
    assert distance.isfinite().any()
    for record in range(len(x)):
        for factor, proven in ((0.999, True), (1.001, not distance[record].isfinite())):
            reach = float(distance[record]) if distance[record].isfinite() else 50.0
            threat = Threat(norm="linf", epsilon=factor * reach, bounds=bounds)
            assert bool(certified_by_intervals(model, x[record][None], y[record][None], threat)[0]) is bool(proven)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_certified_is_never_fooled(
    norm: Norm, trained: nn.Module, records: tuple[Tensor, Tensor], wdbc: Dataset
) -> None:
    x, y = records
    seen = 0
    for epsilon in (0.01, 0.03, 0.1, 0.3):
        threat = Threat(norm=norm, epsilon=epsilon, bounds=wdbc.bounds)
        proven = certified_by_intervals(trained, x, y, threat)
        fooled = PGD(steps=40, loss="margin", restarts=2).run(trained, x, y, threat, seed=0).fooled
        assert not bool((proven & fooled).any())
        seen += int(proven.sum()) and int(fooled.sum())
    assert seen, "no radius had both certified and fooled records"


@pytest.mark.parametrize(("ahead", "epsilon"), [(nn.Identity(), 0.02), (Normalise(FIGURES, (1, 7, 7)), 0.001)])
def test_a_convolutional_certificate_is_never_broken_nor_through_a_normalisation(
    ahead: nn.Module, epsilon: float
) -> None:
    model = nn.Sequential(ahead, convolutional(8).float())
    x = torch.rand(64, 1, 7, 7, generator=generator(8))
    y = model(x).argmax(1)
    threat = Threat(norm="linf", epsilon=epsilon, bounds=Bounds(low=torch.zeros(1), high=torch.ones(1)))
    proven = certified_by_intervals(model, x, y, threat)
    assert 0 < int(proven.sum()) < 64
    assert not bool((proven & PGD(loss="margin", restarts=3).run(model, x, y, threat, seed=1).fooled).any())


@pytest.mark.parametrize("kind", [Basic, Bottleneck])
def test_a_certificate_of_a_residual_network_is_never_broken(kind: type[Basic] | type[Bottleneck]) -> None:
    model = residual_network(kind, 5).float().train()
    x = torch.rand(64, 1, 6, 6, generator=generator(5))
    for _ in range(20):
        model(x)  # so that statistics fit the records
    y = model.eval()(x).argmax(1)
    valid = Bounds(low=torch.zeros(1), high=torch.ones(1))
    seen = 0
    for epsilon in (1e-6, 1e-4, 1e-2, 0.3):
        threat = Threat(norm="linf", epsilon=epsilon, bounds=valid)
        proven = certified_by_intervals(model, x, y, threat)
        fooled = PGD(loss="margin", restarts=2).run(model, x, y, threat, seed=1).fooled
        assert not bool((proven & fooled).any())
        seen |= (int(proven.any()) << 1) | int(fooled.any())
    assert seen == 3, "no record was certified, or none fooled"


def test_inputs_that_nobody_can_change_make_more_certifiable() -> None:
    model = nn.Linear(2, 2, bias=False).to(DOUBLE)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 9.0], [0.0, 0.0]]))
    x, y = torch.tensor([[0.5, 0.0]], dtype=DOUBLE), torch.tensor([0])
    ends = {"low": torch.full((2,), -9.0), "high": torch.full((2,), 9.0)}
    fixed = Bounds(**ends, fixed=torch.tensor([False, True]))
    assert not certified_by_intervals(model, x, y, Threat(norm="linf", epsilon=0.4, bounds=Bounds(**ends)))
    assert certified_by_intervals(model, x, y, Threat(norm="linf", epsilon=0.4, bounds=fixed))
    assert not certified_by_intervals(model, x, y, Threat(norm="linf", epsilon=0.6, bounds=fixed))


def test_the_bounds_of_valid_records_make_more_certifiable() -> None:
    model = nn.Linear(1, 2).to(DOUBLE)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.bias.zero_()
    x, y = torch.tensor([[0.5]], dtype=DOUBLE), torch.tensor([0])
    assert not certified_by_intervals(model, x, y, wide("linf", 0.6))
    positive = Bounds(low=torch.tensor([0.1], dtype=DOUBLE), high=torch.tensor([1.0], dtype=DOUBLE))
    assert certified_by_intervals(model, x, y, Threat(norm="linf", epsilon=0.6, bounds=positive))
    assert certified_by_intervals(model, x, y, Threat(norm="linf", epsilon=float("inf"), bounds=positive))


def test_at_radius_zero_it_is_being_right_without_a_tie(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    x, y = records
    with torch.no_grad():
        right = margin(trained(x), y) < 0
    assert 0 < int(right.sum()) < len(y)
    assert torch.equal(certified_by_intervals(trained, x, y, wide("linf", 0.0)), right)
    tied = nn.Linear(2, 2, bias=False)
    nn.init.ones_(tied.weight)
    assert not certified_by_intervals(tied, torch.ones(1, 2), torch.tensor([0]), wide("linf", 0.0))


def test_fewer_records_are_certified_at_a_larger_radius(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    shares = [
        certified_by_intervals(trained, *records, wide("linf", epsilon))
        for epsilon in (0.0, 1e-9, 0.01, 0.05, 0.2, 2.0)
    ]
    assert all(bool((larger <= smaller).all()) for smaller, larger in itertools.pairwise(shares))
    assert not shares[-1].any()


def test_a_euclidean_ball_is_bounded_by_its_box(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    boxed, ball = (certified_by_intervals(trained, *records, wide(norm, 0.05)) for norm in ("linf", "l2"))
    assert bool((ball <= boxed).all())


def test_a_margin_that_rounding_could_close_is_not_certified() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1e6, -1e6], [0.0, 0.0]]))
        model.bias.copy_(torch.tensor([1e-3, 0.0]))
    x, y, threat = torch.tensor([[0.7, 0.7]]), torch.tensor([0]), wide("linf", 1e-12)
    own = copy.deepcopy(model).double()
    low, high = x.double() - 1e-12, x.double() + 1e-12
    assert worst_logits(own, low, high, y)[0, 1] < 0
    assert not certified_by_intervals(model, x, y, threat)
    assert certified_by_intervals(own, x.double(), y, threat)


@pytest.mark.parametrize("after", [(), (nn.ReLU(), nn.Linear(2, 2, bias=False))])
def test_rounding_grows_with_the_terms_of_a_sum(after: tuple[nn.Module, ...]) -> None:
    """A row of n terms of total size n may be off by n² roundings: no margin below that is proven in float32."""
    n = 1000
    first = nn.Linear(n, 2)
    with torch.no_grad():
        first.weight.copy_(torch.stack([torch.ones(n), torch.ones(n)]))
        first.weight[:, ::2] *= -1
        for layer in after:
            if isinstance(layer, nn.Linear):
                layer.weight.copy_(torch.eye(2))
        x, y = torch.ones(1, n), torch.tensor([0])
        for share, proven in ((0.2, False), (5.0, True)):
            first.bias.copy_(torch.tensor([1.0, 1.0 - share * n * n * 2 * torch.finfo(torch.float32).eps]))
            assert bool(certified_by_intervals(nn.Sequential(first, *after), x, y, wide("linf", 1e-12))) == proven


def test_rounding_of_a_normalised_record_is_allowed_for() -> None:
    """Each end gives way by some roundings of what float32 answers there, so no float32 answer lies outside."""
    layer = Normalise(Normalisation(mean=(0.1307, -7.3), deviation=(0.3081, 1e-3)), (2, 50))
    x = 4 * torch.rand(64, 2, 50, generator=generator(9)) - 2
    answer, own = layer(x).double(), copy.deepcopy(layer).double()
    unit = torch.finfo(torch.float32).eps
    low, high = own(IntervalTensor(x.double(), torch.zeros_like(x.double()), unit=2 * unit)).ends
    assert not bool((own(x.double()) == answer).all()), "nothing was rounded"
    assert bool(((low <= answer) & (answer <= high)).all())
    assert bool((high - low <= 8 * unit * answer.abs() * (1 + 1e-6)).all())


def test_at_radius_zero_the_smallest_margin_counts() -> None:
    model = nn.Sequential(nn.Linear(1, 2), Squared())
    with torch.no_grad():
        model[0].weight.zero_()  # type: ignore[operator]
        model[0].bias.copy_(torch.tensor([1.0 + 2**-22, 1.0]))  # type: ignore[operator]
    assert certified_by_intervals(model, torch.zeros(1, 1), torch.tensor([0]), wide("linf", 0.0))


def test_certifying_leaves_the_model_alone(trained: nn.Module, records: tuple[Tensor, Tensor]) -> None:
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    trained.train()
    found = certified_by_intervals(trained, *records, wide("linf", 0.1))
    assert found.dtype == torch.bool
    assert all(layer.training for layer in trained.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert all(p.grad is None and p.dtype == torch.float32 for p in trained.parameters())


def test_nothing_is_certified_of_a_broken_model(records: tuple[Tensor, Tensor]) -> None:
    model = nn.Linear(30, 2)
    nn.init.constant_(model.weight, float("nan"))
    for epsilon in (0.0, 0.1):
        assert not certified_by_intervals(model, *records, wide("linf", epsilon)).any()
