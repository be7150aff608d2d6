"""Checks, before each call, of values and shapes that torch leaves unchecked in some operators.

Those that do not agree would read beyond a tensor. All other operators raise by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor


def scales(x: Tensor, size: Sequence[int], *options: float | None) -> None:
    """Upsampling to ``size``: the last options are the scales; too large ones would read beyond ``x``."""
    shape = x.shape[-len(size) :]
    for before, after, scale in zip(shape, size, options[-len(size) :], strict=True):
        if scale is not None and not (scale > 0 and after <= before * scale * (1 + 1e-6)):
            raise ValueError(f"a scale of {scale} from {before} to {after} pixels")


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *_: object, **__: object) -> None:
    """Scaled dot products: (…, L, E), (…, S, E), (…, S, F), and a mask that broadcasts to (…, L, S)."""
    same = q.shape[:-2] == k.shape[:-2] == v.shape[:-2] and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    scores = (*q.shape[:-1], k.shape[-2])
    if not same or q.ndim < 2 or (mask is not None and not _broadcasts(mask.shape, scores)):
        raise ValueError(f"attention of {tuple(q.shape)} to {tuple(k.shape)} and {tuple(v.shape)}")


def batch_norm(x: Tensor, *channels: object) -> None:
    """Weight, bias, mean and variance without the checks that ``batch_norm`` makes: each has a value a channel."""
    for one in channels[:4]:
        if isinstance(one, Tensor) and (x.ndim < 2 or tuple(one.shape) != (x.shape[1],)):
            raise ValueError(f"{tuple(one.shape)} values for the channels of {tuple(x.shape)}")


def group_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, hw: int, *_: object) -> None:
    """The numbers of samples, channels and pixels are those of the tensor."""
    if x.ndim < 2 or tuple(x.shape[:2]) != (n, c) or x.numel() != n * c * hw:
        raise ValueError(f"{n}, {c}, {hw} for a tensor of {tuple(x.shape)}")
    for one in (weight, bias):
        if one is not None and tuple(one.shape) != (c,):
            raise ValueError(f"{tuple(one.shape)} values for {c} channels")


def padding(_: Tensor, pad: Sequence[int], mode: str = "", *__: object) -> None:
    """Mirrored and repeated edges are grown, never cut."""
    if mode != "constant" and any(n < 0 for n in pad):
        raise ValueError(f"a padding of {list(pad)}")


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


CHECKS: Mapping[str, Callable[..., None]] = {
    f"torch.ops.aten.{name}": check
    for check, names in (
        (scales, "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d"),
        (attention, "scaled_dot_product_attention"),
        (batch_norm, "_native_batch_norm_legit_no_training _native_batch_norm_legit.no_stats"),
        (group_norm, "native_group_norm"),
        (padding, "pad reflection_pad2d replication_pad2d"),
    )
    for name in (n if "." in n else f"{n}.default" for n in names.split())
}
"""By operator."""
