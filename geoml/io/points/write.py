"""Classes written back into a file of points, and points into a new one, as LAZ by laspy."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.crs import CompoundCRS

from geoml.errors import DataError, InputError, MissingExtra
from geoml.io.heights import check_finite
from geoml.io.points.cloud import Cloud
from geoml.io.points.files import PointBytes, using_points
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.laz import backend, chunks
from geoml.io.points.records import decoded
from geoml.io.points.source import PointSource, axes
from geoml.io.stores.store import atomic

PART = 2**19
"""Points that are written at once."""

Classes = NDArray[np.uint8]


def write_classes(source: PointSource, classes: Classes | Callable[[Cloud], Classes], path: Path) -> None:
    """The file of ``source`` with other classes, as LAZ; all else stays: order, flags, times, colours, records.

    ``classes`` are (n,) uint8 in the order of the file, or a function of a part of its points in that order (all of
    them, withheld ones and noise too) that gives theirs. A COPC becomes a plain LAZ. Raises InputError for a count that
    is not that of the file, classes that its point format cannot hold, and sources that are no such file.
    """
    if source.kind not in ("las", "laz", "copc"):
        raise InputError(
            f"{source.href}: classes are written back into LAS, LAZ and COPC files, not into {source.kind}"
        )
    using_points(source.place, lambda file: _rewritten(file, source, classes, path))


def write_cloud(cloud: Cloud, path: Path, crs: str, vertical: str | None) -> None:
    """Points as a new LAZ 1.4 (format 6), to a millimetre, with the CRS as WKT; the vertical one where it is known.

    Raises DataError for coordinates that are not finite, or too far apart for 32-bit integers.
    """
    laspy = _laspy()
    for name in ("x", "y", "z"):
        check_finite(getattr(cloud, name), str(path))
    header = laspy.LasHeader(version="1.4", point_format=6)
    places = np.stack([cloud.x, cloud.y, cloud.z]) if len(cloud) else np.zeros((3, 1))
    header.scales, header.offsets = np.full(3, 0.001), np.floor(places.min(1))
    if np.ptp(places, 1).max() > 2e6:
        raise DataError(
            f"{path}: points {np.ptp(places, 1).max():.0f} m apart; a LAS file in millimetres holds 2,000 km"
        )
    flat = pyproj.CRS.from_user_input(crs)
    whole = flat if vertical is None else _with_heights(flat, pyproj.CRS.from_user_input(vertical))
    header.vlrs.append(laspy.vlrs.known.WktCoordinateSystemVlr(whole.to_wkt("WKT1_GDAL")))
    header.global_encoding.wkt = True
    las = laspy.LasData(header)
    las.x, las.y, las.z = cloud.x, cloud.y, cloud.z
    las.classification, las.intensity, las.synthetic = cloud.classification, cloud.intensity, cloud.synthetic
    las.return_number, las.number_of_returns = cloud.returned, cloud.returns
    with atomic(path) as temporary, temporary.open("wb") as out:
        las.write(out, do_compress=True)


def _with_heights(flat: pyproj.CRS, vertical: pyproj.CRS) -> pyproj.CRS:
    if vertical.is_vertical:
        return CompoundCRS(f"{flat.name} + {vertical.name}", [flat, vertical])
    return flat.to_3d()


def _laspy() -> ModuleType:
    """laspy. Raises MissingExtra without it or what it compresses with."""
    backend()
    try:
        import laspy
    except ImportError as err:
        raise MissingExtra("points: laspy is not installed; pip install 'geoml[points]'") from err
    return laspy  # type: ignore[no-any-return]


def _rewritten(
    file: PointBytes, source: PointSource, classes: Classes | Callable[[Cloud], Classes], path: Path
) -> None:
    header, laspy = read_header(file), _laspy()
    chunks(file, header)  # what laspy would believe is checked before it
    if isinstance(classes, np.ndarray) and classes.shape != (header.count,):
        raise InputError(f"classes: {classes.shape} of them; the file has {header.count} points")
    with laspy.open(_Stream(file)) as reader, atomic(path) as temporary:
        theirs = reader.header
        for records in (theirs.vlrs, theirs.evlrs or []):
            for record in [r for r in records if r.user_id == "copc"]:
                records.remove(record)
        with laspy.open(temporary, mode="w", header=theirs, do_compress=True) as writer:
            for part in _classified(reader, header, source, classes):
                writer.write_points(part)
            if theirs.evlrs:
                writer.write_evlrs(theirs.evlrs)


def _classified(
    reader: Any, header: LasHeader, source: PointSource, classes: Classes | Callable[[Cloud], Classes]
) -> Iterator[Any]:
    done, most = 0, 31 if header.format < 6 else 255
    for part in reader.chunk_iterator(PART):
        count = len(part)
        if callable(classes):
            points = decoded(part.array.tobytes(), header.format, header.record_bytes)
            new = np.asarray(classes(points.cloud(axes(header, source))))
        else:
            new = classes[done : done + count]
        if new.shape != (count,) or new.dtype != np.uint8:
            raise InputError(f"classes: {new.dtype} {new.shape}; expected uint8 ({count},)")
        if count and new.max() > most:
            raise InputError(f"classes: {new.max()}; point format {header.format} holds 0 to {most}")
        part.classification = new
        done += count
        yield part


class _Stream(io.RawIOBase):
    """A file of points as laspy reads one."""

    def __init__(self, file: PointBytes) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        body = self._file.read(self._place, len(buffer))
        buffer[: len(body)] = body
        self._place += len(body)
        return len(body)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._file.size)[whence]
        return self._place

    def tell(self) -> int:
        return self._place
