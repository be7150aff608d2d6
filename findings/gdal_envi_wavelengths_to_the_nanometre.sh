#!/usr/bin/env bash
# GDAL gives bands of ENVI files CENTRAL_WAVELENGTH_UM and FWHM_UM with three decimals: whole nanometres. Where two cameras overlap,
# as at 951.677 and 952.355 nm of EnMAP, two bands are at one wavelength then. `bbl` and `fwhm` reach no band at all.
# Expected by most: the header's numbers. Seen with rasterio 1.4.4 (GDAL 3.10.3); the item `wavelength` of a band is exact.
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
with rasterio.open("two.img", "w", driver="ENVI", width=4, height=4, count=2, dtype="float32", **place) as file:
    file.write(np.ones((2, 4, 4), np.float32))
header = Path("two.hdr")
said = "wavelength units = Micrometers\nwavelength = {0.951677, 0.952355}\nfwhm = {0.00982789, 0.0106589}\nbbl = {1, 0}\n"
header.write_text(header.read_text() + said)
with rasterio.open("two.img") as file:
    print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
    imagery = [file.tags(k, ns="IMAGERY") for k in (1, 2)]
    own = [file.tags(k) for k in (1, 2)]
print("IMAGERY:", imagery)
print("bands:  ", own)
assert [t["CENTRAL_WAVELENGTH_UM"] for t in imagery] == ["0.952", "0.952"], imagery
assert [t["wavelength"] for t in own] == ["0.951677", "0.952355"], own
assert not any({"bbl", "fwhm"} & set(t) for t in own), own
PY
