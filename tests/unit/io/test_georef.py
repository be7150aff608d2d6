"""Files whose georeference is unlike most: turned, by control points, round the world, told by their item, or none."""

from __future__ import annotations

import logging
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC
from rasterio.warp import reproject

from geoml.data import rasters
from geoml.errors import DataError
from geoml.io.cog import read as cog
from geoml.io.cog.projection import check_projection
from geoml.io.crs import parse_crs
from geoml.io.stac.bands import BandSpec, band_specs
from geoml.io.stac.catalog import Catalog, Profile

_spec = spec_from_file_location("crs_spellings", Path(__file__).with_name("crs_spellings.py"))
assert _spec is not None
assert _spec.loader is not None
_spellings = module_from_spec(_spec)
_spec.loader.exec_module(_spellings)
spellings, unnamed = _spellings.spellings, _spellings.unnamed

UTM = Affine(10, 0, 600_000, 0, -10, 7_200_000)
CRS = "EPSG:32621"
SIZE = 256


def ramp() -> np.ndarray:
    """Band 1 is the column and band 2 the row of the pixel's centre: interpolation gives coordinates back."""
    row, col = np.mgrid[:SIZE, :SIZE].astype(np.float32) + 0.5
    return np.stack([col, row])


def write(path: Path, data: np.ndarray, crs: Any = CRS, transform: Affine | None = UTM, **more: Any) -> Path:
    count, height, width = data.shape
    profile = {"count": count, "height": height, "width": width, "dtype": data.dtype, "crs": crs, **more}
    overviews = profile.pop("overviews", [])
    if transform is not None:
        profile["transform"] = transform
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", tiled=True, blockxsize=64, blockysize=64, **profile) as file:
            file.write(data)
            if overviews:
                file.build_overviews(overviews, Resampling.average)
    return path


def specs(path: Path, count: int = 2, **more: Any) -> list[BandSpec]:
    return [BandSpec("one", "red", str(path), f"b{k}", index=k, remote=False, **more) for k in range(1, count + 1)]


def item(path: Path, properties: dict[str, Any] | None = None, **more: Any) -> pystac.Item:
    """An item of the grid UTM in CRS with the asset ``red``."""
    geometry = more.pop("geometry", footprint())
    made = pystac.Item(
        "one", geometry and shapely.geometry.mapping(geometry), geometry and list(geometry.bounds),
        pystac.utils.str_to_datetime("2024-06-01T00:00:00Z"), properties or {}, collection="c",
    )  # fmt: skip
    fields = {"bands": [{"name": "red"}], **more}
    made.add_asset("red", pystac.Asset(str(path), media_type=pystac.MediaType.COG, roles=["data"], extra_fields=fields))
    return made


def footprint(crs: str = CRS, transform: Affine = UTM) -> shapely.Polygon:
    to = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.Polygon([to.transform(*(transform @ p)) for p in ((0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE))])


def of_item(made: pystac.Item) -> BandSpec:
    return band_specs(made, Profile(), Catalog("made", "", "static", remote=False))["red"]


# ---- turned grids


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(-180, 180), st.floats(0.5, 2), st.floats(-0.3, 0.3), st.booleans(), st.integers(-40, 200),
    st.integers(0, 90),
)  # fmt: skip
def test_a_turned_grid_gives_coordinates_back(tmp_path, angle, stretch, shear, mirrored, left, down) -> None:
    """Also sheared and mirrored ones: where GDAL's own warp has data, the pixel read is where arithmetic puts it."""
    turn = Affine.rotation(angle) @ Affine.shear(shear * 30) @ Affine.scale(stretch * (-1 if mirrored else 1), 1)
    transform = UTM @ turn
    path = write(tmp_path / "turned.tif", ramp(), transform=transform)
    x, y = transform @ (128, 128)
    target = GeoBox((60, 50), Affine(10, 0, x - 800 + 10 * left, 0, -10, y - 10 * down + 300), CRS)
    values, valid = cog.read(specs(path), target)
    rows, cols = np.mgrid[:60, :50] + 0.5
    col, row = ~transform @ (target.affine @ (cols, rows))
    inside = (col > 3) & (row > 3) & (col < SIZE - 3) & (row < SIZE - 3)
    outside = (col < -1) | (row < -1) | (col > SIZE + 1) | (row > SIZE + 1)
    assert valid[:, inside].all()
    assert not valid[:, outside].any()
    np.testing.assert_allclose(values[0][inside], col[inside], atol=0.1)
    np.testing.assert_allclose(values[1][inside], row[inside], atol=0.1)


def test_a_turned_grid_is_cut_anywhere_and_read_by_its_overviews(tmp_path) -> None:
    transform = UTM @ Affine.rotation(15)
    path = write(tmp_path / "turned.tif", ramp(), transform=transform, overviews=[2, 4])
    x, y = transform @ (128, 128)
    for res, size in ((10, 64), (40, 16)):
        target = GeoBox((size, size), Affine(res, 0, x - 300, 0, -res, y + 300), CRS)
        whole = cog.read(specs(path), target)
        rows, cols = np.mgrid[:size, :size] + 0.5
        col, row = ~transform @ (target.affine @ (cols, rows))
        np.testing.assert_allclose(whole[0], np.stack([col, row]), atol=0.1)
        part = cog.read(specs(path), target[5:12, 3:14])
        for one, two in zip(part, whole, strict=True):
            np.testing.assert_array_equal(one, two[:, 5:12, 3:14])


@pytest.mark.parametrize(("share", "straight"), [(0.9, True), (1.5, False)])
def test_a_turn_below_a_thousandth_of_a_pixel_is_none(tmp_path, share: float, straight: bool) -> None:
    noise = share * 1e-3 * 10 / SIZE  # so far the last pixel moves
    transform = Affine(10, noise, 600_000, -noise, -10, 7_200_000)
    data = np.random.default_rng(0).integers(1, 9000, (1, SIZE, SIZE), dtype=np.uint16)
    path = write(tmp_path / "noise.tif", data, transform=transform)
    found = cog.header(specs(path, 1)[0]).geobox
    assert (found.affine.b == 0 and found.affine.d == 0) is straight
    values, valid = cog.read(specs(path, 1), GeoBox((SIZE, SIZE), UTM, CRS))
    assert valid.all()
    assert (np.abs(values.astype(int) - data) <= (0 if straight else 30)).all()
    assert rasters.header(path).geobox is not None


# ---- control points and rational polynomials


def points(bend: float = 0.0) -> list[GroundControlPoint]:
    to = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    out = []
    for r in range(0, SIZE + 1, 64):
        for c in range(0, SIZE + 1, 64):
            push = bend * np.sin(c / SIZE * np.pi) * np.sin(r / SIZE * np.pi)
            out.append(GroundControlPoint(r, c, *to.transform(600_000 + 10 * (c + push), 7_200_000 - 10 * r), 0))
    return out


def test_control_points_that_an_affine_transform_fits_are_read(tmp_path) -> None:
    path = write(tmp_path / "gcp.tif", ramp(), "EPSG:4326", None, gcps=points())
    target = GeoBox((100, 100), Affine(10, 0, 600_500, 0, -10, 7_199_500), CRS)
    values, valid = cog.read(specs(path), target)
    rows, cols = np.mgrid[:100, :100] + 50.5
    assert valid.all()
    np.testing.assert_allclose(values, np.stack([cols, rows]), atol=0.3)
    bent = np.zeros((2, 100, 100), np.float32)  # GDAL bends the points, which here is a tenth of a pixel
    place = {"gcps": points(), "src_crs": "EPSG:4326", "dst_transform": target.affine, "dst_crs": CRS}
    reproject(ramp(), bent, resampling=Resampling.bilinear, **place)
    np.testing.assert_allclose(values, bent, atol=0.3)
    assert rasters.header(path).geobox is not None


def test_control_points_that_bend_are_named_with_the_command(tmp_path, caplog) -> None:
    path = write(tmp_path / "gcp.tif", ramp(), "EPSG:4326", None, gcps=points(bend=20))
    with pytest.raises(
        DataError, match=r"item one, asset red .*25 ground control points .*gdalwarp -tps -t_srs EPSG:32621"
    ):
        cog.header(specs(path)[0])
    assert rasters.header(path).geobox is None  # a training image without a place
    assert "ground control points" in caplog.text


def test_rational_polynomials_are_named_with_the_command(tmp_path) -> None:
    one = [1.0] + [0.0] * 19
    one, lat, lon = [1.0] + [0.0] * 19, [0.0, 0.0, 1.0] + [0.0] * 17, [0.0, 1.0] + [0.0] * 18
    rpc = RPC(
        height_off=0, height_scale=100, lat_off=-25, lat_scale=1, long_off=-56, long_scale=1, line_off=128,
        line_scale=128, samp_off=128, samp_scale=128, line_num_coeff=lat, line_den_coeff=one, samp_num_coeff=lon,
        samp_den_coeff=one,
    )  # fmt: skip
    path = write(tmp_path / "rpc.tif", ramp(), None, None, rpcs=rpc)
    with pytest.raises(DataError, match=r"item one, asset red .*RPC.*gdalwarp -rpc"):
        cog.header(specs(path)[0])


# ---- longitudes


@pytest.mark.parametrize("west", [304.0, -56.0, 664.0, -416.0])
@pytest.mark.parametrize("crs", ["EPSG:4326", CRS])
def test_longitudes_are_the_same_a_turn_further(tmp_path, west: float, crs: str) -> None:
    data = ramp()
    path = write(tmp_path / "turned.tif", data, "EPSG:4326", Affine(1e-3, 0, west, 0, -1e-3, -25))
    if crs == "EPSG:4326":
        target = GeoBox((SIZE, SIZE), Affine(1e-3, 0, -56, 0, -1e-3, -25), crs)
        values, valid = cog.read(specs(path), target)
        np.testing.assert_array_equal(values, data)
        assert valid.all()
        return
    x, y = pyproj.Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform(-55.9, -25.1)
    target = GeoBox((50, 50), Affine(100, 0, x, 0, -100, y), crs)
    rows, cols = np.mgrid[:50, :50] + 0.5
    px, py = target.affine @ (cols, rows)
    lon, lat = pyproj.Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform(px, py)
    values, valid = cog.read(specs(path), target)
    assert valid.all()
    np.testing.assert_allclose(values, np.stack([(lon + 56) / 1e-3, (-25 - lat) / 1e-3]), atol=0.05)


@pytest.mark.parametrize("west", [0.0, -180.0, 170.0 - 360])
def test_a_grid_round_the_world_is_read_on_both_sides_of_every_seam(tmp_path, west: float) -> None:
    """Of 0 to 360 too: Greenwich and the antimeridian show the longitude that is there."""
    lon = np.remainder(west + np.arange(0.25, 360, 0.5), 360)
    data = np.broadcast_to(np.stack([np.cos(np.radians(lon)), np.sin(np.radians(lon))])[:, None], (2, 360, 720))
    path = write(tmp_path / "world.tif", data.astype(np.float32), "EPSG:4326", Affine(0.5, 0, west, 0, -0.5, 90))
    for centre, crs in (
        (0.0, "EPSG:32631"),
        (180.0, "EPSG:32660"),
        (-56.0, CRS),
        (179.0, "EPSG:3832"),
        (10, "EPSG:3035"),
    ):
        to = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        x, y = to.transform(centre, 40.0)
        target = GeoBox((40, 60), Affine(5000, 0, x - 150_000, 0, -5000, y + 100_000), crs)
        rows, cols = np.mgrid[:40, :60] + 0.5
        there = to.transform(*(target.affine @ (cols, rows)), direction="INVERSE")[0]
        values, valid = cog.read(specs(path), target)
        seam = np.abs(np.remainder(there - west + 180, 360) - 180) < 0.5  # half a pixel at the file's own edge
        assert valid[:, ~seam].all(), crs
        truth = np.stack([np.cos(np.radians(there)), np.sin(np.radians(there))])
        np.testing.assert_allclose(values[:, ~seam], truth[:, ~seam], atol=2e-3)


def test_a_grid_over_the_antimeridian(tmp_path) -> None:
    data = ramp()
    path = write(tmp_path / "fiji.tif", data, "EPSG:4326", Affine(0.01, 0, 178.72, 0, -0.01, -16))
    for side in (178.72, -180.0):
        first = round((side % 360 - 178.72) / 0.01)
        target = GeoBox((SIZE, 128), Affine(0.01, 0, side, 0, -0.01, -16), "EPSG:4326")
        values, valid = cog.read(specs(path), target)
        assert valid.all()
        np.testing.assert_allclose(values, data[:, :, first : first + 128], atol=0.01)


# ---- an item and its file


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_without_a_place_takes_that_of_its_item(tmp_path) -> None:
    data = ramp()
    whole = {"proj:transform": list(UTM)[:6], "proj:shape": [SIZE, SIZE]}
    bounds = {"proj:bbox": [600_000, 7_197_440, 602_560, 7_200_000], "proj:shape": [SIZE, SIZE]}
    for crs, transform, said in (
        (None, UTM, {"proj:epsg": 32621}),
        (None, UTM, {"proj:code": None, "proj:projjson": pyproj.CRS(CRS).to_json_dict()}),
        (None, UTM, {"proj:code": "EPSG:None", "proj:wkt2": pyproj.CRS(CRS).to_wkt()}),
        (None, None, {"proj:code": CRS, **whole}),
        (None, None, {"proj:code": CRS, **bounds}),
        (CRS, None, whole),
    ):
        path = write(tmp_path / "bare.tif", data, crs, transform, overviews=[2])
        made = item(path, said)
        check_projection(made, of_item(made))
        both = [of_item(made), BandSpec(**{**_fields(of_item(made)), "index": 2})]
        values, valid = cog.read(both, GeoBox((SIZE, SIZE), UTM, CRS))
        assert valid.all()
        np.testing.assert_array_equal(values, data)
        coarse, _ = cog.read(both, GeoBox((64, 64), UTM @ Affine.scale(4), CRS))
        np.testing.assert_allclose(coarse[0, 3], np.arange(64) * 4 + 2, atol=1.01)
    for said in (
        {},
        {"proj:code": "x"},
        {"proj:transform": list(UTM)[:6]},
        {"proj:code": CRS, **whole, "proj:shape": [1, 2]},
    ):
        made = item(write(tmp_path / "bare.tif", data, None, None), said)
        with pytest.raises(DataError, match=r"item one, asset red .*no georeference"):
            cog.header(of_item(made))


def _fields(spec: BandSpec) -> dict[str, Any]:
    return {k: getattr(spec, k) for k in spec.__slots__}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 17), st.integers(0, 17), st.booleans(), st.sampled_from(["code", "epsg", "wkt2", "projjson"]))
def test_every_spelling_of_item_and_file_reads_the_same_pixels(tmp_path, one, two, right, key) -> None:
    """Another zone, whatever its spelling, is refused by an item without a footprint."""
    file_crs = parse_crs(spellings(21, False)[one])
    assert file_crs is not None
    data = ramp()[:1]
    path = write(tmp_path / "a.tif", data, rasterio.crs.CRS.from_wkt(file_crs.to_wkt()))
    made = item(path, {f"proj:{key}": spellings(21 if right else 22, False)[two]}, geometry=None)
    if not right:
        with pytest.raises(DataError, match="item one, asset red: the item says"):
            check_projection(made, of_item(made))
        return
    check_projection(made, of_item(made))
    values, valid = cog.read([of_item(made)], GeoBox((SIZE, SIZE), UTM, CRS))
    assert valid.all()
    np.testing.assert_array_equal(values, data)


@pytest.mark.parametrize(
    ("said", "shape", "words"),
    [
        ("EPSG:32721", footprint(), "using the file"),  # the wrong hemisphere, as HLS has it
        ("EPSG:32622", footprint().buffer(0.05), "using the file"),
        ("EPSG:32622", footprint("EPSG:32622"), None),  # the footprint is for the item
        ("EPSG:32721", footprint("EPSG:32631"), None),  # and here for neither
        ("EPSG:32721", None, None),
        ("EPSG:None", None, "is unusable"),
        (None, None, "is unusable"),
        (CRS, None, ""),
    ],
)
def test_where_item_and_file_differ_the_footprint_decides(tmp_path, caplog, said, shape, words) -> None:
    path = write(tmp_path / "a.tif", ramp()[:1])
    made, warned = item(path, {"proj:code": said}, geometry=shape), set()
    if words is None:
        with pytest.raises(DataError, match=r"item one, asset red: the item says .*, the file is in EPSG:32621"):
            check_projection(made, of_item(made), warned)
        return
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            check_projection(made, of_item(made), warned)
    assert caplog.text.count("once for each collection") == bool(words)
    assert words in caplog.text


@pytest.mark.parametrize(
    "properties",
    [{"proj:epsg": 32721}, {"proj:code": "EPSG:32721"}, {"proj:epsg": 32621}, {"proj:wkt2": unnamed(21, False)},
     {"proj:epsg": None, "proj:wkt2": unnamed(21, True)}],
)  # fmt: skip
def test_hls_south_of_the_equator(tmp_path, properties: dict[str, Any]) -> None:
    """Tiles of HLS count from the equator downwards in a northern zone of an unnamed datum; items say anything."""
    grid = Affine(30, 0, 600_000, 0, -30, -2_800_000)
    data = np.random.default_rng(3).integers(-100, 5000, (1, SIZE, SIZE), dtype=np.int16)
    path = write(tmp_path / "hls.tif", data, rasterio.crs.CRS.from_wkt(unnamed(21, False)), grid, nodata=-9999)
    made = item(
        path,
        {**properties, "proj:transform": list(grid)[:6], "proj:shape": [SIZE, SIZE]},
        geometry=footprint(CRS, grid),
    )
    check_projection(made, of_item(made))
    assert cog.header(of_item(made)).crs == CRS
    values, valid = cog.read([of_item(made)], GeoBox((SIZE, SIZE), grid, CRS))
    assert valid.all()
    np.testing.assert_array_equal(values, data)
    south = GeoBox((SIZE, SIZE), Affine(30, 0, 600_000, 0, -30, 7_200_000), "EPSG:32721")
    values, valid = cog.read([of_item(made)], south)  # the same ground by its own zone, 10 000 km further north
    assert valid.all()
    np.testing.assert_array_equal(values, data)


# ---- nowhere on the Earth


@pytest.mark.parametrize(
    "crs", ['LOCAL_CS["unnamed",UNIT["metre",1]]', "IAU_2015:49900", "+proj=eqc +R=1737400 +units=m", "EPSG:4326"]
)
def test_a_file_of_another_body_is_named_and_a_picture_in_training(tmp_path, crs: str, caplog) -> None:
    wkt = crs if crs.startswith("LOCAL") else pyproj.CRS(crs).to_wkt()
    path = write(tmp_path / "mars.tif", ramp(), rasterio.crs.CRS.from_wkt(wkt))
    target = GeoBox((10, 10), UTM, CRS)
    with pytest.raises(DataError, match=r"item one, asset red .*nowhere on the Earth"):
        cog.read(specs(path), target)
    head = rasters.header(path)
    assert head.geobox is None
    assert head.shape == (SIZE, SIZE)
    assert "nowhere on the Earth" in caplog.text
    np.testing.assert_array_equal(rasters.read(path, [1, 2])[0], ramp())


# ---- words of an item

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=9,
)
FIELDS = ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson", "proj:transform", "proj:shape", "proj:bbox")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.dictionaries(st.sampled_from(FIELDS), JSON), st.booleans())
def test_whatever_an_item_says_of_its_place_only_our_errors_come_out(tmp_path, whole, own, bare) -> None:
    path = tmp_path / f"{bare}.tif"
    if not path.exists():
        write(path, ramp()[:1], None if bare else CRS, None if bare else UTM)
    made = item(path, whole, **own)
    said, values = "", ramp()[:1, :8, :8]
    try:
        spec = of_item(made)
        check_projection(made, spec)
        values, _ = cog.read([spec], GeoBox((8, 8), UTM, CRS))
    except DataError as err:
        said = str(err)
    assert said == "" or "item one, asset red" in said
    assert bare or (values == ramp()[:1, :8, :8]).all()
