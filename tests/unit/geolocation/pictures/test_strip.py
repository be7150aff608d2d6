"""Stripped copies: GDAL, OpenCV and a search of the bytes find nothing of the place, and the pixels are the same."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image, ImageCms

from geoml.errors import InputError
from geoml.geolocation.pictures.decode import UnreadablePhoto, read
from geoml.geolocation.pictures.strip import strip

SECRET = b"48.20849N 16.37208E by Jo"
XMP = b'<x:xmpmeta><rdf:Description exif:GPSLatitude="48,12.5094N"/>' + SECRET + b"</x:xmpmeta>"
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
POSITION = struct.pack("<6I", 48, 1, 12, 1, 305640, 10000)


def exif(turn: int) -> bytes:
    tags = Image.Exif()
    tags.endian = "<"
    tags[0x0112], tags[0x013B] = turn, SECRET.decode()
    tags.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.564), 3: "E", 4: (16.0, 22.0, 19.488)})
    return tags.tobytes()


def jpeg(turn: int = 1) -> bytes:
    """With EXIF, XMP, IPTC, a comment, a thumbnail in JFIF, an ICC profile and a second picture behind its end."""
    file = io.BytesIO()
    image = Image.fromarray(PIXELS)
    image.save(file, "JPEG", exif=exif(turn), xmp=XMP, icc_profile=ICC, comment=SECRET, progressive=True)
    data = file.getvalue()
    iptc = b"Photoshop 3.0\08BIM\x04\x04\0\0" + SECRET
    extra = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    jfxx = b"JFXX\0\x13\x01\x01" + SECRET[:3]
    extra += b"\xff\xe0" + struct.pack(">H", len(jfxx) + 2) + jfxx
    jfif = b"JFIF\0\1\1\0\0\1\0\1" + bytes([2, 2]) + SECRET[:12]
    head = b"\xff\xd8\xff\xe0" + struct.pack(">H", len(jfif) + 2) + jfif
    return head + extra + data[2 + 18 :] + data


def says_nothing(path: Path) -> None:
    data = path.read_bytes()
    for part in (SECRET, b"48,12.5", b"xmpmeta", b"Exif\0", b"8BIM", POSITION[-8:]):
        assert part not in data, part
    with rasterio.open(path) as file:
        told = [file.tags(ns=ns) for ns in ("", "EXIF", "xml:XMP", *file.tag_namespaces())]
        assert not any("EXIF" in k.upper() or "XMP" in k.upper() for tags in told for k in tags), told
        assert "xml:XMP" not in file.tag_namespaces()


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_upright_jpeg_keeps_its_compressed_pixels(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", jpeg())
    with rasterio.open(path) as file:  # the oracle sees what has to go
        assert any("GPSLatitude" in k for ns in file.tag_namespaces() for k in file.tags(ns=ns)) or any(
            "GPSLatitude" in k for k in file.tags()
        )
    done = strip(path, tmp_path / "b.jpg")
    assert done.lossless
    assert {"exif", "gps", "xmp", "iptc", "comment", "thumbnail", "appended"} <= set(done.removed)
    says_nothing(done.path)
    old, new = (cv2.imread(str(p), cv2.IMREAD_COLOR) for p in (path, done.path))
    np.testing.assert_array_equal(old, new)
    with Image.open(done.path) as image:
        assert image.info["icc_profile"] == ICC
        assert image.format == "JPEG"
    again = strip(done.path, tmp_path / "c.jpg")
    assert again.removed == ()
    assert again.path.read_bytes() == done.path.read_bytes()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("turn", [3, 6, 7])
def test_a_turned_jpeg_is_upright_afterwards(tmp_path: Path, turn: int) -> None:
    path = put(tmp_path / "a.jpg", jpeg(turn))
    done = strip(path, tmp_path / "b.jpg")
    assert not done.lossless
    assert "compressed again" in done.note
    says_nothing(done.path)
    old, new = (cv2.imread(str(p), cv2.IMREAD_COLOR) for p in (path, done.path))
    assert old.shape == new.shape
    assert np.abs(old.astype(int) - new).mean() < 3
    with Image.open(done.path) as image:
        assert image.info["icc_profile"] == ICC


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_other_formats_keep_their_pixels(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {"exif": exif(6), "icc_profile": ICC}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_text("Comment", SECRET.decode())
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    if kind == "WEBP":
        options |= {"lossless": True, "xmp": XMP}
    suffix = f".{kind.lower()}"
    Image.fromarray(PIXELS).save(tmp_path / f"a{suffix}", kind, **options)
    done = strip(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}")
    assert done.lossless
    assert {"exif", "gps", "tags"} & set(done.removed)
    says_nothing(done.path)
    np.testing.assert_array_equal(read(done.path).rgb, np.rot90(PIXELS, -1))
    with Image.open(done.path) as image:
        assert image.info["icc_profile"] == ICC


def test_deep_grey_palettes_and_transparency_stay(tmp_path: Path) -> None:
    deep = Image.fromarray((PIXELS[..., 0].astype(np.uint16) * 257) ^ 5)
    flat = Image.fromarray(PIXELS).quantize(16)
    clear = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))
    for name, image in (("deep", deep), ("flat", flat), ("clear", clear)):
        options = {"transparency": 3} if name == "flat" else {}
        image.save(tmp_path / f"{name}.png", **options)
        done = strip(tmp_path / f"{name}.png", tmp_path / f"{name}-bare.png")
        old, new = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (tmp_path / f"{name}.png", done.path))
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(old, new)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jpg", jpeg())
    with pytest.raises(InputError, match="exists"):
        strip(path, path)
    with pytest.raises(InputError, match="suffix"):
        strip(path, tmp_path / "b.png")
    with pytest.raises(UnreadablePhoto, match="truncated"):
        strip(put(tmp_path / "c.jpg", jpeg()[:2500]), tmp_path / "d.jpg")
    with pytest.raises(UnreadablePhoto, match="missing"):
        strip(tmp_path / "none.jpg", tmp_path / "d.jpg")
    assert not (tmp_path / "d.jpg").exists()
    assert strip(path, path, overwrite=True).path.read_bytes() != jpeg()
    assert read(path).exif.lon is None


@pytest.mark.data
def test_a_real_drone_frame(tmp_path: Path) -> None:
    path = Path(os.environ["GEOML_DATA"]) / "geolocation" / "drone_brighton_beach" / "DJI_0018.JPG"
    done = strip(path, tmp_path / "b.jpg")
    assert done.lossless
    assert {"exif", "gps", "xmp", "appended"} <= set(done.removed)  # the preview behind it has a position of its own
    data = done.path.read_bytes()
    for part in (b"Exif", b"DJI", b"http://ns.adobe", b"GPS"):
        assert part not in data[:4096]
    assert read(done.path, 64).exif.lon is None
    np.testing.assert_array_equal(cv2.imread(str(path)), cv2.imread(str(done.path)))
