#!/usr/bin/env bash
# A projected CRS with ellipsoidal heights (a UTM zone promoted to 3D) cannot be written into the keys of a GeoTIFF, with
# GEOTIFF_VERSION=1.1 neither. GDAL says nothing and puts the whole of it into an .aux.xml beside the file: without that file,
# as when only the TIFF is copied or read by range, there is no CRS at all, not even the horizontal one. A compound CRS with a
# vertical part is kept. Seen with rasterio 1.4.4 (GDAL 3.10.3) and pyproj 3.7.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 pyproj==3.7.2 numpy==2.3.5
env/bin/python -W ignore - <<'PY'
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.transform import Affine

flat = pyproj.CRS.from_epsg(32631)
kinds = {
    "3D": flat.to_3d().to_wkt(),
    "compound": pyproj.crs.CompoundCRS("a", [flat, pyproj.CRS.from_epsg(5773)]).to_wkt(),
}
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__, "pyproj", pyproj.__version__)
found = {}
for name, wkt in kinds.items():
    path = Path(f"{name}.tif")
    with rasterio.open(
        path, "w", driver="GTiff", width=2, height=2, count=1, dtype="float32", crs=rasterio.crs.CRS.from_wkt(wkt),
        transform=Affine(1, 0, 5e5, 0, -1, 5e6), GEOTIFF_VERSION="1.1",
    ) as file:
        file.write(np.zeros((1, 2, 2), "float32"))
    with rasterio.open(path) as file:
        beside = file.crs is not None
    aux = Path(f"{name}.tif.aux.xml")
    there = aux.exists()
    aux.unlink(missing_ok=True)
    with rasterio.open(path) as file:
        found[name] = beside, there, file.crs is not None
print("CRS read, .aux.xml written, CRS read without it:", found)
assert found == {"3D": (True, True, False), "compound": (True, False, True)}, found
PY
