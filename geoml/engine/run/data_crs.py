"""The CRS of a run that uses that of its data: from the items, else from their files."""

from __future__ import annotations

from collections.abc import Sequence

import pystac
from affine import Affine

from geoml.errors import DataError, InputError
from geoml.io.crs import crs_name, to_degrees
from geoml.io.stac.asset_projection import declared_crs, levels, parse_affine
from geoml.io.stac.bands import BandSpec
from geoml.texts import listed


def data_crs(items: Sequence[tuple[pystac.Item, BandSpec]], gsd: float, phase: float) -> tuple[str, float]:
    """The one CRS of all ``items``, and 0.5 where pixel centres of the first fall on multiples of ``gsd``, 0.0 where
    edges do, ``phase`` where neither is known. Opens the files of items that name no CRS.

    Raises InputError if there are several, DataError for an item whose CRS is not one of the Earth, and InputError,
    DataError or TransientError for a file that cannot be opened.
    """
    item_by_crs: dict[str, str] = {}
    grid: Affine | None = None
    for n, (item, spec) in enumerate(items):
        asset = item.assets[spec.asset]
        declared, _ = declared_crs(item, asset)
        transform = next(
            (t for p in levels(item, asset) if (t := parse_affine(p.get("proj:transform"))) is not None), None
        )
        if declared:
            code = crs_name(declared[0])
        else:
            from geoml.io.cog.read import header  # and GDAL, which items that say it do without

            real = header(spec)
            code, transform = real.crs, transform or real.geobox.affine
        if to_degrees(code) is None:
            raise DataError(f"item {item.id}, asset {spec.asset}: {code[:80]} is not a CRS of the Earth")
        item_by_crs.setdefault(code, item.id)
        grid = transform if n == 0 else grid
    if len(item_by_crs) != 1:
        names = listed(sorted(f"{code[:40]} ({item})" for code, item in item_by_crs.items()))
        raise InputError(f"crs: 'data' needs one CRS, the items have {names}; expected utm or EPSG:code")
    return next(iter(item_by_crs)), _phase(grid, gsd, phase)


def _phase(grid: Affine | None, gsd: float, default: float) -> float:
    if grid is None or grid.b or grid.d or abs(abs(grid.a) - gsd) > 1e-6 * gsd:
        return default
    x, y = (grid.c / gsd) % 1, (grid.f / gsd) % 1
    return 0.5 if abs(x - 0.5) < 1e-3 and abs(y - 0.5) < 1e-3 else 0.0
