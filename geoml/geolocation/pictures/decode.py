"""Pictures of any origin as upright RGB with what they say of themselves; a picture that cannot be read says why.

Pillow opens the formats of a list and nothing else; what a file declares is checked before a pixel is decoded.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from geoml.errors import DataError
from geoml.geolocation.pictures.exif import Exif, read_exif
from geoml.geolocation.pictures.ground_width import square_km

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")
_NAMES = ("jpg", "jpeg", "jpe", "mpo", "png", "webp", "tif", "tiff", "gif", "bmp", "heic", "heif")
SUFFIXES = frozenset(f".{s}" for s in _NAMES)

MAX_BYTES = 512 * 2**20
"""A larger file is not read."""

MAX_PIXELS = 2 * 89_478_485
"""A picture that declares more is not decoded; where Pillow itself refuses (half a gigabyte of RGB)."""

_T = Image.Transpose
TURNS = {2: _T.FLIP_LEFT_RIGHT, 3: _T.ROTATE_180, 4: _T.FLIP_TOP_BOTTOM, 5: _T.TRANSPOSE, 6: _T.ROTATE_270,
         7: _T.TRANSVERSE, 8: _T.ROTATE_90}  # fmt: skip
"""What brings a picture upright, by its EXIF orientation."""

_REASONS = {
    "missing": "there is no such file",
    "permission": "reading it is not permitted",
    "folder": "it is a folder",
    "not_a_file": "it is a pipe, a device or a socket",
    "link_loop": "its symbolic links lead in a circle",
    "unreachable": "it could not be fetched",
    "empty": "it has no bytes",
    "too_many_bytes": f"it is larger than {MAX_BYTES} bytes",
    "too_many_pixels": f"it declares more than {MAX_PIXELS} pixels",
    "not_a_picture": "it is none of " + ", ".join(FORMATS),
    "unsupported": "its kind of pixels is not supported (of TIFFs: up to four bands of 8 bits, or one band)",
    "needs_heif": "HEIC needs the package pillow-heif",
    "truncated": "it ends before its last pixel",
    "damaged": "its pixels cannot be decoded",
}

_ERRNO = {errno.EISDIR: "folder", errno.EACCES: "permission", errno.EPERM: "permission", errno.ENOENT: "missing",
          errno.ENOTDIR: "missing", errno.ELOOP: "link_loop"}  # fmt: skip

# simplefilter in a function is not thread-safe; too many pixels are refused above, corrupt EXIF becomes a problem
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


class UnreadablePhoto(DataError):
    """A picture without pixels: ``code`` is one of a fixed list, ``reason`` is the code with a sentence."""

    def __init__(self, name: str, code: str, more: str = "") -> None:
        self.code = code
        self.reason = f"{code}: {_REASONS[code]}" + (f" ({more})" if more else "")
        super().__init__(f"picture {name}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Photo:
    """A decoded picture: ``rgb`` uint8 (H, W, 3), upright; ``sha256`` of the file's bytes, 64 hexadecimal digits.

    ``problems`` are codes of what was changed on the way: ``several_frames`` (the first was taken), ``transparent``
    (laid on white), ``cmyk``, ``16_bit`` (reduced), ``stretched`` (32-bit values between their extremes). Those of
    place and time are in ``exif``. ``shape`` is the upright (height, width) of the file, ``width_km`` how wide the
    ground of its middle square is where the file has a georeference.
    """

    rgb: NDArray[np.uint8]
    sha256: str
    exif: Exif
    format: str
    shape: tuple[int, int]
    problems: tuple[str, ...] = ()
    width_km: float | None = None


def read(source: str | Path | bytes, size: int | None = None, *, name: str | None = None) -> Photo:
    """Read a file, or the bytes of one, as upright RGB.

    With ``size`` the shorter side has that many pixels (never enlarged, antialiased); large JPEGs then decode faster.
    ``name`` is what errors call the picture. Raises UnreadablePhoto.
    """
    label = name or ("bytes" if isinstance(source, bytes) else str(source))
    data = source if isinstance(source, bytes) else load_bytes(source, label)
    if not data:
        raise UnreadablePhoto(label, "empty")
    if len(data) > MAX_BYTES:
        raise UnreadablePhoto(label, "too_many_bytes")
    image = open_image(data, label)
    problems = ["several_frames"] if getattr(image, "is_animated", False) and image.format != "MPO" else []
    exif = read_exif(image)
    width, height = image.size
    turn = 1 if image.format == "TIFF" else exif.orientation  # Pillow turns TIFFs itself
    shape = (width, height) if turn >= 5 else (height, width)
    try:
        if size is not None:
            scale = max(1.0, min(width, height) / size)
            image.draft("RGB", (int(width / scale), int(height / scale)))
        image.load()
        rgb = _rgb(image, problems)
        if size is not None and min(rgb.size) > size:
            scale = size / min(rgb.size)
            to = (max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale)))
            rgb = rgb.resize(to, Image.Resampling.BICUBIC, reducing_gap=3.0)
        upright = rgb.transpose(TURNS[turn]) if turn in TURNS else rgb
    except Exception as err:  # decoders raise what the bytes make them raise
        raise decoding(label, err) from err
    pixels = np.array(upright, np.uint8)
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    wide = square_km(data) if kind == "TIFF" else None
    return Photo(pixels, hashlib.sha256(data).hexdigest(), exif, kind, shape, tuple(problems), wide)


def load_bytes(path: str | Path, label: str) -> bytes:
    """All bytes of a regular file of at most ``MAX_BYTES``. Raises UnreadablePhoto."""
    try:
        # a pipe would wait for a writer forever when it is opened
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            kind = os.fstat(file.fileno())
            if not stat.S_ISREG(kind.st_mode):
                raise UnreadablePhoto(label, "folder" if stat.S_ISDIR(kind.st_mode) else "not_a_file")
            if kind.st_size > MAX_BYTES:
                raise UnreadablePhoto(label, "too_many_bytes")
            return file.read(kind.st_size + 1)  # read allocates all that it may return, whatever comes
    except (OSError, ValueError) as err:  # ValueError: a NUL in the name
        code = _ERRNO.get(err.errno or 0) if isinstance(err, OSError) else None
        raise UnreadablePhoto(label, code or "not_a_file", "" if code else _short(err)) from err


def open_image(data: bytes, label: str) -> Image.Image:
    """The header of a picture, as a Pillow image whose pixels are not decoded yet. Raises UnreadablePhoto."""
    heif = data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"heim", b"heis")
    try:
        image = Image.open(io.BytesIO(data), formats=[*FORMATS, *(["HEIF"] if heif and _heif() else [])])
        large = image.width * image.height > MAX_PIXELS
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise UnreadablePhoto(label, "too_many_pixels") from err
    except UnidentifiedImageError as err:
        if heif:
            raise UnreadablePhoto(label, "damaged" if _heif() else "needs_heif") from err
        raise UnreadablePhoto(label, _unknown(data)) from err
    except Exception as err:
        raise UnreadablePhoto(label, "damaged", _short(err)) from err
    if large:
        raise UnreadablePhoto(label, "too_many_pixels")
    return image


def _heif() -> bool:
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return True


def _unknown(data: bytes) -> str:
    """The code for bytes that Pillow does not know: of a known kind and broken, or of another kind."""
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "unsupported" if _is_tiff(data) else "damaged"
    starts = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM")
    return "damaged" if data.startswith(starts) or data[8:12] == b"WEBP" else "not_a_picture"


def _is_tiff(data: bytes) -> bool:
    """Whether the first directory is whole: then Pillow does not support the bands or the kind of numbers."""
    try:
        directory = ImageFileDirectory_v2(data[:16] if b"+" in data[2:4] else data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        return bool(directory[256] and directory[257] and directory[258])
    except Exception:  # what the bytes make it raise
        return False


def decoding(label: str, err: Exception) -> UnreadablePhoto:
    """What a decoder's error means for the picture."""
    text = str(err).lower()
    if isinstance(err, NotImplementedError) or "unsupported" in text or "cannot handle" in text:
        return UnreadablePhoto(label, "unsupported", _short(err))
    ends = any(word in text for word in ("truncated", "not enough", "unexpected end", "incomplete"))
    return UnreadablePhoto(label, "truncated" if ends else "damaged", "" if ends else _short(err))


def _short(err: Exception) -> str:
    return " ".join(str(err).split())[:120] or type(err).__name__


def _rgb(image: Image.Image, problems: list[str]) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        if np.asarray(rgba.getchannel("A")).min() < 255:
            problems.append("transparent")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image), image.mode, problems)).convert("RGB")
    if image.mode == "CMYK":
        problems.append("cmyk")
    return image.convert("RGB")


def _eight_bits(values: NDArray[np.number], mode: str, problems: list[str]) -> NDArray[np.uint8]:
    """Grey of more bits as uint8: 16 bits by their full range, wider ones between the extremes of the picture."""
    if mode.startswith("I;16"):
        problems.append("16_bit")
        return np.round(values.astype(np.float32) / 257).astype(np.uint8)
    problems.append("stretched")
    finite = np.isfinite(values)
    low, high = (float(f(values[finite])) if finite.any() else 0.0 for f in (np.min, np.max))
    out = (np.where(finite, values, low).astype(np.float64) - low) * (255 / (high - low) if high > low else 0.0)
    return np.round(out).astype(np.uint8)
