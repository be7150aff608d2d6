"""What a forward holds in memory at once, counted on a small input."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that operators made and that are still in use, and the most of them at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (key := leaf.untyped_storage()._cdata) not in self.seen:
                storage = leaf.untyped_storage()
                size = storage.nbytes()
                self.seen.add(key)
                self.now += size
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, key, size)
        return out

    def _gone(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


@torch.inference_mode()
def bytes_per_pixel(forward: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Bytes that operators of ``forward`` hold at once, at most, for each further pixel of ``x`` (B, channel, y, x).

    What hangs on no size, such as weights in another precision, is not counted: a quarter of ``x`` is tried beside it.
    Weights, the input, and what an operator takes and gives back inside of itself are not counted either.
    """
    small = x[..., : x.shape[-2] // 2, : x.shape[-1] // 2]
    (many, most), (few, least) = (_most(forward, part) for part in (x, small))
    return (most - least) / (many - few)


def _most(forward: Callable[[Tensor], Tensor], x: Tensor) -> tuple[int, int]:
    """Pixels of ``x``, and bytes."""
    held = _Held()
    with held:
        forward(x)
    return x.shape[0] * x.shape[-2] * x.shape[-1], held.most
