#!/usr/bin/env bash
# A GeoTIFF with a nodata tag *and* an internal mask: GDAL goes by the mask alone, so pixels of the nodata value count as data.
# Expected by most: a pixel is missing when either says so. Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.3.5
env/bin/python - <<'PY'
import numpy as np
import rasterio

data = np.full((64, 64), 7, np.uint8)
data[:32] = 0  # half of the pixels hold the nodata value
mask = np.full((64, 64), 255, np.uint8)
mask[:, :16] = 0  # a quarter is masked
profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint8", "nodata": 0, "crs": "EPSG:32633",
           "transform": rasterio.Affine(10, 0, 500000, 0, -10, 5000000)}
with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open("both.tif", "w", **profile) as file:
    file.write(data, 1)
    file.write_mask(mask)
with rasterio.open("both.tif") as file:
    print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "nodata", file.nodata, file.mask_flag_enums)
    share = float((file.read_masks(1) > 0).mean())
    masked = file.read(1, masked=True)
print("valid by GDAL:", share, " valid by both together:", float(((data != 0) & (mask > 0)).mean()))
print("values of valid pixels:", np.unique(masked.compressed()))
assert share == 0.75, share
assert 0 in masked.compressed(), "nodata comes through as data"
PY
