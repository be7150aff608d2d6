"""To and from Earth Engine, against files as it writes them and the rules that it documents; not against Google."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import rasterio

import geoml
from geoml import testing
from geoml.io.cards.map_card import MapCard
from tests.e2e.printed import Cli, prints, rows, said, wide
from tests.unit.io.cog.test_shards import export, shard

__all__ = ["said", "wide"]  # fixtures

DATA = testing.smooth((2, 200, 300), seed=5)
ALL = {"bbox": (-55.03, 63.08, -54.95, 63.12), "datetime": "2024"}


def test_shards_give_the_map_of_the_whole(said: Callable[..., str], threshold: str, tmp_path: Path) -> None:
    export(tmp_path / "shards", DATA, 128, 256, nodata=0)
    shard(tmp_path / "s2_20240601.tif", DATA, 0, 0, nodata=0)
    told = said("catalogs", "new", tmp_path / "shards", "--scale", "1e-4", "--out", tmp_path / "a")
    assert rows(told)["s2_20240601"] == ["red nir", "10 m", "EPSG:32621", "2024-06-01T12:00:00Z", "file name"]
    said("catalogs", "new", tmp_path / "s2_20240601.tif", "--scale", "1e-4", "--out", tmp_path / "b")
    # pixels of the next zone lie between those of the file: kernels reach over the seams
    asked = {"model": threshold, "block_size": 256, "crs": "EPSG:32622"}
    maps = []
    for name in "ab":
        query = {**ALL, "catalog": str(tmp_path / name / "catalog.yaml")}
        geoml.predict({**asked, "query": query}, tmp_path / f"{name}-out")
        maps.append(
            {
                p.relative_to(tmp_path / f"{name}-out"): p.read_bytes()
                for p in (tmp_path / f"{name}-out").glob("cogs/*/*.tif")
            }
        )
    assert len(maps[0]) > 2
    assert maps[0] == maps[1]


def test_shards_may_be_images_too(said: Callable[..., str], cli: Cli, threshold: str, tmp_path: Path) -> None:
    last = export(tmp_path / "shards", DATA, 128, 256, nodata=0)[-1]
    words = ("predict", "--model", threshold, "--image", tmp_path / "shards", "--scale", "1e-4", "--out")
    assert "\n100 % of the region has data" in said(*words, tmp_path / "out")
    last.unlink()
    found = cli(*words, tmp_path / "other")
    assert found.exit_code == 2
    assert f"image: s2_20240601 lacks {last.name}" in found.output.replace("\n", " ")


def test_empty_shards_are_left_out_only_where_that_is_said(cli: Cli, tmp_path: Path) -> None:
    export(tmp_path / "shards", DATA, 128, 256, nodata=0)[1].unlink()
    words = ("catalogs", "new", tmp_path / "shards", "--out", tmp_path / "made")
    refused = cli(*words)
    assert refused.exit_code == 2
    assert not (tmp_path / "made").exists()
    assert cli(*words, "--skipped-shards").exit_code == 0


# --- out

WORD = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
POLICY = {"enum": ["MEAN", "SAMPLE", "MIN", "MAX", "MODE", "MEDIAN"]}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.(\d{3}|\d{6}|\d{9}))?Z$"}


def strict(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "additionalProperties": False, "required": list(fields)}


def many(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1}


PLAIN = {"anyOf": [{"type": ["string", "number"]}, many({"type": ["string", "number"]})]}
IMAGE_MANIFEST = strict(
    name={"type": "string", "pattern": "^projects/[^/]+/assets(/[A-Za-z0-9_-]+)+$"},
    tilesets=many(strict(id=WORD, sources=many(strict(uris=many({"type": "string", "pattern": "^gs://[^/]+/.+$"}))))),
    bands=many(
        strict(
            id=WORD,
            tilesetId=WORD,
            tilesetBandIndex={"type": "integer", "minimum": 0},
            missingData=strict(values=many({"type": "number"})),
            pyramidingPolicy=POLICY,
        )
    ),
    startTime=TIME,
    endTime=TIME,
    properties={
        "type": "object",
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_-]*$"},
        "additionalProperties": PLAIN,
    },
)
"""What we write of https://developers.google.com/earth-engine/reference/rest/v1/projects.image/import#imagemanifest."""


@pytest.fixture(scope="module")
def run(threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of four blocks."""
    root = tmp_path_factory.mktemp("ee")
    image = shard(root / "s2_20240601.tif", DATA, 0, 0, nodata=0)
    geoml.predict({"model": threshold, "image": str(image), "scale": 1e-4, "block_size": 256}, root / "out")
    return root / "out"


ASKED = ("--bucket", "gs://maps/a", "--asset", "projects/mine/assets/map")


@prints("export earth-engine")
def test_a_run_is_one_image_of_earth_engine(said: Callable[..., str], run: Path, tmp_path: Path) -> None:
    told = said("export", "earth-engine", run, *ASKED, "--out", tmp_path / "up")
    count = len(list(run.glob("cogs/*")))
    assert count > 1
    (path,) = (tmp_path / "up").iterdir()
    assert rows(told)[path.name] == ["projects/mine/assets/map", "class confidence valid", str(3 * count)]
    assert told.splitlines()[-2:] == [
        f"gcloud storage rsync -r {run}/cogs gs://maps/a/cogs",
        f'for file in {tmp_path / "up"}/*.json; do earthengine upload image --manifest "$file"; done',
    ]
    manifest = json.loads(path.read_text())
    jsonschema.validate(manifest, IMAGE_MANIFEST)
    for tileset in manifest["tilesets"]:
        for source in tileset["sources"]:
            with rasterio.open(run / source["uris"][0].removeprefix("gs://maps/a/")) as file:
                band = next(b for b in manifest["bands"] if b["tilesetId"] == tileset["id"])
                assert band["missingData"]["values"] == [file.nodata]
    assert [b["pyramidingPolicy"] for b in manifest["bands"]] == ["MODE", "MEAN", "SAMPLE"]
    about = manifest["properties"]
    card = geoml.open(run).card
    assert isinstance(card, MapCard)
    assert about["class_class_values"] == [c.value for c in card.classes]
    assert about["class_class_names"] == [c.name for c in card.classes]
    assert about["class_class_palette"] == [c.color.removeprefix("#").lower() for c in card.classes]
    assert (about["model"], about["confidence_scale"]) == (card.name, 0.004)
    start, end = (datetime.fromisoformat(manifest[k]) for k in ("startTime", "endTime"))
    assert timedelta() < end - start < timedelta(seconds=1), "the end is exclusive"


def test_cogs_that_stay_where_they_are_are_an_image_each(said: Callable[..., str], run: Path, tmp_path: Path) -> None:
    told = said("export", "earth-engine", run, *ASKED, "--cogs", "--out", tmp_path / "up")
    blocks = sorted(p.name for p in run.glob("cogs/*"))
    made = {p.stem: json.loads(p.read_text()) for p in (tmp_path / "up").iterdir()}
    assert sorted(made) == blocks
    for name, manifest in made.items():
        jsonschema.validate(manifest, IMAGE_MANIFEST)
        assert manifest["name"] == f"projects/mine/assets/map/{name}"
        assert all(len(t["sources"]) == 1 for t in manifest["tilesets"]), "Earth Engine takes one COG for a band"
    assert "earthengine create collection projects/mine/assets/map\n" in told
    assert "earthengine upload external_image" in told


def test_a_run_over_two_zones_is_a_collection(said: Callable[..., str], threshold: str, tmp_path: Path) -> None:
    shard(tmp_path / "s2_20240601.tif", DATA, 0, 5_000, nodata=0)  # its middle lies 54° west
    said("catalogs", "new", tmp_path / "s2_20240601.tif", "--scale", "1e-4", "--out", tmp_path / "c")
    query = {
        "catalog": str(tmp_path / "c" / "catalog.yaml"),
        "bbox": (-54.05, 63.08, -53.95, 63.12),
        "datetime": "2024",
    }
    geoml.predict({"model": threshold, "query": query, "block_size": 512}, tmp_path / "out")
    told = said("export", "earth-engine", tmp_path / "out", *ASKED, "--out", tmp_path / "up")
    made = {p.name: json.loads(p.read_text()) for p in (tmp_path / "up").iterdir()}
    assert sorted(made) == ["32621-10.json", "32622-10.json"]
    for name, manifest in made.items():
        zone = name.removesuffix(".json")
        assert manifest["name"] == f"projects/mine/assets/map/{zone}"
        assert all(f"/cogs/{zone}_" in u for t in manifest["tilesets"] for s in t["sources"] for u in s["uris"])
    assert "earthengine create collection projects/mine/assets/map\n" in told


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--bucket", "s3://maps", "bucket: 's3://maps'; expected gs://NAME"),
        ("--bucket", "gs://maps/*", "bucket: "),
        ("--asset", "users/me/map", "asset: 'users/me/map'; expected projects/PROJECT/assets/NAME"),
        ("--asset", "projects/mine/assets/a b", "asset: "),
    ],
)
def test_names_that_earth_engine_refuses(
    cli: Cli, run: Path, tmp_path: Path, option: str, value: str, says: str
) -> None:
    found = cli("export", "earth-engine", run, *ASKED, option, value, "--out", tmp_path / "up")
    assert found.exit_code == 2
    assert says in found.output
    assert not (tmp_path / "up").exists()


def test_other_files_are_not_uploaded_by_the_way(cli: Cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    found = cli("export", "earth-engine", run, *ASKED, "--out", tmp_path)
    assert found.exit_code == 2
    assert "out: " in found.output
    assert "other.json" in found.output
