"""HeightBounds of a made pair, the same bytes for any blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from geoml.cube.stereo.matching import Matcher
from geoml.cube.stereo.pair import Pair, between, overlap
from geoml.cube.stereo.surface import surface
from geoml.cube.stereo.tile import CORE, Polynomial, tile
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.testing.stereo import CENTRE, MadePair, from_plane, to_plane

RES = 0.5
WHOLE = Window(
    int((-CENTRE[1] - 50) / RES), int((CENTRE[0] - 50) / RES), int((-CENTRE[1] + 50) / RES), int((CENTRE[0] + 50) / RES)
)


def nmad(values: NDArray[np.float64]) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def in_blocks(matcher: Matcher, side: int) -> dict[str, NDArray[np.float32]]:
    out = {name: np.zeros(WHOLE.shape, np.float32) for name in ("dsm", "spread", "count")}
    for y in range(WHOLE.y0 // side * side, WHOLE.y1, side):
        for x in range(WHOLE.x0 // side * side, WHOLE.x1, side):
            window = Window(y, x, y + side, x + side).intersect(WHOLE)
            if window.empty:
                continue
            near = window.expand(2)
            bounds = (near.x0 * RES, -near.y1 * RES, near.x1 * RES, -near.y0 * RES)
            for name, layer in surface(matcher.within(bounds), window, RES, RES, (0, 0)).items():
                out[name][window.slices(WHOLE)] = layer
    return out


def test_blocks_of_any_size_have_the_same_bytes_and_the_roofs_are_planes(
    made: MadePair, matcher: Callable[[], Matcher]
) -> None:
    once = in_blocks(matcher(), 400)
    for side in (37, 128):
        again = in_blocks(matcher(), side)
        assert {k: v.tobytes() for k, v in again.items()} == {k: v.tobytes() for k, v in once.items()}
    rows, columns = (np.arange(a, b) + 0.5 for a, b in ((WHOLE.y0, WHOLE.y1), (WHOLE.x0, WHOLE.x1)))
    y, x = np.meshgrid(-rows * RES, columns * RES, indexing="ij")
    known = np.isfinite(once["dsm"])
    pixel = made.gsd / made.ratio
    off = (once["dsm"] - made.scene.z(x, y)) / pixel
    for roof in made.scene.roofs:
        on = roof.inside(x, y, 1.5) & known
        assert on.sum() > 100
        assert nmad(off[on]) <= 0.25
        assert abs(np.median(off[on])) <= 0.25
    assert nmad(off[known]) <= 0.25
    assert known[20:-20, 20:-20].mean() > 0.9
    said = off[known] * pixel / once["spread"][known]  # expected errors are neither boasts nor excuses
    assert 0.5 < nmad(said) < 1.5
    assert np.isnan(once["spread"][~known]).all()
    assert once["count"].sum() == pytest.approx(known.sum(), rel=0.2)


def test_rows_are_epipolar_and_heights_come_back(made: MadePair, corrected: Pair) -> None:
    row, column = (f // CORE for f in made.firsts[0])
    geometry = tile(corrected, row, column, to_plane)
    assert geometry is not None
    assert geometry.depth < 60
    for h in (290.0, 305.0, 320.0):
        x, y = (
            a.ravel()
            for a in np.meshgrid(np.linspace(20, geometry.shape[1] - 20, 5), np.linspace(20, geometry.shape[0] - 20, 5))
        )
        one = np.ones_like(x)
        seen = geometry.to_left @ np.stack([one, x, y])
        far = corrected.across(seen[0], seen[1], np.full(x.shape, h))
        lon, lat = corrected.left.sensor.inverse(seen[0], seen[1], np.full(x.shape, h))
        back = np.linalg.solve(geometry.to_right[:, 1:], far - geometry.to_right[:, :1])
        assert np.abs(back[1] - y).max() < 0.02
        disparity = x - back[0]
        assert (disparity >= geometry.first).all()
        assert (disparity <= geometry.first + geometry.depth - 1).all()
        xyz = geometry.points(y, x, disparity)
        np.testing.assert_allclose(xyz[2], h, atol=0.005)
        np.testing.assert_allclose(xyz[:2], np.stack(to_plane(lon, lat)), atol=0.005)


def test_pixels_of_neighbouring_tiles_are_counted_once(corrected: Pair, matcher: Callable[[], Matcher]) -> None:
    one = matcher()
    first, shape = corrected.left.first, corrected.left.shape
    rows, columns = (range(f // CORE, (f + n - 1) // CORE + 1) for f, n in zip(first, shape, strict=True))
    asked = sum(one.points(r, c).asked for r in rows for c in columns)
    assert asked == pytest.approx(shape[0] * shape[1], rel=0.15)
    assert sum(len(one.points(r, c)) for r in rows for c in columns) > 0.85 * asked


def test_places_without_data_stay_empty(made: MadePair) -> None:
    pair = made.pair()
    hole = made.pictures[0].astype(np.float32)
    hole[80:140, 80:140] = np.nan
    holed = replace(pair, left=replace(pair.left, read=lambda a, b, c, d: hole[a:b, c:d])).shifted(
        made.sensors[1].shift
    )
    layers = in_blocks(Matcher(holed, overlap(holed), to_plane, from_plane), 400)
    middle = tuple(slice(n // 2 - 10, n // 2 + 10) for n in WHOLE.shape)
    assert np.isnan(layers["dsm"][middle]).all()
    assert (layers["count"][middle] == 0).all()


def test_heights_that_are_known_too_badly_are_refused(made: MadePair) -> None:
    with pytest.raises(InputError, match="disparities; at most"):
        tile(made.pair(between(0.0, 900.0)), *(f // CORE for f in made.firsts[0]), to_plane)


def test_a_tile_that_the_right_picture_does_not_show_is_none(made: MadePair) -> None:
    assert tile(made.pair(), made.firsts[0][0] // CORE + 2, made.firsts[0][1] // CORE + 2, to_plane) is None


def test_a_polynomial_of_third_degree_is_found_again() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 100, (3, 60))
    values = np.stack([places[0] ** 3 / 1e4 + places[1] * places[2], places[0] - 3])
    fitted, missed = Polynomial.fitted(places, values)
    assert missed < 1e-8
    assert np.array_equal(fitted(places[:, :7]), fitted(places)[:, :7])
