"""A year of looks at fields of three crops, with clouds that differ from look to look, and labels of some fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from geoml import models, testing
from geoml.cube.profile import fit
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.packages import encoder
from geoml.io.cards.map_card import Band

CLASSES = ("barley", "clover", "forest")
DATES = ("2024-04", "2024-07", "2024-09")
FIELD = 10
"""Pixels of a side of a field, 100 m."""
FIELDS = np.random.default_rng(3).integers(0, 3, (14, 18))
TRUTH = np.kron(FIELDS, np.ones((FIELD, FIELD), int))
FOREIGN = np.zeros(TRUTH.shape, bool)
FOREIGN[20:45, 100:130] = True
"""Ground of a kind that no label is on."""
SEEN = np.random.default_rng(4).random((3, *TRUTH.shape)) < 0.7
SEEN[:, 60:70, 30:50] = False
"""Looks, by step; of one place there is none."""
LEVELS = np.array([[[0.06, 0.30], [0.09, 0.36], [0.14, 0.24]],
                   [[0.05, 0.42], [0.06, 0.52], [0.06, 0.46]],
                   [[0.02, 0.18], [0.03, 0.20], [0.02, 0.17]]])  # fmt: skip
"""Reflectance of class, step and band (red, nir)."""


def scenes(bands: tuple[str, str] = ("red", "nir")) -> list[testing.Scene]:
    random, found = np.random.default_rng(5), []
    for step, when in enumerate(DATES):
        values = LEVELS[TRUTH, step] * (1 + 0.03 * random.normal(size=(*TRUTH.shape, 2)))
        values[FOREIGN] = (0.55, 0.05)
        found.append(
            testing.Scene(
                id=f"look-{when}",
                data=np.round(values * 10_000).astype(np.uint16).transpose(2, 0, 1),
                bands=bands,
                datetime=f"{when}-15T10:00:00Z",
                quality=np.where(SEEN[step], 0, testing.BAD_QUALITY).astype(np.uint8),
                unit="reflectance",
            )
        )
    return found


SCENE = scenes()[0]


def fields(which: int = 0, of: int = 2) -> list[tuple[int, int]]:
    """Row and column of the fields on every so-manieth square of 300 m, none of them foreign or never seen."""
    found = []
    for y, x in np.ndindex(*FIELDS.shape):
        part = (slice(y * FIELD, (y + 1) * FIELD), slice(x * FIELD, (x + 1) * FIELD))
        if (y // 3 + x // 3) % of == which and not FOREIGN[part].any() and SEEN[(slice(None), *part)].any():
            found.append((y, x))
    return found


def labels(kind: str, which: int = 0, of: int = 2) -> gpd.GeoDataFrame:
    """A point in each field, or its ground but for an edge, in the CRS of the scenes."""
    x0, y0 = SCENE.origin
    rows = []
    for y, x in fields(which, of):
        left, top = x0 + 10 * FIELD * x, y0 - 10 * FIELD * y
        shape = shapely.box(left + 15, top - 85, left + 85, top - 15)
        rows.append((CLASSES[FIELDS[y, x]], shape if kind == "polygon" else shapely.Point(left + 43, top - 57)))
    return gpd.GeoDataFrame({"crop": [n for n, _ in rows]}, geometry=[s for _, s in rows], crs=SCENE.crs)


def write_encoder(folder: Path, name: str = "presto") -> EncoderCard:
    """A small encoder of nir and red with weights by chance, which knows how both usually are."""
    torch.manual_seed(0)
    config = {**models.find(name).TINY, "ndvi": [1, 0], "groups": [[0], [1]]}
    module = models.encoder(name, {**config, "bands": 2})
    stacked: NDArray[Any] = np.concatenate([s.data[::-1, SEEN[k]].T for k, s in enumerate(scenes())]) / 10_000
    card = EncoderCard(
        name="tiny", architecture=name, config=config, level="L1C", gsd=10, steps=24, width=int(module.width),
        bands=(Band(name="nir", mean=0.3, std=0.15, unit="reflectance"), Band(name="red", unit="reflectance")),
        profile=fit(stacked.astype(np.float32), "made"),
    )  # fmt: skip
    return encoder.save(module, card, folder)
