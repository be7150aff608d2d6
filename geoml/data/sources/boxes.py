"""Source ``boxes``: images, and for each a file of boxes or polygons, of which the bounding box is learnt."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import geopandas as gpd
import pyarrow as pa
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import Field
from pyogrio.errors import DataSourceError
from shapely.geometry.base import BaseGeometry

from geoml.data import labels, rasters
from geoml.data.labels import VectorLabels
from geoml.data.recipe import RasterRecipe, resolve
from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import FileSource
from geoml.errors import DataError, InputError
from geoml.io.tables import parquet_geometry

ANY_CRS = "EPSG:3857"
"""Of coordinates that are pixels, where a CRS has to stand."""


class Config(FileSource):
    """Images with boxes or polygons of objects; where none is, no object is."""

    kind: Literal["boxes"]
    root: str = Field(description="folder")
    images: str = Field(description="path under root with {id} in it")
    boxes: str = Field(description="path under root with {id} in it: GeoJSON, GeoPackage or GeoParquet of polygons")
    coordinates: Literal["pixels", "crs"] = Field(
        default="crs",
        description="of the boxes: x to the right and y down from the upper left corner of the image, or in the CRS of"
        " their file",
    )
    field: str | None = Field(default=None, description="property with the class value or name; None: all are `value`")
    values: dict[str, int] = Field(default_factory=dict, description="text of the property -> class value")
    value: int = Field(default=1, description="class value of every object when there is no field")
    file_bands: tuple[str, ...] = Field(description="names of the image file's bands, in the file's order")
    nodata: float | None = Field(default=None, description="beside what the files themselves say")
    no_file: Literal["empty", "error"] = Field(default="error", description="what a missing file of boxes means")


def scenes(source: Config, recipe: RasterRecipe) -> list[LabelledScene]:
    """A scene for every image. Raises NothingFound without one, DataError for a missing file where that is an error."""
    root = resolve(source.root)
    out = []
    required = source.no_file == "error"
    for name, image, boxes in rasters.find_with(root, source.images, source.boxes, required=required, what="objects"):
        head = rasters.header(image)
        out.append(LabelledScene(name, head.shape, partial(_read, image, boxes, source, recipe), head.geobox))
    return out


def _read(image: Path, boxes: Path, source: Config, recipe: RasterRecipe) -> Sample:
    data, valid = rasters.image(image, rasters.positions(recipe.bands, source.file_bands), source.nodata)
    kind, geobox = recipe.target, rasters.header(image).geobox
    spec = VectorLabels(name=boxes.name, file=str(boxes), **source.model_dump(include={"field", "values", "value"}))
    if source.coordinates == "pixels":
        geobox = GeoBox(valid.shape, Affine.identity(), ANY_CRS)
    elif geobox is None:
        raise DataError(f"{image}: boxes in a CRS need an image with a georeference; or are they pixels?")
    found = []
    if boxes.exists() and source.coordinates == "pixels":
        found = _in_pixels(spec, boxes, recipe)
    elif boxes.exists():
        found = labels.features(labels.read_polygons(spec, kind).to_crs(str(geobox.crs)))
    return Sample.of(data, valid, kind.of_features(found, geobox, 0), kind)


def _in_pixels(spec: VectorLabels, path: Path, recipe: RasterRecipe) -> list[tuple[BaseGeometry, float]]:
    """Geometries with their labels, whatever CRS the file says.

    Raises DataError for a file that cannot be read, InputError for a field or a value that the recipe does not explain.
    """
    try:
        parquet = path.suffix.lower() in (".parquet", ".geoparquet")
        frame = parquet_geometry.read(path) if parquet else gpd.read_file(path)
    except (OSError, DataSourceError, pa.ArrowException, ValueError) as err:
        raise DataError(f"{path}: cannot be read as vectors ({err})") from err
    frame = frame[~frame.geometry.isna() & ~frame.geometry.is_empty]
    if spec.field is not None and spec.field not in frame.columns:
        have = [c for c in frame.columns if c != "geometry"]
        raise InputError(f"source.field: no {spec.field!r} in {path}; it has {have}")
    column = None if spec.field is None else frame[spec.field].tolist()
    return list(zip(frame.geometry, recipe.target.of_properties(spec, column, len(frame)), strict=True))
