"""Bands by wavelength: how they are requested, which band of a sensor matches, and how bands are resampled.

A name of a band may say a wavelength: ``650nm`` is the band that holds it, ``842nm/115nm`` a band of that full width at
half maximum, which narrower ones are weighted to. ``red@665nm/30nm`` is the band of that name, and where there is none
the one at 665 nm. ``400nm..900nm`` stands for all bands with a centre in it. Wavelengths are nanometres here, whatever
the unit in which a file or an item says them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geoml.errors import InputError

if TYPE_CHECKING:  # a card that is only read needs no arrays
    import numpy as np
    from numpy.typing import NDArray

PLAUSIBLE = (300.0, 15_000.0)
"""Nanometres: from the ultraviolet that reaches the ground to the thermal infrared."""
UNITS = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns"), 1000.0),
    **dict.fromkeys(("micrometer", "micrometers", "micrometre", "micrometres"), 1000.0),
}
"""Names of units in lower case and the nanometres in one."""
ALIKE = 1.25
"""Ratio of two widths up to which a band stands for another as it is."""
CLOSE = 0.05
"""Of a width: two bands whose distances from a wavelength differ by less are equally near."""
COVERED = 0.9
"""Share of a response that bands have to cover, to be weighted to it."""
MANY = 32
"""Bands of a file from which on it is one of an imaging spectrometer: single ones may be empty."""

_NUMBER = r"(\d+(?:\.\d+)?)nm"
_ONE = re.compile(rf"(?:([^@]+)@)?{_NUMBER}(?:/{_NUMBER})?")
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}")
_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian in standard deviations."""

Mix = tuple[tuple[int, float], ...]
"""Bands of a file, from 1, and their weights, which sum to 1."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a name asks for, in nm; ``name`` is empty if it says a wavelength alone."""

    wavelength: float
    fwhm: float | None = None
    name: str = ""

    def __str__(self) -> str:
        return spelled(self.wavelength, self.fwhm)


@dataclass(frozen=True, slots=True)
class SensorBand:
    """A band of a sensor: its place in the file, from 1, its centre and width in nm; ``bad`` by its maker's word."""

    index: int
    wavelength: float
    fwhm: float | None = None
    bad: bool = False


def spelled(wavelength: float, fwhm: float | None = None) -> str:
    """The name of a band by its wavelength and width, six digits of each."""
    return f"{wavelength:.6g}nm" + (f"/{fwhm:.6g}nm" if fwhm else "")


def asked(name: str) -> Asked | None:
    """What a name asks for; None for one that gives no wavelength. Raises InputError for an impossible one."""
    found = _ONE.fullmatch(name)
    if found is None:
        return None
    wavelength, fwhm = float(found[2]), float(found[3]) if found[3] else None
    if not _plausible(wavelength) or fwhm == 0:
        raise InputError(f"bands: {name!r}; expected {_expected()} nm and a width above 0")
    return Asked(wavelength, fwhm, found[1] or "")


def range_of(name: str) -> tuple[float, float] | None:
    """Both ends of a range, in nm; None for an invalid name. Raises InputError for an impossible one."""
    found = _RANGE.fullmatch(name)
    if found is None:
        return None
    low, high = float(found[1]), float(found[2])
    if not (_plausible(low) and _plausible(high) and low < high):
        raise InputError(f"bands: {name!r}; expected two rising wavelengths of {_expected()} nm")
    return low, high


def factor(units: Sequence[str | None], field: str) -> float:
    """Nanometres in the unit that every band says. Raises InputError, with the count, for none, another or several."""
    said = {(u or "").strip().lower() for u in units}
    if missing := sum(not (u or "").strip() for u in units):
        raise InputError(f"{field}: {missing} of {len(units)} bands have no unit; expected nanometers or micrometers")
    if strange := [u for u in units if (u or "").strip().lower() not in UNITS]:
        text = f"{field}: {len(strange)} of {len(units)} bands have the unit {str(strange[0])[:30]!r}"
        raise InputError(f"{text}; expected nanometers or micrometers")
    if len({UNITS[u] for u in said}) > 1:
        raise InputError(f"{field}: {len(units)} bands have {len(said)} units, {' and '.join(sorted(said))}")
    return UNITS[next(iter(said))]


def check_plausible(wavelengths: Sequence[float], field: str, unit: str) -> None:
    """Raise InputError, with the count, for centres (nm) that are none, as of numbers in another unit than they say."""
    if wrong := [w for w in wavelengths if not _plausible(w)]:
        scale = UNITS[unit]
        expected = f"{PLAUSIBLE[0] / scale:g} to {PLAUSIBLE[1] / scale:g} {unit}"
        raise InputError(
            f"{field}: {len(wrong)} of {len(wavelengths)} bands lie at no wavelength in {unit}, the first at "
            f"{wrong[0] / scale:.6g}; expected {expected}"
        )


def expanded(names: Sequence[str], lines: Sequence[SensorBand]) -> tuple[str, ...]:
    """Names with the bands, by wavelength, that each range stands for, bad ones left out.

    Raises InputError for a range without a band and for a band that is named twice.
    """
    found: list[str] = []
    for name in names:
        span = range_of(name)
        found += [spelled(line.wavelength, line.fwhm) for line in within(lines, *span)] if span else [name]
    if twice := len(found) - len(set(found)):
        raise InputError(f"bands: {twice} of {len(found)} are named twice in {', '.join(names)}")
    return tuple(found)


def within(lines: Sequence[SensorBand], low: float, high: float) -> list[SensorBand]:
    """The lines from ``low`` to ``high`` nm that are not bad, by wavelength. Raises InputError if there is none."""
    inside = [line for line in lines if low <= line.wavelength <= high]
    good = sorted((line for line in inside if not line.bad), key=lambda line: line.wavelength)
    if not good:
        bad = f", {len(inside)} of them bad" if inside else ""
        raise InputError(f"bands: {len(inside)} of {len(lines)} lie in {low:g}nm..{high:g}nm{bad}{_span(lines)}")
    return good


def match(want: Asked, lines: Sequence[SensorBand]) -> Mix:
    """The band that ``want`` names, or the bands that are weighted to it.

    Without a width it is the nearest band, at most half of its own width away. With a width, a band that is alike, or
    those that cover a wider one: Gaussian responses, of which the narrow ones' own width is taken off, each for the
    part of the spectrum that is nearest to it. Raises InputError for no band, for several that are equally near, for a
    sensor whose bands are too wide, and for a gap.
    """
    if not lines:
        raise InputError(f"bands: {want}; no band has a wavelength")
    order = sorted(lines, key=lambda line: abs(line.wavelength - want.wavelength))
    first, distance = order[0], abs(order[0].wavelength - want.wavelength)
    width = first.fwhm or _spacing(lines, first)
    near = distance <= width / 2
    if want.fwhm is None or (near and 1 / ALIKE <= width / want.fwhm <= ALIKE):
        if not near:
            nearest = f"the nearest of {len(lines)} is at {first.wavelength:.6g} nm, {width:.3g} nm wide"
            raise InputError(f"bands: no band at {want}; {nearest}")
        tied = [o for o in order[1:] if abs(o.wavelength - want.wavelength) - distance <= CLOSE * width]
        if tied and distance > 0.005:
            at = ", ".join(f"{o.wavelength:.6g}" for o in (first, *tied))
            raise InputError(f"bands: {1 + len(tied)} bands are equally near to {want}, at {at} nm; give one of these")
        if tied and abs(tied[0].wavelength - first.wavelength) <= 0.005:
            raise InputError(
                f"bands: {1 + len(tied)} bands lie at {first.wavelength:.6g} nm; {want} means none of them"
            )
        return ((first.index, 1.0),)
    if width > ALIKE * want.fwhm:
        raise InputError(
            f"bands: {want} is narrower than the nearest band, {width:.3g} nm at {first.wavelength:.6g} nm"
        )
    return _weighted(want, want.fwhm, [line for line in lines if not line.bad])


def _weighted(want: Asked, fwhm: float, lines: Sequence[SensorBand]) -> Mix:
    """The bands near ``want``, by the area of its response that is theirs."""
    import numpy as np

    parts = sorted(lines, key=lambda line: line.wavelength)
    centres = np.array([line.wavelength for line in parts])
    widths = np.array([line.fwhm or _spacing(parts, line) for line in parts])
    # what is seen of the spectrum by each: to the middle between neighbours, at most as far as it is wide
    middle = (centres[1:] + centres[:-1]) / 2
    low = np.maximum(np.append(-np.inf, middle), centres - widths)
    high = np.minimum(np.append(middle, np.inf), centres + widths)
    near = widths[np.abs(centres - want.wavelength) <= fwhm]
    own = fwhm**2 - (float(np.median(near)) if near.size else 0.0) ** 2
    sigma = math.sqrt(max(own, (0.3 * fwhm) ** 2)) / _SIGMA
    edges = ((np.stack([low, high]) - want.wavelength) / sigma).tolist()
    area = np.array([_gauss(b) - _gauss(a) for a, b in zip(*edges, strict=True)])
    if (covered := float(area.sum())) < COVERED:
        held = int((area > 0.01).sum())
        raise InputError(f"bands: {held} of {len(parts)} bands cover {covered:.0%} of {want}; expected {COVERED:.0%}")
    kept = area > 0.005
    total = float(area[kept].sum())
    return tuple((line.index, float(a) / total) for line, a in zip(parts, area, strict=True) if a > 0.005)


def _gauss(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def mixed(
    data: NDArray[np.number], valid: NDArray[np.bool_], indexes: Sequence[int], mixes: Sequence[Mix | None]
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """(band, y, x) values and validity of bands that are ``mixes`` of ``data``, whose bands are ``indexes`` of a file.

    A bad band (None) is 0 and has no say in what is valid, unless all are. Bands taken as they are keep the dtype.
    """
    import numpy as np

    at = {index: k for k, index in enumerate(indexes)}
    plain = all(mix is None or len(mix) == 1 for mix in mixes)
    out = np.zeros((len(mixes), *data.shape[1:]), data.dtype if plain else np.float32)
    ok = np.full(out.shape, any(mix is not None for mix in mixes))
    for mix, into, known in zip(mixes, out, ok, strict=True):
        if mix is None:
            continue
        if len(mix) == 1:
            into[...], known[...] = data[at[mix[0][0]]], valid[at[mix[0][0]]]
            continue
        for index, weight in mix:
            into += np.float32(weight) * data[at[index]]
            known &= valid[at[index]]
        into[~known] = 0
    return out, ok


def _spacing(lines: Sequence[SensorBand], line: SensorBand) -> float:
    """Of bands that say no width: the distance to the nearest other."""
    others = [abs(o.wavelength - line.wavelength) for o in lines if o.wavelength != line.wavelength]
    return min(others, default=0.0)


def _span(lines: Sequence[SensorBand]) -> str:
    if not lines:
        return "; no band has a wavelength"
    centres = [line.wavelength for line in lines]
    return f"; they lie at {min(centres):.6g} to {max(centres):.6g} nm"


def _plausible(wavelength: float) -> bool:
    return PLAUSIBLE[0] <= wavelength <= PLAUSIBLE[1]


def _expected() -> str:
    return f"{PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g}"
