"""All points of a LAS or LAZ file without an index, in the order of the file."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from geoml.io.points.files import PointBytes
from geoml.io.points.header import LasHeader
from geoml.io.points.laz import raw_parts
from geoml.io.points.records import Points, decoded
from geoml.io.stores.hrefs import redact

log = logging.getLogger(__name__)

STEPS = 2
"""Steps of the integers by which points may lie beyond the box of the header, by rounding."""


def plain_points(file: PointBytes, header: LasHeader, href: str) -> Iterator[Points]:
    """The points in parts. What a run covers is known by the boxes of headers: a stale one is told in the log."""
    outside = 0
    for raw in raw_parts(file, header):
        points = decoded(raw, header.format, header.record_bytes)
        outside += _outside(points, header)
        yield points
    if outside:
        log.warning(
            "points: %s: %d of %d points lie beyond the box of its header; the ground there may not be in the run",
            *(redact(href), outside, header.count),
        )


def _outside(points: Points, header: LasHeader) -> int:
    off = [
        (values < (header.mins[n] - header.offsets[n]) / header.scales[n] - STEPS)
        | (values > (header.maxs[n] - header.offsets[n]) / header.scales[n] + STEPS)
        for n, values in enumerate((points.x, points.y))
    ]
    return int((off[0] | off[1]).sum())
