"""A file of points, opened once: what is known of it before a point is read, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from geoml.errors import DataError, InputError
from geoml.io.points.files import LocalBytes, PointBytes
from geoml.io.points.georeference import Georeference, from_file, resolved
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.lattice import Axis, axis
from geoml.io.stores.hrefs import gdal_path, redact


@dataclass(frozen=True)
class PointSource:
    """One file of points: plain values, so that a plan or an item can hold it."""

    href: str
    kind: str
    """las, laz, copc, ept or bins."""
    count: int
    bounds: tuple[float, float, float, float]
    """left, bottom, right, top in metres of ``crs``, as the header says them."""
    crs: str
    """The horizontal CRS in metres: a code, or WKT where it has none."""
    vertical: str | None
    """The CRS of heights in metres; None: not known."""
    xy: Fraction
    """Metres of one unit of x and y in the file."""
    z: Fraction
    """Metres of one unit of z in the file."""
    point_format: int


def open_source(href: str, crs: str | None = None, vertical: str | None = None) -> PointSource:
    """What a file of points says of itself; ``crs`` and ``vertical`` count before what it says.

    Raises InputError that names the option where a CRS is missing, DataError for a broken file, both with the file.
    """
    try:
        file = open_bytes(href)
        header = read_header(file)
        place = resolved(from_file(header), crs, vertical)
    except (DataError, InputError) as err:
        raise type(err)(f"{redact(href)}: {err}") from err
    unit = float(place.xy)
    left, bottom, right, top = (header.mins[0], header.mins[1], header.maxs[0], header.maxs[1])
    return PointSource(
        href=href,
        kind="laz" if header.compressed else "las",
        count=header.count,
        bounds=(left * unit, bottom * unit, right * unit, top * unit),
        crs=place.crs,
        vertical=place.vertical,
        xy=place.xy,
        z=place.z,
        point_format=header.format,
    )


def axes(header: LasHeader, place: Georeference | PointSource) -> tuple[Axis, Axis, Axis]:
    """How the integers of a file become metres."""
    factors = (place.xy, place.xy, place.z)
    x, y, z = (axis(*values) for values in zip(header.scales, header.offsets, factors, strict=True))
    return x, y, z


def open_bytes(href: str) -> PointBytes:
    """The bytes of a file."""
    return LocalBytes(Path(gdal_path(href, remote=False)))
