"""Names of units: one for each spelling. Words that are not in the vocabulary are units of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

RATIO = "1"
"""UCUM for a number without a dimension: a reflectance or a linear power, and not a logarithm of one."""

SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "reflectance": ("surface reflectance", "toa reflectance", "top of atmosphere reflectance", "reflectance factor"),
    "linear power": ("linear", "power", "linear scale", "linear intensity"),
    "amplitude": ("linear amplitude",),
    "dB": ("db", "decibel", "decibels", "b[10]"),
    "K": ("k", "kelvin", "kelvins", "degree kelvin", "degrees kelvin", "deg k"),
    "degC": ("cel", "celsius", "°c", "℃", "deg c", "degc", "degree celsius", "degrees celsius", "degree c"),
    "DN": ("dn", "digital number", "digital numbers", "digital counts", "counts"),
    "percent": ("%", "pct", "per cent"),
    "m": ("m", "metre", "metres", "meter", "meters"),
    "mm": ("mm", "millimetre", "millimetres", "millimeter", "millimeters"),
    "kg m-2": ("kg m**-2", "kg/m2", "kg/m^2", "kg/(m^2)"),
    "mm/h": ("mm/hr", "mm h-1", "mm hr-1", "mm h**-1"),
    "kg m-2 s-1": ("kg m**-2 s**-1", "kg/m2/s", "kg/(m^2 s)", "kg/(m^2*s)", "mm/s", "mm s-1"),
    "dBZ": ("dbz",),
    RATIO: ("unity", "unitless", "dimensionless", "ratio", "[1]"),
}
"""Our names, which are those of STAC where it has one (UDUNITS or UCUM), and what else means them; case is ignored."""

_NAMES = {spelling: name for name, others in SPELLINGS.items() for spelling in (name.lower(), *others)}
_NO_UNIT = ("", "unknown", "null", "nan", "none", "n/a", "undefined")


def unit(value: object) -> str | None:
    """The name of a unit; None for anything else. A word that is not in the vocabulary is its own name."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == 1:
        return RATIO
    if not isinstance(value, str) or len(value) > 80 or not value.isprintable():
        return None
    text = re.sub(r"[\s_]+", " ", value).strip()
    return None if text.lower() in _NO_UNIT else _NAMES.get(text.lower(), text)


def _checked(value: object) -> str | None:
    if value is None:
        return None
    if (name := unit(value)) is None:
        raise ValueError(f"{value!r} is not a unit; expected one of {', '.join(SPELLINGS)} or another word")
    return name


Unit = Annotated[str | None, BeforeValidator(_checked)]
"""A field that holds a unit by its name, or None if it is not known."""
