"""An interactive map of a run in a notebook, by folium (extra ``notebook``)."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import pyproj
from odc.geo.geobox import GeoBox

from geoml.engine.results.layers import bounds_of, web_grid
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

    west, south, east, north = bounds_of(run.items.items)
    found = folium.Map(**{"tiles": "OpenStreetMap", "control_scale": True, **options})
    if name := layer or main_layer(run):
        web = web_grid([item for item in run.items if name in item.assets], SIDE)
        west, south, east, north = _corners(web)
        data = run.layer(name, web)
        # folium stretches a picture between its corners, and so does the projection of the tiles
        picture = folium.raster_layers.ImageOverlay(png(coloured(data)), [[south, west], [north, east]], opacity=0.7)
        picture.layer_name = html.escape(str(data.attrs["long_name"]))  # which Leaflet takes for HTML
        picture.add_to(found)
    if "features" in run.tables:
        _polygons(run, folium).add_to(found)
    found.fit_bounds([[south, west], [north, east]])
    folium.LayerControl().add_to(found)
    return found


def _corners(web: GeoBox) -> tuple[float, float, float, float]:
    """West, south, east, north of a grid in web Mercator; longitudes rise, beyond 180 too."""
    box = web.extent.boundingbox
    to = pyproj.Transformer.from_crs(str(web.crs), "EPSG:4326", always_xy=True)
    (west, east), (south, north) = to.transform([box.left, box.right], [box.bottom, box.top])
    return west, south, east + 360 if east < west else east, north


def _polygons(run: Run, folium: Any) -> Any:
    """Outlines in the colours of their classes; texts are escaped, for folium writes them as HTML."""
    rows = run.polygons
    name = "polygons"
    if len(rows) > MOST:
        name = f"polygons ({MOST} of {len(rows)})"
        rows = rows.nlargest(MOST, "area_m2")
    columns = [c for c in SHOWN if c in rows]
    shown = rows[[*columns, "geometry"]].copy()
    for column in columns:
        shown[column] = [html.escape(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in shown[column]]
    return folium.GeoJson(
        shown.to_json(),
        name=name,
        style_function=lambda feature: {"weight": 1, "color": "#1f2937", "fillOpacity": 0},
        popup=folium.GeoJsonPopup(fields=columns),
    )
