"""Clouds in items and out of them, ours and those of others."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pystac
import pytest
from pystac.extensions.pointcloud import PointcloudExtension

from geoml.errors import InputError
from geoml.io.points.items import item_source, source_item
from geoml.io.points.read import read_window
from geoml.io.points.source import PointSource, open_source
from geoml.io.stac.assets import point_clouds, rasters
from geoml.io.stac.catalog import Catalog
from tests.made_clouds import las_bytes, made_points, write_las
from tests.unit.io.points.test_read_window import ALL, same

WHEN = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
BOX = [9.0, 45.15, 9.01, 45.16]


def local(folder: Path) -> Catalog:
    return Catalog("here", str(folder / "catalog.json"), "static", remote=False, root=folder)


def theirs(folder: Path, bbox: list[float], href: str, **properties: object) -> pystac.Item:
    item = pystac.Item("tile", {"type": "Point", "coordinates": bbox[:2]}, bbox, WHEN, dict(properties))
    item.set_self_href(str(folder / "item.json"))
    item.add_asset("cloud", pystac.Asset(href, media_type="application/vnd.laszip", roles=["data"]))
    return item


def test_an_item_of_a_source_says_what_others_read_and_gives_it_back(tmp_path: Path) -> None:
    write_las(tmp_path / "a.laz", crs="EPSG:32632+5773")
    source = open_source(str(tmp_path / "a.laz"))
    item = pystac.Item.from_dict(json.loads(json.dumps(source_item(source, "tile", WHEN).to_dict())))
    cloud = PointcloudExtension.ext(item)
    assert (cloud.count, cloud.type, cloud.encoding) == (500, "lidar", "LASzip")
    assert [(s.name, s.size) for s in cloud.schemas][:2] == [("X", 8), ("Y", 8)]
    assert item.properties["proj:code"] == "EPSG:32632"
    assert item.bbox == pytest.approx([9.0, 45.1535, 9.0013, 45.1544], abs=1e-4)
    assert point_clouds(item) == ["points"]
    assert rasters(item) == []
    assert PointSource.from_plain(item.assets["points"].extra_fields["geoml:points"]) == source


def test_an_item_says_the_crs_of_a_silent_file(tmp_path: Path) -> None:
    (tmp_path / "a.laz").write_bytes(las_bytes(made_points(), crs=None))
    (tmp_path / "b.laz").write_bytes(las_bytes(made_points()))
    silent = item_source(theirs(tmp_path, BOX, "a.laz", **{"proj:code": "EPSG:32632+5773"}), local(tmp_path))
    assert (silent.crs, silent.vertical) == ("EPSG:32632", "EPSG:5773")
    stating = item_source(theirs(tmp_path, BOX, "b.laz", **{"proj:epsg": 25833}), local(tmp_path))
    assert stating.crs == "EPSG:32632"  # the file counts first
    assert same(read_window([silent], ALL), read_window([stating], ALL))
    with pytest.raises(InputError, match=r"item tile: .*a\.laz: has no CRS"):
        item_source(theirs(tmp_path, BOX, "a.laz"), local(tmp_path))


def test_a_cloud_that_is_not_where_its_item_says_is_refused(tmp_path: Path) -> None:
    write_las(tmp_path / "a.laz")
    with pytest.raises(InputError, match=r"item tile: .* its item says 19\.0000"):
        item_source(theirs(tmp_path, [19.0, 45.15, 19.01, 45.16], "a.laz"), local(tmp_path))


@pytest.mark.parametrize("href", ["../a.laz", "/etc/passwd", "/vsizip/a.laz", "ftp://example.org/a.laz"])
def test_hrefs_lead_nowhere_else(tmp_path: Path, href: str) -> None:
    write_las(tmp_path / "a.laz")
    (tmp_path / "catalog").mkdir()
    with pytest.raises(InputError, match="href"):
        item_source(theirs(tmp_path / "catalog", BOX, href), local(tmp_path / "catalog"))


def test_what_is_read_by_window_comes_first_and_pictures_are_no_clouds() -> None:
    item = pystac.Item("a", None, None, WHEN, {})
    for key, href, kind, roles in (
        ("plain", "a.laz", "application/vnd.laszip", ["data"]),
        ("copc", "a.copc.laz", None, None),
        ("ept", "https://example.org/x/ept.json", "application/json", ["data"]),
        ("look", "a.laz.png", "image/png", ["thumbnail"]),
        ("dtm", "dtm.tif", "image/tiff; application=geotiff", ["data"]),
    ):
        item.add_asset(key, pystac.Asset(href, media_type=kind, roles=roles))
    assert point_clouds(item) == ["copc", "ept", "plain"]
    assert rasters(item) == ["dtm"]
