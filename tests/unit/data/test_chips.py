from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.data.chips import EvalBatches, Reader, TrainBatches, cut, every, grid, measure
from geoml.data.recipe import Sampling
from geoml.data.scene import LabelledScene, Piece, Sample
from geoml.data.targets.classes import ClassTarget
from geoml.engine.train.team import share
from geoml.errors import NothingFound
from geoml.grid.plane import Window
from geoml.io.cards.map_card import ClassInfo
from geoml.nn.metrics import IGNORE

CLASSES = ClassTarget(tuple(ClassInfo(value=v, name=f"{v}", color="#000000") for v in range(3)))
ZERO, ONE = np.zeros(1, np.float32), np.ones(1, np.float32)


def scene(name="a", shape=(40, 50), seed=0, known=0.5, classes=3, reads=None):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 200, (1, *shape)).astype(np.uint8)
    valid = rng.random(shape) < 0.9
    target = np.where(rng.random(shape) < known, rng.integers(0, classes, shape), IGNORE).astype(np.uint8)
    made = Sample.of(image, valid, target, CLASSES)

    def read():
        if reads is not None:
            reads.append(name)
        return made

    return LabelledScene(name, shape, read)


def whole(s, split="train"):
    return Piece(s, s.window, split)


@pytest.fixture
def train(recipe):
    """train(pieces, **changes of the recipe)"""
    options = {"chip_size": 16, "batch": 4, "sampling": Sampling(samples=12), "seed": 5}
    more = {"value": 2, "name": "third", "color": "#000000"}
    options["classes"] = [*recipe().classes, more]
    return lambda pieces, **changes: TrainBatches(pieces, recipe(**{**options, **changes}), mean=ZERO, std=ONE)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(-5, 9), st.integers(-5, 9), st.integers(4, 32))
@settings(max_examples=80, deadline=None)
def test_every_pixel_counts_once_and_chips_stay_inside(h, w, y, x, size):
    within = Window(y, x, y + h, x + w)
    count = np.zeros((h, w), int)
    for chip, counted in grid(within, size):
        assert chip.intersect(counted) == counted
        count[counted.slices(within)] += 1
        if h >= size and w >= size:
            assert chip.intersect(within) == chip
    assert (count == 1).all()


def test_eval_batches_give_back_every_label():
    scenes = [scene("a"), scene("b", (17, 90), seed=1)]
    batches = EvalBatches([whole(s) for s in scenes], CLASSES, 16, 3)
    targets = np.concatenate([b.target.numpy().ravel() for b in batches.of()])
    expected = np.concatenate([s.read().target.ravel() for s in scenes])
    for k in range(3):
        assert (targets == k).sum() == (expected == k).sum()


def test_a_cut_beyond_the_edge_is_not_valid():
    s = scene(shape=(10, 10)).read()
    out = cut(s, Window(-4, 5, 12, 21), Window(0, 0, 10, 10), CLASSES)
    assert not out.valid[:4].any()
    assert (out.target[:, 5:] == IGNORE).all()
    np.testing.assert_array_equal(out.image[:, 4:14, :5], s.image[:, :, 5:])


def test_a_cut_never_shows_the_neighbour_piece():
    s = scene(shape=(10, 20)).read()
    out = cut(s, Window(0, 4, 10, 14), Window(0, 0, 10, 8), CLASSES)
    assert not out.valid[:, 4:].any()
    assert (out.image[:, :, 4:] == 0).all()


def flat(batches, epoch=0):
    return [b.image.numpy().copy() for b in batches.of(epoch)]


def test_batches_depend_on_seed_and_epoch_only(train):
    s = scene()
    one, two = train([whole(s)]), train([whole(s)])
    for a, b in zip(flat(one), flat(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(flat(one), flat(two, 3), strict=True))
    for a, b in zip(flat(train([whole(s)]), 3), flat(two, 3), strict=True):  # whatever came before
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_every_batch(processes, train):
    """Of each batch as many rows for everyone; what comes beyond the end is made twice. Together they are the batch."""
    pieces = [whole(scene()), whole(scene("b", (17, 90), seed=1))]
    rows = [partial(share, rank, processes) for rank in range(processes)]
    for of in (lambda rows: train(pieces).of(1, rows), EvalBatches(pieces, CLASSES, 16, 5).of):
        parts = [list(of(own)) for own in rows]
        for n, batch in enumerate(of(every)):
            assert {p[n].size for p in parts} == {len(batch.image)}
            made = [range(len(batch.image))[own(len(batch.image))] for own in rows]
            assert sorted({i for numbers in made for i in numbers}) == list(range(len(batch.image)))
            assert len({len(numbers) for numbers in made}) == 1
            for numbers, part in zip(made, parts, strict=True):
                assert torch.equal(part[n].image, batch.image[numbers.start : numbers.stop])
                assert torch.equal(part[n].target, batch.target[numbers.start : numbers.stop])


def test_the_last_batch_is_full(train):
    batches = train([whole(scene())], sampling=Sampling(samples=9))
    assert [len(b.image) for b in batches.of(0)] == [4, 4, 4]


def test_labelled_crops_always_hold_a_label(train):
    sparse = scene(shape=(200, 200), known=0.0002, seed=3)
    assert 1 <= (sparse.read().target != IGNORE).sum() < 20
    for kind in ("labelled", "balanced"):
        for batch in train([whole(sparse)], sampling=Sampling(kind=kind, samples=40)).of(0):
            assert (batch.target != IGNORE).flatten(1).any(1).all()


@pytest.mark.parametrize("kind", ["uniform", "labelled", "balanced"])
def test_sources_are_drawn_by_their_size_or_equally(train, kind):
    """Of images whose values say from which source they are: one of 400 pixels beside two of 3600."""
    towns = {"small/a": (20, 20), "big/a": (60, 60), "big/b/c": (60, 60)}
    pieces = []
    for value, (name, shape) in enumerate(towns.items(), 1):
        image = np.full((1, *shape), value, np.uint8)
        target = np.random.default_rng(value).integers(0, 3, shape).astype(np.uint8)
        made = Sample(image, np.ones(shape, bool), target)
        pieces.append(whole(LabelledScene(name, shape, lambda made=made: made)))
    for equally, least, most in ((False, 0, 40), (True, 160, 240)):
        sampling = Sampling(kind=kind, samples=400, equally=equally)
        seen = torch.cat([b.image.amax((1, 2, 3)) for b in train(pieces, sampling=sampling, chip_size=8).of(0)])
        counts = [int((seen == value).sum()) for value in (1, 2, 3)]
        assert least <= counts[0] <= most, counts
        assert min(counts[1:]) > 0.3 * sum(counts[1:]), counts


def test_balanced_crops_draw_classes_alike(train):
    rare = scene(shape=(100, 100), known=1.0)
    sample = rare.read()
    target = np.where(sample.target == IGNORE, IGNORE, 0).astype(np.uint8)
    target[50, 50] = 1
    sample.valid[50, 50] = True
    made = Sample(sample.image, sample.valid, target)
    s = LabelledScene("rare", (100, 100), lambda: made)
    hits = [
        int((b.target == 1).flatten(1).any(1).sum())
        for b in train([whole(s)], sampling=Sampling(kind="balanced", samples=200), chip_size=8).of(0)
    ]
    assert 70 <= sum(hits) <= 140


def test_crops_stay_in_their_piece(train):
    s = scene(shape=(40, 40), known=1.0)
    made = s.read()
    made.target[:, 20:] = np.where(made.valid[:, 20:], 2, IGNORE)
    made.target[:, :20] = np.where(made.valid[:, :20], 0, IGNORE)
    left = Piece(s, Window(0, 0, 40, 20), "train")
    for batch in train([left]).of(0):
        assert not (batch.target == 2).any()


def test_pieces_without_a_label_are_left_out_and_none_at_all_is_an_error(train):
    empty = scene("empty", known=0.0)
    batches = train([whole(empty), whole(scene())])
    assert [p.scene.id for p in batches.places.pieces] == ["a"]
    with pytest.raises(NothingFound, match="labelled"):
        train([whole(empty)])


def test_measure_is_numpy_over_the_valid_pixels():
    pieces = [whole(scene(seed=i, shape=(30 + i, 20))) for i in range(4)]
    pieces[1] = Piece(pieces[1].scene, Window(3, 2, 20, 11), "train")
    found = measure(pieces, CLASSES, Reader())
    values, labels = [], []
    for p in pieces:
        part, s = p.window.slices(p.scene.window), p.scene.read()
        values.append(s.image[0][part][s.valid[part]])
        labels.append(s.target[part].ravel())
    values, labels = np.concatenate(values).astype(float), np.concatenate(labels)
    assert found.pixels == len(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std())
    assert found.counted.tolist() == [(labels == k).sum() for k in range(3)]


def test_pixels_without_data_move_no_statistic():
    s = scene()
    clean = s.read()
    dirty = Sample(np.where(clean.valid, clean.image, np.uint8(255)), clean.valid, clean.target)
    a = measure([whole(s)], CLASSES, Reader())
    b = measure([whole(LabelledScene("d", s.shape, lambda: dirty))], CLASSES, Reader())
    assert a.mean == b.mean
    assert a.std == b.std


def test_a_constant_band_keeps_a_usable_std():
    flat_ = Sample.of(np.full((1, 5, 5), 7, np.uint8), np.ones((5, 5), bool), np.zeros((5, 5), np.uint8), CLASSES)
    assert measure([whole(LabelledScene("f", (5, 5), lambda: flat_))], CLASSES, Reader()).std == [1.0]


def test_the_reader_keeps_within_its_budget():
    reads: list[str] = []
    a, b = scene("a", reads=reads), scene("b", reads=reads)
    reader = Reader(budget=a.read().nbytes)
    reads.clear()
    for _ in range(3):
        reader(a), reader(b)
    assert reads == ["a", "b", "b", "b"]
