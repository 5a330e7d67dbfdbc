"""The threat model is kept exactly, whatever an attack proposes."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from assay.threats import Bounds, Norm, Threat, flat_norm, radius_text

LOW, HIGH = torch.tensor([-1.0, -2.0, 0.0], dtype=torch.float64), torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)
BOUNDS = Bounds(low=LOW, high=HIGH)
WIDE = Bounds(low=torch.tensor(-1e6), high=torch.tensor(1e6))
NORMS: list[Norm] = ["linf", "l2"]


class Case(NamedTuple):
    threat: Threat
    original: Tensor
    proposed: Tensor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shares = draw(arrays(np.float64, (4, 3), elements=st.floats(0, 1)))
    proposed = draw(arrays(np.float64, (4, 3), elements=st.floats(-1e3, 1e3)))
    threat = Threat(norm=draw(st.sampled_from(NORMS)), epsilon=draw(st.floats(0, 6)), bounds=BOUNDS)
    return Case(threat, BOUNDS.clip(LOW + torch.from_numpy(shares) * (HIGH - LOW)), torch.from_numpy(proposed))


@given(cases())
def test_projection_stays_in_the_threat_model(case: Case) -> None:
    projected = case.threat.project(case.proposed, case.original)
    assert (case.threat.distance(projected, case.original) <= case.threat.epsilon + 1e-14).all()
    assert ((projected >= LOW) & (projected <= HIGH)).all()


@given(cases())
def test_projection_stays_in_the_threat_model_in_float32(case: Case) -> None:
    original, proposed = BOUNDS.clip(case.original.float()), case.proposed.float()
    projected = case.threat.project(proposed, original)
    assert (case.threat.distance(projected, original) <= case.threat.epsilon + 1e-6).all()
    assert ((projected >= LOW) & (projected <= HIGH)).all()


@given(cases())
def test_a_radius_of_zero_leaves_the_record_as_it_is(case: Case) -> None:
    assert torch.equal(case.threat.at(0.0).project(case.proposed, case.original), case.original)


@given(cases())
def test_projection_is_idempotent(case: Case) -> None:
    once = case.threat.project(case.proposed, case.original)
    torch.testing.assert_close(case.threat.project(once, case.original), once, rtol=0, atol=1e-14)


@given(cases())
def test_an_allowed_record_is_left_as_it_is(case: Case) -> None:
    allowed = case.threat.project(case.proposed, case.original)
    larger = case.threat.at(case.threat.epsilon + 1e-9)
    torch.testing.assert_close(larger.project(allowed, case.original), allowed, rtol=0, atol=1e-14)


@given(cases())
def test_projection_in_linf_is_the_nearest_point(case: Case) -> None:
    threat = Threat(norm="linf", epsilon=case.threat.epsilon, bounds=BOUNDS)
    least = torch.maximum(case.original - threat.epsilon, LOW)
    most = torch.minimum(case.original + threat.epsilon, HIGH)
    nearest = torch.minimum(torch.maximum(case.proposed, least), most)
    torch.testing.assert_close(threat.project(case.proposed, case.original), nearest, rtol=0, atol=1e-13)


@given(cases())
def test_projection_in_l2_far_from_the_bounds_is_the_nearest_point(case: Case) -> None:
    threat = Threat(norm="l2", epsilon=case.threat.epsilon, bounds=WIDE)
    for one, original, proposed in zip(
        threat.project(case.proposed, case.original), case.original, case.proposed, strict=True
    ):
        change = (proposed - original).numpy()
        nearest = change * min(1.0, threat.epsilon / max(np.linalg.norm(change), 1e-300))
        np.testing.assert_allclose((one - original).numpy(), nearest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_records_of_any_shape_are_projected_one_by_one(norm: Norm) -> None:
    generator = torch.Generator().manual_seed(0)
    original = torch.rand(3, 2, 4, 4, generator=generator)
    proposed = original + torch.randn(original.shape, generator=generator)
    threat = Threat(norm=norm, epsilon=0.3, bounds=Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0)))
    together = threat.project(proposed, original)
    apart = [threat.project(p[None], o[None])[0] for p, o in zip(proposed, original, strict=True)]
    torch.testing.assert_close(together, torch.stack(apart), rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_an_infinite_radius_leaves_only_the_bounds(norm: Norm) -> None:
    original, proposed = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[5.0, -9.0, 1.0]], dtype=torch.float64)
    threat = Threat(norm=norm, epsilon=float("inf"), bounds=BOUNDS)
    assert torch.equal(threat.project(proposed, original), BOUNDS.clip(proposed))


def test_distance_is_the_norm_of_the_change() -> None:
    change = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])
    zero = torch.zeros_like(change)
    assert Threat(norm="linf", epsilon=1, bounds=WIDE).distance(change, zero).tolist() == [4.0, 0.0]
    assert Threat(norm="l2", epsilon=1, bounds=WIDE).distance(change, zero).tolist() == [5.0, 0.0]
    assert flat_norm(change.view(2, 1, 3)).tolist() == [5.0, 0.0]


@pytest.mark.parametrize("epsilon", [-0.1, float("nan")])
def test_an_impossible_radius_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon must be a number of at least 0, given: (-0.1|nan)"):
        Threat(norm="linf", epsilon=epsilon, bounds=BOUNDS)


def test_an_unknown_norm_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'l1' is unknown; allowed: linf, l2"):
        Threat(norm="l1", epsilon=1.0, bounds=BOUNDS)  # type: ignore[arg-type]


@pytest.mark.parametrize("high", [[0.0, 1.0], [-1.0, 1.0], [float("nan"), 1.0]])
def test_bounds_that_leave_no_room_are_refused(high: list[float]) -> None:
    with pytest.raises(ValueError, match="lower bound must lie below"):
        Bounds(low=torch.zeros(2), high=torch.tensor(high))


def test_another_radius_changes_nothing_else() -> None:
    threat = Threat(norm="l2", epsilon=1.0, bounds=BOUNDS)
    assert threat.at(0.5) == Threat(norm="l2", epsilon=0.5, bounds=BOUNDS)
    assert threat.epsilon == 1.0


@pytest.mark.parametrize(
    ("epsilon", "written"),
    [
        (8 / 255, "8/255"),
        (0.5 / 255, "0.5/255"),
        (0.1, "0.1"),
        (0.0, "0"),
        (0.2, "0.2"),
        (0.3, "0.3"),
        (1 / 3, "0.333333"),
    ],
)
def test_a_radius_is_written_as_the_field_writes_it(epsilon: float, written: str) -> None:
    assert radius_text(epsilon) == written


@pytest.mark.parametrize("norm", NORMS)
def test_what_nobody_can_change_stays_exactly_as_it_was(norm: Norm) -> None:
    fixed = torch.tensor([True, False, False])
    bounds = Bounds(low=LOW, high=HIGH, fixed=fixed)
    original = torch.tensor([[0.3, -1.0, 2.0], [-0.7, 0.1, 0.5]], dtype=torch.float64)
    projected = Threat(norm=norm, epsilon=5.0, bounds=bounds).project(original + 0.7, original)
    assert torch.equal(projected[:, 0], original[:, 0])
    assert (projected[:, 1:] != original[:, 1:]).all()


def test_the_box_of_a_record_holds_what_can_be_reached_and_no_more() -> None:
    bounds = Bounds(low=LOW, high=HIGH, fixed=torch.tensor([True, False, False]))
    low, high = bounds.box(torch.tensor([[0.3, 0.4, 2.0]], dtype=torch.float64), 0.5)
    torch.testing.assert_close(low, torch.tensor([[0.3, -0.1, 1.5]], dtype=torch.float64))
    torch.testing.assert_close(high, torch.tensor([[0.3, 0.5, 2.5]], dtype=torch.float64))


def test_bounds_move_where_records_lie_and_stay_where_they_are_there_already() -> None:
    fixed = Bounds(low=LOW, high=HIGH, padding=True, fixed=torch.tensor([True, False, False]))
    assert fixed.on(torch.device("cpu")) is fixed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bounds, "__post_init__", lambda _: None)  # which no tensor without numbers can answer
        moved = fixed.on(torch.device("meta"))
    assert moved.fixed is not None
    assert {one.device.type for one in (moved.low, moved.high, moved.fixed)} == {"meta"}
    assert moved.padding
