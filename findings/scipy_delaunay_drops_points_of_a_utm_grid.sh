#!/usr/bin/env bash
# scipy.spatial.Delaunay of a regular grid of points has them all about an origin, and leaves out a part of the same grid in
# UTM coordinates: they are "coplanar", in no triangle, without a word. LinearNDInterpolator and griddata, which triangulate so,
# are off at the very points that they were given. Seen with scipy 1.17.1.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.3.5
env/bin/python - <<'PY'
import numpy as np
import scipy
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

x, y = (v.ravel() * 0.5 for v in np.meshgrid(np.arange(100), np.arange(100)))
z = np.random.default_rng(0).random(len(x))
lost, off = {}, {}
for name, corner in (("origin", (0, 0)), ("utm", (500_000, 4_000_000))):
    places = np.column_stack([x, y]) + corner
    found = Delaunay(places)
    lost[name] = len(places) - len(np.unique(found.simplices))
    off[name] = np.nanmax(abs(LinearNDInterpolator(found, z)(places) - z))
    print(f"scipy {scipy.__version__}, {name}: {lost[name]} of {len(places)} points in no triangle,"
          f" up to {off[name]:.2f} off at the points themselves (values are 0 to 1)")
assert lost["origin"] == 0 and off["origin"] < 1e-6
assert lost["utm"] > 1000 and off["utm"] > 0.3
PY
