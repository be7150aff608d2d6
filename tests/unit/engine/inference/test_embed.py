"""Embeddings of every pixel: checked first, the same however they are cut, NaN where nothing was seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geoml import models
from geoml.cube.profile import fit
from geoml.cube.series import Series
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.inference import embed
from geoml.engine.inference.embed import PixelEmbedder, series_of
from geoml.engine.packages import encoder
from geoml.engine.pixels import Pixels
from geoml.errors import InputError, ModelError
from geoml.grid.plane import Plane, Window
from geoml.io.cards.map_card import Band

SHAPE = (30, 40)
NAMES = [n for n in models.names() if hasattr(models.find(n), "encoder")]


def series(shape: tuple[int, int] = SHAPE, steps: int = 3) -> Series:
    random = np.random.default_rng(0)
    shared = random.normal(0, 0.1, (steps, 1, *shape))
    values = (10 ** (np.array([-1.1, -0.5])[None, :, None, None] + shared)).astype(np.float32)
    values *= (1 + 0.02 * random.normal(size=values.shape)).astype(np.float32)
    looks = random.random((steps, *shape)) < 0.7
    looks[:, 3, 5] = False
    values[np.broadcast_to(~looks[:, None], values.shape)] = np.nan
    place = np.stack(np.meshgrid(np.linspace(5, 5.1, shape[1]), np.linspace(50.1, 50, shape[0])))
    return Series(("red", "nir"), values, looks, tuple(k % 12 for k in range(steps)), place.astype(np.float32))


def seen(of: Series) -> NDArray[np.float32]:
    found: NDArray[np.float32] = of.values.transpose(0, 2, 3, 1)[of.looks]
    return found


def made(name: str, folder: Path) -> PixelEmbedder:
    """A small encoder with weights by chance, which takes near infrared first; read from its package."""
    torch.manual_seed(0)
    tokens = {"ndvi": [1, 0], "groups": [[0], [1]]}
    known = models.find(name).Config.__dataclass_fields__
    config = {**models.find(name).TINY, **{k: v for k, v in tokens.items() if k in known}}
    module = models.encoder(name, {**config, "bands": 2})
    card = EncoderCard(
        name="made",
        architecture=name,
        config=config,
        bands=(Band(name="nir", mean=0.1, std=0.2, unit="reflectance"), Band(name="red", unit="reflectance")),
        level="L1C",
        gsd=10,
        steps=24,
        width=int(module.width),
        profile=fit(seen(series())[:, ::-1], "made"),
    )
    written = encoder.save(module, card, folder / name)
    loaded = encoder.load(folder / name)
    assert loaded.card == written
    return PixelEmbedder(loaded)


@pytest.fixture(params=NAMES)
def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> PixelEmbedder:
    return made(request.param, tmp_path)


def test_is_the_encoder_on_scaled_values_in_the_order_of_the_card(embedder: PixelEmbedder) -> None:
    given = series()
    found = embedder.embed(given, (5, 50, 5.1, 50.1))
    assert found.doubt == ""
    assert np.array_equal(found.valid, given.looks.any(axis=0))
    assert np.isnan(found.vectors[:, ~found.valid]).all()
    values = np.stack([(given.values[:, 1] - 0.1) / 0.2, given.values[:, 0]], axis=1)
    values = np.where(given.looks[:, None], values, 0).astype(np.float32)
    context = {
        "looks": torch.from_numpy(given.looks)[None],
        "months": torch.tensor([given.months]),
        "place": torch.from_numpy(given.place)[None],
    }
    with torch.no_grad():
        asked = {k: v for k, v in context.items() if k in embedder.asks}
        usual = embedder.module(torch.from_numpy(values).reshape(1, 6, *SHAPE), **asked)[0].numpy()
    np.testing.assert_allclose(found.vectors[:, found.valid], usual[:, found.valid], atol=1e-5)


def test_is_the_same_byte_for_byte_however_it_is_cut(embedder: PixelEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    given = series()
    whole = embedder.embed(given, origin=(-8, 8)).vectors
    monkeypatch.setattr(embed, "SIDE", 8)
    assert np.array_equal(embedder.embed(given, origin=(-8, 8)).vectors, whole, equal_nan=True)
    assert given.place is not None
    for y, x in (slice(0, 16), slice(8, 40)), (slice(16, 30), slice(0, 16)):
        part = replace(given, values=given.values[:, :, y, x], looks=given.looks[:, y, x], place=given.place[:, y, x])
        found = embedder.embed(part, origin=(-8 + y.start, 8 + x.start)).vectors
        assert np.array_equal(found, whole[:, y, x], equal_nan=True)


def test_what_is_wrong_is_refused_before_a_piece_is_computed(embedder: PixelEmbedder) -> None:
    given = series()
    embedder.module.register_forward_pre_hook(lambda *_: pytest.fail("the encoder ran"))
    with pytest.raises(ModelError, match="scale"):
        embedder.embed(replace(given, values=given.values * 1e4))
    with pytest.raises(ModelError, match=r"bands: .*nir holds red"):
        embedder.embed(replace(given, values=given.values[:, ::-1]))
    with pytest.raises(InputError, match="bands: nir of 2 not among red, green"):
        embedder.embed(replace(given, bands=("red", "green")))
    with pytest.raises(InputError, match="looks: none"):
        embedder.embed(replace(given, looks=np.zeros_like(given.looks)))
    with pytest.raises(InputError, match="steps: 25 given; made takes at most 24"):
        embedder.embed(series((8, 8), 25))
    with pytest.raises(InputError, match="swapped"):
        embedder.embed(replace(given, place=given.place[::-1]), (5, 50, 5.1, 50.1))  # type: ignore[index]


def test_an_encoder_that_asks_for_places_is_not_run_without(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="place: not given; made asks for longitude and latitude"):
        made("presto", tmp_path).embed(replace(series(), place=None))


def test_what_the_input_reads_becomes_a_series() -> None:
    looks = np.array([[[True, False]], [[True, True]]])
    data = np.arange(8, dtype=np.uint16).reshape(4, 1, 2)
    plane, window = Plane("EPSG:32633", 10.0), Window(0, 0, 1, 2)
    pixels = Pixels(data, looks.sum(0, dtype=np.uint16), (0.5,) * 4, (1.0,) * 4, window, (), plane, looks, (4, 11))
    found = series_of(pixels, ("red", "nir"), "L1C")
    assert found.values.tolist() == [[[[1, 1.5]], [[2, 2.5]]], [[[3, 3.5]], [[4, 4.5]]]]
    assert (found.months, found.level) == ((4, 11), "L1C")
    assert found.place is not None
    assert found.place.shape == (2, 1, 2)
    with pytest.raises(InputError, match="looks: not known"):
        series_of(replace(pixels, looks=None), ("red", "nir"))


def test_a_package_whose_card_and_weights_disagree_is_refused(tmp_path: Path) -> None:
    embedder = made("presto", tmp_path)
    with pytest.raises(ModelError, match="width is 32, the card says 64"):
        encoder.build(embedder.card.model_copy(update={"width": 64}))
    with pytest.raises(ModelError, match="encoder: 'unet' is not known"):
        encoder.build(embedder.card.model_copy(update={"architecture": "unet"}))
