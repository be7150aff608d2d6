"""Things with a centre on made heat maps: the same rows for any block and any batch, and each of them once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geoml import testing
from geoml.backends.torch import Backend, Device
from geoml.engine.inference import lattice
from geoml.engine.inference.lattice import owner_grid
from geoml.engine.inference.network import Network
from geoml.engine.inference.owner import owned
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard

CORE = 512
"""Of the chips here: half of what runs have, so that scenes stay small."""
WHOLE = Window(-700, -300, 900, 1300)
"""Over the corners of four cores and more."""


class Peaks:
    """Local maxima of a heat map above a half, over 3 x 3 pixels."""

    joiner: ClassVar[Literal["owner"]] = "owner"
    reach: ClassVar[int] = 1

    def candidates(self, raw: Tensor, chip: Window, known: Tensor) -> Mapping[str, Tensor]:
        heat = raw[0].masked_fill(~known, 0)
        top = nn.functional.max_pool2d(heat[None], 3, 1, 1)[0]
        y, x = torch.nonzero((heat == top) & (heat > 0.5), as_tuple=True)
        return {"y": y + chip.y0, "x": x + chip.x0, "score": heat[y, x]}


class Blur(nn.Module):
    """A heat map from an image: the mean over 5 x 5 pixels, which sees two pixels around."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return nn.functional.avg_pool2d(x, 5, 1, 2)


@pytest.fixture(autouse=True)
def _small_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lattice, "CORE", CORE)


def card(**changes: Any) -> MapCard:
    return testing.card("peaks", ["red"], ["thing"], **{"radius": 2, **changes})


def scene(origin: Window) -> Pixels:
    """Random dots in a plane that is the same for every window, with a hole."""
    return everywhere().crop(origin)


@cache
def everywhere() -> Pixels:
    rng = np.random.default_rng(0)
    everything = WHOLE.expand(2 * CORE)
    dots = (rng.random(everything.shape) < 2e-3).astype(np.float32) * rng.random(everything.shape, np.float32) * 25
    count = np.ones(everything.shape, np.uint16)
    count[Window(100, 100, 180, 260).slices(everything)] = 0
    return Pixels(dots[None], count, (1.0,), (0.0,), everything)


def found(cuts: list[Window], batch: int = 1, **changes: Any) -> np.ndarray:
    """(n, 3) y, x, score of all candidates of windows, in one order."""
    made = card(**changes)
    backend = Backend(Blur().eval(), made.signature, Device(torch.device("cpu"), bf16=False, batch=batch))
    network = Network(backend, made, owner_grid(made, Peaks.reach), Peaks())
    parts = []
    with torch.inference_mode():
        for cut in cuts:
            rows = list(owned(network, scene(network.grid.input_window(cut)), cut))
            assert [r.window.y0 for r in rows] == [cut.y0, *(r.window.y1 for r in rows[:-1])]  # no row is left out
            assert rows[-1].window.y1 == cut.y1
            parts += [np.stack([r[k] for k in ("y", "x", "score")], 1) for r in rows if r.arrays]
    every = np.concatenate(parts)
    return every[np.lexsort(every.T[::-1])]


def blocks(size: int) -> list[Window]:
    ys, xs = (range(a // size * size, b, size) for a, b in ((WHOLE.y0, WHOLE.y1), (WHOLE.x0, WHOLE.x1)))
    every = (Window(y, x, y + size, x + size).intersect(WHOLE) for y in ys for x in xs)
    return [w for w in every if not w.empty]


def test_the_same_rows_for_any_block_and_batch() -> None:
    """To the last bit: also for blocks that no core fits into, and that arrive in another order."""
    whole = found([WHOLE])
    assert len(whole) > 500
    assert len(np.unique(whole[:, :2], axis=0)) == len(whole)
    for cuts, batch in ((blocks(512), 1), (blocks(512)[::-1], 8), (blocks(300), 4), (blocks(4096), 2)):
        assert found(cuts, batch).tobytes() == whole.tobytes()


def test_it_is_what_one_look_at_everything_finds() -> None:
    around = scene(WHOLE.expand(3))
    raw = Blur()(torch.from_numpy(np.where(around.valid, around.data, 0))[None])[0]
    columns = Peaks().candidates(raw, around.origin, torch.from_numpy(around.valid))
    y, x, score = (columns[k].numpy() for k in ("y", "x", "score"))
    inside = (y >= WHOLE.y0) & (y < WHOLE.y1) & (x >= WHOLE.x0) & (x < WHOLE.x1)
    expected = np.stack([y, x, score], 1)[inside]
    ours = found([WHOLE])
    assert (ours[:, :2] == expected[:, :2]).all()
    np.testing.assert_allclose(ours[:, 2], expected[:, 2], atol=1e-5)


def test_a_model_that_sees_its_whole_chip_owns_the_middle() -> None:
    changes = {"radius": None, "chip_size": 128, "overlap": 32}
    grid = owner_grid(card(**changes), Peaks.reach)
    assert (grid.size, grid.step, grid.halo) == (128, 96, 16)
    assert found(blocks(512), **changes).tobytes() == found([WHOLE], **changes).tobytes()


def test_things_cannot_be_averaged() -> None:
    package = Package(Blur().eval(), card(), None)  # type: ignore[arg-type]
    assert Predictor(package, Peaks()).grid.step == CORE  # type: ignore[arg-type]
    for how, name in (({"tta": True}, "tta"), ({"join": "blend"}, "join")):
        with pytest.raises(InputError, match=f"{name}: peaks finds objects"):
            Predictor(package, Peaks(), **how)  # type: ignore[arg-type]
