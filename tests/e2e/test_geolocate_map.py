"""``geoml geolocate map`` as typed: on a mosaic, among frames, and from a locator's cells by a catalog to a match."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import geopandas
import numpy as np
import pyproj
import pystac
import pytest
import scipy.ndimage
import shapely
from affine import Affine
from numpy.typing import NDArray
from typer.testing import Result

from geoml import testing
from geoml.geolocation.density.density import Density
from geoml.geolocation.locate.locator import load
from geoml.geolocation.matching import references
from geoml.geolocation.matching.acceptance import Acceptance
from geoml.geolocation.matching.search_regions import Region, file_of
from geoml.io.stac.catalog import open_catalog
from geoml.io.stores.store import write_json
from geoml.testing import pictures as made
from geoml.vector.caps import cap
from tests import geolocation_rows

Cli = Callable[..., Result]
RES, SIZE = 2.0, 320
SHAPE = (110, 140)
CRS = "EPSG:32631"
ORIGIN = (450_000.0, 5_412_000.0)
"""West of Paris, where the made locator has a town."""
GEOD = pyproj.Geod(ellps="WGS84")
TURNED = (("a.png", 20.0, 150, 150), ("b.png", 135.0, 180, 140), ("c.png", -80.0, 140, 190))
"""Name, heading in degrees, and the map's pixel in the middle."""


def texture(seed: int, size: int = SIZE) -> NDArray[np.uint8]:
    """(size, size, 3) uint8: fields and blobs of many scales, red enough for the made locator's Paris."""
    rng = np.random.default_rng(seed)
    total = 22 * scipy.ndimage.gaussian_filter(np.kron(rng.normal(size=(size // 20,) * 2), np.ones((20, 20))), 0.8)
    for sigma, weight in ((1, 10), (3, 12), (9, 14)):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma)
        total = total + weight * noise / noise.std()
    return np.clip(np.stack([200 + total, 45 + total, 45 + 0.8 * total], -1), 1, 255).astype(np.uint8)


def cut(ground: NDArray[np.uint8], angle: float, x: float, y: float) -> NDArray[np.uint8]:
    """The picture around a pixel of the map, its upper edge looking to ``angle``, with some noise."""
    turn = np.radians(angle)
    c, s = np.cos(turn), np.sin(turn)
    matrix = np.array([[c, -s, 0], [s, c, 0]])
    matrix[:, 2] = np.array([x, y]) - 0.5 - matrix[:, :2] @ [(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2]
    out = cv2.warpAffine(ground, matrix, SHAPE[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    noise = np.random.default_rng(1).normal(0, 3, out.shape)
    return np.clip(np.rint(out + noise), 0, 255).astype(np.uint8)


def lonlat(x: float, y: float) -> tuple[float, float]:
    move = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    lon, lat = move.transform(ORIGIN[0] + RES * x, ORIGIN[1] - RES * y)
    return float(lon), float(lat)


def away(row: Any, x: float, y: float) -> float:
    """Metres between an answer and a pixel of the map."""
    return float(GEOD.inv(row["lon"], row["lat"], *lonlat(x, y))[2])


def pictures(folder: Path, ground: NDArray[np.uint8], names: Sequence[tuple[str, float, int, int]] = TURNED) -> Path:
    for name, angle, x, y in names:
        made.write(folder / name, cut(ground, angle, x, y))
    return folder


@pytest.fixture(scope="module")
def ground() -> NDArray[np.uint8]:
    return texture(0)


@pytest.fixture(scope="module")
def mosaic(ground: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "mosaic.tif"
    transform = Affine(RES, 0, ORIGIN[0], 0, -RES, ORIGIN[1])
    testing.write_cog(path, np.moveaxis(ground, -1, 0), crs=CRS, transform=transform, nodata=0)
    return path


@pytest.fixture(scope="module")
def cache(mosaic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Indexes are made once for all tests. The mosaic's threshold lies there already: choosing one takes seconds."""
    folder = tmp_path_factory.mktemp("cache")
    kept(references.of_files([str(mosaic)], folder))
    return folder


def kept(ground: references.IndexedReference) -> None:
    write_json(references.acceptance_path(ground.folder, 160), dataclasses.asdict(Acceptance(5.0, -15.0, 30)))


def test_turned_pictures_are_found_and_bad_ones_are_rows(
    cli: Cli, ground: NDArray[np.uint8], mosaic: Path, cache: Path, tmp_path: Path
) -> None:
    source = pictures(tmp_path / "in", ground)
    made.write(source / "other.png", cut(texture(7), 10, 160, 160))
    made.write(source / "placed.jpg", cut(ground, 0, 160, 160), quality=97, exif=made.gps(*lonlat(170, 150)))
    (source / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    words = ("geolocate", "map", source, "--reference", mosaic, "--out", tmp_path / "o.parquet", "--cache", cache)
    result = cli(*words, "--map", tmp_path / "o.html", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["statuses"] == {"abstained": 1, "ok": 4, "unreadable": 1}
    rows = {r["image_id"]: r for r in geolocation_rows.read(tmp_path / "o.parquet")}
    for name, angle, x, y in TURNED:
        row = rows[name]
        assert away(row, x, y) < RES
        assert away(row, x, y) < 4 * row["error_m"]
        assert (row["heading_deg"] - angle + 180) % 360 - 180 == pytest.approx(grid_turn(), abs=1)
        assert row["gsd_m"] == pytest.approx(RES, rel=0.02)
        assert np.linalg.eigvalsh([[row["cov_ee"], row["cov_en"]], [row["cov_en"], row["cov_nn"]]]).min() > 0
        assert (row["stage"], row["reference"], row["disclosed_precision"]) == ("match", "mosaic", "exact")
    assert (rows["placed.jpg"]["exif_flag"], rows["a.png"]["exif_flag"]) == ("agree", "absent")
    other, broken = rows["other.png"], rows["broken.jpg"]
    assert (other["status"], other["lon"], other["footprint"], other["stage"]) == ("abstained", None, None, None)
    assert "inliers" in other["reason"] or "no candidate" in other["reason"]
    assert (broken["status"], broken["sha256"] is None) == ("unreadable", False)
    assert '"where":"mosaic"' in (tmp_path / "o.html").read_text()
    check_geometry(tmp_path / "o.parquet", rows)

    before = (tmp_path / "o.parquet").read_bytes()
    again = json.loads(cli(*words, "--json").stdout)
    assert (again["computed"], again["thresholds"], told["thresholds"]) == (0, [30], [30])
    assert (tmp_path / "o.parquet").read_bytes() == before


def grid_turn() -> float:
    """Degrees from the true north to the grid's."""
    return float(pyproj.Proj(CRS).get_factors(*lonlat(160, 160)).meridian_convergence)


def check_geometry(path: Path, rows: dict[str, Any]) -> None:
    frame = geopandas.read_parquet(path).set_index("image_id")
    outline = frame["footprint"]
    assert outline.crs.to_string() == frame.geometry.crs.to_string() == "OGC:CRS84"
    placed = frame[frame.status == "ok"]
    assert shapely.is_valid(outline[placed.index].array).all()
    assert outline.notna().tolist() == (frame.status == "ok").tolist()
    for name, shape in outline[placed.index].items():
        assert shape.contains(placed.geometry[name])
        area = abs(GEOD.geometry_area_perimeter(shape)[0])
        assert area == pytest.approx(SHAPE[0] * SHAPE[1] * rows[str(name)]["gsd_m"] ** 2, rel=0.03)
    command = [str(Path(sys.executable).with_name("geoparquet-validator")), "check", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_a_known_position_limits_the_search(
    cli: Cli, ground: NDArray[np.uint8], mosaic: Path, cache: Path, tmp_path: Path
) -> None:
    source = pictures(tmp_path / "in", ground, TURNED[:1])
    words = ("geolocate", "map", source, "--reference", mosaic, "--cache", cache, "--out")
    lon, lat = lonlat(150, 150)
    near = cli(*words, tmp_path / "near.parquet", "--near", lon, lat, "--within-km", 0.2, "--json")
    assert json.loads(near.stdout)["statuses"] == {"ok": 1}
    far = cli(*words, tmp_path / "far.parquet", "--near", lon + 0.1, lat, "--within-km", 0.2, "--json")
    assert json.loads(far.stdout)["statuses"] == {"abstained": 1}


def test_a_kill_changes_no_byte(cli: Cli, ground: NDArray[np.uint8], mosaic: Path, cache: Path, tmp_path: Path) -> None:
    """A process that dies after its first part; parts are made small."""
    names = [(f"{k}.png", 60.0 * k, 130 + 10 * k, 170 - 5 * k) for k in range(4)]
    source = pictures(tmp_path / "in", ground, names)

    def run(out: str, die: bool) -> int:
        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1]
        try:
            from geoml.geolocation import steps
            from geoml.geolocation.matching import rows as geolocate_map
            from geoml.geolocation.rows import parts as row_parts

            geolocate_map.PART = 2
            if die:
                add = row_parts.RowParts.add

                def dying(self: Any, *given: Any) -> None:
                    add(self, *given)
                    if len(self) >= 2:
                        os.kill(os.getpid(), signal.SIGKILL)

                row_parts.RowParts.add = dying  # type: ignore[method-assign]
            steps.geolocate_map([source], tmp_path / out, reference=[mosaic], cache=cache)
        finally:
            os._exit(0)
        return 0

    assert run("whole.parquet", die=False) == 0
    assert run("killed.parquet", die=True) == signal.SIGKILL
    assert not (tmp_path / "killed.parquet").exists()
    assert run("killed.parquet", die=False) == 0
    assert json.loads((tmp_path / "killed.parquet.run" / "run.json").read_text())["computed"] == 2
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert {r["status"] for r in geolocation_rows.read(tmp_path / "killed.parquet")} == {"ok"}


def test_frames_with_positions_are_a_map_too(cli: Cli, ground: NDArray[np.uint8], cache: Path, tmp_path: Path) -> None:
    """Eight frames on a grid; a turned one among them is found, one without a position is named as left out."""
    for k in range(8):
        x, y = (75, 130, 190, 245)[k % 4], 120 + 70 * (k // 4)
        made.write(tmp_path / "known" / f"{k}.jpg", cut(ground, 0, x, y), quality=97, exif=made.gps(*lonlat(x, y)))
    made.write(tmp_path / "known" / "lost.jpg", cut(ground, 0, 160, 160))
    source = pictures(tmp_path / "in", ground, [("q.png", 40.0, 160, 150)])
    words = ("geolocate", "map", source, "--frames", tmp_path / "known", "--out", tmp_path / "o.parquet")
    result = cli(*words, "--cache", cache, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["left_out"] == {"lost.jpg": "no position"}
    (row,) = geolocation_rows.read(tmp_path / "o.parquet")
    assert row["status"] == "ok", row["reason"]
    assert row["reference"].endswith(".jpg")
    assert away(row, 160, 150) < 10
    first = (tmp_path / "o.parquet").read_bytes()
    (tmp_path / "o.parquet").unlink()
    (tmp_path / "o.parquet.run" / "run.json").unlink()
    for part in (tmp_path / "o.parquet.run" / "map-parts").iterdir():
        part.unlink()
    assert cli(*words, "--cache", cache).exit_code == 0
    assert (tmp_path / "o.parquet").read_bytes() == first, "the stored frames answer as the first ones"
    assert json.loads(cli(*words, "--cache", cache, "--frames-sigma", 50, "--json").stdout)["computed"] == 1
    (worse,) = geolocation_rows.read(tmp_path / "o.parquet")
    assert worse["error_m"] > 5 * row["error_m"]


@pytest.fixture(scope="module")
def catalog(ground: NDArray[np.uint8], cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mosaic's ground as two items that meet, an older one of other ground at the same place, one far away."""
    folder = tmp_path_factory.mktemp("stac") / "maps"
    folder.mkdir()
    data = np.moveaxis(ground, -1, 0)
    half = SIZE // 2
    given: dict[str, Any] = {"bands": ("red", "green", "blue"), "crs": CRS, "res": RES, "scale": 1.0}
    west = testing.Scene(id="west", data=data[:, :, :half], origin=ORIGIN, **given)
    east = testing.Scene(id="east", data=data[:, :, half:], origin=(ORIGIN[0] + half * RES, ORIGIN[1]), **given)
    old = np.moveaxis(texture(5), -1, 0)
    older = testing.Scene(id="older", data=old, origin=ORIGIN, datetime="2020-06-01T12:00:00Z", **given)
    far = testing.Scene(id="far", data=old, origin=(ORIGIN[0] + 1e5, ORIGIN[1] - 2e6), **given)
    japan = {**given, "crs": "EPSG:32654", "datetime": "2021-06-01T12:00:00Z"}
    tokyo = testing.Scene(id="tokyo", data=old, origin=(380_000.0, 3_950_000.0), **japan)
    written = testing.write_catalog(folder, [west, older, far, east, tokyo])
    home = open_catalog(str(written))
    for names in (("east", "west"), ("tokyo",)):
        items = [pystac.Item.from_file(str(folder / name / "item.json")) for name in names]
        for item in items:
            item.make_asset_hrefs_absolute()
        kept(references.of_files([file_of(item, home, None) for item in items], cache))
    return written


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    made.made_locator(folder, head="retrieval")
    return folder


def test_from_cells_to_a_search_to_a_match(
    cli: Cli, ground: NDArray[np.uint8], catalog: Path, model: Path, cache: Path, tmp_path: Path
) -> None:
    source = pictures(tmp_path / "in", ground)
    made.write(source / "red.png", cut(texture(7), 10, 160, 160))
    made.write(source / "tokyo.png", made.picture(2, 5))
    (source / "broken.jpg").write_bytes(b"")
    words = ("geolocate", "map", source, "--catalog", catalog, "--collection", "made", "--datetime", "2024",
             "--model", model, "--cache", cache, "--out", tmp_path / "o.parquet", "--json")  # fmt: skip
    result = cli(*words)
    assert result.exit_code == 0, result.output
    rows = {r["image_id"]: r for r in geolocation_rows.read(tmp_path / "o.parquet")}
    for name, _, x, y in TURNED:
        row = rows[name]
        assert (row["status"], row["stage"]) == ("ok", "match"), row
        assert away(row, x, y) < RES
        assert row["model_id"] == "map:sift-homography"
    assert {rows[n]["reference"] for n, *_ in TURNED} == {"west", "east"}
    red, tokyo = rows["red.png"], rows["tokyo.png"]
    assert (red["status"], red["stage"], red["footprint"]) == ("ok", "cells", None)
    assert "no match: " in red["reason"]
    assert "in 2 items" in red["reason"]
    assert red["model_id"] == "made-overhead"
    gallery = load(model).gallery_sha256
    assert gallery is not None
    assert red["gallery_sha256"] == gallery != rows["a.png"]["gallery_sha256"]
    assert [n["image_id"].split("/")[0] for n in red["neighbours"]] == ["gallery"] * 5
    assert GEOD.inv(red["lon"], red["lat"], *made.TOWNS[0])[2] < 300_000
    assert (tokyo["stage"], tokyo["reason"][:19]) == ("cells", "no match: no items:")
    assert rows["broken.jpg"]["status"] == "unreadable"
    told = json.loads(result.stdout)
    assert told["stages"]["match"] == 3
    before = (tmp_path / "o.parquet").read_bytes()
    assert json.loads(cli(*words).stdout)["computed"] == 0
    assert (tmp_path / "o.parquet").read_bytes() == before


def test_places_on_two_continents_are_two_maps(
    cli: Cli,
    ground: NDArray[np.uint8],
    catalog: Path,
    model: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A locator that is torn between Tokyo and Paris: both are searched and looked at, each on a plane of its own."""
    places = ((139.7, 35.7, 0.6), (*made.TOWNS[0], 0.4))

    def torn(density: Density, apart_km: float) -> list[Region]:
        lon, lat, p = np.array(places).T
        return [Region(lon, lat, p, 375.0, tuple(cap(x, y, 375.0) for x, y, _ in places))] * len(density)

    monkeypatch.setattr("geoml.geolocation.matching.search_regions.credible_regions", torn)
    source = pictures(tmp_path / "in", ground, TURNED[:1])
    made.write(source / "red.png", cut(texture(7), 10, 160, 160))
    result = cli("geolocate", "map", source, "--catalog", catalog, "--collection", "made", "--datetime", "2021/2024",
                 "--model", model, "--cache", cache, "--out", tmp_path / "o.parquet")  # fmt: skip
    assert result.exit_code == 0, result.output
    a, red = geolocation_rows.read(tmp_path / "o.parquet")
    assert (a["stage"], a["reference"]) == ("match", "west")
    assert away(a, *TURNED[0][2:]) < RES
    assert "in 3 items" in red["reason"]


def test_a_position_takes_the_place_of_a_locator(
    cli: Cli, ground: NDArray[np.uint8], catalog: Path, cache: Path, tmp_path: Path
) -> None:
    place = lonlat(170, 150)
    made.write(tmp_path / "in" / "a.jpg", cut(ground, 200, 160, 160), quality=97, exif=made.gps(*place))
    made.write(tmp_path / "in" / "b.jpg", cut(ground, 100, 160, 160), quality=97)
    words = ("geolocate", "map", tmp_path / "in", "--catalog", catalog, "--collection", "made", "--datetime", "2024")
    done = cli(*words, "--use", "position", "--cache", cache, "--out", tmp_path / "o.parquet")
    assert done.exit_code == 0, done.output
    a, b = geolocation_rows.read(tmp_path / "o.parquet")
    assert (a["stage"], b["status"], b["stage"]) == ("match", "abstained", None)
    assert away(a, 160, 160) < RES
    assert b["reason"] == "no match: no position is known"


def test_exit_codes_are_those_of_the_table(
    cli: Cli, ground: NDArray[np.uint8], mosaic: Path, catalog: Path, tmp_path: Path
) -> None:
    source = pictures(tmp_path / "in", ground, TURNED[:1])
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "o.parquet")

    def code(*words: object) -> int:
        return cli("geolocate", "map", *words).exit_code

    assert code(source, *out) == 2
    assert code(source, *out, "--reference", mosaic, "--frames", source) == 2
    assert code(source, *out, "--reference", tmp_path / "none.tif") == 2
    assert code(source, *out, "--reference", tmp_path / "empty") == 3
    assert code(source, *out, "--frames", source) == 3
    assert code(source, *out, "--reference", mosaic, "--collection", "made") == 2
    assert code(source, *out, "--catalog", catalog, "--near", 500, 2) == 2
    assert code(source, *out, "--catalog", catalog, "--near", 2, 48, "--datetime", "soon") == 2
    assert code(source, *out, "--catalog", catalog, "--near", 2.3, 48.86, "--within-km", 50, "--asset", "x") == 2
    assert code(source, *out, "--catalog", catalog, "--model", "demo-itaipu") == 6
    assert code(source, "--out", tmp_path / "o.csv", "--reference", mosaic) == 2
    assert code(tmp_path / "empty", *out, "--catalog", catalog, "--near", 2, 48) == 3
    assert not (tmp_path / "o.parquet").exists()
