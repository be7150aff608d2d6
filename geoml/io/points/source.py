"""A file of points, opened once: what is known of it before a point is read, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

from geoml.io.points.copc import is_copc
from geoml.io.points.ept import kept_document
from geoml.io.points.files import JSON, LAS, PointBytes, PointPlace, is_ept, using_points
from geoml.io.points.georeference import Georeference, Stated, check_place, first, from_file, resolved
from geoml.io.points.header import LasHeader, read_header
from geoml.io.points.lattice import MetreAxis, axis
from geoml.io.stores.signed import is_http, unsigned


@dataclass(frozen=True)
class PointSource:
    """One file of points: plain values, so that a plan or an item can hold it."""

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
    point_format: int | None
    """0 to 10; None: that of each tile of an EPT."""

    place: PointPlace
    """Where the file is and how it may be asked for."""
    plain: PointPlace | None = None
    """Of a file of squares, the one that it was made of."""

    made: str | None = None
    """Day on which the file was made, RFC 3339; None: it does not say."""

    stamp: str = ""
    """What changes when the file does: its size, and its time or the tag that its server gives it."""

    @property
    def href(self) -> str:
        """The href as it was named, without a signature."""
        return self.place.href

    def as_plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "xy": str(self.xy), "z": str(self.z)}

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> PointSource:
        """What `as_plain` gave; for files of our own, since it says how the file may be asked for."""
        left, bottom, right, top = said["bounds"]
        exact = {name: Fraction(said[name]) for name in ("xy", "z")}
        places = {name: PointPlace(**said[name]) for name in ("place", "plain") if said[name] is not None}
        return cls(**{**said, **exact, **places, "bounds": (left, bottom, right, top)})

    @property
    def begins(self) -> str:
        """The kind of file that it begins like."""
        return JSON if self.kind == "ept" else LAS


def open_source(href: str, crs: str | None = None, vertical: str | None = None) -> PointSource:
    """What a file of points that the caller names says of itself; ``crs`` and ``vertical`` count before what it says.

    The signature of a URL is remembered in memory; the source, which files keep, has none.
    Raises InputError that names the option where a CRS is missing, DataError for a broken file, both with the file.
    """
    if is_http(href):
        href = unsigned(href.replace(" ", "%20"), "tiles" if is_ept(href) else "points")
    return open_place(PointPlace(href), Stated(), crs, vertical)


def open_place(place: PointPlace, item: Stated, crs: str | None = None, vertical: str | None = None) -> PointSource:
    """As `open_source` for any place; what the ``item`` says counts where the file is silent."""
    if is_ept(place.href):
        return using_points(place, lambda file: _described_ept(file, place, item, crs, vertical), JSON)
    return using_points(place, lambda file: _described(file, place, item, crs, vertical))


def _described_ept(
    file: PointBytes, place: PointPlace, item: Stated, crs: str | None, vertical: str | None
) -> PointSource:
    said, _, _ = kept_document(place, file)
    where = resolved(first(said.stated, item), crs, vertical)
    return replace(_source("ept", said.count, said.bounds, where, None, place), stamp=_stamp(file))


def _described(file: PointBytes, place: PointPlace, item: Stated, crs: str | None, vertical: str | None) -> PointSource:
    header = read_header(file)
    said = from_file(header)
    if said.crs is None and crs is None:
        said = from_file(read_header(file, extended=True))
    where = resolved(first(said, item), crs, vertical)
    box = (header.mins[0], header.mins[1], header.maxs[0], header.maxs[1])
    kind = "copc" if is_copc(file, place, header) else "laz" if header.compressed else "las"
    found = _source(kind, header.count, box, where, header.format, place)
    return replace(found, made=header.made.isoformat() if header.made else None, stamp=_stamp(file))


def _stamp(file: PointBytes) -> str:
    return " ".join(map(str, file.version))


def _source(
    kind: str,
    count: int,
    box: tuple[float, float, float, float],
    where: Georeference,
    point_format: int | None,
    place: PointPlace,
) -> PointSource:
    left, bottom, right, top = box
    unit = float(where.xy)
    if count:
        check_place(where.crs, (left * unit, bottom * unit, right * unit, top * unit))
    return PointSource(
        kind=kind,
        count=count,
        bounds=(left * unit, bottom * unit, right * unit, top * unit),
        crs=where.crs,
        vertical=where.vertical,
        xy=where.xy,
        z=where.z,
        point_format=point_format,
        place=place,
    )


def axes(header: LasHeader, place: Georeference | PointSource) -> tuple[MetreAxis, MetreAxis, MetreAxis]:
    """How the integers of a file become metres."""
    factors = (place.xy, place.xy, place.z)
    x, y, z = (axis(*values) for values in zip(header.scales, header.offsets, factors, strict=True))
    return x, y, z
