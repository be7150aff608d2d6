"""Who says scale and offset: band, asset, item, YAML, the collection's item_assets, and at last the file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from shapely.geometry import box, mapping
from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

from geoml.data import rasters
from geoml.errors import DataError
from geoml.grid.region import from_bbox
from geoml.io.cog import read as cog
from geoml.io.cog.scaling import with_file_scaling
from geoml.io.stac.bands import BandSpec, mask_spec, select
from geoml.io.stac.catalog import BandMeta, Catalog, MaskMeta, OffsetRule, Profile
from geoml.io.stac.search import open_catalog, read_items, search, write_items
from geoml.recipe import Query

WORLD = from_bbox(-10, -10, 10, 10)


def write(path: Path, scale: float = 1.0, offset: float = 0.0, count: int = 1) -> Path:
    place = {"crs": "EPSG:4326", "transform": Affine(0.01, 0, 0, 0, -0.01, 1)}
    with rasterio.open(path, "w", "GTiff", 8, 8, count, dtype="uint16", **place) as file:
        file.scales, file.offsets = (scale,) * count, (offset,) * count
        file.write(np.full((count, 8, 8), 2000, np.uint16))
    return path


def catalog_of(
    folder: Path, asset: dict[str, Any], said: Any = None, properties: dict[str, Any] | None = None, name: str = "red"
) -> Catalog:
    """A static catalog of one item whose asset lies beside it; ``said`` are the collection's item_assets."""
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "one",
        "collection": "c",
        "geometry": mapping(box(0, 0, 1, 1)),
        "bbox": [0, 0, 1, 1],
        "properties": {"datetime": "2024-06-01T12:00:00Z", **(properties or {})},
        "links": [],
        "assets": {name: {"href": "./a.tif", "type": "image/tiff", "roles": ["data"], **asset}},
    }
    about = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": "c",
        "description": "made",
        "license": "CC0-1.0",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [{"rel": "item", "href": "./item.json"}],
        **({} if said is None else {"item_assets": said}),
    }
    (folder / "item.json").write_text(json.dumps(item))
    (folder / "collection.json").write_text(json.dumps(about))
    return open_catalog(str(folder / "collection.json"))


def found(catalog: Catalog, folder: Path, profile: Profile | None = None) -> BandSpec:
    """The band as a worker sees it: searched for, written to the table of sources and read back."""
    query = Query(catalog=catalog.url, collection="c", bbox=(-10, -10, 10, 10), datetime=("2024",))
    catalog = replace(catalog, profiles={"c": profile or Profile()})
    items = search(catalog, query, WORLD, "2024")
    write_items(items, folder / "sources.parquet")
    (item,) = read_items(folder / "sources.parquet")
    return select(item, ["red"], profile or Profile(), catalog)[0]


BAND = {"raster:scale": 0.1, "raster:offset": 1.0}
YAML = Profile(bands={"red": (BandMeta(name="red", scale=0.3, offset=3.0),)})
DEFAULTS = {"red": {"bands": [{"name": "red", "raster:scale": 0.4, "raster:offset": 4.0}]}}


@pytest.mark.parametrize(
    ("asset", "properties", "profile", "said", "expected"),
    [
        ({"bands": [{"name": "red", **BAND}]}, {"raster:scale": 0.2}, YAML, DEFAULTS, (0.1, 1.0)),
        ({"raster:bands": [{"scale": 0.1, "offset": 1.0}]}, {}, YAML, DEFAULTS, (0.1, 1.0)),
        ({"bands": [{"name": "red"}], **BAND}, {}, YAML, DEFAULTS, (0.1, 1.0)),
        ({"bands": [{"name": "red"}]}, {"raster:scale": 0.2, "raster:offset": 2.0}, YAML, DEFAULTS, (0.2, 2.0)),
        ({"bands": [{"name": "red"}]}, {}, YAML, DEFAULTS, (0.3, 3.0)),
        ({"bands": [{"name": "red"}]}, {}, None, DEFAULTS, (0.4, 4.0)),
        ({"bands": [{"name": "red"}]}, {}, None, {"red": {"raster:bands": [{"scale": 0.4, "offset": 4}]}}, (0.4, 4.0)),
        ({}, {}, None, {"red": {"raster:scale": 0.4, "raster:offset": 4.0}}, (0.4, 4.0)),
        ({"bands": [{"name": "red"}]}, {}, None, {"red": {"roles": ["data"]}}, (0.5, 5.0)),
        ({"bands": [{"name": "red"}]}, {}, None, None, (0.5, 5.0)),
        ({"bands": [{"name": "red"}]}, {}, None, ["nonsense"], (0.5, 5.0)),
        ({"bands": [{"name": "red"}]}, {}, None, {"red": 1, "bands": None}, (0.5, 5.0)),
        ({}, {}, None, {"red": {"raster:scale": 0.4, "unit": "m" * 300_000}}, (0.5, 5.0)),
        ({"bands": [{"name": "red", "raster:scale": 1, "raster:offset": 0}]}, {}, None, DEFAULTS, (1.0, 0.0)),
    ],
    ids=[
        *("band", "old band", "asset", "item", "YAML", "collection", "old collection", "collection's asset"),
        *("file", "no item_assets", "a list", "numbers", "too large", "the item says it is neutral"),
    ],
)
def test_the_first_who_says_it_counts(
    tmp_path: Path, asset: Any, properties: Any, profile: Profile | None, said: Any, expected: tuple[float, float]
) -> None:
    write(tmp_path / "a.tif", 0.5, 5.0)
    (band,) = with_file_scaling([found(catalog_of(tmp_path, asset, said, properties), tmp_path, profile)])
    assert (band.scale, band.offset) == expected


@pytest.mark.parametrize(
    ("said", "file", "expected"),
    [
        ({"raster:scale": 1e-4}, (1e-4, -0.1), (1e-4, -0.1)),  # the file says the other half
        ({"raster:scale": 1e-4}, (1.0, -0.1), (1e-4, -0.1)),
        ({"raster:scale": 1e-4}, (2e-5, -0.1), (1e-4, 0.0)),  # of another scale: that offset is not of these numbers
        ({"raster:offset": -0.2}, (1e-4, 0.0), (1e-4, -0.2)),
        ({"raster:offset": 0}, (1e-4, -0.1), (1e-4, 0.0)),
    ],
)
def test_a_file_completes_what_others_began(tmp_path: Path, said: Any, file: Any, expected: Any) -> None:
    write(tmp_path / "a.tif", *file)
    (band,) = with_file_scaling([found(catalog_of(tmp_path, {"bands": [{"name": "red", **said}]}), tmp_path)])
    assert (band.scale, band.offset) == expected


@pytest.mark.parametrize(
    ("properties", "expected"),
    [({"baseline": "05.00"}, -0.1), ({"baseline": "03.00"}, 0.0), ({"applied": True}, 0.0), ({}, -0.3)],
    ids=["new", "old", "taken out", "not said: the file's"],
)
def test_the_rule_of_sentinel_2_goes_before_the_file(tmp_path: Path, properties: Any, expected: float) -> None:
    rule = OffsetRule(baseline=("baseline",), since=4.0, offset=-0.1, applied=("applied",), bands=("red",))
    profile = Profile(bands={"red": (BandMeta(name="red", scale=1e-4),)}, offset_rule=rule)
    write(tmp_path / "a.tif", 1e-4, -0.3)
    (band,) = with_file_scaling([found(catalog_of(tmp_path, {}, None, properties), tmp_path, profile)])
    assert (band.scale, band.offset) == (1e-4, expected)


def test_the_collection_says_nodata_dtype_and_gsd_too_and_bands_go_by_their_names(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", count=2)
    bands = [
        {"name": "nir", "data_type": "int16", "raster:scale": 0.2},
        {"name": "red", "data_type": "uint16", "nodata": 3, "raster:scale": 0.4, "gsd": 20, "unit": "1"},
    ]
    item = {"bands": [{"name": "red"}, {"name": "nir"}]}
    band = found(catalog_of(tmp_path, item, {"image": {"bands": bands}}, name="image"), tmp_path)
    assert (band.index, band.dtype, band.nodata, band.scale, band.gsd) == (1, "uint16", 3, 0.4, 20)
    strange = {"image": {"bands": [{"name": "a", "raster:scale": 9}, {"name": "b", "raster:scale": 9}]}}
    assert found(catalog_of(tmp_path, item, strange, name="image"), tmp_path).scale == 1.0


def test_nodata_of_item_and_catalog_both_count(tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    profile = Profile(bands={"red": (BandMeta(name="red", nodata=0),)})
    for said, expected in (({}, (0.0,)), ({"nodata": 0}, (0.0,)), ({"nodata": 7}, (7.0, 0.0))):
        band = found(catalog_of(tmp_path, {"bands": [{"name": "red", **said}]}), tmp_path, profile)
        assert band.nodata_values == expected
    masked = Profile(mask=MaskMeta(asset="red", kind="bits", bad=(1,), nodata=255))
    catalog = catalog_of(tmp_path, {"bands": [{"nodata": 254}]})
    query = Query(catalog=catalog.url, collection="c", bbox=(-10, -10, 10, 10), datetime=("2024",))
    (item,) = search(catalog, query, WORLD, "2024")
    spec = mask_spec(item, masked, catalog)
    assert spec is not None
    assert spec.band.nodata_values == (255.0, 254.0)


def test_the_collection_of_an_api_is_asked(
    stac_server: Callable[[list[dict[str, Any]]], AbstractContextManager[Any]], tmp_path: Path
) -> None:
    catalog_of(tmp_path, {"href": "https://data.example/a.tif"})
    item = json.loads((tmp_path / "item.json").read_text())
    with stac_server([item]) as server:
        plain = server.collections()
        for said, scale in ((DEFAULTS, 0.4), (None, 1.0)):
            server.collections = lambda said=said: [{**plain[0], "item_assets": said}]
            assert found(open_catalog(server.url), tmp_path).scale == scale


def test_the_collection_in_a_table_of_items_is_read(tmp_path: Path) -> None:
    """stac-geoparquet 1.1 keeps collections in the metadata of the file."""
    catalog = catalog_of(tmp_path, {"href": "/tmp/a.tif"})
    query = Query(catalog=catalog.url, collection="c", bbox=(-10, -10, 10, 10), datetime=("2024",))
    values = [i.to_dict() for i in search(catalog, query, WORLD, "2024")]
    about = {**json.loads((tmp_path / "collection.json").read_text()), "item_assets": DEFAULTS}
    for said, scale in (({"collections": {"c": about}}, 0.4), ({"collection_metadata": about}, 0.4), ({}, 1.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the older key is deprecated, and still read
            to_parquet(parse_stac_items_to_arrow(values), tmp_path / "items.parquet", **said)
        assert found(open_catalog(str(tmp_path / "items.parquet")), tmp_path).scale == scale


def test_an_item_leads_to_its_collection_but_a_local_one_not_elsewhere(tmp_path: Path) -> None:
    catalog_of(tmp_path, {}, DEFAULTS)
    item = json.loads((tmp_path / "item.json").read_text())
    for href, scale in (("./collection.json", 0.4), ("https://data.example/c.json", 1.0), ("./none.json", 1.0)):
        item["links"] = [{"rel": "collection", "href": href}]
        (tmp_path / "alone.json").write_text(json.dumps(item))
        assert found(open_catalog(str(tmp_path / "alone.json")), tmp_path).scale == scale


def test_what_lies_beside_a_local_file_counts(tmp_path: Path) -> None:
    """GDAL and ArcGIS write NAME.aux.xml where they cannot change the file; training and prediction read it alike."""
    path = write(tmp_path / "a.tif")
    note = tmp_path / "a.tif.aux.xml"
    inner = "<NoDataValue>2000</NoDataValue><Scale>0.5</Scale><Offset>5</Offset>"
    note.write_text(f'<PAMDataset><PAMRasterBand band="1">{inner}</PAMRasterBand></PAMDataset>')
    spec = found(catalog_of(tmp_path, {}), tmp_path)
    (band,) = with_file_scaling([spec])
    assert (band.scale, band.offset) == (0.5, 5.0)
    grid = GeoBox((8, 8), Affine(0.01, 0, 0, 0, -0.01, 1), "EPSG:4326")
    assert not cog.read([spec], grid)[1].any()
    assert not rasters.image(path, [1])[1].any()
    for bad in ("<PAMDataset>", "<!DOCTYPE a [<!ENTITY b 'c'>]><PAMDataset/>", "\0"):
        note.write_text(bad)
        with pytest.raises(DataError, match=r"a\.tif\.aux\.xml"):
            cog.read([spec], grid)
    note.write_text(
        "<PAMDataset><PAMRasterBand band='x'/><PAMRasterBand band='1'><Scale>a</Scale></PAMRasterBand></PAMDataset>"
    )
    assert with_file_scaling([spec])[0].scale == 1.0


def test_a_file_with_a_scale_of_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", 0.0)
    with pytest.raises(DataError, match=r"item one, asset red.*scale 0, offset 0"):
        with_file_scaling([found(catalog_of(tmp_path, {}), tmp_path)])
    with pytest.raises(DataError, match=r"a\.tif: the file says scale 0"):
        rasters.image(tmp_path / "a.tif", [1])


def test_training_reads_what_prediction_reads(tmp_path: Path) -> None:
    """Images as physical values; labels as they are."""
    path = write(tmp_path / "a.tif", 1e-4, -0.1)
    values, valid = rasters.image(path, [1])
    assert values.dtype == np.float32
    assert values == pytest.approx(0.1)
    assert valid.all()
    assert (rasters.read(path, [1])[0] == 2000).all()
    assert rasters.image(write(tmp_path / "b.tif"), [1])[0].dtype == np.uint16
