"""Pictures prepared for a backbone: read and decoded in threads, in their order; what cannot be read says why."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Container, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geoml.cube.resize import reduced
from geoml.errors import TransientError
from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures.decode import UnreadablePhoto
from geoml.geolocation.pictures.exif import Exif
from geoml.geolocation.pictures.listed import Reference
from geoml.settings import settings

PREFETCH = 48
"""Pictures that are read while the backbone works, apart from those that threads are reading."""

Pixels = NDArray[np.uint8]
KeyOf = Callable[[Reference, str], bytes]
Row = dict[str, Any]


_NOTHING = Exif()


@dataclass(frozen=True, slots=True)
class PreparedPicture:
    """A picture as a backbone takes it: ``rgb`` uint8 (size, size, 3), or None with a ``status`` and a ``reason``.

    ``status`` is empty for a picture with pixels and for one whose ``key`` is known already, which is not decoded.
    ``sha256`` is None if not even the bytes could be read. ``problems`` are codes of
    `geoml.geolocation.pictures.decode`, `geoml.geolocation.pictures.exif` and the list, ``width_km`` is how wide the
    ground of the square is by the file's own georeference. ``whole``, if it was wanted, is the picture as it is,
    its longer side reduced, and ``shape`` its (height, width) before that.
    """

    reference: Reference
    key: bytes | None = None
    sha256: str | None = None
    rgb: Pixels | None = None
    exif: Exif = _NOTHING
    problems: tuple[str, ...] = ()
    status: str = ""
    reason: str = ""
    whole: Pixels | None = None
    shape: tuple[int, int] = (0, 0)
    width_km: float | None = None

    @property
    def has_pixels(self) -> bool:
        """Whether there are pixels to work on."""
        return self.rgb is not None or self.whole is not None

    @property
    def position(self) -> tuple[float, float] | None:
        """lon, lat in degrees: those of the list, else of the EXIF."""
        for place in (self.reference, self.exif):
            if place.lon is not None and place.lat is not None:
                return place.lon, place.lat
        return None


def square(rgb: Pixels, size: int) -> Pixels:
    """The middle of a picture, as wide as its shorter side, as (size, size, 3) uint8; nothing is stretched."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = rgb[top : top + side, left : left + side]
    if side != size:
        resized = Image.fromarray(np.ascontiguousarray(middle)).resize((size, size), Image.Resampling.BICUBIC)
        middle = np.asarray(resized, np.uint8)
    return np.ascontiguousarray(middle)


def identity(picture: PreparedPicture) -> Row:
    """The columns that name a picture, also where its answer was there before."""
    return {"image_id": picture.reference.id, "source_uri": picture.reference.uri, "sha256": picture.sha256}


def row_without_answer(picture: PreparedPicture, columns: Row) -> Row:
    """The row of a picture that cannot have an answer; ``columns`` are those that are the same in every row."""
    row = {**columns, **identity(picture), "status": picture.status, "disclosed_precision": "none"}
    return {**row, "reason": picture.reason, "exif_flag": "absent"}


def read(
    reference: Reference, size: int, key_of: KeyOf, cached: Container[bytes] = (), whole: int = 0
) -> PreparedPicture:
    """Read one picture; its bytes are read once. Never raises for what a picture or its server does.

    ``size`` 0 makes no square, ``whole`` is the longest side of the whole picture, 0 for none.
    """
    if reference.refused:
        status = "unreadable" if reference.refused.startswith("permission") else "refused"
        return PreparedPicture(reference, status=status, reason=reference.refused)
    sha: str | None = None
    try:
        data = _read_bytes(reference)
        sha = hashlib.sha256(data).hexdigest()
        if (key := key_of(reference, sha)) in cached:
            return PreparedPicture(reference, key, sha)
        photo = photos.read(data, size or None, name=reference.id)
        full = photos.read(data, name=reference.id) if whole and size else photo
    except UnreadablePhoto as err:
        return PreparedPicture(
            reference, sha256=sha, problems=reference.problems, status="unreadable", reason=err.reason
        )
    problems = (*photo.problems, *photo.exif.problems, *reference.problems)
    rgb = square(photo.rgb, size) if size else None
    small = reduced(full.rgb, whole)[0] if whole else None
    wide = photo.width_km
    return PreparedPicture(
        reference, key, sha, rgb, photo.exif, problems, whole=small, shape=photo.shape, width_km=wide
    )


def in_order(
    references: Iterable[Reference], size: int, key_of: KeyOf, cached: Container[bytes] = (), whole: int = 0
) -> Generator[PreparedPicture]:
    """`read` of every reference in order, ``settings().threads`` and `PREFETCH` of them in advance."""
    threads = settings().threads
    rest = iter(references)
    waiting: deque[Future[PreparedPicture]] = deque()
    pool = ThreadPoolExecutor(threads, "pictures")
    try:
        for reference in rest:
            waiting.append(pool.submit(read, reference, size, key_of, cached, whole))
            if len(waiting) >= PREFETCH + threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_bytes(reference: Reference) -> bytes:
    try:
        return reference.read_bytes()
    except TransientError as err:
        raise UnreadablePhoto(reference.id, "unreachable", f"{err}; it may work later") from err
