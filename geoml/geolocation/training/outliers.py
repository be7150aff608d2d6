"""Pictures that a locator of the world from above is not for: the sea, blanks, other widths and other renderings.

A head that has only seen crops of one kind is as sure of a white sheet as of the Nile, so a second one learns to tell
these apart (`geoml.geolocation.nn.domains`). Classes and pictures are made here: from the same picture of the world,
from scenes of the ground nearby, and from patterns (`geoml.geolocation.training.patterns`). The same for the same state
of ``rng``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.errors import RasterioError
from scipy import ndimage

from geoml.errors import DataError
from geoml.geolocation.training import patterns, season, world
from geoml.geolocation.training.world import View, World

KINDS = ("sea", "blank", "other width", "other rendering")
NEAR_KM, FAR_KM = (1.0, 350.0), (1800.0, 9000.0)
"""Widths that are another scale for pictures of 600 to 1000 km; between lies ground that is neither."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Material:
    """What outliers are cut from: the world, where land is, other maps of the world, scenes (H, W, 3) uint8 of ground
    nearby, and the ``width_km`` and latitudes of pictures that are not outliers."""

    world: World
    land: NDArray[np.bool_]
    maps: tuple[World, ...] = ()
    scenes: tuple[Pixels, ...] = ()
    width_km: tuple[float, float] = (600.0, 1000.0)
    south: float = -60.0
    north: float = 90.0


def pictures(material: Material, kind: str, count: int, size: int, seed: int) -> Iterator[Pixels]:
    """``count`` pictures (size, size, 3) uint8 of one of `KINDS`, each from its own generator."""
    make = {"sea": _sea, "blank": _blank, "other width": _width, "other rendering": _rendering}[kind]
    for i in range(count):
        yield make(material, np.random.default_rng([seed, KINDS.index(kind), i, 0xF0E]), size)


def read_scene(folder: str | Path) -> Pixels:
    """(H, W, 3) uint8 of a folder with ``red.tif``, ``green.tif`` and ``blue.tif``, stretched from 1 to 99 %.

    Raises DataError.
    """
    bands = []
    for name in ("red", "green", "blue"):
        try:
            with rasterio.open(Path(folder) / f"{name}.tif", driver="GTiff") as file:
                bands.append(file.read(1, masked=True))
        except RasterioError as err:
            raise DataError(f"{folder}: {name}.tif cannot be read ({err})") from err
    out = []
    for band in bands:
        low, high = np.percentile(band.compressed(), (1, 99))
        out.append(np.clip((band.filled(0).astype(np.float32) - low) / max(high - low, 1e-6), 0, 1))
    return np.asarray(np.rint(np.stack(out, -1) * 255), np.uint8)


def _sea(material: Material, rng: np.random.Generator, size: int) -> Pixels:
    if rng.random() < 0.2:
        return _light(patterns.waves(rng, size), rng)
    wide = float(np.exp(rng.uniform(np.log(20.0), np.log(4000.0))))
    rgb = material.world.crop(_view(material, rng, wide, lambda share: share <= 0.01), size)
    if rng.random() < 0.3:
        rgb = patterns.clouds(rgb, rng)
    return _light(rgb, rng)


def _blank(material: Material, rng: np.random.Generator, size: int) -> Pixels:
    return _pick(rng, patterns.BLANK)(rng, size)


def _width(material: Material, rng: np.random.Generator, size: int) -> Pixels:
    what = rng.random()
    if what < 0.25:
        rgb = material.world.crop(_on_land(material, rng, float(np.exp(rng.uniform(*np.log(NEAR_KM))))), size)
        rgb = season.augment(rgb, rng) if rng.random() < 0.5 else rgb
    elif what < 0.45:
        rgb = material.world.crop(_on_land(material, rng, float(rng.uniform(*FAR_KM)), 0.3), size)
        rgb = season.augment(rgb, rng) if rng.random() < 0.5 else rgb
    elif what < 0.65 and material.scenes:
        rgb = _light(_nearby(material.scenes, rng, size), rng)
    else:
        rgb = _light(_pick(rng, patterns.GROUND)(rng, size), rng)
    if what >= 0.45 and rng.random() < 0.2:  # other bands or another sensor
        rgb = _pick(rng, (_in_grey, _permuted, _infrared, _coloured, _speckled, _equalised))(rgb, rng)
    return patterns.wedge(rgb, rng) if rng.random() < 0.1 else rgb


def _rendering(material: Material, rng: np.random.Generator, size: int) -> Pixels:
    view = _on_land(material, rng, float(rng.uniform(*material.width_km)))
    what = rng.random()
    if what < 0.15:
        return patterns.drawing(_land_of(material, view, size), rng)
    if what < 0.2:
        return patterns.streets(rng, size)
    if what < 0.45 and material.maps:
        rgb = material.maps[int(rng.integers(len(material.maps)))].crop(view, size)
        return _light(rgb, rng) if rng.random() < 0.5 else rgb
    rgb = material.world.crop(view, size)
    rgb = season.augment(rgb, rng) if rng.random() < 0.3 else rgb
    return _pick(rng, RENDERINGS)(rgb, rng)


def _pick(rng: np.random.Generator, some: Sequence[Callable[..., Pixels]]) -> Callable[..., Pixels]:
    return some[int(rng.integers(len(some)))]


def _on_land(material: Material, rng: np.random.Generator, wide: float, least: float = 0.5) -> View:
    return _view(material, rng, wide, lambda share: share >= least)


def _view(material: Material, rng: np.random.Generator, wide: float, fits: Callable[[float], bool]) -> View:
    """A random view whose share of land fits; the last that was tried where none of 200 does."""
    low, high = np.sin(np.radians([material.south, material.north]))
    for _ in range(200):
        lon, lat = rng.uniform(-180, 180, 1), np.degrees(np.arcsin(rng.uniform(low, high, 1)))
        if fits(float(world.land_share(material.land, lon, lat, wide)[0])):
            break
    return View(float(lon[0]), float(lat[0]), wide, float(rng.uniform(0, 360)))


def _land_of(material: Material, view: View, size: int) -> NDArray[np.bool_]:
    lon, lat = world.ground(view, size)
    height = material.land.shape[0]
    row = np.clip(((90.0 - lat) / 180.0 * height).astype(int), 0, height - 1)
    land: NDArray[np.bool_] = material.land[row, ((lon + 180.0) / 360.0 * 2 * height).astype(int) % (2 * height)]
    return land


def _nearby(scenes: Sequence[Pixels], rng: np.random.Generator, size: int) -> Pixels:
    """A random square of a scene, turned."""
    scene = scenes[int(rng.integers(len(scenes)))]
    most = min(scene.shape[:2])
    side = int(np.exp(rng.uniform(np.log(min(48, most)), np.log(most))))
    row, col = (int(rng.integers(0, n - side + 1)) for n in scene.shape[:2])
    part: Pixels = np.rot90(scene[row : row + side, col : col + side], int(rng.integers(4)))
    return _resized(part[:, ::-1] if rng.random() < 0.5 else part, size)


def _resized(rgb: Pixels, size: int, how: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize((size, size), how), np.uint8)


def _light(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Another white balance, contrast and gamma, as other cameras and other people have."""
    x = rgb.astype(np.float32) / 255
    x = (x - 0.5) * np.float32(rng.uniform(0.5, 1.3)) + 0.5 + np.float32(rng.normal(0, 0.08))
    x = np.clip(x * np.exp(rng.normal(0, 0.12, 3)).astype(np.float32), 0, 1) ** np.float32(np.exp(rng.normal(0, 0.3)))
    grey = (x @ season.LUMA)[..., None]
    x = grey + (x - grey) * np.float32(rng.uniform(0.0, 1.3))
    return np.asarray(np.rint(np.clip(x, 0, 1) * 255), np.uint8)


def _grey(rgb: Pixels) -> NDArray[np.float32]:
    return np.asarray(rgb.astype(np.float32) @ season.LUMA, np.float32)


def _stacked(grey: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.repeat(np.clip(np.rint(grey), 0, 255)[..., None], 3, 2), np.uint8)


def _in_grey(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return _stacked(_grey(rgb))


def _posterised(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(ImageOps.posterize(Image.fromarray(rgb), int(rng.integers(1, 3))), np.uint8)


def _classes(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """A class map: as many random colours as levels of the light."""
    count = int(rng.integers(2, 9))
    grey = ndimage.median_filter(_grey(rgb), 5)
    level = np.searchsorted(np.quantile(grey, np.linspace(0, 1, count + 1)[1:-1]), grey)
    return np.asarray(rng.integers(0, 256, (count, 3))[level], np.uint8)


def _inverted(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(255 - rgb, np.uint8)


def _permuted(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Bands in another order, as in a composite of false colours."""
    order = [(1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1), (0, 2, 1)][int(rng.integers(5))]
    return np.ascontiguousarray(rgb[..., order])


def _infrared(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Plants in red, as near infrared is shown."""
    x = rgb.astype(np.float32)
    plants = np.clip((x[..., 1] - 0.5 * (x[..., 0] + x[..., 2])) * rng.uniform(4, 10) + 0.5 * x[..., 1], 0, 255)
    return np.asarray(np.stack([np.maximum(plants, x[..., 0]), x[..., 0], x[..., 1]], -1), np.uint8)


def _coloured(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """The light through a random table of colours, as of heat, height or an index."""
    knots = rng.integers(0, 256, (int(rng.integers(2, 6)), 3))
    at = np.linspace(0, 255, len(knots))
    grey = np.asarray(ImageOps.equalize(Image.fromarray(np.asarray(_grey(rgb), np.uint8))), np.float32)
    return np.asarray(np.stack([np.interp(grey, at, knots[:, c]) for c in range(3)], -1), np.uint8)


def _edges(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    grey = ndimage.gaussian_filter(_grey(rgb), rng.uniform(0.5, 2))
    strength = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)) * rng.uniform(0.5, 2)
    return _stacked(strength if rng.random() < 0.5 else 255 - strength)


def _relief(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return _stacked(patterns.shaded(ndimage.gaussian_filter(_grey(rgb), 1.0), rng.uniform(0, 360), 4.0) * 255)


def _two(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    grey = _grey(rgb)
    return _stacked(np.where(grey > np.quantile(grey, rng.uniform(0.2, 0.8)), 255.0, 0.0))


def _solarised(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(ImageOps.solarize(Image.fromarray(rgb), int(rng.integers(30, 120))), np.uint8)


def _speckled(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """As radar sees it: grey times gamma-distributed speckle of 1 to 4 looks."""
    looks = float(rng.uniform(1, 4))
    return _stacked(_grey(rgb) * rng.gamma(looks, 1 / looks, rgb.shape[:2]))


def _noisy(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    return np.asarray(np.clip(rgb + rng.normal(0, rng.uniform(35, 90), rgb.shape), 0, 255), np.uint8)


def _blocks(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """So few pixels, or so strong a compression, that squares are seen."""
    if rng.random() < 0.5:
        return _resized(_resized(rgb, int(rng.integers(6, 20))), len(rgb), Image.Resampling.NEAREST)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG", quality=int(rng.integers(1, 6)))
    return np.asarray(Image.open(file).convert("RGB"), np.uint8)


def _equalised(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    hue = np.asarray(Image.fromarray(rgb).convert("HSV"), np.uint8).copy()
    hue[..., 0] += np.uint8(rng.integers(40, 216))
    return np.asarray(ImageOps.equalize(Image.fromarray(hue, "HSV").convert("RGB")), np.uint8)


RENDERINGS: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (
    _in_grey, _posterised, _classes, _inverted, _permuted, _infrared, _coloured, _edges, _relief, _two, _solarised,
    _speckled, _noisy, _blocks, _equalised,
)  # fmt: skip
