"""One odd item beside a good one: only errors of the table come out, the others go on, and the odd one is named."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import Result

from geoml import pipeline, testing
from geoml.cube.load import load
from geoml.engine.run.plan import make_plan
from geoml.engine.run.sample import item_version
from geoml.errors import DataError, GeomlError, ModelError, NothingFound
from geoml.io.cog.projection import check_projection
from geoml.io.stac.bands import select
from geoml.io.stac.search import open_catalog, read_items, write_items
from geoml.recipe import PredictRecipe

SCENE = testing.Scene(id="good", data=testing.smooth((2, 64, 64), seed=5), bands=("red", "nir"))
BOX = SCENE.bbox(inner=0.2)

RICH: dict[str, Any] = {
    "gsd": 10,
    "eo:cloud_cover": 3.5,
    "start_datetime": "2024-06-01T11:00:00Z",
    "end_datetime": "2024-06-01T13:00:00Z",
    "created": "2024-06-02T00:00:00Z",
    "updated": "2024-06-02T00:00:00Z",
    "platform": "a",
    "proj:epsg": None,
    "proj:bbox": [0, 0, 1, 1],
    "proj:geometry": {"type": "Point", "coordinates": [0, 0]},
    "s2:processing_baseline": "05.09",
    "processing:version": "1",
    "instruments": ["msi"],
    "eo:bands": [{"name": "red"}],
}


def odd_item(folder: Path) -> dict[str, Any]:
    """The good item again with everything that items may say."""
    value: dict[str, Any] = json.loads((folder / "good" / "item.json").read_text())
    value["id"] = "odd"
    value["properties"] |= copy.deepcopy(RICH)
    asset = value["assets"]["image"]
    asset |= {"title": "t", "gsd": 10, "file:checksum": "1220ab", "proj:shape": [64, 64], "data_type": "uint16"}
    asset |= {"proj:code": SCENE.crs, "proj:transform": list(SCENE.transform)[:6], "nodata": 0}
    asset["raster:bands"] = [
        {"data_type": "uint16", "scale": 1e-4, "offset": 0, "nodata": 0, "spatial_resolution": 10}
    ] * 2
    asset["eo:bands"] = [{"name": "red", "common_name": "red"}, {"name": "nir", "common_name": "nir"}]
    value["assets"]["other"] = {"href": "./b.jpg", "type": "image/jpeg", "roles": ["thumbnail"]}
    value["links"] = [{"rel": "self", "href": "./item.json"}, {"rel": "derived_from", "href": "https://a.example/b"}]
    value["stac_extensions"] = ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"]
    return value


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in an item, the item itself aside; of long lists (coordinates) the first entries."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in inner:
        yield (*at, key)
        yield from paths(part, (*at, key))


WORDS = st.sampled_from(
    [
        *("", " ", "n/a", "uint15", "Byte", "cint16", "string", "nan", "inf", "-inf", "1e400", "5", "-1", "x" * 5000),
        *("\x00", "\ud800", "é\u2028", "[/red]", "good", "self", "Polygon", "Point", "data", "{" * 50),
        *("http://[", "https://u:p@h.example/a.tif", "/vsizip/x.zip", "..\\..\\x.tif", "C:\\x.tif", "//h/x", "<VRT/>"),
        *("file:///etc/passwd", "EPSG:99999", "EPSG:None", "2024-06-01", "20240601", "2024-06-01 12:00", "24:00"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-23:59", "x" * 4097),
        *("0001-01-01T00:00:00+23:59", "A1\nWARNING forged\x1b[31m\u202e", "https://u:p#a?s/s@w@h.example/a.tif"),
    ]
)
WHOLE = [0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 2**70, 10**30, 10**400, 7]
NUMBERS = st.integers() | st.sampled_from([*WHOLE, -0.5, 1e-320, 1e308, float("1e400"), float("-1e400")])
FLAT = st.none() | st.booleans() | WORDS | NUMBERS | st.text(max_size=20)
ODD = FLAT | st.lists(FLAT, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), FLAT, max_size=3)


def put(value: Any, path: tuple[Any, ...], what: Any) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = what


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "made"
    testing.write_catalog(folder, [SCENE])
    about = json.loads((folder / "collection.json").read_text())
    about["links"].append({"rel": "item", "href": "./good/odd.json"})
    (folder / "collection.json").write_text(json.dumps(about))
    return folder


def asked(folder: Path, model: str, **query: Any) -> PredictRecipe:
    found = {"catalog": str(folder / "catalog.json"), "collection": "made", "bbox": BOX, "datetime": ("2024",), **query}
    return PredictRecipe(model=model, query=found, block_size=64, features=False)  # type: ignore[arg-type]


def through(folder: Path, model: str, value: dict[str, Any]) -> list[str]:
    """Search, plan, table of sources and pixels, as a run takes an item; the ids that came through the plan."""
    (folder / "good" / "odd.json").write_text(json.dumps(value))
    plan, items = make_plan(asked(folder, model))
    write_items(items, folder.parent / "sources.parquet", left_out=plan.left_out)
    found = read_items(folder.parent / "sources.parquet")
    assert [i.id for i in found] == [i.id for i in items]
    assert [item_version(i) for i in found] == [item_version(i) for i in items]
    catalog = open_catalog(str(folder / "catalog.json"))
    profile = catalog.profile("made")
    (block, *_) = plan.by_id().values()
    geobox = plan.block(block).geobox
    try:
        for item in found:
            for spec in select(item, ["red", "nir"], profile, catalog):
                check_projection(item, spec)
        cube = load(found, ["red", "nir"], geobox, profile=profile, catalog=catalog)
        cube.compute(scheduler="synchronous")
    except DataError:  # its block fails, and others go on
        pass
    return [i.id for i in found]


@settings(
    max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
def test_no_word_and_no_number_of_an_item_gets_further_than_an_error_of_the_table(
    data: st.DataObject, made: Path, threshold: str
) -> None:
    value = odd_item(made)
    every = list(paths(value))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(every))
        what = data.draw(ODD)
        try:
            put(value, path, what)
        except (TypeError, IndexError, KeyError):  # another change took that place away
            continue
    try:
        ids = through(made, threshold, value)
    except DataError as err:
        assert "appears twice with different content" in str(err)  # noqa: PT017
        assert value["id"] == "good"
    else:
        assert "good" in ids


def beside(folder: Path, **changes: Any) -> dict[str, Any]:
    """The good item under another name with something changed, written beside it."""
    value: dict[str, Any] = json.loads((folder / "good" / "item.json").read_text()) | {"id": "odd"}
    for key, what in changes.items():
        put(value, tuple(key.split("__")), what)
    (folder / "good" / "odd.json").write_text(json.dumps(value))
    return value


UNUSABLE: list[tuple[dict[str, Any], type[GeomlError], str]] = [
    ({"properties__datetime": "yesterday"}, DataError, "datetime 'yesterday'"),
    ({"properties__datetime": None}, DataError, "datetime None"),
    ({"geometry": None, "bbox": None}, DataError, "no geometry and no bbox"),
    ({"geometry": None, "bbox": [1, 2, "x", 4]}, DataError, "no geometry and no bbox"),
    (
        {"geometry__coordinates": [[[5e5, 7e6], [6e5, 7e6], [6e5, 8e6], [5e5, 7e6]]]},
        DataError,
        "geometry is not GeoJSON",
    ),
    ({"assets__image__bands": [{"name": "green"}, {"name": "nir"}]}, ModelError, "has no band 'red'"),
    ({"assets__image__type": "text/html"}, ModelError, "passed over: image (type text/html)"),
    ({"assets__image__roles": ["overview"]}, ModelError, "passed over: image (role overview)"),
    ({"assets": {}}, ModelError, "has no band 'red'"),
    ({"assets__image__href": "/vsizip/x.zip/a.tif"}, DataError, "GDAL construct"),
    ({"assets__image__href": "../../x.tif"}, DataError, "outside the catalog's folder"),
    ({"assets__image__raster:scale": "many"}, DataError, "expected a number"),
    ({"properties__gsd": 500}, ModelError, "works at 10 m"),
    ({"properties__datetime": "0001-01-01T00:00:00+23:59"}, DataError, "date value out of range"),
    ({"properties__datetime": "9999-12-31T23:59:59-23:59"}, DataError, "date value out of range"),
    ({"assets__image__href": "./" + "x" * 4096}, DataError, "href of the asset 'image' has"),
    ({"links": [{"rel": "derived_from", "href": "https://a.example/" + "x" * 4096}]}, DataError, "href of a link has"),
    ({"assets": {"x" * 4097: {"href": "./image.tif"}}}, DataError, "key of an asset has 4097 characters"),
]


@pytest.mark.parametrize(("changes", "kind", "why"), UNUSABLE, ids=range(len(UNUSABLE)))
def test_an_item_that_cannot_be_used_is_left_out_and_named(
    made: Path, threshold: str, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any], kind: type[GeomlError], why: str,
) -> None:  # fmt: skip
    if "assets__image__raster:scale" in changes:
        changes = {"assets__image__bands": [{"name": n, "raster:scale": "many"} for n in ("red", "nir")]}
    beside(made, **changes)
    with caplog.at_level(logging.WARNING, "geoml"):
        plan, items = make_plan(asked(made, threshold))
    assert [i.id for i in items] == ["good"]
    assert list(plan.left_out) == ["odd"]
    assert why in plan.left_out["odd"]
    assert sum("odd" in r.getMessage() for r in caplog.records) == 1
    with pytest.raises(kind) as caught:
        make_plan(asked(made, threshold, strict=True))
    assert why in str(caught.value)
    shown = json.loads((made / "collection.json").read_text())
    alone = {**shown, "links": [k for k in shown["links"] if "odd" in k["href"]]}
    (made / "alone.json").write_text(json.dumps(alone))
    query = asked(made, threshold).query.model_copy(update={"catalog": str(made / "alone.json")})
    with pytest.raises(kind) as caught:
        make_plan(PredictRecipe(model=threshold, query=query))
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"properties__datetime": "2024-06-01 12:00:00Z"},
        {"properties__datetime": "2024-06-01T12:00:00"},
        {"properties__datetime": "2024-06-01T12:00:00+0000"},
        {"properties__datetime": "2024-06-01t09:00:00.123456789-03"},
        {"properties__datetime": "20240601T120000z"},
        {"properties__created": "some day", "properties__updated": "2024-06-02 00:00"},
        {"properties__end_datetime": "open"},
        {"geometry": None},
        {"bbox": None},
        {"bbox": [0, 0, 0, 1, 1, 1]},
        {"assets__image__roles": ["metadata", "data"]},
        {"assets__image__roles": "data"},
        {"assets__image__type": "application/octet-stream"},
        {"assets__image__type": 5},
        {"assets__image__type": ["image/tiff"]},
        {"assets__image__roles": 7},
        {"assets__image__roles": [["data"], 7, "data"]},
        {"properties__n": 2**70, "properties__eo:cloud_cover": 10**400, "properties__deep": {"a": [2**64, -(2**65)]}},
        {"properties__created": "0001-01-01T00:00:00+23:59", "properties__updated": "9999-12-31T23:59:59-23:59"},
        {"properties__end_datetime": "9999-12-31T23:59:59-23:59"},
        {"assets__image__href": ".\\image.tif"},
        {"properties__id": "another", "properties__n": 10**30, "properties__type": {}},
        {"assets__image__data_type": "uint15"},
        {"assets__image__gsd": "ten"},
        {"properties__proj:geometry": {"type": "Point", "coordinates": [1, 2]}},
        {"collection": None},
        {"stac_extensions": None},
    ],
    ids=str,
)
def test_what_pystac_reads_is_read(made: Path, threshold: str, changes: dict[str, Any]) -> None:
    """The odd item comes through search, plan and table, and its pixels are those of the good one."""
    assert sorted(through(made, threshold, beside(made, **changes))) == ["good", "odd"]


def test_a_run_says_what_it_left_out(made: Path, threshold: str, tmp_path: Path, cli: Callable[..., Result]) -> None:
    beside(made, properties__datetime="yesterday")
    words = ["predict", "--model", threshold, "--catalog", made / "catalog.json", "--bbox", *BOX, "--datetime", "2024"]
    result = cli(*words, "--out", tmp_path / "out", "--no-features")
    assert result.exit_code == 0, result.stderr
    assert "1 item left out: item odd: datetime 'yesterday'" in " ".join(result.stdout.split())
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert list(run["left_out"]) == ["odd"]
    assert "yesterday" in (tmp_path / "out" / "report.html").read_text()
    kept = pq.read_schema(tmp_path / "out" / "sources.parquet").metadata[b"geoml:left_out"]
    assert json.loads(kept) == run["left_out"]
    (found,) = testing.read_map(tmp_path / "out").values()
    assert set(np.unique(found.data)) <= {0, 1, 2, 255}
    assert cli(*words, "--out", tmp_path / "strict", "--strict").exit_code == 4
    assert cli("search", made / "catalog.json", *words[5:], "--strict").exit_code == 4
    assert cli("search", made / "catalog.json", *words[5:]).exit_code == 0
    dry = cli(*words, "--out", tmp_path / "dry", "--dry-run")
    assert "1 item left out" in " ".join(dry.stdout.split())


def test_an_id_beyond_any_length_is_named_by_its_beginning(made: Path, threshold: str) -> None:
    """A megabyte of it stops no night and fills no message; ids of 4096 characters are read."""
    beside(made, id="y" * 10**6)
    plan, items = make_plan(asked(made, threshold))
    assert [i.id for i in items] == ["good"]
    ((name, why),) = plan.left_out.items()
    assert name == "y" * 200
    assert why.endswith("its id has 1000000 characters; expected at most 4096")
    assert len(why) < 200
    beside(made, id="z" * 4096)
    assert {len(i.id) for i in make_plan(asked(made, threshold))[1]} == {4, 4096}


def test_ids_of_items_forge_nothing_of_a_command(
    made: Path, threshold: str, tmp_path: Path, cli: Callable[..., Result]
) -> None:
    """Neither in the table of a search, nor in log, last line and files of a run."""
    evil = "A1\nWARNING run=00000000 forged\x1b[31m\u202e[/red]"
    beside(made, id=evil, assets__image__href="./none.tif", **{"properties__eo:cloud_cover": 10**400})
    words = ["--bbox", *BOX, "--datetime", "2024"]
    search = cli("search", made / "catalog.json", *words, "--sortby", "eo:cloud_cover")
    run = cli("predict", "--model", threshold, "--catalog", made / "catalog.json", *words, "--out", tmp_path / "out")
    assert (search.exit_code, run.exit_code) == (0, DataError.exit_code), search.stderr
    shown = search.stdout + search.stderr + run.stdout + run.stderr
    assert "forged" in shown
    assert not [line for line in shown.splitlines() if line.startswith("WARNING run=00000000")]
    assert not {"\x1b", "\u202e"} & set(shown)
    for path in (tmp_path / "out" / ".geoml" / "failed").iterdir():
        assert json.loads(path.read_text())["message"].isprintable()


def test_strict_is_no_part_of_what_a_run_is_known_by(made: Path, threshold: str) -> None:
    """A run that was begun without it, or before it was there, goes on with it."""
    plain, strict = (asked(made, threshold, strict=s) for s in (False, True))
    assert plain.hash == strict.hash
    old = plain.model_dump(mode="json")
    del old["query"]["strict"]
    assert PredictRecipe.model_validate(old) == plain


NIGHT = "2024-06-05"


def test_an_odd_item_stops_no_night_of_a_monitor(made: Path, threshold: str, tmp_path: Path) -> None:
    recipe = asked(made, threshold)
    (made / "good" / "odd.json").unlink(missing_ok=True)
    beside(made, properties__datetime="2024-06-03T00:00:00Z", assets={})
    rows = pipeline.monitor(recipe, tmp_path / "out", lookback=10, until=NIGHT)
    assert [(r["item"], r["change"]) for r in rows] == [("good", "new")]
    (part,) = (tmp_path / "out" / "sources.parquet").glob("*.parquet")
    kept = pq.read_schema(part).metadata[b"geoml:left_out"]
    assert "has no band 'red'" in json.loads(kept)["odd"]
    for _ in range(2):  # each night again
        with pytest.raises(NothingFound):
            pipeline.monitor(recipe, tmp_path / "out", lookback=10, until=NIGHT)
    for changes in ({"properties__datetime": "x"}, {"geometry": None, "bbox": None}):
        beside(made, **changes)
        with pytest.raises(NothingFound):
            pipeline.monitor(recipe, tmp_path / "out", lookback=10, until=NIGHT)
    strict = recipe.model_copy(update={"query": recipe.query.model_copy(update={"strict": True})})
    with pytest.raises(DataError, match="no geometry"):
        pipeline.monitor(strict, tmp_path / "out", lookback=10, until=NIGHT)


def test_a_night_whose_items_all_lack_the_band_is_an_error(made: Path, tmp_path: Path) -> None:
    testing.threshold_model(tmp_path / "other", ("red", "swir16"), (0.2,))
    beside(made, assets={})
    with pytest.raises(ModelError, match="swir16"):
        pipeline.monitor(asked(made, str(tmp_path / "other")), tmp_path / "out", lookback=10, until=NIGHT)
