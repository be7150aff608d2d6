#!/usr/bin/env bash
# odc-stac sees one band in an asset of four whose bands are told as STAC 1.1 tells them (the common field `bands`), and
# loads that one without a word: it reads the older `raster:bands` alone. Asked for the second band it raises KeyError.
# Expected by most: pystac writes and reads 1.1, so what builds on it counts the bands of 1.1. Seen with odc-stac 0.5.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check odc-stac==0.5.2 pystac==1.15.2 rasterio==1.4.4
env/bin/python - <<'PY'
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pystac
import rasterio
from odc.stac import load
from rasterio.transform import from_origin

warnings.simplefilter("ignore")
print(*(f"{p} {version(p)}" for p in ("odc-stac", "odc-loader", "pystac", "rasterio")))
NAMES = ("blue", "green", "red", "nir")
place = from_origin(500_000, 5_000_000, 10, 10)
with rasterio.open("image.tif", "w", driver="GTiff", width=64, height=64, count=4, dtype="uint16", nodata=0,
                   crs="EPSG:32633", transform=place) as file:  # fmt: skip
    file.write(np.stack([np.full((64, 64), 100 * (k + 1), np.uint16) for k in range(4)]))


def item(field: str) -> pystac.Item:
    bands = [{"name": n, "data_type": "uint16", "nodata": 0} for n in NAMES]
    corners = [[15.0, 45.14], [15.01, 45.14], [15.01, 45.16], [15.0, 45.16], [15.0, 45.14]]
    about = {"proj:code": "EPSG:32633", "proj:shape": [64, 64], "proj:transform": list(place)[:6]}
    made = pystac.Item("a", {"type": "Polygon", "coordinates": [corners]}, [15.0, 45.14, 15.01, 45.16],
                       datetime(2026, 6, 1, tzinfo=UTC), about)  # fmt: skip
    path = str(Path("image.tif").absolute())
    asset = pystac.Asset(path, media_type=pystac.MediaType.COG, roles=["data"], extra_fields={field: bands})
    made.add_asset("image", asset)
    return made


def loaded(field: str, **asked: object) -> str:
    try:
        cube = load([item(field)], crs="EPSG:32633", resolution=10, **asked)
    except (KeyError, ValueError) as error:
        return f"{type(error).__name__} {error}"
    return str({name: int(cube[name].max()) for name in cube.data_vars})


said = {(field, words): loaded(field, **({"bands": [words]} if words else {}))
        for field in ("bands", "raster:bands") for words in ("", "image.2", "green")}  # fmt: skip
for (field, words), what in said.items():
    print(f"{field:13}{words or 'all':9}{what}")
assert pystac.get_stac_version() == "1.1.0"
assert said["bands", ""] == "{'image': 100}"
assert said["bands", "image.2"].startswith("KeyError")
assert said["raster:bands", "image.2"] == "{'image.2': 200}"
PY
