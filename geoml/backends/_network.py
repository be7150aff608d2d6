"""What makes a converted network the one it is: its weights and layers, the code it comes from, and the processor."""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
from functools import cache
from pathlib import Path

import torch
from torch import nn

import geoml
from geoml.io.cards.signature import Signature

_MATTERS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")
"""Flags of a processor by which libraries choose kernels and precisions."""


def digest_of(module: nn.Module, signature: Signature) -> str:
    """sha256 of all values of a network, its layers, its signature's identity, and the code of networks and of back
    ends."""
    rooms = {type(part).__module__.rpartition(".")[0] for part in module.modules()}
    total = hashlib.sha256(_code(frozenset(r for r in rooms if r.startswith("geoml."))).encode())
    total.update(json.dumps([dict(signature.identity), repr(module)], sort_keys=True).encode())
    for name, value in itertools.chain(module.named_parameters(), module.named_buffers()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy().data if flat.numel() else b"")
    return total.hexdigest()


@cache
def _code(rooms: frozenset[str]) -> str:
    """Of back ends, of what all networks share, and of the folders ``rooms`` in which the network's layers stand."""
    total = hashlib.sha256()
    for room in sorted({"geoml.backends", "geoml.models", "geoml.nn"} | rooms):
        for path in sorted(Path(geoml.__file__).parent.joinpath(*room.split(".")[1:]).glob("*.py")):
            total.update(path.read_bytes())
    return total.hexdigest()


@cache
def processor() -> tuple[str, ...]:
    """Its model, and what of it decides how a library computes."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.machine(), platform.processor()
    said = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    flags = set(said.get("flags", said.get("Features", "")).split())
    return platform.machine(), said.get("model name", ""), *(f for f in _MATTERS if f in flags)
