"""Units of bands: which are the same, and which convert to which. Their names: `geoml.io.unit_names`.

A unit is that of physical values (number * scale + offset). Words that are not in the vocabulary are units of their
own: the same word is the same unit. Conversions are exact definitions; nothing is guessed from values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from geoml.io.unit_names import RATIO

Array = NDArray[np.float32]

_Conversion = tuple[Callable[[Array], Array], Callable[[Array], Array]]


def _same(values: Array) -> Array:
    return values


def _from_decibels(values: Array) -> Array:
    return np.asarray(np.power(np.float32(10), values / np.float32(10)))


def _to_decibels(values: Array) -> Array:
    return np.asarray(np.float32(10) * np.log10(values))


FAMILIES: Sequence[Mapping[str, _Conversion]] = (
    {
        "linear power": (_same, _same),
        RATIO: (_same, _same),
        "amplitude": (np.square, np.sqrt),
        "dB": (_from_decibels, _to_decibels),
    },
    {
        "reflectance": (_same, _same),
        RATIO: (_same, _same),
        "percent": (lambda v: v / np.float32(100), lambda v: v * np.float32(100)),
    },
    {
        "K": (_same, _same),
        "degC": (lambda v: v + np.float32(273.15), lambda v: v - np.float32(273.15)),
    },
    {
        "m": (_same, _same),
        "mm": (lambda v: v / np.float32(1000), lambda v: v * np.float32(1000)),
        "kg m-2": (lambda v: v / np.float32(1000), lambda v: v * np.float32(1000)),  # of water
    },
    {
        "mm/h": (_same, _same),
        "kg m-2 s-1": (lambda v: v * np.float32(3600), lambda v: v / np.float32(3600)),
    },
)
"""Units that are converted into each other: the function to the first of the family, and the one from it."""


def _conversion(have: str, want: str) -> _Conversion | None:
    """From ``have`` to the first unit of their family, and from there to ``want``; None if they share no family."""
    return next(((f[have][0], f[want][1]) for f in FAMILIES if have in f and want in f), None)


def differ(have: str | None, want: str | None) -> bool:
    """True when values must be changed, or cannot be, to be in the other unit; False where one is not known."""
    if have is None or want is None or have == want:
        return False
    return _conversion(have, want) != (_same, _same)


def convert(values: Array, have: str | None, want: str | None) -> Array:
    """Physical values in another unit; not finite where there is none (the logarithm of zero or less).

    Raises ValueError for units that have nothing in common; `mismatch` detects them before.
    """
    if have is None or want is None or not differ(have, want):
        return values
    if (steps := _conversion(have, want)) is None:
        raise ValueError(f"{have} cannot be made {want}")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return steps[1](steps[0](values)).astype(np.float32, copy=False)


def mismatch(name: str, have: set[str], want: str | None) -> str | None:
    """Why bands of these units cannot be read as ``want``; None if they can, or where nothing is known."""
    if want is not None:
        wrong = sorted(h for h in have if h != want and _conversion(h, want) is None)
        return f"band {name} is in {', '.join(wrong)}, which cannot be made {want}" if wrong else None
    several = sorted(have)
    if any(differ(h, several[0]) for h in several[1:]):
        return f"band {name} is in {' and in '.join(several)}, and the model does not state its unit"
    return None


def describe(have: Sequence[str | None], want: str | None) -> str:
    """What happens to the unit of one band, for people: ``have`` of all items, ``want`` of the model."""
    stated = sorted({h for h in have if h is not None})
    listed = ", ".join(stated) + (" or not known" if stated and None in have else "")
    if want is None:
        return f"not converted: the data are in {listed}, the unit of the model is not known" if stated else "not known"
    if not stated:
        return f"not converted: the model expects {want}, the unit of the data is not known"
    if any(differ(h, want) for h in stated):
        return f"{listed}, converted to {want}" + (" where it is known" if None in have else "")
    return want if None not in have else f"{want}; not known of some items, which are not converted"
