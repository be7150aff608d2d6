#!/usr/bin/env bash
# A raster with an alpha band and a nodata tag: the mask of a band goes by nodata alone (the alpha no longer counts), and
# dataset_mask() calls a pixel valid when *any* band, the alpha among them, is not nodata. Three answers for one file.
# Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.3.5
env/bin/python - <<'PY'
import numpy as np
import rasterio

grey = np.full((64, 64), 7, np.uint8)
grey[:32] = 0
alpha = np.full((64, 64), 255, np.uint8)
alpha[:, :16] = 0
profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 2, "dtype": "uint8", "crs": "EPSG:32633", "alpha": "yes",
           "photometric": "MINISBLACK", "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5000000)}
shares = {}
for name, nodata in (("alpha alone", None), ("alpha and nodata", 0)):
    with rasterio.open("a.tif", "w", **profile, nodata=nodata) as file:
        file.write(grey, 1)
        file.write(alpha, 2)
    with rasterio.open("a.tif") as file:
        shares[name] = float((file.read_masks(1) > 0).mean()), float((file.dataset_mask() > 0).mean())
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
for name, (band, whole) in shares.items():
    print(f"{name}: read_masks(1) {band}, dataset_mask() {whole}")
print("not transparent and not nodata:", float(((grey != 0) & (alpha > 0)).mean()))
assert shares == {"alpha alone": (0.75, 0.75), "alpha and nodata": (0.5, 0.875)}, shares
PY
