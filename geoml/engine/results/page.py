"""How a notebook shows a run: title, verdict, a table of classes and a small picture."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

from geoml.engine.results.layers import classes_of, picture_grid
from geoml.engine.results.picture import coloured, cropped
from geoml.engine.summary import class_areas
from geoml.io.cards.domain import described
from geoml.io.report.images import png
from geoml.texts import percent

if TYPE_CHECKING:
    from geoml.engine.results.run import Run

SIDE = 320
"""Pixels of the longer side of the picture."""
ASIDE = ("valid", "domain")
"""Layers that are about the map, and not the map."""


def summary(run: Run) -> str:
    """HTML without scripts; every text of the run is escaped."""
    rows = "".join(_row(*row) for row in _classes(run))
    table = f"<table><tr><th></th><th>class</th><th>km²</th><th>share</th></tr>{rows}</table>" if rows else ""
    share = run.get("valid_percent")
    known = f"{share:.1f} % of the region has data" if share is not None else ""
    words = [known, described(run.info) if run.mapped else "", *run.get("warnings", ())]
    about = "".join(f"<div>{html.escape(w)}</div>" for w in words if w)
    drawn = picture(run)
    image = f'<img src="{drawn}" alt="" style="max-width:{SIDE}px;image-rendering:pixelated">' if drawn else ""
    names = html.escape(", ".join((*run.layers, *run.tables)))
    return (
        f"<div><strong>{html.escape(str(run.get('title', '')))}</strong>{about}"
        f'<div style="display:flex;gap:1em;align-items:flex-start">{image}{table}</div><code>{names}</code></div>'
    )


def main_layer(run: Run) -> str | None:
    """The layer that is the map; None of a run that has none, such as one of objects."""
    return next((name for name in run.layers if name not in ASIDE), None)


def picture(run: Run) -> str:
    """A data URI: the map, read from its overviews, or the thumbnail of the block with most data; empty without any."""
    if not run.mapped:
        return ""
    if name := main_layer(run):
        grid = picture_grid([item for item in run.items if name in item.assets], SIDE)
        return png(cropped(coloured(run.layer(name, grid))))
    item = max(run.items, key=lambda i: i.properties.get("geoml:valid_pixels", 0))
    return "data:image/png;base64," + base64.b64encode(run.file(item.assets["thumbnail"].href).read_bytes()).decode()


def _classes(run: Run) -> list[tuple[str, str, float, float]]:
    """(colour, name, km², share) of each class of the map, as its blocks counted them."""
    area = class_areas(run.file("items.parquet")) if run.mapped else {}
    if not area or "class" not in run.layers:
        return []
    asset = next(i.assets["class"] for i in run.items if "class" in i.assets).extra_fields
    total = sum(area.values())
    return [
        (c.get("color_hint") or "", str(c.get("title") or c["name"]), area[c["value"]] / 1e6, area[c["value"]] / total)
        for c in classes_of(asset)
        if c["value"] in area
    ]


def _row(colour: str, name: str, area: float, share: float) -> str:
    swatch = f'<td style="background:#{html.escape(colour, quote=True)};width:1em"></td>'
    return f"<tr>{swatch}<td>{html.escape(name)}</td><td>{area:.2f}</td><td>{percent(share)}</td></tr>"
