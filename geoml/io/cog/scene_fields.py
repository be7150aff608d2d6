"""Facts about a user's rasters, as options of commands."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from geoml.fields import Spelled
from geoml.io.unit_names import Unit
from geoml.recipe import Frozen, Place, When

UNUSED = "-"
"""In place of the name of a band that is left out."""


def _names(value: object) -> object:
    """Names that are divided by commas one by one."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
        return value
    return tuple(name.strip() for text in texts for name in text.split(","))


Names = Annotated[tuple[str, ...], BeforeValidator(_names), Spelled("B,…")]
"""Names of bands, also divided by commas."""


class SceneFields(Frozen):
    """Facts about rasters that their files do not contain."""

    bands: Names = Field(
        default=(),
        description="common names in the order of the file, - to skip a band; by default the file's band descriptions."
        " As many files of one band as there are names are one scene",
    )
    scale: float | None = Field(
        default=None, description="physical value = number * scale + offset; by default the file's"
    )
    offset: float | None = Field(default=None, description="see scale")
    nodata: float | None = Field(default=None, description="in addition to that of the files")
    unit: Unit = Field(default=None, description="unit of physical values: reflectance, dB, linear power, K, DN")


class CatalogRecipe(SceneFields):
    """What `geoml catalogs new` is asked for."""

    scenes: tuple[Place, ...] = Field(
        min_length=1,
        description="GeoTIFF files, folders of them, or their URLs; or the URL of an ArcGIS image service, which is"
        " downloaded",
    )
    bbox: Annotated[tuple[float, float, float, float] | None, Spelled("W S E N")] = Field(
        default=None, description="part of an image service, in degrees; all of it by default"
    )
    datetime: tuple[When, ...] = Field(
        default=(),
        description="when the scenes were taken, one for all or one for each; by default from their tags or names",
    )
    skipped_shards: bool = Field(
        default=False,
        description="treat missing shards of an Earth Engine export as empty (skipEmptyTiles); by default they are"
        " refused",
    )
