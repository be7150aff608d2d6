"""How much of the region has data: of what was asked for, and the same however the run is cut."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from geoml import testing
from geoml.cube.region import inside
from geoml.grid.region import from_bbox
from geoml.texts import percent

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 300, 400), seed=5), bands=("red", "nir"))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    SCENE.data[:, 40:90] = 0
    return testing.write_catalog(tmp_path_factory.mktemp("scene") / "made", [SCENE])


def test_coverage_is_of_the_region_that_was_asked_for_at_any_block_size(
    catalog: Path, constant: str, cli: Callable[..., Result], tmp_path: Path
) -> None:
    """The region is four times the scene, and some of its blocks have no item at all."""
    west, south, east, north = SCENE.bbox()
    box = west, south - (north - south), east + (east - west), north
    known = {}
    for size in (64, 128, 1024):
        out = tmp_path / str(size)
        words = ["--model", constant, "--catalog", catalog, "--bbox", *box, "--datetime", "2024", "--crs", "data"]
        printed = cli("predict", *words, "--block-size", size, "--no-map", "--no-features", "--out", out)
        assert printed.exit_code == 0, printed.output
        run = json.loads((out / "run.json").read_text(encoding="utf-8"))
        known[size] = run["region_pixels"], run["valid_pixels"], run["valid_percent"]
        said = f"{percent(run['valid_percent'] / 100)} of the region has data"
        assert said in printed.output
        page = re.sub(r"<[^>]+>|\s+", " ", (out / "report.html").read_text(encoding="utf-8"))
        assert f"only {said}" in page, "most of it has none, which a green page would hide"
    assert len(set(known.values())) == 1, known
    region, valid, share = known[64]
    mapped = testing.read_map(tmp_path / "1024", "class")[SCENE.crs]
    around = mapped.plane.geobox(mapped.window.expand(2000))
    assert valid == 400 * 250
    assert region == inside(from_bbox(*box), around).sum()
    assert share == pytest.approx(100 * valid / region, abs=1e-3)
