"""Models that are calibrated instead of trained: their packages, and their state from the pixels of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from geoml import models
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.engine.packages.package import Package, build
from geoml.errors import InputError, ModelError, NothingFound
from geoml.io.cards.map_card import Band, ClassInfo, MapCard

PIXELS = 1_000_000
"""Pixels of a split that a model is calibrated on at most."""
CHIP = 512
Read = Callable[[LabelledScene], Sample]
CLASSES = {
    2: {"unchanged": "#d9d9d9", "changed": "#d7301f"},
    3: {"unchanged": "#d9d9d9", "gain": "#1a9850", "loss": "#d7301f"},
}
"""Names and colours by the number of classes."""


@runtime_checkable
class _Doubting(Protocol):
    def doubt(self, pixels: torch.Tensor) -> str: ...


def is_calibrated(package: Package) -> bool:
    """False for a package whose state has still to be estimated on the pixels of a run."""
    ready = dict(package.module.named_buffers()).get("ready")
    return ready is None or bool(ready)


def check_calibrated(package: Package) -> None:
    """Raise ModelError for a package that is not calibrated: what it would give says nothing."""
    if not is_calibrated(package):
        raise ModelError(
            f"{package.card.name}: not calibrated; its state is estimated on the pixels of a run before it predicts"
        )


def calibrated(package: Package, pixels: NDArray[np.floating]) -> Package:
    """The package with its state estimated on (N, dates * bands) valid pixels in physical values; the card stays.

    Raises InputError for a model that is not of that kind and for pixels of another shape, DataError for too few of
    them or values that are not finite.
    """
    card = package.card
    if card.architecture == "exported" or not models.calibrated(card.architecture):
        raise InputError(f"model: {card.name} ({card.architecture}) is trained; there is nothing to calibrate")
    network = build(card)
    models.find(card.architecture).calibrate(network, torch.from_numpy(np.ascontiguousarray(pixels, np.float32)))
    return Package(network.eval(), card, package.path)


def doubt_of(package: Package, pixels: NDArray[np.floating]) -> str:
    """What speaks against a calibrated package on the (N, dates * bands) pixels of its calibration; "" for nothing."""
    if not isinstance(package.module, _Doubting):
        return ""
    return package.module.doubt(torch.from_numpy(np.ascontiguousarray(pixels, np.float32)))


def sample_pixels(pieces: Sequence[Piece], read: Read, most: int = PIXELS, seed: int = 0) -> NDArray[np.float32]:
    """(N, channels) valid pixels of the pieces, labelled or not: all, or ``most`` drawn with equal chance.

    Raises NothingFound without a single valid pixel.
    """
    counts = [int(_read_piece(read, piece)[1].sum()) for piece in pieces]
    total = sum(counts)
    if total == 0:
        raise NothingFound("calibration: the split has no valid pixel")
    chosen = np.arange(total)
    if total > most:
        chosen = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
    bounds = np.searchsorted(chosen, np.concatenate([[0], np.cumsum(counts)]))
    out, start = [], 0
    for piece, count, a, b in zip(pieces, counts, bounds[:-1], bounds[1:], strict=True):
        if b > a:
            image, valid = _read_piece(read, piece)
            y, x = (v[chosen[a:b] - start] for v in np.nonzero(valid))
            out.append(image[:, y, x].T.astype(np.float32))
        start += count
    return np.concatenate(out)


def _read_piece(read: Read, piece: Piece) -> tuple[NDArray[np.number], NDArray[np.bool_]]:
    sample = read(piece.scene)
    part = piece.window.slices(piece.scene.window)
    return sample.image[:, *part], sample.valid[part]


def new(
    architecture: str, bands: Iterable[str], gsd: float, config: Mapping[str, object] | None = None, name: str = ""
) -> Package:
    """A package of a calibrated model for bands (common names) at ``gsd`` metres, not calibrated yet.

    Raises InputError for an architecture that has to be trained and for a config that does not fit.
    """
    if not models.calibrated(architecture):
        kinds = ", ".join(n for n in models.names() if models.calibrated(n))
        raise InputError(f"architecture: {architecture} has to be trained (geoml train); expected one of {kinds}")
    names = tuple(bands)
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise InputError(f"bands: {', '.join(repeated)} more than once")
    if gsd <= 0:
        raise InputError(f"gsd: {gsd}; expected metres above zero")
    options = dict(config or {})
    if strange := sorted({"bands", "dates"} & set(options)):
        raise InputError(f"config: {strange[0]} is decided by the bands; leave it out")
    final = models.configure(architecture, {**options, "bands": len(names)})
    classes = CLASSES[final.classes]
    card = MapCard(
        name=name or architecture.replace("_", "-"),
        description=f"Needs no training. {(models.find(architecture).__doc__ or '').partition(chr(10))[0]}",
        architecture=architecture,
        config={k: v for k, v in options.items() if k != "classes"},
        task="change",
        bands=tuple(Band(name=n) for n in names),
        gsd=gsd,
        dates=final.dates,
        chip_size=CHIP,
        overlap=0,
        classes=tuple(ClassInfo(value=k, name=n, color=c) for k, (n, c) in enumerate(classes.items())),
    )
    return Package(build(card).eval(), card, Path())
