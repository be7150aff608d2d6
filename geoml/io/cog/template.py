"""The tags of an empty GeoTIFF of a kind, as GDAL writes them: once for each kind, since a run writes thousands.

Files of one kind differ in their place and in their statistics. GDAL writes the place as a tie point, and statistics as
text, so both are put into the tags of the kind; anything else that GDAL says of a file, it says of the kind.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import rasterio
from affine import Affine
from odc.geo.crs import CRS
from rasterio.io import MemoryFile

from geoml.io.cog.each_band import of_each
from geoml.io.cog.overview import Statistics
from geoml.io.cog.tiff import GDAL_METADATA, Tag, first_directory

TIE_POINT = 33922
"""Model tie point (GeoTIFF 1.1 section 7.1): column, row, 0, x, y, 0."""
_HOLDER = "[[{band} {name}]]"
"""What stands in the metadata of a kind where a number of the file goes."""

Colormap = Mapping[int, tuple[int, int, int, int]]


class LostCrsError(Exception):
    """GeoTIFF cannot hold the CRS."""


@dataclass(frozen=True)
class Kind:
    """What GDAL is told of a file, but for its place and its statistics."""

    tile: int
    bands: int
    dtype: str
    nodata: float | None
    predictor: bool
    colors: tuple[tuple[int, tuple[int, int, int, int]], ...] | None
    scale: float | tuple[float, ...]
    offset: float | tuple[float, ...]
    descriptions: tuple[str, ...]
    crs: CRS | None


def tags_of(kind: Kind, place: Affine, statistics: Sequence[Statistics]) -> dict[int, Tag]:
    """The tags of a file. Raises LostCrsError, and what rasterio raises for a kind that GDAL cannot describe."""
    texts = [values.tags() for values in statistics]
    upright = place.b == place.d == 0 and place.e < 0 < place.a
    shape = Affine(place.a, 0, 1, 0, place.e, 1) if upright else place
    tags = dict(_tags(kind, shape, tuple(tuple(text) for text in texts)))
    if upright:
        code, number, _ = tags[TIE_POINT]
        tags[TIE_POINT] = code, number, struct.pack("<6d", 0, 0, 0, place.c, place.f, 0)
    if GDAL_METADATA in tags:
        code, _, metadata = tags[GDAL_METADATA]
        for band, text in enumerate(texts, 1):
            for name, value in text.items():
                metadata = metadata.replace(_HOLDER.format(band=band, name=name).encode(), value.encode())
        tags[GDAL_METADATA] = code, len(metadata), metadata
    return tags


@lru_cache(maxsize=64)
def _tags(kind: Kind, place: Affine, statistics: tuple[tuple[str, ...], ...]) -> Mapping[int, Tag]:
    """What GDAL writes, with `_HOLDER` in place of the statistics of these names, by band."""
    differences = 3 if kind.dtype.startswith("float") else 2
    profile = {
        "driver": "GTiff", "width": kind.tile, "height": kind.tile, "count": kind.bands,
        "dtype": kind.dtype, "nodata": kind.nodata, "transform": place,
        "tiled": True, "blockxsize": kind.tile, "blockysize": kind.tile, "interleave": "pixel",
        "compress": "zstd", "predictor": differences if kind.predictor else 1,
        "sparse_ok": True, "bigtiff": "no", "endianness": "little",
    }  # fmt: skip
    if kind.crs is not None:
        profile["crs"] = rasterio.crs.CRS.from_wkt(kind.crs.to_wkt())
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with memory.open(**profile) as empty:
            empty.update_tags(AREA_OR_POINT="Area")
            scales, offsets = (of_each(v, kind.bands) for v in (kind.scale, kind.offset))
            if set(scales) != {1.0} or set(offsets) != {0.0}:
                empty.scales, empty.offsets = scales, offsets
            for band, text in enumerate(kind.descriptions, 1):
                empty.set_band_description(band, text)
            for band, names in enumerate(statistics, 1):
                empty.update_tags(band, **{name: _HOLDER.format(band=band, name=name) for name in names})
            if kind.colors is not None:
                empty.write_colormap(1, dict(kind.colors))
        with memory.open() as back:
            if "crs" in profile and back.crs is None:
                raise LostCrsError
        return first_directory(memory.read())
