"""Layers as the STAC render extension has them; tilers style by them in tests/integration/test_readers.py."""

from __future__ import annotations

from geoml.io.desktop.map_layer import MapClass, MapLayer
from geoml.io.desktop.render import renders

BASE = {"title": "t", "file": "x.tif"}


def test_what_is_said_of_classes_shares_quantities_and_colours() -> None:
    layers = [
        MapLayer(key="class", group="map", nodata=255, classes=(MapClass(7, "tree", "#1f6b35"),), **BASE),
        MapLayer(key="sure", group="doubt", nodata=255, scales=(0.004,), **BASE),
        MapLayer(
            key="value", group="map", dtype="int16", bands=("q10", "q50"), band=2, scales=(0.1, 0.5),
            offsets=(0.0, -10.0), low=-5.0, high=40.0, **BASE,
        ),
        MapLayer(key="dtm", group="map", dtype="float32", nodata=float("nan"), low=2.0, high=9.0, **BASE),
        MapLayer(key="rgb", group="map", colours=True, bands=("r", "g", "b"), nodata=0, **BASE),
        MapLayer(key="image", group="image", colours=True, **BASE),
    ]  # fmt: skip
    found = renders(layers)
    assert set(found) == {"class", "sure", "value", "dtm", "rgb"}
    assert found["class"]["colormap"] == {"7": [31, 107, 53, 255]}
    assert found["sure"]["rescale"] == [[0.0, 250.0]]
    assert (found["value"]["bidx"], found["value"]["rescale"]) == ([2], [[10.0, 100.0]])
    assert (found["dtm"]["nodata"], found["dtm"]["rescale"]) == ("nan", [[2.0, 9.0]])
    assert found["rgb"]["rescale"] == [[0, 255]] * 3
    assert all(render["assets"] == [key] for key, render in found.items())
