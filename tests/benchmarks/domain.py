"""What the demo model says of scenes that it was not made for, and of held-out ground of the training data of recipes.

    python tests/benchmarks/domain.py [--held-out-only | --foreign-only]

Twelve foreign scenes are made from the real data sets (GEOML_DATA): other sensors, places, seasons and levels of
processing, in reflectance as far as their numbers allow. Each becomes a catalog and `geoml predict` runs over it.
Held-out ground are the pieces of the test and val splits of shipped recipes, each against the record of the recipe's
train and val splits; no model is trained for that.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

import geoml
from geoml import testing
from geoml.cube.domain import likeness
from geoml.data.chips import Reader
from geoml.data.prepare import prepare
from geoml.engine.packages import cards
from geoml.engine.run.domain import measured
from geoml.errors import ModelError
from geoml.io.cards.domain import OUTSIDE, PARTLY
from geoml.io.cards.map_card import MapCard
from geoml.pipeline import training

DATA = Path(os.environ.get("GEOML_DATA", "../shared/data"))
BANDS = ("blue", "green", "red")
MODEL = "demo-itaipu"
RECIPES = ("demo-itaipu", "sen1floods11-water", "taizhou-unet", "urban-trees", "osm-buildings", "tree-change-unet")
LEAST = 500
"""Valid pixels of a held-out piece that is counted."""
MOST = 1000
"""Pixels of a side of a scene that is run."""

Stack = NDArray[np.float64]


def foreign() -> Iterator[tuple[str, Stack, float]]:
    """Name, (band, y, x) reflectance of blue, green and red (NaN: no data), and pixel size in metres."""
    cover, change, few = DATA / "segmentation", DATA / "change", DATA / "fewlabels"
    elkton = _stack([cover / f"landsat8_elkton/L8-B{b}-Elkton-VA.tiff" for b in (2, 3, 4)])
    yield "Landsat 8, Virginia, same processing", elkton * 2e-5 - 0.1, 30
    yield "Landsat 7, Mexico 1999, surface", _file(few / "landsat7_1999/LE70220491999322EDC01_stack.gtif") * 1e-4, 30
    alps = _file(DATA / "timeseries/s2_l2a_sample/S2_L2A_sample.tif", (3, 2, 1))
    yield "Sentinel-2, Alps, surface", alps * 1e-4, 10
    spain = _file(cover / "sen1floods11/Spain_7370579_S2Hand.tif", (2, 3, 4))
    yield "Sentinel-2, Spain, top of atmosphere", spain * 1e-4, 10
    dates = np.load(DATA / "timeseries/eolearn_testeopatch/REFERENCE_SCENES.npy", allow_pickle=True)
    yield "Sentinel-2, Slovenia, top of atmosphere", dates[2][..., 1:4].transpose(2, 0, 1).astype(float), 10
    carolina = [cover / f"sentinel2_rcr_nc/2018-10-13_Sentinel-2B_L1C_B0{b}.tiff" for b in (2, 3, 4)]
    yield "Sentinel-2, North Carolina, bytes / 255", _stack(carolina) / 255, 10
    yield "Landsat 7, Taizhou 2000, bytes / 255", _file(change / "landsat_cd/Taizhou/2000TM") / 255, 30
    prairie = _file(change / "naip_pothole_series/m_4709963_se_14_1_20150926.tif", (3, 2, 1))
    yield "NAIP, North Dakota, bytes / 255", prairie / 255, 5
    for name, metres in (("Landsat 7", 30), ("Sentinel-2", 10)):
        with np.load(cover / f"cloud_ukis/{name.replace(' ', '').replace('-', '').lower()}.npz") as found:
            yield f"{name} with clouds, reflectance", found["img"][..., :3].transpose(2, 0, 1), metres
    tiles = sorted((few / "enmap_potsdam/images").glob("*.tif"))
    yield "EnMAP, Potsdam, surface", np.concatenate([_enmap(t) for t in tiles], axis=2) * 1e-4, 30
    patch = few / "bigearthnet/tiny/S2B_MSIL2A_20170924T93021_41_29"
    yield "Sentinel-2, Finland, surface", _stack([patch / f"{patch.name}_B0{b}.tif" for b in (2, 3, 4)]) * 1e-4, 10


def raw() -> Iterator[tuple[str, Stack, float]]:
    """Scenes in numbers that are not reflectance at all."""
    elkton = _stack([DATA / f"segmentation/landsat8_elkton/L8-B{b}-Elkton-VA.tiff" for b in (2, 3, 4)])
    yield "Landsat 8, Virginia, raw numbers", elkton, 30
    yield "Landsat 7, Taizhou 2000, raw bytes", _file(DATA / "change/landsat_cd/Taizhou/2000TM"), 30


def recipe_of(scene: tuple[str, Stack, float], folder: Path) -> dict[str, Any]:
    """Write the scene as a catalog in ``folder``; the recipe of a run of the demo model over it."""
    _, values, metres = scene
    values = values[:, :MOST, :MOST].astype(np.float32)
    stored = np.where(np.isfinite(values).all(axis=0), values, -9999).astype(np.float32)
    made = testing.Scene(id="foreign", data=stored, bands=BANDS, crs="EPSG:32621", res=metres, scale=1.0, nodata=-9999)
    catalog = testing.write_catalog(folder / "made", [made])
    query = {"catalog": str(catalog), "bbox": made.bbox(), "datetime": ["2024"]}
    return {"model": MODEL, "query": query, "crs": "EPSG:32621", "features": False}


def run_of(scene: tuple[str, Stack, float], folder: Path) -> dict[str, Any]:
    """Share and verdict, and the commonest class with its mean confidence; ``refused`` holds why there is no map."""
    name = scene[0]
    try:
        said = geoml.predict(recipe_of(scene, folder), folder / "run")["domain"]
    except ModelError as err:
        return {"scene": name, "refused": str(err)}
    classes, sure = (
        np.concatenate([m.data.ravel() for m in testing.read_map(folder / "run", asset).values()])
        for asset in ("class", "confidence")
    )
    names = {c.value: c.name for c in cards.read(MODEL, MapCard).classes}
    counts = np.bincount(classes[classes != 255], minlength=256)
    common = int(counts.argmax())
    share, mean = counts[common] / counts.sum(), sure[classes == common].mean() / 250
    return {"scene": name, **said, "called": f"{names[common]} {share:.0%}, confidence {mean:.2f}"}


def held_out(recipe: str) -> dict[str, Any]:
    """How many pieces of held-out ground are more unlike than a run may be without a warning."""
    given, reader = training(recipe)[1], Reader()
    splits = prepare(given)
    record = measured(splits, given, reader)
    shares = []
    for part in ("test", "val"):  # val chose the threshold, but for the whole of it, not for a piece
        for piece in splits[part]:
            sample, where = reader(piece.scene), piece.window.slices(piece.scene.window)
            valid, image = sample.valid[where], sample.image[:, *where]
            if valid.sum() >= LEAST:
                alike = likeness(record, image, valid, (1,) * len(image), (0,) * len(image))
                shares.append(float((alike[valid] < OUTSIDE).mean()))
    found = np.array(shares)
    return {"recipe": recipe, "pieces": len(found), "warned": int((found > PARTLY).sum()), "mean": float(found.mean())}


def _file(path: Path, bands: tuple[int, ...] = (1, 2, 3)) -> Stack:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # `recipe_of` gives every scene a place
        with rasterio.open(path) as file:
            data = file.read(bands).astype(float)
            known = np.ones(data.shape, bool) if file.nodata is None else data != file.nodata
    return np.where(known, data, np.nan)


def _stack(paths: list[Path]) -> Stack:
    return np.concatenate([_file(p, (1,)) for p in paths])


def _enmap(path: Path) -> Stack:
    """The bands of a tile nearest to the middles of Landsat's blue, green and red."""
    with rasterio.open(path) as file:
        waves = np.array([float(file.tags(i)["wavelength"]) for i in file.indexes])
    return _file(path, tuple(int(np.abs(waves - middle).argmin()) + 1 for middle in (482, 561, 655)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--held-out-only", action="store_true")
    parser.add_argument("--foreign-only", action="store_true")
    given = parser.parse_args()
    if not given.held_out_only:
        print("| scene | outside | verdict | the demo model calls it |\n|---|---|---|---|")
        for scene in (*foreign(), *raw()):
            with tempfile.TemporaryDirectory() as folder:
                row = run_of(scene, Path(folder))
            if "refused" in row:
                print(f"| {row['scene']} | – | refused | – |", flush=True)
            else:
                print(f"| {row['scene']} | {row['outside']:.1%} | {row['verdict']} | {row['called']} |", flush=True)
    if not given.foreign_only:
        print("\n| recipe | held-out pieces | of them warned | mean share outside |\n|---|---|---|---|")
        for recipe in RECIPES:
            row = held_out(recipe)
            print(f"| {recipe} | {row['pieces']} | {row['warned']} | {row['mean']:.1%} |", flush=True)


if __name__ == "__main__":
    main()
