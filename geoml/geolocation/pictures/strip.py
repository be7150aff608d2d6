"""A copy of a picture that says nothing of where, when and by whom it was taken; pixels and colours stay.

JPEG segments: ITU-T T.81, annex B.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from geoml.errors import DataError, InputError
from geoml.geolocation.pictures.decode import TURNS, UnreadablePhoto, decoding, load_bytes, open_image
from geoml.geolocation.pictures.exif import read_exif
from geoml.io.stores.store import atomic

_ICC, _ADOBE, _JFIF = b"ICC_PROFILE\0", b"Adobe", b"JFIF\0"
_QUALITY = 95
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": _QUALITY, "subsampling": 0},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {"compression": "tiff_deflate"},
}


@dataclass(frozen=True, slots=True)
class Stripped:
    """What became of a picture: ``lossless`` when the pixels are the same to the last bit.

    ``removed`` names what was found and left out (``exif``, ``gps``, ``xmp``, ``iptc``, ``comment``, ``thumbnail``,
    ``text``, ``tags``, ``appended``, ``frames``), ``note`` says what a reader of the copy should know.
    """

    path: Path
    lossless: bool
    removed: tuple[str, ...]
    note: str


def strip(path: str | Path, out: str | Path, *, overwrite: bool = False) -> Stripped:
    """Write a copy of ``path`` to ``out`` without EXIF, XMP, IPTC, GPS, comments, thumbnails or appended files.

    The ICC profile is kept. An upright JPEG keeps its compressed pixels as they are; a turned one is brought upright
    and compressed again with quality 95, other formats are written again without loss. Of several frames the first is
    kept.

    Raises InputError if ``out`` exists (unless ``overwrite``) or its suffix is another format, UnreadablePhoto, and
    DataError if the copy cannot be written.
    """
    source, target = Path(path), Path(out)
    if target.is_dir() or (target.exists() and not overwrite):
        raise InputError(f"out: {target} exists; expected a new name, or to be told to overwrite")
    data = load_bytes(source, str(source))
    if not data:
        raise UnreadablePhoto(str(source), "empty")
    image = open_image(data, str(source))
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    if Image.registered_extensions().get(target.suffix.lower()) not in (kind, image.format):
        raise InputError(f"out: {target}; expected a suffix of {kind}, the format is not changed")
    exif = read_exif(image)
    removed = _metadata_kinds(image, kind)
    if kind == "JPEG" and exif.orientation == 1:
        clean, more = _jpeg(data, str(source))
        lossless, note = True, "the compressed pixels are those of the original"
    else:
        clean, more = _written_anew(image, kind, exif.orientation, str(source)), set()
        lossless = kind != "JPEG"
        note = "rewritten without loss" if lossless else f"turned upright and compressed again, quality {_QUALITY}"
    with atomic(target) as temporary:
        temporary.write_bytes(clean)
    return Stripped(target, lossless, tuple(sorted(removed | more)), note)


def _metadata_kinds(image: Image.Image, kind: str) -> set[str]:
    kinds = set()
    try:
        tags = image.getexif()
        kinds |= {"gps"} if tags.get_ifd(0x8825) else set()
        kinds |= {"exif"} if len(tags) and kind != "TIFF" else set()
    except Exception:  # damaged EXIF goes as well
        kinds.add("exif")
    names = {"xmp": "xmp", "XML:com.adobe.xmp": "xmp", "photoshop": "iptc", "comment": "comment", "exif": "exif"}
    kinds |= {label for key, label in names.items() if key in image.info}
    kinds |= {"text"} if getattr(image, "text", None) else set()
    kinds |= {"tags"} if kind == "TIFF" else set()
    kinds |= {"frames"} if getattr(image, "is_animated", False) else set()
    return kinds


def _jpeg(data: bytes, label: str) -> tuple[bytes, set[str]]:
    """(the JPEG without what is not needed to show it, what was left out)."""
    out, removed = bytearray(b"\xff\xd8"), set()
    for marker, part in _segments(data, label):
        body = part[4:]
        if marker == 0xE0 and body.startswith(_JFIF) and len(body) >= 14:
            removed |= {"thumbnail"} if body[12] and body[13] else set()
            out += b"\xff\xe0\0\x10" + body[:12] + b"\0\0"
        elif marker == 0xE2 and body.startswith(_ICC):
            out += part
        elif marker == 0xEE and body.startswith(_ADOBE):
            out += part[:2] + b"\0\x0e" + body[:12]  # the colour transform; nothing may hide behind it
        elif marker == 0xFE:
            removed.add("comment")
        elif marker == 0xD9:
            removed |= {"appended"} if part else set()
        elif marker == 0 or not 0xE0 <= marker <= 0xEF:
            out += part
        else:
            removed.add(_segment_name(marker, body))
    return bytes(out) + b"\xff\xd9", removed


def _segment_name(marker: int, body: bytes) -> str:
    if marker == 0xE1:
        return "exif" if body.startswith(b"Exif") else "xmp"
    return {0xE0: "thumbnail", 0xED: "iptc"}.get(marker, f"app{marker - 0xE0}")


def _segments(data: bytes, label: str) -> Iterator[tuple[int, bytes]]:
    """(marker, bytes) of the first picture; entropy-coded data have the marker 0, what is appended that of the end."""
    at = 2
    while True:
        marker, start, at = _next(data, at, label)
        if marker == 0xD9:
            yield marker, data[at:]
            return
        yield marker, data[start:at]
        if marker == 0xDA:
            stop = _scan(data, at, label)
            yield 0, data[at:stop]
            at = stop


def _next(data: bytes, at: int, label: str) -> tuple[int, int, int]:
    """(marker, where it starts, where its segment ends)."""
    while data[at : at + 2] == b"\xff\xff":  # fill bytes
        at += 1
    if at + 2 > len(data) or data[at] != 0xFF:
        raise UnreadablePhoto(label, "damaged", f"no JPEG marker at byte {at}")
    marker = data[at + 1]
    if marker == 0xD9:
        return marker, at, at + 2
    end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    if end > len(data) or end < at + 4:
        raise UnreadablePhoto(label, "truncated")
    return marker, at, end


def _scan(data: bytes, at: int, label: str) -> int:
    """Where entropy-coded data end: at the next marker that is neither a stuffed zero nor a restart."""
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise UnreadablePhoto(label, "truncated")
        if data[at + 1] == 0xFF:
            at += 1
        elif data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7:
            at += 2
        else:
            return at


def _written_anew(image: Image.Image, kind: str, orientation: int, label: str) -> bytes:
    """The first frame as a file of the same format, made from the pixels and the ICC profile alone."""
    try:
        image.load()
    except Exception as err:
        raise decoding(label, err) from err
    try:
        icc = image.info.get("icc_profile")
        bare = Image.new(image.mode, image.size)  # with an empty info, so that a writer finds nothing to keep
        if image.palette is not None and image.mode == "P":
            bare.putpalette(image.palette.getdata()[1], image.palette.mode)
        bare.frombytes(image.tobytes())
        if kind != "TIFF" and orientation in TURNS:
            bare = bare.transpose(TURNS[orientation])
        options: dict[str, Any] = {"icc_profile": icc} if icc and kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
        if "transparency" in image.info and kind in ("PNG", "GIF"):
            options["transparency"] = image.info["transparency"]
        options |= _OPTIONS.get(kind, {})
        file = io.BytesIO()
        bare.save(file, format=kind, **options)
    except Exception as err:
        raise DataError(f"picture {label}: cannot be rewritten as {kind} ({err})") from err
    return file.getvalue()
