"""Pictures on a map: sources and a ground in, one GeoParquet file out, a row for each picture.

Rows are those of `geoml.geolocation.rows.schema` with the columns of `geoml.geolocation.rows.map_schema`. A run that
was stopped goes on where it was, see `geoml.geolocation.rows.run`; nothing in a row tells when it was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from shapely.geometry import MultiPolygon, Polygon

from geoml.errors import InputError
from geoml.geolocation.matching import grounds
from geoml.geolocation.matching.grounds import IndexedReference
from geoml.geolocation.matching.homography import apply
from geoml.geolocation.matching.match import SIDE, Located, MatchOptions, locate
from geoml.geolocation.matching.prior import Prior, limit
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.ready import Pixels, Ready, Row, silent
from geoml.geolocation.rows.map_schema import MORE
from geoml.geolocation.rows.parts import RowParts
from geoml.geolocation.rows.run import PictureRows, Progress, write
from geoml.grid import sphere
from geoml.grid.region import from_geometry
from geoml.recipe import digest

PART = 16
"""Pictures whose rows are written at once: what a kill costs."""
FORMAT = 1
"""Raised when rows are made in another way."""
MODEL = "map:sift-homography"
HOW = MatchOptions(scales=(1e-3, 1e5))
EDGE = 8
"""Pieces of a side of a footprint: straight sides of a picture bend in degrees."""
PACKAGES = ("geoml", "numpy", "opencv-python-headless", "pillow", "pyarrow", "rasterio")
HALF, NINETY = math.sqrt(2 * math.log(2)), math.sqrt(2 * math.log(10))
"""Standard deviations along an axis that hold half and 90 % of a round error on the plane."""


@dataclass(frozen=True)
class Known:
    """What is known of where pictures are: ``position`` takes that of the list, else of the EXIF; where there is none
    ``near`` (lon, lat) counts. None is further off than ``within_km``."""

    position: bool = False
    near: tuple[float, float] | None = None
    within_km: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.within_km < 20_000:
            raise InputError(f"within_km: {self.within_km}; expected km, more than 0")
        if self.near is not None:
            Prior.circle(*self.near, 1.0)

    @property
    def any(self) -> bool:
        """Whether anything is."""
        return self.position or self.near is not None

    def told(self, reference: Reference) -> list[Any]:
        """What of a reference enters the answer; the EXIF is part of the picture's bytes."""
        return [reference.lon, reference.lat] if self.position else []

    def place(self, picture: Ready) -> tuple[float, float] | None:
        """lon, lat in degrees."""
        told, exif = picture.reference, picture.exif
        if self.position and told.lon is not None and told.lat is not None:
            return told.lon, told.lat
        if self.position and exif.lon is not None and exif.lat is not None:
            return exif.lon, exif.lat
        return self.near

    def prior(self, picture: Ready) -> Prior | None:
        """The prior whose searched part ends at ``within_km``."""
        place = self.place(picture)
        return None if place is None else Prior.circle(*place, 1000 * self.within_km / limit())


def geolocate_map(
    sources: Iterable[str | Path],
    ground: IndexedReference,
    out: str | Path,
    known: Known | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    Raises as `geoml.geolocation.rows.run.write`, and what reading the reference raises.
    """

    def start(folder: Path) -> _Run:
        return _Run(ground, known or Known(), RowParts(folder / "map-parts", MORE))

    return write(sources, out, start, more=MORE, packages=PACKAGES, progress=progress)


class _Run(PictureRows[list[Pixels]]):
    def __init__(self, ground: IndexedReference, known: Known, parts: RowParts) -> None:
        super().__init__(parts, part=PART, whole=SIDE)
        self.ground, self.known = ground, known
        self.asked = {
            "format": FORMAT,
            "model": MODEL,
            "reference": ground.reference.key,
            "acceptance": grounds.VERSION,
            "prior": asked(known),
            "left_out": dict(ground.left_out),
        }
        self.digest = digest(self.asked)
        self.columns = {"model_id": MODEL, "gallery_sha256": ground.reference.key, "run_id": self.digest[:16]}

    def about(self) -> dict[str, Any]:
        return {**self.asked, "run_id": self.digest[:16], "thresholds": self.ground.thresholds}

    def key(self, reference: Reference, sha256: str) -> bytes:
        return bytes.fromhex(digest([self.digest, sha256, self.known.told(reference), list(reference.problems)]))

    def look(self, pictures: Iterator[Ready]) -> list[Pixels]:
        return [p.whole for p in pictures if p.whole is not None]

    def made(self, pictures: Sequence[Ready], looked: list[Pixels]) -> list[Row]:
        out = []
        for picture, pixels in zip(pictures, looked, strict=True):
            out.append(row(picture, pixels, self.ground, self.known.prior(picture)) | self.columns)
        return out

    def without(self, picture: Ready) -> Row:
        return silent(picture, self.columns)


def asked(known: Known) -> dict[str, Any]:
    """What is known, for a digest."""
    near = None if known.near is None else list(known.near)
    return {"position": known.position, "near": near, "within_km": known.within_km if known.any else None}


def row(picture: Ready, pixels: Pixels, ground: IndexedReference, prior: Prior | None) -> Row:
    """The row of a picture whose reduced ``pixels`` are looked up on a ground.

    Raises what reading the reference raises, DataError and NothingFound where no threshold can be chosen.
    """
    acceptance = ground.acceptance(max(pixels.shape[:2]))
    found = locate(pixels, ground.reference, acceptance, prior=prior, options=HOW)
    out: Row = {
        "image_id": picture.reference.id, "sha256": picture.sha256, "inliers": found.inliers,
        "p_right": found.probability, "exif_lon": picture.exif.lon, "exif_lat": picture.exif.lat,
        "localizable": found.status == "ok", "calibration_id": grounds.calibration_id(acceptance),
    }  # fmt: skip
    problems = list(picture.problems)
    if found.status != "ok":
        told = {"status": "abstained", "reason": "; ".join([found.reason, *problems]), "disclosed_precision": "none"}
        return {**out, **told, "exif_flag": "absent"}
    outline = footprint(found, pixels)
    if outline is None:
        problems.append("a pole or the edge of the world lies in it: no footprint")
    ratio = max(pixels.shape[:2]) / max(picture.shape)
    (ee, en), (_, nn) = found.covariance
    flag, km = exif_flag(found, picture)
    return {
        **out, "status": "ok", "stage": "match", "reason": "; ".join(problems) or None,
        "lon": float(sphere.wrap(found.lon)), "lat": found.lat,
        "radius_50_km": HALF * found.error / 1000, "radius_90_km": NINETY * found.error / 1000,
        "footprint": None if outline is None else shapely.to_wkb(outline),
        "error_m": found.error, "cov_ee": float(ee), "cov_en": float(en), "cov_nn": float(nn),
        "gsd_m": found.gsd * ratio, "heading_deg": found.heading, "disclosed_precision": "exact",
        "reference": ground.piece(found.lon, found.lat) if ground.pieces else found.reference,
        "exif_flag": flag, "exif_error_km": km,
    }  # fmt: skip


def footprint(found: Located, pixels: Pixels) -> Polygon | MultiPolygon | None:
    """What a picture shows, in degrees and split at the antimeridian; None where degrees cannot say it."""
    height, width = pixels.shape[:2]
    along = np.arange(EDGE) / EDGE
    unit = np.concatenate([np.column_stack(side) for side in (
        (along, 0 * along), (1 + 0 * along, along), (1 - along, 1 + 0 * along), (0 * along, 1 - along))])  # fmt: skip
    move = pyproj.Transformer.from_crs(found.crs, "EPSG:4326", always_xy=True)
    lon, lat = move.transform(*apply(found.matrix, unit * (width, height)).T)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    turn = np.diff(np.unwrap(np.append(lon, lon[0]), period=360)).sum()
    if abs(turn) > 180:  # the meridians all pass through it
        return None
    shape = from_geometry(Polygon(np.column_stack([lon, lat])))
    if shape.is_empty:
        return None
    return shape.geoms[0] if len(shape.geoms) == 1 else shape


def exif_flag(found: Located, picture: Ready) -> tuple[str, float | None]:
    """As `geoml.geolocation.rows.schema.exif_flag`; a camera may stand half a footprint from the middle of what it
    sees."""
    lon, lat = picture.exif.lon, picture.exif.lat
    if lon is None or lat is None:
        return "absent", None
    km = float(sphere.distance(found.lon, found.lat, lon, lat))
    half = float(np.max(sphere.distance(found.lon, found.lat, *found.footprint.T)))
    return ("agree" if km <= half + NINETY * found.error / 1000 else "suspicious"), km
