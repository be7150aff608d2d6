"""Source ``points``: images with points; every pixel centre within ``radius`` metres of one is labelled."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from geoml.data import labels, rasters
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.data.target import PixelTarget, pixels
from geoml.errors import DataError


class Config(FileSource):
    """Images with points (trees, poles, …), each of which labels the disc of ``radius`` metres around it."""

    kind: Literal["points"]
    root: str
    images: str = Field(description="path under root with {id} in it")
    points: str = Field(description="path under root with {id} in it: .csv of x,y pixels or GeoJSON in the image's CRS")
    file_bands: tuple[str, ...]
    nodata: float | None = None
    radius: float = Field(gt=0, description="radius in metres of the disc that a point labels")
    ring: float = Field(default=0.0, ge=0, description="metres around that disc that are unknown")
    value: int = 1
    background: int = 0
    no_file: Literal["empty", "error"] = Field(
        default="error", description="treat a missing points file as empty or as an error"
    )


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every image. Raises DataError for a missing points file where the recipe calls that an error."""
    root = resolve(source.root)
    _labels(source, pixels(recipe))
    out = []
    required = source.no_file == "error"
    for name, image, points in rasters.find_with(root, source.images, source.points, required=required, what="points"):
        head = rasters.header(image)
        out.append(LabelledScene(name, head.shape, partial(_read, image, points, source, recipe), head.geobox))
    return out


def _read(image: Path, points: Path, source: Config, recipe: RasterRecipe) -> Sample:
    data, valid = rasters.image(image, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    geobox = rasters.header(image).geobox
    pixel = recipe.gsd
    if geobox is not None:
        pixel = math.sqrt(abs(geobox.affine.determinant))
        if geobox.crs is not None and geobox.crs.geographic:
            raise DataError(f"{image}: discs in metres need a projected image, found {geobox.crs}")
    xy = labels.read_points(points, geobox) if points.exists() else np.empty((0, 2))
    kind = pixels(recipe)
    label, background = _labels(source, kind)
    target = kind.full(valid.shape, background)
    if source.ring:
        target[labels.discs(xy, valid.shape, (source.radius + source.ring) / pixel)] = kind.unknown
    target[labels.discs(xy, valid.shape, source.radius / pixel)] = label
    return Sample.of(data, valid, target, kind)


def _labels(source: Config, kind: PixelTarget) -> tuple[float, float]:
    """Labels of discs and of what lies around them. Raises InputError for an invalid value."""
    return kind.label("source.value", source.value), kind.label("source.background", source.background)
