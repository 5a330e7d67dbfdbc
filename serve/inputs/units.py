"""Units of UCUM (ucum.org) that clinical values come in, and conversions between those of one kind.

The table is written out, with exact factors. A general reader of units would have to parse a caller's text, where
powers of powers are cheap to write and dear to compute. A parser of UCUM also takes ``mL/min/{1.73_m2}`` for ``mL/min``
and ``meq`` for ``mmol``, which are other quantities to a laboratory. Of one kind are only units between which no
property of the substance is needed: ``mg/dL`` and ``mmol/L`` differ by a molar mass, ``U`` and ``[IU]`` by an assay.

Example::

    conversions("um")["mm"].apply(0.0179)  # 17.9
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

_LETTERS = str.maketrans("µμº×", "uu°x")
LONGEST = 32
"""Greatest length of the text of a unit."""
_PREFIXES = {
    "k": Fraction(1000), "": Fraction(1), "d": Fraction(1, 10), "c": Fraction(1, 100), "m": Fraction(1, 10**3),
    "u": Fraction(1, 10**6), "n": Fraction(1, 10**9), "p": Fraction(1, 10**12), "f": Fraction(1, 10**15),
}  # fmt: skip
_INCH, _POUND = Fraction("0.0254"), Fraction("453.59237")
_YEAR = Fraction("31557600")
_TIMES = {
    "a": _YEAR, "mo": _YEAR / 12, "wk": Fraction(604800), "d": Fraction(86400), "h": Fraction(3600),
    "min": Fraction(60), "s": Fraction(1), "ms": Fraction(1, 1000), "us": Fraction(1, 10**6),
}  # fmt: skip
_COUNTS = {"": Fraction(1), **{f"10*{power}": Fraction(10**power) for power in (3, 6, 9, 12)}}
_SPELLINGS = {
    "mmHg": "mm[Hg]", "cmH2O": "cm[H2O]", "°C": "Cel", "degC": "Cel", "°F": "[degF]", "degF": "[degF]",
    "y": "a", "yr": "a", "yrs": "a", "year": "a", "years": "a", "month": "mo", "months": "mo", "week": "wk",
    "weeks": "wk", "day": "d", "days": "d", "hr": "h", "hour": "h", "hours": "h", "minute": "min", "minutes": "min",
    "sec": "s", "second": "s", "seconds": "s", "msec": "ms", "bpm": "/min", "beats/min": "/min", "breaths/min": "/min",
    "percent": "%", "lb": "[lb_av]", "lbs": "[lb_av]", "oz": "[oz_av]", "inch": "[in_i]", "inches": "[in_i]",
    "ft": "[ft_i]", "cc": "mL", "mcg": "ug",
}  # fmt: skip
"""Usual spellings that are none of UCUM, as whole units."""


@dataclass(frozen=True)
class Conversion:
    """Converts values: ``factor · value + offset``."""

    factor: float = 1.0
    offset: float = 0.0

    def apply(self, value: float) -> float:
        """Returns a value in the unit to which this leads."""
        return self.factor * value + self.offset


@dataclass(frozen=True)
class _Unit:
    kind: str
    factor: Fraction
    """Of the base unit of its kind."""
    offset: Fraction = Fraction(0)
    """Value of 0 of this unit, in the base unit."""


def canonical_unit(written: str) -> str:
    """Returns the code of UCUM that a unit is meant to be; case is kept, for ``mm`` and ``Mm`` are two units.

    Args:
        written: as data sets and callers write it: ``mmHg``, ``years``, ``µmol/l``, ``x10^9/L``.

    Returns:
        The code; the text without blanks where none is known.
    """
    text = "".join(written.split()).translate(_LETTERS)
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    text = text[1:] if text.startswith("x10") else text
    text = text.replace("10^", "10*")
    if text.endswith("^-1") and "/" not in text:
        text = f"/{text[:-3]}"
    text = text.removeprefix("1") if text.startswith("1/") else text
    parts = ["L" if part == "l" else f"{part[:-1]}L" if part in ("dl", "cl", "ml", "ul", "nl", "fl") else part
             for part in text.split("/")]  # fmt: skip
    parts = [f"{part[:-2]}[IU]" if part in ("IU", "mIU", "uIU", "kIU") else part for part in parts]
    return "/".join(_SPELLINGS.get(part, part) if part in ("mcg", "cc", "hr", "minute") else part for part in parts)


@cache
def conversions(unit: str) -> dict[str, Conversion]:
    """Returns the conversions that lead to a unit, by the code of the unit from which they come.

    Args:
        unit: of a feature, as its data set writes it.

    Returns:
        Conversions by code, its own included, which is the only one for a unit that the table lacks. Empty if no unit
        is stated.
    """
    if not unit:
        return {}
    canonical = canonical_unit(unit)
    to = _table().get(canonical)
    if to is None:
        return {canonical: Conversion()}
    by_code = {canonical: Conversion()}
    for code, unit_from in _table().items():
        if unit_from.kind == to.kind and code != canonical:
            offset = (unit_from.offset - to.offset) / to.factor
            by_code[code] = Conversion(float(unit_from.factor / to.factor), float(offset))
    return by_code


@cache
def _table() -> dict[str, _Unit]:
    """Returns all units by code."""
    one = Fraction(1)
    lengths = _prefixed("m", "kdcmunp") | {"m": one, "[in_i]": _INCH, "[ft_i]": 12 * _INCH}
    masses = _prefixed("g", "kmunpf") | {"g": one, "[lb_av]": _POUND, "[oz_av]": _POUND / 16}
    volumes = _prefixed("L", "dcmunpf") | {"L": one}
    cubes = {f"{code}3": lengths[code] ** 3 * 1000 for code in ("m", "dm", "cm", "mm", "um")}
    areas = {f"{code}2": lengths[code] ** 2 for code in ("m", "dm", "cm", "mm", "um")}
    amounts = _prefixed("mol", "munpf") | {"mol": one}
    equivalents = _prefixed("eq", "mun") | {"eq": one}
    arbitrary = _prefixed("[IU]", "kmu") | {"[IU]": one}
    catalysis = {"U": Fraction(1, 60 * 10**6), "kU": Fraction(1000, 60 * 10**6), "mU": Fraction(1, 60 * 10**9)}
    catalysis |= _prefixed("kat", "mun") | {"kat": one}
    times = _TIMES
    kinds: dict[str, dict[str, Fraction]] = {
        "length": lengths,
        "mass": masses,
        "volume": volumes | cubes,
        "area": areas,
        "amount": amounts,
        "equivalents": equivalents,
        "arbitrary": arbitrary,
        "catalysis": catalysis,
        "time": times,
        "rate": {"Hz": one, **_over({"": one}, {code: times[code] for code in ("s", "min", "h", "d", "a")})},
        "pressure": {
            "Pa": one, "hPa": Fraction(100), "kPa": Fraction(1000), "mbar": Fraction(100), "bar": Fraction(10**5),
            "mm[Hg]": Fraction("133.322"), "cm[Hg]": Fraction("1333.22"), "cm[H2O]": Fraction("98.0665"),
            "mm[H2O]": Fraction("9.80665"), "atm": Fraction(101325),
        },
        "voltage": {"V": one, "mV": Fraction(1, 10**3), "uV": Fraction(1, 10**6), "nV": Fraction(1, 10**9)},
        "ratio": {"1": one, "%": Fraction(1, 100), "[ppth]": Fraction(1, 1000), "[ppm]": Fraction(1, 10**6)},
        "speed": _over({code: lengths[code] for code in ("m", "cm", "mm")}, {"s": one, "h": times["h"]}),
        "flow": _over(
            {code: volumes[code] for code in ("L", "dL", "mL")}, {code: times[code] for code in ("s", "min", "h", "d")}
        ),
        "mass by area": _over(masses, areas),
        "volume by area": _over(volumes, areas),
        "mass by mass": _over(masses, masses, but_itself=True),
        "amount by amount": _over(amounts, amounts, but_itself=True),
        "amount by mass": _over(amounts, masses),
        "mass by amount": _over(masses, amounts),
    }  # fmt: skip
    for kind, above in {
        "mass": masses, "amount": amounts, "equivalents": equivalents, "arbitrary": arbitrary, "catalysis": catalysis,
        "number": _COUNTS,
    }.items():  # fmt: skip
        kinds[f"{kind} by volume"] = _over(above, volumes | {code: cubes[code] for code in ("mm3", "cm3")})
    table = {code: _Unit(kind, factor) for kind, codes in kinds.items() for code, factor in codes.items()}
    kelvin = Fraction("273.15")
    fahrenheit = Fraction(5, 9)
    return table | {
        "K": _Unit("temperature", one),
        "Cel": _Unit("temperature", one, kelvin),
        "[degF]": _Unit("temperature", fahrenheit, kelvin - 32 * fahrenheit),
    }


def _prefixed(unit: str, prefixes: str) -> dict[str, Fraction]:
    return {f"{prefix}{unit}": _PREFIXES[prefix] for prefix in prefixes}


def _over(above: dict[str, Fraction], below: dict[str, Fraction], *, but_itself: bool = False) -> dict[str, Fraction]:
    """Returns all quotients of two sets of units."""
    return {
        f"{over}/{under}": factor / divisor
        for over, factor in above.items()
        for under, divisor in below.items()
        if not (but_itself and over == under)
    }
