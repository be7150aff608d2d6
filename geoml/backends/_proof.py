"""Whether a converted network has the output of the original. Compared with PyTorch before it is used, never after.

A conversion may freeze what hangs on the size of a chip, reorder axes or compute in another precision, and none of it
raises. Its raw output on made images, of the size that it is for and of one off the network's stride, is set beside
that of PyTorch in fp32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

EQUAL = 0.9999
"""Share of pixels whose class, and of values that, must be those of PyTorch in fp32."""
CLOSE = 1e-3
"""Of the largest raw value: what is nearer is the same value, for fp32 sums in another order differ by 1e-5."""
COARSE = 1.5
"""In bf16: how much further from fp32 than PyTorch in bf16. Two ways to round differ by chance from each other about as
much as each differs from fp32; a wrong edge or axis is ten times that."""
GRAIN = 1e-3
"""In bf16: share of classes that may differ in any case, where PyTorch's own hardly do."""

Forward = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
"""Raw output (1, K, y, x) of (1, channel, y, x) and what the network asks for."""


@dataclass(frozen=True)
class Distance:
    """Of a raw output from another: share of equal classes and of close values, mean and largest difference.

    Differences are shares of the largest raw value. Where there is one channel, there are no classes to differ.
    """

    equal: float
    close: float
    mean: float
    largest: float


def distance(found: Tensor, exact: Tensor) -> Distance:
    """Of raw output (B, K, y, x) from that of PyTorch in fp32; what is not finite is not close."""
    if found.shape != exact.shape:
        return Distance(0.0, 0.0, float("inf"), float("inf"))
    off = (found.float() - exact.float()).abs() / exact.abs().max().clamp_min(1e-30)
    close = (off <= CLOSE) | (found == exact)  # also where both are infinite
    off = torch.where(found == exact, 0.0, off)
    same = (found.argmax(1) == exact.argmax(1)).float().mean() if exact.shape[1] > 1 else torch.ones(())
    return Distance(float(same), float(close.float().mean()), float(off.mean()), float(off.max()))


def worst(parts: Sequence[Distance]) -> Distance:
    """The worst of several in each respect."""
    return Distance(
        min(p.equal for p in parts),
        min(p.close for p in parts),
        max(p.mean for p in parts),
        max(p.largest for p in parts),
    )


def doubt(precision: str, found: Distance, own: Distance) -> str:
    """Why a converted network is not to be used, "" where it is; ``own`` is PyTorch's distance in that precision."""
    if precision == "fp32":
        if not found.equal >= EQUAL:
            return f"{found.equal:.4%} of the classes are those of torch; expected {EQUAL:.2%}"
        if not found.close >= EQUAL:
            return f"{found.close:.4%} of the values are those of torch; expected {EQUAL:.2%}"
        return ""
    if not 1 - found.equal <= COARSE * (1 - own.equal) + GRAIN:
        return f"{found.equal:.3%} of the classes are those of torch in fp32; torch in {precision} has {own.equal:.3%}"
    if not found.mean <= COARSE * own.mean + CLOSE * GRAIN:
        return f"{found.mean:.2e} from torch in fp32 in the mean; torch in {precision} is {own.mean:.2e}"
    return ""


def of_pixels(
    precision: str, found: Sequence[Tensor], usual: Sequence[Tensor], exact: Sequence[Tensor]
) -> tuple[dict[str, float], str]:
    """What of raw output (1, K, y, x) is equal, and why that is too little, "" where it is enough.

    ``usual`` is PyTorch's in ``precision``, ``exact`` that in fp32.
    """
    far, own = (worst([distance(*pair) for pair in zip(of, exact, strict=True)]) for of in (found, usual))
    said = {"equal": far.equal, "close": far.close, "mean": far.mean, "largest": far.largest, "torch_equal": own.equal}
    return said, doubt(precision, far, own)


def of_features(
    precision: str, found: Sequence[Tensor], usual: Sequence[Tensor], exact: Sequence[Tensor]
) -> tuple[dict[str, float], str]:
    """The same of features (1, F). Their distance from PyTorch in fp32 is a share of that between two images, for it is
    by the difference of images that features answer."""
    exacts = torch.cat([*exact]).double()
    apart = float(torch.pdist(exacts).min())

    def far(those: Sequence[Tensor]) -> float:
        if any(one.shape != other.shape for one, other in zip(those, exact, strict=True)):
            return float("inf")
        off = float((torch.cat([*those]).double() - exacts).norm(dim=1).max())
        return off if off == 0 else off / max(apart, 1e-30)

    ours, own = far(found), far(usual)
    limit = CLOSE if precision == "fp32" else COARSE * own + CLOSE
    said = {"distance": ours, "torch_distance": own}
    if ours <= limit:
        return said, ""
    return said, f"features are {ours:.2%} of the distance of two images from those of torch; expected {limit:.2%}"


def made_inputs(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Images and what a network asks for, of these shapes by name: fine noise on patches of strong contrast."""
    random = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name == "looks":
            made[name] = torch.rand(shape, generator=random) < 0.9
        elif name == "months":
            made[name] = torch.randint(0, 12, shape, generator=random)
        elif name == "place":
            made[name] = torch.rand(shape, generator=random) * 60
        else:
            coarse = torch.randn(*shape[:2], -(-shape[2] // 32), -(-shape[3] // 32), generator=random)
            patches = F.interpolate(coarse, scale_factor=32, mode="nearest")[..., : shape[2], : shape[3]]
            made[name] = patches + 0.5 * torch.randn(shape, generator=random)
    return made


def cut(inputs: Mapping[str, Tensor], height: int, width: int) -> dict[str, Tensor]:
    """The first rows and columns of what has pixels."""
    return {k: v[..., :height, :width].contiguous() if v.ndim == 4 else v for k, v in inputs.items()}


def run(forward: Forward, inputs: Mapping[str, Tensor]) -> tuple[Tensor, float]:
    """Raw output of ``inputs``, whose image is ``x``, and the CPU seconds of it, on a GPU those that pass: of two
    runs, for the first one of a shape pays for its memory."""
    context = {k: v for k, v in inputs.items() if k != "x"}
    seconds = []
    for _ in range(2):
        start = _clock(inputs["x"])
        found = forward(inputs["x"], context)
        seconds.append(_clock(found) - start)
    return found, min(seconds)


def _clock(done: Tensor) -> float:
    if not done.is_cuda:
        return time.process_time()
    torch.cuda.synchronize(done.device)
    return time.perf_counter()
