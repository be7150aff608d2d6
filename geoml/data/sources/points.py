"""Source ``points``: images with points; every pixel centre within ``radius`` metres of one is labelled."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np

from geoml.data import labels, rasters
from geoml.data.recipe import Points, TrainRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.errors import DataError, InputError
from geoml.nn.metrics import IGNORE


def scenes(source: Points, recipe: TrainRecipe) -> list[LabelledScene]:
    """A scene for every image. Raises DataError for a missing points file where the recipe calls that an error."""
    root = resolve(source.root)
    for name, value in (("value", source.value), ("background", source.background)):
        if value not in recipe.index_of:
            raise InputError(f"source.{name}: {value} is no class; classes are {sorted(recipe.index_of)}")
    before, after = source.points.split("{id}")
    out = []
    for name, image in rasters.find(root, source.images).items():
        points = root / f"{before}{name}{after}"
        if not points.exists() and source.no_file == "error":
            raise DataError(f"{points}: missing; set source.no_file to 'empty' if that means no points")
        head = rasters.header(image)
        out.append(LabelledScene(name, head.shape, partial(_read, image, points, source, recipe), head.geobox))
    return out


def _read(image: Path, points: Path, source: Points, recipe: TrainRecipe) -> Sample:
    data, valid = rasters.image(image, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    geobox = rasters.header(image).geobox
    pixel = recipe.gsd
    if geobox is not None:
        pixel = math.sqrt(abs(geobox.affine.determinant))
        if geobox.crs is not None and geobox.crs.geographic:
            raise DataError(f"{image}: discs in metres need a projected image, found {geobox.crs}")
    xy = labels.read_points(points, geobox) if points.exists() else np.empty((0, 2))
    target = np.full(valid.shape, recipe.index_of[source.background], np.uint8)
    if source.ring:
        target[labels.discs(xy, valid.shape, (source.radius + source.ring) / pixel)] = IGNORE
    target[labels.discs(xy, valid.shape, source.radius / pixel)] = recipe.index_of[source.value]
    return Sample.of(data, valid, target)
