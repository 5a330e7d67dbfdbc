"""Units are converted as UCUM says, and only where no property of the substance is needed."""

import pytest

from serve.inputs.units import _table, canonical_unit, conversions

SAME = [
    (17.9, "mm", 1.79, "cm"),
    (17.9, "um", 0.0179, "mm"),
    (180.34, "cm", 71, "[in_i]"),
    (37.0, "Cel", 98.6, "[degF]"),
    (98.6, "°F", 37.0, "°C"),
    (310.15, "K", 37.0, "Cel"),
    (120, "mm[Hg]", 15.99864, "kPa"),
    (10, "cm[H2O]", 9.80665, "hPa"),
    (100, "mg/dl", 1.0, "g/L"),
    (14, "g/dL", 140, "g/L"),
    (90, "umol/L", 0.09, "mmol/l"),
    (5, "10*9/L", 5000, "/uL"),
    (5, "10*9/L", 5, "10*3/uL"),
    (5, "x10^9/L", 5000, "/mm3"),
    (60, "/min", 1, "Hz"),
    (70, "1/min", 70, "bpm"),
    (30, "U/L", 0.5, "ukat/L"),
    (4, "mIU/mL", 4, "[IU]/L"),
    (50, "%", 0.5, "1"),
    (2, "years", 24, "mo"),
    (1, "wk", 7, "d"),
    (150, "[lb_av]", 68.0388555, "kg"),
    (500, "uV", 0.5, "mV"),
    (90, "fL", 90, "um3"),
    (6, "L/min", 100, "mL/s"),
    (25, "kg/m2", 2.5, "g/cm2"),
]


@pytest.mark.parametrize(("value", "unit", "other", "other_unit"), SAME)
def test_values_are_converted_both_ways(value: float, unit: str, other: float, other_unit: str) -> None:
    assert conversions(unit)[canonical_unit(other_unit)].apply(other) == pytest.approx(value, rel=1e-9)
    assert conversions(other_unit)[canonical_unit(unit)].apply(value) == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize(
    ("unit", "other"),
    [
        ("mm", "kg"),
        ("mg/dL", "mmol/L"),
        ("mmol/L", "meq/L"),
        ("U/L", "[IU]/L"),
        ("mL/min", "mL/min/{1.73_m2}"),
        ("/min", "/uL"),
        ("%", "mg/g"),
        ("kPa", "Cel"),
        ("mm", "Mm"),
        ("L", "mol"),
        ("ms", "s^-1"),
        ("mmol/L", "mmol/L^-1"),
        ("a", "mo^-1"),
        ("kg", "xkg"),
        ("%", "%^-1"),
    ],
)
def test_what_needs_more_than_a_factor_is_not_converted(unit: str, other: str) -> None:
    assert canonical_unit(other) not in conversions(unit)
    assert canonical_unit(unit) not in conversions(other)


@pytest.mark.parametrize("unit", ["mL/min/{1.73_m2}", "steps", "mmol/mol creatinine", "beats"])
def test_an_unknown_unit_is_its_own_alone(unit: str) -> None:
    (code,) = conversions(unit)
    assert code == canonical_unit(unit) and conversions(unit)[code].apply(3.0) == 3.0


def test_a_reciprocal_is_one_per_unit() -> None:
    assert canonical_unit("min^-1") == "/min"
    assert conversions("/min")[canonical_unit("s^-1")].apply(2.0) == pytest.approx(120)


def test_without_a_unit_nothing_is_converted() -> None:
    assert conversions("") == {}


@pytest.mark.slow  # test_values_are_converted_both_ways, with figures written out
def test_all_factors_are_those_of_a_library() -> None:
    ucumvert = pytest.importorskip("ucumvert")
    registry = ucumvert.PintUcumRegistry()
    first: dict[str, str] = {}
    for code, unit in _table().items():
        if unit.kind not in first or unit.kind == "ratio" or "by" not in unit.kind.split():
            base = first.setdefault(unit.kind, code)
            found = conversions(base)[code]
            for value in (0.0, 1.0, 30.0):
                expected = registry.Quantity(value, registry.from_ucum(code).units).to(registry.from_ucum(base).units)
                # The library's mercury is 133.322387415 Pa, that of UCUM 133.3220 Pa.
                assert found.apply(value) == pytest.approx(expected.magnitude, rel=5e-6, abs=1e-9), code
