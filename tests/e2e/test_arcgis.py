"""ArcGIS in and out as typed: a feature layer as region and as labels, an image service, a model."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
import yaml

import geoml
from geoml import testing
from geoml.io.stores import signed
from tests.arcgis_server import ArcGISServer, FeatureLayer, ImageService, serve
from tests.e2e.conftest import THRESHOLDS
from tests.e2e.printed import Cli, prints, rows, said, wide

__all__ = ["said", "wide"]  # fixtures

HARNESS = Path(__file__).parents[1] / "arcgis_harness.py"
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 200, 300), seed=5), bands=("red", "nir"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ArcGISServer]:
    """Twelve fields of 200 m on the scene, in three classes; a token is asked for."""
    monkeypatch.setattr(signed, "_remembered", {})
    left, top = SCENE.origin
    corners = [(left + 240 * k, top - 240 * j) for k in range(12) for j in range(8)]
    shapes = [shapely.box(x, y - 200, x + 200, y) for x, y in corners]
    frame = gpd.GeoDataFrame({"cover": [1 + k % 3 for k in range(96)]}, geometry=shapes, crs=SCENE.crs)
    with serve(Land=FeatureLayer(frame, most=50)) as here:
        here.token = "S3CRET"
        yield here


def kept(folder: Path) -> list[Path]:
    """Files that hold the token."""
    return [p for p in folder.rglob("*") if p.is_file() and b"S3CRET" in p.read_bytes()]


def test_a_region_of_a_run(server: ArcGISServer, threshold: str, said: Callable[..., str], tmp_path: Path) -> None:
    testing.write_catalog(tmp_path / "made", [SCENE])
    url = f"{server.url}/Land/FeatureServer/0"
    words = ("predict", "--model", threshold, "--catalog", tmp_path / "made", "--datetime", "2024", "--out")
    told = said(*words, tmp_path / "out", "--region", f"{url}?token=S3CRET", "--no-map")
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["recipe"]["query"]["region"] == url
    assert run["region_pixels"] == pytest.approx(96 * 20 * 20, rel=0.02)
    assert "S3CRET" not in told
    assert kept(tmp_path / "out") == []


def test_labels_of_a_training(server: ArcGISServer, cli: Cli, said: Callable[..., str], tmp_path: Path) -> None:
    testing.write_catalog(tmp_path / "made", [SCENE])
    image = next((tmp_path / "made").rglob("*.tif"))
    words = ("train", "--image", image, "--bands", "red,nir", "--field", "cover", "--out", tmp_path / "o", "--dry-run")
    url = f"{server.url}/Land/FeatureServer/0"
    told = said(*words, "--labels", f"{url}?token=S3CRET")
    assert [c["name"] for c in yaml.safe_load(told)["classes"]] == ["field", "town", "wood"]
    assert "S3CRET" not in told
    signed._remembered.clear()
    refused = cli(*words, "--labels", url)
    assert refused.exit_code == 2
    assert f"labels: {url}: access refused (499 Token Required); expected a token in the URL" in refused.output


def test_an_image_service_becomes_a_catalog(
    threshold: str, said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed, "_remembered", {})
    rasters = {
        "june": (SCENE.data, SCENE.origin, 1_717_243_200_000),
        "july": (SCENE.data[::-1], SCENE.origin, 1_719_835_200_000),
    }
    with serve(Dates=ImageService(rasters, 32621, SCENE.res, 0)) as here:
        here.token = "S3CRET"
        words = ("catalogs", "new", f"{here.url}/Dates/ImageServer?token=S3CRET", "--bbox", *SCENE.bbox(inner=0.05))
        told = said(*words, "--bands", "red,nir", "--scale", "1e-4", "--out", tmp_path / "made")
    (june,) = (name for name in rows(told) if name.startswith("june_1_"))
    assert rows(told)[june] == ["red nir", "10 m", SCENE.crs, "2024-06-01T12:00:00Z", "--datetime"]
    assert f"Use it with --catalog {tmp_path / 'made'}\n" in told
    assert kept(tmp_path) == []
    words = ("predict", "--model", threshold, "--catalog", tmp_path / "made", "--bbox", *SCENE.bbox(inner=0.06))
    said(*words, "--datetime", "2024-07", "--out", tmp_path / "july", "--no-map")
    found = geoml.open(tmp_path / "july").classes
    found = found.reindex(middles(SCENE), method="nearest", tolerance=1, fill_value=255).to_numpy()
    wanted = sum((SCENE.data[1] * 1e-4 > limit).astype(np.uint8) for limit in THRESHOLDS)
    assert (found != 255).mean() > 0.8
    assert np.array_equal(found[found != 255], wanted[found != 255])


# --- models out


def middles(scene: testing.Scene) -> dict[str, np.ndarray]:
    """Where the pixels of a scene have their middles."""
    left, top = scene.origin
    return {"x": left + 10 * np.arange(300) + 5, "y": top - 10 * np.arange(200) - 5}


def as_arcgis(package: Path, folder: Path, image: np.ndarray, valid: np.ndarray, **arguments: float) -> np.ndarray:
    """Classes of an image by a .dlpk, in another process that has no geoml and no torch."""
    np.savez(folder / "image.npz", image=image, valid=valid)
    words = (
        sys.executable,
        "-I",
        HARNESS,
        package,
        folder / "image.npz",
        folder / "classes.npy",
        json.dumps(arguments),
    )
    subprocess.run([str(w) for w in words], check=True, timeout=120)
    return np.load(folder / "classes.npy")  # type: ignore[no-any-return]


@prints("export dlpk")
def test_a_model_gives_the_same_classes_in_arcgis(unet: str, said: Callable[..., str], tmp_path: Path) -> None:
    data = SCENE.data.copy()
    data[:, 40:60, 100:130] = 0  # no data
    scene = dataclasses.replace(SCENE, data=data, origin=(600_000.0, 7_000_000.0 // 10_240 * 10_240))
    testing.write_catalog(tmp_path / "made", [scene])
    words = ("predict", "--model", unet, "--catalog", tmp_path / "made", "--bbox", *scene.bbox(), "--datetime", "2024")
    said(*words, "--out", tmp_path / "out", "--no-map")
    told = said("export", "dlpk", unet, "--scale", "1e-4", "--out", tmp_path / "unet.dlpk")
    assert "bands in this order: red nir; 10 m" in told
    found = as_arcgis(tmp_path / "unet.dlpk", tmp_path, data, (data != 0).all(axis=0))
    wanted = geoml.open(tmp_path / "out").classes.sel(middles(scene), method="nearest", tolerance=1).to_numpy()
    assert set(np.unique(wanted)) == {0, 1, 2, 255}
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["kit-cars", "--out", "a.dlpk"], "model: kit-cars is for detection (dates: 1); a .dlpk takes segmentation of"),
        (["cva", "--out", "a.dlpk"], "model: cva is for change (dates: 2)"),
        (["demo-itaipu", "--scale", "nan", "--out", "a.dlpk"], "scale: nan; expected a finite number other than 0"),
        (["demo-itaipu", "--scale", "0", "--out", "a.dlpk"], "scale: 0; expected a finite number other than 0"),
        (["demo-itaipu", "--offset", "inf", "--out", "a.dlpk"], "offset: inf; expected a finite number"),
        (["demo-itaipu", "--out", "a.zip"], "out: a.zip; expected a .dlpk file"),
    ],
)
def test_what_a_package_cannot_give_is_refused(cli: Cli, words: list[str], says: str) -> None:
    found = cli("export", "dlpk", *words)
    assert found.exit_code == 2
    assert says in found.output
    assert found.output.count("\n") == 1
    assert not Path(words[-1]).exists()
