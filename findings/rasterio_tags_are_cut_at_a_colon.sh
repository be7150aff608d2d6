#!/usr/bin/env bash
# rasterio cuts the name of a tag at its first colon: `system:time_start` of Earth Engine is read, and written, as the tag `system`
# with the value `time_start=…`, and of two such tags one is lost. GDAL itself keeps the name where another program wrote it.
# Expected by most: the name as it is. Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.3.5
env/bin/python - <<'PY'
from pathlib import Path

import numpy as np
import rasterio

place = {"crs": "EPSG:32633", "transform": rasterio.Affine(30, 0, 366000, 0, -30, 5810000)}
said = {"system:time_start": "1717236000000", "system:index": "20240601T100000"}
with rasterio.open("a.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8", **place) as file:
    file.write(np.ones((1, 4, 4), np.uint8))
    file.update_tags(**said)
with rasterio.open("a.tif") as file:
    print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
    written = file.tags()
print("written by rasterio:     ", written)
one, other = [f"{k.partition(':')[2]}={v}" for k, v in said.items()]
assert written["system"] in (one, other), written
assert not set(said) & set(written), written
# the same bytes with the name that another program writes: as long, so no offset moves
content = Path("a.tif").read_bytes()
kept = written["system"].partition("=")[0]
content = content.replace(f'name="system">{kept}='.encode(), f'name="system:{kept}">'.encode())
Path("b.tif").write_bytes(content)
assert f'name="system:{kept}">'.encode() in content
with rasterio.open("b.tif") as file:
    read = file.tags()
print("written by another:      ", read)
assert read["system"] == written["system"] and f"system:{kept}" not in read, read
PY
