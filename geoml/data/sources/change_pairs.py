"""Source ``change_pairs``: an image raster for each date, and label rasters, masks or polygons of what changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pydantic import Field, model_validator

from geoml.data import rasters
from geoml.data.labels import VectorLabels, features, read_all
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.data.sources.pairs import of_raster
from geoml.data.target import Labels, PixelTarget, pixels
from geoml.errors import DataError, NothingFound


class Config(FileSource):
    """One image raster for each date and what changed between the first and the last, all on the same pixels.

    Labels are one raster, or one mask file for each class, or polygons.
    """

    kind: Literal["change_pairs"]
    root: str = Field(description="folder")
    images: tuple[str, ...] = Field(
        min_length=2, description="one path under root for each date, with {id} in it, in order"
    )
    labels: str | None = Field(default=None, description="label raster: path under root with {id} in it")
    masks: dict[int, str] = Field(
        default_factory=dict,
        description="class value -> path under root with {id} in it; pixels above 0 have that class, pixels in"
        " no mask are unknown",
    )
    polygons: tuple[VectorLabels, ...] = Field(default=(), description="polygons over all scenes; need a georeference")
    background: int | None = Field(default=None, description="class value outside polygons; None: unknown")
    file_bands: tuple[str, ...] = Field(description="names of the bands of every image file, in file order")
    nodata: float | None = Field(default=None, description="in addition to what the files themselves state")
    ignore: tuple[int, ...] = Field(default=(), description="values of the label raster that mean unknown")
    values: dict[int, int] = Field(default_factory=dict, description="label value -> class value, if they differ")

    @property
    def looks(self) -> int:
        return len(self.images)

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> Self:
        if sum((self.labels is not None, bool(self.masks), bool(self.polygons))) != 1:
            raise ValueError("labels, masks, polygons: give exactly one of them")
        return self


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every id that has all files. Raises NothingFound, InputError for a value that is not a class, and
    DataError for files of one id that differ in shape or place.
    """
    kind = recipe.target
    for value in source.masks:
        kind.label("source.masks", value)
    background = None if source.background is None else kind.label("source.background", source.background)
    root = resolve(source.root)
    patterns = [*source.images, *([source.labels] if source.labels else source.masks.values())]
    files = [rasters.find(root, pattern) for pattern in patterns]
    names = sorted(set.intersection(*(set(f) for f in files)))
    if not names:
        raise NothingFound(f"{root}: no id has all of {patterns}")
    polygons = None
    if source.polygons:
        frames = [frame.to_crs("EPSG:4326") for frame in read_all(source.polygons, kind)]
        polygons = pd.concat(frames, ignore_index=True)
    out = []
    for name in names:
        paths = [f[name] for f in files]
        shape, geobox = same_grid(name, paths)
        if polygons is not None and geobox is None:
            raise DataError(f"{name}: has no georeference; polygons cannot be laid over it")
        images, labels = paths[: len(source.images)], paths[len(source.images) :]
        read = partial(_read, images, labels, (polygons, background), geobox, source, recipe)
        out.append(LabelledScene(name, shape, read, geobox))
    return out


def same_grid(name: str, paths: Sequence[Path]) -> tuple[tuple[int, int], GeoBox | None]:
    """Shape and geobox that all files share; one without a georeference takes that of the others. Raises DataError."""
    heads = {path: rasters.header(path) for path in paths}
    shapes = {path.name: h.shape for path, h in heads.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"{name}: files differ in shape: {shapes}")
    placed = {path.name: h.geobox for path, h in heads.items() if h.geobox is not None}
    boxes = list(placed.values())
    for box in boxes[1:]:
        if box.crs != boxes[0].crs or not box.affine.almost_equals(boxes[0].affine, 1e-3 * abs(boxes[0].affine.a)):
            raise DataError(f"{name}: {' and '.join(placed)} do not lie on the same pixels")
    return heads[paths[0]].shape, boxes[0] if boxes else None


def stack(
    images: Sequence[Path], bands: Sequence[int], nodata: float | None
) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """(dates * bands, y, x) and where every date has data."""
    read = [rasters.image(path, list(bands), nodata) for path in images]
    return np.concatenate([data for data, _ in read]), np.logical_and.reduce([valid for _, valid in read])


def _read(
    images: Sequence[Path],
    labels: Sequence[Path],
    drawn: tuple[gpd.GeoDataFrame | None, float | None],
    geobox: GeoBox | None,
    source: Config,
    recipe: RasterRecipe,
) -> Sample:
    polygons, background = drawn
    data, valid = stack(images, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    if polygons is not None and geobox is not None:
        target = recipe.target.of_features(features(polygons.to_crs(str(geobox.crs))), geobox, background)
    elif source.labels:
        target = of_raster(labels[0], source.values, source.ignore, pixels(recipe))
    else:
        target = _masks(dict(zip(source.masks, labels, strict=True)), valid.shape, pixels(recipe))
    return Sample.of(data, valid, target, recipe.target)


def _masks(masks: Mapping[int, Path], shape: tuple[int, ...], kind: PixelTarget) -> Labels:
    target = kind.full((shape[0], shape[1]))
    for value, path in masks.items():
        raw, known = rasters.read(path, [1])
        inside = (raw[0] > 0) & known
        if twice := int((inside & kind.known(target)).sum()):
            raise DataError(f"{path}: {twice} pixels are in the mask of another class too")
        target[inside] = kind.label("source.masks", value)
    return target
