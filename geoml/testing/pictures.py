"""Synthetic pictures and a synthetic world whose colours encode the place, and a locator for them."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from geoml.backends.torch import choose
from geoml.geolocation.cards.locator import LocatorCard
from geoml.geolocation.locate import locator
from geoml.geolocation.locate.features import Extractor, compute
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.nn.head_parts import DensityHead, density
from geoml.geolocation.training import head as fit_locator
from geoml.geolocation.training.recipe import Calibration, GeoRecipe, HeadTraining
from geoml.geolocation.training.world_sets import FeatureSet
from geoml.grid import sphere

TOWNS = ((2.35, 48.86), (-58.4, -34.6), (139.7, 35.7), (28.0, -26.2), (-122.4, 37.8), (151.2, -33.9))
"""lon, lat of the towns: Paris, Buenos Aires, Tokyo, Johannesburg, San Francisco, Sydney."""
COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 220), (220, 210, 50), (200, 60, 210), (60, 210, 210))
BACKBONE = "timm:test_resnet.r160_in1k"

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


def picture(town: int | None, seed: int, size: tuple[int, int] = (64, 80), noise: float = 25.0) -> Pixels:
    """(H, W, 3) uint8 of a town in its colour with noise; of ``None`` grey, which tells nothing."""
    rng = np.random.default_rng(seed)
    base = np.array((128, 128, 128) if town is None else COLOURS[town], float)
    shade = base * rng.uniform(0.7, 1.1) + rng.normal(0, 12, 3)
    return np.asarray((shade + rng.normal(0, noise, (*size, 3))).clip(0, 255), np.uint8)


def write(path: Path, rgb: Pixels, **options: Any) -> Path:
    """Save a picture in the format of its suffix; ``options`` are those of Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path, **options)
    return path


def folder(path: Path, count: int, seed: int = 0, size: tuple[int, int] = (64, 80)) -> Path:
    """``count`` JPEGs named by number and town, ``0007-1.jpg``."""
    for k in range(count):
        write(path / f"{k:05d}-{k % len(TOWNS)}.jpg", picture(k % len(TOWNS), seed * 100_000 + k, size), quality=90)
    return path


def gps(lon: float, lat: float, clock: str = "", offset: str = "", altitude: float | None = None) -> Image.Exif:
    """EXIF with a position, and with a clock (``2024:06:01 12:00:00``) and its offset (``+09:00``) if given."""
    exif = Image.Exif()
    place = exif.get_ifd(0x8825)
    place |= {
        1: "N" if lat >= 0 else "S",
        2: (abs(lat), 0.0, 0.0),
        3: "E" if lon >= 0 else "W",
        4: (abs(lon), 0.0, 0.0),
    }
    if altitude is not None:
        place |= {5: b"\0", 6: altitude}
    if clock:
        exif.get_ifd(0x8769).update({0x9003: clock, **({0x9011: offset} if offset else {})})
    return exif


def made_world(path: Path) -> Path:
    """A folder with ``june.png``, whose colour is the unit vector of the place, ``january.png``, which is darker, and
    ``land.bin``, land in the north."""
    path.mkdir(parents=True, exist_ok=True)
    lon, lat = np.meshgrid((np.arange(256) + 0.5) * 360 / 256 - 180, 90 - (np.arange(128) + 0.5) * 180 / 128)
    rgb = (sphere.to_xyz(lon, lat) + 1) * 127.5
    for name, light in (("june", 1.0), ("january", 0.8)):
        Image.fromarray(np.rint(rgb * light).astype(np.uint8)).save(path / f"{name}.png")
    (path / "land.bin").write_bytes(gzip.compress(np.repeat([0, 1], 90 * 360).astype(np.uint8).tobytes()))
    return path


def world_recipe(world: Path, **other: object) -> GeoRecipe:
    """A recipe that trains on a made world in a second; ``other`` are its fields, those that are not the default."""
    return GeoRecipe.model_validate({
        "task": "geolocation", "name": "made", "license": "MIT", "data_license": "CC0-1.0", "weights": None, "size": 32,
        "source": {"kind": "world", "picture": f"{world}/june.png", "other": f"{world}/january.png",
                   "land": f"{world}/land.bin", "places": 150, "queries": 20, "calibration": 20},
        "split": {"degrees": 20, "test": 0.2, "val": 0.2, "gap_km": 50},
        "views": {"clean": 1, "seasons": 1},
        "head": {"name": "cells", "config": {"hidden": 32, "most": 40, "least": 3}},
        "training": {"epochs": 3, "batch": 32}, **other,
    })  # fmt: skip


def made_locator(
    directory: Path, kind: Literal["overhead", "photo"] = "overhead", head: str = "cells", **config: object
) -> Locator:
    """A locator of the towns, saved to ``directory``: a tiny network with random weights, a head trained on 300 made
    pictures of which a fifth is grey, a calibration on 200 others."""
    torch.manual_seed(0)
    backbone = locator.build_backbone(BACKBONE)
    size = 32
    extractor = Extractor(backbone, size, choose("cpu", "fp32"))
    train, chosen = _set(extractor, 300, 1), _set(extractor, 200, 2)
    given = {"hidden": 32, "most": 60, "least": 4} if head == "cells" else {}
    how = HeadTraining(epochs=30, batch=64, lr=1e-2)
    made = fit_locator.train_head(head, {**given, **config}, train, how, seed=0)
    calibrated = fit_locator.calibrate(made, chosen, Calibration())
    m, s = backbone.mean, backbone.std
    card = LocatorCard(
        name=f"made-{kind}", kind=kind, license="MIT", data_license="CC0-1.0", backbone=BACKBONE, head=head,
        head_config=dataclasses.asdict(made.config),
        features=backbone.features, size=size, mean=(m[0], m[1], m[2]), std=(s[0], s[1], s[2]), calibration=calibrated,
    )  # fmt: skip
    locator.save(Locator(backbone.eval(), made, card), directory, half=False)
    return locator.load(directory)


def median_km(backbone: nn.Module, head: DensityHead, rgb: Pixels, lon: Floats, lat: Floats) -> float:
    """How far from their places (degrees) the answers for (N, S, S, 3) pictures lie, of a network in training."""
    features = Extractor(backbone.eval(), rgb.shape[1], choose("cpu", "fp32"))(rgb)  # type: ignore[arg-type]
    with torch.no_grad():
        found = density(head.eval().components(head(torch.from_numpy(features))))
    return float(np.median(sphere.distance(*found.mode(), lon, lat)))


def _set(extractor: Extractor, count: int, seed: int) -> FeatureSet:
    rng = np.random.default_rng(seed)
    town = rng.integers(0, len(TOWNS), count)
    grey = rng.random(count) < 0.2  # of any town: a locator has to learn when it does not know
    size = (extractor.size, extractor.size)
    shown = [None if g else int(t) for t, g in zip(town, grey, strict=True)]
    x = compute((picture(t, seed * 1_000_000 + k, size) for k, t in enumerate(shown)), extractor)
    x0, y0 = np.array(TOWNS)[town].T
    lon, lat = sphere.destination(x0, y0, rng.uniform(0, 360, count), rng.uniform(0, 60, count))
    return FeatureSet(x, lon, lat)
