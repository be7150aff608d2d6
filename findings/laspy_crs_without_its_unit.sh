#!/usr/bin/env bash
# GeoKeys of a LAS file may say a CRS in metres (3072: EPSG:26995) and, beside it, that the numbers are US survey feet (3076:
# 9003). laspy's parse_crs() returns the CRS without the unit: by it, points of Mississippi lie in New Jersey. Seen with laspy
# 2.7.0 and pyproj 3.7.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check laspy==2.7.0 pyproj==3.7.2 numpy==2.3.5
env/bin/python - <<'PY'
import struct

import laspy
import pyproj

keys = [(1024, 1), (3072, 26995), (3076, 9003)]
data = struct.pack("<4H", 1, 1, 0, len(keys)) + b"".join(struct.pack("<4H", key, 0, 1, value) for key, value in keys)
header = laspy.LasHeader(version="1.2", point_format=1)
header.scales = [0.01, 0.01, 0.01]
header.vlrs.append(laspy.VLR("LASF_Projection", 34735, "", data))
las = laspy.LasData(header)
las.x, las.y, las.z = [2_045_000.0], [1_267_500.0], [100.0]
las.write("a.las")
las = laspy.read("a.las")
crs = las.header.parse_crs()
to = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
x, y, foot = float(las.x[0]), float(las.y[0]), 1200 / 3937
print("laspy", laspy.__version__, "pyproj", pyproj.__version__, crs.to_string(), crs.axis_info[0].unit_name)
found, true = to.transform(x, y), to.transform(x * foot, y * foot)
print(f"by parse_crs: {found[0]:.2f} E {found[1]:.2f} N; with the unit of the file: {true[0]:.2f} E {true[1]:.2f} N")
assert [round(v) for v in found] == [-75, 40], found
assert [round(v) for v in true] == [-91, 33], true
PY
