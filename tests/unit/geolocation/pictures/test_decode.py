"""Pictures: every kind of bad file has its code, and pixels and places are those that OpenCV and GDAL find."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from geoml.errors import DataError
from geoml.geolocation.pictures.decode import UnreadablePhoto, read
from geoml.geolocation.pictures.exif import GPS, read_exif

BASE = np.zeros((40, 60, 3), np.uint8)
BASE[:20, :30], BASE[20:, 30:], BASE[:20, 30:] = (220, 30, 30), (30, 200, 40), (40, 40, 210)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_bytes(gps: dict[int, Any] | None = None, inner: dict[int, Any] | None = None, turn: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = turn
    tags.get_ifd(0x8825).update(gps or {})
    tags.get_ifd(0x8769).update(inner or {})
    return tags.tobytes()


def place(lat: float, lon: float, **more: Any) -> dict[int, Any]:
    def dms(v: float) -> tuple[float, float, float]:
        minutes = (abs(v) % 1) * 60
        return float(int(abs(v))), float(int(minutes)), (minutes % 1) * 60

    refs = {GPS.GPSLatitudeRef: "N" if lat >= 0 else "S", GPS.GPSLongitudeRef: "E" if lon >= 0 else "W"}
    return {**refs, GPS.GPSLatitude: dms(lat), GPS.GPSLongitude: dms(lon), **{GPS[k]: v for k, v in more.items()}}


def code(source: Any) -> str:
    with pytest.raises(UnreadablePhoto) as caught:
        read(source)
    assert isinstance(caught.value, DataError)
    assert caught.value.reason.startswith(f"{caught.value.code}: ")
    return caught.value.code


def test_pixels_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data := encoded(Image.fromarray(BASE), "PNG"))
    photo = read(path)
    np.testing.assert_array_equal(photo.rgb, BASE)
    assert (photo.sha256, photo.format, photo.shape) == (hashlib.sha256(data).hexdigest(), "PNG", (40, 60))
    assert photo.problems == photo.exif.problems == ()
    assert photo.exif.lon is None


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_rotation_by_exif_is_applied_once(turn: int, kind: str) -> None:
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    data = encoded(Image.fromarray(BASE), kind, exif=exif_bytes(turn=turn), **options)
    photo = read(data)
    if kind in ("JPEG", "TIFF"):
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]  # turns as EXIF says
    else:
        flips = {2: BASE[:, ::-1], 3: BASE[::-1, ::-1], 4: BASE[::-1], 5: BASE.swapaxes(0, 1)}
        more = {6: np.rot90(BASE, -1), 7: np.rot90(BASE, 2).swapaxes(0, 1), 8: np.rot90(BASE, 1)}
        expected = {1: BASE, **flips, **more}[turn]
    assert photo.shape == photo.rgb.shape[:2] == expected.shape[:2] == ((60, 40) if turn >= 5 else (40, 60))
    assert np.abs(photo.rgb.astype(int) - expected).max() <= 3
    assert read(data, 10).rgb.shape[:2] == ((15, 10) if turn >= 5 else (10, 15))


def test_a_reduced_picture_is_the_picture_reduced() -> None:
    y, x = np.mgrid[:800, :1200] / 100
    big = np.stack([127 + 100 * np.sin(x), 127 + 100 * np.cos(y), 60 + 10 * x], -1).astype(np.uint8)
    small = read(encoded(Image.fromarray(big), quality=95), 100).rgb
    assert small.shape == (100, 150, 3)
    expected = cv2.resize(big, (150, 100), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - expected).mean() < 2
    assert read(encoded(Image.fromarray(BASE)), 500).rgb.shape == (40, 60, 3)


def test_kinds_of_pixels() -> None:
    grey = Image.fromarray(BASE[..., 0])
    assert (read(encoded(grey, "PNG")).rgb == BASE[..., :1]).all()
    deep = Image.fromarray(BASE[..., 0].astype(np.uint16) * 257)
    for kind in ("PNG", "TIFF"):
        photo = read(encoded(deep, kind))
        assert photo.problems == ("16_bit",)
        assert (photo.rgb == BASE[..., :1]).all()
    real = Image.fromarray(np.where(np.eye(40, 60) > 0, np.nan, np.arange(60.0)).astype(np.float32))
    photo = read(encoded(real, "TIFF"))
    assert photo.problems == ("stretched",)
    assert (photo.rgb.min(), photo.rgb.max()) == (0, 255)
    inks = read(encoded(Image.fromarray(BASE).convert("CMYK"), quality=100))
    assert inks.problems == ("cmyk",)
    assert np.abs(inks.rgb.astype(int) - BASE).max() < 40
    clear = Image.fromarray(np.dstack([BASE, np.repeat([[0], [255]], 20, 0) * np.ones((1, 60))]).astype(np.uint8))
    photo = read(encoded(clear, "PNG"))
    assert photo.problems == ("transparent",)
    assert (photo.rgb[:20] == 255).all()
    assert (photo.rgb[20:] == BASE[20:]).all()
    indexed = Image.fromarray(BASE).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    photo = read(encoded(indexed, "PNG", transparency=indexed.getpixel((0, 0))))
    assert (photo.rgb[:20, :30] == 255).all()
    assert (photo.rgb[25, 45] == BASE[25, 45]).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_the_first(kind: str) -> None:
    frames = [Image.new("RGB", (8, 6), c) for c in ("red", "blue")]
    extra = {"lossless": True} if kind == "WEBP" else {}
    photo = read(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **extra))
    assert photo.problems == ("several_frames",)
    assert (photo.rgb == [255, 0, 0]).all()


def declared(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_bytes_that_are_no_picture() -> None:
    jpeg, png = encoded(Image.fromarray(BASE)), encoded(Image.fromarray(BASE), "PNG")
    assert code(b"") == "empty"
    for text in (b"hello", b"<svg/>", b"%PDF-1.7", b"P6\n1 1\n255\n\0\0\0", b"8BPS" + b"\0" * 60, b"<VRTDataset/>"):
        assert code(text) == "not_a_picture"
    assert code(jpeg[:-300]) == "truncated"
    assert code(png[: len(png) // 2]) in ("truncated", "damaged")
    assert code(jpeg[:20]) in ("truncated", "damaged")
    assert code(png[:40] + b"\xff" * 40 + png[80:]) == "damaged"
    assert code(b"\0\0\0\x18ftypheic" + b"\0" * 50) in ("needs_heif", "damaged")
    assert code(encoded(Image.fromarray(BASE), "PPM")) == "not_a_picture"


@pytest.mark.parametrize(
    ("bands", "dtype", "expected"),
    [
        (1, "uint8", ""),
        (3, "uint8", ""),
        (1, "uint16", ""),
        (3, "uint16", "unsupported"),
        (6, "uint8", "unsupported"),
        (4, "float32", "unsupported"),
    ],
)
def test_rasters(tmp_path: Path, bands: int, dtype: str, expected: str) -> None:
    pixels = np.moveaxis(np.repeat(BASE[..., :1], bands, 2), -1, 0).astype(dtype) * (257 if dtype == "uint16" else 1)
    path, profile = tmp_path / "a.tif", {"driver": "COG", "count": bands, "height": 40, "width": 60, "dtype": dtype}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6), **profile) as file:
        file.write(pixels)
    if expected:
        assert code(path) == expected
        assert code(path.read_bytes()[:100]) in ("damaged", "truncated")
    else:
        np.testing.assert_array_equal(read(path).rgb, np.repeat(BASE[..., :1], 3, 2))


@pytest.mark.parametrize("size", [(20_000, 20_000), (2_000_000_000, 2_000_000_000)])
def test_a_bomb_is_not_decoded(size: tuple[int, int]) -> None:
    assert code(declared(*size)) == "too_many_pixels"


def test_a_compressed_text_bomb_is_a_reason() -> None:
    png = encoded(Image.fromarray(BASE), "PNG")
    body = b"a\0\0" + zlib.compress(b"0" * 80_000_000, 9)
    part = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    data = png[:33] + part + png[33:]
    assert code(data) == "damaged"


@given(st.data())
def test_any_damage_is_a_picture_or_a_reason(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from(DAMAGED))
    broken = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
        broken[at] = data.draw(st.integers(0, 255))
    known = {"empty", "damaged", "truncated", "not_a_picture", "too_many_pixels", "unsupported", ""}
    found, photo = "", None
    try:
        photo = read(bytes(broken[: data.draw(st.integers(0, len(whole)))]))
    except UnreadablePhoto as err:
        found = err.code
    assert found in known
    assert photo is None or (photo.rgb.dtype == np.uint8 and photo.rgb.ndim == 3)


DAMAGED = [
    encoded(Image.fromarray(BASE), kind, exif=exif_bytes(place(10, 20, GPSAltitude=5.0)))
    for kind in ("JPEG", "PNG", "WEBP", "TIFF")
] + [encoded(Image.fromarray(BASE), "GIF"), encoded(Image.fromarray(BASE), "BMP")]


def test_what_is_no_file(tmp_path: Path) -> None:
    assert code(tmp_path / "none.jpg") == "missing"
    assert code(tmp_path) == "folder"
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert code(tmp_path / "a") == "link_loop"
    os.mkfifo(tmp_path / "pipe.jpg")
    assert code(tmp_path / "pipe.jpg") == "not_a_file"
    assert code("/dev/null") == "not_a_file"
    assert code("a\0b.jpg") == "not_a_file"
    (tmp_path / "huge.jpg").touch()
    os.truncate(tmp_path / "huge.jpg", 2**30)
    assert code(tmp_path / "huge.jpg") == "too_many_bytes"
    (tmp_path / "f").touch()
    assert code(tmp_path / "f" / "a.jpg") == "missing"


@pytest.fixture
def plain_user() -> Iterator[None]:
    """Root may read everything; then another user reads."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.usefixtures("plain_user")
def test_without_permission() -> None:
    with tempfile.TemporaryDirectory() as name:  # other users cannot reach the folders of pytest
        path = Path(name) / "a.png"
        path.write_bytes(encoded(Image.fromarray(BASE), "PNG"))
        assert read(path).shape == (40, 60)
        path.chmod(0)
        assert code(path) == "permission"


@given(st.floats(-89.9, 89.9), st.floats(-179.9, 179.9), st.floats(-400, 8000))
def test_a_position_comes_back(lat: float, lon: float, height: float) -> None:
    gps = place(lat, lon, GPSAltitude=abs(height), GPSAltitudeRef=b"\1" if height < 0 else b"\0")
    with Image.open(io.BytesIO(encoded(Image.new("RGB", (2, 2)), exif=exif_bytes(gps)))) as image:
        exif = read_exif(image)
    if max(abs(lat), abs(lon)) > 1e-4:
        assert exif.problems == ()
        assert exif.lon == pytest.approx(lon, abs=1e-6)
        assert exif.lat == pytest.approx(lat, abs=1e-6)
    assert exif.altitude == pytest.approx(height, abs=0.01)


@pytest.mark.parametrize(
    ("gps", "problem"),
    [
        (place(0, 0), "gps_zero"),
        (place(91, 10), "gps_out_of_range"),
        (place(10, 181), "gps_out_of_range"),
        ({**place(10, 20), GPS.GPSLatitude: (10.0, 75.0, 0.0)}, "gps_out_of_range"),
        ({**place(10, 20), GPS.GPSLatitude: (IFDRational(1, 0), 0.0, 0.0)}, "gps_not_a_number"),
        ({**place(10, 20), GPS.GPSLongitude: (20.0, IFDRational(3, 0), 0.0)}, "gps_not_a_number"),
        ({**place(10, 20), GPS.GPSLongitude: (IFDRational(0, 0), 3.0, 0.0)}, "gps_not_a_number"),
        ({GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (10.0, 0.0, 0.0)}, "gps_incomplete"),
        ({**place(10, 20), GPS.GPSLatitudeRef: "Q"}, "gps_incomplete"),
        (place(10, 20, GPSStatus="V"), "gps_no_fix"),
    ],
)
def test_an_absurd_position_is_none_and_said(gps: dict[int, Any], problem: str) -> None:
    exif = read(encoded(Image.fromarray(BASE), exif=exif_bytes(gps))).exif
    assert (exif.lon, exif.lat, exif.problems) == (None, None, (problem,))


def test_absurd_altitudes_and_times() -> None:
    gps = place(10, 20, GPSAltitude=IFDRational(5, 0), GPSDateStamp="2020:13:45", GPSTimeStamp=(1.0, 2.0, 3.0))
    exif = read(encoded(Image.fromarray(BASE), exif=exif_bytes(gps, {0x9003: "yesterday"}))).exif
    assert set(exif.problems) == {"gps_altitude", "time_unreadable", "gps_time"}
    assert (exif.lon, exif.altitude, exif.time, exif.clock) == (20, None, None, None)
    blank = read(encoded(Image.fromarray(BASE), exif=exif_bytes({}, {0x9003: "0000:00:00 00:00:00"}))).exif
    assert blank.problems == ()


def test_times() -> None:
    clock, noon = "2024:07:01 12:30:10", dt.datetime(2024, 7, 1, 12, 30, 10)
    sky = {GPS.GPSDateStamp: "2024:07:01", GPS.GPSTimeStamp: (7.0, 0.0, 40.0)}
    plain = read(encoded(Image.fromarray(BASE), exif=exif_bytes({}, {0x9003: clock}))).exif
    assert (plain.clock, plain.offset, plain.time) == (noon, None, None)
    told = read(encoded(Image.fromarray(BASE), exif=exif_bytes({}, {0x9003: clock, 0x9011: "+05:30"}))).exif
    assert (told.offset, told.time) == (5.5, dt.datetime(2024, 7, 1, 7, 0, 10, tzinfo=dt.UTC))
    both = read(encoded(Image.fromarray(BASE), exif=exif_bytes(sky, {0x9003: clock}))).exif
    assert (both.offset, both.time) == (5.5, dt.datetime(2024, 7, 1, 7, 0, 40, tzinfo=dt.UTC))
    stale = {**sky, GPS.GPSTimeStamp: (7.0, 6.0, 0.0)}
    assert read(encoded(Image.fromarray(BASE), exif=exif_bytes(stale, {0x9003: clock}))).exif.offset is None


def test_damaged_exif_leaves_the_pixels() -> None:
    data = encoded(Image.fromarray(BASE), exif=exif_bytes(place(10, 20)))
    at = data.index(b"Exif\0\0") + 6
    photo = read(data[:at] + b"\xff" * 12 + data[at + 12 :])
    assert photo.rgb.shape == BASE.shape
    assert photo.exif.lon is None


@pytest.mark.data
def test_frames_of_real_drones() -> None:
    folder = Path(os.environ["GEOML_DATA"]) / "geolocation"
    dji = read(folder / "drone_brighton_beach" / "DJI_0018.JPG", 224)
    assert dji.rgb.shape[0] == 224
    assert (dji.exif.lon, dji.exif.lat) == (pytest.approx(-91.99456, abs=1e-5), pytest.approx(46.842607, abs=1e-5))
    assert dji.exif.altitude == pytest.approx(198.3, abs=0.1)
    canon = read(folder / "drone_caliterra" / "IMG_9354.jpg", 224).exif
    assert canon.time == dt.datetime(2014, 10, 19, 18, 20, 51, tzinfo=dt.UTC)
    assert canon.offset == -5  # Texas in October, found from clock and satellites
    for frame in sorted((folder / "drone_seneca").glob("*.jpg"))[:5]:
        exif = read(frame, 64).exif
        assert exif.problems == ()
        assert exif.lon == pytest.approx(-83.305, abs=0.01)
