"""Pictures as backbones take them: upright squares in order, whatever is among them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.geolocation.pictures import prepare as pictures
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.prepare import in_order, read, square
from geoml.testing import pictures as made


def key(reference: Reference, sha256: str) -> bytes:
    return bytes.fromhex(sha256)


def test_the_middle_is_taken_and_nothing_is_stretched() -> None:
    rgb = np.zeros((40, 100, 3), np.uint8)
    cv2.circle(rgb, (50, 20), 10, (255, 255, 255), -1)
    for size in (20, 40, 80):
        out = square(rgb, size)
        assert out.shape == (size, size, 3)
        white = out[..., 0] > 127
        rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
        assert rows[-1] - rows[0] == pytest.approx(columns[-1] - columns[0], abs=1)
        assert white.mean() == pytest.approx(np.pi * 10.5**2 / 40**2, rel=0.1)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 64))
@settings(max_examples=30, deadline=None)
def test_any_shape_becomes_a_square(height: int, width: int, size: int) -> None:
    assert square(np.full((height, width, 3), 7, np.uint8), size).tolist() == np.full((size, size, 3), 7).tolist()


def test_order_is_kept_and_what_is_known_is_not_decoded(
    tmp_path: Path, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(threads=4)
    made.folder(tmp_path, 30)
    references = [Reference(p.name, str(p)) for p in sorted(tmp_path.iterdir())]
    plain = [read(r, 16, key) for r in references]
    late = {references[k].id: 0.03 for k in (0, 7, 8)}
    bytes_of = pictures._read_bytes

    def slow(reference: Reference) -> bytes:
        time.sleep(late.get(reference.id, 0))
        return bytes_of(reference)

    monkeypatch.setattr(pictures, "_read_bytes", slow)
    known = {p.key for k, p in enumerate(plain) if k % 2 and p.key}
    found = list(in_order(references, 16, key, known))
    assert [p.reference.id for p in found] == [r.id for r in references]
    for k, (a, b) in enumerate(zip(plain, found, strict=True)):
        assert (b.rgb is None) == bool(k % 2)
        assert b.rgb is None or (a.rgb == b.rgb).all()
        assert a.sha256 == b.sha256


def test_a_picture_that_is_none_says_why(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    gone = read(Reference("gone.jpg", str(tmp_path / "gone.jpg")), 16, key)
    text = read(Reference("text.jpg", str(tmp_path / "text.jpg")), 16, key)
    refused = read(Reference("row 3", "", refused="row 3 names no picture"), 16, key)
    locked = read(Reference("d", "", refused="permission: this folder cannot be listed"), 16, key)
    assert [(p.status, p.reason.split(":")[0]) for p in (gone, text, refused, locked)] == [
        ("unreadable", "missing"),
        ("unreadable", "not_a_picture"),
        ("refused", "row 3 names no picture"),
        ("unreadable", "permission"),
    ]
    assert gone.sha256 is None
    assert text.sha256 is not None
    assert all(p.key is None and p.rgb is None for p in (gone, text, refused, locked))
