"""Weights, buffers and constants of an exported program, from the raw records of its archive; a pickle never is one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from geoml.engine.packages.archive import Archive, Unchecked
from geoml.errors import ModelError

DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""By their numbers in the JSON (``ScalarType`` of torch/_export/serde/schema.py): those that networks compute with."""
STRIDED = 7
"""The number of the only layout."""
MOST_VALUES = 2**34
"""Of one weight; a stride of zero makes any number of a few bytes."""

_RAW = re.compile(r"(weight|tensor)_\d+", re.ASCII)


class Payloads:
    """The tensors of an archive by name, read on demand."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self.where = archive.where
        self._flat: dict[tuple[str, int], Tensor] = {}

    def tensor(self, name: str, *, weight: bool) -> Tensor:
        """A weight (else a constant) by its name in the program, with the strides that it was saved with.

        Raises ModelError for one that is missing, or lies outside of its record.
        """
        folder, config = ("weights", self._weights) if weight else ("constants", self._constants)
        if name not in config:
            raise ModelError(f"{self.where}: not a torch.export program; {name[:80]} is missing")
        entry = config[name]
        meta = entry["tensor_meta"]
        sizes, strides = ([_whole(v["as_int"]) for v in meta[key]] for key in ("sizes", "strides"))
        offset, code = _whole(meta["storage_offset"]["as_int"]), meta["dtype"]
        if code not in DTYPES or meta["layout"] != STRIDED or len(sizes) != len(strides):
            raise ModelError(f"{self.where}: {name[:80]} is not a plain tensor")
        if 0 in sizes:
            return torch.zeros(sizes, dtype=DTYPES[code])
        flat = self._values(f"data/{folder}/{entry['path_name']}", code)
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        if last >= len(flat) or math.prod(sizes) > MOST_VALUES:
            raise ModelError(f"{self.where}: {name[:80]} has {sizes} values; its record holds {len(flat)}")
        return torch.as_strided(flat, sizes, strides, offset)

    def learns(self, name: str) -> bool:
        """Whether a weight requires gradients: torch multiplies another way then, even where none are computed."""
        return self._weights[name]["tensor_meta"]["requires_grad"] is True

    def _values(self, record: str, code: int) -> Tensor:
        """The numbers of a record in the order of their bytes; tensors that share a record share them."""
        if (record, code) not in self._flat:
            content, dtype = self.archive.record(record), DTYPES[code]
            if not content or len(content) % dtype.itemsize:
                raise ModelError(f"{self.where}: {record} has {len(content)} bytes; no number of {dtype}")
            raw = bytearray(content)
            if dtype == torch.bool:  # a byte of another value than 0 and 1 is no truth value that torch knows
                self._flat[record, code] = torch.frombuffer(raw, dtype=torch.uint8) != 0
            else:
                self._flat[record, code] = torch.frombuffer(raw, dtype=dtype).clone()  # aligned
        return self._flat[record, code]

    @cached_property
    def _weights(self) -> Mapping[str, Unchecked]:
        return self._config("weights")

    @cached_property
    def _constants(self) -> Mapping[str, Unchecked]:
        return self._config("constants")

    def _config(self, folder: str) -> Mapping[str, Unchecked]:
        record = self.archive.json(f"data/{folder}/{self.archive.name}_{folder}_config.json")
        config: Mapping[str, Unchecked] = record["config"]
        for name, entry in config.items():
            if entry.get("use_pickle") or not _RAW.fullmatch(entry["path_name"]):
                raise ModelError(f"{self.where}: {name[:80]} is pickled; a pickle is never executed")
        return config

    def check(self) -> None:
        """Raise ModelError for anything but raw tensors, used by the program or not."""
        _ = self._weights, self._constants


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**40:
        raise ValueError(f"{str(value)[:40]} is not a size")
    return value
