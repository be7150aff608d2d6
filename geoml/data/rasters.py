"""Reads training rasters (GeoTIFF, PNG, JPEG, BMP, ENVI), each with the one driver that its first bytes say."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geoml.errors import DataError, InputError, NothingFound
from geoml.io import spectrum
from geoml.io.cog import validity
from geoml.io.cog.scaling import band_scaling, physical
from geoml.io.cog.spectrum import lines_of
from geoml.io.georef import placement_of

log = logging.getLogger(__name__)

DRIVERS = {
    b"II*\x00": "GTiff",
    b"MM\x00*": "GTiff",
    b"II+\x00": "GTiff",
    b"MM\x00+": "GTiff",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
}
"""First bytes -> the one driver that may open the file; names lie (tiles named .png are often JPEG or TIFF)."""


Pixels = tuple[NDArray[np.number], NDArray[np.bool_]]
"""(band, y, x) values and (y, x) True where every band is data."""


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """What a file says of itself; ``geobox`` (rows as in the file) is None if it has no place on the Earth.

    ``names`` are the descriptions of its bands, ``itemsize`` the bytes of a pixel of its widest band.
    """

    shape: tuple[int, int]
    count: int
    geobox: GeoBox | None
    names: tuple[str | None, ...] = ()
    itemsize: int = 0


def _open(path: Path) -> rasterio.DatasetReader:
    with path.open("rb") as file:
        start = file.read(4)
    driver = next((d for magic, d in DRIVERS.items() if start.startswith(magic)), None)
    if driver is None and any(path.with_suffix(end).exists() for end in (".hdr", ".HDR")):
        driver = "ENVI"
    if driver is None:
        raise DataError(f"{path}: starts with {start!r}; expected TIFF, PNG, JPEG, BMP or ENVI (with a .hdr file)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # files without georeference are welcome here
        return rasterio.open(path, driver=driver)


def header(path: Path) -> RasterHeader:
    """Shape, band count and geobox of a raster. Raises DataError for a file that cannot be opened."""
    try:
        with _open(path) as src:
            widest = max((np.dtype(d).itemsize for d in src.dtypes), default=0)
            return RasterHeader(src.shape, src.count, _geobox(src, path), src.descriptions, widest)
    except (RasterioError, ProjError, OSError) as err:
        raise DataError(f"{path}: cannot be opened ({err})") from err


def _geobox(src: rasterio.DatasetReader, path: Path) -> GeoBox | None:
    """The file's own grid, by the same rules as in prediction; what they refuse counts as no georeference."""
    if src.crs is None and not src.gcps[0] and src.rpcs is None:
        return None
    if src.crs is not None and src.transform.is_identity and not src.gcps[0] and src.rpcs is None:
        return None
    try:
        found = placement_of(src)
    except DataError as err:
        log.warning("%s: read without its georeference: %s", path.name, err)
        return None
    transform = found.geobox.affine
    if found.flipped:
        transform = transform @ Affine.translation(0, src.height) @ Affine.scale(1, -1)
    return GeoBox(src.shape, transform, src.crs or found.geobox.crs)


def read(path: Path, bands: list[int], nodata: float | None = None) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """Bands (1-based) as (band,y,x) in the file's dtype, and (y,x) valid = every band has a value that is data.

    Validity is that of prediction (`geoml.io.cog.validity`): ``nodata`` counts beside the file's own, its mask, alpha
    and NaN. Values are as stored, as labels are; 0 where a band is not valid. Raises DataError.
    """
    data, valid, _ = stored(path, bands, nodata)
    return data, valid


def image(path: Path, bands: list[int], nodata: float | None = None) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    """As `read`, but physical values, float32, where the file says a scale or an offset: what prediction sees too."""
    data, valid, scaling = stored(path, bands, nodata)
    return physical(data, scaling), valid


def lines(path: Path) -> tuple[spectrum.SensorBand, ...]:
    """The bands of a raster that say their wavelengths.

    Raises DataError for a file that cannot be read, or whose wavelengths make no sense.
    """
    try:
        with _open(path) as src:
            found = lines_of(src)
    except InputError as err:
        raise DataError(f"{path}: {err}") from err
    except (RasterioError, OSError) as err:
        raise DataError(f"{path}: cannot be opened ({err})") from err
    return found


def image_at(path: Path, names: Sequence[str], nodata: float | None = None) -> Pixels:
    """As `image`, of the bands at the wavelengths that ``names`` say; see `geoml.io.spectrum`.

    A bad band, or in a file of many one without any data, is 0 and has no say in what is valid. Raises DataError, and
    InputError for a name that gives no wavelength.
    """
    known = lines(path)
    try:
        mixes = [spectrum.match(_asked(name), known) for name in names]
    except InputError as err:
        raise DataError(f"{path}: {err}") from err
    used = sorted({i for mix in mixes for i, _ in mix})
    data, valid, scaling = _stored(path, used, nodata)
    bad = {line.index for line in known if line.bad}
    seen: NDArray[np.bool_] = np.asarray(valid.any(axis=(1, 2)))
    if len(used) >= spectrum.MANY and seen.any():
        bad |= {i for i, any_data in zip(used, seen, strict=True) if not any_data}
    kept = [None if any(i in bad for i, _ in mix) else mix for mix in mixes]
    values, ok = spectrum.mixed(physical(data, scaling), valid, used, kept)
    every: NDArray[np.bool_] = np.asarray(ok.all(axis=0))
    return values, every


def _asked(name: str) -> spectrum.Asked:
    found = spectrum.asked(name)
    if found is None:
        raise InputError(f"bands: {name!r} gives no wavelength; expected one such as 650nm")
    return found


def stored(
    path: Path, bands: list[int], nodata: float | None = None
) -> tuple[NDArray[np.number], NDArray[np.bool_], list[tuple[float, float]]]:
    """As `read`, and (scale, offset) of each band, which make physical values of what is stored. Raises DataError."""
    data, known, scaling = _stored(path, bands, nodata)
    valid: NDArray[np.bool_] = np.logical_and.reduce([*known])
    return data, valid, scaling


def _stored(
    path: Path, bands: list[int], nodata: float | None
) -> tuple[NDArray[np.number], NDArray[np.bool_], list[tuple[float, float]]]:
    """As `stored`, with the validity of each band, (band, y, x)."""
    try:
        with _open(path) as src:
            if max(bands) > src.count:
                raise DataError(f"{path}: band {max(bands)} asked of a file with {src.count}")
            no_data = validity.nodata_of(src, bands, [[] if nodata is None else [nodata]] * len(bands), str(path))
            colour = src.driver == "PNG"  # its transparent colour is one colour, not one value of each band
            if colour:
                no_data = replace(no_data, tags=(None,) * len(bands), masked=False)
            with validity.with_side_mask(src, no_data) as here:
                data, known = validity.pixels(src, bands, None, here)
            if colour:
                known &= src.dataset_mask() > 0
            return data, known, [band_scaling(src, k, str(path)) for k in bands]
    except (RasterioError, OSError) as err:
        raise DataError(f"{path}: bands {bands} cannot be read ({err})") from err


def find(root: Path, pattern: str) -> dict[str, Path]:
    """id -> file for every file under ``root`` that fits ``pattern`` with one ``{id}``, sorted by id.

    With a ``{folder}`` too, an id is ``folder/id``. Raises InputError for a pattern without ``{id}`` and NothingFound
    when no file fits.
    """
    if pattern.count("{id}") != 1 or pattern.count("{folder}") > 1:
        raise InputError(f"{pattern!r}: expected one {{id}}, and at most one {{folder}}, in the path")
    regex, star = re.escape(pattern), pattern
    for name in ("id", "folder"):
        regex = regex.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>[^/]+)")
        star = star.replace(f"{{{name}}}", "*")
    found = {}
    for path in root.glob(star):
        if match := re.fullmatch(regex, path.relative_to(root).as_posix()):
            found["/".join(v for v in (match.groupdict().get("folder"), match["id"]) if v is not None)] = path
    if not found:
        raise NothingFound(f"{root / pattern}: no such file" + ("" if root.is_dir() else "; the folder does not exist"))
    return dict(sorted(found.items()))


def beside(root: Path, pattern: str, name: str) -> Path:
    """The file of another ``pattern`` for the id that `find` gave an image."""
    folder, _, bare = name.rpartition("/")
    return root / pattern.replace("{folder}", folder).replace("{id}", bare)


def find_with(root: Path, images: str, others: str, *, required: bool, what: str) -> Iterator[tuple[str, Path, Path]]:
    """As `find`, and beside each image the file of its ``what``, which may be missing unless ``required``.

    Raises DataError, naming the field that allows it, for a missing one that is, and NothingFound as `find` does.
    """
    for name, image in find(root, images).items():
        other = beside(root, others, name)
        if required and not other.exists():
            raise DataError(f"{other}: missing; set source.no_file to 'empty' if that means no {what}")
        yield name, image, other


def positions(wanted: tuple[str, ...], file_bands: tuple[str, ...]) -> list[int]:
    """1-based positions of the wanted names. Raises InputError for an unknown one."""
    absent = [b for b in wanted if b not in file_bands]
    if absent:
        raise InputError(f"bands: {absent} are not among the file's {list(file_bands)}")
    return [file_bands.index(b) + 1 for b in wanted]
