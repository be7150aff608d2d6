"""Runs a deep learning package (.dlpk) on an image as ArcGIS does: ``PACKAGE IMAGE.npz CLASSES.npy ARGUMENTS``.

By itself, in a process that cannot import geoml or torch. From what Esri documents of raster functions: unpack, read
the model definition, import the class called like its file, initialize, ask for parameters and tiles, and hand over
tiles from the upper left corner with their margin, of which what lies outside of the raster is masked.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

package, image, out, arguments = sys.argv[1:]
for name in ("geoml", "torch", "rasterio"):
    sys.modules[name] = None  # type: ignore[assignment]
given = np.load(image)
pixels, valid = given["image"], given["valid"]
with tempfile.TemporaryDirectory() as folder:
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    (definition,) = Path(folder).glob("*.emd")
    emd = json.loads(definition.read_text(encoding="utf-8"))
    path = Path(folder) / emd["InferenceFunction"]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, path.stem)()
    function.initialize(model=str(definition), device=-1)
    known = {p["name"]: p.get("value") for p in function.getParameterInfo()}
    assert list(known)[:2] == ["raster", "model"]
    how = function.getConfiguration(**{k: v for k, v in (known | json.loads(arguments)).items() if v is not None})
    about = function.updateRasterInfo(output_info={"bandCount": 2, "pixelType": "u2"})["output_info"]
    table = json.loads(about["rasterAttributeTable"])
    assert [f["attributes"]["Value"] for f in table["features"]] == [c["Value"] for c in emd["Classes"]]
    assert (about["bandCount"], about["pixelType"]) == (1, "u1")

    pixels, margin, (height, width) = pixels[list(how["extractBands"])], how["padding"], valid.shape
    classes = np.full((height, width), int(about["noData"][0]), np.uint8)
    for y in range(0, height, how["ty"]):
        for x in range(0, width, how["tx"]):
            side = ((margin - y if y < margin else 0, 0), (margin - x if x < margin else 0, 0))
            rows = slice(max(y - margin, 0), y + how["ty"] + margin)
            columns = slice(max(x - margin, 0), x + how["tx"] + margin)
            block, mask = pixels[:, rows, columns], valid[rows, columns]
            tall, wide = how["ty"] + 2 * margin, how["tx"] + 2 * margin
            below, right = (n - m - s[0] for n, m, s in zip((tall, wide), mask.shape, side))  # noqa: B905
            more = ((side[0][0], below), (side[1][0], right))
            block, mask = np.pad(block, ((0, 0), *more), constant_values=7), np.pad(mask, more)
            answer = function.updatePixels(
                (x, y), (1, how["ty"], how["tx"]), {"pixelType": about["pixelType"]}, raster_pixels=block,
                raster_mask=np.broadcast_to(mask, block.shape).astype("u1"),
            )  # fmt: skip
            inside = (slice(0, min(how["ty"], height - y)), slice(0, min(how["tx"], width - x)))
            classes[y : y + how["ty"], x : x + how["tx"]] = answer["output_pixels"][0][inside]
            assert ((answer["output_pixels"][0] != about["noData"][0]) == (answer["output_mask"][0] != 0)).all()
np.save(out, classes)
