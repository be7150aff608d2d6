"""Objects over days: one that is seen again keeps its id, one that is gone is closed, one under a cloud is neither."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from numpy.typing import NDArray

from geoml import pipeline, testing
from geoml.errors import NothingFound
from geoml.testing.objects import RECTANGLES, rectangles
from geoml.vector.boxes import overlapping
from tests.e2e.learnt_rectangles import BANDS, SIDES
from tests.e2e.test_monitor_days import Killed, dying

pytestmark = pytest.mark.slow  # a network learns for a minute

IMAGE, BOXES = rectangles((300, 340), 40, seed=91, sides=SIDES, touching=0.0)
GROUND = testing.smooth((2, 300, 340), seed=91, cell=12, low=1000, high=2600)
"""The image without its objects."""
SCENE = testing.Scene(id="scene", data=IMAGE, bands=BANDS, scale=1.0)
GONE, CLOUDED, NEW = 4, 9, 14
"""Rows of `BOXES`: one goes on the third day, one has a cloud on the second, one comes on the last."""


@dataclass
class Region:
    """Days of one region, and a monitor over them."""

    folder: Path
    model: Path
    scenes: list[testing.Scene]

    def look(self, name: str, days: int | None = None, block_size: int = 128) -> Path:
        """Look at the first days; a night that finds nothing new is one too."""
        with suppress(NothingFound):
            pipeline.monitor(self.recipe(days, block_size), self.folder / name, lookback=40, until="2024-07-01")
        return self.folder / name

    def recipe(self, days: int | None = None, block_size: int = 128) -> dict[str, Any]:
        made = self.folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        catalog = testing.write_catalog(made, self.scenes[:days])
        query = {"catalog": str(catalog), "datetime": [".."], "bbox": list(SCENE.bbox())}
        return {"model": str(self.model), "query": query, "block_size": block_size}


def day(n: int, last: int) -> testing.Scene:
    image = IMAGE + np.random.default_rng(n).normal(0, 25, IMAGE.shape)
    for row, hidden in ((GONE, n >= 2), (NEW, n < last)):
        if hidden:
            _, top, left, bottom, right = BOXES[row]
            image[:, top:bottom, left:right] = GROUND[:, top:bottom, left:right]
    if n == 1:
        _, top, left, bottom, right = BOXES[CLOUDED]
        image[:, max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = 0
    data = np.where(image == 0, 0, image.clip(1)).astype(np.uint16)
    return replace(
        SCENE,
        id=f"day-{n}",
        data=data,
        datetime=f"2024-05-{30 + n}T12:00:00Z" if n < 2 else f"2024-06-{n - 1:02}T12:00:00Z",
    )


def recalls(model: Path) -> dict[int, float]:
    record = json.loads((model / "model.json").read_text())["properties"]["geoml:detection"]["classes"]
    return {k: record[name]["hits"] / record[name]["truth"] for k, name in enumerate(RECTANGLES)}


@pytest.fixture
def region(tmp_path: Path, detector: Path) -> Region:
    """As many days as it takes to be sure that the object which went on the third is gone, and one more."""
    miss = 1 - recalls(detector)[int(BOXES[GONE, 0])]
    last = 2 + len(list(takewhile(lambda n: miss**n >= 0.05, count(1))))
    assert last < 12
    return Region(tmp_path, detector, [day(n, last) for n in range(last + 1)])


def tracks_of(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "tracks.parquet").iterdir())}


def ids_of(out: Path, days: int) -> list[dict[int, str]]:
    """The id that each true object (row of `BOXES`) has on each day on which it was found."""
    corner, found = SCENE.window, []
    for file in sorted((out / "features.parquet").iterdir()):
        frame = geopandas.read_parquet(file)
        left, bottom, right, top = frame.geometry.to_crs(SCENE.crs).bounds.to_numpy().T / SCENE.res
        boxes: NDArray[np.float64] = np.column_stack(
            [-top - corner.y0, left - corner.x0, -bottom - corner.y0, right - corner.x0]
        )
        i, j, _ = overlapping(boxes, BOXES[:, 1:].astype(float), 0.5)
        same = frame["class"].to_numpy()[i] == BOXES[j, 0]
        assert frame["id"].is_unique
        found.append(dict(zip(j[same].tolist(), frame["id"].to_numpy()[i[same]].tolist(), strict=True)))
    assert len(found) == days
    return found


def test_what_stays_keeps_its_id_and_what_is_gone_is_closed(region: Region, detector: Path) -> None:
    out, days = region.look("out"), len(region.scenes)
    tracks, seen = geopandas.read_parquet(out / "tracks.parquet").set_index("id"), ids_of(out, days)
    assert tracks.index.is_unique
    of_object = {row: {ids[row] for ids in seen if row in ids} for row in range(len(BOXES))}
    stays = [row for row in range(len(BOXES)) if row not in (GONE, NEW) and row in seen[0] and row in seen[-1]]
    assert len(stays) > 0.8 * len(BOXES)
    assert sum(len(of_object[row]) == 1 for row in stays) > 0.95 * len(stays)
    for row in (GONE, CLOUDED):
        assert row in seen[0]
        assert row not in seen[2 if row == GONE else 1]

    gone = tracks.loc[seen[0][GONE]]
    recall = recalls(detector)[int(BOXES[GONE, 0])]
    assert gone["state"] == "closed"
    assert gone["misses"] == days - 2
    assert gone["looks"] == days
    assert gone["sightings"] == 2
    assert gone["missed_chance"] == pytest.approx((1 - recall) ** (days - 2))
    assert gone["missed_chance"] < 0.05
    assert str(gone["last_seen"])[:10] == "2024-05-31"
    assert str(gone["closed"])[:10] == region.scenes[-1].datetime[:10]

    clouded = tracks.loc[seen[0][CLOUDED]]
    assert seen[2][CLOUDED] == clouded.name
    assert clouded["state"] == "open"
    assert clouded["looks"] == clouded["sightings"] == days - 1, "a cloud is not a look"
    assert clouded["misses"] == 0
    assert str(clouded["first_seen"])[:10] == "2024-05-30"

    new = tracks.loc[seen[-1][NEW]]
    assert (new["sightings"], new["looks"], new["state"]) == (1, 1, "open")
    assert str(new["first_seen"])[:10] == region.scenes[-1].datetime[:10]
    assert set().union(*(ids.values() for ids in seen)) <= set(tracks.index)


def test_the_same_tracks_night_by_night_killed_and_of_any_blocks(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tracks_of(region.look("whole"))
    assert {"2024-05.parquet", "2024-06.parquet", "open.parquet"} == whole.keys()
    assert tracks_of(region.look("large", block_size=512)) == whole
    for n in range(1, len(region.scenes) + 1):
        nightly = region.look("nightly", n)
    assert tracks_of(nightly) == whole
    before = {p: p.stat().st_mtime_ns for p in (nightly / "tracks.parquet").iterdir()}
    region.look("nightly")
    assert {p: p.stat().st_mtime_ns for p in (nightly / "tracks.parquet").iterdir()} == before
    original = region.scenes[1]
    region.scenes[1] = replace(original, properties={"updated": "2024-06-20T08:00:00Z"})
    assert tracks_of(region.look("nightly")) == whole, "a day that is done again is no second look"

    recipe, out = region.recipe(), region.folder / "killed"
    script = (
        "import json, sys; from geoml import pipeline;"
        "pipeline.monitor(json.loads(sys.argv[1]), sys.argv[2], lookback=40, until='2024-07-01')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, json.dumps(recipe), str(out)], env={**os.environ})
    ends = time.monotonic() + 300
    while len(list(out.glob("days/*/items/*.json"))) < 14:
        assert process.poll() is None, "the night ended before it could be killed"
        assert time.monotonic() < ends
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "tracks.parquet").exists()
    assert tracks_of(region.look("killed")) == whole

    recipe = pipeline.parse(pipeline.PredictRecipe, region.recipe(), "test")
    start, out = region.folder / "start", region.folder / "dying"
    with pipeline.locked(out):
        found = pipeline.scan(recipe, out, lookback=40, until="2024-07-01")
        for date in found.todo:
            pipeline.do_day(out, found, date, pipeline.run_all)
    out.rename(start)
    for at in range(1, 200, 7):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(start, out)
        with monkeypatch.context() as patch:
            dying(patch, at, lambda: None)
            try:
                pipeline.gather(out, deepcopy(found))
                break
            except Killed:
                pass
        assert tracks_of(region.look("dying")) == whole, at
    assert at > 12, "so many files are written"


def test_without_a_record_nothing_closes_and_that_is_said_once(
    region: Region, caplog: pytest.LogCaptureFixture
) -> None:
    bare = region.folder / "bare"
    shutil.copytree(region.model, bare)
    card = json.loads((bare / "model.json").read_text())
    del card["properties"]["geoml:detection"]
    (bare / "model.json").write_text(json.dumps(card))
    region.model = bare
    recipe, out = pipeline.parse(pipeline.PredictRecipe, region.recipe(), "test"), region.folder / "out"
    with pipeline.locked(out):
        found = pipeline.scan(recipe, out, lookback=40, until="2024-07-01")
        for date in found.todo:
            pipeline.do_day(out, found, date, pipeline.run_all)
        pipeline.gather(out, found)
    said = [r.message for r in caplog.records if "tracks of them stay open" in r.message]
    assert said == [w for w in found.warnings if "stay open" in w], "the state of the flow is made of these words"
    assert said == ["rectangles: the recall of roof, field is not known, so tracks of them stay open"]
    tracks, first = geopandas.read_parquet(out / "tracks.parquet").set_index("id"), ids_of(out, len(region.scenes))[0]
    assert set(tracks["state"]) == {"open"}
    assert tracks["missed_chance"].isna().all()
    assert tracks.loc[first[GONE], "misses"] == len(region.scenes) - 2
