"""What the tests of objects learn in a minute: rectangles of two classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affine import Affine

from geoml import testing
from geoml.testing.objects import RECTANGLES, rectangles, write_boxes

BANDS = ("red", "nir")
SIDES = (8, 40)
"""Pixels; chips of the training have 96, and the network sees some 46 around a centre."""


def training(root: Path) -> dict[str, Any]:
    """A recipe that learns the rectangles in a minute; its scenes are written below ``root``."""
    for k in range(14):
        name = f"{'train' if k < 10 else 'val' if k < 12 else 'test'}-{k}"
        image, boxes = rectangles((256, 256), 50, seed=k, sides=SIDES)
        (root / "images").mkdir(parents=True, exist_ok=True)
        place = Affine(10, 0, 600_000 + 5_000 * k, 0, -10, 7_000_000)
        testing.write_cog(root / "images" / f"{name}.tif", image, crs="EPSG:32621", transform=place, nodata=0)
        write_boxes(root / "boxes" / f"{name}.geojson", boxes)
    colors = ("#e31a1c", "#1f78b4")
    return {
        "name": "rectangles",
        "task": "detection",
        "model": {
            "architecture": "centre",
            "config": {"encoder": "plain", "depth": 3, "decoder_channels": [32, 24, 12], "width": 12},
        },
        "bands": list(BANDS),
        "gsd": 10,
        "classes": [
            {"value": k, "name": n, "color": c} for k, (n, c) in enumerate(zip(RECTANGLES, colors, strict=True))
        ],
        "source": {
            "kind": "boxes", "root": str(root), "images": "images/{id}.tif", "boxes": "boxes/{id}.geojson",
            "coordinates": "pixels", "field": "name", "file_bands": list(BANDS),
        },
        "split": {"kind": "files", "val": ["val-*"], "test": ["test-*"]},
        "sampling": {"samples": 100},
        "optimiser": {"lr": 0.003, "clip": 5.0},
        "schedule": {"warmup": 0.2},
        "epochs": 14,
        "batch": 4,
        "chip_size": 96,
        "precision": "fp32",
        "seed": 1,
    }  # fmt: skip
