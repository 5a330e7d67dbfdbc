"""Counterfactuals where the nearest one is known, and the rules that none of them may break."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.features import Feature
from assay.errors import UserError
from assay.explain.global_.change_rules import ChangeRules, change_rules
from assay.explain.global_.counterfactuals import Counterfactuals, most_changed, nearest_counterfactuals
from assay.explain.global_.projection import least_step
from assay.models.black_box import WithoutGradient
from tests.mistakes import refused


def table(inputs: int = 4, *, low: float = -10, high: float = 10, features: tuple[Feature, ...] = ()) -> Dataset:
    count = len(features) or inputs
    return Dataset(
        name="ward",
        x=np.zeros((4, count), np.float32),
        y=np.arange(4) % 2,
        class_names=("well", "ill"),
        feature_names=tuple(one.name for one in features) or tuple("abcdefgh"[:count]),
        features=features,
        low=np.full(count, low, np.float32),
        high=np.full(count, high, np.float32),
        units="units",
        epsilons=(0.0,),
    )


def linear(weights: list[float], bias: float = 0.0) -> nn.Module:
    """Class 1 where weights · x + bias > 0."""
    model = nn.Linear(len(weights), 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0] * len(weights), weights]))
        model.bias.copy_(torch.tensor([0.0, bias]))
    return model


def decide(logits: Tensor) -> Tensor:
    return logits.argmax(1)


def draw(n: int, inputs: int, seed: int = 0) -> Tensor:
    return torch.randn(n, inputs, generator=torch.Generator().manual_seed(seed))


def found(model: nn.Module, x: Tensor, rules: ChangeRules, **settings: object) -> Counterfactuals:
    return nearest_counterfactuals(model, x, rules, decide, **settings)  # type: ignore[arg-type]


WEIGHTS = [1.5, -2.0, 0.5, 1.0]


def test_on_a_linear_model_the_distance_is_the_margin_over_the_length_of_the_weights() -> None:
    x, model = draw(30, 4), linear(WEIGHTS, bias=0.3)
    result = found(model, x, change_rules(table(), digits=6))
    margin = (x.double() @ torch.tensor(WEIGHTS).double() + 0.3).abs().numpy()
    assert result.found.all()
    assert result.exact == pytest.approx(margin / np.linalg.norm(WEIGHTS), rel=1e-4, abs=1e-5)
    # Reported in steps of 0.0001: rounding costs a little, and never gains anything.
    assert (result.distance - result.exact < 4e-4).all()
    assert (result.distance - result.exact > -1e-6).all()


SIZES = np.array([1e6, 1e-6, 1.0, 1e3])


def scaled_table(sizes: np.ndarray, seen: np.ndarray) -> ChangeRules:
    """Rules of a table with columns of these sizes, each a thousand of them wide; records give the spreads alone."""
    ends = (500 * sizes).astype(np.float32)
    return change_rules(replace(table(), low=-ends, high=ends), digits=6, varied=seen)


def test_units_of_the_columns_have_no_effect_on_the_nearest_counterfactual() -> None:
    x, seen = draw(30, 4), draw(200, 4, seed=8).numpy()
    plain = found(linear(WEIGHTS, bias=0.3), x, scaled_table(np.ones(4), seen))
    model = linear((np.array(WEIGHTS) / SIZES).tolist(), bias=0.3)
    result = found(model, x * torch.from_numpy(SIZES).float(), scaled_table(SIZES, seen * SIZES))
    # The closed form: each weight is that of a change by one spread of its column.
    margin = (x.double() @ torch.tensor(WEIGHTS).double() + 0.3).abs().numpy()
    weights = WEIGHTS * seen.astype(float).std(0)
    assert result.found.all() and plain.found.all()
    assert result.exact == pytest.approx(margin / np.linalg.norm(weights), rel=2e-4, abs=1e-5)
    assert plain.exact == pytest.approx(result.exact, rel=1e-4, abs=1e-5)
    # Reported in steps of a hundredth: rounding costs a little, and never gains anything.
    assert (np.abs(result.distance - result.exact) < 0.03).all()
    assert (result.distance > result.exact - 1e-6).all()


def test_few_changes_are_those_of_the_most_spreads_not_of_the_greatest_numbers() -> None:
    x, seen = draw(20, 4) * torch.from_numpy(SIZES).float(), draw(200, 4, seed=8).numpy() * SIZES
    rules = scaled_table(SIZES, seen)
    first = found(linear((np.array(WEIGHTS) / SIZES).tolist()), x, rules)
    # b, in units of 1e-6, has the greatest weight a spread.
    assert most_changed(x, first, rules, 1)[:, 1].all()


@pytest.mark.parametrize("size", SIZES)
def test_numbers_are_whole_only_where_their_rounding_shows_it(size: float) -> None:
    fractions = (np.random.default_rng(0).normal(size=(50, 4)) * size).astype(np.float32)
    rules = change_rules(
        replace(table(), low=np.full(4, -9 * size, np.float32), high=np.full(4, 9 * size, np.float32)),
        seen=fractions,
        digits=3,
    )
    width = np.ptp(fractions.astype(float), 0)
    assert (rules.step <= width / 100).all() and (rules.step > width / 1001).all()


@pytest.mark.parametrize(("middle", "width"), [(1e6, 2.0), (3.0, 2e-6)])
def test_numbers_whose_rounding_hides_fractions_are_not_called_whole(middle: float, width: float) -> None:
    """Near 1e6, float32 rounds to sixteenths; and values that all lie near 3 differ by less than a whole number."""
    seen = (middle + width * np.random.default_rng(0).uniform(-1, 1, (50, 4))).astype(np.float32)
    ends = np.float32([middle - 9 * width, middle + 9 * width])
    dataset = replace(table(), x=seen[:4], low=np.full(4, ends[0]), high=np.full(4, ends[1]))
    rules = change_rules(dataset, seen=seen, digits=3)
    assert (rules.step <= np.ptp(seen.astype(float), 0) / 100).all()


def test_the_spread_of_a_number_is_its_deviation_and_categories_count_as_they_are() -> None:
    seen = np.zeros((20, 7), np.float32)
    seen[:, 1] = np.linspace(-1, 1, 20)
    seen[::2, 3] = 1.0
    rules = change_rules(ward(), seen=seen)
    assert rules.spread.tolist() == [1.0, pytest.approx(seen[:, 1].astype(float).std()), 1, 1, 1, 1, 1]
    assert rules.unit == "standard deviations of 20 training records"
    assert change_rules(ward(), varied=seen).unit == "standard deviations of 20 test records"
    assert change_rules(ward()).spread.tolist() == [1.0] * 7


def test_held_inputs_leave_the_rest_to_the_others() -> None:
    x, model = draw(30, 4), linear(WEIGHTS)
    result = found(model, x, change_rules(table(), immutable=["b"], digits=6))
    margin = (x.double() @ torch.tensor(WEIGHTS).double()).abs().numpy()
    assert result.exact == pytest.approx(margin / np.linalg.norm([1.5, 0.5, 1.0]), rel=1e-4, abs=1e-5)
    assert np.array_equal(result.values[:, 1].view(np.uint32), x[:, 1].numpy().view(np.uint32))


def ring(x: Tensor) -> Tensor:
    """Class 1 outside of an ellipse: a curved boundary."""
    inside = 4 - x[:, 0] ** 2 - 2 * x[:, 1] ** 2 + 0.5 * x[:, 0] * x[:, 1]
    return torch.stack([inside, -inside], dim=1)


class Function(nn.Module):
    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        return self.of(x)


@pytest.mark.parametrize("gradient", [True, False])
def test_on_a_curved_boundary_the_distance_is_that_of_a_search_everywhere(gradient: bool) -> None:
    x = draw(12, 2, seed=3)
    axis = torch.linspace(-4, 4, 801)
    grid = torch.cartesian_prod(axis, axis)
    away = decide(ring(grid))
    own = decide(ring(x))
    nearest = [float((grid[away != own[row]] - x[row]).norm(dim=1).min()) for row in range(len(x))]
    starts = draw(200, 2, seed=9) * 2
    result = found(Function(ring), x, change_rules(table(2), digits=5), gradient=gradient, starts=starts)
    assert result.found.all()
    # A grid of hundredths overestimates by at most its diagonal; going back input by input may end elsewhere.
    assert (
        result.exact == pytest.approx(nearest, abs=0.015) if gradient else (result.exact < 2 * np.array(nearest)).all()
    )


def test_the_class_changes_after_rounding(coarse: int = 1) -> None:
    x, model = draw(40, 4), linear(WEIGHTS)
    rules = change_rules(table(), digits=coarse)
    result = found(model, x, rules)
    assert rules.step[0] == 10
    assert result.found.mean() > 0.9
    said = decide(model(torch.from_numpy(result.values)))
    assert bool((said != decide(model(x))).numpy()[result.found].all())
    moved = result.values != x.numpy()
    assert np.isin(result.values[moved], (-10, 0, 10)).all()


def test_what_is_reported_as_it_was_is_the_records_own() -> None:
    x = draw(40, 4)
    rules = change_rules(table(), digits=3)
    result = found(linear(WEIGHTS), x, rules)
    moved = result.values.view(np.uint32) != x.numpy().view(np.uint32)
    assert np.array_equal(moved, rules.reported(result.values) != rules.reported(x.numpy()))
    assert np.array_equal(moved.sum(1), result.changed)


def test_no_change_leaves_the_range_and_what_cannot_be_reached_is_not_found() -> None:
    x = torch.tensor([[0.5, 0.5], [3.0, 3.0], [-0.5, 0.2]])
    rules = change_rules(table(2, low=-1, high=1))
    result = found(linear([1.0, 1.0], bias=1.2), x, rules)
    # From (3, 3), which lies outside, nothing may move; from the others (-1, -1) is beyond the boundary.
    assert result.found.tolist() == [True, False, True]
    assert np.array_equal(result.values[1], x[1].numpy())
    assert np.isnan(result.distance[1]) and result.changed[1] == 0
    assert (np.abs(result.values[[0, 2]]) <= 1).all()


def test_a_model_of_one_answer_has_no_counterfactual() -> None:
    result = found(linear([0.0] * 4, bias=1.0), draw(5, 4), change_rules(table()), starts=draw(20, 4, seed=5))
    assert not result.found.any()
    assert np.isnan(result.distance).all() and np.array_equal(result.before, result.after)


@pytest.mark.parametrize("gradient", [True, False])
def test_a_record_gets_the_same_alone_and_in_any_order(gradient: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    x, rules = draw(6, 4).double().float(), change_rules(table())
    wrapped = Function(lambda given: model(given.double()).float())
    together = found(wrapped, x, rules, starts=draw(50, 4, seed=7), gradient=gradient)
    turned = found(wrapped, x.flip(0), rules, starts=draw(50, 4, seed=7), gradient=gradient)
    assert np.array_equal(together.values, turned.values[::-1])
    for row in range(6):
        alone = found(wrapped, x[row : row + 1], rules, starts=draw(50, 4, seed=7), gradient=gradient)
        assert np.array_equal(alone.values[0], together.values[row])


def test_a_model_without_a_gradient_is_searched_from_other_records() -> None:
    model = WithoutGradient(linear(WEIGHTS))
    result = found(model, draw(20, 4), change_rules(table()), gradient=False, starts=draw(100, 4, seed=4))
    assert result.found.all()
    with_gradient = found(linear(WEIGHTS), draw(20, 4), change_rules(table()))
    assert (result.distance >= with_gradient.exact - 1e-5).all()


def test_few_numbers_change_where_few_may() -> None:
    x, rules = draw(20, 4), change_rules(table(), digits=5)
    first = found(linear(WEIGHTS), x, rules)
    assert (first.changed == 4).all()
    few = most_changed(x, first, rules, 1)
    second = found(linear(WEIGHTS), x, rules, only=few)
    assert (second.changed[second.found] == 1).all()
    # The weight of b is the greatest: alone it needs the least change.
    assert few[:, 1].all()
    margin = (x @ torch.tensor(WEIGHTS)).abs().numpy()
    assert second.exact[second.found] == pytest.approx(margin[second.found] / 2, rel=1e-4, abs=1e-4)


WARD = (
    Feature(name="age", column="age", kind="number", unit="years", center=50, scale=20),
    Feature(name="pulse", column="pulse", kind="number", unit="beats", center=80, scale=10),
    Feature(name="stage", column="stage", kind="ordered", unit="steps", scale=3),
    *(Feature(name=f"pain={kind}", column="pain", kind="category") for kind in ("none", "dull", "sharp")),
    Feature(name="smoker=yes", column="smoker", kind="category"),
)


def ward() -> Dataset:
    low = np.array([-2, -4, 0, 0, 0, 0, 0], np.float32)
    high = np.array([2, 4, 1, 1, 1, 1, 1], np.float32)
    return replace(table(features=WARD), low=low, high=high)


RECORDS = torch.tensor([[0.3, 0.1, 1 / 3, 1, 0, 0, 0], [-0.7, 0.5, 2 / 3, 0, 1, 0, 1]])


def test_a_category_stays_one_that_exists() -> None:
    # Only sharp pain tells the classes apart, so the column must change as a whole.
    model = linear([0, 0, 0, 0, 0, 2.0, 0], bias=-1.0)
    result = found(model, RECORDS, change_rules(ward()))
    assert result.found.all()
    assert result.values[:, 3:6].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert np.array_equal(result.values[:, [0, 1, 2, 6]], RECORDS[:, [0, 1, 2, 6]].numpy())


def test_an_ordered_column_takes_whole_steps() -> None:
    result = found(linear([0, 0, 1.0, 0, 0, 0, 0], bias=-0.8), RECORDS, change_rules(ward()))
    assert result.found.all()
    assert result.values[:, 2].tolist() == [1.0, 1.0]


def test_columns_that_nobody_can_change_stay_without_being_named() -> None:
    model = linear([5.0, 0.1, 0, 0, 0, 0, 0], bias=0.0)
    rules = change_rules(ward())
    assert rules.fixed.tolist() == [True, *[False] * 6]
    result = found(model, RECORDS, rules)
    assert np.array_equal(result.values[:, 0].view(np.uint32), RECORDS[:, 0].numpy().view(np.uint32))
    assert change_rules(ward(), immutable=[]).fixed.sum() == 0


def test_what_the_data_set_declares_immutable_stays() -> None:
    rules = change_rules(replace(ward(), immutable=np.array([False, True, *[False] * 5])), immutable=["pain"])
    assert rules.fixed.tolist() == [False, True, False, True, True, True, False]
    assert {int(one.inputs[0]) for one in rules.alternatives} == {2, 6}


def test_an_unknown_column_is_refused_by_its_name() -> None:
    with refused(UserError, "immutable", "weight", sorted({*(one.name for one in WARD), "stage", "pain", "smoker"})):
        change_rules(ward(), immutable=["weight"])


def test_values_are_rounded_in_the_columns_own_unit() -> None:
    rules = change_rules(ward(), digits=2)
    # 80 years of range: two digits of it are whole years; 80 beats likewise.
    assert rules.step[:2].tolist() == [1.0, 1.0]
    assert rules.reported(np.array([[0.333, 0.12, 0, 0, 0, 0, 0]], np.float32))[0, :2].tolist() == [57.0, 81.0]
    assert rules.inputs_of(np.array([[200.0, 81.4, 0, 0, 0, 0, 0]]))[0, :2].tolist() == pytest.approx([2.0, 0.1])


def test_numbers_that_are_whole_in_all_records_stay_whole() -> None:
    seen = np.zeros((20, 7), np.float32)
    seen[:, 0] = (np.arange(30, 50) - 50) / 20
    seen[:, 1] = np.linspace(-1, 1, 20)
    rules = change_rules(ward(), seen=seen, digits=4)
    assert rules.step[0] == 1.0
    assert rules.step[1] == pytest.approx(0.01)
    assert (rules.low[0], rules.high[0]) == pytest.approx((-1.0, -0.05))


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ((1, 1.0), True),
        ((1, 9.0), False),
        ((0, 0.4), False),
        ((2, 0.5), False),
        ((2, 1.0), True),
        ((4, 1.0), False),
        ((6, 1.0), True),
        ((6, 0.5), False),
        ((1, float("nan")), False),
    ],
)
def test_the_rules_are_judged_apart_from_the_search(change: tuple[int, float], allowed: bool) -> None:
    x = RECORDS[:1].numpy()
    changed = x.copy()
    changed[0, change[0]] = change[1]
    assert change_rules(ward()).allow(x, changed).tolist() == [allowed]


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)).train()
    model(draw(3, 4)).sum().backward()
    before = [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    state = torch.get_rng_state()
    found(model, draw(5, 4), change_rules(table()))
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one, weight.grad) for one, weight in zip(before, model.parameters(), strict=True))


def test_the_shortest_step_onto_a_plane_within_a_box() -> None:
    slope = torch.tensor([[3.0, 4.0], [3.0, 4.0], [1.0, 1.0], [1.0, 0.0]]).double()
    needed = torch.tensor([25.0, -25.0, 3.0, 9.0]).double()
    low, high = torch.full((4, 2), -100.0).double(), torch.full((4, 2), 100.0).double()
    high[2, 0], high[3] = 1.0, 2.0
    steps = least_step(slope, needed, low, high)
    # The third is cut at 1 and the other entry takes the rest; the fourth cannot be reached, and comes nearest.
    assert steps.tolist() == [pytest.approx(one) for one in ([3, 4], [-3, -4], [1, 2], [2, 0])]
