"""Output of a stream: a file for each layer of each frame, and a row for each frame in ``frames.parquet``.

A thread writes while the model works on the next frame; at most `ROOM` frames wait for it.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from PIL import Image

from geoml.cube.domain import likeness
from geoml.engine.contract import Layer, PixelOutput, Rows
from geoml.engine.stream.answers import FrameAnswer
from geoml.engine.stream.frames import Frame
from geoml.engine.stream.latency import Latency
from geoml.io.cards import domain
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.write import CogWriter
from geoml.io.stores.store import atomic
from geoml.logs import Threads

TABLE = "frames.parquet"
ROOM = 4
"""Answered frames that wait to be written."""
GROUP = 512
"""Rows of a group of the table: more are not held in memory."""
LOOK = 128
"""Pixels of a side of a frame that are compared with the training data, evenly spaced."""
LONGEST = 80
"""Characters of a source's name in the name of a file."""


class FrameWriter:
    """Takes answers in order; `finish` ends the table. Used as a context manager, which ends the thread."""

    def __init__(self, out: Path, card: MapCard, output: PixelOutput) -> None:
        self.out, self.card = out, card
        self.layers = [layer for layer in output.layers if not layer.extra]
        self.latency = Latency()
        self.counts, self.shapes = Counter[str](), Counter[str]()
        self.files = self.bytes = self.known = self.unlike = self.pixels = 0
        """``known`` pixels were compared with the training data, ``unlike`` of them are not like it."""
        self._shares = [c for c in card.classes if any(layer.key == "class" for layer in self.layers)]
        self._schema = _schema([c.name for c in self._shares])
        self._rows: list[dict[str, Any]] = []
        self._room = threading.Semaphore(ROOM)
        self._pending: Future[None] | None = None
        self._failed: BaseException | None = None
        self._stack = ExitStack()

    def __enter__(self) -> FrameWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic(self.out / TABLE))
            self._table = stack.enter_context(pq.ParquetWriter(temporary, self._schema, compression="zstd"))
            self._thread = stack.enter_context(Threads(1, "geoml-write"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def put(self, answer: FrameAnswer) -> None:
        """Write an answer; waits while `ROOM` others do. Raises what writing an earlier one raised."""
        self._room.acquire()
        if self._failed is not None:
            raise self._failed
        self._pending = self._thread.submit(self._write, answer)

    def finish(self) -> None:
        """Wait until all is written. Raises what writing raised."""
        if self._pending is not None:
            self._pending.result()
        if self._failed is not None:
            raise self._failed
        self._flush()

    def _write(self, answer: FrameAnswer) -> None:
        try:
            if self._failed is None:
                self._row(answer)
        except BaseException as err:  # for the thread that can act on it
            self._failed = err
        finally:
            self._room.release()

    def _row(self, answer: FrameAnswer) -> None:
        start = time.perf_counter()
        row: dict[str, Any] = {
            "index": answer.index, "time": answer.time, "path": answer.name, "status": answer.status,
            "reason": answer.reason or None,
        }  # fmt: skip
        if answer.rows is not None and answer.frame is not None:
            row |= self._files(answer, answer.frame, answer.rows) | self._told(answer.frame, answer.rows)
            ms = {**answer.ms, "latency": sum(answer.ms.values()), "write": 1000 * (time.perf_counter() - start)}
            self.latency.add(ms)
            row |= {f"{stage}_ms": value for stage, value in ms.items()}
        self.counts[answer.status] += 1
        self._rows.append(row)
        if len(self._rows) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._table.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def _files(self, answer: FrameAnswer, frame: Frame, rows: Rows) -> dict[str, Any]:
        stem = f"{answer.index:08d}"
        if "#" not in answer.name:  # the frames of a video have no names
            stem += f"_{Path(answer.name).stem[:LONGEST]}"
        names = []
        for layer in self.layers:
            path = write_layer(self.out / layer.key / stem, rows[layer.key], layer, frame.geobox)
            names.append(str(path.relative_to(self.out)))
            self.files, self.bytes = self.files + 1, self.bytes + path.stat().st_size
        height, width = frame.shape
        self.pixels += height * width
        self.shapes[f"{width}x{height}"] += 1
        return {"width": width, "height": height, "files": names}

    def _told(self, frame: Frame, rows: Rows) -> dict[str, Any]:
        """Shares of the frame: with data, unlike the training data, of each class."""
        valid = int(np.count_nonzero(frame.valid))
        told: dict[str, Any] = {"valid": valid / frame.valid.size}
        if self._shares:
            count = np.bincount(rows["class"][0][frame.valid], minlength=256)
            told |= {f"share_{c.name}": float(count[c.value] / valid) if valid else None for c in self._shares}
        if self.card.domain is not None:
            known, unlike = unlike_pixels(self.card, frame)
            self.known, self.unlike = self.known + known, self.unlike + unlike
            told["unlike"] = unlike / known if known else None
        return told


def unlike_pixels(card: MapCard, frame: Frame) -> tuple[int, int]:
    """(pixels, those of them that are unlike the training data), on evenly spaced ones; none without a record."""
    if card.domain is None:
        return 0, 0
    step = max(1, max(frame.shape) // LOOK)
    thin, valid = frame.data[:, ::step, ::step], frame.valid[::step, ::step]
    alike = likeness(card.domain, thin, valid, frame.scale, frame.offset)[valid]
    return alike.size, int(np.count_nonzero(alike < domain.OUTSIDE))


def write_layer(path: Path, values: NDArray[np.number], layer: Layer, geobox: GeoBox | None) -> Path:
    """Write (band, y, x) as ``path`` with the suffix of its kind, which is the answer.

    A COG on the grid of the frame; without one a PNG of the stored numbers where they are one band of bytes, with the
    colours of classes, else a TIFF without a place. Raises DataError if it cannot be written.
    """
    if geobox is None and values.dtype == np.uint8 and len(values) == 1:
        return _png(path.with_name(f"{path.name}.png"), values[0], layer)
    target = path.with_name(f"{path.name}.tif")
    height, width = values.shape[1:]
    # pixels from the lower left corner: the identity is what GDAL takes for none, with a warning
    plain = GeoBox((height, width), Affine(1, 0, 0, 0, -1, height), None)
    grid = plain if geobox is None else geobox
    with CogWriter(
        target, grid, values.dtype, bands=len(values), nodata=layer.nodata, colormap=layer.colormap, scale=layer.scale,
        offset=layer.offset, descriptions=layer.descriptions or layer.names, overview=layer.overview,
        predictor=layer.predictor,
    ) as writer:  # fmt: skip
        writer.write(values)
    return target


def _png(path: Path, values: NDArray[np.number], layer: Layer) -> Path:
    image = Image.fromarray(np.ascontiguousarray(values, np.uint8))
    if layer.colormap is not None:
        colours = np.zeros((256, 3), np.uint8)
        for value, rgba in layer.colormap.items():
            colours[value] = rgba[:3]
        image = image.convert("P") if image.mode != "L" else image
        image.putpalette(colours.tobytes())
    with atomic(path) as temporary:
        image.save(temporary, "PNG", compress_level=1)
    return path


def _schema(classes: list[str]) -> pa.Schema:
    known = {
        "index": pa.int64(), "time": pa.float64(), "path": pa.string(), "status": pa.string(), "reason": pa.string(),
        "width": pa.int32(), "height": pa.int32(), "files": pa.list_(pa.string()), "valid": pa.float64(),
        "unlike": pa.float64(),
    }  # fmt: skip
    stages = {f"{stage}_ms": pa.float64() for stage in ("read", "wait", "model", "latency", "write")}
    shares = {f"share_{name}": pa.float64() for name in classes}
    return pa.schema(list({**known, **stages, **shares}.items()))
