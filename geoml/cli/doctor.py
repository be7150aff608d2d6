"""``geoml doctor``: what is installed, what is missing and what it would enable, and what is broken."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import typer
from rich.table import Column, Table

from geoml.cli.common import Json, command, out_console
from geoml.errors import GeomlError
from geoml.redacted import redact
from geoml.settings import PREFIX, Settings, catalog_folders, settings
from geoml.texts import counted

State = Literal["ok", "missing", "broken", "info"]

EXTRAS = {
    "clouds": "masks of clouds where a catalog has none",
    "cube": "cubes in HDF5 and Zarr, and motion for nowcasts",
    "dask": "blocks on a Dask cluster",
    "geolocate": "names of places, and matching of pictures to a map",
    "huggingface": "import of segmentation networks of Hugging Face",
    "lite0": "ImageNet weights of EfficientNet-Lite0 to start a training from",
    "notebook": ".explore() in notebooks",
    "onnx": "the back end onnx",
    "openvino": "the back end openvino: faster networks on Intel and AMD processors",
    "points": "clouds of points: LAS, LAZ and COPC",
    "prefect": "flows: schedules, forms and retries under Prefect",
    "stream": "frames of videos",
    "tensorrt": "the back end tensorrt: faster networks on NVIDIA GPUs",
    "train": "training by several processes, and logistic heads of few labels",
    "view": "geoml view: a run as tiles in the browser",
    "world": "training and trying locators of pictures from above",
}
"""What each extra of the package enables."""
ALL = "all"
"""The extra that is most of the others."""
PACKAGES = (
    "geoml",
    "torch",
    "rasterio",
    "pyogrio",
    "pyproj",
    "numpy",
    "xarray",
    "odc-geo",
    "pystac",
    "dask",
    "prefect",
)
DRIVERS = {"GTiff": "GeoTIFF", "COG": "cloud optimised GeoTIFF", "VRT": "virtual rasters"}
"""Without which nothing is read or written."""
OTHER_DRIVERS = ("JP2OpenJPEG", "netCDF", "HDF5", "Zarr", "GRIB")
LAYERS = ("GPKG", "GeoJSON", "FlatGeobuf", "ESRI Shapefile", "KML", "Parquet")
VARIABLES = re.compile(
    rf"{PREFIX}|PREFECT_|AWS_|AZURE_|GOOGLE_|GDAL_|CPL_|PROJ_|OMP_|CUDA_|(https?|all|no)_proxy$", re.I
)
"""Names of environment variables that change what geoml does."""
SHOWN = re.compile(
    r"OMP_\w+|CUDA_\w+|AWS_(DEFAULT_)?REGION|AWS_PROFILE|PREFECT_(HOME|PROFILE)|PROJ_(DATA|LIB|NETWORK)"
    r"|GDAL_(CACHEMAX|DATA|NUM_THREADS|DRIVER_PATH|DISABLE_READDIR_ON_OPEN|HTTP_(TIMEOUT|CONNECTTIMEOUT|MAX_RETRY))"
    r"|CPL_(DEBUG|TMPDIR|VSIL_CURL_(CACHE_SIZE|CHUNK_SIZE))"
)
"""Names of those whose values hold no secret, beside geoml's own settings; all others are said to be set, no more."""
PATIENCE = 3.0
"""Seconds within which a service that is configured has to answer."""
LARGEST_ANSWER = 2**20
"""Bytes of an answer that are read to see that there is one."""
ROOM = 2 * 10**9
"""Bytes below which a disk is called nearly full."""


@dataclass(frozen=True)
class Finding:
    """One line: a thing, whether it is there and works, and more about it."""

    section: str
    name: str
    state: State
    about: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "doctor")(doctor)


def doctor(
    catalogs: Annotated[bool, typer.Option("--catalogs", help="also check whether each catalog responds")] = False,
    as_json: Json = False,
) -> None:
    """Show what works here and what missing extras would enable. Fails if something required is broken.

    Only the services that are configured are asked, and with --catalogs the catalogs.

    Example:
    geoml doctor
    geoml doctor --json
    """
    checks = (versions, environment, device, extras, gdal, proj, disks, services, *([reachable] if catalogs else []))
    found = [one for check in checks for one in _guarded(check)]
    broken = [one for one in found if one.state == "broken"]
    if as_json:
        print(json.dumps({"ok": not broken, "found": [asdict(one) for one in found]}))
    else:
        table = Table("what", "state", Column("", overflow="fold"))
        for n, one in enumerate(found):
            if n == 0 or found[n - 1].section != one.section:
                table.add_section()
            table.add_row(f"{one.section}: {one.name}", "" if one.state == "info" else one.state, one.about)
        out_console.print(table)
        said = "; ".join(f"{one.name}: {one.about}" for one in broken)
        out_console.print(f"Broken: {said}" if broken else "Nothing that geoml needs is broken.", highlight=False)
    if broken:
        raise typer.Exit(1)


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; one that fails is a finding itself."""
    try:
        yield from check()
    except Exception as err:  # whatever is broken is to be told, not to end the others
        yield Finding(check.__name__, check.__name__, "broken", f"{type(err).__name__}: {err}")


def versions() -> Iterator[Finding]:
    """Python, the system and the packages that matter."""
    yield Finding("versions", "python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for name in PACKAGES:
        version = _version(name)
        yield Finding("versions", name, "ok" if version else "missing", version or "not installed")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def device() -> Iterator[Finding]:
    """What networks run on."""
    import torch

    from geoml.backends import torch as backend

    try:
        chosen = backend.choose(precision="auto").torch
    except GeomlError as err:
        yield Finding("device", settings().device, "broken", str(err))
        return
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{os.cpu_count()} cores"
    yield Finding("device", str(chosen), "ok", f"{name}, torch with {counted(torch.get_num_threads(), 'thread')}")
    yield Finding("device", "backend", "info", f"{settings().backend}, precision {settings().precision}")


def extras() -> Iterator[Finding]:
    """Each extra of the package: all of it is there, or what is missing and what it would enable."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in metadata.requires("geoml") or ()]
    for extra in sorted({*(metadata.metadata("geoml").get_all("Provides-Extra") or ())} - {ALL}):
        parts = [one for one in wanted if one.marker and one.marker.evaluate({"extra": extra})
                 and not one.marker.evaluate({"extra": ""})]  # fmt: skip
        absent = sorted({one.name for one in parts if _version(one.name) is None})
        enables = EXTRAS.get(extra, "")
        if absent:
            yield Finding("extra", extra, "missing", f"{enables}: pip install 'geoml[{extra}]' ({', '.join(absent)})")
        else:
            yield Finding("extra", extra, "ok", enables)


def gdal() -> Iterator[Finding]:
    """GDAL as rasterio and pyogrio bring it, and its drivers."""
    import pyogrio
    import rasterio
    from rasterio.env import Env

    yield Finding("GDAL", "rasters", "ok", f"GDAL {rasterio.__gdal_version__} in rasterio")
    with Env() as env:
        drivers = env.drivers()
    for name, what in DRIVERS.items():
        yield Finding("GDAL", name, "ok" if name in drivers else "broken", what)
    there = [name for name in OTHER_DRIVERS if name in drivers]
    absent = [name for name in OTHER_DRIVERS if name not in drivers]
    yield Finding("GDAL", "other formats", "info", _listed(there, absent))
    layers = pyogrio.list_drivers()
    there, absent = [n for n in LAYERS if n in layers], [n for n in LAYERS if n not in layers]
    about = f"GDAL {pyogrio.__gdal_version_string__} in pyogrio; {_listed(there, absent)}"
    yield Finding("GDAL", "layers", "ok" if "GPKG" in there else "broken", about)


def _listed(there: Sequence[str], absent: Sequence[str]) -> str:
    return ", ".join(there) + (f"; without {', '.join(absent)}" if absent else "")


def proj() -> Iterator[Finding]:
    """PROJ, its database and its grids of geoids."""
    import pyproj

    across = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True).transform(15.0, 0.0)
    good = abs(across[0] - 500_000) < 1e-3 and abs(across[1]) < 1e-3
    yield Finding("PROJ", "database", "ok" if good else "broken", f"PROJ {pyproj.proj_version_str}")
    folders = [Path(folder) for folder in pyproj.datadir.get_data_dir().split(os.pathsep)]
    count = sum(len([*folder.glob("*.tif")]) for folder in (*folders, settings().grids) if folder is not None)
    if count:
        yield Finding("PROJ", "grids", "ok", counted(count, "grid"))
    else:
        about = "heights do not change their datum; a folder with grids is named by GEOML_GRIDS"
        yield Finding("PROJ", "grids", "missing", about)


def disks() -> Iterator[Finding]:
    """Room where runs and working copies go, and the catalogs that are there."""
    from geoml.io.stac.catalog import catalog_names
    from geoml.io.stores.scratch import scratch

    for name, folder in (("this folder", Path.cwd()), ("scratch", scratch())):
        free = shutil.disk_usage(folder).free
        writable = os.access(folder, os.W_OK)
        said = f"{free / 1e9:.1f} GB free in {folder}"
        state: State = "ok" if writable else "broken" if name == "scratch" else "missing"
        hint = "" if not writable or free >= ROOM else "; nearly full"
        yield Finding("disk", name, state, f"{said}{hint}" if writable else f"{folder} cannot be written")
    known = catalog_names()
    yield Finding(
        "catalogs", "known", "ok" if known else "missing", ", ".join(known) or ", ".join(map(str, catalog_folders()))
    )


def environment() -> Iterator[Finding]:
    """Variables that change what geoml does, with values that hold no secret; looked at before libraries set theirs."""
    own = {f"{PREFIX}{field}".upper() for field in Settings.model_fields}
    for name in sorted(os.environ):
        if VARIABLES.match(name):
            plain = name in own or SHOWN.fullmatch(name)
            shown = redact(os.environ[name]) if plain else "set, not shown"
            yield Finding("environment", name, "info", shown)


def services() -> Iterator[Finding]:
    """What the environment names beside geoml: it answers, or is broken."""
    prefect = os.environ.get("PREFECT_API_URL", "")
    yield _service("Prefect API", "PREFECT_API_URL", prefect, lambda: _status(f"{prefect.rstrip('/')}/health"))
    workers = settings().workers
    scheduler = workers if "://" in workers else ""
    yield _service("Dask scheduler", "GEOML_WORKERS", scheduler, lambda: _connected(scheduler))
    name = "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    store = os.environ.get(name, "")
    yield _service("object store", name, store, lambda: _status(store))


def _service(name: str, variable: str, url: str, ask: Callable[[], str]) -> Finding:
    if not url:
        return Finding("services", name, "info", f"not configured ({variable})")
    import requests

    shown = redact(url)
    try:
        return Finding("services", name, "ok", f"{shown}: {ask()}")
    except (OSError, ValueError) as err:  # requests' errors are of the first kind; the text may repeat the URL
        why = "" if isinstance(err, requests.RequestException) else f": {err}"
        return Finding("services", name, "broken", f"{shown} does not answer ({type(err).__name__}{why})")


def _status(url: str) -> str:
    """Of a server that speaks HTTP; to be refused without a key is an answer too."""
    import requests

    with requests.get(url, timeout=PATIENCE, stream=True, allow_redirects=False) as answer:
        if answer.status_code >= 500:
            raise OSError(f"HTTP {answer.status_code}")
        return f"HTTP {answer.status_code}"


def _connected(url: str) -> str:
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), PATIENCE):
        return "takes connections"


def reachable() -> Iterator[Finding]:
    """Whether each catalog answers."""
    from geoml.io.stac.catalog import catalog_names, open_catalog
    from geoml.io.stores import web
    from geoml.io.stores.bucket import Bucket, is_bucket

    for name in catalog_names():
        try:
            url = open_catalog(name).url
            if is_bucket(url):
                folder, _, file = url.rpartition("/")
                there = Bucket(folder, "catalog").head(file) is not None
                yield Finding("catalogs", name, "ok" if there else "missing", url)
            elif "://" in url:
                status = web.fetch("GET", url, cap=LARGEST_ANSWER, guarded=False).status
                state: State = "ok" if status < 400 else "missing"
                yield Finding("catalogs", name, state, f"{url}: HTTP {status}")
            else:
                yield Finding("catalogs", name, "ok" if Path(url).is_file() else "missing", url)
        except GeomlError as err:
            yield Finding("catalogs", name, "missing", str(err))
