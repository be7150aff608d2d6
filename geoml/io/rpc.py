"""Rational polynomials (RPC) of pictures that were never put on a grid: TIFF tags, RPB, RPC.TXT, DIMAP and OSSIM geom.

All are brought to one convention, that of RPC00B (NGA STDI-0002) and of GDAL: row 0, column 0 is the *centre* of the
first pixel of the whole sensor image, heights are metres above the ellipsoid, and polynomials have the order of RPC00B.
DIMAP counts rows and columns from 1 or, since version 3, from what it says. A crop keeps its place in the sensor image
as the offset of its transform, which has no CRS then.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geoml.errors import DataError, InputError

if TYPE_CHECKING:
    import rasterio

MOST = 2**20
"""Bytes of a file of RPC; they have some KiB."""
TERMS = 20
EDGE = 0.05
"""How far beyond its validity, in half widths of it, a picture may reach before the RPC counts as another's."""

Floats = NDArray[np.float64]

_NUMBERS = ("line_off", "samp_off", "lat_off", "long_off", "height_off")
_SCALES = ("line_scale", "samp_scale", "lat_scale", "long_scale", "height_scale")
_POLYNOMIALS = ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff")
_RPB = {
    "line_off": "lineOffset", "samp_off": "sampOffset", "lat_off": "latOffset", "long_off": "longOffset",
    "height_off": "heightOffset", "line_scale": "lineScale", "samp_scale": "sampScale", "lat_scale": "latScale",
    "long_scale": "longScale", "height_scale": "heightScale", "line_num_coeff": "lineNumCoef",
    "line_den_coeff": "lineDenCoef", "samp_num_coeff": "sampNumCoef", "samp_den_coeff": "sampDenCoef",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class RpcCoefficients:
    """Ground to image: offsets and scales as (row, column, lat, lon, height) and four polynomials (20,) float64 in the
    order of RPC00B. Degrees, metres above the ellipsoid, pixels counted from the centre of the first one.

    Raises DataError for numbers that are not finite, scales of zero and polynomials that are zero everywhere.
    """

    offsets: Floats
    scales: Floats
    line_num: Floats
    line_den: Floats
    samp_num: Floats
    samp_den: Floats

    def __post_init__(self) -> None:
        parts = self.polynomials
        if self.offsets.shape != (5,) or self.scales.shape != (5,) or any(p.shape != (TERMS,) for p in parts):
            raise DataError(f"RPC: {[p.size for p in parts]} coefficients; expected {TERMS} in each polynomial")
        if not all(np.isfinite(a).all() for a in (self.offsets, self.scales, *parts)):
            raise DataError("RPC: numbers that are not finite")
        if not (self.scales > 0).all():
            raise DataError(f"RPC: scales {self.scales.tolist()}; expected numbers above zero")
        for name, part in (("line", self.line_den), ("sample", self.samp_den)):
            if not part.any():
                raise DataError(f"RPC: the denominator of the {name} is zero everywhere")
        for name, part in (("line", self.line_num), ("sample", self.samp_num)):
            if not part.any():
                raise DataError(f"RPC: the numerator of the {name} is zero everywhere")
        lat, lon = self.offsets[2:4]
        if abs(lat) > 90 or abs(lon) > 360:
            raise DataError(f"RPC: centre {lat} N {lon} E; expected degrees")

    @property
    def polynomials(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Line numerator and denominator, sample numerator and denominator."""
        return self.line_num, self.line_den, self.samp_num, self.samp_den

    def equals(self, other: RpcCoefficients) -> bool:
        """Whether both are the same numbers."""
        mine = (self.offsets, self.scales, *self.polynomials)
        return all(map(np.array_equal, mine, (other.offsets, other.scales, *other.polynomials)))


def crop_offset(transform: Affine, has_crs: bool, shape: tuple[int, int], rpc: RpcCoefficients) -> tuple[int, int]:
    """(row, column) of the sensor image where the first pixel of a file of ``shape`` (rows, columns) lies.

    Raises DataError if the file is on a grid or resampled, or lies where its RPC is not valid.
    """
    steps = (transform.a, transform.b, transform.d, transform.e)
    if has_crs or not np.allclose(steps, (1, 0, 0, 1), atol=1e-9):
        raise DataError(
            f"the picture has a grid ({'with' if has_crs else 'without'} CRS, steps {steps}); its RPC is of the sensor"
            " image, so expected no CRS and steps of one pixel"
        )
    row, column = transform.f, transform.c
    if not (float(row).is_integer() and float(column).is_integer()):
        raise DataError(f"the picture begins at row {row}, column {column} of the sensor image; expected whole pixels")
    for k, (name, first, size) in enumerate((("rows", row, shape[0]), ("columns", column, shape[1]))):
        low, high = ((v - rpc.offsets[k]) / rpc.scales[k] for v in (first, first + size - 1))
        if low < -1 - EDGE or high > 1 + EDGE:
            start, stop = rpc.offsets[k] - rpc.scales[k], rpc.offsets[k] + rpc.scales[k]
            raise DataError(
                f"the picture has the {name} {first:.0f} to {first + size - 1:.0f} of the sensor image, its RPC is"
                f" valid for {start:.0f} to {stop:.0f}: it is of another crop"
            )
    return int(row), int(column)


def rpc_of(dataset: rasterio.DatasetReader, beside: Path | None = None) -> RpcCoefficients:
    """The RPC of the file ``beside``, else of the TIFF tags of an opened picture.

    Raises InputError if there is none, DataError if it is damaged.
    """
    if beside is not None:
        return read_rpc(beside)
    found = dataset.rpcs
    if found is None:
        raise InputError(
            "rpc: the picture has none in its TIFF tags and no .RPB, RPC.TXT, DIMAP or .geom file is named"
        )
    values: dict[str, Any] = {name: getattr(found, name) for name in (*_NUMBERS, *_SCALES, *_POLYNOMIALS)}
    return _made(values)


def beside(picture: Path) -> Path | None:
    """The file of RPC that lies beside a picture under one of the usual names; None without one."""
    stem = picture.with_suffix("")
    names = [picture.with_suffix(s) for s in (".geom", ".RPB", ".rpb")]
    names += [stem.with_name(stem.name + s) for s in ("_RPC.TXT", "_rpc.txt", "_RPC.txt", "_rpc.TXT")]
    if stem.name.startswith("IMG_"):
        whole = "RPC_" + stem.name.removeprefix("IMG_")
        names += [stem.with_name(n + ".XML") for n in (whole, re.sub(r"_R\d+C\d+$", "", whole))]
    return next((n for n in names if n.is_file()), None)


def read_rpc(path: Path) -> RpcCoefficients:
    """The RPC of an RPB, RPC.TXT, DIMAP or geom file, told by what it holds.

    Raises InputError for a file that is not there, DataError for one that is none of them or is damaged.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except OSError as err:
        raise InputError(f"rpc: {path.name} cannot be read ({err.strerror})") from err
    if len(data) > MOST or b"\0" in data:
        raise DataError(f"{path.name}: expected text of at most {MOST} bytes")
    try:
        if data.lstrip().startswith(b"<"):
            return _dimap(data)
        text = data.decode("utf-8", "replace")
        return _rpb(text) if re.search(r"\blineOffset\s*=", text) else _keyed(text)
    except DataError as err:
        raise DataError(f"{path.name}: {err}") from err


def _rpb(text: str) -> RpcCoefficients:
    """DigitalGlobe's ``key = value;`` with lists in brackets."""
    found = dict(re.findall(r"(\w+)\s*=\s*(\([^)]*\)|[^;\n]*)", text))
    _only_b(found.get("specId", "RPC00B").strip('" '))
    lists = {k: re.split(r"[\s,]+", found[_RPB[k]].strip("() \t\r\n")) for k in _POLYNOMIALS if _RPB[k] in found}
    return _made({k: lists.get(k, found.get(name)) for k, name in _RPB.items()})


def _keyed(text: str) -> RpcCoefficients:
    """``key: value unit`` of OSSIM's geom, which numbers coefficients from 00, and of RPC.TXT, which does from 1."""
    found = {k.lower(): v for k, v in re.findall(r"^\s*(\w+):[ \t]*(\S+)", text, re.MULTILINE)}
    _only_b("RPC00" + found.get("polynomial_format", "B"))
    return _made({k: found.get(k) for k in (*_NUMBERS, *_SCALES)} | _numbered(found.get))


def _numbered(get: Callable[[str], str | None]) -> dict[str, list[str | None]]:
    """Coefficients by name: ``..._00`` to ``..._19`` where that is there, else ``..._1`` to ``..._20``."""
    out = {}
    for name in _POLYNOMIALS:
        first = get(f"{name}_00") is not None
        out[name] = [get(f"{name}_{k:02}" if first else f"{name}_{k + 1}") for k in range(TERMS)]
    return out


def _dimap(data: bytes) -> RpcCoefficients:
    """Airbus DIMAP 2 (``Inverse_Model``) and 3 (``GroundtoImage_Values``): ground to image."""
    if b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise DataError("RPC: XML with declarations of its own")
    try:
        tree = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as err:
        raise DataError(f"RPC: not XML ({err})") from err
    model = next((m for tag in ("Inverse_Model", "GroundtoImage_Values") for m in tree.iter(tag)), None)
    valid = next(tree.iter("RFM_Validity"), None)
    if model is None or valid is None:
        raise DataError("RPC: no Inverse_Model or GroundtoImage_Values with RFM_Validity in it")
    values: dict[str, Any] = {k: valid.findtext(k.upper()) for k in (*_NUMBERS, *_SCALES)}
    numbered = _numbered(lambda name: model.findtext(name.upper()))
    domain = next(tree.iter("ImagetoGround_Validity_Domain"), None)  # only version 3 may count from 0
    for key, first in (("line_off", "FIRST_ROW"), ("samp_off", "FIRST_COL")):
        counted = None if domain is None else domain.findtext(first)
        values[key] = _float(key, values[key]) - (1.0 if counted is None else _float(first, counted))
    return _made(values | numbered)


def _only_b(kind: str) -> None:
    if kind.upper() != "RPC00B":
        raise DataError(f"RPC: of the kind {kind!r}, whose coefficients have another order; expected RPC00B")


def _made(values: Mapping[str, Any]) -> RpcCoefficients:
    parts = []
    for name in _POLYNOMIALS:
        raw = values.get(name)
        if raw is None or len(raw) != TERMS:
            raise DataError(f"RPC: {name} has {0 if raw is None else len(raw)} coefficients; expected {TERMS}")
        parts.append(np.array([_float(name, v) for v in raw]))
    offsets, scales = (np.array([_float(k, values.get(k)) for k in keys]) for keys in (_NUMBERS, _SCALES))
    return RpcCoefficients(offsets, scales, *parts)


def _float(name: str, value: object) -> float:
    try:
        number = float(str(value).strip('" '))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"RPC: {name} is {value!r}; expected a number")
    return number
