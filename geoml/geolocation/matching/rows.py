"""Pictures on a map: sources and a reference in, one GeoParquet file out, a row for each picture.

Rows are those of `geoml.geolocation.rows.schema`. A run that
was stopped goes on where it was, see `geoml.geolocation.rows.run`; nothing in a row tells when it was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyproj
import shapely
from shapely.geometry import MultiPolygon, Polygon

from geoml.geolocation.matching import prior as priors
from geoml.geolocation.matching import references
from geoml.geolocation.matching.match import SIDE, Located, MatchOptions, locate
from geoml.geolocation.matching.prior import Prior
from geoml.geolocation.matching.references import IndexedReference
from geoml.geolocation.pictures.listed import Reference
from geoml.geolocation.pictures.prepare import Pixels, PreparedPicture, Row
from geoml.geolocation.recipe import MapRecipe
from geoml.geolocation.rows.parts import RowParts
from geoml.geolocation.rows.run import PictureRows, Progress, write
from geoml.geolocation.rows.schema import MAP_COLUMNS, exif_flag
from geoml.grid import sphere
from geoml.grid.homography import apply
from geoml.grid.region import from_geometry

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


def geolocate_map(
    sources: Iterable[str | Path],
    reference: IndexedReference,
    out: str | Path,
    recipe: MapRecipe,
    progress: Progress | None = None,
) -> Row:
    """Write a row for each picture of the sources to ``out``; what ``OUT.run/run.json`` says.

    Raises the errors of `geoml.geolocation.rows.run.write`, and what reading the reference raises.
    """

    def start(folder: Path) -> _Run:
        return _Run(reference, recipe, RowParts(folder / "map-parts", MAP_COLUMNS))

    return write(sources, out, start, more=MAP_COLUMNS, packages=PACKAGES, progress=progress)


class _Run(PictureRows[list[Pixels]]):
    def __init__(self, reference: IndexedReference, recipe: MapRecipe, parts: RowParts) -> None:
        self.reference, self.recipe = reference, recipe
        request: Row = {
            "format": FORMAT,
            "model": MODEL,
            "reference": reference.key,
            "acceptance": references.VERSION,
            "prior": priors.request(recipe),
            "left_out": dict(reference.left_out),
        }
        super().__init__(parts, request, part=PART, whole=SIDE)
        self.columns |= {"model_id": MODEL, "gallery_sha256": reference.key}

    def about(self) -> Row:
        return {**super().about(), "thresholds": self.reference.thresholds}

    def used(self, reference: Reference) -> list[float | None]:
        return used(reference, self.recipe)

    def extract(self, pictures: Iterator[PreparedPicture]) -> list[Pixels]:
        return [p.whole for p in pictures if p.whole is not None]

    def answer(self, pictures: Sequence[PreparedPicture], extracted: list[Pixels]) -> list[Row]:
        return [
            row(picture, pixels, self.reference, priors.prior_of(picture, self.recipe)) | self.columns
            for picture, pixels in zip(pictures, extracted, strict=True)
        ]


def used(reference: Reference, recipe: MapRecipe) -> list[float | None]:
    """What of a reference enters the answer."""
    return [reference.lon, reference.lat] if "position" in recipe.use else []


def row(picture: PreparedPicture, pixels: Pixels, reference: IndexedReference, prior: Prior | None) -> Row:
    """The row of a picture whose reduced ``pixels`` are looked up on a reference.

    Raises what reading the reference raises, DataError and NothingFound if no threshold can be chosen.
    """
    acceptance = reference.acceptance(max(pixels.shape[:2]))
    located = locate(pixels, reference.index, acceptance, prior=prior, options=HOW)
    out: Row = {
        "image_id": picture.reference.id, "sha256": picture.sha256, "inliers": located.inliers,
        "p_right": located.probability, "exif_lon": picture.exif.lon, "exif_lat": picture.exif.lat,
        "localizable": located.status == "ok", "calibration_id": references.calibration_id(acceptance),
    }  # fmt: skip
    problems = list(picture.problems)
    if located.status != "ok":
        reason = "; ".join([located.reason, *problems])
        return out | {"status": "abstained", "reason": reason, "disclosed_precision": "none", "exif_flag": "absent"}
    outline = footprint(located, pixels)
    if outline is None:
        problems.append("a pole or the edge of the world lies in it: no footprint")
    ratio = max(pixels.shape[:2]) / max(picture.shape)
    (ee, en), (_, nn) = located.covariance
    row = {
        **out, "status": "ok", "stage": "match", "reason": "; ".join(problems) or None,
        "lon": float(sphere.wrap(located.lon)), "lat": located.lat,
        "radius_50_km": HALF * located.error / 1000, "radius_90_km": NINETY * located.error / 1000,
        "footprint": None if outline is None else shapely.to_wkb(outline),
        "error_m": located.error, "cov_ee": float(ee), "cov_en": float(en), "cov_nn": float(nn),
        "gsd_m": located.gsd * ratio, "heading_deg": located.heading, "disclosed_precision": "exact",
        "reference": reference.piece(located.lon, located.lat) if reference.pieces else located.reference,
    }  # fmt: skip
    # a camera may stand half a footprint from the middle of what it sees
    half = float(np.max(sphere.distance(located.lon, located.lat, *located.footprint.T)))
    # of the longitude before it is wrapped, which rounds
    row["exif_flag"], row["exif_error_km"] = exif_flag({**row, "lon": located.lon}, half)
    return row


def footprint(located: Located, pixels: Pixels) -> Polygon | MultiPolygon | None:
    """What a picture shows, in degrees and split at the antimeridian; None if degrees cannot say it."""
    height, width = pixels.shape[:2]
    along = np.arange(EDGE) / EDGE
    unit = np.concatenate([np.column_stack(side) for side in (
        (along, 0 * along), (1 + 0 * along, along), (1 - along, 1 + 0 * along), (0 * along, 1 - along))])  # fmt: skip
    move = pyproj.Transformer.from_crs(located.crs, "EPSG:4326", always_xy=True)
    lon, lat = move.transform(*apply(located.matrix, unit * (width, height)).T)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return None
    turn = np.diff(np.unwrap(np.append(lon, lon[0]), period=360)).sum()
    if abs(turn) > 180:  # the meridians all pass through it
        return None
    shape = from_geometry(Polygon(np.column_stack([lon, lat])))
    if shape.is_empty:
        return None
    return shape.geoms[0] if len(shape.geoms) == 1 else shape
