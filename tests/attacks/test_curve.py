"""A curve of PGD is as low as a run of its own at each radius, and every survivor was attacked at every radius."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assay import seeds
from assay.attacks.curve import LEAST
from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.seeds import Draw
from assay.tasks.classification import CLASSIFICATION
from assay.threats import Bounds, Norm, Threat

Records = tuple[Tensor, Tensor]
WIDE = Bounds(low=torch.tensor(-1e3), high=torch.tensor(1e3))
UNIT = Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0))
RADII: dict[Norm, list[float]] = {"linf": [0.05, 0.1, 0.2, 0.3, 0.45, 0.6], "l2": [0.2, 0.5, 1.0, 1.5, 2.0, 3.0]}
both_norms = pytest.mark.parametrize("norm", ["linf", "l2"])
every_loss = pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])


def in_norm(norm: Norm, bounds: Bounds = WIDE) -> Threat:
    return Threat(norm=norm, epsilon=0.0, bounds=bounds)


def proposals(  # noqa: PLR0917
    attack: PGD, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, radii: Sequence[float]
) -> list[Tensor]:
    """What the attack proposes at each radius, before anybody projects it."""
    return list(attack.perturb_curve(model, x, y, threat, radii, Draw(seeds.stream(0), len(x))))


@pytest.fixture(scope="session")
def _striped() -> tuple[nn.Module, Tensor, Tensor]:
    """A CNN that tells three kinds of stripes apart, and records in [0, 1], a fifth of them with a wrong label."""
    generator = np.random.default_rng(0)
    y = torch.arange(150) % 3
    waves = torch.stack([torch.sin(torch.arange(8.0) * pace) for pace in (0.7, 1.4, 2.4)])
    noise = torch.from_numpy(generator.normal(size=(150, 1, 8, 8)).astype(np.float32))
    x = (0.5 + 0.1 * waves[y][:, None, None, :] + 0.15 * noise).clamp(0, 1)
    model = CNN(channels=(8, 16), hidden=16).build((1, 8, 8), 3, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.zero_grad()
    return model.eval(), x, torch.where(torch.arange(150) % 5 == 0, (y + 1) % 3, y)


@pytest.fixture
def striped(_striped: tuple[nn.Module, Tensor, Tensor]) -> tuple[nn.Module, Tensor, Tensor]:
    return copy.deepcopy(_striped[0]), _striped[1].clone(), _striped[2].clone()


@both_norms
@every_loss
def test_a_curve_is_no_weaker_than_a_run_at_each_radius_on_records_of_a_table(
    norm: Norm, loss: str, trained: nn.Module, wdbc: Dataset
) -> None:
    """Within one record of 190: single runs of PGD differ by as much among themselves."""
    x, y = torch.from_numpy(wdbc.x[::3]), torch.from_numpy(wdbc.y[::3])
    warm, cold = (
        PGD(loss=loss, warm_start=start).curve(trained, x, y, in_norm(norm, wdbc.bounds), RADII[norm], seed=0)  # type: ignore[arg-type]
        for start in (True, False)
    )
    assert all(warm[e].accuracy <= cold[e].accuracy + 1 / len(x) + 1e-9 for e in RADII[norm])
    assert warm[RADII[norm][-1]].accuracy < 0.5 < warm[RADII[norm][0]].accuracy


@both_norms
@every_loss
def test_a_curve_is_no_weaker_than_a_run_at_each_radius_on_images(
    norm: Norm, loss: str, striped: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """Within two records of 150."""
    radii = [0.01, 0.02, 0.03, 0.05, 0.08] if norm == "linf" else [0.1, 0.2, 0.3, 0.4, 0.6]
    warm, cold = (
        PGD(loss=loss, warm_start=start).curve(*striped, in_norm(norm, UNIT), radii, seed=0)  # type: ignore[arg-type]
        for start in (True, False)
    )
    assert all(warm[e].accuracy <= cold[e].accuracy + 2 / 150 + 1e-9 for e in radii)
    assert warm[radii[-1]].accuracy < 0.5 < warm[radii[0]].accuracy


def test_a_curve_takes_less_than_half_the_passes(striped: tuple[nn.Module, Tensor, Tensor]) -> None:
    model, x, y = striped
    counts = []
    for warm in (True, False):
        seen = Witness(model)
        PGD(warm_start=warm).curve(seen, x, y, in_norm("linf", UNIT), [0.01, 0.02, 0.03, 0.04, 0.05], seed=0)
        counts.append(sum(len(points) for points in seen.climbed))
    assert counts[0] < 0.5 * counts[1]


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.sampled_from(["cross_entropy", "margin", "dlr"]), st.sampled_from(["linf", "l2"]))
def test_the_curve_of_a_linear_model_is_exact(seed: int, loss: str, norm: Norm) -> None:
    """The nearest boundary of two classes is |margin| / ‖w‖ away, in the dual norm of the threat's."""
    generator = np.random.default_rng(seed)
    model = nn.Linear(6, 2).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.from_numpy(generator.normal(size=tuple(parameter.shape))))
    x = torch.from_numpy(generator.normal(size=(8, 6)))
    logits, weight = model(x).detach(), (model.weight[1] - model.weight[0]).detach()
    distance = (logits[:, 1] - logits[:, 0]).abs() / torch.linalg.vector_norm(weight, 1 if norm == "linf" else 2)
    radii = sorted(float(d) * factor for d in distance for factor in (1 - 1e-6, 1 + 1e-6))
    curve = PGD(loss=loss).curve(model, x, logits.argmax(1), in_norm(norm), radii, seed=0)  # type: ignore[arg-type]
    for epsilon in radii:
        assert torch.equal(curve[epsilon].fooled, distance < epsilon)


@both_norms
@pytest.mark.parametrize("restarts", [1, 3])
def test_what_is_fooled_at_a_radius_is_so_at_every_larger_one(
    norm: Norm, restarts: int, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    attack, threat = PGD(restarts=restarts, steps=5), in_norm(norm, wdbc.bounds)
    curve = attack.curve(trained, *records, threat, RADII[norm], seed=0)
    for smaller, larger in pairwise(RADII[norm]):
        assert not (curve[smaller].fooled & ~curve[larger].fooled).any()
    found = proposals(attack, trained, *records, threat, RADII[norm])
    for (smaller, before), after in zip(zip(RADII[norm], found, strict=True), found[1:], strict=False):
        fooled = curve[smaller].fooled
        assert torch.equal(before[fooled], after[fooled])


@both_norms
def test_every_proposal_lies_in_its_ball_and_in_the_bounds(
    norm: Norm, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    threat = in_norm(norm, wdbc.bounds)
    for epsilon, found in zip(
        RADII[norm], proposals(PGD(restarts=2), trained, *records, threat, RADII[norm]), strict=True
    ):
        assert (threat.distance(found, records[0]) <= epsilon + 2e-6).all()
        assert ((found >= wdbc.bounds.low) & (found <= wdbc.bounds.high)).all()


class Witness(nn.Module):
    """Remembers every batch that somebody climbed from."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.climbed: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            self.climbed.append(x.detach().clone())
        return self.model(x)


class Robust(nn.Module):
    """Right everywhere, with a slope; the first input, which its answer does not look at, says which record it is."""

    def forward(self, x: Tensor) -> Tensor:
        height = 1e-2 * x[:, 1:].sin().sum(1) - 30
        return torch.stack([torch.zeros_like(height), height], 1)


@both_norms
@pytest.mark.parametrize("restarts", [1, 2])
def test_every_survivor_is_attacked_at_every_radius(norm: Norm, restarts: int) -> None:
    """However hopeless: at its start there, and wherever each of the least steps led it, at full length."""
    x = torch.cat([torch.arange(5.0)[:, None], torch.zeros(5, 3)], 1)
    bounds = Bounds(low=torch.tensor(-9.0), high=torch.tensor(9.0), fixed=torch.tensor([True, False, False, False]))
    seen, radii = Witness(Robust()), [0.1, 0.2, 0.5, 1.0]
    curve = PGD(restarts=restarts).curve(seen, x, torch.zeros(5).long(), in_norm(norm, bounds), radii, seed=0)
    assert all(point.accuracy == 1 for point in curve.values())
    points = torch.cat(seen.climbed)
    for record in range(5):
        reached = in_norm(norm).distance(own := points[points[:, 0] == record], x[record].expand_as(own))
        assert len(own) == len(radii) * restarts * (LEAST + 1)
        for epsilon in radii:
            assert int(((reached - epsilon).abs() < 1e-5).sum()) >= LEAST


@both_norms
def test_a_survivor_starts_at_the_next_radius_where_it_stands_stretched(norm: Norm) -> None:
    weight = torch.tensor([0.6, -0.8])

    class Plane(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            height = x @ weight - 9
            return torch.stack([torch.zeros_like(height), height], 1)

    seen = Witness(Plane())
    PGD().curve(seen, torch.zeros(1, 2), torch.zeros(1).long(), in_norm(norm), [0.5, 1.5], seed=0)
    steepest = weight.sign() if norm == "linf" else weight
    torch.testing.assert_close(
        torch.cat(seen.climbed), torch.tensor([0.0, 0.5, 0.5, 1.5, 1.5, 1.5])[:, None] * steepest
    )


def test_a_record_near_its_boundary_gets_all_its_steps() -> None:
    """A slope that shows nothing of the way is not given up: the loss is flat in float32 and its fall unknown."""

    class Confident(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            height = x[:, 0] - 200
            return torch.stack([torch.zeros_like(height), height], 1)

    seen = Witness(Confident())
    PGD(steps=7).curve(seen, torch.zeros(1, 1), torch.zeros(1).long(), in_norm("linf"), [0.5, 1.0], seed=0)
    assert len(seen.climbed) == 2 * 8


class Understated(nn.Module):
    """Answers as a network does, with a thousandth of its gradient."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return 1e-3 * logits + (0.999 * logits).detach()


@both_norms
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_a_gradient_that_is_true_but_for_its_size_does_not_make_a_curve_give_up(
    norm: Norm, loss: str, striped: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """A run of its own at each radius looks at no size; the curve is within a point of it."""
    model, x, y = striped
    radii = [0.01, 0.03, 0.08] if norm == "linf" else [0.1, 0.3, 0.6]
    warm, cold = (
        PGD(loss=loss, warm_start=start).curve(Understated(model), x, y, in_norm(norm, UNIT), radii, seed=0)  # type: ignore[arg-type]
        for start in (True, False)
    )
    assert all(warm[e].accuracy <= cold[e].accuracy + 0.01 for e in radii)


def test_later_starts_are_random_at_every_radius() -> None:
    """At the record itself the loss is flat, so only a random start finds the way out."""

    class Plateau(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            height = (x[:, 0].abs() - 0.1).clamp_min(0) * 9 - 1
            return torch.stack([torch.zeros_like(height), height], 1)

    x, y = torch.zeros(16, 1), torch.zeros(16).long()
    once, often = (PGD(restarts=n).curve(Plateau(), x, y, in_norm("linf"), [0.05, 0.5, 1.0], seed=0) for n in (1, 8))
    assert [point.accuracy for point in once.values()] == [1, 1, 1]
    assert [point.accuracy for point in often.values()] == [1, 0, 0]


@both_norms
@pytest.mark.parametrize("restarts", [1, 2])
def test_what_cannot_be_changed_stays(
    norm: Norm, restarts: int, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    fixed = torch.arange(wdbc.x.shape[1]) % 2 == 0
    bounds = Bounds(low=wdbc.bounds.low, high=wdbc.bounds.high, fixed=fixed)
    seen = Witness(trained)
    found = proposals(PGD(restarts=restarts), seen, *records, in_norm(norm, bounds), RADII[norm])
    assert all(torch.equal(one[:, fixed], records[0][:, fixed]) for one in found)
    known = {tuple(record.tolist()) for record in records[0][:, fixed]}
    assert all(tuple(point.tolist()) in known for points in seen.climbed for point in points[:, fixed])


def test_equal_seeds_give_equal_curves_and_others_do_not(trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    threat = in_norm("l2", wdbc.bounds)
    one, again, other = (
        list(
            PGD(restarts=3, steps=2).perturb_curve(
                trained, *records, threat, RADII["l2"], Draw(seeds.stream(seed), len(records[0]))
            )
        )
        for seed in (4, 4, 5)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_earlier_proposal_is_not_changed_by_a_later_one(trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    stream = PGD().perturb_curve(
        trained, *records, in_norm("linf", wdbc.bounds), RADII["linf"], Draw(seeds.stream(0), len(records[0]))
    )
    first = next(stream)
    kept = first.clone()
    list(stream)
    assert torch.equal(first, kept)


@both_norms
@every_loss
def test_a_record_that_can_be_moved_where_the_model_answers_no_number_is_fooled(norm: Norm, loss: str) -> None:
    class Gap(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            root = (0.1 - x[:, 0]).sqrt()
            return torch.stack([root, 0 * root, 0 * root - 1], 1)

    curve = PGD(loss=loss).curve(Gap(), torch.zeros(4, 1), torch.zeros(4).long(), in_norm(norm), [0.05, 0.5], seed=0)  # type: ignore[arg-type]
    assert [point.invalid for point in curve.values()] == [0, 4]
    assert [point.accuracy for point in curve.values()] == [1, 0]


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), float("-inf")])
def test_answers_that_are_no_numbers_are_fooled_at_every_radius(answer: float) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.stack([x[:, 0] * 0 + 9, x[:, 0] * 0], 1)
            return logits.masked_fill((x[:, 0] > 2)[:, None], answer)

    x = torch.tensor([[0.0], [4.0], [0.0], [4.0]])
    curve = PGD().curve(Half(), x, torch.zeros(4).long(), in_norm("linf"), [0.1, 0.2], seed=0)
    assert all(point.fooled.tolist() == [False, True, False, True] for point in curve.values())
    assert all(point.invalid == 2 for point in curve.values())


def test_a_network_whose_answers_vary_is_attacked_anew_at_every_radius(records: Records, wdbc: Dataset) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = MLP(hidden=(8,)).build((30,), 2, seed=0)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x + 1e-3 * torch.randn_like(x))

    model, found = Noisy(), []
    for warm in (True, False):
        torch.manual_seed(1)
        if not warm:
            model(records[0][:8]), model(records[0][:8])
        found.append(proposals(PGD(warm_start=warm), model, *records, in_norm("linf", wdbc.bounds), RADII["linf"]))
    assert all(torch.equal(warm, cold) for warm, cold in zip(*found, strict=True))


def test_one_radius_alone_is_the_plain_run(trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    threat = in_norm("linf", wdbc.bounds)
    (found,) = proposals(PGD(), trained, *records, threat, [0.3])
    plain = PGD().perturb(trained, *records, threat.at(0.3), Draw(seeds.stream(0), len(records[0])))
    assert torch.equal(found, plain)


def test_momentum_enters_the_curve(trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    found = [proposals(PGD(momentum=m), trained, *records, in_norm("l2", wdbc.bounds), [0.2, 0.5]) for m in (0.0, 1.0)]
    assert not torch.equal(found[0][1], found[1][1])
    assert CLASSIFICATION.wrong(trained(found[1][1]), records[1]).any()


@pytest.mark.parametrize("reshape", [lambda h: h.view(len(h), -1), lambda h: h.flatten(1)])
def test_a_network_may_depend_on_the_layout_of_its_images(
    reshape: Callable[[Tensor], Tensor], striped: tuple[nn.Module, Tensor, Tensor]
) -> None:
    """``view`` refuses images whose channels lie last; the curve is the same as with ``flatten``, which takes both."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(256, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(reshape(self.convolution(x).relu()))

    _, x, y = striped
    torch.manual_seed(0)
    model = Own().double()
    radii = [0.01, 0.05]
    warm, cold = (
        PGD(loss="margin", warm_start=start).curve(model, x.double(), y, in_norm("linf", UNIT), radii, seed=0)
        for start in (True, False)
    )
    assert all(warm[e].accuracy <= cold[e].accuracy for e in radii)
