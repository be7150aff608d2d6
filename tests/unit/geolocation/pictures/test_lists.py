"""Lists of pictures: every kind of source names the same pictures, and what is wrong is named, not left out."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pytest
from PIL import Image
from shapely.geometry import Point

from geoml.errors import InputError, NothingFound
from geoml.geolocation.pictures.decode import UnreadablePhoto
from geoml.geolocation.pictures.layouts import columns, earthloc
from geoml.geolocation.pictures.lists import load, pictures
from tests.serving import serving

NOON = dt.datetime(2024, 6, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "sub/c.jpg", "sub/deep/d.webp", ".hidden/e.jpg", ".f.jpg"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (len(name), 0, 0)).save(path)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def ids(*sources: Any) -> list[str]:
    return [r.id for r in pictures(sources)]


def test_folders_files_and_globs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ids(folder) == ["a.PNG", "b.jpg", "sub/c.jpg", "sub/deep/d.webp"]
    assert [load(r).rgb.shape for r in pictures([folder])] == [(6, 8, 3)] * 4
    assert ids(folder / "b.jpg", folder) == ["b.jpg", "a.PNG", "sub/c.jpg", "sub/deep/d.webp"]  # each once
    assert len(ids(f"{folder}/**/*.jpg")) == 2
    with caplog.at_level(logging.WARNING):
        assert ids(folder / "b.jpg", f"{folder}/*.gif") == ["b.jpg"]
    assert "no new picture" in caplog.text
    with pytest.raises(UnreadablePhoto, match="missing"):
        load(next(pictures([folder / "gone.jpg"])))


def test_nothing_and_no_such_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for sources in ([tmp_path / "empty"], [f"{tmp_path}/*.jpg"], []):
        with pytest.raises(NothingFound, match="none"):
            list(pictures(sources))
    with pytest.raises(InputError, match="photoss"):
        list(pictures([tmp_path / "photoss"]))


def test_equal_names_stay_apart_and_links_in_a_circle_end(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    found = list(pictures([folder, folder / "sub"]))
    assert len({r.id for r in found}) == len({r.href for r in found}) == len(found) == 5
    with pytest.raises(UnreadablePhoto, match="link_loop"):
        load(next(r for r in found if r.id == "loop.jpg"))


def test_a_folder_that_cannot_be_listed_is_a_row() -> None:
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:  # other users cannot reach the folders of pytest
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.jpg").touch()
        (folder / "sub").mkdir(mode=0)
        if root:
            os.seteuid(65534)
        try:
            one, lost = pictures([folder])
        finally:
            if root:
                os.seteuid(0)
            (folder / "sub").chmod(0o755)
    assert (one.id, one.refused) == ("a.jpg", "")
    assert lost.refused.startswith("permission")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv(folder: Path, delimiter: str) -> None:
    rows = [
        ("Id", "Path", "Longitude", "Latitude", "Datetime", "Caption"),
        ("one", "pictures/b.jpg", "181", "45.5", "2024-06-01T12:00:00Z", "Grüße aus Wien"),
        ("two", "pictures/gone.jpg", "x", "1", "never", ""),
        ("three", "", "", "", "", ""),
        ("four", "file:///etc/passwd", "10", "91", "", ""),
        ("five", "/vsicurl/http://a.b/c.jpg", "nan", "1", "", ""),
        ("six", str(folder / "a.PNG"), "", "", "2024-06-01 12:00", ""),
    ]
    path = folder.parent / "list.csv"
    path.write_text("\ufeff" + "\n".join(delimiter.join(r) for r in rows), encoding="utf-8")
    one, two, three, four, five, six = pictures([path])
    assert (one.id, one.lon, one.lat, one.time, one.text) == ("one", -179, 45.5, NOON, "Grüße aus Wien")
    assert load(one, 3).rgb.shape == (3, 4, 3)
    assert two.problems == ("position_unreadable", "time_unreadable")
    assert "names no picture" in three.refused
    assert "scheme" in four.refused
    assert four.problems == ("position_out_of_range",)
    assert "GDAL construct" in five.refused
    assert six.time == NOON
    assert six.href == str(folder / "a.PNG")


def test_a_time_in_digits_only_is_not_guessed(folder: Path) -> None:
    """A date without hyphens, or seconds since some day: as text and as the number that a Parquet file holds."""
    path = folder.parent / "list.csv"
    path.write_text("id,path,datetime\none,pictures/a.PNG,20240601\ntwo,pictures/b.jpg,1717243200\n", encoding="utf-8")
    frame = pd.DataFrame({"href": ["pictures/a.PNG", "pictures/b.jpg"], "datetime": [20240601, 1717243200]})
    frame.to_parquet(folder.parent / "list.parquet")
    found = [*pictures([path]), *pictures([folder.parent / "list.parquet"])]
    assert [p.time for p in found] == [None] * 4
    assert [p.problems for p in found] == [("time_unreadable",)] * 4


def test_parquet_and_geoparquet(folder: Path) -> None:
    frame = pd.DataFrame(
        {
            "href": ["pictures/b.jpg", "pictures/a.PNG"],
            "time": [NOON, NOON],
            "lon": [1.0, float("nan")],
            "lat": [2.0, 2.0],
        }
    )
    frame.to_parquet(folder.parent / "list.parquet")
    one, two = pictures([folder.parent / "list.parquet"])
    assert (one.id, one.lon, one.lat, one.time) == ("pictures/b.jpg", 1, 2, NOON)
    assert (two.lon, two.problems) == (None, ("position_unreadable",))
    places = geopandas.GeoDataFrame(frame[["href"]], geometry=[Point(16.37, 48.21), None], crs="EPSG:4326")
    for crs in ("EPSG:4326", "EPSG:32633"):
        places.to_crs(crs).to_parquet(folder.parent / "places.parquet")
        one, two = pictures([folder.parent / "places.parquet"])
        assert (one.lon, one.lat) == (pytest.approx(16.37), pytest.approx(48.21))
        assert (two.lon, two.lat) == (None, None)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "x,y\n1,2\n", "expected one of path"),
        ("a.csv", "", "has the columns none"),
        ("a.parquet", "x", "Parquet"),
        ("a.json", "{", "JSON"),
        ("a.json", '{"type": "Feature"}', "STAC Item"),
        ("a.json", "[1]", "STAC Item"),
        ("a.csv", "path\n" + "x" * 200_000, "field larger"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        list(pictures([tmp_path / name]))


def item(key: str, href: str, **changes: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": key,
        "bbox": [179, -10, -177, -8],
        "geometry": None,
        "links": [],
        "properties": {"datetime": "2024-06-01T12:00:00Z", "title": "Fiji"},
        "assets": {"data": {"href": "x.tif"}, "visual": {"href": "v.tif"}, "thumbnail": {"href": href}, **changes},
    }


def test_stac_items(folder: Path) -> None:
    (folder / "item.json").write_text(json.dumps(item("one", "./b.jpg")))
    one = next(pictures([folder / "item.json"]))
    assert (one.lon, one.lat, one.time, one.text) == (-179, -9, NOON, "Fiji")
    assert load(one).rgb.shape == (6, 8, 3)
    bad = item("none", "b.jpg")
    bad["assets"] = {"data": {"href": "x.zip", "type": "application/zip"}}
    by_role = {"assets": {"look": {"href": "a.PNG", "type": "image/png", "roles": ["overview"]}}}
    values = [
        item("one", "b.jpg"),
        item("out", "../../secret.jpg"),
        item("far", "http://127.0.0.1/a.jpg"),
        bad,
        {**item("role", ""), **by_role},
    ]
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": values}))
    one, out, far, none, role = pictures([folder / "items.json"])
    assert not one.refused
    assert "outside" in out.refused
    assert "private host" in far.refused
    assert "no picture" in none.refused
    assert role.href.endswith("a.PNG")


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    "what", [7, ["image/jpeg"], {"a": 2**70}, None, [["overview"]], 10**400, "x" * 5000], ids=lambda v: repr(v)[:20]
)
@pytest.mark.parametrize("at", ["roles", "type", "href", "datetime", "bbox", "id", "title"])
def test_whatever_a_stac_item_says_is_a_row(folder: Path, at: str, what: object) -> None:
    asset: dict[str, object] = {"href": "a.PNG", "type": "image/png", "roles": ["overview"]}
    item: dict[str, object] = {"id": "odd", "assets": {"look": asset}, "bbox": [1, 2, 3, 4], "properties": {}}
    (asset if at in asset else item if at in item else item["properties"])[at] = what  # type: ignore[index]
    (folder / "item.json").write_text(json.dumps(item))
    (found,) = pictures([folder / "item.json"])
    assert len(found.id) <= 4096
    assert len(found.refused) < 500


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "x", 2**70])
def test_a_time_beyond_the_calendar_is_none(folder: Path, time: object) -> None:
    item = {"id": "odd", "assets": {"visual": {"href": "a.PNG", "type": "image/png"}}, "properties": {"datetime": time}}
    (folder / "item.json").write_text(json.dumps(item))
    assert [r.time for r in pictures([folder / "item.json"])] == [None]


def test_pictures_by_url(folder: Path, served: str, machine: Callable[..., None], tmp_path: Path) -> None:
    machine(private_hosts=True, scratch=tmp_path / "scratch")
    (folder / "far.csv").write_text(f"url\n{served}/b.jpg\n{served}/gone.jpg\n")
    one, gone = pictures([folder / "far.csv"])
    assert one.remote
    assert load(one).sha256 == load(next(pictures([folder / "b.jpg"]))).sha256
    with pytest.raises(UnreadablePhoto, match=r"unreachable: .*404"):
        load(gone)
    (typed,) = pictures([f"{served}/b.jpg?token=secret"])
    assert typed.id == "b.jpg"
    assert "secret" not in typed.source
    machine(private_hosts=False)
    refused, _ = pictures([folder / "far.csv"])
    assert "private host" in refused.refused
    with pytest.raises(InputError, match="private host"):
        load(refused)


def test_public_layouts(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "sub" / "123.jpg")
    head = "id,latitude,longitude,country,region,sub-region,city,quadtree_10_1000"
    lists = {
        "im2gps3k_places365.csv": ("im2gps3k", "IMG_ID,LAT,LON\n123.jpg,10,20\n"),
        "geoclip.csv": ("geoclip", "IMG_FILE,LAT,LON\n123.jpg,10,20\n"),
        "test.csv": ("osv5m", f"{head}\n123,10,20,AT,Wien,,Wien,5\n"),
        "01.csv": (
            "uav-visloc",
            "num,filename,date,lat,lon,height,Omega,Kappa,Phi1,Phi2\n1,123.jpg,,10,20,400,0,0,0,0\n",
        ),
    }
    for name, (layout, text) in lists.items():
        (folder / name).write_text(text)
        assert columns(text.splitlines()[0].split(","), name).layout == layout
        (found,) = pictures([folder / name])
        assert (found.lon, found.lat, found.href) == (20, 10, str(folder / "sub" / "123.jpg"))
        assert found.labels == ({"country": "AT", "region": "Wien", "city": "Wien"} if layout == "osv5m" else {})


def test_names_of_earthloc(folder: Path) -> None:
    name = "@10@179@10@-179@8@-179@8@179@ISS066-E-1@20220105120000@9@180@50000@90@.jpg"
    lon, lat, time = earthloc(name) or (0, 0, None)
    assert (lat, abs(lon)) == (pytest.approx(9, abs=0.01), pytest.approx(180))
    assert time == dt.datetime(2022, 1, 5, 12, tzinfo=dt.UTC)
    for other in ("a@b.jpg", "@1@2.jpg", name.replace("@10@179", "@95@179"), name.replace("@10@179", "@nan@179")):
        assert earthloc(other) is None
    Image.new("RGB", (4, 4)).save(folder / name)
    assert any(r.lat == pytest.approx(9, abs=0.01) for r in pictures([folder]))
