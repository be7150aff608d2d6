"""Objects of a run from those of its blocks: suppressed strip by strip, as if once."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import shapely
from shapely.geometry.base import BaseGeometry

from geoml.engine.contract import FinishedRun
from geoml.grid.plane import Plane
from geoml.io.tables.objects import (
    FoundObjects,
    objects_frame,
    read_found,
    summary_table,
    write_objects,
    write_summary,
)
from geoml.outputs._objects_tables import FEATURES, SUMMARY
from geoml.vector.boxes import Boxes, Suppression, together


def kept(run: FinishedRun, overlap: float) -> dict[Plane, FoundObjects]:
    """What is kept of all blocks, by plane: of two boxes that overlap by more than ``overlap`` the better one.

    Blocks come row by row, so a row of them is a strip.
    """
    reach = run.plan.card.chip_size
    found: dict[Plane, list[Boxes]] = {}
    searched: dict[Plane, Counter[tuple[int, int]]] = {}
    strips: dict[Plane, Suppression] = {}
    for (plane, _), row in groupby(run.parts(read_found), key=lambda part: (part[0].plane, part[0].iy)):
        parts = list(row)
        squares = searched.setdefault(plane, Counter())
        for _, part in parts:
            squares.update(part.searched)
        strip = strips.setdefault(plane, Suppression(overlap, reach))
        boxes = together([part.boxes for _, part in parts])
        found.setdefault(plane, []).append(strip.add(boxes, parts[0][0].window.y1))
    for plane, strip in strips.items():
        if strip.held is not None:
            found[plane].append(strip.end())
    return {plane: FoundObjects(together(boxes), searched[plane]) for plane, boxes in found.items()}


def write_tables(run: FinishedRun, overlap: float) -> None:
    """Write `FEATURES` and `SUMMARY` into the folder of the run. Raises DataError."""
    found, card, plan = kept(run, overlap), run.plan.card, run.plan
    region: BaseGeometry = shapely.union_all([zone.geometry for zone in plan.zones])
    frame = objects_frame(
        {plane: part.boxes for plane, part in found.items()},
        card=card,
        model_id=f"{card.name}/{card.version}/{card.sha256[:12]}",
        items=run.sources,
        region=region,
        min_area=plan.recipe.min_area,
    )
    write_objects(frame, run.out / FEATURES)
    searched = {plane: part.searched for plane, part in found.items()}
    write_summary(summary_table(frame, searched, card, region, plan.pixels), run.out / SUMMARY)
