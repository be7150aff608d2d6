#!/usr/bin/env bash
# Float32 rasters whose nodata is the lowest float32 (-3.4028234663852886e+38, what ArcGIS and others write): rasterio.merge
# warns that this cannot safely be represented in float32, though it can, says that it falls back to the first file's
# nodata, which is the same, and gives 0 everywhere: every pixel of every file is lost. With -9999 or NaN all are there.
# Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.3.5
env/bin/python - <<'PY'
import warnings

import numpy as np
import rasterio
from rasterio.merge import merge

lowest = float(np.finfo(np.float32).min)
assert float(np.float32(lowest)) == lowest, "a float32 holds it exactly"
found = {}
for nodata in (lowest, -9999.0, float("nan")):
    for number in (0, 1):
        values = np.full((1, 4, 4), 5, np.float32)
        values[0, 0, 0] = nodata
        about = {"driver": "GTiff", "width": 4, "height": 4, "count": 1, "dtype": "float32", "crs": "EPSG:32633"}
        place = rasterio.Affine(10, 0, 500000 + 40 * number, 0, -10, 5000000)
        with rasterio.open(f"{number}.tif", "w", **about, nodata=nodata, transform=place) as file:
            file.write(values)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        merged, _ = merge(["0.tif", "1.tif"])
    said = [str(w.message) for w in caught if "nodata" in str(w.message)]
    found[f"{nodata:g}"] = int((merged == 5).sum()), int((merged == 0).sum()), len(said)
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
for nodata, (fives, zeros, warned) in found.items():
    print(f"nodata {nodata}: {fives} of 30 pixels are 5, {zeros} are 0, {warned} warnings")
assert found == {"-3.40282e+38": (0, 32, 1), "-9999": (30, 0, 0), "nan": (30, 0, 0)}, found
PY
