"""Heights from one vertical datum to another by PROJ's grids, and never by a guess.

Without a grid PROJ leaves heights as they are and calls that "ballpark"; its ``only_best`` does not change that. Raster
libraries pass it on, or give the pixels another label. Here an operation is chosen once, by name, from those that are
not ballpark and whose grids are all there; where there is none, the missing grid is named.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.aoi import AreaOfInterest
from pyproj.crs import CompoundCRS
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

from geoml.errors import DataError, InputError
from geoml.io.crs import crs_name
from geoml.io.lengths import in_metres, unit_of
from geoml.settings import settings

Floats = NDArray[np.float64]

NAMES = {"egm96": "EPSG:5773", "egm2008": "EPSG:3855", "navd88": "EPSG:5703"}
"""Vertical CRSs by their common names, in small letters."""

ELLIPSOID = "ellipsoid"
"""Heights above the ellipsoid of the horizontal CRS."""

_GRID = re.compile(r"\+grids=(\S+)")


@dataclass(frozen=True)
class HeightShift:
    """How heights at places of one horizontal CRS change; plain values, chosen once for a run."""

    pipeline: str
    """A PROJ pipeline that takes and gives x, y of the CRS, and z."""
    description: str
    accuracy: float | None
    """Metres, as PROJ has it; None if it does not know."""
    grids: tuple[str, ...]
    """The files it reads."""

    def apply(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """(n,) heights in metres above the other datum. Raises DataError if a grid does not cover the points."""
        if not self.pipeline:
            return z
        above = _transformer(self.pipeline).transform(x, y, z)[2]
        if (lost := ~np.isfinite(above) & np.isfinite(z)).any():
            at = int(np.flatnonzero(lost)[0])
            where = f"{lost.sum()} of {len(z)} points, such as x {x[at]:.1f}, y {y[at]:.1f}"
            raise DataError(f"heights: {', '.join(self.grids)} does not cover {where}")
        return np.asarray(above, np.float64)


NO_SHIFT = HeightShift("", "the same datum", 0.0, ())


def height_shift(crs: str, have: str, want: str, bounds: tuple[float, float, float, float]) -> HeightShift:
    """The way from heights above ``have`` to ones above ``want``, for ``bounds`` (left, bottom, right, top) of ``crs``.

    Both are a vertical CRS (a code, WKT, or one of `NAMES`), a geographic 3D CRS or ``ellipsoid``; of one in feet the
    datum counts, since heights are in metres. Raises InputError for anything else, for depths, and naming the grid that
    is missing where only a guess is left.
    """
    flat = _eastward(pyproj.CRS.from_user_input(crs))
    one, other = _upright(flat, have), _upright(flat, want)
    if one == other:
        return NO_SHIFT
    with warnings.catch_warnings():  # it warns of grids that are missing, which is looked at here
        warnings.simplefilter("ignore", UserWarning)
        group = TransformerGroup(one, other, always_xy=True, allow_ballpark=False, area_of_interest=_area(flat, bounds))  # type: ignore[arg-type]  # its stub has another class of that name
    ways, missing = [], set()
    for number, made in enumerate(group.transformers):
        if "ballpark" not in made.description.lower():
            ways.append((_rank(made.accuracy), number, HeightShift(made.definition, made.description, *_known(made))))
    for number, named in enumerate(group.unavailable_operations):
        if "ballpark" in named.name.lower():
            continue
        pipeline, lost = _with_files(named.to_proj4() or "")
        missing.update(lost)
        if pipeline and not lost:
            shift = HeightShift(pipeline, named.name, *_known(named, pipeline))
            ways.append((_rank(named.accuracy), len(group.transformers) + number, shift))
    if not ways:
        grids = f"the grid {' or '.join(sorted(missing))} is missing" if missing else "PROJ knows no way"
        raise InputError(
            f"heights: from {_name(one)} to {_name(other)} {grids}; a folder of grids is named by GEOML_GRIDS (EGM96:"
            " Debian's proj-data, or egm96_15.gtx); without it heights would keep their old numbers under a new name"
        )
    return min(ways, key=lambda way: way[:2])[2]


def vertical_name(crs: str, text: str) -> str:
    """The code of a datum that `height_shift` takes, in metres, for outputs. Raises InputError for anything else."""
    found = _upright(_eastward(pyproj.CRS.from_user_input(crs)), text)
    base = found.sub_crs_list[-1] if found.is_compound else found.geodetic_crs
    part = base if base is None or base.is_vertical else base.to_3d()
    return crs_name(part) if part is not None else found.to_wkt()


def metres_of(text: str) -> float:
    """Metres of the unit of a datum that `height_shift` takes. Raises InputError for anything else."""
    crs = _parsed(text)
    parts = [] if crs is None else [c for c in crs.sub_crs_list or [crs] if c.is_vertical]
    return float(unit_of(parts[0])) if parts else 1.0


def _parsed(text: str) -> pyproj.CRS | None:
    """The CRS of a datum; None: the ellipsoid of the places."""
    try:
        return None if text.lower() == ELLIPSOID else pyproj.CRS.from_user_input(NAMES.get(text.lower(), text))
    except (ProjError, ValueError, TypeError):
        raise InputError(
            f"datum: {text[:80]!r} is none; expected {ELLIPSOID}, {', '.join(NAMES)} or a CRS such as EPSG:5773"
        ) from None


def _upright(flat: pyproj.CRS, text: str) -> pyproj.CRS:
    """``flat`` with heights in metres, also where ``text`` is a CRS in feet: PROJ would turn its numbers into feet."""
    crs = _parsed(text)
    if crs is None:
        return flat.to_3d()
    if crs.is_geographic and not crs.is_compound and len(crs.axis_info) == 3:
        one, other = crs.ellipsoid, flat.ellipsoid
        if one is None or other is None or abs(one.semi_minor_metre - other.semi_minor_metre) > 1:  # GRS 80 is WGS 84
            raise InputError(
                f"datum: {crs.name} has heights above {one and one.name}, places of {flat.name} lie on"
                f" {other and other.name}; expected another --crs, or heights above the ellipsoid of this one"
            )
        return flat.to_3d()
    part = next((c for c in crs.sub_crs_list if c.is_vertical), None) if crs.is_compound else crs
    if part is None or not part.is_vertical:
        raise InputError(
            f"datum: {text[:80]!r} has no heights; expected {ELLIPSOID} or a vertical CRS such as EPSG:5773"
        )
    if (way := part.axis_info[0].direction.lower()) != "up":
        raise InputError(f"datum: {part.name} counts {way}; expected heights, which count up, such as EPSG:5773")
    part = in_metres(part)
    return CompoundCRS(f"{flat.name} + {part.name}", [flat, part])


def _eastward(crs: pyproj.CRS) -> pyproj.CRS:
    """The CRS with x first: pipelines of operations keep the order of axes that their CRS states."""
    if not crs.axis_info or crs.axis_info[0].direction.lower() != "north":
        return crs
    said = crs.to_json_dict()
    said["coordinate_system"]["axis"] = said["coordinate_system"]["axis"][::-1]
    for key in ("id", "ids"):
        said.pop(key, None)
    return pyproj.CRS.from_json_dict(said)


def _area(flat: pyproj.CRS, bounds: tuple[float, float, float, float]) -> AreaOfInterest:
    to = pyproj.Transformer.from_crs(flat, "EPSG:4326", always_xy=True)
    degrees = to.transform_bounds(*bounds)
    if not np.isfinite(degrees).all():
        raise InputError(f"heights: by {flat.name} their places are nowhere on the Earth; expected the CRS they are of")
    return AreaOfInterest(*degrees)


def _with_files(pipeline: str) -> tuple[str, set[str]]:
    """A pipeline with the files of its grids, and the names of those that are not there."""
    lost: set[str] = set()

    def file(match: re.Match[str]) -> str:
        found = _files(match[1])
        if not found:
            lost.add(match[1])
        return f"+grids={','.join(found)}"

    return _GRID.sub(file, pipeline), lost


def _files(grid: str) -> list[str]:
    """Files of a grid, by PROJ's name of it or the older one that it is known by, a part of it among them.

    ``us_nga_egm96_15.tif`` is also ``egm96_15.gtx``, and ``egm96_15_europe.gtx`` is a part of it.
    """
    stem = Path(grid).stem.lower()
    names = {stem, stem.split("_", 2)[-1]}
    folders = [Path(d) for d in pyproj.datadir.get_data_dir().split(":")]
    folders += [folder] if (folder := settings().grids) else []
    files = [p for f in folders if f.is_dir() for p in f.iterdir() if p.suffix.lower() in (".tif", ".gtx", ".gsb")]
    whole = [p for p in files if p.stem.lower() in names]
    parts = [p for p in files if any(p.stem.lower().startswith(f"{n}_") for n in names)]
    return [str(p) for p in (*sorted(whole), *sorted(parts)) if not re.search(r"[\s,+]", str(p))]


def _known(operation: object, pipeline: str | None = None) -> tuple[float | None, tuple[str, ...]]:
    accuracy = getattr(operation, "accuracy", None)
    text = pipeline if pipeline is not None else str(getattr(operation, "definition", ""))
    grids = {Path(g).name for found in re.findall(r"grids=(\S+)", text) for g in found.split(",")}
    return (float(accuracy) if accuracy is not None and accuracy >= 0 else None), tuple(sorted(grids))


def _rank(accuracy: float | None) -> float:
    return accuracy if accuracy is not None and accuracy >= 0 else 1e9


def _name(crs: pyproj.CRS) -> str:
    return str(crs.sub_crs_list[-1].name) if crs.is_compound else f"the ellipsoid of {crs.name}"


@lru_cache(maxsize=64)
def _transformer(pipeline: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_pipeline(pipeline)


def check_finite(z: Iterable[float] | Floats, what: str) -> None:
    """Raises DataError for heights that are not numbers: a LAS file would hold them as the least integer."""
    heights = np.asarray(z, np.float64)
    if bad := int((~np.isfinite(heights)).sum()):
        raise DataError(f"{what}: {bad} of {heights.size} heights are not finite; a LAS file cannot hold them")
