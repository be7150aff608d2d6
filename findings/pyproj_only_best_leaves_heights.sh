#!/usr/bin/env bash
# A change of vertical datum whose geoid grid is not installed (the wheels hold none) leaves heights as they are, also with
# only_best=True, documented "to cause PROJ to error out" then; the true change here is 51 m. The only sign is the word "ballpark"
# in the description, and errcheck=True finds no error. Seen with pyproj 3.7.2 (PROJ 9.5.1).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check pyproj==3.7.2
PROJ_NETWORK=OFF env/bin/python -W ignore - <<'PY'
import pyproj
from pyproj.transformer import TransformerGroup

print("pyproj", pyproj.__version__, "PROJ", pyproj.proj_version_str)
ellipsoid, egm96 = "EPSG:4979", "EPSG:4326+5773"
for only_best in (False, True):
    way = pyproj.Transformer.from_crs(ellipsoid, egm96, always_xy=True, only_best=only_best)
    height = way.transform(5.2, 44.2, 100.0, errcheck=True)[2]
    print(f"only_best={only_best}: 100 m above the ellipsoid are {height} m above EGM96; {way.description[:90]}")
    assert height == 100.0, height
group = TransformerGroup(ellipsoid, egm96, always_xy=True)
print("not available:", [grid.short_name for way in group.unavailable_operations for grid in way.grids])
none = TransformerGroup(ellipsoid, egm96, always_xy=True, allow_ballpark=False)
print("without ballpark:", none.transformers)
assert not none.transformers
PY
