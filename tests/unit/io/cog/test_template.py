"""GDAL is asked once for a kind of file, and files come out as if it had been asked for each."""

from __future__ import annotations

from dataclasses import replace

import pytest
import rasterio
from affine import Affine
from odc.geo.crs import CRS
from rasterio.io import MemoryFile

from geoml.io.cog import template
from geoml.io.cog.overview import Statistics
from geoml.io.cog.template import Kind, tags_of
from geoml.io.cog.tiff import Tag, first_directory

KIND = Kind(64, 2, "int16", -1.0, True, None, 0.1, 2.0, ("a < b & c", "é"), CRS("EPSG:32621"))
STATISTICS = (Statistics(-3.0, 7.25, 1 / 3, 0.1, 99.123), Statistics(None, None, None, None, 0.0))
PLACES = [
    Affine(10, 0, 600_000.5, 0, -10, 7_200_000),
    Affine(10, 0, -0.0, 0, -10, 0),
    Affine(1, 0, 0.1, 0, -1, 0),
    Affine(10, 1, 5, 2, -10, 7),
    Affine(10, 0, 5, 0, 10, 7),
]


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    template._tags.cache_clear()


def asked(kind: Kind, place: Affine) -> dict[int, Tag]:
    """What GDAL writes when it is told all of one file."""
    profile = {
        "driver": "GTiff", "width": kind.tile, "height": kind.tile, "count": kind.bands, "dtype": kind.dtype,
        "nodata": kind.nodata, "transform": place, "crs": rasterio.crs.CRS.from_epsg(32621), "tiled": True,
        "blockxsize": kind.tile, "blockysize": kind.tile, "interleave": "pixel", "compress": "zstd", "predictor": 2,
        "sparse_ok": True, "bigtiff": "no", "endianness": "little",
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.update_tags(AREA_OR_POINT="Area")
            file.scales, file.offsets = (kind.scale,) * kind.bands, (kind.offset,) * kind.bands
            for band, text in enumerate(kind.descriptions, 1):
                file.set_band_description(band, text)
            for band, values in enumerate(STATISTICS, 1):
                file.update_tags(band, **values.tags())
        return first_directory(memory.read())


@pytest.mark.parametrize("place", PLACES)
def test_tags_are_what_gdal_writes_of_one_file(place: Affine) -> None:
    tags_of(KIND, Affine(10, 0, 300, 0, -10, 400), STATISTICS)  # of another file before
    assert tags_of(KIND, place, STATISTICS) == asked(KIND, place)


def test_gdal_is_asked_once_for_a_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(MemoryFile):
        def __init__(self) -> None:
            made.append(self)
            super().__init__()

    monkeypatch.setattr(template, "MemoryFile", Counted)
    for k in range(8):
        numbers = replace(STATISTICS[0], mean=float(k)), STATISTICS[1]
        tags_of(KIND, Affine(10, 0, 640 * k, 0, -10, 7_200_000), numbers)
    assert len(made) == 1
    tags_of(replace(KIND, nodata=None), PLACES[0], STATISTICS)
    assert len(made) == 2
