"""Counts that come with a block are those of its files, however its rows were cut, and spare reading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from geoml.engine.contract import Layer
from geoml.grid.plane import Block, Plane
from geoml.io.cog.write import CogWriter
from geoml.io.report import blocks
from geoml.io.report.counts import SIDE, BlockCounter, observed_of, sketch_of
from geoml.io.report.part import ReportPart
from geoml.outputs._class_report import ClassReport
from geoml.outputs._quantity_report import QuantityReport
from geoml.testing.scenes import card

BLOCK = Block(Plane("EPSG:32621", 30.0, 0.5), 96, -880, 240)
CARD = card("made", ["red"], ["low", "middle", "high"])


def classes() -> tuple[ReportPart, dict[str, NDArray[Any]]]:
    random = np.random.default_rng(3)
    found = random.choice(np.array([0, 1, 2, 9, CARD.nodata], np.uint8), (96, 96))
    sure = np.where(found == CARD.nodata, np.uint8(255), random.integers(100, 251, (96, 96), np.uint8))
    valid = random.choice(np.array([0, 1, 3, 255], np.uint8), (96, 96))
    return ClassReport(CARD, "confidence", 250, 255), {"class": found, "confidence": sure, "valid": valid}


def quantity() -> tuple[ReportPart, dict[str, NDArray[Any]]]:
    random, none = np.random.default_rng(4), float(np.finfo(np.float32).min)
    value, spread = (random.normal(scale=s, size=(96, 96)).astype(np.float32) for s in (1e4, 1e-4))
    value[:10] = spread[:10] = none
    layers = [Layer(key=k, title=k, dtype="float32", nodata=none) for k in ("value", "spread")]
    return QuantityReport("height", "m", layers, {}), {
        "value": value,
        "spread": spread,
        "valid": np.ones_like(value, np.uint8),
    }


def counter(part: ReportPart, layers: dict[str, NDArray[Any]], cuts: list[int]) -> BlockCounter:
    made = BlockCounter(part, BLOCK.window.shape, BLOCK.geobox.affine, BLOCK.plane.crs)
    for top, end in zip(cuts, [*cuts[1:], 96], strict=True):
        made.add(top, {name: values[top:end] for name, values in layers.items()})
    return made


@pytest.mark.parametrize("made", [classes, quantity])
def test_any_cut_of_the_rows_counts_the_same(made: Any) -> None:
    part, layers = made()
    whole = counter(part, layers, [0])
    for cuts in ([0, 1, 50], list(range(96)), [0, 64]):
        other = counter(part, layers, cuts)
        assert other.counts() == whole.counts()
        assert other.sketches({}) == whole.sketches({})
    assert json.loads(json.dumps(whole.counts())) == whole.counts()


def test_numbers_are_those_of_the_pixels() -> None:
    part, layers = classes()
    counts = counter(part, layers, [0, 40]).counts()
    part.add(counts)
    found, sure = layers["class"], layers["confidence"]
    assert counts["classes"]["values"] == [0, 1, 2, 9]
    for k, value in enumerate([0, 1, 2, 9]):
        mine = found == value
        assert counts["classes"]["pixels"][k] == mine.sum()
        assert counts["classes"]["sums"][k] == sure[mine].sum(dtype=int)
        assert counts["classes"]["area"][k] == pytest.approx(900 * mine.sum(), rel=1e-2)
    assert sum(counts["classes"]["tenths"]) == (found != CARD.nodata).sum()
    np.testing.assert_array_equal(observed_of(counts)[[0, 1, 3]], [(layers["valid"] == n).sum() for n in (0, 1, 3)])
    assert observed_of(counts).sum() == (layers["valid"] != 255).sum()
    part, layers = quantity()
    counts = counter(part, layers, [0]).counts()
    assert counts["value"]["pixels"] == 86 * 96
    assert counts["value"]["sum"] == pytest.approx(layers["value"][10:].sum(dtype=np.float64), rel=1e-12)
    assert counts["spread"]["high"] == layers["spread"].max()


def test_areas_are_those_that_the_page_has_of_files(tmp_path: Path) -> None:
    part, layers = classes()
    opened = {}
    for name, values in layers.items():
        with CogWriter(tmp_path / f"{name}.tif", BLOCK.geobox, "uint8", nodata=255, tile=64) as cog:
            cog.write(values)
        opened[name] = rasterio.open(tmp_path / f"{name}.tif")
    mine, theirs = counter(part, layers, [0, 30]).counts(), blocks._counted(opened, part)
    np.testing.assert_allclose(mine["classes"].pop("area"), theirs["classes"].pop("area"), rtol=1e-12)
    assert mine == theirs


def test_a_sketch_is_the_layer_in_small() -> None:
    part, layers = quantity()
    picture = np.random.default_rng(1).integers(0, 255, (40, 40, 4), np.uint8)
    texts = counter(part, layers, [0, 33]).sketches({"image": picture})
    middles = np.arange(SIDE) * 12 + 6
    np.testing.assert_array_equal(
        sketch_of(texts["value"], part.layers["value"])[0], layers["value"][np.ix_(middles, middles)]
    )
    assert sketch_of(texts["image"], None).shape == (4, SIDE, SIDE)
    with pytest.raises(ValueError, match="reshape"):
        sketch_of(texts["image"], part.layers["value"].__class__("x", "x", part.layers["value"].resampling, 0))
