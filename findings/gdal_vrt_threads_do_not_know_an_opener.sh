#!/usr/bin/env bash
# A VRT that is opened with rasterio's `opener` loses its pixels without an error: GDAL 3.10 reads a window of a million pixels over
# several sources in threads of its own, where the opener is not known; each source fails to open ("ERROR 4: …: Success" on standard
# error), its pixels are zeros, and read() returns. VRT_NUM_THREADS=1 is the way round. A small window is right.
# Expected by most: the pixels, or an exception. Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.3.5
env/bin/python - <<'PY'
import numpy as np
import rasterio
from rasterio.windows import Window

SIDE = 700
place = {"crs": "EPSG:32633", "driver": "GTiff", "count": 1, "dtype": "uint8", "height": SIDE, "width": SIDE}
sources = ""
for row in (0, 1):
    for column in (0, 1):
        name = f"p{row}{column}.tif"
        at = rasterio.Affine(10, 0, 366000 + 10 * SIDE * column, 0, -10, 5810000 - 10 * SIDE * row)
        with rasterio.open(name, "w", transform=at, **place) as file:
            file.write(np.ones((1, SIDE, SIDE), np.uint8))
        sources += (
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand>'
            f'<SourceProperties RasterXSize="{SIDE}" RasterYSize="{SIDE}" DataType="Byte" BlockXSize="{SIDE}" BlockYSize="8"/>'
            f'<SrcRect xOff="0" yOff="0" xSize="{SIDE}" ySize="{SIDE}"/><DstRect xOff="{SIDE * column}" yOff="{SIDE * row}" '
            f'xSize="{SIDE}" ySize="{SIDE}"/></SimpleSource>'
        )
size = f'rasterXSize="{2 * SIDE}" rasterYSize="{2 * SIDE}"'
grid = "<SRS>EPSG:32633</SRS><GeoTransform>366000, 10, 0, 5810000, 0, -10</GeoTransform>"
band = f'<VRTRasterBand dataType="Byte" band="1">{sources}</VRTRasterBand>'
with open("all.vrt", "w") as file:
    file.write(f"<VRTDataset {size}>{grid}{band}</VRTDataset>")


def opener(path, mode="rb"):
    return open(path.rsplit("/", 1)[-1], "rb")


print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
shares = {}
for threads in ("2", "1"):  # by default as many as there are processors
    with rasterio.Env(VRT_NUM_THREADS=threads):
        with rasterio.open("all.vrt", opener=opener) as file:
            whole = file.read(1)
        with rasterio.open("all.vrt", opener=opener) as file:
            small = file.read(1, window=Window(SIDE - 50, SIDE - 50, 100, 100))
    shares[threads] = float(whole.mean()), float(small.mean())
with rasterio.open("all.vrt") as file:
    shares["no opener"] = float(file.read(1).mean()), 1.0
print("share of pixels that are there, of the whole and of a small window:", shares)
assert shares["1"] == (1.0, 1.0) and shares["no opener"][0] == 1.0, shares
assert shares["2"] == (0.0, 1.0), shares
PY
