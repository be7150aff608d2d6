"""What keypoints alone know again in other years: crops of one date, in any heading, on the map of another.

    python tests/benchmarks/map_keypoints.py naip_pothole_series --reference 20150926 [--side 200]
    python tests/benchmarks/map_keypoints.py landsat_1985_2020 --reference 2015 --side 128

The acceptance is that of the reference alone. Prints, for each date: how many of the crops were accepted, how many
metres off, and where the refused ones with some inliers lie.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import rasterio

from geoml.geolocation.matching.acceptance import Acceptance
from geoml.geolocation.matching.decoys import of_map
from geoml.geolocation.matching.match import locate
from geoml.geolocation.matching.mosaic import MapReference, index
from geoml.geolocation.training.contrastive import crop

FOLDER = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "change"
GEOD = pyproj.Geod(ellps="WGS84")
WEAK = 12
"""Inliers from which it is looked up where a refused crop would lie."""


def asked(path: Path, mapped: MapReference, acceptance: Acceptance, side: int, count: int) -> str:
    """One line on the crops of a file, each ``side`` pixels wide."""
    with rasterio.open(path) as file:
        image, affine = np.moveaxis(file.read([1, 2, 3]), 0, -1), file.transform
        place = pyproj.Transformer.from_crs(str(file.crs), "EPSG:4326", always_xy=True)
    rng = np.random.default_rng(2)
    edge = side / math.sqrt(2)
    inliers, sure, weak = [], [], []
    while len(inliers) < count:
        y, x = (rng.uniform(edge, n - edge) for n in image.shape[:2])
        seen = np.moveaxis(crop(image, y, x, side, rng.uniform(0, math.tau)), 0, -1)
        picture = np.rint(255 * seen).astype(np.uint8)
        if (picture.max(-1) == 0).mean() > 0.02:
            continue  # over the edge of what the file knows
        found = locate(picture, mapped, acceptance)
        inliers.append(found.inliers)
        kept = sure if found.status == "ok" else weak
        if kept is weak and found.inliers >= WEAK:
            found = locate(picture, mapped, replace(acceptance, threshold=WEAK))
        if found.status == "ok":
            kept.append(GEOD.inv(*place.transform(*(affine * (x, y))), found.lon, found.lat)[2])
    return (
        f"{path.stem}: {len(sure)} of {count} accepted, off by {metres(sure)}; inliers {np.median(inliers):.0f} "
        f"(median), {max(inliers)} (most); refused with {WEAK} or more: {metres(weak)}"
    )


def metres(away: list[float]) -> str:
    return " ".join(f"{a:.1f}" for a in sorted(away)) + " m" if away else "none"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", help="below GEOML_DATA/change")
    parser.add_argument("--reference", required=True, help="part of the name of the file that is the map")
    parser.add_argument("--side", type=int, default=200, help="pixels of a crop")
    parser.add_argument("--count", type=int, default=20, help="crops of each date")
    given = parser.parse_args()
    files = sorted((FOLDER / given.folder).glob("*.tif"))
    (reference,) = (f for f in files if given.reference in f.name)
    with tempfile.TemporaryDirectory() as cache:
        mapped = index([reference], Path(cache))
        acceptance = of_map(mapped, side=given.side)
        print(acceptance, flush=True)
        for path in files:
            print(asked(path, mapped, acceptance, given.side, given.count), flush=True)


if __name__ == "__main__":
    main()
