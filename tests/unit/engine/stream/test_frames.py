"""A file becomes a frame: its bands by name, its scale, its nodata; what it declares is bounded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from geoml import testing
from geoml.engine.stream import frames
from geoml.engine.stream.recipe import StreamRecipe
from geoml.errors import DataError, InputError

PLACE = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 600_000, 0, -10, 7_000_000)}
Recipe = Callable[..., StreamRecipe]
CARD = testing.card("made", ("red", "nir"), ("a", "b"))
COLOURS = testing.card("made", ("blue", "red"), ("a", "b"))


def write(path: Path, data: np.ndarray, names: tuple[str, ...] = (), **tags: object) -> Path:
    kind = {"driver": "GTiff", "count": len(data), "height": data.shape[1], "width": data.shape[2]}
    with rasterio.open(path, "w", dtype=data.dtype, nodata=0, **kind, **PLACE) as file:
        file.write(data)
        for band, name in enumerate(names, 1):
            file.set_band_description(band, name)
        for name, value in tags.items():
            setattr(file, name, value)
    return path


def test_the_pixels_grid_scale_and_nodata_of_a_geotiff(tmp_path: Path) -> None:
    data = testing.smooth((2, 20, 30), seed=1)
    data[:, 4:6] = 0
    path = write(tmp_path / "a.tif", data, scales=(1e-4, 1e-4), offsets=(-0.1, 0.0))
    found = frames.read(path, 7, 1.5, CARD, StreamRecipe(model="m"))
    assert (found.index, found.time, found.name, found.shape) == (7, 1.5, str(path), (20, 30))
    assert found.data.dtype == np.uint16
    np.testing.assert_array_equal(found.data, data)
    assert not found.valid[4:6].any()
    assert found.valid.sum() == 18 * 30
    assert (found.scale, found.offset) == ((1e-4, 1e-4), (-0.1, 0.0))
    assert found.geobox is not None
    assert found.geobox.affine == PLACE["transform"]
    assert found.read > 0
    given = frames.read(path, 7, 1.5, CARD, StreamRecipe(model="m", scale=0.5, offset=2.0))
    assert (given.scale, given.offset) == ((0.5, 0.5), (2.0, 2.0))


def test_bands_are_found_by_what_is_said_of_them(tmp_path: Path) -> None:
    data = testing.smooth((3, 8, 8), seed=1)
    named = write(tmp_path / "named.tif", data, ("nir", "blue", "red"))
    plain = write(tmp_path / "plain.tif", data)
    picture = tmp_path / "p.png"
    Image.fromarray(np.moveaxis(data.astype(np.uint8), 0, -1)).save(picture)
    cases = (
        (named, CARD, (), [2, 0]),
        (plain, CARD, ("red", "green", "nir"), [0, 2]),
        (plain, COLOURS, (), [2, 0]),
        (picture, COLOURS, (), [2, 0]),
        (plain, testing.card("made", ("a", "b", "c"), ("x",)), (), [0, 1, 2]),
    )
    for path, card, bands, order in cases:
        found = frames.read(path, 0, 0.0, card, StreamRecipe(model="m", bands=bands))
        expected = data.astype(np.uint8) if path == picture else data
        np.testing.assert_array_equal(found.data, expected[order])
    assert frames.read(picture, 0, 0.0, COLOURS, StreamRecipe(model="m")).geobox is None
    with pytest.raises(DataError, match=r"plain.tif: 3 bands; made takes 2 \(red nir\): name them with --bands"):
        frames.read(plain, 0, 0.0, CARD, StreamRecipe(model="m"))
    with pytest.raises(InputError, match="bands: nir of made not among red green"):
        frames.read(plain, 0, 0.0, CARD, StreamRecipe(model="m", bands=("red", "green")))
    with pytest.raises(DataError, match="3 bands; expected 4"):
        frames.read(plain, 0, 0.0, CARD, StreamRecipe.model_validate({"model": "m", "bands": "red,green,blue,nir"}))


def test_what_is_damaged_too_large_or_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(tmp_path / "whole.tif", testing.smooth((2, 64, 64), seed=1))
    cut, note, pipe = tmp_path / "cut.tif", tmp_path / "note.tif", tmp_path / "pipe.tif"
    cut.write_bytes(whole.read_bytes()[:600])
    note.write_text("no picture", encoding="utf-8")
    os.mkfifo(pipe)
    for path in (cut, note, pipe, tmp_path / "absent.tif"):
        with pytest.raises(DataError, match=path.name):
            frames.read(path, 0, 0.0, CARD, StreamRecipe(model="m"))
    monkeypatch.setattr(frames, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(DataError, match=r"declares 64 x 64 pixels; at most 4095 are decoded"):
        frames.read(whole, 0, 0.0, CARD, StreamRecipe(model="m"))
    monkeypatch.setattr(frames, "MAX_PIXELS", 64 * 64)
    monkeypatch.setattr(frames, "MAX_BYTES", 64 * 64 * 2 * 2 - 1)
    with pytest.raises(DataError, match=r"whole.tif: .*\d+ bytes; at most 16383 are read"):
        frames.read(whole, 0, 0.0, CARD, StreamRecipe(model="m"))


def test_a_header_that_declares_a_continent_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    kind = {"driver": "GTiff", "count": 2, "height": 60_000, "width": 60_000, "tiled": True, "sparse_ok": True}
    with rasterio.open(path, "w", dtype="uint8", **kind):
        pass
    assert path.stat().st_size < 2**20
    with pytest.raises(DataError, match=r"declares 60000 x 60000 pixels"):
        frames.read(path, 0, 0.0, CARD, StreamRecipe(model="m"))
