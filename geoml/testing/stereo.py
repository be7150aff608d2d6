"""Synthetic stereo pairs with known truth: textured ground with planar roofs, seen through two synthetic RPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
import scipy.ndimage
from affine import Affine
from numpy.typing import NDArray
from pyproj import Transformer

from geoml.cube.stereo.pair import HeightBounds, Pair, SensorView, between
from geoml.cube.stereo.rpc import SensorModel
from geoml.io.rpc import Floats, RpcCoefficients

CRS = "EPSG:32631"
CENTRE = (500_000.0, 4_900_000.0)
"""Easting and northing of the middle of the scene."""
TEXEL = 0.25
"""Metres of ground for each value of the texture."""
REACH = 2.0
"""Half width of the validity of the made RPC, in widths of the picture."""
STEP = 0.5
"""Metres of height between two places on a ray where walls are looked for."""


@dataclass(frozen=True)
class Roof:
    """A plane over a turned rectangle: ``height`` metres above the ellipsoid in the middle, rise by metre along the
    two sides, ``size`` in metres, ``angle`` in radians from the east."""

    x: float
    y: float
    size: tuple[float, float]
    angle: float
    height: float
    rise: tuple[float, float] = (0.0, 0.0)

    def own(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Coordinates along the two sides, from the middle."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return (x - self.x) * c + (y - self.y) * s, (y - self.y) * c - (x - self.x) * s

    def inside(self, x: Floats, y: Floats, margin: float = 0.0) -> NDArray[np.bool_]:
        """Where x, y lie on the roof, at least ``margin`` metres from its edge."""
        u, v = self.own(x, y)
        return (np.abs(u) <= self.size[0] / 2 - margin) & (np.abs(v) <= self.size[1] / 2 - margin)

    def z(self, x: Floats, y: Floats) -> Floats:
        """Height of the plane."""
        u, v = self.own(x, y)
        return self.height + self.rise[0] * u + self.rise[1] * v


@dataclass(frozen=True, eq=False)
class Town:
    """Sloping and waving ground around ``height`` metres above the ellipsoid with roofs; x, y are metres of `CRS`."""

    roofs: tuple[Roof, ...]
    height: float = 300.0
    slope: tuple[float, float] = (0.02, -0.03)
    wave: float = 1.0
    seed: int = 0

    def ground(self, x: Floats, y: Floats) -> Floats:
        """Height of the bare ground."""
        u, v = x - CENTRE[0], y - CENTRE[1]
        return self.height + self.slope[0] * u + self.slope[1] * v + self.wave * np.sin(u / 25) * np.cos(v / 31)

    def z(self, x: Floats, y: Floats) -> Floats:
        """Height of the surface."""
        out = self.ground(x, y)
        for roof in self.roofs:
            out = np.where(roof.inside(x, y), np.maximum(out, roof.z(x, y)), out)
        return out


def town(seed: int = 0, side: float = 120.0, count: int = 8) -> Town:
    """A scene of ``side`` metres with at most ``count`` roofs that do not touch, flat and pitched."""
    rng = np.random.default_rng(seed)
    bare = Town(())
    roofs: list[Roof] = []
    for _ in range(count * 20):
        x, y = (float(c + rng.uniform(-0.42, 0.42) * side) for c in CENTRE)
        size = (float(rng.uniform(10, 24)), float(rng.uniform(8, 16)))
        if len(roofs) < count and all(np.hypot(x - r.x, y - r.y) > max(*size, *r.size) + 6 for r in roofs):
            rise = (0.0, 0.0) if rng.random() < 0.5 else tuple(rng.uniform(-0.25, 0.25, 2).tolist())
            top = float(bare.ground(np.array(x), np.array(y))) + float(rng.uniform(5, 15))
            roofs.append(Roof(x, y, size, float(rng.uniform(0, np.pi)), top, rise))
    return Town(tuple(roofs), seed=seed)


def made_rpc(
    size: int, gsd: float, tilt: tuple[float, float], *, first: tuple[int, int] = (0, 0), turn: float = 0.1
) -> RpcCoefficients:
    """The RPC of a picture of ``size`` pixels a side around `CENTRE`, ``gsd`` metres a pixel, turned by ``turn``.

    A metre of height moves what is seen by ``tilt`` (east, north) metres; ``first`` is the (row, column) of the sensor
    image where the picture begins. Small terms of higher order and denominators make it a true rational function.
    """
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(*CENTRE)
    reach = size * gsd * REACH
    metres = np.array([111_320 * np.cos(np.radians(lat)), 110_950.0])
    scales = np.array([size * REACH, size * REACH, reach / metres[1], reach / metres[0], 500.0])
    offsets = np.array([first[0] + size / 2, first[1] + size / 2, lat, lon, 300.0])
    c, s = np.cos(turn), np.sin(turn)
    across = np.array([[-s, -c], [c, -s]])  # rows go down, columns to the right; of (east, north)
    line, samp = np.zeros(20), np.zeros(20)
    for out, (east, north) in ((line, across[0]), (samp, across[1])):
        out[1], out[2] = east, north
        out[3] = (east * tilt[0] + north * tilt[1]) * scales[4] / reach
    line[[4, 7, 9, 11]] = 2e-4, -1e-4, 1e-6, 2e-5
    samp[[4, 8, 6, 15]] = -1e-4, 1e-4, 1e-6, -1e-5
    below = np.zeros(20)
    below[[0, 1, 2, 3]] = 1, 3e-4, -2e-4, 1e-4
    return RpcCoefficients(offsets, scales, line, below, samp, below.copy())


@dataclass(frozen=True, eq=False)
class MadePair:
    """``pictures`` (rows, columns) uint16 of left and right, their RPC as delivered, where they begin in their sensor
    images, the true sensors, and the scene. ``heights`` (rows, columns) are those that the left picture sees, NaN where
    a pixel sees several surfaces. ``ratio`` is base to height, ``gsd`` metres."""

    pictures: tuple[NDArray[np.uint16], NDArray[np.uint16]]
    rpcs: tuple[RpcCoefficients, RpcCoefficients]
    firsts: tuple[tuple[int, int], tuple[int, int]]
    sensors: tuple[SensorModel, SensorModel]
    scene: Town
    heights: Floats
    ratio: float
    gsd: float

    def pair(self, heights: HeightBounds | None = None) -> Pair:
        """The pictures with their RPC as delivered; by default the surface lies within 17 m of the middle of it."""
        left, right = (
            SensorView(name, SensorModel(rpc), first, data.shape, partial(_part, data))
            for name, rpc, first, data in zip(("left", "right"), self.rpcs, self.firsts, self.pictures, strict=True)
        )
        return Pair(left, right, heights or between(self.scene.height - 12, self.scene.height + 22))

    def write(self, folder: Path) -> tuple[Path, Path]:
        """left.tif and right.tif with RPC in their tags and their place in the transform."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        each = zip(("left", "right"), self.pictures, self.rpcs, self.firsts, strict=True)
        for name, picture, rpc, (row, column) in each:
            paths.append(folder / f"{name}.tif")
            profile = {"driver": "GTiff", "width": picture.shape[1], "height": picture.shape[0], "count": 1}
            place = Affine.translation(column, row)
            with rasterio.open(paths[-1], "w", dtype="uint16", nodata=0, transform=place, **profile) as file:
                file.write(picture, 1)
                file.rpcs = rasterio_rpc(rpc)
        return paths[0], paths[1]


def _part(data: NDArray[np.uint16], top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
    return data[top:bottom, left:right].astype(np.float32)


def to_plane(lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """x, y in metres of `CRS` of degrees."""
    x, y = Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform(lon, lat)
    return x, y


def from_plane(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Degrees of x, y in metres of `CRS`."""
    lon, lat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(x, y)
    return lon, lat


def rasterio_rpc(rpc: RpcCoefficients) -> rasterio.rpc.RPC:
    """The same as rasterio has it."""
    names = ("line", "samp", "lat", "long", "height")
    values = {f"{n}_off": float(v) for n, v in zip(names, rpc.offsets, strict=True)}
    values |= {f"{n}_scale": float(v) for n, v in zip(names, rpc.scales, strict=True)}
    parts = ("line_num", "line_den", "samp_num", "samp_den")
    values_of = {f"{n}_coeff": p.tolist() for n, p in zip(parts, rpc.polynomials, strict=True)}
    return rasterio.rpc.RPC(**values, **values_of)


def made_pair(
    scene: Town,
    *,
    size: int = 256,
    gsd: float = 0.5,
    ratio: float = 0.35,
    parallax: float = 0.0,
    noise: float = 0.02,
    firsts: tuple[tuple[int, int], tuple[int, int]] = ((3000, 2000), (2900, 2100)),
    seed: int = 0,
) -> MadePair:
    """Two views of a scene with base to height ``ratio``, mostly along rows of the sensor as in one orbit.

    ``parallax`` pixels across the epipolar lines are in the right picture and not in its RPC. ``noise`` is the standard
    deviation as a share of the contrast; gain and offset of the pictures differ.
    """
    tilts = ((0.05, ratio * 0.55), (0.02, -ratio * 0.45))
    rpcs = tuple(made_rpc(size, gsd, t, first=f) for t, f in zip(tilts, firsts, strict=True))
    along = np.array([rpcs[1].line_num[3] - rpcs[0].line_num[3], rpcs[1].samp_num[3] - rpcs[0].samp_num[3]])
    normal = np.array([-along[1], along[0]]) / np.hypot(*along)
    moved = np.zeros((2, 3))
    moved[:, 0] = parallax * normal
    sensors = (SensorModel(rpcs[0]), SensorModel(rpcs[1], moved))
    rng = np.random.default_rng(seed)
    texture = _texture(scene, size * gsd)
    pictures, heights = [], []
    for sensor, first, gain, offset in zip(sensors, firsts, (150.0, 135.0), (600.0, 660.0), strict=True):
        seen, tops = _seen(scene, texture, sensor, first, size)
        heights.append(tops)
        seen = seen * gain + offset + rng.normal(0, noise * gain, seen.shape)
        pictures.append(np.clip(np.rint(seen), 1, 4095).astype(np.uint16))
    real = float(np.hypot(*(np.array(tilts[0]) - tilts[1])))
    return MadePair((pictures[0], pictures[1]), (rpcs[0], rpcs[1]), firsts, sensors, scene, heights[0], real, gsd)


def _texture(scene: Town, side: float) -> Floats:
    """Noise of several sizes over the scene and as much around it; each roof is brighter or darker as a whole."""
    rng = np.random.default_rng(scene.seed + 1000)
    n = int(side * 2 / TEXEL)
    out = np.zeros((n, n))
    for sigma, weight in ((1.0, 0.3), (2.5, 0.5), (8.0, 0.6), (30.0, 0.5)):
        layer = scipy.ndimage.gaussian_filter(rng.normal(size=(n, n)), sigma, mode="wrap")
        out += weight * layer / layer.std()
    out /= out.std()
    at = (np.arange(n) - n / 2 + 0.5) * TEXEL
    x, y = np.meshgrid(CENTRE[0] + at, CENTRE[1] + at)
    for roof in scene.roofs:
        out = np.where(roof.inside(x, y), 0.5 * out + rng.uniform(-1, 1), out)
    return out


def _seen(scene: Town, texture: Floats, sensor: SensorModel, first: Sequence[int], size: int) -> tuple[Floats, Floats]:
    """What a sensor sees, the mean of 2 x 2 rays a pixel that end where they first meet the surface, and how high."""
    to_plane = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    offsets = (np.arange(2 * size) + 0.5) / 2 - 0.5
    row, column = (a.ravel() for a in np.meshgrid(first[0] + offsets, first[1] + offsets, indexing="ij"))
    tops = [scene.height] + [r.height + abs(r.rise[0]) * r.size[0] + abs(r.rise[1]) * r.size[1] for r in scene.roofs]
    spread = abs(scene.slope[0]) * size + abs(scene.slope[1]) * size + scene.wave
    high, low = max(tops) + spread, scene.height - spread
    ends = []
    for level in (high, low):  # straight between them to a thousandth of a pixel
        lon, lat = sensor.inverse(row, column, np.full(row.shape, level))
        ends.append(np.stack(to_plane.transform(lon, lat)))
    (x0, y0), (x1, y1) = ends

    def at(h: Floats) -> tuple[Floats, Floats]:
        part = (high - h) / (high - low)
        return x0 + (x1 - x0) * part, y0 + (y1 - y0) * part

    h: Floats = np.full(row.shape, scene.height)
    for _ in range(12):  # the ground is flat enough for this to converge
        h = scene.ground(*at(h))
    for roof in scene.roofs:
        top: Floats = np.full(row.shape, roof.height)
        for _ in range(12):
            top = roof.z(*at(top))
        near = np.hypot(*(a - m for a, m in zip(at(top), (roof.x, roof.y), strict=True))) < np.hypot(*roof.size)
        hit = roof.inside(*at(top)) & (top > h)
        # beside the roof the ray may still enter the building through a wall
        some = np.flatnonzero(near & ~hit)
        for z in np.arange(float(top[near].max(initial=low)), float(h[near].min(initial=high)), -STEP):
            part = (high - z) / (high - low)
            x, y = (a[some] + (b[some] - a[some]) * part for a, b in zip(*ends, strict=True))
            wall = roof.inside(x, y) & (z < top[some]) & (z > h[some])
            h[some[wall]] = z
        h = np.where(hit, np.maximum(top, h), h)
    x, y = at(h)
    n = len(texture)
    place = [(y - CENTRE[1]) / TEXEL + n / 2 - 0.5, (x - CENTRE[0]) / TEXEL + n / 2 - 0.5]
    rays = scipy.ndimage.map_coordinates(texture, place, order=1, mode="wrap")
    tall = h.reshape(size, 2, size, 2)
    height = np.where(np.ptp(tall, axis=(1, 3)) < 1.0, tall.mean((1, 3)), np.nan)
    return np.asarray(rays.reshape(size, 2, size, 2).mean((1, 3))), height
