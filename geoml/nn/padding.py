"""All heights and widths for networks that want multiples of their stride."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def padded(
    forward: Callable[[Tensor], Tensor], x: Float[Tensor, "batch channel y x"], stride: int
) -> Float[Tensor, "batch out y x"]:
    """``forward`` of ``x`` padded at the bottom and right to multiples of ``stride``, cropped back.

    The edge pixels are repeated, which works for any size; nothing happens where height and width fit already.
    """
    height, width = x.shape[-2:]
    y = forward(extended(x, stride))
    return y if y.shape[-2:] == (height, width) else y[..., :height, :width]


def extended(x: Float[Tensor, "batch channel y x"], stride: int) -> Float[Tensor, "batch channel tall wide"]:
    """``x`` with its last row and column repeated up to multiples of ``stride``."""
    down, right = -x.shape[-2] % stride, -x.shape[-1] % stride
    return x if down == 0 and right == 0 else F.pad(x, (0, right, 0, down), mode="replicate")
