"""The frames of a video file, by OpenCV's FFmpeg, the extra ``stream``.

FFmpeg knows many formats, some of which name other files or hosts: only a regular file that begins as a container of
video does is handed to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoml.engine.stream.frames import COLOURS, Frame, TakesBands, Unread, bounded, chosen, scalings
from geoml.engine.stream.recipe import StreamRecipe
from geoml.errors import DataError, MissingExtra
from geoml.io.stores.store import check_regular

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts"})


def opencv() -> ModuleType:
    """OpenCV. Raises MissingExtra without it."""
    try:
        import cv2
    except ImportError as err:
        raise MissingExtra("video: OpenCV is not installed; pip install 'geoml[stream]'") from err
    return cv2


def video(path: Path, card: TakesBands, recipe: StreamRecipe) -> Iterator[Frame | Unread | None]:
    """Its frames as red, green and blue, one of `StreamRecipe.every`; ``time`` is that of the video itself.

    A video that ends before the last frame that it declares gives an `Unread` there. Raises at once DataError for a
    file that cannot be opened or declares too large frames, InputError for bands that do not fit, MissingExtra.
    """
    cv2 = opencv()
    order = chosen(card, recipe, 3, COLOURS, str(path))
    if not _is_container(check_regular(path)):
        raise DataError(f"{path}: does not begin as a video (MP4, MOV, AVI, Matroska, WebM, MPEG)")
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise DataError(f"{path}: cannot be opened as a video")
    shape = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    bounded(str(path), shape, 3, 1)
    return _frames(cv2, capture, path, order, recipe)


def _frames(
    cv2: ModuleType, capture: Any, path: Path, order: list[int], recipe: StreamRecipe
) -> Iterator[Frame | Unread | None]:
    declared, rate = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), float(capture.get(cv2.CAP_PROP_FPS))
    scale, offset = scalings(recipe, [(1.0, 0.0)] * len(order))
    index, at = 0, 0.0
    try:
        while capture.grab():
            told = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            at = told if told > 0 or index == 0 else index / rate if rate > 0 else 0.0
            if index % recipe.every == 0:
                start = time.perf_counter()
                name = f"{path}#{index}"
                fine, image = capture.retrieve()
                if not fine:
                    yield Unread(index, name, at, DataError(f"{name}: cannot be decoded"))
                else:
                    data = _bands(image, order)
                    done = time.perf_counter()
                    valid = np.ones(data.shape[1:], bool)
                    yield Frame(index, name, at, data, valid, scale, offset, None, done - start, done)
            index += 1
        if index < declared:
            why = f"{path}: ends after {index} of the {declared} frames that it declares"
            yield Unread(index, f"{path}#{index}", at, DataError(why))
    finally:
        capture.release()


def _bands(image: NDArray[np.uint8], order: list[int]) -> NDArray[np.uint8]:
    """(band, y, x) of (y, x, blue green red)."""
    return np.ascontiguousarray(np.stack([image[..., 2 - k] for k in order]))


def _is_container(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or head.startswith((b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3"))
        or (len(head) > 188 and head[0] == 0x47 and head[188] == 0x47)
    )
