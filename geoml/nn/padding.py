"""Any height and width for networks that want multiples of their stride."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def padded(forward: Callable[[Tensor], Tensor], x: Tensor, stride: int) -> Tensor:
    """``forward`` of ``x`` (B, C, H, W) grown at the bottom and right to multiples of ``stride``, cropped back.

    The edge pixels are repeated, which works for any size; nothing happens where H and W fit already.
    """
    height, width = x.shape[-2:]
    down, right = -height % stride, -width % stride
    if down == 0 and right == 0:
        return forward(x)
    y = forward(F.pad(x, (0, right, 0, down), mode="replicate"))
    return y[..., :height, :width]
