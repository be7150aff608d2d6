"""The raster function of a deep learning package of ArcGIS: it goes into the package as ``GeomlClassifier.py``.

ArcGIS calls `GeomlClassifier.initialize` with the path of the model definition (``.emd``), then asks it for its
parameters and its tiles, and gives it the pixels of each tile with a margin
(https://github.com/Esri/raster-functions/wiki/PythonRasterFunction). It needs numpy and onnxruntime and nothing of
geoml. What the network sees is ``(value * scale + offset - mean) / std``, and 0 where there is no data.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

INVISIBLE = 4 | 8
"""What of the raster the result keeps: its pixel size, and how it is resampled; neither its type nor its nodata."""


class GeomlClassifier:
    """Classes of pixels by a model of geoml."""

    def __init__(self) -> None:
        self.name = "Classes of pixels"
        self.description = "Classifies each pixel by a model that was exported by geoml"

    def initialize(self, **kwargs: Any) -> None:
        """Read the model definition, ``model``: its path or its JSON; ``device`` 0 or more asks for a GPU."""
        if "model" not in kwargs:
            return
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        text, home = str(kwargs["model"]), Path(__file__).parent
        if not text.lstrip().startswith("{"):
            home, text = Path(text).parent, Path(text).read_text(encoding="utf-8")
        self.emd = json.loads(text)
        made = self.emd["Geoml"]
        self.mean, self.std = (np.array(made[name], np.float64) for name in ("Mean", "Std"))
        self.values = np.array([c["Value"] for c in self.emd["Classes"]], np.uint8)
        self.nodata, self.side = int(made["NoData"]), int(self.emd["ImageHeight"])
        self.padding, self.scale, self.offset = int(made["Padding"]), float(made["Scale"]), float(made["Offset"])
        wanted = ["CPUExecutionProvider"]
        if int(kwargs.get("device", -1)) >= 0 and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            wanted.insert(0, "CUDAExecutionProvider")
        self.session = onnxruntime.InferenceSession(str(home / self.emd["ModelFile"]), providers=wanted)

    def getParameterInfo(self) -> list[dict[str, Any]]:
        """The arguments of the tool."""
        about = "value = stored number * scale + offset, in the unit that the model was trained on"
        return [
            _parameter("raster", "raster", "Raster", "Bands in the order of the model", required=True),
            _parameter("model", "string", "Model definition", "The .emd file", required=True),
            _parameter("device", "numeric", "Device", "-1: processor; 0 or more: GPU", -1),
            _parameter("scale", "numeric", "Scale", about, self.scale),
            _parameter("offset", "numeric", "Offset", about, self.offset),
        ]

    def getConfiguration(self, **scalars: Any) -> dict[str, Any]:
        """Tiles as large as the part of a chip that is kept, with the margin that the network sees around it."""
        self.scale = float(scalars.get("scale", self.scale))
        self.offset = float(scalars.get("offset", self.offset))
        kept = self.side - 2 * self.padding
        return {
            "extractBands": tuple(self.emd["ExtractBands"]),
            "padding": self.padding,
            "tx": kept,
            "ty": kept,
            "fixedTileSize": 1,
            "inputMask": True,
            "inheritProperties": INVISIBLE,
        }

    def updateRasterInfo(self, **kwargs: Any) -> dict[str, Any]:
        """One band of bytes with the names and colours of the classes."""
        about = kwargs["output_info"]
        about["bandCount"], about["pixelType"], about["noData"] = 1, "u1", np.array([self.nodata], np.uint8)
        rows = []
        for k, c in enumerate(self.emd["Classes"], 1):
            red, green, blue = c["Color"]
            rows.append({"OID": k, "Value": c["Value"], "Class": c["Name"], "Red": red, "Green": green, "Blue": blue})
        kinds = {"OID": "OID", "Value": "Integer", "Class": "String", "Red": "Integer", "Green": "Integer"}
        fields = [{"name": n, "type": f"esriFieldType{k}", "alias": n} for n, k in {**kinds, "Blue": "Integer"}.items()]
        table = {"objectIdFieldName": "OID", "fields": fields, "features": [{"attributes": r} for r in rows]}
        about["rasterAttributeTable"] = json.dumps(table)
        return kwargs

    def updatePixels(self, tlc: Any, shape: Any, props: Any, **pixelBlocks: Any) -> dict[str, Any]:
        """Classes (1, y, x) of the pixels (band, y, x) of a tile, which have the margin on each side."""
        pixels = np.asarray(pixelBlocks["raster_pixels"])
        valid = np.isfinite(pixels).all(axis=0)
        if (mask := pixelBlocks.get("raster_mask")) is not None:
            valid &= np.asarray(mask).reshape(-1, *valid.shape).all(axis=0)
        classes = self.classify(pixels, valid)
        inner = valid[self.padding : self.padding + classes.shape[0], self.padding : self.padding + classes.shape[1]]
        out = np.where(inner, classes, np.uint8(self.nodata))[None]
        pixelBlocks["output_pixels"] = out.astype(props["pixelType"], copy=False)
        pixelBlocks["output_mask"] = inner[None].astype("u1", copy=False)
        return pixelBlocks

    def classify(self, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Classes (y, x) uint8 of what lies inside the margin of (band, y, x) pixels, whatever their number."""
        mul = (self.scale / self.std).astype(np.float32)[:, None, None]
        add = ((self.offset - self.mean) / self.std).astype(np.float32)[:, None, None]
        image = np.where(valid, pixels.astype(np.float32) * mul + add, np.float32(0))
        kept = self.side - 2 * self.padding
        high, wide = (n - 2 * self.padding for n in valid.shape)
        down, across = -(-high // kept), -(-wide // kept)
        more = ((0, 0), (0, down * kept - high), (0, across * kept - wide))
        image = np.pad(image, more)
        out = np.empty((down * kept, across * kept), np.uint8)
        name = self.session.get_inputs()[0].name
        for y in range(0, down * kept, kept):
            for x in range(0, across * kept, kept):
                chip = np.ascontiguousarray(image[None, :, y : y + self.side, x : x + self.side])
                raw = self.session.run(None, {name: chip})[0][0]
                inner = raw[:, self.padding : self.padding + kept, self.padding : self.padding + kept]
                out[y : y + kept, x : x + kept] = self.values[inner.argmax(axis=0)]
        return out[:high, :wide]


def _parameter(
    name: str, kind: str, shown: str, about: str, value: Any = None, required: bool = False
) -> dict[str, Any]:
    found = {"name": name, "dataType": kind, "required": required, "displayName": shown, "description": about}
    return found if value is None else {**found, "value": value}
