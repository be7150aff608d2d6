"""Does an item say where its file really lies? Where the two disagree nobody can know which is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoml.errors import DataError
from geoml.io.bands import BandSpec
from geoml.io.cog import header

TOLERANCE = 0.5
"""Pixels that the declared and the real corner may differ."""


def check_projection(item: pystac.Item, spec: BandSpec) -> None:
    """Compare ``proj:code`` (``proj:epsg``) and ``proj:transform`` of an asset, else its item, with the file's header.

    The item's own transform is compared only where it speaks of a grid of this size, for an item may have assets of
    several resolutions. Raises DataError naming item, asset and both values, and as `geoml.io.cog.header`.
    """
    own: Mapping[str, Any] = item.assets[spec.asset].extra_fields
    whole: Mapping[str, Any] = item.properties
    real = header(spec)
    where = f"item {item.id}, asset {spec.asset}"
    code = next((p[k] for p in (own, whole) for k in ("proj:code", "proj:epsg") if p.get(k) is not None), None)
    if code is not None:
        try:
            same = CRS.from_user_input(code) == CRS.from_user_input(real.crs)
        except CRSError as err:
            raise DataError(f"{where}: proj:code {code!r} is not known; the file is in {real.crs}") from err
        if not same:
            raise DataError(f"{where}: the item says {code}, the file is in {real.crs}; expected the same")
    given = own if "proj:transform" in own else whole if whole.get("proj:shape") == list(real.shape) else {}
    if (transform := given.get("proj:transform")) is None:
        return
    box = real.geobox.affine
    steps = (
        abs(box.c - transform[2]) / abs(box.a),
        abs(box.f - transform[5]) / abs(box.e),
        abs(box.a / transform[0] - 1),
    )
    if max(steps) > TOLERANCE:
        raise DataError(
            f"{where}: proj:transform puts the corner at {transform[2]:.8g}, {transform[5]:.8g} with pixels of "
            f"{transform[0]:g}, the file has {box.c:.8g}, {box.f:.8g} and {box.a:g}; expected less than half a pixel"
        )
