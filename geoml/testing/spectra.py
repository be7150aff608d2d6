"""Synthetic scenes of an imaging spectrometer: three kinds of ground by spectrum, in light that varies by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

NODATA = -32768.0
CRS = "EPSG:32633"


@dataclass(frozen=True)
class Sensor:
    """Centres and widths of bands in nm, in the order of the file; ``bad``: positions, from 0, that hold nothing."""

    wavelengths: tuple[float, ...]
    fwhm: float
    bad: tuple[int, ...] = ()

    def shuffled(self, seed: int) -> Sensor:
        """The same bands in another order."""
        order = np.random.default_rng(seed).permutation(len(self.wavelengths)).tolist()
        bad = tuple(n for n, k in enumerate(order) if k in self.bad)
        return Sensor(tuple(self.wavelengths[k] for k in order), self.fwhm, bad)


SENSOR = Sensor(tuple(400.0 + 15 * k for k in range(40)), 15.0, bad=(20, 21))
"""400 to 985 nm; two bands are empty."""


def spectra(wavelengths: Sequence[float]) -> NDArray[np.float64]:
    """(3, band) reflectance of soil, plants and water; smooth, and nowhere alike in shape."""
    w = np.asarray(wavelengths, np.float64)
    soil = 0.1 + 0.25 * (w - 400) / 600
    plants = 0.04 + 0.06 * np.exp(-(((w - 550) / 40) ** 2)) + 0.4 / (1 + np.exp(-(w - 715) / 12))
    water = 0.02 + 0.08 * np.exp(-((w - 400) / 150))
    return np.stack([soil, plants, water])


def scene(sensor: Sensor, classes: NDArray[np.integer[Any]], seed: int) -> NDArray[np.float32]:
    """(band, y, x) reflectance x 10000 of ``classes`` (y, x), 0 to 2, with light from 0.6 to 1.3 and noise."""
    rng = np.random.default_rng(seed)
    light = rng.uniform(0.6, 1.3, classes.shape)
    values = spectra(sensor.wavelengths)[classes].transpose(2, 0, 1) * light
    values = 1e4 * (values + rng.normal(0, 0.004, values.shape))
    values[list(sensor.bad)] = NODATA
    stored: NDArray[np.float32] = values.astype(np.float32)
    return stored


def write(path: Path, data: NDArray[np.float32], sensor: Sensor, corner: tuple[float, float], **tags: str) -> Path:
    """A GeoTIFF of 30 m whose bands say wavelength, unit, width and ``bbl``; ``tags`` replace those of every band."""
    place = {"crs": CRS, "transform": Affine(30, 0, corner[0], 0, -30, corner[1]), "nodata": NODATA}
    size = {"count": len(data), "height": data.shape[1], "width": data.shape[2]}
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", **size, **place) as file:
        file.write(data)
        file.scales = [1e-4] * len(data)
        for k, wavelength in enumerate(sensor.wavelengths):
            said = {"wavelength": f"{wavelength:g}", "wavelength_units": "Nanometers", "fwhm": f"{sensor.fwhm:g}"}
            file.update_tags(k + 1, **{**said, "bbl": str(int(k not in sensor.bad)), **tags})
    return path
