"""Metadata of an untrusted Zarr store, checked before the library reads it: names, shapes, chunks, codecs.

Specifications: https://zarr-specs.readthedocs.io, versions 2 and 3.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geoml.errors import DataError
from geoml.io.cog.limits import MAX_BLOCK_BYTES
from geoml.io.stores.store import read_small

MAX_STEPS = 10_000_000
"""Steps of an axis of time."""

MAX_META = 2**26
"""Bytes of a file of metadata."""

CODECS = {
    2: {"blosc", "zstd", "zlib", "gzip", "lz4", "bz2", "shuffle", "delta"},
    3: {"bytes", "transpose", "blosc", "zstd", "gzip", "crc32c", "numcodecs.shuffle", "numcodecs.zlib"},
}
"""By version of Zarr: those that make numbers of bytes and nothing else. Not pickle, nor code of a plug-in."""

TYPES = {f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)} | {"float32", "float64"}


@dataclass(frozen=True)
class ArrayMeta:
    """One array of a store."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    fill: float | None
    """What the library gives where a chunk is missing; of version 2 also what stands for missing numbers."""
    version: int
    separator: str
    """Between the numbers of a chunk's key."""
    prefix: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def key(self, chunk: tuple[int, ...]) -> str:
        """The name of the file of a chunk, inside of the folder of the array."""
        return self.prefix + self.separator.join(map(str, chunk)) if chunk else self.prefix.rstrip("/") or "0"


def check_names(root: Path) -> None:
    """Refuse a store whose metadata name what lies outside of it. Raises DataError that names file and key."""
    for name in (".zmetadata", "zarr.json"):
        about = _json(root / name)
        for key in _keys(about):
            if key.startswith(("/", "\\")) or ".." in key.replace("\\", "/").split("/") or "\0" in key:
                raise DataError(f"{root}/{name}: key {key!r} leads out of the store")


def _keys(about: Mapping[str, Any]) -> list[str]:
    whole = about.get("consolidated_metadata")
    parts = [about.get("metadata"), whole.get("metadata") if isinstance(whole, dict) else None, about.get("refs")]
    return [str(key) for part in parts if isinstance(part, dict) for key in part]


def read_meta(root: Path, name: str) -> ArrayMeta:
    """The metadata of the array ``name``. Raises DataError for what is not there, too large or not known."""
    where = f"{root}: {name}"
    if not name or name.startswith("/") or {"..", ".", ""} & set(name.split("/")) or "\0" in name:
        raise DataError(f"{where} is not a name of an array")
    folder = inside(root, f"{name}/zarr.json").parent
    try:
        if about := _json(folder / "zarr.json"):
            return _checked(_version3(name, about), where)
        if about := _json(folder / ".zarray"):
            return _checked(_version2(name, about, _json(folder / ".zattrs")), where)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
        raise DataError(f"{where}: metadata that cannot be read ({type(err).__name__}: {err})") from err
    raise DataError(f"{where} is not an array of this store")


def inside(root: Path, key: str) -> Path:
    """The path of a key, which may be a symbolic link as long as it stays in the store. Raises DataError."""
    path = root / key
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(f"{root}: {key} leads out of the store")
    return path


def _json(path: Path) -> dict[str, Any]:
    """A file of metadata, empty if it is not there."""
    text = read_small(path, MAX_META)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: not JSON ({err})") from err
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a mapping")
    return value


def _version2(name: str, about: Mapping[str, Any], attributes: Mapping[str, Any]) -> ArrayMeta:
    packers = [part["id"] for part in [about.get("compressor"), *(about.get("filters") or [])] if part is not None]
    _check_codecs(packers, 2)
    dtype = np.dtype(str(about["dtype"])).newbyteorder("=").name
    return ArrayMeta(
        name,
        _whole(about["shape"]),
        _whole(about["chunks"]),
        dtype,
        tuple(map(str, attributes.get("_ARRAY_DIMENSIONS", ()))),
        _number(about.get("fill_value")),
        2,
        str(about.get("dimension_separator") or "."),
        "",
        attributes,
    )


def _version3(name: str, about: Mapping[str, Any]) -> ArrayMeta:
    if about["node_type"] != "array":
        raise ValueError("a group")
    codecs = [part if isinstance(part, str) else part["name"] for part in about["codecs"]]
    if "sharding_indexed" in codecs:
        raise DataError("packed in shards, in which a missing chunk cannot be told from zeros; expected single chunks")
    _check_codecs(codecs, 3)
    attributes = about.get("attributes", {})
    if not isinstance(attributes, dict):
        raise TypeError("attributes are not a mapping")
    grid, keys = about["chunk_grid"], about.get("chunk_key_encoding", {"name": "default"})
    if grid["name"] != "regular" or keys["name"] not in ("default", "v2"):
        raise DataError(f"chunks {grid['name']}, keys {keys['name']}; expected regular ones, default or v2")
    default = keys["name"] == "default"
    separator = str(keys.get("configuration", {}).get("separator", "/" if default else "."))
    return ArrayMeta(
        name,
        _whole(about["shape"]),
        _whole(grid["configuration"]["chunk_shape"]),
        str(about["data_type"]),
        tuple(map(str, about.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS", ()))),
        _number(about.get("fill_value")),
        3,
        separator,
        f"c{separator}" if default else "",
        attributes,
    )


def _check_codecs(names: list[str], version: int) -> None:
    if strange := [name for name in names if name not in CODECS[version]]:
        raise DataError(f"codec {strange[0]!r} is not known; expected one of {', '.join(sorted(CODECS[version]))}")


def _whole(values: Any) -> tuple[int, ...]:
    made = tuple(int(n) for n in values)
    if list(made) != list(values) or any(n < 0 for n in made):
        raise ValueError(f"{values}; expected whole numbers")
    return made


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value)
    return float(value) if isinstance(value, int | float) else None


def _checked(made: ArrayMeta, where: str) -> ArrayMeta:
    """Raises DataError for what would take too much memory, or is not of numbers."""
    if made.dtype not in TYPES:
        raise DataError(f"{where}: data of type {made.dtype}; expected one of {', '.join(sorted(TYPES))}")
    if len(made.shape) != len(made.chunks) or len(made.dims) != len(made.shape):
        raise DataError(f"{where}: shape {made.shape}, chunks {made.chunks}, dimensions {made.dims}; expected as many")
    if made.separator not in (".", "/") or any(n < 1 for n in made.chunks):
        raise DataError(f"{where}: chunks {made.chunks}, separator {made.separator!r}; expected sizes, . or /")
    size = math.prod(made.chunks) * np.dtype(made.dtype).itemsize
    if size > MAX_BLOCK_BYTES:
        raise DataError(f"{where}: one chunk decodes to {size} bytes; at most {MAX_BLOCK_BYTES} are read")
    if len(made.shape) == 1 and made.shape[0] > MAX_STEPS:
        raise DataError(f"{where}: declares {made.shape[0]} values; at most {MAX_STEPS} are read")
    if len(made.shape) > 2 and max(made.shape[:-2]) > MAX_STEPS:
        raise DataError(f"{where}: declares a shape of {made.shape}; at most {MAX_STEPS} steps are read")
    return made
