#!/usr/bin/env bash
# ukis-csmask's CSmask(nodata_value=...) takes nodata out of its mask of valid pixels only where that value is 0: it compares a
# mask of zeros and ones with the value itself. With -9999, as HLS has it, pixels without data are "valid".
# Seen with ukis-csmask 1.0.0 and ONNX Runtime 1.32.0:
#   nodata_value=0: 0 of 1600 pixels without data are valid
#   nodata_value=-9999: 1600 of 1600 pixels without data are valid
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check ukis-csmask==1.0.0 onnxruntime==1.32.0 numpy==2.4.6
env/bin/python - <<'PY'
from importlib.metadata import version

import numpy as np
from ukis_csmask.mask import CSmask

print("ukis-csmask", version("ukis-csmask"), "onnxruntime", version("onnxruntime"))
bands = ["blue", "green", "red", "nir"]
found = {}
for value in (0, -9999):
    image = np.full((256, 256, 4), 0.08, np.float32)
    image[..., 3] = 0.3
    image[100:140, 100:140] = value
    mask = CSmask(image, bands, "l2a", nodata_value=value, invalid_buffer=1, providers=["CPUExecutionProvider"])
    found[value] = int(mask.valid[100:140, 100:140, 0].sum())
    print(f"nodata_value={value}: {found[value]} of 1600 pixels without data are valid")
assert found == {0: 0, -9999: 1600}, found
PY
