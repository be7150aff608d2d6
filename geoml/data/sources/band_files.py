"""Source ``band_files``: one raster for each band, and a label raster or features, all on the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Self

import geopandas as gpd
import numpy as np
import pandas as pd
from odc.geo.geobox import GeoBox
from pydantic import Field, model_validator

from geoml.data import rasters
from geoml.data.labels import VectorLabels, features, read_all
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.data.sources.change_pairs import same_grid
from geoml.data.sources.pairs import of_raster
from geoml.data.target import pixels
from geoml.errors import DataError, NothingFound


class Config(FileSource):
    """An image of one raster for each band, and labels: a raster on the same pixels, or features."""

    kind: Literal["band_files"]
    root: str = Field(description="folder")
    images: str = Field(description="path under root with {id} and {band} in it")
    file_bands: tuple[str, ...] = Field(description="bands that have files")
    nodata: float | None = Field(default=None, description="in addition to what the files themselves state")
    labels: str | None = Field(default=None, description="label raster: path under root with {id} in it")
    polygons: tuple[VectorLabels, ...] = Field(default=(), description="features over all scenes; need a georeference")
    background: float | None = Field(default=None, description="label outside of features; None: unknown")

    @model_validator(mode="after")
    def _one_kind_of_label(self) -> Self:
        if (self.labels is None) == (not self.polygons):
            raise ValueError("labels, polygons: give exactly one of them")
        if self.images.count("{band}") != 1:
            raise ValueError(f"images: {self.images!r}; expected one {{band}} in it")
        return self


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every id that has all files. Raises NothingFound, InputError, and DataError for files that differ."""
    root, kind = resolve(source.root), recipe.target
    patterns = [source.images.replace("{band}", band) for band in recipe.bands]
    files = [rasters.find(root, pattern) for pattern in [*patterns, *([source.labels] if source.labels else [])]]
    names = sorted(set.intersection(*map(set, files)))
    if not names:
        raise NothingFound(f"{root}: no id has all of {patterns}")
    frames = [frame.to_crs("EPSG:4326") for frame in read_all(source.polygons, kind)]
    drawn = pd.concat(frames, ignore_index=True) if frames else None
    out = []
    for name in names:
        paths = [f[name] for f in files]
        shape, geobox = same_grid(name, paths)
        if drawn is not None and geobox is None:
            raise DataError(f"{name}: has no georeference; features cannot be laid over it")
        out.append(LabelledScene(name, shape, partial(_read, paths, drawn, geobox, source, recipe), geobox))
    return out


def _read(
    paths: Sequence[Path], drawn: gpd.GeoDataFrame | None, geobox: GeoBox | None, source: Config, recipe: RasterRecipe
) -> Sample:
    read = [rasters.image(path, [1], source.nodata) for path in paths[: len(recipe.bands)]]
    data, valid = np.concatenate([d for d, _ in read]), np.logical_and.reduce([v for _, v in read])
    if drawn is not None and geobox is not None:
        here = features(drawn.to_crs(str(geobox.crs)))
        target = recipe.target.of_features(here, geobox, source.background)
    else:
        target = of_raster(paths[-1], {}, (), pixels(recipe))
    return Sample.of(data, valid, target, recipe.target)
