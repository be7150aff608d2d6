"""Which items of a search can be used: those that have the bands and the metadata to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pystac
from shapely.geometry import MultiPolygon

from geoml.errors import DataError, InputError, ModelError
from geoml.grid.region import from_geometry
from geoml.io.stac.bands import BandSpec, mask_spec, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.io.stac.left_out import LeftOut
from geoml.io.stores.bucket import is_bucket, public_url
from geoml.io.stores.hrefs import gdal_path

T = TypeVar("T")

COARSER = 1.5
"""The finest band of an item may be at most this much coarser than what is asked for."""


@dataclass(frozen=True, slots=True)
class Usable:
    """An item that can be read, with the bands that were asked for and where it is (degrees)."""

    item: pystac.Item
    specs: tuple[BandSpec, ...]
    area: MultiPolygon


def checked(
    items: Sequence[pystac.Item],
    bands: Sequence[str],
    profile: Profile,
    catalog: Catalog,
    left: LeftOut,
    *,
    mask: str = "auto",
    gsd: float | None = None,
) -> list[Usable]:
    """The items that can be read by their metadata; the others go to ``left`` with the reason.

    An item needs ``bands``, numbers where numbers belong, the asset of the quality mask (``mask='auto'``), hrefs that
    are allowed, an area, and with ``gsd`` (metres) a band that is fine enough. With ``left.strict`` the first item
    that lacks something is raised: InputError for a band or href, ModelError for the gsd, else DataError.
    """
    fit = []
    for item in items:
        try:
            fit.append(check(item, bands, profile, catalog, mask=mask, gsd=gsd))
        except (InputError, DataError, ModelError) as err:
            left.add(item.id, err)
    return fit


def without_pixels(items: Sequence[pystac.Item], bands: Sequence[str], left: LeftOut) -> list[Usable]:
    """The items that have an area, with the file of their first asset as that of all bands: for inputs whose files have
    no pixels of the ground, and are looked at by these inputs. The others go to ``left`` with the reason."""
    fit = []
    for item in items:
        try:
            key, asset = next(iter(item.assets.items()))
            specs = tuple(BandSpec(item.id, key, asset.href, name, dtype="float32") for name in bands)
            fit.append(Usable(item, specs, _area(item)))
        except StopIteration:
            left.add(item.id, DataError(f"item {item.id}: no asset; expected a file"))
        except DataError as err:
            left.add(item.id, err)
    return fit


def require_any(items: list[T], left: LeftOut, where: str) -> list[T]:
    """``items``, after one warning about those that were left out; raises the class of the first when none is left."""
    if not items:
        raise left.none_left(where)
    left.warn(where)
    return items


def check(
    item: pystac.Item, bands: Sequence[str], profile: Profile, catalog: Catalog, *, mask: str, gsd: float | None
) -> Usable:
    """What is found of an item. Raises InputError, DataError or ModelError if it cannot be used; see `checked`."""
    specs = select(item, bands, profile, catalog)
    quality = mask_spec(item, profile, catalog) if mask == "auto" else None
    for spec in [*specs, *([quality.band] if quality else [])]:
        _allowed(spec)
    area = _area(item)
    finest, name = min(((s.gsd, s.name) for s in specs if s.gsd), default=(0.0, ""), key=lambda pair: pair[0])
    # a model of 10 m may well take bands of 20 m beside those of 10 m, but not nothing else
    if gsd and finest > gsd * COARSER:
        raise ModelError(
            f"works at {gsd:g} m, but the finest band of {item.id} ({name}) has {finest:g} m; expected at "
            f"most {gsd * COARSER:g} m"
        )
    return Usable(item, tuple(specs), area)


def _area(item: pystac.Item) -> MultiPolygon:
    """Where an item is, degrees. Raises DataError for one that is nowhere."""
    try:
        return from_geometry(item.geometry or {})
    except InputError as err:
        raise DataError(f"item {item.id}: {str(err).removeprefix('region: ')}") from err


def _allowed(spec: BandSpec) -> None:
    """Raise DataError, naming item and asset, for an href that will not be opened."""
    try:
        path = gdal_path(spec.href, remote=spec.remote, root=Path(spec.root) if spec.root else None, look_up=False)
        if is_bucket(path) and not spec.keys:
            public_url(path)
    except InputError as err:
        raise DataError(f"item {spec.item}, asset {spec.asset}: {err}") from err
