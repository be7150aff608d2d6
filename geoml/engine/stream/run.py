"""Run a stream: from a source and a model to a folder with maps, a table of frames and the latency."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geoml.cube.domain import magnitude
from geoml.engine.contract import output_of
from geoml.engine.inference.choice import asked_of_machine, choose_backend
from geoml.engine.inference.predict import Predictor
from geoml.engine.machine.shutdown import graceful_shutdown
from geoml.engine.packages import cards
from geoml.engine.packages.package import load
from geoml.engine.run.domain import wrong_unit
from geoml.engine.stream.answers import WARM, Answers, answers, one_date, side
from geoml.engine.stream.frames import Frame, Unread
from geoml.engine.stream.recipe import StreamRecipe
from geoml.engine.stream.sources import frames
from geoml.engine.stream.write import LOOK, FrameWriter, unlike_pixels
from geoml.errors import DataError, InputError, ModelError, NothingFound, limits
from geoml.io.cards.domain import describe, verdict
from geoml.io.cards.map_card import MapCard
from geoml.io.software import MADE_BY, software
from geoml.io.stores.remote import is_url
from geoml.io.stores.store import write_json
from geoml.recipe import parse

log = logging.getLogger(__name__)

RECORD = "stream.json"
SHAPES = 8
"""Sizes of frames that the record lists, the most common first."""

Progress = Callable[[int], None]
"""Called with the number of frames that have an answer or a reason since the last call."""


@limits("stream")
def stream(source: str | Path, out: str | Path, *, progress: Progress | None = None, **options: Any) -> dict[str, Any]:
    """Run a model on the frames of ``source`` and write to ``out``. Returns the contents of ``stream.json``.

    ``options`` are the fields of `StreamRecipe`; ``model`` is required. A frame that cannot be read or processed
    is a row in ``frames.parquet`` with the reason, and does not stop the others. Ctrl-C and SIGTERM end a stream
    cleanly: table and record are written.

    Raises InputError for unsuitable options, source or model or an ``out`` that is not empty, NothingFound if there is
    no frame, DataError if none could be processed or the disk is full, ModelError if the unit of the frames differs
    from that of the training data or the back end fails its proof, TransientError if memory runs out, MissingExtra if
    OpenCV is needed for a video or the library of the back end is missing.
    """
    recipe = parse(StreamRecipe, options, "stream")
    if is_url(str(out)):
        raise InputError(f"out: {out}; expected a folder of this machine")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"out: {folder} is not empty; expected a new folder")
    card = cards.read(recipe.model, MapCard)
    output = output_of(card)
    one_date(card)
    if output.joiner == "owner":
        raise InputError(f"model: {card.name} finds objects; expected one that maps every pixel")
    coming = fitting(frames(source, card, recipe), card, recipe)
    package = load(recipe.model)
    chosen = choose_backend(package, side(card, output, recipe), asked_of_machine())
    predictor = Predictor(package, output, backend=chosen.backend)
    stopped: BaseException | None = None
    with graceful_shutdown(), answers(predictor, coming, recipe, paced=recipe.live and not recipe.watch) as found:
        start = time.perf_counter()
        with FrameWriter(folder, card, output) as writer:
            try:
                for answer in found:
                    if answer.reason:
                        log.warning("%s: %s", answer.status, answer.reason)
                    writer.put(answer)
                    if progress:
                        progress(1)
            except (KeyboardInterrupt, SystemExit) as err:
                stopped = err
            writer.finish()
        record = _record(recipe, str(source), found, writer, time.perf_counter() - start)
        record["backend"] = {**chosen.properties[MADE_BY], "device": str(chosen.backend.device)}
        record["status"] = "finished" if stopped is None else "stopped"
        write_json(folder / RECORD, record)
        if stopped is not None:
            raise stopped
    _require_one(record, str(source))
    return record


def _require_one(record: dict[str, Any], source: str) -> None:
    counts = record["frames"]
    if not sum(counts.values()):
        raise NothingFound(f"source: no frame came from {source}")
    if not counts["done"]:
        raise DataError(
            f"{source}: none of {sum(counts.values())} frames could be processed; frames.parquet has the reasons"
        )


def fitting(
    coming: Iterator[Frame | Unread | None], card: MapCard, recipe: StreamRecipe
) -> Iterator[Frame | Unread | None]:
    """The same, once the first frame with data is compared with the training data. Raises ModelError as the recipe
    asks."""
    done = card.domain is None
    for entry in coming:
        if not done and isinstance(entry, Frame):
            done = compared(entry, card, recipe.out_of_domain)
        yield entry


def compared(frame: Frame, card: MapCard, allowed: str) -> bool:
    """Compare a frame with the training data; False where there is nothing to compare. ``allowed`` is the recipe's
    ``out_of_domain``. Raises ModelError as it asks."""
    known, unlike = unlike_pixels(card, frame)
    if card.domain is None or not known:
        return False
    step = max(1, max(frame.shape) // LOOK)
    thin = frame.data[:, ::step, ::step][:, frame.valid[::step, ::step]]
    physical = thin.T * np.array(frame.scale) + np.array(frame.offset)
    times = magnitude(physical) / np.where(np.array(card.domain.magnitude) > 0, card.domain.magnitude, np.nan)
    wrong = wrong_unit([float(t) if np.isfinite(t) else 1.0 for t in times], card)
    if wrong and allowed != "allow":
        raise ModelError(f"{card.name}: {frame.name}: {wrong}")
    if allowed == "refuse" and verdict(unlike / known) != "inside":
        about = describe({"outside": unlike / known, "verdict": verdict(unlike / known)})
        raise ModelError(f"{card.name}: {frame.name}: {about}; expected images like them, or --out-of-domain warn")
    return True


def _record(recipe: StreamRecipe, source: str, found: Answers, writer: FrameWriter, seconds: float) -> dict[str, Any]:
    """Contents of ``stream.json``, without how the stream ended."""
    card, done, share = found.predictor.card, writer.counts["done"], None
    if writer.known:
        outside = writer.unlike / writer.known
        share = {"outside": round(outside, 6), "verdict": verdict(outside)}
    price = []
    if card.short_radius is not None and found.predictor.grid.whole and recipe.halo:
        price = [card.short_radius.price(card.radius or 0, found.predictor.grid.step)]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "source": source,
        "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "frames": {status: writer.counts[status] for status in ("done", "failed", "dropped")},
        "shapes": dict(writer.shapes.most_common(SHAPES)),
        "latency_ms": writer.latency.summary(),
        "warmup": {"answers": WARM, "seconds": round(found.warmed, 3)},
        "seconds": round(seconds, 3),
        "rate": {
            "frames_per_second": round(done / seconds, 3),
            "megapixels_per_second": round(writer.pixels / 1e6 / seconds, 3),
        },
        "files": writer.files,
        "bytes": writer.bytes,
        "threads": torch.get_num_threads(),
        "domain": share,
        **({"warnings": price} if price else {}),
        "versions": dict(software()),
    }
