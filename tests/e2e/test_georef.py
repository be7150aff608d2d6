"""Maps of items whose georeference is unlike most, from the search to the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
import yaml

import geoml
from geoml import testing
from geoml.errors import DataError
from geoml.io.stac.catalog import open_catalog

THRESHOLDS = (0.20005, 0.40005)


def change(catalog: Path, name: str, **properties: Any) -> None:
    path = catalog.parent / name / "item.json"
    item = json.loads(path.read_text())
    item["properties"] |= properties
    path.write_text(json.dumps(item))


def placed(path: Path, crs: str, transform: rasterio.Affine | None = None) -> None:
    """The same pixels in another CRS."""
    with rasterio.open(path) as file:
        data, profile = file.read(), file.profile
    more = {"transform": transform} if transform else {}
    profile |= {"driver": "GTiff", "crs": rasterio.crs.CRS.from_wkt(crs), **more}
    with rasterio.open(path, "w", **profile) as file:
        file.write(data)


def test_a_file_on_mars_fails_its_block_alone(predict: Callable[..., Path], threshold: str, tmp_path: Path) -> None:
    data = testing.smooth((2, 200, 200), seed=4)
    good = testing.Scene(id="good", data=data, bands=("red", "nir"))
    mars = testing.Scene(id="mars", data=data, bands=("red", "nir"), origin=(620_000.0, 7_200_000.0))
    catalog = testing.write_catalog(tmp_path / "made", [good, mars])
    placed(tmp_path / "made" / "mars" / "image.tif", pyproj.CRS("IAU_2015:49900").to_wkt())
    west, south, _, north = good.bbox(inner=0.1)
    with pytest.raises(DataError, match=r"item mars, asset image .*nowhere on the Earth") as caught:
        predict(threshold, catalog, (west, south, mars.bbox(inner=0.1)[2], north))
    assert "item good" not in str(caught.value)
    found = testing.read_map(tmp_path / "out")[good.crs].part(good.window)[0]
    inside = found != 255
    assert inside.mean() > 0.5
    assert (found == testing.levels(data, THRESHOLDS))[inside].all()


SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"
"""That of MODIS, which has no code."""


@pytest.mark.parametrize(
    ("crs", "said"),
    [
        ("EPSG:32621", {"proj:code": None, "proj:wkt2": pyproj.CRS("EPSG:32621").to_wkt()}),
        ("EPSG:32621", {"proj:code": None, "proj:projjson": pyproj.CRS("EPSG:32621").to_json_dict()}),
        ("EPSG:32621", {"proj:code": "EPSG:None"}),  # the file knows
        (SINUSOIDAL, {"proj:code": "EPSG:None", "proj:wkt2": pyproj.CRS(SINUSOIDAL).to_wkt("WKT1_GDAL")}),
    ],
)
def test_the_crs_of_the_data_is_that_of_items_or_files(
    predict: Callable[..., Path], threshold: str, tmp_path: Path, crs: str, said: dict[str, Any]
) -> None:
    data = testing.smooth((2, 200, 200), seed=4)
    place = {"origin": (-5_600_000.0, -2_800_000.0)} if crs == SINUSOIDAL else {}
    scene = testing.Scene(id="scene", data=data, bands=("red", "nir"), crs=crs, **place)
    catalog = testing.write_catalog(tmp_path / "made", [scene])
    change(catalog, "scene", **said)
    out = predict(threshold, catalog, scene.bbox(inner=0.1), crs="data")
    (found,) = testing.read_map(out).values()
    classes = found.part(scene.window)[0]  # of the very pixels: nothing was resampled
    inside = classes != 255
    assert inside.mean() > 0.5
    assert (classes == testing.levels(data, THRESHOLDS))[inside].all()
    assert all(len(p.name) < 100 for p in out.rglob("*"))


HLS = """PROJCS["UTM Zone 21, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 ellipsoid",
DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]]],
PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],
PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-57],PARAMETER["scale_factor",0.9996],
PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1,AUTHORITY["EPSG","9001"]],
AXIS["Easting",EAST],AXIS["Northing",NORTH]]"""


@pytest.mark.parametrize(("collection", "nir"), [("hls2-l30", "B05"), ("hls2-s30", "B8A")])
@pytest.mark.parametrize("code", [{"proj:code": "EPSG:32721"}, {"proj:epsg": 32621}, {"proj:code": "EPSG:None"}])
def test_the_shipped_collections_of_hls(
    tmp_path: Path, machine: Callable[..., None], collection: str, nir: str, code: dict[str, Any], caplog: Any
) -> None:
    """As they are published: one file a band, int16, northing below zero in the northern zone of an unnamed datum."""
    grid = rasterio.Affine(30, 0, 600_000, 0, -30, -2_799_990)
    data = testing.smooth((2, 128, 128), seed=4).astype(np.int16)
    data[:, :10] = -9999
    flags = np.zeros((1, 128, 128), np.uint8)
    flags[:, 20:40], flags[:, 40:50] = 0b10, 0b10000  # cloud; snow is ground
    scene = testing.Scene(
        id="T21JYN", data=data, bands=("red", "nir08"), crs="EPSG:32621", origin=(grid.c, grid.f), res=30.0
    )
    folder = tmp_path / "catalogs"
    catalog = testing.write_catalog(folder / "hls", [scene], collection=collection)
    shipped = open_catalog("planetary-computer").profile(collection)
    assert shipped.mask is not None
    profile = shipped.model_dump(mode="json", exclude={"sign"}, exclude_none=True)
    about = {"url": "hls/catalog.json", "kind": "static", "collections": {collection: profile}}
    (folder / "hls.yaml").write_text(yaml.safe_dump(about))
    item = json.loads((folder / "hls" / scene.id / "item.json").read_text())
    item["properties"] = {"datetime": "2024-06-01T12:00:00Z", **code}
    item["assets"] = {}
    for key, band in (("B04", data[:1]), (nir, data[1:]), ("Fmask", flags)):
        path = folder / "hls" / scene.id / f"{key}.tif"
        testing.write_cog(path, band, crs=scene.crs, transform=grid, nodata=255 if key == "Fmask" else -9999)
        placed(path, HLS)
        item["assets"][key] = {"href": f"./{key}.tif", "type": "image/tiff", "roles": ["data"]}
    (folder / "hls" / scene.id / "item.json").write_text(json.dumps(item))
    shutil.rmtree(folder / "hls" / scene.id / "quality", ignore_errors=True)
    testing.threshold_model(tmp_path / "model", ("red", "nir08"), THRESHOLDS, gsd=30.0)
    machine(catalogs=folder)
    query = {"catalog": "hls", "collection": collection, "bbox": list(scene.bbox(inner=0.1)), "datetime": ["2024"]}
    recipe = {"model": str(tmp_path / "model"), "query": query, "crs": "EPSG:32621", "block_size": 512}
    geoml.predict(recipe, tmp_path / "out")
    (found,) = testing.read_map(tmp_path / "out").values()
    classes = found.part(scene.window)[0]
    (asked,) = testing.read_map(tmp_path / "out", "valid").values()
    inside = asked.part(scene.window)[0] != 255
    hidden = (data[0] == -9999) | (flags[0] & 0b1111 != 0)
    assert inside.mean() > 0.5
    assert (classes == np.where(hidden, 255, testing.levels(data, THRESHOLDS)))[inside].all()
    assert ("once for each collection" in caplog.text) is ("proj:code" in code)
    assert catalog.is_file()
