"""One page about a search on a map: how like the place every chip is, and the best ones; it needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from markupsafe import Markup
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geoml.grid.plane import Plane, Window
from geoml.io.georef import apply_affine, transformer
from geoml.io.report import images
from geoml.io.report.canvas import Canvas, canvas
from geoml.io.report.template import template

WIDTH, LARGEST = 800, 48
"""Pixels of the map, about, and of a side of a chip on it, at most."""
SHOWN = 20
"""Rows of the table on the page."""
MARK = (220, 38, 38, 255)
"""Outlines of the best chips; the place that was asked for is black and white."""


def similar_page(
    *, title: str, about: str, outline: BaseGeometry, chips: pa.Table, scores: NDArray[np.float32], rows: pa.Table,
    planes: Mapping[str, Plane], side: int,
) -> str:  # fmt: skip
    """The page of a search.

    ``chips`` are all (plane, row, col, bbox) with their ``scores``, ``rows`` the best of them, best first; ``outline``
    is the place in degrees, and ``side`` the pixels of a chip's side.
    """
    bounds = chips["bbox"].combine_chunks()
    west, south, east, north = (bounds.field(edge).to_numpy() for edge in ("xmin", "ymin", "xmax", "ymax"))
    hull = shapely.box(west.min(), south.min(), east.max(), north.max())
    plane = next(iter(planes.values()))
    across = max(int(np.ptp(chips[axis].to_numpy())) + 1 for axis in ("row", "col")) if len(planes) == 1 else WIDTH
    wide = max(1, min(LARGEST, WIDTH // across))
    sheet = canvas([hull], {p.crs for p in planes.values()}, plane.res * side / wide)
    low, high = (float(v) for v in np.percentile(scores, (2, 100)))
    picture = _picture(sheet, chips, scores, planes, side, (low, high))
    for geometry in shapely.from_wkb(rows["geometry"].to_numpy()):
        picture[_edge(sheet.mask([geometry]))] = MARK
    _mark(picture, sheet, outline)
    return template(Path(__file__).with_name("similar.html.j2")).render(
        title=title,
        about=about,
        count=len(chips),
        found=len(rows),
        map=images.png(picture),
        alt=f"Map of how like the place each chip is, from {low:.2f} to {high:.2f}; {sheet.extent()}.",
        gradient=Markup(images.gradient()),
        low=low,
        high=high,
        scale=sheet.scale_bar(),
        extent=sheet.extent(),
        pixels="pixel_score" in rows.column_names,
        rows=rows.slice(0, SHOWN).to_pylist(),
    )


def _picture(
    sheet: Canvas,
    chips: pa.Table,
    scores: NDArray[np.float32],
    planes: Mapping[str, Plane],
    side: int,
    ends: tuple[float, float],
) -> NDArray[np.uint8]:
    """(y, x, 4) colours of the chips."""
    out = np.zeros((*sheet.shape, 4), np.uint8)
    codes, row, col = (chips[name].to_numpy() for name in ("plane", "row", "col"))
    for code, plane in planes.items():
        mine = np.flatnonzero(codes == code)
        if not len(mine):
            continue
        r, c = row[mine], col[mine]
        window = Window(int(r.min()), int(c.min()), int(r.max()) + 1, int(c.max()) + 1)
        grid = np.full(window.shape, np.nan, np.float32)
        grid[r - window.y0, c - window.x0] = scores[mine]
        coarse = plane.geobox(window.finer(side)).affine
        place = sheet.part(coarse, window.finer(side).shape, plane.crs)
        if place is None:
            continue
        x, y = sheet.places(place, coarse, plane.crs)
        with np.errstate(invalid="ignore"):
            x, y = np.floor(x / side), np.floor(y / side)
            good = (x >= 0) & (x < window.shape[1]) & (y >= 0) & (y < window.shape[0])
        found = np.where(good, grid[tuple(np.where(good, v, 0).astype(np.intp) for v in (y, x))], np.nan)
        known = np.isfinite(found)
        out[place][known] = images.ramp((found[known] - ends[0]) / max(ends[1] - ends[0], 1e-9))
    return out


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Its outermost pixels."""
    inner = np.pad(mask, 1)
    whole = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    edge: NDArray[np.bool_] = mask & ~whole
    return edge


def _mark(picture: NDArray[np.uint8], sheet: Canvas, outline: BaseGeometry) -> None:
    """A ring around a point, or the outline of polygons, black on white."""
    mask = sheet.mask([outline])
    if outline.geom_type == "Point" or not mask.any():
        point = outline.representative_point()
        ground = (np.array([v]) for v in transformer("EPSG:4326", sheet.wkt).transform(point.x, point.y))
        column, row = apply_affine(~sheet.box.affine, *ground)
        y, x = np.indices(sheet.shape) + 0.5
        away = np.hypot(y - row, x - column)
        size = max(4.0, max(sheet.shape) / 60)
        picture[np.abs(away - size) < 2.0] = (255, 255, 255, 255)
        picture[np.abs(away - size) < 1.0] = (0, 0, 0, 255)
        return
    picture[_edge(mask)] = (0, 0, 0, 255)
