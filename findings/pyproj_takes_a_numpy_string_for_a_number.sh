#!/usr/bin/env bash
# pyproj takes a string of numpy, as np.unique() and a loop over an array of names give them, for a number, since numpy's strings have
# __int__: "EPSG:32633" becomes "EPSG:EPSG:32633", and a WKT or PROJ text fails alike. np.str_ is a str, compares and prints as one, and
# rasterio takes it. Expected by most: the CRS of the same text. Seen with pyproj 3.7.2, numpy 2.3.5, rasterio 1.4.4.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check pyproj==3.7.2 numpy==2.3.5 rasterio==1.4.4
env/bin/python - <<'PY'
import numpy as np
import pyproj
import rasterio.crs

print("pyproj", pyproj.__version__, "numpy", np.__version__, "rasterio", rasterio.__version__)
name = np.unique(["EPSG:32633"])[0]
assert isinstance(name, str)
assert name == "EPSG:32633"
print(repr(name), "rasterio:", rasterio.crs.CRS.from_user_input(name), "pyproj, of str(name):", pyproj.CRS.from_user_input(str(name)).name)
for text in (name, np.str_("+proj=utm +zone=33 +datum=WGS84")):
    try:
        made = pyproj.CRS.from_user_input(text)
    except pyproj.exceptions.CRSError as err:
        print("pyproj:", err)
        assert f"EPSG:{text}" in str(err), err
    else:
        raise SystemExit(f"pyproj takes {text!r} now: {made}")
PY
