"""Features of pictures, computed once: one pass of the backbone, then any number of heads.

The cache is a folder of small safetensors files, each whole or not there; a row is found by the checksum of the
pixels, in a subfolder for backbone, weights, size and precision. A run that was killed goes on after its last part.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.numpy import save as to_bytes

from geoml.backends import torch as eager
from geoml.backends.torch import Device
from geoml.engine.inference.choice import TORCH, asked_of_machine, backend_for
from geoml.engine.machine.prefetch import prefetch
from geoml.errors import DataError, InputError, ModelError
from geoml.geolocation.nn.backbones import Backbone
from geoml.io.cards.signature import Signature
from geoml.io.software import MADE_BY
from geoml.io.stores import store

PART = 512
"""Pictures in one file of the cache: what a kill can cost."""
BATCH = 32
PREFETCH = 4
"""Batches that are read or drawn while the backbone works."""

Pixels = NDArray[np.uint8]
V = TypeVar("V")


def weights_hash(backbone: Backbone) -> str:
    """sha256 over names, shapes and values of the weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else
                      str(tensor.item()).encode())  # fmt: skip
    return digest.hexdigest()


def key(rgb: Pixels) -> bytes:
    """sha256 of a picture's shape and pixels."""
    return hashlib.sha256(f"{rgb.shape}".encode() + np.ascontiguousarray(rgb).tobytes()).digest()


class Extractor:
    """A backbone made ready, normalisation inside: by PyTorch on ``device``, or, to ``choose``, by the back end of the
    settings, which raises as `geoml.engine.inference.choice.backend_for` does.

    ``made_by`` is what a run says of the back end. ``identity`` is of what decides the features but for their last
    digits, ``tag`` of those too.
    """

    def __init__(
        self, backbone: Backbone, size: int | None = None, device: Device | None = None, *, choose: bool = False
    ) -> None:
        self.backbone, self.size, self.features = backbone, size or backbone.size, backbone.features
        signature = Signature(backbone.name, 3, self.size, vector=True, identity={"backbone": backbone.name})
        network, asked = copy.deepcopy(backbone), asked_of_machine() if choose else (TORCH, device or eager.choose())
        found = backend_for(network, signature, self.size, asked)
        self.backend, self.made_by = found.backend, found.properties[MADE_BY]
        self.identity = f"{backbone.name.replace(':', '-')}-{weights_hash(backbone)[:16]}-{self.size}"
        by = "" if self.backend.name == TORCH else f"-{self.backend.name}"
        self.tag = f"{self.identity}-{self.backend.precision}{by}"

    def __call__(self, rgb: Pixels) -> NDArray[np.float32]:
        """(B, size, size, 3) uint8 to (B, F). Raises InputError for another size, ModelError for no finite answer or
        where the back end fails, TransientError without memory."""
        if rgb.ndim != 4 or rgb.shape[1:] != (self.size, self.size, 3) or rgb.dtype != np.uint8:
            raise InputError(f"pictures: {rgb.shape} {rgb.dtype}; expected (B, {self.size}, {self.size}, 3) uint8")
        with torch.inference_mode(), self.backend.failures():
            x = self.backbone.normalised(self.backend.upload(rgb).permute(0, 3, 1, 2))
            out = self.backend.forward(x).cpu().numpy()
        if not np.isfinite(out).all():
            raise ModelError(f"backbone {self.backbone.name}: features that are not finite")
        return np.asarray(out, np.float32)


def compute(pictures: Iterable[Pixels], extractor: Extractor, cache: str | Path | None = None) -> NDArray[np.float32]:
    """(N, F) float32 (values of float16) of pictures (size, size, 3) uint8, in their order; what is cached is read.

    Raises InputError for pictures of another size, ModelError for features that are not finite, DataError for a cache
    that is damaged or cannot be written.
    """
    folder = None if cache is None else Path(cache) / extractor.tag
    cached = {} if folder is None else _known(folder, extractor.features)
    order: list[bytes] = []
    fresh: list[bytes] = []
    for batch in prefetch(batched(pictures, BATCH), PREFETCH, "pictures"):
        keys = [key(rgb) for rgb in batch]
        order += keys
        new = {k: rgb for k, rgb in zip(keys, batch, strict=True) if k not in cached}
        if new:
            values = extractor(np.stack(list(new.values()))).astype(np.float16)
            if not np.isfinite(values).all():
                raise ModelError(f"backbone {extractor.backbone.name}: features beyond float16")
            cached.update(zip(new, values, strict=True))
            fresh += new
        if folder is not None and len(fresh) >= PART:
            _write(folder, fresh, cached)
            fresh = []
    if folder is not None and fresh:
        _write(folder, fresh, cached)
    if not order:
        return np.zeros((0, extractor.features), np.float32)
    return np.stack([cached[k] for k in order]).astype(np.float32)


def _known(folder: Path, features: int) -> dict[bytes, NDArray[np.float16]]:
    cached: dict[bytes, NDArray[np.float16]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            part = load_file(path)
            keys, values = part["keys"], part["features"]
        except (SafetensorError, OSError, KeyError) as err:
            raise DataError(
                f"{path}: a damaged part of the cache ({err}); delete it, its pictures are read again"
            ) from err
        if values.shape != (len(keys), features):
            raise DataError(f"{path}: {values.shape}; expected ({len(keys)}, {features}); delete it")
        cached.update((k.tobytes(), v) for k, v in zip(keys, values, strict=True))
    return cached


def _write(folder: Path, keys: list[bytes], cached: dict[bytes, NDArray[np.float16]]) -> None:
    rows = np.stack([np.frombuffer(k, np.uint8) for k in keys])
    values = np.stack([cached[k] for k in keys])
    name = hashlib.sha256(rows.tobytes()).hexdigest()[:24]
    with store.atomic(folder / f"{name}.safetensors") as temporary:
        temporary.write_bytes(to_bytes({"keys": rows, "features": values}))


def batched(values: Iterable[V], size: int) -> Iterator[list[V]]:
    """The values in lists of ``size``, the last one shorter."""
    rest = iter(values)
    while batch := list(islice(rest, size)):
        yield batch
