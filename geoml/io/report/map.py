"""The maps of a report and the numbers beside them: all blocks on one canvas, classes, confidence, observations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pystac
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from geoml.errors import GeomlError
from geoml.grid.plane import Block, Plane
from geoml.grid.region import from_bbox
from geoml.io.cards.map_card import MapCard
from geoml.io.report import images
from geoml.io.report.blocks import CHANGE, UNKNOWN, Census, Near, here, look_at
from geoml.io.report.canvas import Canvas, Tick, canvas
from geoml.io.stac.items import block_footprint

CONFIDENCE_STEPS = 250
"""Stored confidence that means 1."""


@dataclass(frozen=True)
class Picture:
    """One map: PNG as a data URI, and a sentence for who cannot see it."""

    title: str
    uri: str
    alt: str


@dataclass(frozen=True)
class ClassRow:
    """A line of the legend; ``confidence`` is None where no pixel has one."""

    name: str
    color: str
    pixels: int
    area: float
    share: float
    confidence: float | None


@dataclass(frozen=True)
class MapView:
    """All that the page shows of the pixels."""

    pictures: tuple[Picture, ...]
    observations: Picture | None
    counts: tuple[tuple[str, float], ...]
    """Number of valid observations and the share of the region, where the number varies."""
    most: int
    classes: tuple[ClassRow, ...]
    area: float
    """m² with a class."""
    share: float
    """Of the pixels of the region in finished blocks, those with a class."""
    confidence: float | None
    sure: str
    """What stands beside the class: confidence, probability of change, or score of change."""
    ends: tuple[str, str]
    """What the ends of its scale mean."""
    low: float
    """Confidence at the dark end of the scale: that of a guess among all classes; 0 for what says changed or not."""
    histogram: tuple[float, ...]
    """Share of the pixels in each tenth of confidence."""
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


def map_view(
    root: Path,
    run: Mapping[str, Any],
    card: MapCard,
    items: Sequence[pystac.Item],
    failed: Mapping[str, str],
    near: Near = here,
) -> MapView | None:
    """Read and draw the blocks of the run folder ``root``; None when nothing has a place.

    ``near`` sees to it that the files of a block are there while it is read.
    """
    holes = _holes(run, failed)
    outlines = [shape(item.geometry) for item in items if item.geometry]
    if not outlines + holes:
        return None
    codes = {str(z["crs"]) for z in run.get("zones") or [] if "crs" in z}
    codes = codes or {str(i.properties.get("proj:code")) for i in items}
    sheet = canvas(outlines + holes, codes - {"None"}, card.gsd, card.anchor)
    stored = {
        "class": np.full((1, *sheet.shape), card.nodata, np.uint8),
        "confidence": np.full((1, *sheet.shape), UNKNOWN, np.uint8),
        "valid": np.full((1, *sheet.shape), UNKNOWN, np.uint8),
        "image": np.zeros((4, *sheet.shape), np.uint8),
    }
    change = next((said for key, said in CHANGE.items() if any(key in i.assets for i in items)), "")
    if change:
        stored["before"] = np.zeros((4, *sheet.shape), np.uint8)
    census, problems = Census(), {}
    for look in look_at(root, items, sheet, card.nodata, near):
        if look.census is None:
            problems[look.id] = look.problem.replace(f"{root}/", "").replace(f"{root.resolve()}/", "")
            continue
        census.add(look.census)
        for key, (values, known) in look.layers.items():
            shown = np.concatenate([values, np.full_like(values[:1], 255)]) if key in ("image", "before") else values
            stored[key][:, *look.part or ()][:, known] = shown[:, known]
    return _view(sheet, stored, census, card, holes, problems, change=change)


def _view(
    sheet: Canvas,
    stored: Mapping[str, images.Bytes],
    census: Census,
    card: MapCard,
    holes: Sequence[BaseGeometry],
    problems: dict[str, str],
    *,
    change: str,
) -> MapView:
    """``change`` is what a map of changes shows beside its classes, "" for any other."""
    low = 0.0 if change else 1 / max(len(card.classes), 1)
    broken = sheet.mask(holes)
    region = stored["valid"][0] != UNKNOWN
    layers = {
        **({"before": np.moveaxis(stored["before"], 0, -1)} if change else {}),
        "image": np.moveaxis(stored["image"], 0, -1),
        "class": images.class_colours({c.value: c.color for c in card.classes}, card.nodata)[stored["class"][0]],
        "confidence": images.quantity_colours(low * CONFIDENCE_STEPS, CONFIDENCE_STEPS)[stored["confidence"][0]],
    }
    rows = _class_rows(census, card)
    known_steps = census.sure.copy()
    known_steps[card.nodata] = 0
    by_step = known_steps[:, :UNKNOWN].sum(axis=0)
    mean = _mean(by_step)
    extent = sheet.extent()
    said = ", ".join(f"{r.name} {100 * r.share:.1f} %" for r in rows)
    sure = change or "confidence"
    shown = f"{sure.capitalize()}; mean {mean if mean is None else round(mean, 3)}."
    sentences = {
        "before": ("Before", f"Composite of the source images of the first date; {extent}."),
        "image": ("After" if change else "Image", f"Composite of the source images that the model saw; {extent}."),
        "class": ("Classes", f"Map of classes: {said}; {extent}."),
        "confidence": (sure.capitalize(), shown if change else f"Confidence of the class; {shown.partition('; ')[2]}"),
    }
    pictures = tuple(
        Picture(sentences[key][0], images.png(images.drawn(layer, region, broken)), sentences[key][1])
        for key, layer in layers.items()
    )
    counts, most = _counts(census)
    observations = None
    if np.count_nonzero(census.counts[1:UNKNOWN]) > 1:  # 0 and one other number is what the maps show already
        coloured = images.quantity_colours(0, most)[stored["valid"][0]]
        text = ", ".join(f"{n}: {100 * s:.1f} %" for n, s in counts)
        uri = images.png(images.drawn(coloured, region, broken))
        observations = Picture("Valid observations", uri, f"Number of valid observations of each pixel: {text}.")
    total, asked = int(by_step.sum()), int(census.counts[:UNKNOWN].sum())
    known = sum(int(census.pixels[v]) for v in range(256) if v != card.nodata)
    return MapView(
        pictures=pictures,
        observations=observations,
        counts=counts,
        most=most,
        classes=rows,
        area=sum(r.area for r in rows),
        share=known / asked if asked else float(known > 0),
        confidence=mean,
        sure=sure,
        ends=("unchanged", "changed") if change else ("a guess", "sure"),
        low=low,
        histogram=tuple(_tenths(by_step) / max(total, 1)),
        shape=sheet.shape,
        extent=extent,
        crs=_crs_name(sheet),
        scale=sheet.scale_bar(),
        north=sheet.north(),
        ticks=sheet.ticks(),
        failed=len(holes),
        problems=problems,
    )


def _class_rows(census: Census, card: MapCard) -> tuple[ClassRow, ...]:
    """All classes of the card, and any other value that the maps hold, so that nothing is left out of the sum."""
    names = {c.value: (c.name, c.color) for c in card.classes}
    values = [*names, *(int(v) for v in np.flatnonzero(census.pixels) if v not in names and v != card.nodata)]
    total = sum(float(census.area[v]) for v in values)
    return tuple(
        ClassRow(
            *names.get(v, (f"value {v} (not in the card)", "#000000")),
            pixels=int(census.pixels[v]),
            area=float(census.area[v]),
            share=float(census.area[v]) / total if total else 0.0,
            confidence=_mean(census.sure[v, :UNKNOWN]),
        )
        for v in values
    )


def _mean(by_step: NDArray[np.int64]) -> float | None:
    total = int(by_step.sum())
    return float(by_step @ np.arange(len(by_step))) / CONFIDENCE_STEPS / total if total else None


def _tenths(by_step: NDArray[np.int64]) -> NDArray[np.float64]:
    which = np.minimum(np.arange(len(by_step)) * 10 // CONFIDENCE_STEPS, 9)
    return np.array([float(by_step[which == k].sum()) for k in range(10)])


def _counts(census: Census) -> tuple[tuple[tuple[str, float], ...], int]:
    """Share of the region by number of valid observations (many are put together), and the largest number."""
    inside = census.counts[:UNKNOWN]
    seen = np.flatnonzero(inside)
    if not len(seen):
        return (), 0
    most = int(seen[-1])
    width = max(1, -(-(most + 1) // 16))
    groups = [(k, min(k + width - 1, most)) for k in range(0, most + 1, width)]
    share = [float(inside[a : b + 1].sum() / inside.sum()) for a, b in groups]
    named = [(str(a) if a == b else f"{a}–{b}", s) for (a, b), s in zip(groups, share, strict=True)]
    return tuple(g for g in named if g[1] > 0), most


def _holes(run: Mapping[str, Any], failed: Mapping[str, str]) -> list[BaseGeometry]:
    """Outlines in degrees of failed blocks inside the region, where their ids say where they lie."""
    zones = [z for z in run.get("zones") or [] if "crs" in z and "res" in z]
    planes = (Plane(str(z["crs"]), float(z["res"]), float(z.get("anchor", 0))) for z in zones)
    by_code = {p.code: p for p in planes}
    bbox = ((run.get("recipe") or {}).get("query") or {}).get("bbox")
    found = []
    for key in sorted(failed):
        match = re.fullmatch(r"(.+)_(\d+)_y(-?\d+)_x(-?\d+)", key)
        if match and match[1] in by_code:
            try:
                outline = block_footprint(Block(by_code[match[1]], *map(int, match.groups()[1:])))
                inside = shapely.intersection(outline, from_bbox(*bbox)) if bbox else outline
            except GeomlError:  # an id of another making; it stays in the list
                continue
            found.append(inside if inside.area > 0 else outline)
    return found


def _crs_name(sheet: Canvas) -> str:
    code = pyproj.CRS.from_wkt(sheet.wkt).to_epsg()
    return f"EPSG:{code}" if code else "an equal-area projection around the middle"
