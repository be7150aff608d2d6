"""Monitoring against a reference: a change that is seen again keeps its id, one that is gone is closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest

from geoml import pipeline, testing
from geoml.engine.packages import calibrate, package
from geoml.errors import InputError, NothingFound
from geoml.recipe import PredictRecipe
from tests.e2e.old_series import made_old

REFERENCE = testing.Scene(
    id="reference", data=testing.smooth((2, 300, 300), seed=5), bands=("red", "nir"), datetime="2020-06-01T12:00:00Z"
)
PATCHES = {"a": (slice(40, 90), slice(60, 120)), "b": (slice(180, 240), slice(150, 230))}


def day(date: str, patches: str, seed: int) -> testing.Scene:
    data = REFERENCE.data + np.random.default_rng(seed).normal(0, 20, REFERENCE.data.shape)
    for name in patches:
        here = (slice(None), *PATCHES[name])
        data[here] = np.where(data[here] < 3000, data[here] + 3500, data[here] - 2500)
    return replace(REFERENCE, id=f"of-{date}", data=data.clip(1).astype(np.uint16), datetime=f"{date}T12:00:00Z")


DAYS = [day("2024-06-01", "a", 1), day("2024-06-03", "ab", 2), day("2024-06-05", "b", 3)]


@pytest.fixture(scope="module")
def cva(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model") / "cva"
    made = calibrate.new("cva", ("red", "nir"), 10.0)
    package.save(made.module, made.card, folder)
    return str(folder)


def look(folder: Path, model: str, scenes: Sequence[testing.Scene], reference: str = "2020") -> list[dict[str, Any]]:
    catalog = testing.write_catalog(folder / "made", [REFERENCE, *scenes])
    query = {"catalog": str(catalog), "datetime": [reference, ".."], "bbox": list(REFERENCE.bbox(inner=0.05))}
    recipe = {"model": model, "query": query, "block_size": 256, "min_area": 5000.0}
    return pipeline.monitor(recipe, folder / "out", lookback=10, until="2024-06-07")


def test_changes_are_followed_from_day_to_day(cva: str, tmp_path: Path) -> None:
    rows = look(tmp_path, cva, DAYS[:1])
    assert [(r["item"], r["change"]) for r in rows] == [("of-2024-06-01", "new")]
    first = geopandas.read_parquet(tmp_path / "out" / "tracks.parquet")
    assert len(first) == 1
    look(tmp_path, cva, DAYS[:2])
    look(tmp_path, cva, DAYS)
    tracks = geopandas.read_parquet(tmp_path / "out" / "tracks.parquet").sort_values("first_seen", ignore_index=True)
    assert tracks["id"][0] == first["id"][0]
    assert tracks["first_seen"].dt.strftime("%d").tolist() == ["01", "03"]
    assert tracks["last_seen"].dt.strftime("%d").tolist() == ["03", "05"]
    assert tracks["closed"][0] == pd.Timestamp("2024-06-05", tz="UTC")
    assert pd.isna(tracks["closed"][1])
    np.testing.assert_allclose(tracks["area_m2"], [300_000, 480_000], rtol=0.05)
    seen = geopandas.read_parquet(tmp_path / "out" / "features.parquet").sort_values("after_start", ignore_index=True)
    a, b = tracks["id"]
    assert [set(ids) for _, ids in seen.groupby("after_start")["id"]] == [{a}, {a, b}, {b}]
    assert set(seen["before_items"].map(tuple)) == {("reference",)}
    with pytest.raises(NothingFound, match="nothing new"):
        look(tmp_path, cva, DAYS)


def told(out: Path) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """The tracks of a series, and the ids of the features of each day."""
    tracks = geopandas.read_parquet(out / "tracks.parquet").drop(columns="bbox", errors="ignore").sort_values("id")
    parts = {p.stem: list(geopandas.read_parquet(p)["id"]) for p in (out / "features.parquet").glob("*.parquet")}
    return tracks.to_wkb().astype(object).where(tracks.notna(), None).to_dict("records"), parts


@pytest.mark.slow
def test_over_months_told_night_by_night_or_with_a_late_day_it_is_one_history(cva: str, tmp_path: Path) -> None:
    days = [day("2024-05-30", "a", 1), day("2024-06-03", "ab", 2), day("2024-06-05", "b", 3)]
    nightly, late = tmp_path / "nightly", tmp_path / "late"
    for count in (1, 2, 3):
        look(nightly, cva, days[:count])
    look(late, cva, days[1:])
    first = told(late / "out")
    look(late, cva, days)
    whole = told(nightly / "out")
    assert told(late / "out") == whole
    assert first[1]["2024-06-03"] != whole[1]["2024-06-03"], "the change was seen first on the day that came late"
    assert {p.stem for p in (nightly / "out" / "tracks.parquet").iterdir()} == {"2024-05", "2024-06", "open"}
    assert [str(t["closed"])[:10] for t in whole[0] if t["closed"]] == ["2024-06-05"]
    made_old(nightly / "out")
    with pytest.raises(NothingFound, match="nothing new"):
        look(nightly, cva, days)
    assert told(nightly / "out") == whole
    assert len(list((nightly / "out" / ".geoml" / "tracks").iterdir())) == 2


def test_a_reference_is_needed_and_lies_before(cva: str, tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [REFERENCE, *DAYS])
    query = {"catalog": str(catalog), "datetime": [".."], "bbox": list(REFERENCE.bbox())}
    with pytest.raises(InputError, match="takes 2 dates; expected the earlier date"):
        pipeline.monitor({"model": cva, "query": query}, tmp_path / "out", until="2024-06-07")
    rows = look(tmp_path, cva, DAYS, reference="2024-06-01/2024-06-02")
    assert {r["item"] for r in rows} == {"of-2024-06-03", "of-2024-06-05"}, "days of the reference are not compared"


def test_a_day_without_change_is_told(cva: str, tmp_path: Path) -> None:
    """The model splits every pair; the state of the flow is made of these words."""
    catalog = testing.write_catalog(tmp_path / "made", [REFERENCE, day("2024-06-01", "", 1), DAYS[1]])
    query = {"catalog": str(catalog), "datetime": ["2020", ".."], "bbox": list(REFERENCE.bbox(inner=0.05))}
    recipe = PredictRecipe.model_validate({"model": cva, "query": query})
    found = pipeline.scan(recipe, tmp_path / "out", lookback=10, until="2024-06-07")
    for date in found.todo:
        pipeline.do_day(tmp_path / "out", found, date, lambda place, ids: [pipeline.run_blocks(place, ids)])
    assert found.failed == {}
    (words,) = found.warnings
    assert words.startswith("2024-06-01: cva: the magnitude of change has one mode")
