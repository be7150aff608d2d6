"""Parquet with the native type GEOMETRY and no `geo` key, as a region, as labels and as a list of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
from shapely.geometry import Point, box

from geoml.data.labels import VectorLabels, read_polygons
from geoml.data.targets.classes import ClassTarget
from geoml.errors import DataError, InputError
from geoml.geolocation.pictures.lists import pictures
from geoml.io.cards.map_card import ClassInfo
from geoml.io.tables import parquet_geometry
from geoml.io.tables.regions import load_region

UTM = pyproj.CRS("EPSG:32633")
SPELLINGS = {
    "authority": {"crs": "EPSG:32633", "crs_type": "authority_code"},
    "projjson": {"crs": UTM.to_json_dict(), "crs_type": "projjson"},
    "wkt": {"crs": UTM.to_wkt(), "crs_type": "wkt2:2019"},
    "number": {"crs": "32633", "crs_type": "srid"},
    "srid": {"crs": "srid:32633"},
    "key": {"crs": "projjson:mine"},
}
SQUARE = box(500_000, 5_000_000, 501_000, 5_002_000)


class Wkb(pa.ExtensionType):
    """What makes pyarrow write the type GEOMETRY."""

    def __init__(self, told: str = "{}") -> None:
        self.told = told
        super().__init__(pa.binary(), "geoarrow.wkb")

    def __arrow_ext_serialize__(self) -> bytes:
        return self.told.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> Wkb:
        return cls(serialized.decode())


@contextmanager
def registered() -> Iterator[None]:
    pa.register_extension_type(Wkb())
    try:
        yield
    finally:
        pa.unregister_extension_type("geoarrow.wkb")


def write(to: Path, shapes: list[shapely.Geometry | None], told: dict[str, object], **columns: list[object]) -> Path:
    with registered():
        wkb = pa.array([None if s is None else s.wkb for s in shapes], pa.binary())
        found = pa.ExtensionArray.from_storage(Wkb(json.dumps(told)), wkb)
        table = pa.table({**columns, "shape": found})
        with pq.ParquetWriter(to, table.schema, store_schema=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"mine": UTM.to_json()})
    with pq.ParquetFile(to) as file:
        assert b"geo" not in (file.metadata.metadata or {})
        assert "Geo" in str(file.schema.column(len(columns)).logical_type)
    return to


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_region_in_every_spelling_of_its_crs(tmp_path: Path, spelling: str) -> None:
    told = SPELLINGS[spelling]
    path = write(tmp_path / "r.parquet", [SQUARE, None], told)
    as_geojson = tmp_path / "r.gpkg"
    gpd.GeoSeries([SQUARE], crs=UTM).to_file(as_geojson)
    assert load_region(str(path)).symmetric_difference(load_region(str(as_geojson))).area < 1e-12


@pytest.mark.parametrize("told", [{}, {"edges": "spherical"}])
def test_without_a_crs_it_is_degrees(tmp_path: Path, told: dict[str, object]) -> None:
    path = write(tmp_path / "r.PARQUET", [box(10, 50, 11, 51)], told)
    assert load_region(str(path)).bounds == (10, 50, 11, 51)
    assert parquet_geometry.read(path).crs == "OGC:CRS84"


def test_what_is_no_region_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"geometry": [SQUARE.wkb]}), plain)
    with pytest.raises(InputError, match=r"no.*GEOMETRY; write it as GeoParquet|neither a geo key"):
        load_region(str(plain))
    lost = write(tmp_path / "lost.parquet", [SQUARE], {"crs": "projjson:nobody"})
    with pytest.raises(InputError, match="has no CRS"):
        load_region(str(lost))
    odd = write(tmp_path / "odd.parquet", [SQUARE], {"crs": "nothing that is known"})
    with pytest.raises(InputError):
        load_region(str(odd))
    with pytest.raises(InputError, match="polygons only"):
        load_region(str(write(tmp_path / "points.parquet", [Point(1, 2)], {})))


def test_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", [SQUARE], SPELLINGS["authority"], kind=["water"])
    spec = VectorLabels(name="drawn", file=str(path), field="kind")
    classes = ClassTarget((ClassInfo(value=3, name="water", color="#0000ff"),))
    found = read_polygons(spec, classes)
    assert found.crs == UTM
    assert found.geometry.iloc[0].equals(SQUARE)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "l.parquet")
    with pytest.raises((InputError, DataError), match="GEOMETRY"):
        read_polygons(spec, classes)


def test_positions_of_pictures(tmp_path: Path) -> None:
    lon, lat = np.array([14.4, -58.4]), np.array([50.5, -34.6])
    x, y = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(lon, lat)
    told = {"crs": "EPSG:3857", "crs_type": "authority_code"}
    path = write(
        tmp_path / "p.parquet", [Point(x[0], y[0]), Point(x[1], y[1]), None], told, path=["a.jpg", "b.jpg", "c.jpg"]
    )
    found = list(pictures([path]))
    assert [r.lon for r in found[:2]] == pytest.approx(lon)
    assert [r.lat for r in found[:2]] == pytest.approx(lat)
    assert found[2].lon is None
