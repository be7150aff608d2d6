"""Drone frames among frames: even ones are the reference, odd ones are looked up; with ``--odd`` the other way round.

    python tests/benchmarks/map_frames.py drone_caliterra [--odd] [--foreign drone_seneca]

Prints, for each frame and in sum: whether it was accepted, how far the place is from the one of its EXIF, and whether
that is within twice the distance of the nearest reference frame. Frames of ``--foreign`` must all be refused.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import pyproj
from PIL import Image

from geoml.geolocation.matching.decoys import of_frames
from geoml.geolocation.matching.match import locate
from tests.geolocation_frames import Frame, frames

FOLDER = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "geolocation"
GEOD = pyproj.Geod(ellps="WGS84")


def load(path: Path) -> Frame:
    with Image.open(path) as image:
        gps = image.getexif().get_ifd(0x8825)
        lat, lon = (float(d) + float(m) / 60 + float(s) / 3600 for d, m, s in (gps[2], gps[4]))
        lon, lat = lon * (-1 if gps[3] == "W" else 1), lat * (-1 if gps[1] == "S" else 1)
        return Frame(path.name, np.asarray(image.convert("RGB")), lon, lat)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--odd", action="store_true")
    parser.add_argument("--foreign")
    given = parser.parse_args()
    every = [load(p) for p in sorted((FOLDER / given.folder).glob("*.[jJ][pP][gG]"))]
    known, asked = every[given.odd :: 2], every[not given.odd :: 2]
    started = time.monotonic()
    reference = frames(known)
    placed = sum(m is not None for m in reference.network.matrices)
    print(
        f"{len(known)} reference frames, {placed} placed, sigma {reference.sigma:.1f} m, "
        f"{time.monotonic() - started:.0f} s"
    )
    acceptance = of_frames(reference)
    print(acceptance, flush=True)
    rows = []
    started = time.monotonic()
    for frame in asked:
        found = locate(frame.image, reference, acceptance)
        lon, lat = reference.lonlat.T
        nearest = min(GEOD.inv(np.full_like(lon, frame.lon), np.full_like(lat, frame.lat), lon, lat)[2])
        away = GEOD.inv(frame.lon, frame.lat, found.lon, found.lat)[2] if found.status == "ok" else np.nan
        used = (
            GEOD.inv(frame.lon, frame.lat, *reference.lonlat[reference.names.index(found.reference)])[2]
            if (found.status == "ok")
            else np.nan
        )
        rows.append((away, nearest, found.error, used))
        print(
            f"{frame.name} {found.status} {found.inliers} inliers, {away:.1f} m off, nearest {nearest:.1f} m "
            f"{found.reason}",
            flush=True,
        )
    away, nearest, error, used = np.array(rows).T
    ok = np.isfinite(away)
    print(
        f"{given.folder}: {len(rows)} frames, {ok.sum()} accepted, "
        f"{(time.monotonic() - started) / len(rows):.1f} s a frame"
    )
    if ok.any():
        good = away[ok] <= 2 * nearest[ok]
        print(
            f"within twice the nearest: {good.mean():.3f} of accepted, {good.sum() / len(rows):.3f} of all; "
            f"median {np.median(away[ok]):.1f} m, p90 {np.percentile(away[ok], 90):.1f} m, "
            f"nearest {np.median(nearest):.1f} m; "
            f"the frame that it was found in {np.median(used[ok]):.1f} m, within twice the nearest "
            f"{(used[ok] <= 2 * nearest[ok]).mean():.3f} of accepted; "
            f"told error {np.median(error[ok]):.1f} m; further off than five of it: {(away[ok] > 5 * error[ok]).sum()}"
        )
    if given.foreign:
        foreign = [load(p) for p in sorted((FOLDER / given.foreign).glob("*.[jJ][pP][gG]"))[::4]]
        states = [locate(f.image, reference, acceptance) for f in foreign]
        print(
            f"{given.foreign}: {sum(s.status == 'ok' for s in states)} of {len(states)} accepted, "
            f"most inliers {max(s.inliers for s in states)}"
        )


if __name__ == "__main__":
    main()
