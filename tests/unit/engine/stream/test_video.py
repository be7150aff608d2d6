"""The frames of a video are its pictures, in order, at their times; no other file is handed to FFmpeg."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from geoml import testing
from geoml.engine.stream import frames as bounds
from geoml.engine.stream.frames import Frame, Unread
from geoml.engine.stream.recipe import StreamRecipe
from geoml.engine.stream.sources import frames
from geoml.errors import DataError, InputError, MissingExtra

Recipe = Callable[..., StreamRecipe]
CARD = testing.card("made", ("red", "green", "blue"), ("a", "b"))
PICTURES = np.random.default_rng(0).integers(0, 256, (9, 40, 56, 3), np.uint8)
"""(frame, y, x, red green blue)."""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames without loss, ten a second."""
    path = tmp_path_factory.mktemp("video") / "made.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 10.0, (56, 40))
    for picture in PICTURES:
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
    writer.release()
    return path


def test_the_pictures_in_order_at_their_times(video: Path, recipe: Recipe) -> None:
    found = list(frames(video, CARD, recipe(scale=None)))
    assert len(found) == 9
    for k, one in enumerate(found):
        assert isinstance(one, Frame)
        assert (one.index, one.name) == (k, f"{video}#{k}")
        assert one.time == pytest.approx(k / 10)
        np.testing.assert_array_equal(one.data, np.moveaxis(PICTURES[k], -1, 0))
        assert one.valid.all()
        assert one.scale == (1.0, 1.0, 1.0)


def test_one_of_several_frames_and_the_bands_of_the_model(video: Path, recipe: Recipe) -> None:
    blue_red = testing.card("made", ("blue", "red"), ("a", "b"))
    found = list(frames(video, blue_red, recipe(every=4)))
    assert [f.index for f in found if f] == [0, 4, 8]
    assert isinstance(found[1], Frame)
    np.testing.assert_array_equal(found[1].data, np.moveaxis(PICTURES[4][..., [2, 0]], -1, 0))
    with pytest.raises(DataError, match=r"red nir\): name them"):
        frames(video, testing.card("made", ("red", "nir"), ("a", "b")), recipe())
    with pytest.raises(InputError, match="bands: nir"):
        frames(video, testing.card("made", ("red", "nir"), ("a", "b")), recipe(bands=("red", "green", "blue")))


def test_a_video_that_ends_too_soon_says_where(video: Path, tmp_path: Path, recipe: Recipe) -> None:
    whole, cut = video.read_bytes(), tmp_path / "cut.avi"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    found = [f for f in frames(cut, CARD, recipe()) if f]
    last = found[-1]
    assert isinstance(last, Unread)
    assert 2 <= last.index < 9
    assert f"cut.avi: ends after {last.index} of the 9 frames" in str(last.error)
    np.testing.assert_array_equal(found[0].data, np.moveaxis(PICTURES[0], -1, 0))  # type: ignore[union-attr]


def test_only_a_container_of_video_is_handed_on(video: Path, tmp_path: Path, recipe: Recipe) -> None:
    for name, body in (
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n"),
        ("concat.mkv", b"ffconcat version 1.0\nfile /etc/hostname\n"),
        ("empty.avi", b""),
    ):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(DataError, match=f"{name}: does not begin as a video"):
            frames(tmp_path / name, CARD, recipe())
    (tmp_path / "junk.avi").write_bytes(b"RIFF\0\0\0\0AVI LIST" + bytes(100))
    with pytest.raises(DataError, match=r"junk\.avi"):
        list(frames(tmp_path / "junk.avi", CARD, recipe()))


def test_too_large_frames_are_refused_before_one_is_decoded(
    video: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_PIXELS", 40 * 56 - 1)
    with pytest.raises(DataError, match="declares 56 x 40 pixels"):
        frames(video, CARD, recipe())


def test_without_opencv_the_extra_is_named(video: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "cv2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"geoml\[stream\]"):
        frames(video, CARD, recipe())
