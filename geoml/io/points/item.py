"""A file of points as a STAC item, by the pointcloud extension, and back.

https://github.com/stac-extensions/pointcloud (v1.0.0). What the extension has no field for is in ``geoml:points``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pyproj
import pystac
import shapely
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError
from geoml.io.points.files import PointPlace
from geoml.io.points.source import PointSource
from geoml.io.stac.items import bbox_of, projection

OWN: Final = "geoml:points"
POINTCLOUD: Final = "https://stac-extensions.github.io/pointcloud/v1.0.0/schema.json"
TYPES: Final = {
    "las": "application/vnd.las",
    "laz": "application/vnd.laszip",
    "copc": "application/vnd.laszip+copc",
    "ept": "application/json",
}
KEY: Final = "points"
"""Of the asset."""


def to_item(source: PointSource, name: str, when: dt.datetime, version: str) -> pystac.Item:
    """The item ``name`` of a file of points; ``version`` changes with the file."""
    shape = outline(source)
    properties = {
        "pc:count": source.count,
        "pc:type": "lidar",
        "pc:encoding": "LASzip" if source.kind != "las" else "LAS",
        **projection(source.crs),
        "proj:bbox": list(source.bounds),
        "processing:version": version,
        OWN: plain(source),
    }
    item = pystac.Item(name, shapely.geometry.mapping(shape), bbox_of(shape), when, properties)
    item.stac_extensions = [POINTCLOUD, "https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    item.add_asset(KEY, pystac.Asset(source.href, media_type=TYPES.get(source.kind), roles=["data"]))
    return item


def plain(source: PointSource) -> dict[str, Any]:
    """A source as JSON."""
    return {**asdict(source), "xy": str(source.xy), "z": str(source.z)}


def source_of(item: pystac.Item) -> PointSource:
    """What `to_item` was given. Raises DataError for an item of another kind."""
    value: Any = item.properties.get(OWN)
    try:
        known: Mapping[str, Any] = {**value, "bounds": tuple(value["bounds"])}
        exact = {"xy": Fraction(known["xy"]), "z": Fraction(known["z"]), "place": PointPlace(**known["place"])}
        return PointSource(**{**known, **exact})
    except (TypeError, KeyError, ValueError) as err:
        raise DataError(f"item {item.id}: says nothing of its points ({err})") from err


def outline(source: PointSource) -> BaseGeometry:
    """The box of a file in degrees."""
    left, bottom, right, top = source.bounds
    edge = shapely.segmentize(shapely.box(left, bottom, right, top), max(right - left, top - bottom, 1.0) / 8)
    to = pyproj.Transformer.from_crs(source.crs, "EPSG:4326", always_xy=True)
    return shapely.transform(edge, lambda c: np.column_stack(to.transform(c[:, 0], c[:, 1])))
