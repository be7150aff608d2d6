#!/usr/bin/env bash
# In GRIB2 files GRIB_FORECAST_SECONDS of a sum or mean is where its period begins and GRIB_VALID_TIME where it ends, so the
# reference time and the forecast seconds do not add up to the valid time as they do for instants. The sums over 0-12 and 6-12
# hours have one valid time and differ in that number and in the name of the element alone: APCP12 and APCP06.
# Expected by most: reference + forecast = valid, and one element. Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4 numpy==2.3.5
env/bin/python - <<'PY'
import numpy as np
import rasterio

head = "CENTER=7 SUBCENTER=0 MASTER_TABLE=2 LOCAL_TABLE=1 SIGNF_REF_TIME=1 REF_TIME=2024-01-01T00:00:00Z PROD_STATUS=0 TYPE=1"
fields = {  # product definition templates 4.0 and 4.8
    "temperature at 12": ("0", "0 0 2 0 96 0 0 1 12 103 0 2 255 0 0"),
    "rain from 0 to 12": ("8", "1 8 2 0 96 0 0 1 0 1 0 0 255 0 0 2024 1 1 12 0 0 1 0 1 2 1 12 255 0"),
    "rain from 6 to 12": ("8", "1 8 2 0 96 0 0 1 6 1 0 0 255 0 0 2024 1 1 12 0 0 1 0 1 2 1 6 255 0"),
}
options = {}
for k, (number, values) in enumerate(fields.values(), 1):
    parts = {"DISCIPLINE": "0", "IDS": head, "PDS_PDTN": number, "PDS_TEMPLATE_ASSEMBLED_VALUES": values}
    options |= {f"BAND_{k}_{name}": text for name, text in parts.items()}
place = {"crs": "EPSG:4326", "transform": rasterio.Affine(1, 0, 0, 0, -1, 50), "width": 4, "height": 3, "dtype": "float64"}
with rasterio.open("three.grib2", "w", driver="GRIB", count=3, **place, **options) as file:
    file.write(np.ones((3, 3, 4)))
print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
found = []
with rasterio.open("three.grib2") as file:
    for k, name in enumerate(fields, 1):
        tags = file.tags(k)
        known, ahead, valid = (int(tags[f"GRIB_{t}"]) for t in ("REF_TIME", "FORECAST_SECONDS", "VALID_TIME"))
        found.append((tags["GRIB_ELEMENT"], ahead // 3600, (valid - known) // 3600))
        print(f"{name}: {found[-1][0]}, forecast hours {found[-1][1]}, valid {found[-1][2]} hours after the reference")
assert found == [("TMP", 12, 12), ("APCP12", 0, 12), ("APCP06", 6, 12)], found
PY
