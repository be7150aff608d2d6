"""Catalogs, and what their YAML files say of collections. The format is described in ``catalogs/earth-search.yaml``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from geoml.errors import InputError, unknown
from geoml.io.stores.bucket import bucket_of, is_bucket
from geoml.io.stores.hrefs import check_url, redact
from geoml.io.stores.remote import fetch, is_url
from geoml.io.stores.store import stamp
from geoml.io.unit_names import Unit
from geoml.recipe import Frozen, Phase, load_yaml, parse
from geoml.settings import catalog_folders, named_catalogs, warn_if_hiding

Kind = Literal["api", "static", "parquet"]

MAX_FILE = 4 * 2**30
"""Bytes of a stac-geoparquet file that is fetched."""

_BUCKET = re.compile(r"(?i:s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*/?")

ORIGIN_KEY = b"geoml:catalog"
"""Metadata of a stac-geoparquet file: the name of the catalog that its items came from."""


class BandMeta(Frozen):
    """One band of an asset; what is not given comes from the item."""

    name: str = Field(description="common name: red, nir, swir16, vv")
    index: int = Field(default=1, ge=1, description="band number in the file, from 1")
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    gsd: float | None = Field(default=None, gt=0, description="metres per pixel")
    dtype: str | None = None
    unit: Unit = Field(default=None, description="unit of physical values, if the item does not state it")


class MaskMeta(Frozen):
    """The quality band of a collection: pixels with a bad value, or with any bad bit set, are invalid."""

    asset: str
    index: int = Field(default=1, ge=1)
    kind: Literal["values", "bits"]
    bad: tuple[int, ...] = Field(min_length=1, description="bad values, or bit numbers from 0")
    nodata: float | None = None


class OffsetRule(Frozen):
    """The offset of an item by its processing baseline; it wins over the offset that the item's metadata declare.

    ``offset`` (in physical units) holds from the baseline ``since`` on, 0 before it. When the flag ``applied`` is
    true the producer has already taken it out of the pixels, and the offset is 0.
    """

    baseline: tuple[str, ...] = Field(min_length=1, description="names of the item property; the first found counts")
    since: float
    offset: float
    applied: tuple[str, ...] = Field(default=(), description="names of the flag")
    bands: tuple[str, ...] = Field(min_length=1, description="names of the bands it applies to")
    check: bool = Field(default=True, description="compare with the pixels of each item; see geoml.io.cog.radiometry")


class Profile(Frozen):
    """What a catalog's YAML says of one collection."""

    title: str = ""
    gsd: float | None = Field(default=None, gt=0, description="metres per pixel, if neither band nor item states it")
    anchor: Phase = Field(default=0.0, description="pixel phase, 0.0 or 0.5; see geoml.grid.plane")
    bands: dict[str, tuple[BandMeta, ...]] = Field(default_factory=dict, description="asset key -> its bands")
    mask: MaskMeta | None = None
    offset_rule: OffsetRule | None = None
    sign: str | None = Field(default=None, description="https URL that issues SAS tokens: URL/ACCOUNT/CONTAINER")

    @field_validator("bands", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: v if isinstance(v, list | tuple) else [v] for key, v in value.items()}


class CatalogFile(Frozen):
    """A file ``catalogs/NAME.yaml``."""

    title: str = ""
    url: str = Field(description="URL, or a path relative to the YAML's folder")
    kind: Kind
    default_collection: str | None = None
    files: str | None = Field(
        default=None,
        description="folder below which the files of a local catalog lie, from that of the YAML; by default the"
        " catalog's own",
    )
    signed_buckets: tuple[str, ...] = Field(
        default=(), description="s3://, gs://, az:// buckets read with the user's keys"
    )
    collections: dict[str, Profile] = Field(default_factory=dict)

    @field_validator("signed_buckets")
    @classmethod
    def _buckets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [text for text in value if not _BUCKET.fullmatch(text)]:
            raise ValueError(
                f"{redact(wrong[0])!r}; expected s3://bucket, gs://bucket or az://container, without a key"
            )
        return tuple(map(bucket_of, value))


@dataclass(frozen=True)
class Catalog:
    """Where to search.

    ``root`` is the folder that hrefs of a local catalog may point into; ``signed_buckets`` are those of the YAML, see
    `geoml.io.stac.provenance`; ``origin`` is the name of the YAML file that the profiles come from, empty without one.
    """

    name: str
    url: str
    kind: Kind
    remote: bool
    root: Path | None = None
    profiles: dict[str, Profile] = field(default_factory=dict)
    default_collection: str | None = None
    origin: str = ""
    signed_buckets: tuple[str, ...] = ()

    def profile(self, collection: str | None) -> Profile:
        """What the YAML says of ``collection``; an empty Profile when it is silent."""
        return self.profiles.get(collection if isinstance(collection, str) else "", Profile())


def catalog_names() -> list[str]:
    """Names of the catalogs in the folders of catalogs, sorted."""
    return list(named_catalogs())


def open_catalog(text: str) -> Catalog:
    """The catalog that ``text`` names: one of `named_catalogs`, a URL, a local file or the YAML of a catalog.

    Nothing is requested yet, but for a stac-geoparquet file elsewhere, which is fetched: it says where it comes from.

    Raises InputError for an unknown name (with the nearest one), a missing file or a file of another kind.
    """
    if path := named_catalogs().get(text):
        warn_if_hiding(path, f"{text}.yaml")
        return _from_yaml(text, path) if path.suffix == ".yaml" else replace(_from_file(path), name=text)
    if "://" in text:
        return _from_url(text)
    if Path(text).suffix == ".yaml":
        return _from_yaml(text, Path(text))
    if Path(text).exists() or "/" in text or Path(text).suffix in (".json", ".parquet", ".geojson"):
        return _from_file(Path(text))
    raise unknown("catalog", text, catalog_names())


def known_catalog(text: str) -> Catalog:
    """`open_catalog`, once in a process as long as the files that say what it is stay the same."""
    paths = [*named_catalogs().values(), *([] if "://" in text else [Path(text)])]
    return _known(text, catalog_folders(), tuple(stamp(path) for path in paths))


@lru_cache(maxsize=8)
def _known(text: str, folders: tuple[Path, ...], stamps: tuple[object, ...]) -> Catalog:
    return open_catalog(text)


def _from_yaml(name: str, path: Path) -> Catalog:
    file = parse(CatalogFile, load_yaml(path), str(path))
    remote = "://" in file.url
    url = file.url.rstrip("/") if remote else str((path.parent / file.url).resolve())
    root = None if remote else Path(url).parent if file.files is None else (path.parent / file.files).resolve()
    profiles, buckets = file.collections, file.signed_buckets
    return Catalog(name, url, file.kind, remote, root, profiles, file.default_collection, name, buckets)


def _from_url(text: str) -> Catalog:
    check_url(text, "catalog")
    url = urlsplit(text)
    if not is_url(text) or not url.netloc:
        raise InputError(f"catalog: {redact(text)!r}; expected a name, an https or s3 URL or a local file")
    if url.path.endswith((".parquet", ".geoparquet")):
        return _with_origin(Catalog(redact(text), text, "parquet", remote=True), local_copy(text))
    for catalog in map(open_catalog, catalog_names()):
        if catalog.url == text.rstrip("/"):
            return catalog
    kind: Kind = "static" if url.path.endswith((".json", ".geojson")) else "api"
    if kind == "api" and is_bucket(text):
        raise InputError(f"catalog: {redact(text)!r}; expected catalog.json, collection.json or *.parquet")
    return Catalog(redact(text), text.rstrip("/"), kind, remote=True)


def local_copy(place: str) -> Path:
    """The file of a stac-geoparquet catalog: the path itself, or a copy of what lies elsewhere."""
    return fetch(place, "catalog", MAX_FILE) if "://" in place else Path(place)


def _from_file(path: Path) -> Catalog:
    if path.is_dir():
        if (path / "catalog.yaml").is_file():  # it may name other folders, so it has to be named itself
            raise InputError(f"catalog: the folder {str(path)!r} has a catalog.yaml; expected {path / 'catalog.yaml'}")
        path = next((p for p in (path / "catalog.json", path / "collection.json") if p.is_file()), path)
    if not path.is_file():
        raise InputError(f"catalog: {str(path)!r} is not a file; expected catalog.json, collection.json or *.parquet")
    full = path.resolve()
    if full.suffix in (".json", ".geojson"):
        return Catalog(str(path), str(full), "static", remote=False, root=full.parent)
    if full.suffix not in (".parquet", ".geoparquet"):
        raise InputError(f"catalog: {str(path)!r}; expected catalog.json, collection.json or *.parquet")
    return _with_origin(Catalog(str(path), str(full), "parquet", remote=False, root=full.parent), full)


def _with_origin(catalog: Catalog, path: Path) -> Catalog:
    """``catalog`` with the profiles of the YAML file that its stac-geoparquet file ``path`` names as its origin.

    A remote file gets neither the folder nor the ``signed_buckets`` of that file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        name = (pq.read_schema(path).metadata or {}).get(ORIGIN_KEY, b"").decode("utf-8", "replace")
    except (OSError, pa.ArrowException) as err:
        raise InputError(f"catalog: {str(path)!r} is not a parquet file ({err})") from err
    if name not in catalog_names():
        return catalog
    file = open_catalog(name)
    catalog = replace(catalog, profiles=file.profiles, default_collection=file.default_collection, origin=name)
    if catalog.remote:
        return catalog
    return replace(catalog, root=file.root or catalog.root, signed_buckets=file.signed_buckets)
