"""What is written of a frame is what its answer holds, on the grid of the frame; the queue to the disk is bounded."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from PIL import Image

from geoml import testing
from geoml.cube.domain import fit
from geoml.engine.contract import Layer, Rows, output_of
from geoml.engine.stream import write
from geoml.engine.stream.answers import FrameAnswer
from geoml.engine.stream.frames import Frame
from geoml.engine.stream.write import FrameWriter, unlike_pixels, write_layer
from geoml.errors import DataError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard

GRID = GeoBox((20, 30), rasterio.Affine(10, 0, 600_000, 0, -10, 7_000_000), "EPSG:32633")
CARD = testing.card("made", ("red", "nir"), ("low", "high"))


def answered(index: int, geobox: GeoBox | None = GRID, name: str = "") -> FrameAnswer:
    data = np.full((2, 20, 30), 7, np.uint8)
    valid = np.ones((20, 30), bool)
    valid[:, :6] = False
    classes = np.where(valid, np.uint8(0), np.uint8(255))[None]
    classes[:, :5, 6:] = 1
    rows = Rows(
        Window(0, 0, 20, 30), {"class": classes, "confidence": np.where(valid, 200, 255)[None].astype(np.uint8)}
    )
    name = name or f"/in/chip-{index}.tif"
    frame = Frame(index, name, index / 2, data, valid, (1.0,) * 2, (0.0,) * 2, geobox)
    return FrameAnswer(index, name, index / 2, "done", rows, frame, ms={"read": 1.0, "wait": 2.0, "model": 4.0})


def write_all(out: Path, answers: list[FrameAnswer], card: MapCard = CARD) -> FrameWriter:
    with FrameWriter(out, card, output_of(card)) as writer:  # type: ignore[arg-type]
        for one in answers:
            writer.put(one)
        writer.finish()
    return writer


def test_a_chip_with_a_place_becomes_cogs_on_its_grid(tmp_path: Path) -> None:
    one = answered(4)
    write_all(tmp_path, [one])
    assert one.rows is not None
    for key in ("class", "confidence"):
        with rasterio.open(tmp_path / key / "00000004_chip-4.tif") as file:
            np.testing.assert_array_equal(file.read(), one.rows[key])
            assert (file.crs.to_epsg(), file.transform) == (32633, GRID.affine)
            assert file.nodata == 255
    with rasterio.open(tmp_path / "class" / "00000004_chip-4.tif") as file:
        assert file.colormap(1)[1][:3] == tuple(bytes.fromhex(CARD.classes[1].color[1:]))


def test_a_frame_without_a_place_becomes_pictures(tmp_path: Path) -> None:
    one = answered(0, None, "film.mp4#0")
    write_all(tmp_path, [one])
    assert one.rows is not None
    for key in ("class", "confidence"):
        with Image.open(tmp_path / key / "00000000.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), one.rows[key][0])
            assert picture.mode == ("P" if key == "class" else "L")
    with Image.open(tmp_path / "class" / "00000000.png") as picture:
        assert picture.convert("RGB").getpixel((10, 2)) == tuple(bytes.fromhex(CARD.classes[1].color[1:]))
    wide = write_layer(
        tmp_path / "value", np.full((1, 20, 30), -5, np.int16), Layer(key="v", title="", dtype="int16"), None
    )
    with rasterio.open(wide) as file:
        assert (file.crs, file.read()[0, 0, 0]) == (None, -5)


def test_a_row_for_every_frame(tmp_path: Path) -> None:
    seen = np.random.default_rng(0).normal(7, 0.5, (500, 2))
    card = CARD.model_copy(update={"domain": fit(seen, seen)})
    lost = FrameAnswer(1, "b.tif", 0.5, "failed", reason="b.tif: damaged")
    late = FrameAnswer(2, "c.tif", 1.0, "dropped", reason="the model was too late for it")
    writer = write_all(tmp_path, [answered(0), lost, late, answered(3)], card)
    rows = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    assert [r["index"] for r in rows] == [0, 1, 2, 3]
    assert [r["status"] for r in rows] == ["done", "failed", "dropped", "done"]
    assert [r["time"] for r in rows] == [0, 0.5, 1.0, 1.5]
    assert rows[1]["reason"] == "b.tif: damaged"
    first = rows[0]
    assert (first["width"], first["height"], first["path"]) == (30, 20, "/in/chip-0.tif")
    assert first["files"] == ["class/00000000_chip-0.tif", "confidence/00000000_chip-0.tif"]
    assert first["valid"] == pytest.approx(24 / 30)
    assert first["share_high"] == pytest.approx(5 / 20)
    assert first["share_low"] == pytest.approx(15 / 20)
    assert (first["read_ms"], first["wait_ms"], first["model_ms"], first["latency_ms"]) == (1, 2, 4, 7)
    assert first["write_ms"] > 0
    assert first["unlike"] == 0
    assert rows[1]["latency_ms"] is None
    assert writer.counts == {"done": 2, "failed": 1, "dropped": 1}
    assert (writer.files, writer.shapes) == (4, {"30x20": 2})
    there = list(tmp_path.rglob("*.tif"))
    assert writer.bytes == sum(p.stat().st_size for p in there)
    assert (writer.known, writer.unlike) == (2 * 20 * 24, 0)


def test_pixels_unlike_the_training_data_are_counted() -> None:
    seen = np.random.default_rng(0).normal(100, 1, (500, 2))
    card = CARD.model_copy(update={"domain": fit(seen, seen)})
    frame = answered(0).frame
    assert frame is not None
    assert unlike_pixels(card, frame) == (20 * 24, 20 * 24)
    assert unlike_pixels(CARD, frame) == (0, 0)


def test_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "GROUP", 2)
    write_all(tmp_path, [FrameAnswer(k, "a", 0.0, "failed", reason="no") for k in range(5)])
    about = pq.ParquetFile(tmp_path / "frames.parquet").metadata
    assert (about.num_rows, about.num_row_groups) == (5, 3)


def test_answers_wait_while_the_disk_is_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, put = threading.Event(), []
    layer = write.write_layer

    def slow(*args: object) -> Path:
        assert gate.wait(10)
        return layer(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(write, "write_layer", slow)

    def feed(writer: FrameWriter) -> None:
        for k in range(10):
            writer.put(answered(k))
            put.append(k)

    with FrameWriter(tmp_path, CARD, output_of(CARD)) as writer:  # type: ignore[arg-type]
        thread = threading.Thread(target=feed, args=(writer,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert len(put) == write.ROOM
        gate.set()
        thread.join(10)
        writer.finish()
    assert len(pq.read_table(tmp_path / "frames.parquet")) == 10


def test_a_disk_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    (tmp_path / "class").write_text("in the way", encoding="utf-8")
    with pytest.raises(DataError, match="class"):
        write_all(tmp_path, [answered(k) for k in range(20)])
    assert [p.name for p in tmp_path.iterdir()] == ["class"], "and leaves no table"
