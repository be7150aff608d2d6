"""To and from Earth Engine, against files as it writes them and the rules that it documents; not against Google."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import geoml
from geoml import testing
from tests.e2e.printed import Cli, rows, said, wide
from tests.unit.io.cog.test_shards import export, shard

__all__ = ["said", "wide"]  # fixtures

DATA = testing.smooth((2, 200, 300), seed=5)
ALL = {"bbox": (-60.0, 60.0, -50.0, 65.0), "datetime": "2024"}


def test_shards_give_the_map_of_the_whole(said: Callable[..., str], threshold: str, tmp_path: Path) -> None:
    export(tmp_path / "shards", DATA, 128, 256, nodata=0)
    shard(tmp_path / "s2_20240601.tif", DATA, 0, 0, nodata=0)
    told = said("catalogs", "new", tmp_path / "shards", "--scale", "1e-4", "--out", tmp_path / "a")
    assert rows(told)["s2_20240601"] == ["red nir", "10", "EPSG:32621", "2024-06-01T12:00:00Z", "its name"]
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
    assert "100.0 % of the region has data" in said(*words, tmp_path / "out")
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
