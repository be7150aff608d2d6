"""Forecasts again and again: late, broken and corrected frames, kills at random, versions, and what came true."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import yaml

from geoml import pipeline
from geoml.errors import DataError, InputError, NothingFound
from geoml.forecasting import steps
from geoml.forecasting.cycles.folder import Cycle, begun, issued
from geoml.forecasting.cycles.scores import summary
from geoml.forecasting.grids.used import UsedSteps
from geoml.forecasting.recipe import CycleRecipe
from geoml.io.tables.durations import StepDuration
from geoml.recipe import Query
from geoml.testing.radar import showers, time_of, write_radar
from tests.e2e.printed import Cli, prints, rows, wide

__all__ = ["wide"]  # a fixture

SHAPE = (48, 64)
LEADS = ("PT5M", "PT10M")
FIRST = 3
"""The first reference time: as many steps before it as the model sees."""


def name_of(step: int) -> str:
    return f"rain-{pd.Timestamp(time_of(step)):%Y%m%d%H%M}.tif"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All frames as they should be, and in ``odd`` what else arrives; the YAML file is beside it."""
    folder = tmp_path_factory.mktemp("radar") / "whole"
    path = write_radar(folder, showers(range(FIRST + 25), SHAPE))
    spec = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**spec, "files": "**/rain-*.tif"}))
    odd = folder.with_name("odd")
    odd.mkdir()
    for step in range(FIRST + 25):
        source = folder / name_of(step)
        (odd / f"cut-{step}").write_bytes(source.read_bytes()[:-2000])
        for kind in ("unit", "other"):
            shutil.copy(source, odd / f"{kind}-{step}")
        with rasterio.open(odd / f"unit-{step}", "r+") as file:
            file.units = ("dBZ",)
        with rasterio.open(odd / f"other-{step}", "r+") as file:
            file.write(file.read() + np.float32(1))
    return folder


@pytest.fixture
def rain(tmp_path: Path) -> Path:
    (tmp_path / "rain").mkdir()
    return tmp_path / "rain"


def recipe(whole: Path, cube: Path, **more: Any) -> dict[str, Any]:
    given = {"model": "advection", "cube": str(cube), "reads": str(whole.with_suffix(".yaml")), "leads": LEADS}
    return {**given, "block_size": 256, "since": time_of(FIRST), **more}


def put(whole: Path, rain: Path, *frames: int) -> None:
    for step in frames:
        shutil.copy(whole / name_of(step), rain / name_of(step))


def look(given: dict[str, Any], out: Path) -> Any:
    """One look; what it found."""
    asked = CycleRecipe.model_validate(given)
    with pipeline.locked(out):
        found = steps.look(asked, out)
        for cycle in found.todo:
            steps.issue(asked, found, cycle, pipeline.predict)
        steps.settle(asked, found)
    found.verdict()
    return found


def newest(out: Path) -> dict[str, Cycle]:
    """The newest issue of each reference time."""
    return {cycle.name[:16]: cycle for cycle in begun(out) if issued(out, cycle) is not None}


def values_of(out: Path, cycle: Cycle) -> dict[str, bytes]:
    place = cycle.within(out)
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in sorted(place.glob("cogs/*/*.tif"))}


OWN = ("version", "geoml:recipe_hash", "processing:software")
"""Properties that tell of the folder or the issue."""


def said_of(out: Path, cycle: Cycle) -> list[Any]:
    """What items say of values, times and places."""
    found = []
    for path in sorted((cycle.within(out) / "items").glob("*.json")):
        item = json.loads(path.read_text())
        properties = {k: v for k, v in item["properties"].items() if k not in OWN}
        found.append([item["id"], item["geometry"], properties, item["assets"]])
    return found


def running(out: Path) -> pd.DataFrame:
    return pq.read_table(out / "verification.parquet").to_pandas()


def current(out: Path) -> pd.DataFrame:
    kept = running(out)
    kept = kept[kept.version == kept.groupby("reference_time").version.transform("max")]
    return kept.drop(columns="version").reset_index(drop=True)


def same_end(out: Path, clean: Path) -> None:
    """The newest issues, their items and what came true are those of another folder."""
    mine, theirs = newest(out), newest(clean)
    assert mine.keys() == theirs.keys()
    for name, cycle in mine.items():
        assert values_of(out, cycle) == values_of(clean, theirs[name]) != {}, name
        assert said_of(out, cycle) == said_of(clean, theirs[name]), name
    pd.testing.assert_frame_equal(current(out), current(clean), check_exact=True)
    assert summary(out) == summary(clean)
    for folder in (out, clean):
        told = json.loads((folder / "days/2024-06-01/catalog.json").read_text())
        links = {link["href"][2:-5] for link in told["links"] if link["rel"] == "item"}
        assert links == {
            f"{cycle.name}-{path.stem}" for cycle in begun(folder) for path in cycle.within(folder).glob("items/*.json")
        }
        items = [json.loads((folder / f"days/2024-06-01/{name}.json").read_text())["properties"] for name in links]
        assert sum("deprecated" not in item for item in items) == sum(
            len(said_of(folder, c)) for c in newest(folder).values()
        )
    key = ["reference_time", "version", "lead"]
    assert not running(out).duplicated(key).any()


# late by three steps, twice the same, in another unit, cut short, twice but different: what arrives before each look
ODD: dict[int, list[list[str]]] = {
    8: [],
    11: [[name_of(8), name_of(8)], [name_of(11), name_of(11)]],
    12: [[name_of(12), name_of(12)], [name_of(12), f"again/{name_of(12)}"]],
    15: [["../odd/unit-15", name_of(15)]],
    17: [[name_of(15), name_of(15)], [name_of(17), name_of(17)]],
    18: [["../odd/cut-18", name_of(18)]],
    19: [[name_of(18), name_of(18)], [name_of(19), name_of(19)]],
    21: [[name_of(21), name_of(21)], ["../odd/other-21", f"other/{name_of(21)}"]],
    23: [["", f"other/{name_of(21)}"], [name_of(23), name_of(23)]],
}
AGAIN = {9, 10, 16, 22}
"""Cycles that are issued twice: their history was without the odd frame at first."""


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has threads of libraries only on Linux")
@pytest.mark.slow
def test_cycles_that_are_killed_and_get_odd_frames_end_as_clean_ones(whole: Path, rain: Path, tmp_path: Path) -> None:
    looks = [[[name_of(n), name_of(n)] for n in range(FIRST + 1)]]
    looks += [ODD.get(n, [[name_of(n), name_of(n)]]) for n in range(FIRST + 1, FIRST + 25)]
    given = {"root": str(tmp_path), "whole": str(whole), "recipe": recipe(whole, rain), "looks": looks}
    command = [sys.executable, str(Path(__file__).with_name("cycles_killing.py"))]
    ended = subprocess.run(
        [*command, json.dumps({**given, "seed": 1, "share": 0.6, "longest": 1.0})],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert json.loads(ended.stdout)["kills"] >= 10
    out, clean = tmp_path / "out", tmp_path / "clean"
    assert [c.version for c in begun(clean)] == [1] * 25
    assert {c.name[:16] for c in begun(out) if c.version == 2} == {
        Cycle(pd.Timestamp(time_of(n)).to_pydatetime()).name for n in AGAIN
    }
    assert max(c.version for c in begun(out)) == 2
    same_end(out, clean)
    deprecated = [c for c in begun(out) if "superseded_by" in (issued(out, c) or {})]
    assert len(deprecated) == len(AGAIN)


def test_late_and_corrected_frames_issue_a_cycle_again(
    whole: Path, rain: Path, tmp_path: Path, stac_schemas: Any
) -> None:
    out, given = tmp_path / "out", recipe(whole, rain)
    put(whole, rain, 0, 1, 3)
    shutil.copy(whole.with_name("odd") / "unit-2", rain / name_of(2))
    first = look(given, out)
    (cycle,) = first.issued
    assert first.issued[cycle]["missing"] == [time_of(2)]
    assert "its unit is 'dBZ'" in first.issued[cycle]["left_out"][name_of(2)]
    before = values_of(out, cycle)
    put(whole, rain, 2)
    again = look(given, out)
    (second,) = again.issued
    assert (second.reference, second.version) == (cycle.reference, 2)
    assert values_of(out, cycle) == before != values_of(out, second)
    for folder, names in {
        "cycles/{}/items": sorted(p.name for p in (cycle.within(out) / "items").iterdir()),
        "days/2024-06-01": sorted(p.name[16:] for p in (out / "days/2024-06-01").glob(f"{cycle.name}-30*.json")),
    }.items():
        assert names
        for name in names:
            paths = [
                out / folder.format(c.name) / (name if "{}" in folder else f"{c.name}{name}") for c in (cycle, second)
            ]
            gone, here = (json.loads(path.read_text()) for path in paths)
            assert gone["properties"]["deprecated"]
            assert (gone["properties"]["version"], here["properties"]["version"]) == ("1", "2")
            assert "deprecated" not in here["properties"]
            assert linked(paths[0], gone, "successor-version") == paths[1]
            assert linked(paths[1], here, "predecessor-version") == paths[0]
            for path, item in zip(paths, (gone, here), strict=True):
                assert sum("version" in uri or "forecast" in uri for uri in stac_schemas.validate(item)) == 2
                assert all((path.parent / asset["href"]).is_file() for asset in item["assets"].values())
    for path in (*out.glob("cycles/*/collection.json"), out / "collection.json", out / "days/2024-06-01/catalog.json"):
        stac_schemas.validate(json.loads(path.read_text()))
    query = {"catalog": str(out / "collection.json"), "bbox": [-180, -90, 180, 90], "datetime": [time_of(4)]}
    ids = {item.id[:19] for item in pipeline.search(Query.model_validate(query))}
    assert ids == {"20240601T121500Z-30", "20240601T121500Z-v2"}
    with pytest.raises(NothingFound, match="nothing new: the newest step is of 2024-06-01T12:15:00Z"):
        look(given, out)
    with rasterio.open(rain / name_of(3), "r+") as file:
        file.write(file.read() * np.float32(0.5))
    third = look(given, out)
    assert [c.version for c in third.issued] == [3]
    assert [c.version for c in newest(out).values()] == [3]


def linked(path: Path, item: dict[str, Any], rel: str) -> Path:
    """Where the one link of a kind leads."""
    (href,) = (link["href"] for link in item["links"] if link["rel"] == rel)
    return (path.parent / href).resolve()


def tree(out: Path) -> dict[str, int]:
    return {p.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def test_what_came_true_is_kept_for_all_cycles_and_looked_up_once(whole: Path, rain: Path, tmp_path: Path) -> None:
    out, given = tmp_path / "out", recipe(whole, rain)
    put(whole, rain, *range(5))
    look(given, out)
    kept = running(out)
    assert kept.lead.tolist() == ["PT5M"]  # of the first cycle, at the second
    put(whole, rain, 5)
    look(given, out)
    kept = running(out)
    assert [(f"{r.reference_time:%H%M}", r.lead) for r in kept.itertuples()] == [
        ("1215", "PT5M"), ("1215", "PT10M"), ("1220", "PT5M")
    ]  # fmt: skip
    assert (kept.best == "persistence").all()
    np.testing.assert_allclose(kept.skill, 1 - kept.mae / kept.best_mae)
    assert (kept.skill > 0.4).all()
    by_hand = {row["lead"]: row for row in steps.verify(out / "cycles" / "20240601T121500Z")}
    assert kept.mae[1] == by_hand["PT10M"]["mae"]
    before = tree(out)
    with pytest.raises(NothingFound, match="nothing new"):
        look(given, out)
    assert tree(out) == before


def test_stale_data_is_refused_or_its_age_is_said(whole: Path, rain: Path, tmp_path: Path) -> None:
    put(whole, rain, *range(5))
    put(whole, rain, 20)  # of a clock that is wrong
    given = recipe(whole, rain, until=time_of(8), max_age="PT20M", since=None)
    found = look(given, tmp_path / "out")
    assert [c.name for c in found.issued] == ["20240601T122000Z"]
    (about,) = found.issued.values()
    assert about["age_seconds"] == found.age.total_seconds() == 20 * 60
    run = json.loads((tmp_path / "out/cycles/20240601T122000Z/run.json").read_text())
    assert run["cycle"] == about
    shutil.copy(whole.with_name("odd") / "unit-5", rain / name_of(5))
    with pytest.raises(DataError, match=r"max_age: .* 25 minutes old; .*left out: rain-202406011225.tif: its unit is"):
        look({**given, "until": "2024-06-01T12:45:00Z"}, tmp_path / "late")
    with pytest.raises(NothingFound, match="is known by 2024-06-01T11:00:00Z"):
        look({**given, "until": "2024-06-01T11:00:00Z"}, tmp_path / "early")


def test_what_does_not_fit_is_refused(whole: Path, rain: Path, tmp_path: Path) -> None:
    put(whole, rain, *range(4))
    out, given = tmp_path / "out", recipe(whole, rain, model="persistence")
    look(given, out)
    with pytest.raises(InputError, match="contains cycles of a different recipe: leads is"):
        look({**given, "leads": ["PT10M"]}, out)
    with pytest.raises(InputError, match="is a bucket"):
        steps.look(CycleRecipe.model_validate(given), "s3://bucket/cycles")
    with pytest.raises(InputError, match="every: PT7M is not a multiple of the step"):
        look({**given, "every": "PT7M"}, tmp_path / "every")
    for name, value in {"since": "noon", "reissue": "6 hours", "max_age": "P0D"}.items():
        with pytest.raises(ValueError, match=name):
            CycleRecipe.model_validate({**given, name: value})
    asked = CycleRecipe.model_validate({**given, "every": "PT10M", "since": time_of(1), "reissue": "PT5M"})
    assert [f"{c.reference:%H%M}" for c in steps.look(asked, tmp_path / "two").todo] == ["1205", "1215"]


def test_only_reference_times_whose_history_was_read_count(whole: Path, rain: Path) -> None:
    """A broken file may have a far later name than the newest one that counts, so that less before it is read."""
    put(whole, rain, *range(7))
    (rain / name_of(12)).write_bytes(b"broken")
    times = [pd.Timestamp(time_of(n)).to_pydatetime() for n in range(13)]
    asked, back = CycleRecipe.model_validate(recipe(whole, rain)), StepDuration.parse("PT15M")
    used = UsedSteps(asked, times[12], times[6], back, {})
    assert (used.newest, used.references) == (times[6], (times[6],))
    assert used.missing(times[6]) == []
    (rain / name_of(12)).unlink()
    assert UsedSteps(asked, times[12], times[6], back, {}).references == tuple(times[3:7])


def test_a_cycle_of_which_nothing_can_be_said_stops_no_other(whole: Path, rain: Path, tmp_path: Path) -> None:
    put(whole, rain, 0, 5, 6)
    out, given = tmp_path / "out", recipe(whole, rain, since=time_of(0))
    found = look(given, out)
    assert {c.name for c in found.issued} == {"20240601T123000Z"}
    assert found.unsaid.keys() == {"20240601T120000Z", "20240601T122500Z"}
    assert any("20240601T120000Z is not forecast" in words for words in found.warnings())


@prints("cycles")
def test_what_is_printed(cli: Cli, whole: Path, rain: Path, tmp_path: Path) -> None:
    put(whole, rain, 0, 1, 3)
    words = (
        "cycles", "--model", "advection", "--cube", rain, "--reads", whole.with_suffix(".yaml"), "--leads", "PT5M",
        "--since", time_of(FIRST), "--block-size", "256", "--out", tmp_path / "out",
    )  # fmt: skip
    told = cli(*words)
    assert told.exit_code == 0, told.output
    assert f"20240601T121500Z: issued; without {time_of(2)}" in told.output
    assert "1 issued; the newest step is of 2024-06-01T12:15:00Z" in told.output
    put(whole, rain, 2, 4)
    told = cli(*words)
    assert "20240601T121500Z-v2: issued again, version 2, for its data have changed" in told.output
    assert "1 issued, 1 issued again; the newest step is of 2024-06-01T12:20:00Z" in told.output
    assert rows(told.output)["PT5M"][0] == "1"
    assert cli(*words).exit_code == NothingFound.exit_code


def test_tables_have_cycles_too(tmp_path: Path, conforms: Callable[[Path], bool], stac_schemas: Any) -> None:
    times = pd.date_range("2024-06-01", periods=60, freq="h", tz="UTC")
    places = {"a": (5.0, 52.0), "b": (6.0, 53.0)}
    frame = pd.DataFrame(
        [
            {"station": name, "time": t, "lon": lon, "lat": lat, "pm": 10 + np.sin(k / 4) + len(name)}
            for name, (lon, lat) in places.items()
            for k, t in enumerate(times)
        ]
    )
    path, out = tmp_path / "hourly.parquet", tmp_path / "out"
    late = (frame.station == "b") & (frame.time == times[56])
    frame[(frame.time <= times[57]) & ~late].to_parquet(path)
    given = {
        "model": "damped", "table": str(path), "variable": "pm", "step": "PT1H", "leads": ["PT1H", "PT2H"],
        "since": times[56].isoformat(), "history": 6,
    }  # fmt: skip
    assert [c.version for c in look(given, out).issued] == [1, 1]
    frame[frame.time <= times[57]].to_parquet(path)
    assert [c.version for c in look(given, out).issued] == [2, 2]
    frame.to_parquet(path)
    assert [c.version for c in look(given, out).issued] == [1, 1]
    kept = running(out)
    assert len(kept) == len(kept.drop_duplicates(["reference_time", "version", "lead"])) == 9
    place = out / "cycles" / "20240603T080000Z-v2"
    written = pq.read_table(place / "rows.parquet").to_pandas()
    assert set(written.version) == {2}
    assert written.observed.notna().all()
    assert conforms(place / "rows.parquet")
    (item,) = (json.loads(p.read_text()) for p in (place / "items").glob("*.json"))
    assert any("forecast/v0.2.0" in uri for uri in stac_schemas.validate(item))
    stac_schemas.validate(json.loads((place / "collection.json").read_text()))
    old = json.loads(next((out / "cycles" / "20240603T080000Z" / "items").glob("*.json")).read_text())
    assert old["properties"]["deprecated"]
    with pytest.raises(NothingFound, match="nothing new"):
        look(given, out)
