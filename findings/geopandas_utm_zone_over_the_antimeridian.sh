#!/usr/bin/env bash
# GeoSeries.estimate_utm_crs() of a region in degrees over the antimeridian (Fiji, cut at 180 as RFC 7946 asks) names a zone on the
# other side of the Earth: EPSG:32730, south of Ghana. It takes the middle of the smallest and the largest longitude. Lengths and
# areas look right there, since the projection goes on beyond the pole, but north is down and east is left: rasters and directions are
# turned. In a projected CRS the same region gets its own zone, EPSG:32760. Expected by most: that zone in both cases.
# Seen with geopandas 1.1.1, pyproj 3.7.2, shapely 2.1.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check geopandas==1.1.1 pyproj==3.7.2 shapely==2.1.2 numpy==2.3.5
env/bin/python - <<'PY'
import geopandas
import shapely

print("geopandas", geopandas.__version__)
fiji = geopandas.GeoSeries([shapely.box(176.9, -19.2, 180, -16.1), shapely.box(-180, -19.2, -178.2, -16.1)], crs=4326)
degrees, metres = fiji.estimate_utm_crs(), fiji.to_crs(3832).estimate_utm_crs()  # 3832: the Pacific's own Mercator
here, north, east = [shapely.Point(178, -18), shapely.Point(178, -17), shapely.Point(179, -18)]
for crs in (degrees, metres):
    at, up, right = geopandas.GeoSeries([here, north, east], crs=4326).to_crs(crs)
    print(crs.to_authority()[1], crs.area_of_use.name)
    print(f"  one degree north is {up.y - at.y:+.0f} m, one degree east {right.x - at.x:+.0f} m from x {at.x:.0f} y {at.y:.0f}")
    turned = up.y < at.y and right.x < at.x
    assert (crs.to_epsg(), turned) in {(32730, True), (32760, False)}, (crs, turned)
assert (degrees.to_epsg(), metres.to_epsg()) == (32730, 32760)
PY
