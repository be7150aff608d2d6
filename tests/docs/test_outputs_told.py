"""The tables of docs/outputs.md and docs/geolocate.md against what a run really writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import geoml
from geoml import testing
from geoml.cube.domain import fit
from geoml.testing import pictures as photos
from tests.docs.test_claims import names, table

PAGE = "docs/outputs.md"
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 150, 150), seed=5), bands=("red", "nir"))
LATER = testing.Scene(
    id="later", data=testing.smooth((2, 150, 150), seed=6), bands=("red", "nir"), datetime="2025-06-01T00:00:00Z"
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``one``: a map with everything; ``two``: of two dates; ``places.parquet``: pictures."""
    root = tmp_path_factory.mktemp("told")
    catalog = testing.write_catalog(root / "made", [SCENE, LATER])
    seen = np.random.default_rng(0).random((500, 2))
    testing.threshold_model(root / "model", ("red", "nir"), (0.20005, 0.40005), domain=fit(seen, seen))
    query = {"catalog": str(catalog), "bbox": SCENE.bbox()}
    formats = ["gpkg", "fgb"]
    one = {
        "model": str(root / "model"),
        "probabilities": True,
        "features_format": formats,
        "query": {**query, "datetime": ["2024"]},
    }
    two = {"model": "ndvi-difference", "query": {**query, "datetime": ["2024", "2025"]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_PRECISION", "fp32")
        geoml.predict(one, root / "one")
        geoml.predict(two, root / "two")
    photos.made_locator(root / "locator")
    geoml.geolocate([str(photos.folder(root / "in", 2))], root / "locator", root / "places.parquet")
    return root


def told(heading: str, page: str = PAGE) -> set[str]:
    return {n for row in table(page, heading) for n in names(row[0])}


def test_files(runs: Path) -> None:
    rows = told("A run of `geoml predict`")
    for name in ("one", "two"):
        there = {str(p.relative_to(runs / name)) for p in (runs / name).rglob("*") if p.is_file()}
        plain = {as_told(p) for p in there if not p.startswith(".")}
        written = {p for p in plain if not p.endswith(("score.tif", "before.png"))}
        assert written <= rows, name
    assert rows - {".geoml/"} <= {as_told(str(p.relative_to(runs / "one"))) for p in (runs / "one").rglob("*")}


def as_told(path: str) -> str:
    """The name of a file with BLOCK for its block and KEY for its layer."""
    named = re.sub(r"(cogs|items)/[^/]+?(/|\.json$)", r"\1/BLOCK\2", path)
    return re.sub(r"layers/\w+\.", "layers/KEY.", named)


def test_columns_of_features(runs: Path) -> None:
    one = set(pq.read_schema(runs / "one" / "features.parquet").names)
    assert one == told("## features.parquet")
    times = {"datetime", "start_datetime", "end_datetime"}
    two = set(pq.read_schema(runs / "two" / "features.parquet").names)
    assert two == (one - times) | told("For a change model, each row is one change")


def test_run_json(runs: Path) -> None:
    rows = told("## run.json")
    assert set(json.loads((runs / "one" / "run.json").read_text())) == rows - {"self_change", "pyramid"}
    assert set(json.loads((runs / "two" / "run.json").read_text())) == rows - {"pyramid"}


def test_items(runs: Path) -> None:
    known, every = told("## Items"), set()
    for name in ("one", "two"):
        for path in (runs / name / "items").glob("*.json"):
            item = json.loads(path.read_text())
            mine = {k for k in item["properties"] if k.startswith(("geoml:", "proj:", "processing:"))}
            assert mine <= known | {"processing:datetime"}, path.name
            every |= mine
    assert {k for k in known if k.startswith("geoml:")} <= every


def test_columns_of_places(runs: Path) -> None:
    columns = set(pq.read_schema(runs / "places.parquet").names)
    rows = told("GeoParquet 1.1, points", "docs/geolocate.md")
    spans = {c for c in columns if re.fullmatch(r"p_within_[\d.]+km", c)}
    assert columns - spans - {"bbox"} == rows - {"p_within_1km", "p_within_2500km"} - VALUES
    assert {"p_within_1km", "p_within_2500km"} <= spans


VALUES: set[str] = set()
"""Names in the first column that are no columns."""
