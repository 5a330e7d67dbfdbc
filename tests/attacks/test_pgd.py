"""PGD and FGSM against closed forms and against torchattacks."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from assay import seeds
from assay.attacks.ascent import ascend, direction, heading, random_start
from assay.attacks.expectation import Expectation
from assay.attacks.fgsm import FGSM
from assay.attacks.losses import cross_entropy
from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.seeds import Draw
from assay.threats import Bounds, Norm, Threat, flat_norm

Records = tuple[Tensor, Tensor]
WIDE = Bounds(low=torch.tensor(-1e3), high=torch.tensor(1e3))
UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))


def linear(seed: int, classes: int = 2) -> tuple[nn.Linear, Tensor, Tensor]:
    """A random linear model in float64, and records that it classifies rightly."""
    generator = np.random.default_rng(seed)
    model = nn.Linear(6, classes).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(generator.normal(size=(classes, 6))))
        model.bias.copy_(torch.from_numpy(generator.normal(size=classes)))
    x = torch.from_numpy(generator.normal(size=(8, 6)))
    return model, x, model(x).argmax(1)


def boundary(model: nn.Linear, x: Tensor, order: float) -> Tensor:
    """Distance of each record to the decision boundary of two classes, in the norm whose dual is of ``order``."""
    weight, bias = model.weight[1] - model.weight[0], model.bias[1] - model.bias[0]
    return ((x @ weight + bias).abs() / torch.linalg.vector_norm(weight, order)).detach()


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(["cross_entropy", "margin"]), st.sampled_from(["linf", "l2"]))
def test_a_linear_model_breaks_exactly_beyond_its_margin(seed: int, loss: str, norm: Norm) -> None:
    model, x, y = linear(seed)
    distances = boundary(model, x, 1 if norm == "linf" else 2)
    for attack in (PGD(loss=loss), FGSM(loss=loss)):  # type: ignore[arg-type]
        for record, distance in enumerate(distances.tolist()):
            for factor, broken in ((1 - 1e-6, False), (1 + 1e-6, True)):
                threat = Threat(norm=norm, epsilon=factor * distance, bounds=WIDE)
                assert attack.run(model, x[record][None], y[record][None], threat, seed=0).fooled.item() is broken


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(["linf", "l2"]))
def test_success_never_falls_as_the_radius_grows(seed: int, norm: Norm) -> None:
    model, x, y = linear(seed)
    distances = boundary(model, x, 1 if norm == "linf" else 2)
    for epsilon in np.linspace(0, 3, 7):
        fooled = PGD().run(model, x, y, Threat(norm=norm, epsilon=epsilon, bounds=WIDE), seed=0).fooled
        assert torch.equal(fooled, distances < epsilon)


class OnUnitInputs(nn.Module):
    """A model of wdbc that takes inputs in [0, 1]."""

    def __init__(self, model: nn.Module, bounds: Bounds) -> None:
        super().__init__()
        self.model, self.bounds = model, bounds

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.bounds.low + x * (self.bounds.high - self.bounds.low))


@pytest.fixture
def unit(trained: nn.Module, records: Records, wdbc: Dataset) -> tuple[nn.Module, Tensor, Tensor]:
    bounds = wdbc.bounds
    return OnUnitInputs(trained, bounds).eval(), (records[0] - bounds.low) / (bounds.high - bounds.low), records[1]


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("steps", [1, 10])
def test_ascend_equals_torchattacks_from_the_record_itself(
    unit: tuple[nn.Module, Tensor, Tensor], epsilon: float, steps: int
) -> None:
    import torchattacks

    model, x, y = unit
    peer = torchattacks.PGD(model, eps=epsilon, alpha=epsilon / 4, steps=steps, random_start=False)(x, y)
    threat = Threat(norm="linf", epsilon=epsilon, bounds=UNIT)
    ours, _ = ascend(model, x, y, threat, start=x, steps=steps, step_size=epsilon / 4)
    assert not torch.equal(ours, x)
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-5)


def test_ascend_equals_torchattacks_from_a_given_start(unit: tuple[nn.Module, Tensor, Tensor]) -> None:
    import torchattacks

    model, x, y = unit
    torch.manual_seed(11)
    start = (x + torch.empty_like(x).uniform_(-0.05, 0.05)).clamp(0, 1)
    torch.manual_seed(11)
    peer = torchattacks.PGD(model, eps=0.05, alpha=0.01, steps=10, random_start=True)(x, y)
    threat = Threat(norm="linf", epsilon=0.05, bounds=UNIT)
    ours, _ = ascend(model, x, y, threat, start=start, steps=10, step_size=0.01)
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-5)


def test_ascend_in_l2_equals_torchattacks(unit: tuple[nn.Module, Tensor, Tensor]) -> None:
    import torchattacks

    model, x, y = unit
    # The peer adds 1e-10 to the length of the mean's gradient, which confident records notice.
    unsure = cross_entropy(model(x), y) > 0.01
    x, y = x[unsure], y[unsure]
    images = x[:, None, None, :]
    flat = nn.Sequential(nn.Flatten(), model).eval()
    peer = torchattacks.PGDL2(flat, eps=0.3, alpha=0.05, steps=10, random_start=False)(images, y)[:, 0, 0]
    threat = Threat(norm="l2", epsilon=0.3, bounds=UNIT)
    ours, _ = ascend(model, x, y, threat, start=x, steps=10, step_size=0.05)
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-5)


@pytest.mark.parametrize("epsilon", [0.01, 0.1])
def test_fgsm_equals_torchattacks(unit: tuple[nn.Module, Tensor, Tensor], epsilon: float) -> None:
    import torchattacks

    model, x, y = unit
    ours = FGSM().run(model, x, y, Threat(norm="linf", epsilon=epsilon, bounds=UNIT), seed=0)
    torch.testing.assert_close(ours.x, torchattacks.FGSM(model, eps=epsilon)(x, y), rtol=0, atol=1e-5)


def test_pgd_fools_at_least_whom_torchattacks_fools(unit: tuple[nn.Module, Tensor, Tensor]) -> None:
    import torchattacks

    model, x, y = unit
    peer = torchattacks.PGD(model, eps=0.05, alpha=2.5 * 0.05 / 20, steps=20, random_start=False)(x, y)
    ours = PGD(steps=20).run(model, x, y, Threat(norm="linf", epsilon=0.05, bounds=UNIT), seed=0)
    missed = (model(peer).argmax(1) != y) & ~ours.fooled
    assert not missed.any()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_restart_never_loses_what_an_earlier_start_found(
    steps: int, norm: Norm, trained: nn.Module, wdbc: Dataset
) -> None:
    x, y = torch.from_numpy(wdbc.x), torch.from_numpy(wdbc.y)
    threat = Threat(norm=norm, epsilon=0.25 if norm == "linf" else 1.0, bounds=wdbc.bounds)
    found = [PGD(steps=steps, restarts=restarts).run(trained, x, y, threat, seed=0).fooled for restarts in (1, 2, 3, 4)]
    for fewer, more in pairwise(found):
        assert not (fewer & ~more).any()


def test_a_record_stays_where_it_was_first_fooled() -> None:
    model, x, y = linear(0)
    threat = Threat(norm="linf", epsilon=3.0, bounds=WIDE)
    kept, fooled = ascend(model, x, y, threat, start=x, steps=50, step_size=0.06, keep_fooled=True)
    last, again = ascend(model, x, y, threat, start=x, steps=50, step_size=0.06)
    distances = boundary(model, x, 1)
    assert torch.equal(fooled, again)
    assert torch.equal(fooled, distances < 0.06 * 49)
    first = (distances / 0.06).ceil() * 0.06
    torch.testing.assert_close(threat.distance(kept, x)[fooled], first[fooled])
    torch.testing.assert_close(threat.distance(last, x), torch.full((8,), 3.0, dtype=torch.float64))


@given(st.integers(0, 10**6), st.integers(1, 5))
@settings(max_examples=12)
def test_a_direction_has_length_one_and_climbs_most(seed: int, features: int) -> None:
    gradient = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, features, 2)))
    for norm, dual in (("linf", 1), ("l2", 2)):
        threat = Threat(norm=norm, epsilon=1.0, bounds=WIDE)  # type: ignore[arg-type]
        step = direction(gradient, threat)
        torch.testing.assert_close(threat.distance(step, torch.zeros_like(step)), torch.ones(3).double())
        climb = (gradient * step).flatten(1).sum(1)
        torch.testing.assert_close(climb, torch.linalg.vector_norm(gradient.flatten(1), dual, dim=1))


@pytest.mark.parametrize("scale", [1e-8, 1e-15, 1e-30])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_confident_models_small_gradient_still_gives_a_whole_step(norm: Norm, scale: float) -> None:
    gradient = scale * torch.tensor([[3.0, -4.0]])
    expected = torch.tensor([[1.0, -1.0]]) if norm == "linf" else torch.tensor([[0.6, -0.8]])
    torch.testing.assert_close(direction(gradient, Threat(norm=norm, epsilon=1, bounds=WIDE)), expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_gradient_of_zero_moves_nothing(norm: Norm) -> None:
    assert torch.equal(direction(torch.zeros(2, 3), Threat(norm=norm, epsilon=1, bounds=WIDE)), torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(1000, 4), (1000, 2, 3, 3)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_threat_model(norm: Norm, shape: tuple[int, ...]) -> None:
    threat = Threat(norm=norm, epsilon=0.5, bounds=WIDE)
    x = torch.zeros(shape, dtype=torch.float64)
    start = random_start(x, threat, Draw(seeds.stream(0), len(x)))
    distance = threat.distance(start, x)
    assert (distance <= 0.5 + 1e-12).all()
    assert distance.max() > 0.49
    assert abs(start.mean()) < 4 * float(start.std()) / np.sqrt(start.numel())


def test_random_starts_in_l2_are_uniform_in_length() -> None:
    from scipy import stats

    x = torch.zeros(2000, 5, dtype=torch.float64)
    start = random_start(x, Threat(norm="l2", epsilon=1.0, bounds=WIDE), Draw(seeds.stream(0), len(x)))
    assert stats.kstest(flat_norm(start).numpy(), "uniform").pvalue > 0.01


def test_later_restarts_start_elsewhere() -> None:
    """At the record itself the loss is flat, so only a random start finds the way out."""

    class Plateau(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            height = (x[:, 0].abs() - 0.1).clamp_min(0) * 9 - 1
            return torch.stack([torch.zeros_like(height), height], 1)

    x, y = torch.zeros(16, 1), torch.zeros(16).long()
    threat = Threat(norm="linf", epsilon=1.0, bounds=WIDE)
    assert PGD(restarts=1).run(Plateau(), x, y, threat, seed=0).accuracy == 1
    assert PGD(restarts=8).run(Plateau(), x, y, threat, seed=0).accuracy == 0


def test_climbing_raises_the_loss(trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    x, y = records
    threat = Threat(norm="linf", epsilon=0.1, bounds=wdbc.bounds)
    worst, _ = ascend(trained, x, y, threat, start=x, steps=10, step_size=0.025)
    assert (cross_entropy(trained(worst), y) >= cross_entropy(trained(x), y) - 1e-6).all()


def test_no_steps_stay_at_the_start() -> None:
    model, x, y = linear(0)
    threat = Threat(norm="linf", epsilon=1.0, bounds=WIDE)
    found, fooled = ascend(model, x, y, threat, start=x + 0.5, steps=0, step_size=1.0)
    assert torch.equal(found, x + 0.5)
    assert not fooled.any()


def test_a_heading_is_what_dong_et_al_define() -> None:
    """Gradients of length 1 in L1, each with its share of the heading before."""
    first = heading(torch.tensor([[3.0, -1.0], [0.0, 0.0]]), None, 0.5)
    torch.testing.assert_close(first, torch.tensor([[0.75, -0.25], [0.0, 0.0]]))
    second = heading(torch.tensor([[-2.0, -2.0], [0.0, 8.0]]), first, 0.5)
    torch.testing.assert_close(second, torch.tensor([[-0.125, -0.625], [0.0, 1.0]]))


class Kinked(nn.Module):
    """Climbs along the first input up to 1, and from there a little along the second and back along the first."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[:, 0], x[:, 1]
        height = torch.where(a < 1, 3 * a + b, 3 - 0.2 * (a - 1) + 0.8 * b) - 100
        return torch.stack([torch.zeros_like(height), height], 1)


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, [0.6, 1.8]), (1.0, [1.8, 1.8])])
def test_momentum_carries_over_a_kink(momentum: float, expected: list[float]) -> None:
    """Steps of 0.6 in L∞: 0.6 and 1.2 along both; then back without momentum, and on with it."""
    x, y = torch.zeros(1, 2), torch.zeros(1).long()
    threat = Threat(norm="linf", epsilon=9.0, bounds=WIDE)
    found, _ = ascend(
        Kinked(), x, y, threat, start=x, steps=3, step_size=0.6, loss="margin", keep_fooled=True, momentum=momentum
    )
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_momentum_equals_torchattacks(unit: tuple[nn.Module, Tensor, Tensor]) -> None:
    """Its MI-FGSM divides by the mean of the absolute entries where the paper sums them: the same direction."""
    import torchattacks

    model, x, y = unit
    # The peer's length of the mean's gradient vanishes in float32 for confident records.
    unsure = cross_entropy(model(x), y) > 0.01
    x, y = x[unsure], y[unsure]
    flat = nn.Sequential(nn.Flatten(), model).eval()
    peer = torchattacks.MIFGSM(flat, eps=0.05, alpha=0.01, steps=10, decay=1.0)(x[:, None, None, :], y)[:, 0, 0]
    threat = Threat(norm="linf", epsilon=0.05, bounds=UNIT)
    ours, _ = ascend(model, x, y, threat, start=x, steps=10, step_size=0.01, momentum=1.0)
    torch.testing.assert_close(ours, peer, rtol=0, atol=1e-5)


def test_settings_that_make_another_attack_make_another_label() -> None:
    attacks = {
        "pgd": PGD(),
        "pgd_margin": PGD(loss="margin"),
        "pgd_100": PGD(steps=100),
        "pgd_100x5": PGD(steps=100, restarts=5),
        "pgd_dlr_20x2": PGD(loss="dlr", restarts=2),
        "pgd_step1": PGD(relative_step=1.0),
        "pgd_margin_50_momentum0.75_cold": PGD(loss="margin", steps=50, momentum=0.75, warm_start=False),
    }
    assert {attack.label: attack for attack in attacks.values()} == attacks


class Operations(TorchDispatchMode):
    """Counts what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.__name__.startswith(("mm", "addmm"))
        return func(*args, **(kwargs or {}))


def test_a_pass_forms_no_gradient_of_the_weights(unit: tuple[nn.Module, Tensor, Tensor]) -> None:
    """It would be one more product a layer."""
    model, x, y = unit
    products = []
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        with Operations() as operations:
            ascend(model, x, y, Threat(norm="linf", epsilon=0.1, bounds=UNIT), start=x, steps=2, step_size=0.1)
        products.append(operations.count)
    assert products[0] == products[1] > 0


class Forgetful(nn.Module):
    """Forgets half of what it is shown, in any mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(nn.functional.dropout(x, training=True))


def test_a_record_that_a_random_network_once_got_wrong_is_attacked_to_the_end(
    trained: nn.Module, wdbc: Dataset
) -> None:
    """As low as a run that never stops, on fresh draws; one that stops leaves records on the boundary."""
    x, y = torch.from_numpy(wdbc.x[::3]), torch.from_numpy(wdbc.y[::3])
    threat, model = Threat(norm="linf", epsilon=0.5, bounds=wdbc.bounds), Forgetful(trained).eval()
    looked_at = Expectation(model, 8)
    torch.manual_seed(0)
    found = PGD(loss="margin").run(model, x, y, threat, seed=0, through=looked_at).x
    never_stopped, _ = ascend(looked_at, x, y, threat, start=x, steps=20, step_size=0.0625, loss="margin")
    stopped, _ = ascend(looked_at, x, y, threat, start=x, steps=20, step_size=0.0625, loss="margin", keep_fooled=True)

    def fresh(points: Tensor) -> float:
        with torch.no_grad():
            return sum(float((model(points).argmax(1) == y).double().mean()) for _ in range(40)) / 40

    assert fresh(found) <= fresh(never_stopped) + 0.03
    assert fresh(found) < fresh(stopped) - 0.08


class Shifted(nn.Module):
    """Leans towards the second class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + torch.tensor([0.0, 3.0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_record_that_fools_another_network_is_attacked_to_the_end_at_every_radius(
    norm: Norm, trained: nn.Module, wdbc: Dataset
) -> None:
    """The other network's boundary lies nearer to one class than the judge's, so to rest there achieves nothing."""
    x, y = torch.from_numpy(wdbc.x[::3]), torch.from_numpy(wdbc.y[::3])

    radii = [0.1, 0.3, 0.5] if norm == "linf" else [0.5, 1.0, 2.0]
    threat = Threat(norm=norm, epsilon=0.0, bounds=wdbc.bounds)
    through = PGD(loss="margin").curve(trained, x, y, threat, radii, seed=0, through=Shifted(trained))
    own = PGD(loss="margin").curve(trained, x, y, threat, radii, seed=0)
    assert all(through[e].accuracy <= own[e].accuracy + 0.02 for e in radii)
