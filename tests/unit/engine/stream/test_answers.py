"""The answer of a frame is that of the predictor on the same pixels, and every frame has one, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geoml import testing
from geoml.cube.normalise import normalise
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages.package import Package
from geoml.engine.pixels import Pixels
from geoml.engine.stream.answers import WARM, Answers, answer, answers, sized
from geoml.engine.stream.frames import Frame, Unread
from geoml.engine.stream.recipe import StreamRecipe
from geoml.errors import DataError, InputError
from geoml.grid.plane import Window

Recipe = Callable[..., StreamRecipe]


def frame(index: int, shape: tuple[int, int] = (40, 52), **changes: object) -> Frame:
    data = testing.smooth((2, *shape), seed=index)
    valid = np.ones(shape, bool)
    valid[3:9, 5:20] = False
    made = Frame(index, f"{index}.tif", float(index), data, valid, (1e-4,) * 2, (0.0,) * 2)
    return replace(made, **changes)  # type: ignore[arg-type]


def by_predictor(net: Package, one: Frame) -> dict[str, np.ndarray]:
    """`Predictor.rows` on pixels that are laid out here."""
    predictor = Predictor(net)
    window = Window(0, 0, *one.valid.shape)
    around = predictor.needed(window)
    data, count = np.zeros((2, *around.shape), np.uint16), np.zeros(around.shape, np.uint16)
    data[:, *window.slices(around)], count[window.slices(around)] = one.data, one.valid
    rows = list(predictor.rows(Pixels(data, count, one.scale, one.offset, around), window))
    return {k: np.concatenate([r[k] for r in rows], axis=1) for k in rows[0].arrays}


@pytest.mark.parametrize(("shape", "size"), [((40, 52), 512), ((33, 47), 512), ((130, 101), 48), ((1, 1), 64)])
def test_a_frame_gets_the_bytes_that_the_predictor_gives(
    net: Package, predictor: Predictor, recipe: Recipe, shape: tuple[int, int], size: int
) -> None:
    one = frame(3, shape)
    expected, found = by_predictor(net, one), answer(sized(predictor, recipe(size=size)), one, recipe(size=size))
    assert found.window.shape == shape
    assert set(found.arrays) == {"class", "confidence"}
    for key, values in expected.items():
        assert found[key].tobytes() == values.tobytes()
    assert len(np.unique(found["class"])) > (2 if np.prod(shape) > 1 else 0), "more than one class, and no data"


def test_without_the_halo_it_is_one_forward_of_the_frame(net: Package, predictor: Predictor, recipe: Recipe) -> None:
    one, alone = frame(3, (33, 47)), recipe(halo=False, size=64)
    chip = normalise(one.data, one.valid, *one.pixels(Window(0, 0, 33, 47)).coefficients(net.card))
    padded, known = np.pad(chip, ((0, 0), (0, 31), (0, 17))), np.pad(one.valid, ((0, 31), (0, 17)))
    expected = predictor.alone(padded, known)["class"][:, :33, :47]
    found = answer(sized(predictor, alone), one, alone)
    assert found["class"].tobytes() == expected.tobytes()
    assert (found["class"] != by_predictor(net, one)["class"]).any(), "the edges differ from those with a halo"
    large = frame(3, (130, 101))
    exact = answer(sized(predictor, alone), large, alone)
    assert exact["class"].tobytes() == by_predictor(net, large)["class"].tobytes(), "a larger one is joined exactly"


def test_every_frame_has_one_answer_in_order(predictor: Predictor, recipe: Recipe) -> None:
    lost = Unread(2, "2.tif", 2.0, DataError("2.tif: damaged"))
    broken = frame(4, scale=(float("nan"),) * 2)
    source = [frame(0), None, frame(1), lost, frame(3), broken, frame(5)]
    with answers(predictor, source, recipe()) as found:
        got = list(found)
    assert [a.index for a in got] == [0, 1, 2, 3, 4, 5]
    assert [a.status for a in got] == ["done", "done", "failed", "done", "failed", "done"]
    assert got[2].reason == "2.tif: damaged"
    assert "4.tif" in got[4].reason
    assert "not finite" in got[4].reason
    for one in got:
        if one.status == "done":
            expected = answer(predictor, frame(one.index), recipe())
            assert one.rows is not None
            assert one.rows["class"].tobytes() == expected["class"].tobytes()
            assert set(one.ms) == {"read", "wait", "model"}
            assert min(one.ms.values()) >= 0


def test_the_first_frame_warms_up_and_is_answered_once(
    predictor: Predictor, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    rows = Predictor.rows
    monkeypatch.setattr(Predictor, "rows", lambda self, *a: calls.append(1) or rows(self, *a))  # type: ignore[func-returns-value]
    with answers(predictor, iter([frame(0), frame(1)]), recipe()) as found:
        assert len(calls) == WARM
        assert found.warmed > 0
        assert [a.index for a in found] == [0, 1]
    assert len(calls) == WARM + 2


def test_no_more_frames_are_read_than_may_wait(predictor: Predictor, recipe: Recipe) -> None:
    made: list[int] = []

    def source() -> Iterator[Frame]:
        for k in range(12):
            made.append(k)
            yield frame(k, (16, 16))

    with answers(predictor, source(), recipe(ahead=3)) as found:
        for n, one in enumerate(found):
            until = time.monotonic() + 0.02
            while time.monotonic() < until:
                assert len(made) <= n + 1 + 3 + 1, "answered, waiting, and one in the hand of the reader"
            assert one.index == n
    assert made == list(range(12))


def test_frames_that_come_too_fast_are_dropped_and_said(predictor: Predictor, recipe: Recipe) -> None:
    all_made = threading.Event()

    def source() -> Iterator[Frame]:
        for k in range(20):
            yield frame(k, (16, 16))
        all_made.set()

    with answers(predictor, source(), recipe(ahead=3, live=True)) as found:
        got = []
        for one in found:
            got.append(one)
            assert all_made.wait(10)  # the model is slower than all the others come
    assert [a.index for a in got] == list(range(20)), "each is said, in order"
    done = [a.index for a in got if a.status == "done"]
    assert done[-3:] == [17, 18, 19], "the newest are kept"
    assert len(done) <= 4
    assert {a.status for a in got} == {"done", "dropped"}
    assert all(a.reason and a.rows is None for a in got if a.status == "dropped")


def test_a_paced_source_comes_when_it_is_due(predictor: Predictor, recipe: Recipe) -> None:
    source = [frame(k, (16, 16), time=5.0 + 0.15 * k) for k in range(4)]
    with answers(predictor, source, recipe(live=True), paced=True) as found:
        start = time.perf_counter()
        got = list(found)
        took = time.perf_counter() - start
    assert [a.status for a in got] == ["done"] * 4
    assert took >= 0.44, "three times 0.15 s"


def test_an_error_of_the_source_comes_in_its_place(predictor: Predictor, recipe: Recipe) -> None:
    def source() -> Iterator[Frame]:
        yield frame(0)
        raise InputError("bands: wrong")

    got = []
    with pytest.raises(InputError, match="bands: wrong"), answers(predictor, source(), recipe()) as found:
        got.extend(found)
    assert [a.index for a in got] == [0]


def test_a_stream_that_is_left_ends_its_thread(predictor: Predictor, recipe: Recipe) -> None:
    def source() -> Iterator[Frame]:
        for k in range(10_000):
            yield frame(k, (16, 16))

    with answers(predictor, source(), recipe()) as found:
        assert isinstance(found, Answers)
        assert next(iter(found)).index == 0
    assert [t.name for t in threading.enumerate() if t.name == "geoml-frames"] == []


class Asks(nn.Module):
    """A network that wants to know the place."""

    stride = 1

    def forward(self, x: Tensor, place: Tensor | None = None) -> Tensor:
        return torch.zeros_like(x)


def test_models_that_a_frame_cannot_serve_are_refused(tmp_path: Path, recipe: Recipe) -> None:
    one = testing.card("asks", ("red", "nir"), ("a", "b"))
    for card, why in ((one, "asks for place"), (one.model_copy(update={"dates": 2, "task": "change"}), "2 dates")):
        found = Predictor(Package(Asks(), card, tmp_path))
        with pytest.raises(InputError, match=why):
            sized(found, recipe())
