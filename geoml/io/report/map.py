"""The maps of a report and the numbers beside them: all blocks on one canvas, what the model saw and what it made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from markupsafe import Markup
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.errors import GeomlError
from geoml.grid.plane import Block, Plane
from geoml.grid.region import from_bbox
from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.blocks import VALID, BlockFiles
from geoml.io.report.canvas import Canvas, Tick, canvas
from geoml.io.report.counts import UNKNOWN
from geoml.io.report.part import Drawing, ReportPart
from geoml.io.report.sketches import ID, BlockRows
from geoml.io.stac.items import block_footprint
from geoml.texts import percent


@dataclass(frozen=True)
class Picture:
    """One map: PNG as a data URI, a sentence for who cannot see it, and what is written below."""

    title: str
    uri: str
    alt: str
    below: Markup


@dataclass(frozen=True)
class MapView:
    """All that the page shows of the pixels."""

    pictures: tuple[Picture, ...]
    observations: Picture | None
    counts: tuple[tuple[str, float], ...]
    """Number of valid observations and the share of the region, where the number varies."""
    most: int
    facts: tuple[tuple[str, str], ...]
    """Labels and numbers of the output."""
    share: float
    """Of the pixels of the region in finished blocks, those with an answer."""
    shape: tuple[int, int]
    extent: str
    crs: str
    scale: tuple[float, str]
    north: float
    ticks: tuple[list[Tick], list[Tick]]
    failed: int
    """Failed blocks that are drawn."""
    problems: dict[str, str]

    @property
    def gradient(self) -> str:
        return images.gradient()


@dataclass(frozen=True)
class _Sheet:
    """The canvas with what was painted on it: layers by name (band, y, x), and pixels by number of observations."""

    canvas: Canvas
    stored: Mapping[str, NDArray[np.number]]
    observed: NDArray[np.int64]
    holes: Sequence[BaseGeometry]
    problems: dict[str, str]


def map_view(
    run: Mapping[str, Any],
    card: MapCard,
    part: ReportPart,
    blocks: BlockFiles | BlockRows,
    failed: Mapping[str, str],
    *,
    when: str,
) -> MapView | None:
    """Read and draw the blocks of a run; None when nothing has a place.

    ``part`` is that of the output, and adds up their counts; ``when`` is the time of the images in words. Raises
    DataError for a table of blocks that is damaged.
    """
    planes = planes_of(run)
    holes = _holes(run, failed, {plane.code: plane for plane in planes})
    outlines = [*blocks.outlines(), *holes]
    if not outlines:
        return None
    codes = {plane.crs for plane in planes} or blocks.codes()
    sheet = canvas(outlines, codes - {"None"}, card.gsd, card.anchor)
    drawn = {**part.layers, "valid": VALID}
    stored = {k: np.full((1, *sheet.shape), v.nodata, v.dtype) for k, v in drawn.items()}
    for name in ("before", "image") if part.change else ("image",):
        stored[name] = np.zeros((4, *sheet.shape), np.uint8)
    painted = blocks.paint(sheet, part, drawn, stored, planes)
    return _view(_Sheet(sheet, stored, painted.observed, holes, painted.problems), part, when)


def _view(sheet: _Sheet, part: ReportPart, when: str) -> MapView:
    place, observed = sheet.canvas, sheet.observed
    broken = place.mask(sheet.holes)
    region = sheet.stored["valid"][0] != UNKNOWN
    extent = place.extent()

    for name in {"before", "image"} & sheet.stored.keys():  # whose pixels may be larger, and hang over the edge
        sheet.stored[name][3, ~region] = 0
    image = np.moveaxis(sheet.stored["image"], 0, -1).astype(np.uint8, copy=False)

    def picture(drawing: Drawing) -> Picture:
        colours = images.laid_over(drawing.colours, image) if drawing.over else drawing.colours
        uri = images.png(images.shade_gaps(colours, region, broken))
        return Picture(drawing.title, uri, drawing.alt, drawing.below)

    drawings = [
        *_images(sheet, part, extent, when),
        *part.drawings({name: sheet.stored[name][0] for name in part.layers}, place),
    ]
    counts, most = _counts(observed)
    observations = None
    if np.count_nonzero(observed[1:UNKNOWN]) > 1:  # 0 and one other number is what the maps show already
        coloured = images.quantity_colours(0, most)[sheet.stored["valid"][0]]
        text = ", ".join(f"{n}: {percent(s)}" for n, s in counts)
        alt = f"Number of valid observations of each pixel: {text}."
        observations = picture(Drawing("Valid observations", coloured, alt, Markup()))
    inside = int(observed[:UNKNOWN].sum())
    answered = part.known(int(observed[1:UNKNOWN].sum()))
    return MapView(
        pictures=tuple(picture(d) for d in drawings),
        observations=observations,
        counts=counts,
        most=most,
        facts=tuple(part.facts()),
        share=answered / inside if inside else float(answered > 0),
        shape=place.shape,
        extent=extent,
        crs=_crs_name(place),
        scale=place.scale_bar(),
        north=place.north(),
        ticks=place.ticks(),
        failed=len(sheet.holes),
        problems=sheet.problems,
    )


def _images(sheet: _Sheet, part: ReportPart, extent: str, when: str) -> list[Drawing]:
    """What the model saw: of the first date, where the output compares dates, and of the last one."""
    words = {
        "before": ("Before", f"Composite of the source images of the first date; {extent}."),
        "image": ("After" if part.change else "Image", f"Composite of the source images that the model saw; {extent}."),
    }
    below = Markup('<p class="small soft">What the model saw{}.</p>')
    time = f", {when}" if when and not part.change else ""
    return [
        Drawing(title, np.moveaxis(sheet.stored[name], 0, -1).astype(np.uint8, copy=False), alt, below.format(time))
        for name, (title, alt) in words.items()
        if name in sheet.stored
    ]


def _counts(observed: NDArray[np.int64]) -> tuple[tuple[tuple[str, float], ...], int]:
    """Share of the region by number of valid observations (many are put together), and the largest number."""
    inside = observed[:UNKNOWN]
    numbers = np.flatnonzero(inside)
    if not len(numbers):
        return (), 0
    most = int(numbers[-1])
    width = max(1, -(-(most + 1) // 16))
    groups = [(k, min(k + width - 1, most)) for k in range(0, most + 1, width)]
    share = [float(inside[a : b + 1].sum() / inside.sum()) for a, b in groups]
    named = [(str(a) if a == b else f"{a}–{b}", s) for (a, b), s in zip(groups, share, strict=True)]
    return tuple(g for g in named if g[1] > 0), most


def planes_of(run: Mapping[str, Any]) -> list[Plane]:
    """The planes that ``run.json`` says."""
    zones = [z for z in run.get("zones") or [] if "crs" in z and "res" in z]
    return [Plane(str(z["crs"]), float(z["res"]), float(z.get("anchor", 0))) for z in zones]


def _holes(run: Mapping[str, Any], failed: Mapping[str, str], planes: Mapping[str, Plane]) -> list[BaseGeometry]:
    """Outlines in degrees of failed blocks inside the region, where their ids say where they lie."""
    bbox = ((run.get("recipe") or {}).get("query") or {}).get("bbox")
    holes = []
    for key in sorted(failed):
        match = ID.fullmatch(key)
        if match and match[1] in planes:
            try:
                outline = block_footprint(Block(planes[match[1]], *map(int, match.groups()[1:])))
                inside = shapely.intersection(outline, from_bbox(*bbox)) if bbox else outline
            except GeomlError:  # an id of another making; it stays in the list
                continue
            holes.append(inside if inside.area > 0 else outline)
    return holes


def _crs_name(sheet: Canvas) -> str:
    code = pyproj.CRS.from_wkt(sheet.wkt).to_epsg()
    return f"EPSG:{code}" if code else "an equal-area projection around the middle"
