"""The chain from a locator's cells to a match: a catalog of Blue Marble tiles, and pictures of it in any heading.

    python tests/benchmarks/map_chain.py make OUT [--count 24] [--other earth-blue-marble.jpg]
    geoml geolocate map OUT/same --catalog OUT/stac/catalog.json --collection blue-marble --model world-overhead \
        --max-items 9 --cache OUT/cache --out OUT/same.parquet
    python tests/benchmarks/map_chain.py score OUT same

``make`` writes 126 items of 20 degrees, 600 to 1000 km crops on land as ``OUT/same`` (and ``OUT/other`` of another
month), and where they were cut. ``score`` prints a line for each picture and how far answers of each stage are off.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from geoml import testing
from geoml.geolocation.training import world
from geoml.grid import sphere

TILE, SIZE, SEED = 20, 160, 2026


def make(out: Path, count: int, other: Path | None) -> None:
    known = world.read("basemap:bmng.jpg", "same")
    res = 360 / known.rgb.shape[1]
    side = round(TILE / res)
    scenes = []
    for lat in range(80, -60, -TILE):
        for lon in range(-180, 180, TILE):
            y, x = round((90 - lat) / res), round((lon + 180) / res)
            data = np.moveaxis(known.rgb[y : y + side, x : x + side], -1, 0)
            scenes.append(
                testing.Scene(
                    id=f"bm_{lon:+04d}_{lat:+03d}", data=data, bands=("red", "green", "blue"), crs="EPSG:4326",
                    origin=(lon, lat), res=res, scale=1.0, nodata=None, datetime="2004-05-01T00:00:00Z",
                )
            )  # fmt: skip
    (out / "stac").mkdir(parents=True, exist_ok=True)
    testing.write_catalog(out / "stac", scenes, collection="blue-marble")
    land = world.read_land("basemap:lsmask_1.25min_c.bin")
    views = world.views(world.places(land, count, SEED, 0.5, 500.0, -56.0, 78.0), (600.0, 1000.0), SEED)
    for one in [known, *([world.read(other, "other")] if other else [])]:
        (out / one.name).mkdir(exist_ok=True)
        for k, image in enumerate(one.crop(view, SIZE) for view in views):
            Image.fromarray(image).save(out / one.name / f"{k:03d}.png")
    with (out / "truth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([(f"{k:03d}.png", v.lon, v.lat) for k, v in enumerate(views)])


def score(out: Path, name: str) -> None:
    with (out / "truth.csv").open(newline="") as file:
        truth = {n: (float(lon), float(lat)) for n, lon, lat in csv.reader(file)}
    away: dict[str, list[float]] = {}
    rows = pq.read_table(out / f"{name}.parquet").to_pylist()
    for row in rows:
        stage = row.get("stage") or ("silent" if row["lon"] is None else "cells")
        km = np.nan if row["lon"] is None else sphere.distance(row["lon"], row["lat"], *truth[row["image_id"]])
        away.setdefault(stage, []).append(float(km))
        print(f"{row['image_id']} {stage}, {float(km):.1f} km off, {row.get('inliers')} inliers, {row['reason'] or ''}")
    for stage, km in sorted(away.items()):
        print(f"{stage}: {len(km)} of {len(rows)}, median {np.median(km):.1f} km, most {max(km):.1f} km")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("make", "score"))
    parser.add_argument("out", type=Path)
    parser.add_argument("name", nargs="?", default="same")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--other", type=Path)
    given = parser.parse_args()
    if given.what == "make":
        make(given.out, given.count, given.other)
    else:
        score(given.out, given.name)


if __name__ == "__main__":
    main()
