"""Opening files of cubes by GDAL: local, of the one kind that the spec names, after a look at their first bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rasterio
from rasterio._err import CPLE_BaseError  # some calls of rasterio let GDAL's own error through
from rasterio.errors import RasterioError

from geoml.errors import DataError, GeomlError, InputError, TransientError, out_of_memory
from geoml.io.cog.source import MAX_BANDS, bounded
from geoml.io.cubes.classic import check_classic
from geoml.io.cubes.hdf5 import check_hdf5
from geoml.io.cubes.spec import CubeSpec
from geoml.redacted import redact
from geoml.settings import settings

HDF = b"\x89HDF\r\n\x1a\n"
CLASSIC = (b"CDF\x01", b"CDF\x02", b"CDF\x05")
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MAX_STEPS = 65_535
"""Bands of a netCDF or GRIB file."""

OPENS = {"netCDF": "netCDF", "HDF5": "HDF5Image", "GRIB": "GRIB", "GeoTIFF": "GTiff"}
"""GDAL's drivers."""


def paths_of(source: str | Path | list[str | Path], spec: CubeSpec) -> list[Path]:
    """The files of a path, of a folder (those that ``spec.files`` matches) or of a list of both, absolute and sorted.

    Raises InputError for what is not a local file, and for none at all.
    """
    found: set[Path] = set()
    for part in source if isinstance(source, list) else [source]:
        if "://" in str(part) or "\0" in str(part):
            raise InputError(
                f"cube: {redact(str(part))!r} is not a local path; expected a file or folder of this machine"
            )
        path = Path(part)
        if path.is_dir() and spec.driver not in ("Zarr", "EOPatch"):
            found |= {p.absolute() for p in path.glob(spec.files) if p.is_file() and not p.name.startswith(".")}
        elif path.exists():
            found.add(path.absolute())  # a link keeps its own name, which may say the time
        else:
            raise InputError(f"cube: {str(part)!r} does not exist; expected a file or folder")
    if not found:
        raise InputError(f"cube: no file {spec.files!r} in {source}; expected some (files in the YAML)")
    return sorted(found)


def check_kind(path: Path, spec: CubeSpec) -> None:
    """Refuse a file that is not of the spec's kind, or names other files. Raises DataError that names it."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as err:
        raise DataError(f"{path}: not readable ({err})") from err
    fits = {
        "netCDF": head.startswith((HDF, *CLASSIC)),
        "HDF5": head.startswith(HDF),
        "GRIB": b"GRIB" in head,  # a bulletin's header may come first
        "GeoTIFF": head.startswith(TIFF),
    }
    if not fits[spec.driver]:
        raise DataError(f"{path}: not {spec.driver}, it starts with {head[:16]!r}")
    if head.startswith(HDF):
        check_hdf5(path)
    elif spec.driver == "netCDF":
        check_classic(path)


def gdal_name(path: Path, spec: CubeSpec) -> str:
    """What GDAL is asked to open; built here, so that no part of it is a command."""
    text, variable = str(path), spec.variable or ""
    if '"' in text or '"' in variable or ":" in variable:
        raise InputError(f"cube: {text!r}, {variable!r}: a quotation mark or colon is in the name; expected another")
    if spec.driver == "netCDF":
        return f'NETCDF:"{text}":{variable}'
    return f'HDF5:"{text}"://{variable.lstrip("/")}' if spec.driver == "HDF5" else text


@contextmanager
def opened(path: Path, spec: CubeSpec) -> Iterator[rasterio.DatasetReader]:
    """The file, opened and checked by its header; errors inside name it."""
    with explained(path), environment(), open_file(path, spec) as dataset:
        yield dataset


def open_file(path: Path, spec: CubeSpec) -> rasterio.DatasetReader:
    """The dataset for a file of the spec; call inside `explained` and `environment`."""
    extra = {"USE_IDX": "NO"} if spec.driver == "GRIB" else {}  # an index beside it could say anything
    try:
        dataset = rasterio.open(gdal_name(path, spec), driver=OPENS[spec.driver], sharing=False, **extra)
    except (IndexError, AttributeError) as err:  # rasterio, for a variable that is not a raster
        raise DataError(f"{path}: {spec.variable or 'it'} is not a raster") from err
    most = MAX_BANDS if spec.driver in ("GeoTIFF", "HDF5") else MAX_STEPS
    if not 1 <= dataset.count <= most:
        raise DataError(f"{path}: {dataset.count} bands; expected 1 to {most}")
    if dataset.dtypes[0].startswith("complex"):
        raise DataError(f"{path}: complex numbers; expected integers or floats")
    bounded(dataset, str(path))
    return dataset


@contextmanager
def environment() -> Iterator[None]:
    """GDAL's configuration: numbers and unit tags agree, and no file beside the one that is read counts."""
    with rasterio.Env(
        GRIB_NORMALIZE_UNITS="NO",
        GDAL_PAM_ENABLED="NO",
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_CACHEMAX=settings().cache_bytes,
    ):
        yield


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of GDAL as those of the table, and ours with the name of the file."""
    try:
        yield
    except GeomlError as err:
        if str(path) in str(err):
            raise
        raise type(err)(f"{path}: {err}") from err
    except (RasterioError, CPLE_BaseError, OSError, ValueError, MemoryError) as err:
        if out_of_memory(err):
            raise TransientError(f"{path}: not enough memory ({err})") from err
        cause = err.__cause__ or err.__context__
        raise DataError(f"{path}: {err}" + (f"; {cause}" if cause else "")) from err
