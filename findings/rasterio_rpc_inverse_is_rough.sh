#!/usr/bin/env bash
# rasterio's RPCTransformer gives the ground of a pixel (xy) to a tenth of a pixel only: GDAL's iteration stops there unless
# RPC_PIXEL_ERROR_THRESHOLD says otherwise, so a pixel does not come back to itself (rowcol), although the way from the ground
# is exact. Seen with rasterio 1.4.4 (GDAL 3.10.3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check rasterio==1.4.4
env/bin/python -W ignore - <<'PY'
import numpy as np
import rasterio
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

print("rasterio", rasterio.__version__, "GDAL", rasterio.__gdal_version__)
line, samp, one = [0.0] * 20, [0.0] * 20, [1.0] + [0.0] * 19
line[1], line[2], line[3], line[7] = 0.02, -1.03, 0.012, 2e-4
samp[1], samp[2], samp[3], samp[7] = 1.02, 0.017, -0.0035, 2.5e-3
rpc = RPC(height_off=500, height_scale=500, lat_off=44.1, lat_scale=0.1, line_den_coeff=one, line_num_coeff=line,
          line_off=20000, line_scale=21000, long_off=5.3, long_scale=0.13, samp_den_coeff=one, samp_num_coeff=samp,
          samp_off=19000, samp_scale=20000)
rows, columns = np.linspace(100, 40000, 50), np.linspace(300, 38000, 50)
heights = np.full(50, 800.0)
worst = {}
for options in ({}, {"RPC_PIXEL_ERROR_THRESHOLD": 1e-6}):
    with RPCTransformer(rpc, **options) as transformer:
        x, y = transformer.xy(rows, columns, zs=heights, offset="ul")
        back = transformer.rowcol(x, y, zs=heights, op=lambda v: v)
    worst[bool(options)] = max(np.abs(back[0] - rows).max(), np.abs(back[1] - columns).max())
    print(options or "as it is", f"there and back misses by {worst[bool(options)]:.2g} pixels at most")
assert worst[False] > 0.005 > 1e-5 > worst[True]
PY
