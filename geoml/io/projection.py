"""Does an item say where its file really lies? Where the two disagree nobody can know which is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pystac
from affine import Affine
from pyproj import CRS
from pyproj.exceptions import CRSError

from geoml.errors import DataError
from geoml.io.bands import BandSpec
from geoml.io.cog import header

TOLERANCE = 0.5
"""Pixels that a declared and a real corner may differ."""


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
    box, (height, width) = real.geobox.affine, real.shape
    try:
        said = Affine(*(float(v) for v in transform[:6]))
        if said.e > 0:  # south up, as the file may be; the header is turned round
            said = said @ Affine(1, 0, 0, 0, -1, height)
        drift = max(abs(v) for at in ((0, 0), (width, height)) for v in _pixels(box, said @ at, box @ at))
    except (TypeError, ValueError) as err:
        raise DataError(f"{where}: proj:transform {str(transform)[:80]}; expected six numbers") from err
    if not drift <= TOLERANCE:  # NaN is no agreement either
        raise DataError(
            f"{where}: proj:transform puts the corner at {said.c:.8g}, {said.f:.8g} with pixels of "
            f"{said.a:g}, the file has {box.c:.8g}, {box.f:.8g} and {box.a:g}; expected less than half a pixel"
        )


def _pixels(box: Affine, one: tuple[float, float], two: tuple[float, float]) -> tuple[float, float]:
    return (one[0] - two[0]) / box.a, (one[1] - two[1]) / box.e
