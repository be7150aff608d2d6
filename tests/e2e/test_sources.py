"""Design rules 4, 5 and 6: what is read is read once, no data is no class, and radiometry belongs to the item."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from geoml import testing
from geoml.grid.region import from_bbox
from tests.serving import serving

BANDS = ("red", "nir")
THRESHOLDS = (0.20005, 0.40005)


def scene(**changes: object) -> testing.Scene:
    known = {"id": "scene", "data": testing.smooth((2, 300, 400), seed=2), "bands": BANDS}
    return testing.Scene(**{**known, **changes})  # type: ignore[arg-type]


def truth(made: testing.Scene) -> np.ndarray:
    valid = (made.data != 0).all(axis=0)
    return np.where(valid, testing.levels(made.data, THRESHOLDS, made.scale, made.offset), 255)


def test_no_data_is_no_class(predict: Callable[..., Path], threshold: str, tmp_path: Path) -> None:
    """0 is an ordinary number in a file whose nodata is another; only that one, and what is not there, is none."""
    data = testing.smooth((2, 300, 400), seed=2)
    data[:, 40:60] = 0
    data[0, 100:150, 50:90] = 65535  # one band is enough
    data[:, 299, 399] = 65535
    made = scene(data=data, nodata=65535)
    catalog = testing.write_catalog(tmp_path / "made", [made])
    west, south, east, north = made.bbox()
    out = predict(threshold, catalog, (west - 0.01, south - 0.01, east + 0.01, north + 0.01))
    valid = (data != 65535).all(axis=0)
    expected = np.where(valid, testing.levels(data, THRESHOLDS), 255)
    for key, inside in (("class", expected), ("valid", valid.astype(np.uint8))):
        found = testing.read_map(out, key)[made.crs]
        assert (found.part(made.window)[0] == inside).all(), key
        outside = found.data[0].copy()
        outside[made.window.slices(found.window)] = 255
        # 0: looked for and not found; 255: not asked for
        assert set(np.unique(outside)) <= ({255} if key == "class" else {0, 255})
    confidence = testing.read_map(out, "confidence")[made.crs].part(made.window)[0]
    assert (confidence[~valid] == 255).all()
    assert (confidence[valid] <= 250).all()


def test_clouds_are_filled_from_the_next_item_and_counted(
    predict: Callable[..., Path],
    machine: Callable[..., None],
    threshold: str,
    tmp_path: Path,
) -> None:
    machine(catalogs=tmp_path)
    quality = np.zeros((300, 400), np.uint8)
    quality[50:120, 60:200] = testing.BAD_QUALITY
    first = scene(id="clear", quality=quality, cloud_cover=5.0)
    second = scene(
        id="cloudy", data=testing.smooth((2, 300, 400), seed=3), quality=np.roll(quality, 60, 0), cloud_cover=50.0
    )
    testing.write_catalog(tmp_path / "made", [second, first])
    out = predict(threshold, "made", first.bbox(inner=0.1))
    classes = testing.read_map(out)[first.crs].data[0]
    window = testing.read_map(out)[first.crs].window
    count = testing.read_map(out, "valid")[first.crs].data[0]
    good = [s.quality != testing.BAD_QUALITY for s in (first, second)]
    expected = np.where(good[0], truth(first), np.where(good[1], truth(second), 255))
    asked = count != 255
    inside = np.zeros(asked.shape, bool)
    inside[first.window.intersect(window).slices(window)] = True
    assert (asked <= inside).all()
    rows, cols = np.nonzero(asked)
    rows, cols = rows + window.y0 - first.window.y0, cols + window.x0 - first.window.x0
    assert (classes[asked] == expected[rows, cols]).all()
    assert (count[asked] == (good[0].astype(int) + good[1])[rows, cols]).all()
    assert {0, 1, 2} <= set(np.unique(count[asked]))


OFFSET_RULE = {
    "baseline": ["s2:processing_baseline"],
    "since": 4.0,
    "offset": -0.1,
    "applied": ["earthsearch:boa_offset_applied"],
    "bands": list(BANDS),
}


def test_a_mix_with_and_without_the_sentinel_2_offset_is_one_map(
    predict: Callable[..., Path], machine: Callable[..., None], threshold: str, tmp_path: Path
) -> None:
    """One ground in three items: before 2022, after it with 1000 added, and one whose catalog took the 1000 out again
    but goes on to declare the offset."""
    machine(catalogs=tmp_path)
    ground = testing.smooth((2, 300, 600), seed=4, low=1500)
    old, new = {"s2:processing_baseline": "03.01"}, {"s2:processing_baseline": "05.09"}
    undone = {**new, "earthsearch:boa_offset_applied": True}
    x, y = 600_000.0, 7_200_000.0
    parts = [
        scene(id="old", data=ground[..., :200], properties=old, origin=(x, y), declared=False),
        scene(id="new", data=ground[..., 200:400] + 1000, properties=new, origin=(x + 2000, y), offset=-0.1),
        scene(id="undone", data=ground[..., 400:], properties=undone, origin=(x + 4000, y), offset=-0.1),
    ]
    bands = {"image": [{"name": b, "index": k, "scale": 0.0001} for k, b in enumerate(BANDS, 1)]}
    testing.write_catalog(tmp_path / "mix", parts, profile={"bands": bands, "offset_rule": OFFSET_RULE})
    whole = scene(id="whole", data=ground)
    testing.write_catalog(tmp_path / "plain", [whole])
    west, south, east, north = whole.bbox()
    box = (west - 0.01, south - 0.01, east + 0.01, north + 0.01)
    maps = [testing.read_map(predict(threshold, name, box, f"{name}-out"))[whole.crs] for name in ("mix", "plain")]
    for found in maps:
        assert (found.part(whole.window)[0] == truth(whole)).all()
    shared = maps[0].window.intersect(maps[1].window)
    assert (maps[0].part(shared) == maps[1].part(shared)).all()


def test_every_tile_is_fetched_once_for_a_block(
    predict: Callable[..., Path], machine: Callable[..., None], unet: str, tmp_path: Path
) -> None:
    """Chips overlap and are cut from memory: over HTTP no byte of the pixels travels twice."""
    machine(private_hosts=True)
    made = scene(data=testing.smooth((2, 600, 600), seed=6, cell=3))
    testing.write_catalog(tmp_path / "made", [made])
    fetched: Counter[int] = Counter()
    asked_for: list[tuple[int, int]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = tmp_path / self.path.split("?")[0].lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            body = path.read_bytes()
            asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start, stop = 0, len(body)
            if asked:
                start, stop = int(asked[1]), min(len(body), int(asked[2] or len(body)) + 1)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(body[start:stop])
            if path.suffix == ".tif":
                asked_for.append((start, stop))
                fetched.update(range(start, stop))

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/made/catalog.json"
        out = predict(unet, url, made.bbox(inner=0.45), features=False)
    assert len(list((out / "items").iterdir())) == 1
    header = 32768  # GDAL looks at the head of a file when it opens it
    pixels = [n for place, n in fetched.items() if place >= header]
    assert len(pixels) > 100_000
    assert max(pixels) == 1, asked_for


GEOD = pyproj.Geod(ellps="WGS84")


def geodesic(region: shapely.MultiPolygon) -> float:
    dense = shapely.segmentize(region, 0.005)
    return sum(abs(GEOD.geometry_area_perimeter(p)[0]) for p in shapely.get_parts(dense))


@pytest.mark.parametrize(
    ("box", "crs", "scenes"),
    [
        ((-54.1, -10.1, -53.9, -9.95), {"EPSG:32721", "EPSG:32722"}, [(-54.2, -9.9)]),
        ((-54.08, -0.1, -53.92, 0.1), {"EPSG:32621", "EPSG:32622", "EPSG:32721", "EPSG:32722"}, [(-54.2, 0.2)]),
        ((179.9, -17.1, -179.9, -16.95), {"EPSG:32760", "EPSG:32701"}, [(179.7, -16.9), (-180.0, -16.9)]),
    ],
    ids=["two zones", "two zones and the equator", "antimeridian"],
)
def test_several_zones_are_covered_once(
    box: tuple[float, float, float, float],
    crs: set[str],
    scenes: list[tuple[float, float]],
    predict: Callable[..., Path],
    models: Path,
    tmp_path: Path,
) -> None:
    """Places chosen at random lie in exactly one map, and the areas add up to that of the request."""
    import geopandas

    folder = models / "coarse"
    if not folder.exists():
        testing.threshold_model(folder, BANDS, THRESHOLDS, gsd=100.0)
    res, size = 0.0005, 600 if len(scenes) == 2 else 900
    data = testing.smooth((2, 900, size), seed=9)
    data[:] = 3000  # one class, so that only the geometry counts
    parts = [scene(id=f"s{k}", data=data, crs="EPSG:4326", origin=o, res=res) for k, o in enumerate(scenes)]
    catalog = testing.write_catalog(tmp_path / "made", parts)
    out = predict(str(folder), catalog, box, block_size=64)
    maps = testing.read_map(out)
    assert set(maps) == crs
    region = from_bbox(*box)
    random = np.random.default_rng(1)
    lon = random.uniform(-0.2, 0.2, 4000) + (box[0] + (box[2] - box[0]) % 360 / 2)
    lat = random.uniform(box[1] - 0.02, box[3] + 0.02, 4000)
    lon = (lon + 180) % 360 - 180
    places = shapely.points(lon, lat)
    borders = shapely.union_all([region.boundary, *(shapely.box(x, -80, x, 80).boundary for x in (-54, 180, -180))])
    borders = shapely.union(borders, shapely.LineString([(-180, 0), (180, 0)]))
    far = shapely.distance(places, borders) > 0.0015  # more than a pixel
    inside = shapely.contains(region, places)
    covered = np.zeros(len(lon), int)
    for code, found in maps.items():
        x, y = pyproj.Transformer.from_crs("EPSG:4326", code, always_xy=True).transform(lon, lat)
        left, bottom, right, top = found.plane.bounds(found.window)
        within = (x > left) & (x < right) & (y > bottom) & (y < top)
        hit = np.zeros(len(lon), bool)
        hit[within] = found.at(x[within], y[within]) != 255
        covered += hit
    assert (inside & far).sum() > 500
    assert (covered[inside & far] == 1).all()
    assert (covered[~inside & far] == 0).all()
    frame = geopandas.read_parquet(out / "features.parquet")
    assert frame.area_m2.sum() == pytest.approx(geodesic(region), rel=2e-3)
    assert set(frame["class"]) == {1}


def test_a_region_file_with_holes_is_the_region(predict: Callable[..., Path], threshold: str, tmp_path: Path) -> None:
    made = scene()
    catalog = testing.write_catalog(tmp_path / "made", [made])
    west, south, east, north = made.bbox(inner=0.2)
    middle = shapely.Point((west + east) / 2, (south + north) / 2)
    ring = shapely.box(west, south, east, north) - middle.buffer((east - west) / 6)
    file = tmp_path / "region.geojson"
    file.write_text(shapely.to_geojson(ring), encoding="utf-8")
    out = predict(threshold, catalog, (), query={"bbox": None, "region": str(file)})
    found = testing.read_map(out)[made.crs]
    to = pyproj.Transformer.from_crs(made.crs, "EPSG:4326", always_xy=True)
    rows, cols = np.mgrid[found.window.y0 : found.window.y1, found.window.x0 : found.window.x1]
    lon, lat = to.transform((cols + 0.5) * made.res, -(rows + 0.5) * made.res)
    inside = shapely.contains_xy(ring, lon, lat)
    edge = shapely.distance(shapely.points(lon, lat), ring.boundary) < 2e-4
    assert ((found.data[0] != 255) == inside)[~edge].all()


def test_an_item_of_another_crs_is_warped_in_place(
    predict: Callable[..., Path], threshold: str, tmp_path: Path
) -> None:
    """A scene in web Mercator that holds one edge: the edge is where pyproj says, to a pixel."""
    data = np.full((2, 600, 800), 1000, np.uint16)
    data[:, :, 400:] = 5000
    made = scene(data=data, crs="EPSG:3857", origin=(-6_100_000.0, -1_000_000.0))
    catalog = testing.write_catalog(tmp_path / "made", [replace(made)])
    out = predict(threshold, catalog, made.bbox(inner=0.3))
    ((code, found),) = testing.read_map(out).items()
    to = pyproj.Transformer.from_crs(code, "EPSG:3857", always_xy=True)
    rows, cols = np.nonzero(found.data[0] != 255)
    x, _ = to.transform((cols + found.window.x0 + 0.5) * 10, -(rows + found.window.y0 + 0.5) * 10)
    edge = made.origin[0] + 4000
    sure = np.abs(x - edge) > 10
    assert sure.sum() > 10_000
    assert (found.data[0][rows, cols] == np.where(x < edge, 0, 2))[sure].all()
