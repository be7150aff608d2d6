"""SAHI 0.12.8 over a picture with the network of a package: ``python detect_sahi.py PICTURE PACKAGE OUT.json``.

SAHI cuts, runs and joins by its defaults; only the network and the reading of its peaks are geoml's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction
from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list

from geoml.engine.contract import output_of
from geoml.engine.packages.package import load
from geoml.grid.plane import Window

SLICE = 512


class Package(DetectionModel):  # type: ignore[misc]  # no types
    """A package of geoml as a model of SAHI."""

    def load_model(self) -> None:
        """The network and its card."""
        package = load(self.model_path)
        self.model, self.card = package.module.eval(), package.card
        self.read = output_of(self.card)

    def perform_inference(self, image: np.ndarray[Any, Any]) -> None:
        """Boxes of one slice (y, x, band), or of the whole picture shrunk to its size."""
        card, factor = self.card, max(1.0, max(image.shape[:2]) / SLICE)
        image = np.asarray(Image.fromarray(image).resize([round(n / factor) for n in image.shape[1::-1]]))
        mean, std = (torch.tensor([getattr(b, k) for b in card.bands])[:, None, None] for k in ("mean", "std"))
        x = (torch.from_numpy(image.copy()).permute(2, 0, 1).float() - mean) / std
        side = [-n % card.stride for n in x.shape[1:]]
        with torch.inference_mode():
            raw = self.model(torch.nn.functional.pad(x, (0, side[1], 0, side[0]))[None])[0]
        known = torch.ones(raw.shape[-2:], dtype=torch.bool)
        found = self.read.candidates(raw, Window(0, 0, *raw.shape[-2:]), known)
        self._original_predictions = {k: v.numpy() for k, v in found.items()} | {"factor": factor}

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        one = self._original_predictions
        y, x = one["y"] + 0.5, one["x"] + 0.5
        boxes = np.column_stack([x - one["west"], y - one["north"], x + one["east"], y + one["south"]]) * one["factor"]
        sure = one["score"] >= self.confidence_threshold
        shift, shape = fix_shift_amount_list(shift_amount_list)[0], (fix_full_shape_list(full_shape_list) or [None])[0]
        about = {"category_id": 0, "category_name": "car", "shift_amount": shift, "full_shape": shape}
        found = zip(boxes[sure].tolist(), one["score"][sure], strict=True)
        self._object_prediction_list_per_image = [[ObjectPrediction(bbox=b, score=float(s), **about) for b, s in found]]


torch.set_num_threads(1)
model = Package(model_path=sys.argv[2], confidence_threshold=0.3, device="cpu", category_mapping={"0": "car"})
found = get_sliced_prediction(sys.argv[1], model, slice_height=SLICE, slice_width=SLICE, verbose=0)
Path(sys.argv[3]).write_text(json.dumps({"boxes": len(found.object_prediction_list)}))
