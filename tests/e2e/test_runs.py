"""`geoml runs`: one run, all runs of a folder, and both until they end."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from geoml.pipeline import locked
from tests.e2e.printed import Cli, prints, rows, said, wide
from tests.e2e.test_every_command import folder, run

__all__ = ["folder", "run", "said", "wide"]  # fixtures


@prints("runs")
def test_runs(run: Path, said: Callable[..., str]) -> None:
    found = json.loads(said("runs", run, "--json"))
    told = rows(said("runs", run))
    assert told[""] == ["finished"]
    done = found["done"]
    assert told["started"] == [f"{found['started'][:16].replace('T', ' ')} UTC"]
    assert told["blocks"] == [f"{done} of {done} done, 0 failed, 0 left"]
    assert float(re.findall(r"model ([\d.]+)", told["seconds"][0])[0]) >= 0


def test_runs_of_a_folder(run: Path, said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "deep/b"):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "deep" / "b" / "run.json").unlink()
    told = rows(said("runs", tmp_path))
    done = json.loads(said("runs", run, "--json"))["done"]
    assert told[str(tmp_path / "a")][:2] == ["finished", f"{done} of {done} done, 0 failed, 0 left"]
    assert told[str(tmp_path / "deep" / "b")][0] == "stopped"
    assert "seconds" in rows(said("runs", run))
    assert not {"seconds", "megabytes"} & set(rows(said("runs", tmp_path / "deep" / "b"))), "nothing is known of them"
    (tmp_path / "deep" / "b" / "map.html").unlink()
    unfinished = cli("view", tmp_path / "deep" / "b", "--no-open")
    assert unfinished.exit_code == 2
    assert f"b is not finished ({done} of {done} block" in unfinished.stderr
    assert [one["status"] for one in json.loads(said("runs", tmp_path, "--json"))] == ["finished", "stopped"]
    watched = said("runs", tmp_path, "--watch").splitlines()
    assert watched == [f"{tmp_path / n}: {s}, {done} of {done} done, 0 failed, 0 left"
                       for n, s in (("a", "finished"), ("deep/b", "stopped"))]  # fmt: skip
    (tmp_path / "empty").mkdir()
    for place in ("empty", "nowhere"):
        assert cli("runs", tmp_path / place).exit_code == 2


def test_a_damaged_run_hides_no_other(run: Path, said: Callable[..., str], tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "a" / ".geoml" / "plan.json").write_text("{")
    told = rows(said("runs", tmp_path))
    assert told[str(tmp_path / "b")][0] == "finished"
    assert told[str(tmp_path / "a")][0] == "damaged"
    damaged, whole = json.loads(said("runs", tmp_path, "--json"))
    assert (damaged["status"], whole["status"], whole["reason"]) == ("damaged", "finished", None)
    assert "plan.json" in damaged["reason"]
    assert said("runs", tmp_path, "--watch").splitlines()[0].startswith(f"{tmp_path / 'a'}: damaged, ")


def test_runs_are_watched_until_they_end(run: Path, said: Callable[..., str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    with ThreadPoolExecutor() as pool:
        with locked(out):
            printed = pool.submit(said, "runs", out, "--watch")
            time.sleep(1.0)
            assert not printed.done()
        lines = printed.result(timeout=30).splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["running", "finished"]
