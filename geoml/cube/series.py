"""Steps of a place with their context: the checked months, place and looks of a model that needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoml.cube.profile import refuse
from geoml.errors import InputError
from geoml.io.cards.profile import BandProfile, Level
from geoml.texts import listed

Bbox = tuple[float, float, float, float]

SAMPLE = 100_000
"""Looks at a pixel that are compared with what is usual, at most: evenly thinned."""
SLACK = 0.1
"""Degrees that pixels may lie outside of the bbox that was asked for: blocks are larger."""


@dataclass(frozen=True, eq=False)
class Series:
    """Physical values of steps, as arrays.

    ``values`` is (step, band, y, x) float32 in the order of ``bands`` (common names), ``looks`` (step, y, x) is True
    where a step has data; what stands elsewhere is never read. ``months`` are 0 to 11, one for each step; ``place``
    (2, y, x) is longitude and latitude in degrees. ``level`` is that of processing, None if it is not known.

    Raises InputError, naming the field, for shapes that do not fit and for what no series is: see `check`.
    """

    bands: tuple[str, ...]
    values: NDArray[np.float32]
    looks: NDArray[np.bool_]
    months: tuple[int, ...]
    place: NDArray[np.float32] | None = None
    level: Level | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 4 or self.values.shape[1] != len(self.bands):
            raise InputError(f"values: shape {self.values.shape}; expected (step, {len(self.bands)} bands, y, x)")
        steps, _, height, width = self.values.shape
        if self.looks.shape != (steps, height, width) or self.looks.dtype != np.bool_:
            raise InputError(f"looks: {self.looks.dtype} {self.looks.shape}; expected bool {(steps, height, width)}")
        if len(self.months) != steps:
            raise InputError(f"months: {len(self.months)} given; expected one for each of {steps} steps")
        if wrong := [m for m in self.months if not 0 <= m <= 11 or m != int(m)]:
            raise InputError(f"months: {listed(sorted(set(wrong)))}; expected 0 (January) to 11 (December)")
        if self.place is not None and self.place.shape != (2, height, width):
            raise InputError(f"place: shape {self.place.shape}; expected (2, {height}, {width}), longitude first")

    def take(self, bands: Sequence[str]) -> Series:
        """The same with these bands, by name and in this order. Raises InputError for one that is not there."""
        if missing := [b for b in bands if b not in self.bands]:
            raise InputError(f"bands: {listed(missing)} of {len(bands)} not among {', '.join(self.bands)}")
        if tuple(bands) == self.bands:
            return self
        order = [self.bands.index(b) for b in bands]
        return replace(self, bands=tuple(bands), values=self.values[:, order])

    def check(self, profile: BandProfile | None, bbox: Bbox | None = None, level: Level | None = None) -> str:
        """What speaks against it without being sure, "" for nothing; ``profile`` and ``level`` are those of a model.

        Raises InputError if nothing is seen, for values that are not finite where something is seen, and for a
        place that is none or not in ``bbox`` (W S E N); ModelError for another unit or order of bands than the model
        knows.
        """
        if not self.looks.any():
            steps, height, width = self.looks.shape
            raise InputError(f"looks: none in {steps} steps of {height} x {width} pixels; expected one at least")
        if self.place is not None:
            _check_place(self.place, bbox)
        self._check_finite()
        said = []
        if level and self.level and level != self.level:
            said.append(f"level: {self.level} given; the model was trained on {level}")
        if profile is not None:
            said.append(refuse(profile, self._sample(), self.bands))
        return "; ".join(s for s in said if s)

    def _check_finite(self) -> None:
        bad: dict[str, int] = {}
        for values, look in zip(self.values, self.looks, strict=True):
            for name, band in zip(self.bands, values, strict=True):
                if count := int((~np.isfinite(band) & look).sum()):
                    bad[name] = bad.get(name, 0) + count
        if bad:
            told = ", ".join(f"{count} in {name}" for name, count in bad.items())
            raise InputError(
                f"values: not finite where looks says that there is data: {told}; expected looks False there"
            )

    def _sample(self) -> NDArray[np.float32]:
        """(N, band) of what is seen, evenly thinned."""
        step, y, x = np.nonzero(self.looks)
        thin = slice(None, None, max(1, -(-len(step) // SAMPLE)))
        found: NDArray[np.float32] = self.values[step[thin], :, y[thin], x[thin]]
        return found


def _check_place(place: NDArray[np.float32], bbox: Bbox | None) -> None:
    """Raise InputError for degrees that are none, and for those outside of W S E N."""
    if not np.isfinite(place).all():
        raise InputError("place: not finite; expected degrees")
    lon, lat = place
    swapped = "; latitude and longitude are swapped, it seems: expected longitude first"
    if np.abs(lat).max() > 90 or np.abs(lon).max() > 360:
        hint = swapped if np.abs(lon).max() <= 90 else ""
        raise InputError(f"place: latitudes from {lat.min():g} to {lat.max():g}{hint}")
    if bbox is None or _inside(lon, lat, bbox):
        return
    hint = swapped if _inside(lat, lon, bbox) else ""
    spans = ", ".join(f"{v.min():g} to {v.max():g}" for v in (lon, lat))
    raise InputError(f"place: longitude, latitude {spans} outside of the bbox {bbox}{hint}")


def _inside(lon: NDArray[np.float32], lat: NDArray[np.float32], bbox: Bbox) -> bool:
    west, south, east, north = bbox
    wide = (east - west) % 360 or (360.0 if east != west else 0.0)  # over the antimeridian, too
    along = (np.asarray(lon, np.float64) - west + SLACK) % 360
    return bool((along <= wide + 2 * SLACK).all() and (lat >= south - SLACK).all() and (lat <= north + SLACK).all())
