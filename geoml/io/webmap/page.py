"""``map.html``: the map of a run as one page that needs no network, with every value as it is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pystac
import shapely
from markupsafe import Markup
from numpy.typing import NDArray

from geoml.errors import DataError
from geoml.io.cards.map_card import MapCard
from geoml.io.report.blocks import BlockFiles, Stage, is_known
from geoml.io.report.images import VIRIDIS
from geoml.io.report.map import planes_of
from geoml.io.report.page import blocks_of_run
from geoml.io.report.part import ReportLayer, ReportPart
from geoml.io.report.template import template
from geoml.io.stac.items import read_item
from geoml.io.webmap.encode import picture_uri, values_text
from geoml.io.webmap.leaflet import json_for_page, leaflet
from geoml.io.webmap.mosaic import MercatorMosaic, drawn_layers, mosaic, sketch_metres
from geoml.io.webmap.outlines import outlines_of, rings

MAP = "map.html"
TITLE = "the map, a page to open in a browser"
BUDGET = 16_000_000
"""Bytes of layers and pictures in the page; with Leaflet, outlines and images it stays below 20 MB."""
SOURCES = 3000
"""Images whose outlines are in the page, at most."""

_HERE = Path(__file__).parent


def map_page(
    out: Path, run: Mapping[str, Any], card: MapCard, part: ReportPart, stage: Stage = nullcontext
) -> str | None:
    """The map of the run folder ``out``, of which ``run`` is the contents of ``run.json``; None if nothing has a place.

    The bytes are the same however the run was cut, for each pixel is taken from the layers at full resolution; not so
    in a run of so many blocks that only their sketches are read, of which the page tells. Of a region that is too large
    every second pixel is left out until the page is small enough. ``stage`` is as in
    `geoml.io.report.page.map_report`. Raises DataError for a table that cannot be read.
    """
    blocks, problems = blocks_of_run(out, run, stage)
    drawn = drawn_layers(part)
    found = mosaic(blocks, drawn, planes_of(run), card.gsd)
    if found is None:
        return None
    first = blocks.items[0] if isinstance(blocks, BlockFiles) else read_item(out / "items" / f"{blocks.ids[0]}.json")
    ends = {key: _ends(values, drawn[key]) for key, values in found.layers.items()}  # later pixels are left out
    layers, pictures, found = _encoded(found)
    turned = found.bounds[2] > 180
    data = {
        "bounds": found.bounds,
        "size": next(iter({**found.layers, **found.pictures}.values())).shape[:2],
        "metres": found.metres,
        "gsd": card.gsd,
        "sketch": sketch_metres(blocks, card.gsd),
        "ramp": VIRIDIS,
        "classes": [(c.value, c.name, c.color) for c in card.classes],
        "pictures": [
            {"key": key, "title": _TITLES[key] if len(pictures) > 1 else "Image", "uri": uri}
            for key, uri in pictures.items()
        ],
        "layers": [
            {
                **_described(key, drawn[key], first),
                **ends[key],
                "own": key in part.layers,
                "sparse": not is_known(found.layers[key], drawn[key].nodata).any(),
                "data": text,
            }
            for key, text in layers.items()
        ],
        "outlines": _outlines(out, run.get("files") or {}, found.metres, turned),
        "sources": _sources(out / "sources.parquet", turned),
        "missing": len({**problems, **found.problems}),
        "server": None,
    }
    return render(str(run.get("title") or card.name), data)


def render(title: str, data: Mapping[str, Any]) -> str:
    """The page of what `map_page` gathered. With a ``server`` its layers are tiles, from where the page comes from."""
    return template(_HERE / "map.html.j2").render(
        title=title[:1].upper() + title[1:],
        images=Markup(" 'self'") if data["server"] else "",
        fetched=Markup("'self'" if data["server"] else "'none'"),
        data=Markup(json_for_page(data, "map")),
        script=Markup((_HERE / "map.js").read_text(encoding="utf-8")),
        **{name: Markup(text) for name, text in leaflet().items()},
    )


_TITLES = {"image": "Image, after", "before": "Image, before"}
_CATALOGS = ("items.parquet", "sources.parquet")


def _encoded(found: MercatorMosaic) -> tuple[dict[str, str], dict[str, str], MercatorMosaic]:
    """Layers and pictures as text, thinned until they are small enough."""
    while True:
        layers = {name: values_text(values) for name, values in found.layers.items()}
        pictures = {name: picture_uri(picture) for name, picture in found.pictures.items()}
        if sum(map(len, [*layers.values(), *pictures.values()])) <= BUDGET:
            return layers, pictures, found
        found = found.thinned()


def _described(key: str, layer: ReportLayer, item: pystac.Item) -> dict[str, Any]:
    """What the item of a block says of a layer."""
    asset = item.assets[layer.asset]
    bands: Sequence[Mapping[str, Any]] = asset.extra_fields.get("bands") or [{}]
    band = bands[layer.band - 1]
    several = f" ({band.get('name')})" if len(bands) > 1 else ""
    classes = asset.extra_fields.get("classification:classes") or []
    return {
        "key": key,
        "asset": layer.asset,
        "band": layer.band,
        "title": f"{asset.title or layer.what}{several}",
        "dtype": np.dtype(layer.dtype).name,
        "nodata": None if math.isnan(layer.nodata) else layer.nodata,
        "scale": band.get("raster:scale", 1.0),
        "offset": band.get("raster:offset", 0.0),
        "unit": band.get("unit") or "",
        "classes": [
            (c["value"], c.get("title") or c["name"], f"#{c.get('color_hint', '000000')}")
            for c in classes
            if not c.get("nodata")
        ],
    }


def _ends(values: NDArray[Any], layer: ReportLayer) -> dict[str, float]:
    """Stored values at the ends of the scale of colours: most of the layer lies between them."""
    known = values[is_known(values, layer.nodata)]
    low, high = (float(v) for v in np.percentile(known, (2, 98), method="nearest"))
    if low == high:
        low, high = float(known.min()), float(known.max())
    return {"low": low, "high": high}


def _outlines(out: Path, files: Mapping[str, str], metres: float, turned: bool) -> list[dict[str, Any]]:
    """The tables of features that the run wrote."""
    tables = {n: what for n, what in files.items() if n.endswith(".parquet") and n not in _CATALOGS}
    there = {n: what.rpartition(": ")[2] for n, what in tables.items() if (out / n).exists()}
    found = [outlines_of(out / name, what, metres, turned) for name, what in there.items()]
    return [{"title": o.title, "columns": o.columns, "rows": o.rows, "count": o.count} for o in found if o is not None]


def _sources(path: Path, turned: bool) -> dict[str, Any]:
    """The images that the run read: id, time and outline, the earliest first."""
    if not path.exists():
        return {"rows": [], "count": 0}
    try:
        there = pq.read_schema(path).names
        times = [name for name in ("datetime", "start_datetime") if name in there]
        table = pq.read_table(path, columns=["id", "geometry", *times], page_checksum_verification=True)
        moments = [table[name].cast(pa.timestamp("us", "UTC")) for name in times]
        when = pc.coalesce(*moments).to_pylist() if moments else [None] * len(table)
    except (OSError, LookupError, pa.ArrowException) as err:
        raise DataError(f"{path.name}: not a stac-geoparquet file ({err})") from err
    rows = []
    for key, moment, wkb in zip(table["id"].to_pylist(), when, table["geometry"].to_pylist(), strict=True):
        shape = shapely.from_wkb(wkb) if wkb else shapely.Point()
        boxes = shapely.bounds([part for part in shapely.get_parts(shape) if not part.is_empty]).reshape(-1, 4)
        # of one part: an image over the antimeridian has two, at either end of the world
        detail = float(np.max(boxes[:, 2:] - boxes[:, :2], initial=1e-6)) / 200
        said = moment.strftime("%Y-%m-%d %H:%M") if moment else ""
        rows.append((said, key, *rings([shape], detail * 111_320, turned)))
    rows.sort(key=lambda row: row[:2])
    return {"rows": rows[:SOURCES], "count": len(rows)}
