"""What belongs to the machine and not to the result: every field is a ``GEOML_…`` environment variable."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _shipped() -> Path:
    """``catalogs`` of the checkout, or the copy inside an installed wheel."""
    inside = Path(__file__).parent / "_catalogs"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "catalogs"


class Settings(BaseSettings):
    """The machine. None of these changes a pixel of the output."""

    model_config = SettingsConfigDict(env_prefix="GEOML_", frozen=True, extra="ignore")

    catalogs: Path = Field(
        default_factory=_shipped, description="folder with catalog YAMLs, recipes and model packages"
    )
    data: Path | None = Field(default=None, description="root of training data, $GEOML_DATA in recipes")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: str = Field(default="auto", description="auto (bf16 where the device is good at it), fp32 or bf16")
    workers: str = Field(
        default="here",
        description="where blocks run: here, processes:N, cluster:N (a Dask cluster that geoml starts) or tcp://host:port",
    )
    threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, description="threads for reading and model")
    chip_batch: int = Field(default=0, ge=0, description="chips in one forward; 0 = by device")
    prefetch: int = Field(default=1, ge=1, description="blocks read ahead of the model")
    compile: bool = Field(default=False, description="torch.compile the model (fixed chip shape)")
    cache_bytes: int = Field(default=128 * 2**20, description="GDAL block cache; bytes, as rasterio takes it")
    schemes: tuple[str, ...] = Field(default=("https", "http", "s3", "gs", "az"), description="allowed in remote hrefs")
    private_hosts: bool = Field(default=False, description="allow hrefs to loopback, private and link-local hosts")
    timeout: float = Field(default=60.0, gt=0, description="seconds for one request")
    retries: int = Field(default=5, ge=0, description="tries after a transient failure")
    max_table_bytes: int = Field(default=128 * 2**20, description="refuse sources whose table of tiles takes more")
    verify: bool = Field(default=True, description="compare local sources with their file:checksum, once in a process")
    scratch: Path | None = Field(default=None, description="working copies of what lies elsewhere; default: in /tmp")
    lease: float = Field(default=60.0, gt=0, description="seconds; a run's lock that nobody renewed is taken over")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
