"""A map of where pictures were taken, as one HTML page that needs no network.

Leaflet (BSD-2-Clause) and a small Blue Marble (NASA, public domain) are in the page. What is
written by others, such as names of files, reaches the page as JSON and is shown as text only.
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from geoml.errors import InputError
from geoml.geolocation.pictures.prepare import Row
from geoml.geolocation.rows.schema import STATUSES
from geoml.io.report.template import template
from geoml.io.webmap.leaflet import data_uri, json_for_page, leaflet
from geoml.vector.caps import cap

MOST = 5000
"""Rows on a page; the header says how many there are beyond it."""

THUMBNAIL = 160
"""Pixels of the longer side."""

Rings = list[list[list[float]]]
"""A polygon as Leaflet takes it: outer ring and holes of (lat, lon)."""

_HERE = Path(__file__).parent


def photo_map(
    rows: Iterable[Row],
    *,
    title: str = "Where the pictures were taken",
    thumbnails: Callable[[Row], bytes | None] | None = None,
) -> str:
    """The page of rows as `geoml.geolocation.rows.schema` has them.

    Answers are points with the circle that holds 90 % of the probability, or with their footprint where they have one
    (`geoml.geolocation.rows.schema.MAP_COLUMNS`); rows without an answer are listed next to the map.
    ``thumbnails`` gives the JPEG of a row as `thumbnail` makes it, or None. Raises InputError for a row without an
    ``image_id`` or with an unknown status.
    """
    entries: list[Row] = []
    counts, total, coarse = Counter[str](), 0, True
    for row in rows:
        if row.get("status") not in STATUSES or not isinstance(row.get("image_id"), str):
            raise InputError(f"row {row.get('image_id')}: status {row.get('status')!r}; expected one of {STATUSES}")
        total += 1
        counts[str(row["status"])] += 1
        coarse = coarse and str(row.get("disclosed_precision") or "region").startswith("region")
        if len(entries) < MOST:
            entries.append(_entry(row, thumbnails(row) if thumbnails else None))
    counted = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s]) or "none"
    more = f" Only the first {MOST} are shown." if total > MOST else ""
    fine = any(one["error"] is not None for one in entries)
    data = {"rows": entries, "digits": 6 if fine else 1 if coarse else 4, "fine": fine}
    page = template(_HERE / "photo_map.html.j2").render(
        title=title,
        summary=f"{total} pictures: {counted}.{more}",
        fine=fine,
        named=any(one["name"] for entry in entries for one in entry["topk"]),
        data=Markup(json_for_page(data, "rows")),
        **{name: Markup(text) for name, text in _parts().items()},
    )
    return page


def thumbnail(rgb: NDArray[np.uint8]) -> bytes:
    """A small JPEG of (H, W, 3) uint8, made from the pixels alone, so that it holds no metadata."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70, optimize=True)
    return file.getvalue()


def _entry(row: Row, small: bytes | None) -> Row:
    lon, lat, radius = row.get("lon"), row.get("lat"), row.get("radius_90_km")
    placed = lon is not None and lat is not None
    km = row.get("exif_error_km")
    flag = row.get("exif_flag")
    return {
        "id": row["image_id"],
        "status": row["status"],
        "reason": row.get("reason"),
        "lon": lon if placed else None,
        "lat": lat if placed else None,
        "radius": radius if placed else None,
        "precision": row.get("disclosed_precision"),
        "exif": None if flag in (None, "absent") else f"{flag}, {km:.0f} km away" if km is not None else flag,
        "outline": _outline(row),
        "error": row.get("error_m") if placed else None,
        "inliers": row.get("inliers") if placed else None,
        "where": row.get("reference") if placed else None,
        "topk": [
            {
                "lon": one["lon"],
                "lat": one["lat"],
                "p": one.get("p"),
                "name": ", ".join(str(one[k]) for k in ("name", "admin1", "country") if one.get(k)),
            }
            for one in row.get("topk") or []
        ],
        "thumbnail": None if small is None else data_uri("image/jpeg", small),
    }


def _outline(row: Row) -> list[Rings]:
    """The footprint of a row, else its circle, as rings of (lat, lon)."""
    if row.get("footprint") is not None:
        return _rings(shapely.from_wkb(row["footprint"]), 7)
    lon, lat, km = (row.get(k) for k in ("lon", "lat", "radius_90_km"))
    if lon is None or lat is None or km is None or not math.isfinite(km):
        return []
    return _rings(shapely.set_precision(cap(float(lon), float(lat), float(km)).simplify(0), 1e-3), 3)


def _rings(shape: shapely.Geometry, digits: int) -> list[Rings]:
    """As Leaflet takes them."""
    return [
        [[[round(y, digits), round(x, digits)] for x, y in r.coords[:-1]] for r in (part.exterior, *part.interiors)]
        for part in shapely.get_parts(shape)
        if part.geom_type == "Polygon" and not part.is_empty
    ]


@lru_cache(maxsize=1)
def _parts() -> dict[str, str]:
    """What every page holds."""
    return {
        **leaflet(),
        "script": (_HERE / "photo_map.js").read_text(encoding="utf-8"),
        "background": data_uri("image/jpeg", (_HERE / "vendor" / "blue-marble.jpg").read_bytes()),
    }
