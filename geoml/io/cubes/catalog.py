"""A cube as a static STAC catalog of COGs, one for each step, which everything that reads scenes reads too."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from geoml.errors import DataError, InputError
from geoml.io.cog.write import CogInfo, CogWriter
from geoml.io.crs import FULL_TURN, in_degrees
from geoml.io.cubes.calendars import named
from geoml.io.cubes.cube import Cube
from geoml.io.stac.items import COG, LARGEST_ITEM, bbox_of, extensions, projection
from geoml.io.stac.times import rfc3339
from geoml.io.stores.multihash import multihash
from geoml.io.stores.store import read_small, within, write_json
from geoml.io.tables.durations import StepDuration

STRIP = 512
"""Rows that are read and written at once."""

DEGREE = 111_319.5
"""Metres of a degree along the equator (WGS 84)."""

FORECAST = "https://stac-extensions.github.io/forecast/v0.2.0/schema.json"


def write_catalog(cube: Cube, steps: Iterable[int], out: str | Path) -> Path:
    """Write steps of a cube into the folder ``out``, which may hold others already; gives its ``catalog.json``.

    Each step becomes ``items/ID.json`` and a float32 COG, north up, NaN where missing, in the cube's unit. ``datetime``
    is the valid time; a step of a period has its start and end. A step whose pixels are there already is left as it is;
    one that differs (late or corrected data) takes its place. Memory is strips of a frame.

    Raises InputError for a step that is not there, a folder that holds something else, and a calendar whose days have
    no name in STAC, and what `Cube.read` raises.
    """
    out, chosen = Path(out).absolute(), sorted(set(steps))
    stamps = {step: _stamps(cube, step) for step in chosen}
    about = _about(cube)
    before = _earlier(out, about)
    place = _place(cube.geobox)
    for step in chosen:
        _write_step(cube, step, stamps[step], place, out)
    names = sorted(path.stem for path in (out / "items").glob("*.json"))
    write_json(out / "collection.json", _collection(cube, about, names, stamps.values(), before, place))
    child = {"rel": "child", "href": "./collection.json", "type": "application/json"}
    root = {"rel": "root", "href": "./catalog.json", "type": "application/json"}
    top = {"type": "Catalog", "stac_version": "1.1.0", "id": f"{cube.variable}-cube", "links": [root, child]}
    write_json(out / "catalog.json", {**top, "description": cube.spec.title or cube.variable})
    return out / "catalog.json"


def item_id(cube: Cube, step: int) -> str:
    """The id of the item of a step: variable and valid time, and of a forecast the reference time."""
    moment = _compact(_stamps(cube, step)["datetime"])
    known = cube.reference_time
    return f"{cube.variable}-{moment}" + ("" if known is None else f"-of-{_compact(f'{known}Z')}")


def pixels_of(cube: Cube, step: int) -> str | None:
    """SHA-256 of the grid and the values of a step, as ``geoml:pixels`` of its item has it; None if no value is
    known. Raises what `Cube.read` raises."""
    known = False

    def looked_at() -> Iterator[NDArray[np.float32]]:
        nonlocal known
        for rows in _strips(cube, step):
            known = known or bool(np.isfinite(rows).any())
            yield rows

    found = _hashed(cube, looked_at(), None)
    return found if known else None


def _compact(text: str) -> str:
    return text.replace("-", "").replace(":", "")


def _stamps(cube: Cube, step: int) -> dict[str, str]:
    """``datetime`` of an item, and ``start_datetime`` and ``end_datetime`` where the step has a period."""
    if not 0 <= step < len(cube):
        raise InputError(f"steps: {step}; expected 0 to {len(cube) - 1}")
    start, end = (_moment(cube, tick) for tick in cube.periods[step])
    return {"datetime": end} | ({} if start == end else {"start_datetime": start, "end_datetime": end})


def _moment(cube: Cube, tick: int) -> str:
    when = named(tick, cube.calendar)
    try:
        if cube.calendar != "standard" and not cube.spec.duration.months:
            day = None
        else:
            day = dt.datetime(when.year, when.month, when.day, tzinfo=dt.UTC)
    except ValueError:
        day = None
    if day is None:
        raise InputError(
            f"time.calendar: {when} of the calendar {cube.calendar} has no place in STAC, which knows everyday dates"
            " only; expected a step of months or years, or another calendar"
        )
    return rfc3339(day + dt.timedelta(seconds=when.second))


def _about(cube: Cube) -> dict[str, object]:
    """What all items of a catalog have in common."""
    return {
        "variable": cube.variable,
        "unit": cube.unit,
        "step": cube.spec.step,
        "calendar": cube.calendar,
        "crs": cube.crs,
        "transform": list(cube.transform)[:6],
        "shape": list(cube.shape),
    }


def _earlier(out: Path, about: Mapping[str, object]) -> dict[str, Any]:
    """The collection that is there. Raises InputError for one of another cube, and for other files."""
    text = read_small(out / "collection.json", LARGEST_ITEM)
    if text is None:
        foreign = [p.name for p in out.iterdir() if p.name not in ("items", "cogs")] if out.is_dir() else []
        if foreign:
            raise InputError(
                f"out: {out} contains other files, such as {foreign[0]!r}; expected an empty folder or a cube's"
            )
        return {}
    try:
        before = json.loads(text)
        theirs = before["geoml:cube"]
        odd = sorted(key for key in about if json.loads(json.dumps(about[key])) != theirs.get(key))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InputError(f"out: {out}/collection.json is not of a cube; expected an empty folder or a cube's") from err
    if odd:
        key = odd[0]
        raise InputError(
            f"out: {out} contains a cube with a different {key}: {theirs.get(key)}; this one has {about[key]}"
        )
    return dict(before)


def _write_step(cube: Cube, step: int, stamps: Mapping[str, str], place: Mapping[str, Any], out: Path) -> None:
    name = item_id(cube, step)
    path = within(out, f"items/{name}.json")
    old = _asset(path, cube.variable)
    if old and _is_there(out, old) and old["geoml:pixels"] == _hashed(cube, _strips(cube, step), None):
        return
    temporary = within(out, f"cogs/.{name}.new.tif")
    about = (f"{cube.variable} ({cube.unit})",)
    nan, kind = float("nan"), "float32"
    try:
        with CogWriter(
            temporary, cube.geobox, kind, nodata=nan, overview="average", predictor=True, descriptions=about
        ) as writer:
            pixels = _hashed(cube, _strips(cube, step), writer)
            info = writer.close()
        final = within(out, f"cogs/{name}-{info.sha256[:12]}.tif")
        temporary.replace(final)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    write_json(path, _item(cube, name, stamps, place, _cog(cube, final, info, pixels)))
    if old and (former := _file(out, old)) is not None and former != final:
        former.unlink(missing_ok=True)


def _strips(cube: Cube, step: int) -> Iterator[NDArray[np.float32]]:
    for row in range(0, cube.shape[0], STRIP):
        yield cube.read(step, slice(row, min(row + STRIP, cube.shape[0])))


def _hashed(cube: Cube, strips: Iterable[NDArray[np.float32]], writer: CogWriter | None) -> str:
    """SHA-256 of the grid and the values, which go to the writer too."""
    digest = hashlib.sha256(json.dumps(_about(cube), sort_keys=True).encode())
    for rows in strips:
        digest.update(np.ascontiguousarray(rows + np.float32(0)).data)  # -0 is 0; all NaN here are the same
        if writer is not None:
            writer.write(rows)
    return digest.hexdigest()


def _asset(path: Path, key: str) -> dict[str, Any]:
    """The asset of an item that was written before; empty if there is none that is whole."""
    try:
        asset = json.loads(read_small(path, LARGEST_ITEM) or b"{}")["assets"][key]
        return dict(asset) if {"href", "file:size", "geoml:pixels"} <= asset.keys() else {}
    except (DataError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _file(out: Path, asset: Mapping[str, Any]) -> Path | None:
    """The COG of an asset, if it lies where this module puts it."""
    name = str(asset["href"]).removeprefix("../cogs/")
    return out / "cogs" / name if name.endswith(".tif") and "/" not in name and "\0" not in name else None


def _is_there(out: Path, asset: Mapping[str, Any]) -> bool:
    path = _file(out, asset)
    return path is not None and path.is_file() and path.stat().st_size == asset["file:size"]


def _cog(cube: Cube, path: Path, info: CogInfo, pixels: str) -> dict[str, object]:
    band: dict[str, object] = {"name": cube.variable, "data_type": "float32", "nodata": "nan", "unit": cube.unit}
    numbers = {
        key: value
        for key, value in (
            ("minimum", info.statistics[0].minimum),
            ("maximum", info.statistics[0].maximum),
            ("mean", info.statistics[0].mean),
        )
        if value is not None and np.isfinite(value)
    }
    return {
        "href": f"../cogs/{path.name}",
        "type": COG,
        "title": f"{cube.variable}, {cube.unit}",
        "roles": ["data"],
        "bands": [{**band, **({"statistics": numbers} if numbers else {})}],
        "file:size": info.size,
        "file:checksum": multihash(info.sha256),
        "geoml:pixels": pixels,
    }


def _place(box: GeoBox) -> dict[str, Any]:
    """Geometry, bbox and fields of the projection extension, the same for every item."""
    outline = outline_of(box)
    degrees = bool(box.crs is not None and box.crs.geographic)
    crs = projection(str(box.crs))
    wkt = {"proj:wkt2": pyproj.CRS.from_user_input(str(box.crs)).to_wkt()} if crs["proj:code"] is None else {}
    fields = {
        "gsd": abs(box.affine.e) * (DEGREE if degrees else 1.0),
        **crs,
        **wkt,
        "proj:shape": [int(n) for n in box.shape],
        "proj:transform": list(box.affine)[:6],
        "proj:bbox": list(box.boundingbox.bbox),
    }
    return {"geometry": mapping(outline), "bbox": bbox_of(outline), "properties": fields}


def outline_of(box: GeoBox) -> BaseGeometry:
    """The grid in degrees, cut at the antimeridian and the poles."""
    left, bottom, right, top = box.boundingbox.bbox
    if box.crs is not None and box.crs.geographic:
        bottom, top = max(bottom, -90.0), min(top, 90.0)
        if right - left >= FULL_TURN - box.affine.a / 2:
            return shapely.box(-FULL_TURN / 2, bottom, FULL_TURN / 2, top)
    edge = shapely.segmentize(shapely.box(left, bottom, right, top), max(right - left, top - bottom) / 16)
    to = pyproj.Transformer.from_crs(str(box.crs), "EPSG:4326", always_xy=True)
    parts = in_degrees(edge, to)
    return shapely.orient_polygons(parts.geoms[0] if len(parts.geoms) == 1 else parts)


def _item(
    cube: Cube, name: str, stamps: Mapping[str, str], place: Mapping[str, Any], asset: Mapping[str, object]
) -> dict[str, object]:
    properties = {**stamps, **place["properties"], "geoml:calendar": cube.calendar}
    known, schemas = cube.reference_time, extensions(properties, asset)
    if known is not None:
        ahead = int((np.datetime64(stamps["datetime"].removesuffix("Z"), "s") - known).astype(np.int64))
        lead = {"forecast:horizon": str(StepDuration(seconds=ahead))} if ahead > 0 else {}
        properties |= {"forecast:reference_datetime": f"{known}Z", "forecast:variable": cube.variable, **lead}
        schemas.append(FORECAST)
    above = {"href": "../collection.json", "type": "application/json"}
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": schemas,
        "id": name,
        "collection": cube.variable,
        "geometry": place["geometry"],
        "bbox": place["bbox"],
        "properties": properties,
        "links": [{"rel": rel, **above} for rel in ("parent", "collection")]
        + [{"rel": "root", "href": "../catalog.json", "type": "application/json"}],
        "assets": {cube.variable: dict(asset)},
    }


def _collection(
    cube: Cube,
    about: Mapping[str, object],
    names: Iterable[str],
    stamps: Iterable[Mapping[str, str]],
    before: Mapping[str, Any],
    place: Mapping[str, Any],
) -> dict[str, object]:
    ends = [text for part in stamps for text in part.values()]
    try:
        ends += before["extent"]["temporal"]["interval"][0] if before else []
    except (KeyError, TypeError, IndexError):
        raise InputError("out: its collection.json has no extent; expected one of a cube") from None
    west, south, east, north = place["bbox"]
    box = [west, south, east, north] if west <= east else [-180.0, south, 180.0, north]
    links = [{"rel": "item", "href": f"./items/{name}.json", "type": "application/geo+json"} for name in names]
    above = {"href": "./catalog.json", "type": "application/json"}
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": cube.variable,
        "title": cube.spec.title or cube.variable,
        "description": f"{cube.variable} in {cube.unit}, one item for each step of {cube.spec.step}",
        "license": cube.spec.licence,
        "extent": {
            "spatial": {"bbox": [box]},
            "temporal": {"interval": [[min(ends), max(ends)] if ends else [None, None]]},
        },
        "geoml:cube": dict(about),
        "links": [{"rel": "root", **above}, {"rel": "parent", **above}, *links],
    }
