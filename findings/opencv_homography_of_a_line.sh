#!/usr/bin/env bash
# Points on one line fix no homography. Robust methods of cv2.findHomography return None for them; the plain one returns a
# matrix of rank one, without a word, that sends all of the plane to one line. Seen with opencv-python-headless 4.12.0.88.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3}" -m venv env
env/bin/python -m pip install --quiet --disable-pip-version-check opencv-python-headless==4.12.0.88
env/bin/python - <<'PY'
import cv2
import numpy as np

line = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]], np.float32)
print("OpenCV", cv2.__version__)
ranks = {}
for name, method in (("plain", 0), ("RANSAC", cv2.RANSAC), ("LMEDS", cv2.LMEDS), ("USAC", cv2.USAC_DEFAULT)):
    matrix, _ = cv2.findHomography(line, 2 * line + 1, method, 1.0)
    ranks[name] = None if matrix is None else int(np.linalg.matrix_rank(matrix))
    print(f"{name}: {'None' if matrix is None else f'rank {ranks[name]}'}")
assert ranks == {"plain": 1, "RANSAC": None, "LMEDS": None, "USAC": None}, ranks
PY
