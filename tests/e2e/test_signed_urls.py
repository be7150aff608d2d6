"""URLs of a run that are signed for a day: the server takes today's signature alone, and no file keeps one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pystac
import pytest

from geoml import pipeline
from geoml.elevation import steps
from geoml.elevation.recipe import ElevationRecipe
from geoml.engine.packages import cards
from geoml.engine.run.blocks import _loaded
from geoml.engine.run.plan import read_plan
from geoml.engine.run.state import state
from geoml.errors import InputError, NothingFound
from geoml.inputs.stereo import _matcher
from geoml.io.points import copc, ept
from geoml.io.points.kept import kept_nodes
from geoml.io.stores import signed
from geoml.testing.stereo import made_pair, town
from tests import made_town
from tests.made_clouds import made_points
from tests.made_octrees import write_copc, write_ept

SECOND = "S3CRETofTUESDAY"


def keeping(*folders: Path) -> list[str]:
    """Files that hold a signature."""
    files = (p for folder in folders for p in folder.rglob("*") if p.is_file())
    return [str(p) for p in files if re.search(rb"S3CRET", p.read_bytes())]


def another_day(days: Any) -> None:
    """As in a process that was started the next day."""
    days.signature = SECOND
    signed._remembered.clear()
    _loaded.cache_clear()


def test_a_run_keeps_no_signature_and_goes_on_with_another_one(days: Any, tmp_path: Path) -> None:
    out, monday = tmp_path / "out", days.recipe()
    first = pipeline.predict(monday, out)
    assert len(first["blocks"]["done"]) >= 2
    assert keeping(out, tmp_path / "scratch") == []
    assert first["recipe"]["query"]["region"] == f"{days.url}/signed/r.geojson"
    before = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    (out / "items" / f"{first['blocks']['done'][0]}.json").unlink()
    another_day(days)
    with pytest.raises(InputError, match=r"HTTP 403") as caught:
        pipeline.predict(monday, out)
    assert "S3CRET" not in str(caught.value)
    again = pipeline.predict(days.recipe(), out)
    assert again["hash"] == first["hash"]
    assert again["blocks"]["done"] == first["blocks"]["done"]
    assert keeping(out, tmp_path / "scratch") == []
    after = {p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert {n for n in before if before[n] != after.get(n)} <= {"run.json", "report.html"}


def test_a_plan_that_was_written_with_secrets_is_read(days: Any, tmp_path: Path) -> None:
    """As geoml once wrote it; what is shown of it has none."""
    out = tmp_path / "out"
    pipeline.predict(days.recipe(), out)
    plan = out / ".geoml" / "plan.json"
    value = json.loads(plan.read_text())
    value["recipe"]["query"]["region"] = "https://me:S3CRET@a.example/r.geojson?sig=S3CRET"
    value["recipe"]["model"] = value["model_path"] = f"{days.url}/signed/model?sig=S3CRET"
    plan.write_text(json.dumps(value))
    assert state(out).status == "finished"
    assert read_plan(out).recipe.query.region == "https://a.example/r.geojson"
    assert pipeline.todo(out) == []


def test_a_finished_run_is_left_as_it_is_on_another_day(days: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    pipeline.predict(days.recipe(), out)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.rglob("*") if p.is_file()}
    another_day(days)
    pipeline.predict(days.recipe(), out)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before if "lock" not in p.name} == {
        p: v for p, v in before.items() if "lock" not in p.name
    }


def test_the_nights_of_a_monitor_take_the_signature_of_their_day(days: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = pipeline.monitor(days.recipe(), out, lookback=10, until="2024-06-05")
    assert [r["change"] for r in rows] == ["new"]
    another_day(days)
    with pytest.raises(NothingFound):
        pipeline.monitor(days.recipe(), out, lookback=10, until="2024-06-06")
    assert keeping(out, tmp_path / "scratch") == []


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["processes:1", "cluster:1"])
def test_workers_elsewhere_get_it_with_their_batch(days: Any, tmp_path: Path, workers: str) -> None:
    """As a command, so that nothing is left in memory from before."""
    given = tmp_path / "recipe.json"
    given.write_text(json.dumps(days.recipe()))
    program = (
        "import json, sys; from geoml import logs, pipeline\n"
        "if __name__ == '__main__':\n"
        "    logs.setup(10); print(pipeline.predict(json.load(open(sys.argv[1])), sys.argv[2])['hash'])"
    )
    (tmp_path / "run.py").write_text(program)
    words = [sys.executable, str(tmp_path / "run.py"), str(given), str(tmp_path / "out")]
    more = {"GEOML_WORKERS": workers, "GEOML_PRECISION": "fp32", "GEOML_DEVICE": "cpu", "GEOML_THREADS": "1"}
    more |= {"GEOML_PRIVATE_HOSTS": "true", "GEOML_SCRATCH": str(tmp_path / "elsewhere")}
    run = subprocess.run(words, env=os.environ | more, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "S3CRET" not in run.stdout + run.stderr
    assert keeping(tmp_path / "out", tmp_path / "elsewhere") == []


@pytest.mark.parametrize("kind", ["plain", "copc", "ept"])
def test_heights_of_signed_points_keep_no_signature(days: Any, tmp_path: Path, kind: str) -> None:
    out, home = tmp_path / "out", days.folder / "signed"
    made_town.write_town(home)
    if kind == "copc":
        write_copc(home / "west.copc.laz", home / "west.laz", per_node=3000, levels=2, pages=True)
    elif kind == "ept":
        write_ept(home / "tiles", made_points(4000), per_node=500, levels=1)
    name = {"plain": "west.laz", "copc": "west.copc.laz", "ept": "tiles/ept.json"}[kind]

    def heights() -> dict[str, Any]:
        points = [f"{days.url}/signed/{name}?sig={days.signature}"]
        asked = ElevationRecipe.model_validate({"points": points, "res": 4, "block_size": 64})
        pipeline.predict(steps.elevation_run(asked, out), out)
        return steps.finish(asked, out)

    first = heights()
    assert first["blocks"]["done"]
    assert keeping(out, tmp_path / "scratch") == []
    (out / "items" / f"{first['blocks']['done'][0]}.json").unlink()
    another_day(days)
    for kept in (copc.kept_files, kept_nodes, ept._files):
        kept.clear()
    assert heights()["hash"] == first["hash"]
    assert keeping(out, tmp_path / "scratch") == []


def test_one_path_under_two_signatures_is_refused(days: Any, tmp_path: Path) -> None:
    points = [f"{days.url}/signed/dl?sig=S3CRET{n}" for n in (1, 2)]
    with pytest.raises(InputError, match="named twice") as caught:
        steps.elevation_run(ElevationRecipe.model_validate({"points": points}), tmp_path / "out")
    assert "S3CRET" not in str(caught.value)
    with pytest.raises(InputError, match="plain URL") as caught:
        steps.elevation_run(
            ElevationRecipe.model_validate({"points": [f"{days.url}/a.laz;sig=S3CRET"]}), tmp_path / "out"
        )
    assert "S3CRET" not in str(caught.value)


def test_heights_of_signed_pictures_keep_no_signature(days: Any, tmp_path: Path) -> None:
    """One is named by its URL, the other by an item."""
    out = tmp_path / "out"
    made_pair(town(1, side=100.0, count=5), size=200, parallax=-3.0).write(days.folder / "signed")

    def heights() -> dict[str, Any]:
        left, right = (f"{days.url}/signed/{side}.tif?sig={days.signature}" for side in ("left", "right"))
        item = pystac.Item("right", None, None, datetime(2020, 1, 1, tzinfo=UTC), {})
        item.add_asset("pan", pystac.Asset(right, media_type="image/tiff; application=geotiff", roles=["data"]))
        (tmp_path / "right.json").write_text(json.dumps(item.to_dict(include_self_link=False)))
        given = {"stereo": [left, str(tmp_path / "right.json")], "heights": (288, 322), "res": 2, "block_size": 64}
        pipeline.predict(steps.elevation_run(ElevationRecipe.model_validate(given), out), out)
        return steps.finish(ElevationRecipe.model_validate(given), out)

    first = heights()
    assert first["blocks"]["done"]
    assert keeping(out, tmp_path / "scratch") == []
    rows = str(pq.read_table(out / "sources.parquet").to_pylist())
    assert "left.tif" in rows
    assert "S3CRET" not in rows
    (out / "items" / f"{first['blocks']['done'][0]}.json").unlink()
    another_day(days)
    _matcher.cache_clear()
    assert heights()["hash"] == first["hash"]
    assert keeping(out, tmp_path / "scratch") == []


def test_pictures_whose_urls_differ_by_more_than_a_signature_are_refused(days: Any, tmp_path: Path) -> None:
    made_pair(town(1, side=100.0, count=5), size=100, parallax=-3.0).write(days.folder)
    twice = [f"{days.url}/left.tif?sig=S3CRET{n}" for n in (1, 2)]
    for pair, says in ((twice, "named twice"), ([f"{days.url}/left.tif#S3CRET", twice[0]], "more than a path")):
        asked = ElevationRecipe.model_validate({"stereo": pair, "heights": (288, 322)})
        with pytest.raises(InputError, match=says) as caught:
            steps.elevation_run(asked, tmp_path / "out")
        assert "S3CRET" not in str(caught.value)
    assert keeping(tmp_path / "out") == []


@pytest.mark.parametrize("what", ["model", "catalog", "region"])
@pytest.mark.parametrize("url", ["https://me:S3CRET@a.example/x.json", "HTTPS://me:a/S3CRET@a.example/x.json"])
def test_user_names_are_refused_in_every_url_of_a_recipe(tmp_path: Path, what: str, url: str) -> None:
    recipe: dict[str, Any] = {
        "model": "demo-itaipu",
        "query": {"catalog": "demo", "datetime": ["2020"], "region": "r.geojson"},
    }
    place = recipe if what == "model" else recipe["query"]
    place[what] = url
    with pytest.raises(InputError, match=f"{what}.*has a user name") as caught:
        pipeline.predict(recipe, tmp_path / "out")
    assert "S3CRET" not in str(caught.value)
    assert "me" not in str(caught.value).split()


def test_user_names_are_refused_in_places_of_runs_and_packages(tmp_path: Path) -> None:
    for url in ("s3://key:S3CRET@bucket/run", "https://me:S3CRET@a.example/run"):
        for ask in (pipeline.todo, cards.read_any):
            with pytest.raises(InputError, match="has a user name") as caught:
                ask(url)
            assert "S3CRET" not in str(caught.value)
