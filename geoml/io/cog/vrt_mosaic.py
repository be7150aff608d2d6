"""Rasters in parts that touch (the shards of one export) as one: a VRT, written and read here.

GDAL opens any file with any driver that a VRT names, so none from outside reaches it: `parsed` takes the few elements
of a plain mosaic, the hrefs of its parts are checked as those of an item are, and GDAL is given `VrtMosaic.text`, in
which the parts have names that only `MosaicFile` knows. Format: https://gdal.org/drivers/raster/vrt.html.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from affine import Affine
from rasterio.abc import MultiByteRangeResourceContainer

from geoml.errors import DataError, GeomlError
from geoml.io.cog.directories import first_layout, has_mask
from geoml.io.cog.limits import check_size
from geoml.io.stores.ranges import Container, RemoteFile, check_head

SUFFIX = ".vrt"
MEDIA_TYPE = "application/x-gdal-vrt"
MOST = 16 * 2**20
"""Bytes of a VRT; some 500 for each band of each part."""

TYPES = {
    "Byte": "uint8", "Int8": "int8", "UInt16": "uint16", "Int16": "int16", "UInt32": "uint32", "Int32": "int32",
    "UInt64": "uint64", "Int64": "int64", "Float32": "float32", "Float64": "float64",
}  # fmt: skip
_NAMES = {numpy: gdal for gdal, numpy in TYPES.items()}
_BUCKETS = {"/vsis3/": "s3", "/vsigs/": "gs", "/vsiaz/": "az"}
_IGNORED = {"Metadata", "BlockXSize", "BlockYSize", "Description", "ColorInterp", "NoDataValue", "Scale", "Offset"}
_numbers = count()


@dataclass(frozen=True, slots=True)
class MosaicPart:
    """A file, and where its upper left pixel lies in the mosaic."""

    href: str
    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class MosaicBand:
    """A band, the same of each part; physical = stored * scale + offset."""

    dtype: str
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True)
class VrtMosaic:
    """Parts on one grid of ``shape`` (rows, columns). Where there is none a band has its nodata value, else 0."""

    crs: str
    transform: Affine
    shape: tuple[int, int]
    bands: tuple[MosaicBand, ...]
    parts: tuple[MosaicPart, ...]

    def text(self, names: Sequence[str], *, relative: bool = True) -> str:
        """The VRT, with ``names`` for the parts, which are looked for beside it where they are ``relative``."""
        height, width = self.shape
        grid = ", ".join(repr(float(v)) for v in self.transform.to_gdal())
        lines = [f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">', f"<SRS>{escape(self.crs)}</SRS>"]
        lines.append(f"<GeoTransform>{grid}</GeoTransform>")
        for number, band in enumerate(self.bands, 1):
            lines.append(f'<VRTRasterBand dataType="{_NAMES[band.dtype]}" band="{number}">')
            lines.append(f"<Description>{escape(band.name)}</Description>" if band.name else "")
            lines.append("" if band.nodata is None else f"<NoDataValue>{band.nodata:.17g}</NoDataValue>")
            if (band.scale, band.offset) != (1.0, 0.0):
                lines.append(f"<Offset>{band.offset!r}</Offset><Scale>{band.scale!r}</Scale>")
            for name, part in zip(names, self.parts, strict=True):
                lines.append(_source(name, number, band, part, relative=relative))
            lines.append("</VRTRasterBand>")
        return "\n".join(line for line in [*lines, "</VRTDataset>"] if line) + "\n"


def _source(name: str, number: int, band: MosaicBand, part: MosaicPart, *, relative: bool) -> str:
    size = f'xSize="{part.width}" ySize="{part.height}"'
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="{int(relative)}" shared="0">{escape(name)}</SourceFilename>'
        f"<SourceBand>{number}</SourceBand>"
        # what is said here need not be asked of the file before a pixel of it is wanted
        f'<SourceProperties RasterXSize="{part.width}" RasterYSize="{part.height}" '
        f'DataType={quoteattr(_NAMES[band.dtype])} BlockXSize="256" BlockYSize="256"/>'
        f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{part.x}" yOff="{part.y}" {size}/></SimpleSource>'
    )


@lru_cache(maxsize=64)
def parsed(text: bytes) -> VrtMosaic:
    """The mosaic that a VRT describes; hrefs of the parts as they stand in it, relative ones marked by ``./``.

    Raises DataError for what is no plain mosaic: whole files of one layout of bands at their own resolution.
    """
    many = len(text) > MOST or text.count(b"<") > MOST // 32  # an element takes a hundred times what it is written in
    if many or b"\0" in text or b"<!" in text.replace(b"<!--", b""):  # so there are no entities
        raise DataError(f"a VRT of {len(text)} bytes, or with declarations; expected at most {MOST} bytes of plain XML")
    try:
        return _mosaic(ElementTree.fromstring(text))
    except (ElementTree.ParseError, ValueError, KeyError, TypeError, OverflowError) as err:
        raise DataError(f"a VRT that is no mosaic of whole files on one grid ({err})") from err


def _mosaic(root: ElementTree.Element) -> VrtMosaic:
    """Raises ValueError, KeyError or TypeError for what `parsed` does not take."""
    if root.tag != "VRTDataset" or root.get("subClass"):
        raise ValueError(f"{root.tag} {root.get('subClass') or ''}")
    if odd := {e.tag for e in root} - {"SRS", "GeoTransform", "Metadata", "VRTRasterBand"}:
        raise ValueError(f"with {', '.join(sorted(odd))}")
    shape = int(root.attrib["rasterYSize"]), int(root.attrib["rasterXSize"])
    grid = Affine.from_gdal(*(float(v) for v in (root.findtext("GeoTransform") or "").split(",")))
    found = [_band(number, e) for number, e in enumerate(root.findall("VRTRasterBand"), 1)]
    if not found or any(parts != found[0][1] for _, parts in found) or not found[0][1] or min(shape) < 1:
        raise ValueError("bands of different parts, or none")
    return VrtMosaic(root.findtext("SRS") or "", grid, shape, tuple(b for b, _ in found), found[0][1])


def _band(number: int, band: ElementTree.Element) -> tuple[MosaicBand, tuple[MosaicPart, ...]]:
    """Raises as `_mosaic`."""
    if band.get("subClass") or int(band.attrib["band"]) != number:
        raise ValueError("a derived band, or bands out of order")
    if (band.findtext("ColorInterp") or "").lower() == "alpha":
        raise ValueError("an alpha band; expected nodata")
    if odd := {e.tag for e in band} - _IGNORED - {"SimpleSource"}:
        raise ValueError(f"with {', '.join(sorted(odd))}")
    numbers = {k: float(v) for k in ("NoDataValue", "Scale", "Offset") if (v := band.findtext(k)) is not None}
    about = MosaicBand(
        TYPES[band.attrib["dataType"]],
        numbers.get("NoDataValue"),
        numbers.get("Scale", 1.0),
        numbers.get("Offset", 0.0),
        band.findtext("Description") or "",
    )
    return about, tuple(_part(number, source) for source in band.iter("SimpleSource"))


def _part(number: int, source: ElementTree.Element) -> MosaicPart:
    named = source.find("SourceFilename")
    if named is None or not named.text or int(source.findtext("SourceBand") or 0) != number:
        raise ValueError("a source without a name, or of another band")
    start, end = (_rectangle(source, k) for k in ("SrcRect", "DstRect"))
    if start[:2] != (0, 0) or start[2:] != end[2:] or min(end[2:]) < 1:
        raise ValueError("a part of a file, or one at another resolution")
    href = f"./{named.text}" if named.get("relativeToVRT") == "1" else named.text
    return MosaicPart(href, end[1], end[0], end[3], end[2])


def _rectangle(source: ElementTree.Element, tag: str) -> tuple[int, int, int, int]:
    values = [float(source.find(tag).attrib[k]) for k in ("xOff", "yOff", "xSize", "ySize")]  # type: ignore[union-attr]
    if not all(math.isfinite(v) and v.is_integer() for v in values):
        raise ValueError(f"{tag} between pixels")
    x, y, width, height = map(int, values)
    return x, y, width, height


def located(href: str, place: str) -> str:
    """The href of a part of the VRT at ``place`` (a path or a URL) as items have it: a URL or an absolute path."""
    if href.startswith("/vsicurl/"):
        return href.removeprefix("/vsicurl/")
    for prefix, scheme in _BUCKETS.items():
        if href.startswith(prefix):
            return f"{scheme}://{href.removeprefix(prefix)}"
    if not href.startswith("./"):
        return href
    if "://" not in place:
        return str(Path(place).parent / href)
    start, path = place.partition("?")[0].split(urlsplit(place).netloc, 1)
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(path), href))
    return f"{start}{urlsplit(place).netloc}{inside}"


def for_gdal(href: str) -> str:
    """The name by which GDAL opens a URL; a path as it is."""
    scheme = href.partition("://")[0]
    folder = next((prefix for prefix, name in _BUCKETS.items() if name == scheme), None)
    return f"{folder}{href.partition('://')[2]}" if folder else f"/vsicurl/{href}" if "://" in href else href


class LocalPart:
    """A file of this machine with what `geoml.io.stores.ranges.Container` asks of one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.failure: GeomlError | None = None

    def check(self) -> None:
        """Raises DataError for what is no TIFF: GDAL would try all of its drivers."""
        try:
            check_head(self.read(0, 64), "TIFF")
        except OSError as err:
            self.failure = DataError(f"{self._path.name}: {err.strerror}")
        except DataError as err:
            self.failure = DataError(f"{self._path.name}: {err}")
        if self.failure is not None:
            raise self.failure

    @property
    def label(self) -> str:
        """How errors name the file."""
        return self._path.name

    @property
    def size(self) -> int:
        return self._path.stat().st_size

    def read(self, start: int, count: int) -> bytes:
        """``count`` bytes from ``start``, fewer at the end of the file."""
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(count)

    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As `read` for many (start, stop)."""
        return [self.read(start, stop - start) for start, stop in ranges]


class _CheckedPart:
    """A part whose header is checked before GDAL has a byte of it: what a VRT says of its parts proves nothing."""

    def __init__(self, file: RemoteFile | LocalPart, part: MosaicPart, bands: Sequence[MosaicBand]) -> None:
        self.file, self._part, self._bands = file, part, bands
        self._fits = False

    @property
    def failure(self) -> GeomlError | None:
        """The first failure of the file."""
        return self.file.failure

    @failure.setter
    def failure(self, found: GeomlError | None) -> None:
        self.file.failure = found

    def check(self) -> None:
        """Raises DataError for a header that takes too much memory, or is not that of the mosaic."""
        self.file.check()
        if self._fits:
            return
        try:
            self._check_header()
        except DataError as err:
            self.failure = err
            raise
        self._fits = True

    def _check_header(self) -> None:
        found, name = first_layout(self.file.read), self.label
        if found is None:
            raise DataError(f"{name}: its header cannot be read")
        check_size(name, found.shape, found.tile, found.planes, found.itemsize)
        size, dtypes = (self._part.height, self._part.width), {b.dtype for b in self._bands}
        if found.shape[1:] != size or found.shape[0] < len(self._bands) or dtypes != {found.dtype}:
            count, height, width = found.shape
            raise DataError(
                f"{name}: {count} bands of {height} x {width} {found.dtype or 'values of an unknown kind'}; its VRT"
                f" says {len(self._bands)} of {size[0]} x {size[1]} {', '.join(sorted(dtypes))}"
            )
        if has_mask(self.file.read):
            raise DataError(f"{name}: has a mask, which a mosaic would not respect")

    @property
    def label(self) -> str:
        """How errors name the file."""
        return self.file.label

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, start: int, count: int) -> bytes:
        """As of the file."""
        return self.file.read(start, count)

    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """As of the file."""
        return self.file.read_all(ranges)


class _Text:
    """The VRT that GDAL reads."""

    failure: GeomlError | None = None
    label = "VRT"

    def __init__(self, content: bytes) -> None:
        self._content, self.size = content, len(content)

    def check(self) -> None:
        """It is ours."""

    def read(self, start: int, count: int) -> bytes:
        return self._content[start : start + count]

    def read_all(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return [self._content[start:stop] for start, stop in ranges]


class MosaicFile:
    """A VRT and its parts for one `rasterio.open`, as a `RemoteFile` is one file: a part is asked for when it is read.

    ``text`` reads the VRT at ``place``, ``part`` gives the file of a part by its href, which it has to check.
    """

    def __init__(self, place: str, text: Callable[[], bytes], part: Callable[[str], RemoteFile | LocalPart]) -> None:
        self.name = f"geoml-{next(_numbers)}{SUFFIX}"
        self._place, self._text, self._part = place, text, part
        self._files: dict[str, _CheckedPart] = {}
        self._failure: GeomlError | None = None

    def check(self) -> None:
        """Read the VRT and check the hrefs of its parts. Raises DataError, InputError or TransientError."""
        try:
            mosaic = parsed(self._text())
            names = [f"part-{k}.tif" for k in range(len(mosaic.parts))]
            hrefs = [located(part.href, self._place) for part in mosaic.parts]
            asked = zip(names, hrefs, mosaic.parts, strict=True)
            self._files = {name: _CheckedPart(self._part(href), part, mosaic.bands) for name, href, part in asked}
        except GeomlError as err:
            self._failure = err
            raise
        self._content = mosaic.text(names).encode()

    @property
    def failure(self) -> GeomlError | None:
        """The first failure: of the VRT, or of a part that was read."""
        return self._failure or next((f.failure for f in self._files.values() if f.failure is not None), None)

    @property
    def opener(self) -> MultiByteRangeResourceContainer:
        """What `rasterio.open` takes as ``opener``, with ``name`` as its path."""
        files: Mapping[str, _CheckedPart | _Text] = {self.name: _Text(self._content), **self._files}
        return Container(files)

    def forget(self) -> None:
        """Request everything anew."""
        for part in self._files.values():
            if isinstance(part.file, RemoteFile):
                part.file.forget()

    def read(self, start: int, count: int) -> bytes:
        """No bytes: a mosaic has no directories of a TIFF."""
        return b""
