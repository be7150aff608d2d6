"""The layers of a run as the STAC render extension has them, so that tile servers and browsers style themselves.

https://github.com/stac-extensions/render (v2.0.0): ``renders`` of a collection names the assets of its items. Ranges
are of stored values, as tilers read them, before scale and offset.
"""

from __future__ import annotations

from collections.abc import Sequence

from geoml.io.desktop.map_layer import MapLayer
from geoml.io.report.images import rgb


def renders(layers: Sequence[MapLayer]) -> dict[str, dict[str, object]]:
    """By key of each layer of the blocks; pictures have none."""
    return {layer.key: _render(layer) for layer in layers if layer.group != "image"}


def _render(layer: MapLayer) -> dict[str, object]:
    said: dict[str, object] = {"title": layer.title, "assets": [layer.key]}
    if layer.nodata is not None:
        said["nodata"] = layer.nodata if layer.nodata == layer.nodata else "nan"
    if layer.classes:
        colours = {str(c.value): [*rgb(c.color), 255] for c in layer.classes}
        return {**said, "colormap": colours, "resampling": "nearest"}
    if layer.colours:
        return {**said, "rescale": [[0, 255]] * 3}
    band = layer.band - 1
    ends = sorted((end - layer.offsets[band]) / layer.scales[band] for end in (layer.low, layer.high))
    several = {"bidx": [layer.band]} if len(layer.bands) > 1 else {}
    rescale = [[float(f"{end:.9g}") for end in ends]]
    return {**said, **several, "rescale": rescale, "colormap_name": "viridis", "resampling": "average"}
