"""Outlines on made scenes with known truth: nearer to it than boxes, and the same rows however the work was cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
import yaml
from affine import Affine
from numpy.typing import NDArray
from typer.testing import Result

import geoml
from geoml import testing
from geoml.testing.objects import FORMS, forms, write_outlines

pytestmark = pytest.mark.slow  # a network learns for half a minute

BANDS = ("red", "nir")
MODEL = {"encoder": "resnet18", "width": 32, "hidden": 64, "anchors": [12, 24, 48, 96], "proposals": 200, "most": 60}
IMAGE, THINGS = forms((200, 260), 36, seed=77)
SCENE = testing.Scene(id="scene", data=IMAGE, bands=BANDS, scale=1.0)


def truth() -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """(n,) classes and outlines in the CRS of the scene."""
    corner = SCENE.window
    index, shapes = zip(*THINGS, strict=True)
    moved = shapely.transform(
        list(shapes), lambda xy: (xy + np.array([corner.x0, corner.y0])) * [SCENE.res, -SCENE.res]
    )
    return np.array(index), moved


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package that was trained on six scenes, whose recipe lies beside it."""
    root = tmp_path_factory.mktemp("forms")
    for k in range(6):
        image, things = forms((160, 160), 16, seed=k)
        place = Affine(10, 0, 600_000 + 5_000 * k, 0, -10, 7_000_000)
        testing.write_cog(root / f"{k}.tif", image, crs="EPSG:32621", transform=place, nodata=0)
        write_outlines(root / f"{k}.geojson", things)
    recipe = {
        "name": "forms", "task": "detection", "bands": list(BANDS), "gsd": 10, "seed": 1, "precision": "fp32",
        "model": {"architecture": "faster_rcnn", "config": {**MODEL, "masks": True}},
        "classes": [{"value": k, "name": n, "color": "#e31a1c"} for k, n in enumerate(FORMS)],
        "source": {
            "kind": "boxes", "root": str(root), "images": "{id}.tif", "boxes": "{id}.geojson", "field": "name",
            "coordinates": "pixels", "file_bands": list(BANDS),
        },
        "split": {"kind": "files", "val": ["4"], "test": ["5"]}, "sampling": {"samples": 48}, "epochs": 6, "batch": 4,
        "chip_size": 96, "optimiser": {"lr": 0.002, "clip": 5},
    }  # fmt: skip
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return geoml.train(recipe, root / "model")


def test_any_blocks_give_the_same_outlines_and_they_are_nearer_to_the_truth_than_boxes(
    package: Path, catalog: Path, predict: Callable[..., Path]
) -> None:
    runs = [predict(str(package), catalog, SCENE.bbox(), f"out-{size}", block_size=size) for size in (64, 256)]
    first, second = ((out / "features.parquet").read_bytes() for out in runs)
    assert first == second
    frame = geopandas.read_parquet(runs[0] / "features.parquet")
    found = frame.geometry.to_crs(SCENE.crs).to_numpy()
    assert shapely.is_valid(found).all()
    assert set(shapely.get_type_id(found)) == {shapely.GeometryType.POLYGON}
    index, real = truth()
    i, j = shapely.STRtree(real).query(found)
    same = frame["class"].to_numpy()[i] == index[j]
    i, j = i[same], j[same]
    share = overlap(found[i], real[j])
    best = [int(np.flatnonzero(j == k)[share[j == k].argmax()]) for k in np.unique(j[share > 0.5])]
    found, real, share = found[i[best]], real[j[best]], share[best]
    assert len(best) > 0.7 * len(index)
    assert share.mean() > 0.8
    assert share.mean() > overlap(shapely.envelope(found), real).mean() + 0.1
    assert share.mean() > overlap(shapely.envelope(real), real).mean(), "the best that a box can be"
    assert 'alt="Outlines of objects' in (runs[0] / "report.html").read_text()


def overlap(a: NDArray[np.object_], b: NDArray[np.object_]) -> NDArray[np.float64]:
    """Intersection over union of pairs."""
    both: NDArray[np.float64] = shapely.area(shapely.intersection(a, b))
    return both / (shapely.area(a) + shapely.area(b) - both)


def test_outlines_are_scored_beside_boxes(
    package: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = cli("evaluate", str(package.parent / "recipe.yaml"), "--model", str(package), "--json")
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)
    assert scores["mask_ap50"] > 0.6
    assert set(scores["by_class"]["disc"]) >= {"ap", "mask_ap", "mask_ap50"}
    monkeypatch.setenv("COLUMNS", "200")
    said = cli("evaluate", str(package.parent / "recipe.yaml"), "--model", str(package)).stdout
    assert f"mask AP {scores['mask_ap']:.3f}" in said
    assert (package / "labels.png").stat().st_size > 1000
