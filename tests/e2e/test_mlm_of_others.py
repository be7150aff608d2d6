"""An MLM item that geoml has not written, with a ``.pt2`` beside it, makes the map that its program makes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import geoml
from geoml import testing
from geoml.errors import ModelError

LOW, HIGH = (0.0, 0.1), (0.5, 0.6)
"""Minimum and maximum of the scaling of each band."""


class Levels(nn.Module):
    """Class 1 where the second scaled band is above the first."""

    def forward(self, x: Tensor) -> Tensor:
        red, nir = x[:, :1], x[:, 1:]
        return torch.cat([red, nir], 1) * 8.0


def item(content: bytes) -> dict[str, Any]:
    """As the specification has it, with nothing of geoml's."""
    bands = ["red", "nir"]
    scaling = [{"type": "min-max", "minimum": a, "maximum": b} for a, b in zip(LOW, HIGH, strict=True)]
    shape, order = [-1, 2, 64, 64], ["batch", "channel", "height", "width"]
    classes = [{"value": 0, "name": "bare"}, {"value": 7, "name": "green", "color_hint": "2E7D32"}]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
        ],
        "id": "green-of-somebody",
        "geometry": {"type": "Point", "coordinates": [0, 0]},
        "bbox": [0, 0, 0, 0],
        "links": [],
        "properties": {
            "datetime": "2024-01-01T00:00:00Z",
            "gsd": 10,
            "mlm:name": "green of somebody",
            "mlm:architecture": "U-Net",
            "mlm:framework": "pytorch",
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:input": [
                {
                    "name": "two bands",
                    "bands": bands,
                    "input": {"shape": shape, "dim_order": order, "data_type": "float32"},
                    "value_scaling": scaling,
                }
            ],
            "mlm:output": [
                {
                    "name": "classes",
                    "tasks": ["semantic-segmentation"],
                    "result": {"shape": shape, "dim_order": order, "data_type": "float32"},
                    "classification:classes": classes,
                }
            ],
            "bands": [{"name": n} for n in bands],
        },
        "assets": {
            "program": {
                "href": "./green.pt2",
                "type": "application/zip",
                "roles": ["mlm:model"],
                "mlm:artifact_type": "torch.export.save",
                "file:checksum": f"1220{hashlib.sha256(content).hexdigest()}",
                "bands": [{"name": n} for n in bands],
            }
        },
    }


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "green"
    folder.mkdir()
    auto = torch.export.Dim.AUTO
    program = torch.export.export(Levels(), (torch.randn(2, 2, 64, 64),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    torch.export.save(program, folder / "green.pt2")
    (folder / "model.json").write_text(json.dumps(item((folder / "green.pt2").read_bytes())))
    return folder


def test_an_item_of_others_is_one_of_mlm_and_makes_a_map(
    package: Path, tmp_path: Path, stac_schemas: ModuleType
) -> None:
    assert any("mlm" in uri for uri in stac_schemas.validate(json.loads((package / "model.json").read_text())))
    data = testing.smooth((2, 96, 96), seed=0, low=1, high=6000)
    scene = testing.Scene(id="s", data=data, bands=("red", "nir"))
    catalog = testing.write_catalog(tmp_path / "catalog", [scene])
    query = {"catalog": str(catalog), "bbox": scene.bbox(), "datetime": ["2024"]}
    geoml.predict({"model": str(package), "query": query, "crs": "data", "features": False}, tmp_path / "run")
    (made,) = testing.read_map(tmp_path / "run", "class").values()
    rows, columns = np.nonzero(made.data[0] != 255)
    found = made.data[0][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    values = [(data[k] * 1e-4 - LOW[k]) / (HIGH[k] - LOW[k]) for k in (0, 1)]
    truth = np.where(values[1] > values[0], 7, 0)
    assert found.shape == truth.shape
    assert (found == truth).mean() > 0.999, "but for ties of rounding"
    assert {0, 7} == set(np.unique(found))


def test_a_program_that_was_changed_is_refused(package: Path) -> None:
    content = (package / "green.pt2").read_bytes()
    (package / "green.pt2").write_bytes(content[:-1] + b"x")
    from geoml.engine.packages.package import load

    with pytest.raises(ModelError, match="sha256"):
        load(package)
