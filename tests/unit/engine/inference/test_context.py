"""What a network asks for beside pixels comes to it with every chip, however chips are joined, cut and turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geoml import testing
from geoml.backends.torch import Backend, Device
from geoml.engine.inference.lattice import owner_grid
from geoml.engine.inference.network import Network
from geoml.engine.inference.owner import owned
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.grid.lonlat import lonlat
from geoml.grid.plane import Plane, Window

PLANE = Plane("EPSG:32621", 10.0)
WHOLE = Window(-720_000, 60_000, -719_700, 60_330)
MONTHS = (1, 5, 10)
RANDOM = np.random.default_rng(0)
LOOKS = RANDOM.random((3, *WHOLE.shape)) < 0.4
DATA = RANDOM.integers(1, 50, (6, *WHOLE.shape), np.uint16)


class Told(nn.Module):
    """Six numbers of a pixel that the context must have right; sees a pixel alone, so any cut gives the same."""

    stride = 1

    def forward(
        self, x: Tensor, looks: Tensor | None = None, months: Tensor | None = None, place: Tensor | None = None
    ) -> Tensor:
        if looks is None or months is None or place is None:
            return torch.zeros_like(x)
        assert looks.dtype == torch.bool
        assert (len(looks), len(months), len(place)) == (len(x),) * 3
        steps = x.unflatten(1, (3, 2))
        month = (looks * months[:, :, None, None]).sum(1, keepdim=True)
        return torch.cat([looks.sum(1, keepdim=True), month, place, steps.sum(1)], 1).float()


class Raw:
    """The raw output as it is."""

    joiner: ClassVar[Literal["pixels"]] = "pixels"
    channels = raw = 6
    layers: ClassVar[Any] = (type("Layer", (), {"names": "abcdef", "dtype": "float32"}),)

    def average(self, raw: Tensor) -> Tensor:
        return raw

    def encode(self, averaged: Tensor) -> list[Tensor]:
        return [averaged]

    encode_raw = encode

    def stored(self, encoded: Any, known: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
        return {"raw": np.where(known, encoded[0], 0)}


def pixels() -> Pixels:
    count = LOOKS.sum(0, dtype=np.uint16)
    return Pixels(DATA, count, (1.0,) * 6, (0.0,) * 6, WHOLE, (), PLANE, LOOKS, MONTHS)


def truth() -> NDArray[np.float32]:
    steps = (DATA.reshape(3, 2, *WHOLE.shape) * LOOKS[:, None]).sum(0)
    month = (LOOKS * np.array(MONTHS)[:, None, None]).sum(0)
    found = np.concatenate([LOOKS.sum(0)[None], month[None], lonlat(PLANE, WHOLE), steps]).astype(np.float32)
    return np.where(LOOKS.any(0), found, 0)


def backend(card: Any, batch: int) -> Backend:
    return Backend(Told(), card.signature, Device(torch.device("cpu"), bf16=False, batch=batch))


@pytest.mark.parametrize(
    ("radius", "batch", "tta"), [(0, 1, False), (0, 4, True), (None, 3, False), (None, 1, True)], ids=str
)
def test_every_joiner_gives_it(radius: int | None, batch: int, tta: bool) -> None:
    card = testing.card("told", ["red", "nir"], ["a"], dates=3, radius=radius, chip_size=64, overlap=16)
    package = Package(Told(), card, None)  # type: ignore[arg-type]  # nothing is loaded
    predictor = Predictor(package, Raw(), tta=tta, backend=backend(card, batch))  # type: ignore[arg-type]
    inner = Window(WHOLE.y0 + 90, WHOLE.x0 + 90, WHOLE.y1 - 90, WHOLE.x1 - 90)
    parts = list(predictor.rows(pixels(), inner))
    found = np.concatenate([rows["raw"] for rows in parts], 1)
    np.testing.assert_allclose(found, truth()[:, *inner.slices(WHOLE)], rtol=1e-6, atol=2e-5)


class Points:
    """Where a pixel was looked at three times, with what the raw output says there."""

    joiner: ClassVar[Literal["owner"]] = "owner"
    reach: ClassVar[int] = 0

    def candidates(self, raw: Tensor, chip: Window, known: Tensor) -> Mapping[str, Tensor]:
        y, x = torch.nonzero((raw[0] == 3) & known, as_tuple=True)
        return {"y": y + chip.y0, "x": x + chip.x0, "lon": raw[2, y, x], "months": raw[1, y, x]}


def test_things_with_a_centre_have_it_too() -> None:
    card = testing.card("told", ["red", "nir"], ["a"], dates=3, radius=None, chip_size=64, overlap=16)
    network = Network(backend(card, 1), card, owner_grid(card, 0), Points())
    inner = Window(WHOLE.y0 + 90, WHOLE.x0 + 90, WHOLE.y1 - 90, WHOLE.x1 - 90)
    rows = list(owned(network, pixels(), inner))  # type: ignore[arg-type]
    y, x = (np.concatenate([r[k] for r in rows if len(r.arrays)]) for k in "yx")
    lon = np.concatenate([r["lon"] for r in rows if len(r.arrays)])
    thrice = LOOKS.all(0)[inner.slices(WHOLE)]
    assert len(y) == thrice.sum() > 50
    assert thrice[y - inner.y0, x - inner.x0].all()
    np.testing.assert_allclose(lon, lonlat(PLANE, inner)[0, y - inner.y0, x - inner.x0])


def test_a_network_that_asks_for_nothing_is_given_pixels_alone() -> None:
    card = testing.card("plain", ["red", "nir"], ["a"], dates=3)
    assert Backend(nn.Conv2d(6, 6, 1), card.signature).asks == frozenset()
    assert backend(card, 1).asks == {"looks", "months", "place"}
