"""Settings of the machine, which change no result: every field is a ``GEOML_…`` environment variable."""

from __future__ import annotations

import difflib
import logging
import multiprocessing
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from geoml.errors import InputError

log = logging.getLogger(__name__)

PREFIX = "GEOML_"
OTHERS = (
    *("GEOML_NO_SKIPS", "GEOML_HEALTH", "GEOML_IMAGE", "GEOML_DOCKER_BASE", "GEOML_DOCKER_DIR"),
    "GEOML_COMMAND",  # of QGIS, where it names the command
)
"""Variables of the tests and of the stack: no settings, and not misspelt."""

WORKERS = re.compile(r"(?P<here>here)|(?P<kind>processes|cluster):(?P<count>[1-9]\d{0,3})|(?P<tcp>(tcp|tls)://\S+:\d+)")
"""Where blocks may run."""
PUBLIC = re.compile(r"(/|[a-z0-9]+://)[^=\s]*=https?://[^\s=?#@]+")
"""A folder or bucket, and where it is served."""


def shipped() -> Path:
    """The folder of catalogs that comes with geoml: of the checkout, or the copy inside an installed wheel."""
    inside = Path(__file__).parent / "_catalogs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "catalogs"


class Settings(BaseSettings):
    """The machine. None of these changes a pixel of the output."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    catalogs: Path | None = Field(
        default=None,
        description="folder with your own catalogs (YAMLs, or what `geoml catalogs new` writes below it), models/,"
        " recipes/ and cubes/, beside the shipped ones",
    )
    data: Path | None = Field(default=None, description="root of training data, for ${GEOML_DATA} in recipes")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps")
    precision: Literal["auto", "fp32", "bf16", "int8"] = Field(
        default="auto",
        description="fp32, bf16 or auto: bf16 if the device runs it well; int8: for a package made by `geoml"
        " models quantize`, with openvino or onnx",
    )
    backend: str = Field(
        default="torch",
        description="back end for networks: torch; openvino, onnx or tensorrt (extras of those names); aotinductor; or"
        " auto: the fastest that passes its proof; docs/backends.md",
    )
    devices: int = Field(
        default=1, ge=1, le=64, description="processes that share each training batch: GPUs, or parts of the CPU"
    )
    workers: str = Field(
        default="here",
        description="where blocks run: here; processes:N on this machine; cluster:N, a Dask cluster of processes"
        " that geoml starts and stops; tcp://host:port or tls://host:port, the workers of a Dask"
        " scheduler",
    )
    threads: int = Field(
        default_factory=lambda: min(os.cpu_count() or 1, 1024),
        ge=1,
        le=1024,
        description="threads that read, by default one per core; processes:N and cluster:N share them, each Dask"
        " worker has its own",
    )
    chip_batch: int = Field(default=0, ge=0, le=4096, description="chips per forward pass; 0: 8 on CUDA, else 1")
    prefetch: int = Field(default=1, ge=1, le=256, description="blocks read ahead of the model")
    compile: bool = Field(default=False, description="compile the model with torch.compile")
    cache_bytes: int = Field(default=128 * 2**20, ge=0, le=2**40, description="size of GDAL's block cache in bytes")
    schemes: tuple[str, ...] = Field(
        default=("https", "http", "s3", "gs", "az"), description="URL schemes allowed in hrefs of remote catalogs"
    )
    private_hosts: bool = Field(default=False, description="allow hrefs to loopback, private and link-local hosts")
    timeout: float = Field(
        default=60.0,
        gt=0,
        le=86400,
        description="seconds to wait for a response to begin, and the window of GEOML_SLOWEST; a read may take"
        " four times as long",
    )
    slowest: int = Field(
        default=2**14,
        ge=0,
        le=2**40,
        description="bytes per second that must arrive over GEOML_TIMEOUT seconds; a slower response counts as stalled",
    )
    retries: int = Field(default=5, ge=0, le=100, description="retries after a transient failure")
    max_table_bytes: int = Field(
        default=128 * 2**20,
        ge=1,
        le=2**40,
        description="sources whose tile table is larger (16 bytes per tile) are refused; a declared size costs nothing",
    )
    verify: bool = Field(default=True, description="check local sources against their file:checksum, once per process")
    scratch: Path | None = Field(
        default=None,
        description="folder for working copies of runs in buckets and for files fetched from URLs; by default in"
        " /tmp; refused unless it belongs to you alone and is not a link",
    )
    grids: Path | None = Field(
        default=None,
        description="folder with PROJ grids, such as /usr/share/proj with Debian's proj-data: geoids, without"
        " which heights cannot change their datum",
    )
    public_url: str | None = Field(
        default=None,
        description="public address of outputs, as FOLDER=URL, such as /data/runs=https://maps.example.org/runs:"
        " flows link reports below FOLDER (or s3://bucket/prefix) by it",
    )
    lease: float = Field(
        default=60.0,
        ge=0.01,
        le=86400,
        description="seconds; a run's lock that has not been renewed for this long is taken over",
    )

    @field_validator("workers")
    @classmethod
    def _workers(cls, value: str) -> str:
        if not WORKERS.fullmatch(value):
            raise ValueError("expected here, processes:N, cluster:N or tcp|tls://host:port")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str | None) -> str | None:
        if value is not None and not PUBLIC.fullmatch(value):
            raise ValueError("expected FOLDER=URL with an absolute folder or a bucket, and an https or http URL")
        return value

    @field_validator("catalogs")
    @classmethod
    def _catalogs(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError("no such folder")
        return value


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    An unknown ``GEOML_…`` variable is logged as a warning, with the nearest name. Raises InputError, which names every
    variable with a value of the wrong type, and what is expected.
    """
    if multiprocessing.parent_process() is None:  # a worker inherits what its parent has warned of
        for name in misspelt(os.environ):
            _warn(name)
    try:
        return Settings()
    except ValidationError as err:
        raise InputError(
            "; ".join(_wrong(e["loc"], e["msg"].removeprefix("Value error, "), e["input"]) for e in err.errors())
        ) from None  # its own text has values, such as an address with a password
    except SettingsError as err:  # a list that is not JSON
        name = next((n for n in Settings.model_fields if f'"{n}"' in str(err)), "")
        raise InputError(_wrong((name,), "expected a JSON list", os.environ.get(variable(name)))) from err


def catalog_folders() -> tuple[Path, ...]:
    """Folders with catalogs, models, recipes and cubes, the user's own before the shipped one."""
    own = settings().catalogs
    return (shipped(),) if own is None or own.resolve() == shipped().resolve() else (own, shipped())


def catalog_files(pattern: str) -> dict[str, Path]:
    """Files of the catalog folders that fit a shell pattern, by their path below the folder, sorted; where both folders
    have one, the user's own."""
    found = {p.relative_to(top).as_posix(): p for top in reversed(catalog_folders()) for p in top.glob(pattern)}
    return dict(sorted(found.items()))


def named_catalogs() -> dict[str, Path]:
    """Catalogs by name, sorted: ``NAME.yaml`` in a catalog folder, or its subfolder NAME with a catalog.yaml, else a
    catalog.json, as ``geoml catalogs new`` writes them; where both folders have a name, the user's own."""
    found: dict[str, Path] = {}
    for top in reversed(catalog_folders()):
        for pattern in ("*/catalog.json", "*/catalog.yaml", "*.yaml"):  # the last wins
            found |= {p.parent.name if "/" in pattern else p.stem: p for p in top.glob(pattern)}
    return dict(sorted(found.items()))


def catalog_file(name: str) -> Path:
    """The file or folder ``name`` below a catalog folder: the user's own, else the shipped one, there or not.

    A warning says when a name of the user's own hides a shipped one.
    """
    own, *others = (top / name for top in catalog_folders())
    if not others or not own.exists():
        return others[0] if others else own
    warn_if_hiding(own, name)
    return own


@lru_cache
def warn_if_hiding(own: Path, name: str) -> None:
    """Say once in the log when a file of the user's is used instead of the shipped ``name``."""
    if own.is_relative_to(shipped()) or not (shipped() / name).exists():
        return
    log.warning("%s is used instead of the one of that name that comes with geoml; see GEOML_CATALOGS", own)


def override(**values: str) -> None:
    """Set settings by name, for this process and those that it starts."""
    os.environ.update({variable(name): value for name, value in values.items()})
    settings.cache_clear()


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{field.upper()}"


def misspelt(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that look like settings but are not."""
    known = {*map(variable, Settings.model_fields), *OTHERS}
    return sorted(n for n in names if n.upper().startswith(PREFIX) and n.upper() not in known)


@lru_cache
def _warn(name: str) -> None:
    near = difflib.get_close_matches(name.upper(), map(variable, Settings.model_fields), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "the settings are listed in docs/all-of-geoml.md"
    log.warning("%s: is not a setting of geoml and has no effect; %s", name, hint)


def _wrong(where: tuple[int | str, ...], what: str, value: object) -> str:
    field = str(where[0]) if where else ""
    about = Settings.model_fields[field].description if field in Settings.model_fields else ""
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:79]}…"
    return f"{variable(field)}: {shown}: {what}" + (f" ({about})" if about else "")
