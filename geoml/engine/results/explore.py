"""An interactive map of a run in a notebook, by folium (extra ``notebook``)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from geoml.engine.results.layers import picture_grid
from geoml.engine.results.page import main_layer
from geoml.engine.results.picture import coloured
from geoml.errors import MissingExtra
from geoml.io.report.images import png

if TYPE_CHECKING:
    import folium

    from geoml.engine.results.run import Run

SIDE = 1024
"""Pixels of the longer side of the picture of a layer."""
MOST = 5000
"""Polygons that are drawn, the largest first: a browser is slow with more."""
SHOWN = ("id", "name", "class", "area_m2", "confidence")
"""Columns that a click shows."""


def explore(run: Run, layer: str | None = None, **options: Any) -> folium.Map:
    """See `geoml.engine.results.run.Run.explore`."""
    try:
        import folium
    except ImportError as err:
        raise MissingExtra("explore: folium is not installed; pip install 'geoml[notebook]'") from err

    west, south, east, north = _bounds(run)
    found = folium.Map(**{"tiles": "OpenStreetMap", "control_scale": True, **options})
    if name := layer or main_layer(run):
        web = picture_grid([item for item in run.items if name in item.assets], SIDE, "EPSG:3857")
        west, south, east, north = web.extent.to_crs("EPSG:4326").boundingbox
        data = run.layer(name, web)
        # folium stretches a picture between its corners, and so does the projection of the tiles
        picture = folium.raster_layers.ImageOverlay(png(coloured(data)), [[south, west], [north, east]], opacity=0.7)
        picture.layer_name = str(data.attrs["long_name"])
        picture.add_to(found)
    if "features" in run.tables:
        _polygons(run, folium).add_to(found)
    found.fit_bounds([[south, west], [north, east]])
    folium.LayerControl().add_to(found)
    return found


def _bounds(run: Run) -> tuple[float, float, float, float]:
    boxes = [item.bbox for item in run.items if item.bbox]
    west, south, east, north = zip(*boxes, strict=True)
    return min(west), min(south), max(east), max(north)


def _polygons(run: Run, folium: Any) -> Any:
    """Outlines in the colours of their classes; texts are escaped, for folium writes them as HTML."""
    rows = run.polygons
    area = "area_m2" if "area_m2" in rows else rows.columns[0]
    rows = rows.nlargest(MOST, area) if len(rows) > MOST else rows
    columns = [c for c in SHOWN if c in rows]
    shown = rows[[*columns, "geometry"]].copy()
    for column in columns:
        shown[column] = [html.escape(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in shown[column]]
    return folium.GeoJson(
        shown.to_json(),
        name="polygons",
        style_function=lambda feature: {"weight": 1, "color": "#1f2937", "fillOpacity": 0},
        popup=folium.GeoJsonPopup(fields=columns),
    )
