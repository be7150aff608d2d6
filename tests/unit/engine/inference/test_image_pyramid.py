"""A pyramid on made scenes of objects of many sizes: each is found once, whatever the blocks, and is the true one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geoml import testing
from geoml.backends.torch import Backend, Device
from geoml.engine.inference.lattice import CORE, WIDEST, levels_of, margin_of
from geoml.engine.inference.predict import Predictor
from geoml.engine.inference.pyramid import coarser
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import Band, MapCard
from geoml.outputs.objects import OVERLAP, Output
from geoml.recipe import PredictRecipe, parse
from geoml.testing.objects import BRIGHT, RectangleFinder, rectangles_apart
from geoml.vector.boxes import edges, overlapping, suppress

REACH = 12
CORNER = (-700, 300)
"""Of the scene on the plane: over the corners of cores."""
IMAGE, BOXES = rectangles_apart((800, 740), np.geomspace(8, 150, 20), seed=3)
HERE = Window(CORNER[0], CORNER[1], CORNER[0] + IMAGE.shape[1], CORNER[1] + IMAGE.shape[2])
TRUTH = BOXES[:, 1:] + np.array([*CORNER, *CORNER], float)


def card(**changes: Any) -> MapCard:
    bands = [Band(name=b, mean=BRIGHT, std=BRIGHT / 2) for b in ("red", "nir")]
    made = {"task": "detection", "radius": REACH + 1, "chip_size": 48}
    return testing.card("finder", bands, ["roof", "field"], **{**made, **changes})


def predictor(*factors: int, **changes: Any) -> Predictor:
    query = {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": "2024"}
    recipe = parse(PredictRecipe, {"model": "m", "query": query, "pyramid": factors}, "made")
    package = Package(RectangleFinder(REACH).eval(), card(**changes), None)  # type: ignore[arg-type]
    backend = Backend(package.module, package.card.signature, Device(torch.device("cpu"), bf16=False, batch=2))
    return Predictor(package, Output(package.card, recipe), factors=factors, backend=backend)


def pixels(window: Window) -> Pixels:
    """The scene, and no data around it."""
    data, part = np.zeros((2, *window.shape), np.uint16), HERE.intersect(window)
    if not part.empty:
        data[:, *part.slices(window)] = IMAGE[:, *part.slices(HERE)]
    count = (data[0] > 0).astype(np.uint16)
    return Pixels(data, count, (1.0,) * 2, (0.0,) * 2, window)


def found(by: Predictor, cuts: list[Window]) -> dict[str, np.ndarray]:
    """Candidates of all cuts, in one order."""
    parts = []
    for cut in cuts:
        rows = list(by.rows(pixels(by.needed(cut)), cut))
        assert [r.window.y0 for r in rows] == [cut.y0, *(r.window.y1 for r in rows[:-1])]
        for r in rows:
            if r.arrays:
                y, x = np.floor(r["y"]), np.floor(r["x"])
                assert ((y >= r.window.y0) & (y < r.window.y1) & (x >= cut.x0) & (x < cut.x1)).all()
                parts.append(r.arrays)
    every = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return {k: v[np.lexsort([every[n] for n in ("class", "level", "x", "y") if n in every])] for k, v in every.items()}


def blocks(size: int) -> list[Window]:
    ys, xs = (range(a // size * size, b, size) for a, b in ((HERE.y0, HERE.y1), (HERE.x0, HERE.x1)))
    every = (Window(y, x, y + size, x + size).intersect(HERE) for y in ys for x in xs)
    return [w for w in every if not w.empty]


def kept(candidates: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(n, 4) boxes of a run and their classes."""
    every = {k: v.astype(np.float64) for k, v in candidates.items()}
    boxes = suppress({**every, "y": every["y"] + 0.5, "x": every["x"] + 0.5}, OVERLAP)
    return edges(boxes), boxes["class"]


def test_every_object_is_found_once_by_the_pyramid_and_not_without() -> None:
    shape, classes = kept(found(predictor(3, 9), [HERE]))
    i, j, _ = overlapping(shape, TRUTH, 0.5)
    assert len(shape) == len(TRUTH)
    assert sorted(j.tolist()) == list(range(len(TRUTH)))
    assert (classes[i] == BOXES[j, 0]).all()
    alone, _ = kept(found(predictor(), [HERE]))
    i, j, _ = overlapping(alone, TRUTH, 0.5)
    longer = np.maximum(*(TRUTH[:, 2:] - TRUTH[:, :2]).T)
    assert set(np.flatnonzero(longer <= 2 * REACH + 1)) <= set(j.tolist())
    assert longer[j].max() < 3 * REACH < 0.3 * longer.max(), "without it what is larger is not found"
    assert len(alone) - len(i) > 20, "and its corners are taken for objects of their own"


def test_the_same_candidates_for_any_blocks_to_the_last_bit() -> None:
    by = predictor(3, 9)
    whole = found(by, [HERE])
    assert set(np.unique(whole["level"])) == {1, 3, 9}
    for cuts in (blocks(512)[::-1], blocks(300)):
        other = found(by, cuts)
        assert {k: v.tobytes() for k, v in other.items()} == {k: v.tobytes() for k, v in whole.items()}


def test_a_coarser_pixel_is_the_mean_of_those_that_are_known_and_known_where_half_are() -> None:
    rng = np.random.default_rng(0)
    origin, k = Window(-12, -9, 33, 36), 3
    data = rng.normal(size=(2, *origin.shape)).astype(np.float32)
    count = (rng.random(origin.shape) < 0.6).astype(np.uint16)
    data[:, count == 0] = np.nan
    whole = coarser(Pixels(data, count, (0.5,) * 2, (7.0,) * 2, origin), Window(-4, -3, 11, 12), k)
    cells = [a.reshape(*a.shape[:-2], 15, k, 15, k).swapaxes(-3, -2).reshape(*a.shape[:-2], 15, 15, 9)
             for a in (data.astype(float), count)]  # fmt: skip
    many = cells[1].sum(-1)
    assert 0 < (many < 5).sum() < many.size
    np.testing.assert_array_equal(whole.valid, many >= 4.5)
    np.testing.assert_allclose(whole.data[:, many > 0], np.nanmean(cells[0][:, many > 0], -1), rtol=1e-6, atol=1e-7)
    assert (whole.scale, whole.offset, whole.plane) == ((0.5,) * 2, (7.0,) * 2, None)
    assert whole.data.dtype == np.float32
    for part in (Window(-4, -3, 2, 12), Window(0, 0, 11, 5)):  # the same bits, whatever lies around
        cut = coarser(Pixels(data, count, (0.5,) * 2, (7.0,) * 2, origin).crop(part.finer(k)), part, k)
        assert cut.data.tobytes() == whole.crop(part).data.tobytes()


def test_a_step_of_a_series_is_known_by_its_own_looks() -> None:
    looks = np.ones((2, 4, 4), bool)
    looks[1, :2, :2] = False
    looks[0, 0, :2] = False
    data = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    found_looks = coarser(
        Pixels(data, looks.sum(0, dtype=np.uint16), (1.0,) * 2, (0.0,) * 2, Window(0, 0, 4, 4), looks=looks),
        Window(0, 0, 2, 2), 2,
    )  # fmt: skip
    assert found_looks.looks is not None
    assert found_looks.looks.tolist() == [[[True, True], [True, True]], [[False, True], [True, True]]]
    assert found_looks.count.tolist() == [[1, 2], [2, 2]]
    assert found_looks.data[0].tolist() == [[4.5, 4.5], [10.5, 12.5]]


def test_what_is_read_around_a_block_is_what_levels_hang_on() -> None:
    by, block = predictor(3, 9), Window(-1024, 0, -512, 512)
    levels = levels_of(card(), by.output, factors=(3, 9))
    assert [levels[k].step for k in (1, 3, 9)] == [CORE, CORE // 3, CORE // 9]
    needed, margin = by.needed(block), margin_of(levels, "owner")
    for factor, grid in levels.items():
        for row in grid.rows(block.coarser(factor)):
            for index in row:
                chip = grid.chip(*index).finer(factor)
                assert chip.union(needed) == needed
                assert chip.union(block.expand(margin)) == block.expand(margin)
    assert needed.shape[0] < 512 + 2 * 9 * (CORE // 9 + 2 * levels[9].halo)


def test_a_pyramid_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=rf"pyramid: at 64 a chip of finder .* is 33,920 .* at most {WIDEST:,}"):
        levels_of(card(radius=256), Output(card()), factors=(2, 64))
    with pytest.raises(InputError, match=r"pyramid: at 32 a chip of finder .* is 32,768"):
        levels_of(card(radius=None, chip_size=1024), Output(card()), factors=(2, 32))
    with pytest.raises(InputError, match="pyramid: small maps every pixel"):
        levels_of(testing.card("small", ["red"], ["a", "b"]), _pixel_output(), factors=(2,))
    made = predictor()
    made.backend.asks = frozenset({"place"})
    with pytest.raises(InputError, match="pyramid: finder needs the position of each pixel"):
        Predictor(Package(RectangleFinder(REACH), card(), None), made.output, factors=(2,), backend=made.backend)  # type: ignore[arg-type]


def _pixel_output() -> Any:
    from geoml.outputs.classes import Output as Classes

    return Classes(testing.card("small", ["red"], ["a", "b"]))
