"""A run in Python: `geoml.open`, what `geoml.predict` returns, `geoml.apply`, and regions that lie in memory."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import rioxarray
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

import geoml
from geoml import testing
from geoml.engine.exporters.earth_engine import earth_engine
from geoml.engine.results import explore
from geoml.engine.results.layers import bounds_of, picture_grid, web_grid
from geoml.errors import DataError, InputError, MissingExtra, ModelError
from geoml.io.stac.table import read_items, write_items
from tests.e2e.conftest import THRESHOLDS, Days

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 200, 300), seed=5), bands=("red", "nir"), unit="reflectance")
SCENE.data[:, 60:90, 30:100] = 0
VALID = (SCENE.data != 0).all(axis=0)
TRUTH = np.where(VALID, testing.levels(SCENE.data, THRESHOLDS), 255)


def recipe(model: str, catalog: Path, **query: Any) -> dict[str, Any]:
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": "2024", **query}
    return {"model": model, "query": {k: v for k, v in query.items() if v is not None}, "block_size": 128}


@pytest.fixture(scope="module")
def run(catalog: Path, threshold: str, tmp_path_factory: pytest.TempPathFactory) -> geoml.Run:
    """A run of one item, with probabilities."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_PRECISION", "fp32")
        return geoml.predict(
            {**recipe(threshold, catalog), "probabilities": True}, tmp_path_factory.mktemp("run") / "out"
        )


def out_of(run: geoml.Run) -> Path:
    return Path(run.report).parent


def on_scene(layer: xr.DataArray) -> np.ndarray:
    """The pixels of the scene, by the coordinates of the layer."""
    height, width = TRUTH.shape
    (x, y), half = SCENE.origin, SCENE.res / 2
    there = {"y": y - half - SCENE.res * np.arange(height), "x": x + half + SCENE.res * np.arange(width)}
    return layer.sel(there).values


def image(scene: testing.Scene = SCENE, **attrs: Any) -> xr.DataArray:
    """The scene as somebody has it who read it with rioxarray or odc-stac."""
    coords = xr_coords(GeoBox(scene.data.shape[-2:], scene.transform, scene.crs))
    attrs = {"nodata": 0, "scale_factor": scene.scale, **attrs}
    return xr.DataArray(scene.data, {**coords, "band": list(scene.bands)}, ("band", "y", "x"), attrs=attrs)


def one_step_apart(found: np.ndarray, wanted: np.ndarray) -> None:
    """Equal confidences, but for a few whose sum was rounded the other way, as chips of another shape add in another
    order; so do those of another block size."""
    assert (np.isnan(found) == np.isnan(wanted)).all()
    apart = np.nan_to_num(np.abs(found - wanted))
    assert (apart > 0).mean() < 1e-4
    assert apart.max() < 0.0041


def inside(rows: slice, cols: slice, radius: int) -> tuple[slice, slice]:
    """Of a part of the scene, what lies ``radius`` pixels from the edges that are not those of the scene."""
    height, width = TRUTH.shape
    ends = [(rows, height), (cols, width)]
    y, x = (slice(radius * (s.start > 0), s.stop - s.start - radius * (s.stop < n)) for s, n in ends)
    return y, x


def test_layers_are_lazy_mosaics_of_the_blocks(run: geoml.Run) -> None:
    assert run.layers == ["class", "confidence", "probabilities", "valid"]
    assert len(run.items) == len(run["blocks"]["done"]) > 3
    classes = run.classes
    assert classes.chunks is not None, "nothing is read yet"
    assert (on_scene(classes) == TRUTH).all()
    assert classes.odc.geobox == image().odc.geobox, "not of whole blocks, whose rest has no data"
    assert classes.odc.crs == SCENE.crs
    assert classes.rio.crs == SCENE.crs
    about = classes.attrs
    assert (about["nodata"], about["flag_values"].tolist()) == (255, [0, 1, 2])
    assert about["flag_meanings"].split() == ["level-0", "level-1", "level-2"]
    stored = testing.read_map(out_of(run), "confidence")[SCENE.crs].part(SCENE.window)[0]
    sure = on_scene(run.confidence)
    assert (np.isnan(sure) == ~VALID).all()
    np.testing.assert_allclose(sure[VALID], stored[VALID] * 0.004, rtol=1e-6)
    shares = run.probabilities
    assert shares.dims == ("band", "y", "x")
    assert shares.band.values.tolist() == ["level-0", "level-1", "level-2"]
    parts = testing.read_map(out_of(run), "probabilities")[SCENE.crs].part(SCENE.window)
    np.testing.assert_allclose(on_scene(shares)[:, VALID], parts[:, VALID] * 0.004, rtol=1e-6)
    coarse = run.layer("class", classes.odc.geobox.zoom_out(4))
    assert coarse.shape == tuple(-(-n // 4) for n in classes.shape)


def test_a_layer_survives_netcdf(run: geoml.Run, tmp_path: Path) -> None:
    run.classes.to_netcdf(tmp_path / "class.nc")
    with xr.open_dataset(tmp_path / "class.nc") as again:
        assert again["class"].attrs["flag_meanings"] == run.classes.attrs["flag_meanings"]


def test_a_run_reads_as_its_record_did(run: geoml.Run) -> None:
    record = json.loads((out_of(run) / "run.json").read_text())
    assert run == record == dict(run) == run.info
    assert run["valid_percent"] == record["valid_percent"]
    assert run.get("nothing") is None
    assert "blocks" in run
    assert geoml.open(out_of(run)) == run


def test_tables_are_frames(run: geoml.Run) -> None:
    assert run.tables == ["features", "sources"]
    wanted = geopandas.read_parquet(out_of(run) / "features.parquet")
    assert run.polygons.equals(wanted)
    assert run.features.equals(run.objects)
    assert run.sources["id"].tolist() == ["scene"]
    assert run.card.gsd == 10
    assert run.scores == {}
    assert run.map == str(out_of(run) / "map.html")


def test_what_is_not_there_is_named(run: geoml.Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'confidence'"):
        run.layer("confidense")
    with pytest.raises(InputError, match="known: features, sources"):
        run.table("rows")
    with pytest.raises(AttributeError, match="it has class, confidence"):
        _ = run.rows
    with pytest.raises(InputError, match=r"has no run\.json"):
        geoml.open(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(DataError, match="expected a JSON object"):
        geoml.open(tmp_path)


def test_a_notebook_sees_classes_a_picture_and_no_markup_of_others(run: geoml.Run, tmp_path: Path) -> None:
    shutil.copytree(out_of(run), tmp_path / "run")
    record = {**run.info, "title": "<script>alert(1)</script>", "warnings": ["<b>"]}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    page = geoml.open(tmp_path / "run")._repr_html_()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert 'src="data:image/png;base64,' in page
    km2 = (TRUTH == 1).sum() * SCENE.res**2 / 1e6
    assert f"<td>level-1</td><td>{km2:.2f}</td>" in page or f"<td>level-1</td><td>{km2 * 1.001:.2f}</td>" in page
    assert repr(run).startswith("<Run 'segmentation from made by ")


def test_explore_draws_the_map_and_the_polygons(run: geoml.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run.explore(tiles=None).get_root().render()
    assert "data:image/png;base64," in page
    assert run.polygons["id"][0] in page
    monkeypatch.setitem(sys.modules, "folium", None)
    with pytest.raises(MissingExtra, match=r"geoml\[notebook\]"):
        run.explore()


def copied(run: geoml.Run, folder: Path, change: Callable[[pystac.Asset], None]) -> geoml.Run:
    """The run with each asset of its items changed."""
    shutil.copytree(out_of(run), folder)
    items = read_items(folder / "items.parquet")
    for item in items:
        for asset in item.assets.values():
            change(asset)
    write_items(items, folder / "items.parquet")
    return geoml.open(folder)


def test_titles_and_the_number_of_polygons_are_shown_as_they_are(
    run: geoml.Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Leaflet takes names of layers for HTML."""
    monkeypatch.setattr(explore, "MOST", 2)
    other = copied(run, tmp_path / "run", lambda asset: setattr(asset, "title", "<b onclick=x>class</b>"))
    assert other.classes.attrs["long_name"] == "<b onclick=x>class</b>"
    page = other.explore(tiles=None).get_root().render()
    names = re.search(r"overlays :  \{\s*(\".*?\") :", page)
    assert names is not None
    assert json.loads(names[1]) == "&lt;b onclick=x&gt;class&lt;/b&gt;"
    assert f"polygons (2 of {len(run.polygons)})" in page


NAMES = ("/tmp/a.tif", "../a.tif", "./cogs/../../a.tif", "https://127.0.0.1/a.tif", "file:a.tif", "cogs/%2e%2e/a.tif")


@pytest.mark.parametrize("name", NAMES)
def test_a_run_names_no_file_elsewhere(name: str, run: geoml.Run, tmp_path: Path) -> None:
    other = copied(run, tmp_path / "run", lambda asset: setattr(asset, "href", name))
    with pytest.raises(DataError, match="is not a file of the run"):
        _ = other.classes


def test_what_is_no_tiff_is_not_opened(run: geoml.Run, tmp_path: Path) -> None:
    """A virtual raster under the name of a block would lead to another file."""
    other = copied(run, tmp_path / "run", lambda asset: None)
    for path in (tmp_path / "run" / "cogs").glob("*/class.tif"):
        with rasterio.open(path) as file:
            height, width = file.shape
            lines = (
                f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><SRS>{SCENE.crs}</SRS>',
                f"<GeoTransform>{', '.join(map(str, file.transform.to_gdal()))}</GeoTransform>",
                '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>',
                '<SourceFilename relativeToVRT="1">valid.tif</SourceFilename><SourceBand>1</SourceBand>',
                "</SimpleSource></VRTRasterBand></VRTDataset>",
            )
        path.write_text("".join(lines))
    with pytest.raises(DataError, match=r"class\.tif: not readable as a TIFF"):
        other.classes.compute()
    assert (on_scene(other.valid) != 0).any(), "the other layers are"


def test_a_run_over_the_antimeridian_is_drawn_where_it_is(
    models: Path, predict: Callable[..., Path], tmp_path: Path
) -> None:
    testing.constant_model(models / "coarse-both", ("red", "nir"), ("land", "water"), answer=1, gsd=100.0)
    data = testing.smooth((2, 300, 300), seed=9)
    data[:] = 3000
    made = [
        testing.Scene(id=f"s{k}", data=data, bands=("red", "nir"), crs="EPSG:4326", origin=(x, -16.9), res=0.001)
        for k, x in enumerate((179.7, -180.0))
    ]
    catalog = testing.write_catalog(tmp_path / "made", made)
    run = geoml.open(predict(str(models / "coarse-both"), catalog, (179.9, -17.1, -179.9, -16.95), block_size=128))
    assert {i.properties["proj:code"] for i in run.items} == {"EPSG:32760", "EPSG:32701"}
    assert bounds_of(run.items.items) == pytest.approx((179.9, -17.1, 180.1, -16.95), abs=0.002)
    near = run.layer("class", picture_grid(run.items.items, 200)).values
    assert near.shape[1] == pytest.approx(200, abs=1)
    assert (near == 1).mean() > 0.9
    web = web_grid(run.items.items, 200)
    picture = run.layer("class", web).values
    assert picture.shape[0] == pytest.approx(0.15 / 0.2 / np.cos(np.radians(17.025)) * 200, abs=2)
    assert (picture == 1).mean() > 0.95
    page = run.explore(tiles=None).get_root().render()
    (corners,) = set(re.findall(r"\[\[(-1[67]\S*), (\S+)\], \[(\S+), (\S+)\]\]", page))
    assert [float(v) for v in corners] == pytest.approx([-17.1, 179.9, -16.95, 180.1], abs=0.002)


def test_a_run_on_a_web_server_is_the_same(run: geoml.Run, days: Days, tmp_path: Path) -> None:
    for place, query in (("run", ""), ("signed/run", f"?sig={days.signature}")):
        shutil.copytree(out_of(run), days.folder / place)
        there = geoml.open(f"{days.url}/{place}{query}")
        assert there == run
        assert (on_scene(there.classes) == TRUTH).all()
        assert there.polygons.equals(run.polygons)
        assert days.signature not in repr(there)
        with pytest.raises(InputError, match=r"run: .*gcloud.*expected a folder, s3:// or gs://") as refused:
            earth_engine(there, "gs://maps/a", "projects/mine/assets/map", tmp_path)
        assert days.signature not in str(refused.value)
    with pytest.raises(InputError, match="not found"):
        geoml.open(f"{days.url}/elsewhere")


def test_zones_become_one_mosaic(models: Path, predict: Callable[..., Path], tmp_path: Path) -> None:
    """A scene in degrees over the border of two zones: every valid pixel of both is in the mosaic of one CRS."""
    testing.constant_model(models / "coarse-one", ("red", "nir"), ("land", "water"), answer=1, gsd=100.0)
    data = testing.smooth((2, 200, 400), seed=9)
    made = testing.Scene(id="s", data=data, bands=("red", "nir"), crs="EPSG:4326", origin=(-54.2, -20.0), res=0.001)
    catalog = testing.write_catalog(tmp_path / "made", [made])
    out = predict(str(models / "coarse-one"), catalog, made.bbox(inner=0.1), block_size=128)
    maps = testing.read_map(out)
    assert len(maps) == 2
    layer = geoml.open(out).classes
    found, wanted = int((layer == 1).sum()), sum(int((m.data == 1).sum()) for m in maps.values())
    assert found == pytest.approx(wanted, rel=0.01)
    codes = Counter(item.properties["proj:code"] for item in geoml.open(out).items)
    assert codes[f"EPSG:{layer.odc.crs.epsg}"] == max(codes.values())


def test_apply_is_the_map_of_a_run(run: geoml.Run, unet: str, catalog: Path, tmp_path: Path) -> None:
    out = geoml.predict(recipe(unet, catalog), tmp_path / "out")
    found = geoml.apply(unet, image()[::-1])  # by name, in any order
    wanted = testing.read_map(tmp_path / "out")[SCENE.crs].part(SCENE.window)[0]
    assert (found["class"].values == wanted).all()
    one_step_apart(found["confidence"].values, on_scene(out.confidence))
    assert (np.isnan(found["confidence"].values) == ~VALID).all()
    assert {k: str(v) for k, v in found["class"].attrs.items()} == {k: str(v) for k, v in out.classes.attrs.items()}
    assert found.odc.geobox == image().odc.geobox
    lazy = geoml.apply(unet, image().chunk({"y": 64}).astype("float32").where(image() != 0))
    assert (lazy["class"].values == wanted).all()


@pytest.mark.parametrize("anchor", [0.0, 0.5])
def test_apply_does_not_hang_on_the_corner_of_the_array(anchor: float, models: Path, tmp_path: Path) -> None:
    """Wherever an array begins, its chips are those of a run: inside its own edges the map is the same."""
    model = str(models / f"at-{anchor}")
    card = testing.small_unet(Path(model), SCENE.bands, ("low", "middle", "high"), anchor=anchor)
    assert card.radius
    assert card.stride > 1
    there = replace(SCENE, origin=(SCENE.origin[0] + anchor * SCENE.res, SCENE.origin[1] + anchor * SCENE.res))
    catalog = testing.write_catalog(tmp_path / "made", [there])
    asked = recipe(model, catalog, bbox=there.bbox(inner=-0.05)) | {"features": False, "map": False}
    run = geoml.predict(asked, tmp_path / "out")
    whole = image(scene=there)
    for rows, cols in [(slice(5, 200), slice(7, 300)), (slice(1, 195), slice(4, 290))]:
        part = whole[:, rows, cols]
        found, inner = geoml.apply(model, part), inside(rows, cols, card.radius)
        wanted = {name: run.layer(name).sel(y=part.y, x=part.x).values[inner] for name in ("class", "confidence")}
        np.testing.assert_array_equal(found["class"].values[inner], wanted["class"])
        one_step_apart(found["confidence"].values[inner], wanted["confidence"])


def test_apply_takes_a_file(threshold: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    testing.write_cog(path, SCENE.data, crs=SCENE.crs, transform=SCENE.transform, nodata=0)
    found = geoml.apply(threshold, path, scale=1e-4)
    assert (found["class"].values == TRUTH).all()
    assert found.odc.crs == SCENE.crs
    plain = xr.DataArray(SCENE.data, dims=("band", "y", "x"), attrs={"nodata": 0})  # by order; no place on the Earth
    assert (geoml.apply(threshold, plain, scale=1e-4)["class"].values == TRUTH).all()


@pytest.mark.filterwarnings("ignore:.*differ across bands")
def test_apply_takes_bands_with_scalings_of_their_own(threshold: str, tmp_path: Path) -> None:
    """As rioxarray reads them; twice the number with half the scale is the same value."""
    path = tmp_path / "image.tif"
    data = np.stack([SCENE.data[0], np.where(SCENE.data[1] > 0, SCENE.data[1] * 2, 0)]).astype(np.uint16)
    testing.write_cog(path, data, crs=SCENE.crs, transform=SCENE.transform, nodata=0)
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.scales = (SCENE.scale, SCENE.scale / 2)
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    assert "scale_factor" not in array.attrs
    for image in (path, array):
        assert (geoml.apply(threshold, image)["class"].values == TRUTH).all()
    other = array.isel(band=[1]).pad(band=(0, 2), mode="edge")
    with pytest.raises(InputError, match=r"scales has 2 numbers for 3 bands; expected one each, or scale="):
        geoml.apply(threshold, other.assign_coords(band=["red", "nir", "swir"]))


FEET = "EPSG:2263"
"""Of New York, in feet of the US survey."""


@pytest.mark.parametrize(
    ("crs", "origin", "size", "said"),
    [
        ("EPSG:32621", (600_000, 7_200_000), (10, 10), ""),
        ("EPSG:32621", (600_000, 7_200_000), (20, 10), "20 x 10"),
        (FEET, (980_000, 200_000), (10 / 0.3048, 10 / 0.3048), ""),
        (FEET, (980_000, 200_000), (10, 10), "3.05"),
        ("EPSG:3857", (0, 8_399_738), (20, 20), ""),  # at 60° N: half of that on the ground
        ("EPSG:3857", (0, 8_399_738), (10, 10), "5.01 x 5"),
        ("EPSG:4326", (0, 60), (2e-4, 1e-4), ""),
        ("EPSG:4326", (0, 60), (1e-4, 1e-4), "5.58 x 11.1"),
    ],
)
def test_apply_knows_how_large_pixels_are_on_the_ground(
    crs: str, origin: tuple[float, float], size: tuple[float, float], said: str, threshold: str
) -> None:
    grid = GeoBox((20, 20), Affine(size[0], 0, origin[0], 0, -size[1], origin[1]), crs)
    made = xr.DataArray(np.full((2, 20, 20), 3000, np.uint16), xr_coords(grid), ("band", *grid.dimensions))
    if not said:
        assert geoml.apply(threshold, made, scale=1e-4)["class"].shape == (20, 20)
        return
    with pytest.raises(InputError, match=f"pixels of {said} m; .* takes 10 m"):
        geoml.apply(threshold, made, scale=1e-4)


def test_apply_refuses_what_does_not_fit(threshold: str, catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 band; .* takes 2 \(red nir\)$"):
        geoml.apply(threshold, image()[:1])
    profile = {"count": 5, "height": 20, "width": 20, "dtype": "uint8", "crs": SCENE.crs, "transform": SCENE.transform}
    with rasterio.open(tmp_path / "five.tif", "w", driver="GTiff", **profile) as file:
        file.write(np.ones((5, 20, 20), np.uint8))
    with pytest.raises(DataError, match=r"five.tif: 5 bands; .* takes 2 \(red nir\): name them with bands=$"):
        geoml.apply(threshold, tmp_path / "five.tif")
    with pytest.raises(InputError, match=r"image: a ndarray; expected an xarray.DataArray"):
        geoml.apply(threshold, image().values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="size"):
        geoml.apply(threshold, image(), size=64)
    with pytest.raises(InputError, match="not among"):
        geoml.apply(threshold, image(), bands="red,green")
    with pytest.raises(InputError, match=r"pixels of 20 m; .* takes 10 m"):
        geoml.apply(threshold, image()[:, ::2, ::2])
    with pytest.raises(InputError, match="numbers of type complex64"):
        geoml.apply(threshold, image().astype("complex64"))
    with pytest.raises(InputError, match=r"expected \(band, y, x\)"):
        geoml.apply(threshold, image().expand_dims("time"))
    with pytest.raises(InputError, match="2 dates"):
        geoml.apply("ndvi-difference", image())
    from geoml.cube.domain import fit

    seen = np.random.default_rng(0).random((500, 2))
    testing.threshold_model(tmp_path / "known", SCENE.bands, THRESHOLDS, domain=fit(seen, seen))
    with pytest.raises(ModelError, match=r"another unit or scaling.*or out_of_domain='allow'"):
        geoml.apply(tmp_path / "known", image(scale_factor=1.0))
    assert geoml.apply(tmp_path / "known", image()).attrs["domain_verdict"] in ("inside", "partly")


@pytest.mark.parametrize("kind", ["frame", "shape", "mapping", "collection", "text"])
def test_a_region_may_lie_in_memory(kind: str, threshold: str, catalog: Path, tmp_path: Path) -> None:
    shape = shapely.box(*SCENE.bbox(inner=0.3))
    frame = geopandas.GeoDataFrame({"a": [np.int64(1)]}, geometry=[shape], crs="EPSG:4326")
    region = {
        "frame": frame.to_crs(SCENE.crs),
        "shape": shape,
        "mapping": shapely.geometry.mapping(shape),
        "collection": json.loads(frame.to_json()),
        "text": shapely.to_geojson(shape),
    }[kind]
    asked = recipe(threshold, catalog, bbox=None, region=region)
    assert [i.id for i in geoml.search(asked["query"])] == ["scene"]
    if kind != "frame":  # whose edges are straight in another CRS
        found = geoml.predict(asked, tmp_path / "out").classes
        (tmp_path / "r.geojson").write_text(shapely.to_geojson(shape))
        other = geoml.predict(recipe(threshold, catalog, bbox=None, region=str(tmp_path / "r.geojson")), tmp_path / "b")
        xr.testing.assert_identical(found.compute(), other.classes.compute())


def test_a_region_in_memory_has_to_be_polygons_with_a_crs(catalog: Path) -> None:
    frame = geopandas.GeoDataFrame(geometry=[shapely.box(0, 0, 1, 1)])
    with pytest.raises(InputError, match="region: a GeoDataFrame without CRS"):
        geoml.search({"catalog": str(catalog), "region": frame, "datetime": "2024"})
    with pytest.raises(InputError, match="contains a Point; expected polygons only"):
        geoml.search({"catalog": str(catalog), "region": shapely.Point(0, 0), "datetime": "2024"})
    with pytest.raises(InputError, match="region: not GeoJSON"):
        geoml.search({"catalog": str(catalog), "region": "{", "datetime": "2024"})
    with pytest.raises(InputError, match="an empty GeoDataFrame; expected one with polygons"):
        geoml.search({"catalog": str(catalog), "region": frame.iloc[:0].set_crs(4326), "datetime": "2024"})


def test_a_bbox_is_a_text_too_as_of_the_command(catalog: Path) -> None:
    box = ",".join(map(str, SCENE.bbox()))
    assert [i.id for i in geoml.search({"catalog": str(catalog), "bbox": box, "datetime": "2024"})] == ["scene"]
    with pytest.raises(InputError, match="bbox"):
        geoml.search({"catalog": str(catalog), "bbox": "1,2,3", "datetime": "2024"})


def test_nothing_is_printed_where_nobody_looks(
    threshold: str, catalog: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    geoml.predict(recipe(threshold, catalog), tmp_path / "out")
    assert capfd.readouterr() == ("", "")


def test_rotated_images_keep_their_grid(threshold: str) -> None:
    grid = GeoBox(TRUTH.shape, SCENE.transform @ Affine.rotation(20), SCENE.crs)
    turned = image().drop_vars(["y", "x", "spatial_ref"]).assign_coords(xr_coords(grid))
    found = geoml.apply(threshold, turned)
    assert (found["class"].values == TRUTH).all()
