"""A locator that learns what it is not for: it says so, keeps what it is for, and is written small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from PIL import Image
from rasterio.io import MemoryFile

from geoml.errors import InputError, ModelError
from geoml.geolocation.locate import localizability as localize
from geoml.geolocation.locate import locate as geolocate
from geoml.geolocation.locate import locator, verify
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.recipe import VerifyRecipe
from geoml.geolocation.training import domain as fit_domain
from geoml.geolocation.training import head as fit_locator
from geoml.geolocation.training.recipe import OutlierExposure
from geoml.geolocation.training.sampling import FeatureBatches
from geoml.testing import pictures as photos
from geoml.testing.pictures import world_recipe
from tests import geolocation_rows


@pytest.fixture(scope="module")
def trained(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Locator, Locator]:
    """As it was trained and as it is read again: in 8 bits, with the head that tells what it is not for."""
    source = world_recipe(made).source.model_dump() | {"foreign": {"pictures": 60, "calibration": 30, "kept": 0.9}}
    head = {"name": "cells_retrieval", "config": {"hidden": 32, "most": 40, "least": 3, "dims": 16}}
    easy = {"within_km": 5000.0, "precision": 0.5}
    given = world_recipe(made, source=source, head=head, int8=True, calibration=easy)
    folder = tmp_path_factory.mktemp("model")
    found = fit_locator.fit(given, folder, tmp_path_factory.mktemp("cache"))
    return found, locator.load(folder)


def clouds(count: int, middle: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(middle, 1.0, (count, 12)).astype(np.float32)


def test_the_head_tells_kinds_apart_and_keeps_the_asked_share() -> None:
    other = {"near": clouds(200, 3, 1), "far": clouds(200, -4, 2)}
    how = OutlierExposure(hidden=32, epochs=150, kept=0.95)
    domain = fit_domain.fit(clouds(600, 0, 0), other, how, seed=0)
    told = fit_domain.choose(domain, clouds(400, 0, 3), {"near": clouds(100, 3, 4), "far": clouds(100, -4, 5)}, how)
    assert told.kept == pytest.approx(0.95, abs=0.01)
    assert min(told.refused.values()) > 0.95
    assert told.kinds == ("near", "far")
    with pytest.raises(InputError, match="at least 20"):
        fit_domain.choose(domain, clouds(5, 0, 3), other, how)


def test_a_training_that_was_killed_ends_with_the_same_weights(tmp_path: Path, monkeypatch: Any) -> None:
    data = clouds(600, 0, 0), {"near": clouds(200, 3, 1), "far": clouds(200, -4, 2)}
    how, read = OutlierExposure(hidden=16, epochs=4), FeatureBatches.__call__
    whole = fit_domain.fit(*data, how, seed=0)

    def dying(self: FeatureBatches, epoch: int, part: Any) -> Any:
        for n, batch in enumerate(read(self, epoch, part)):
            if (epoch, n) == (2, 1):
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(FeatureBatches, "__call__", dying)
        with pytest.raises(KeyboardInterrupt):
            fit_domain.fit(*data, how, 0, tmp_path)
    found = fit_domain.fit(*data, how, 0, tmp_path).state_dict()
    assert all(torch.equal(v, found[k]) for k, v in whole.state_dict().items())


def test_what_is_written_answers_as_what_was_trained(trained: tuple[Locator, Locator]) -> None:
    first, again = trained
    assert again.card == first.card
    assert again.domain is not None
    features = first.extractor(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8))
    assert (
        again.extractor(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)) == features
    ).all()
    assert again.out_of_domain(features) == first.out_of_domain(features)
    one, two = first.locate(features), again.locate(features)
    assert np.abs(np.stack(one.mode()) - np.stack(two.mode())).max() < 1e-3
    assert again.head.retrieval.gallery.shape[1] == 16  # type: ignore[union-attr, index]


def test_weights_in_8_bits_are_near_and_half_the_size(trained: tuple[Locator, Locator], tmp_path: Path) -> None:
    found, _ = trained
    torch.manual_seed(1)
    whole = torch.nn.Sequential(torch.nn.Conv2d(64, 128, 1), torch.nn.Conv2d(128, 128, 3, groups=128))
    rounded = locator.rounded(whole, True, True)
    for name, wanted in whole.state_dict().items():
        value = rounded.state_dict()[name]
        assert (value - wanted).abs().max() <= wanted.abs().max() / 250, name
    assert not torch.equal(rounded[0].weight, whole[0].weight)
    assert torch.equal(locator.rounded(rounded, True, True)[0].weight, rounded[0].weight), (
        "rounding again changes nothing"
    )
    assert torch.equal(rounded[1].weight, whole[1].weight.half().float()), "rows of nine values stay in half precision"
    sizes = []
    for name, int8 in (("half", False), ("small", True)):
        locator.save(found, tmp_path / name, True, int8)
        sizes.append((tmp_path / name / "model.safetensors").stat().st_size)
    assert sizes[1] < 0.75 * sizes[0]
    damaged = (tmp_path / "small" / "model.safetensors").read_bytes()
    (tmp_path / "small" / "model.safetensors").write_bytes(damaged[:-4] + b"\xff\xff\xff\xff")
    with pytest.raises(ModelError, match="damaged"):
        locator.load(tmp_path / "small")


def test_scores_count_what_is_refused(trained: tuple[Locator, Locator]) -> None:
    card = trained[0].card
    assert card.domain is not None
    assert set(card.domain.refused) == {"sea", "blank", "other width", "other rendering"}
    for row in card.scores.values():
        assert 0 <= row["unlike"]["all"] <= 1
        assert row["answered"] <= 1 - row["unlike"]["all"] + 1e-9


def test_a_locator_that_has_not_learnt_it_answers_everything(tmp_path: Path) -> None:
    plain = photos.made_locator(tmp_path)
    assert plain.domain is None
    assert plain.out_of_domain(np.zeros((3, plain.card.features), np.float32)) == [None] * 3


def rows(found: Locator, folder: Path, out: Path) -> dict[str, dict]:
    geolocate.geolocate([folder], found, out)
    return {row["image_id"]: row for row in geolocation_rows.read(out)}


def test_a_picture_that_it_is_not_for_gets_no_place(
    trained: tuple[Locator, Locator], made: Path, tmp_path: Path
) -> None:
    found = trained[1]
    assert found.card.domain is not None
    strict, open_ = (
        Locator(found.backbone, found.head, found.card.model_copy(
            update={"domain": found.card.domain.model_copy(update={"limit": limit})}), domain=found.domain)
        for limit in (1e9, -1e9)
    )  # fmt: skip
    photos.write(tmp_path / "in" / "a.png", photos.picture(0, 1))
    given = rows(open_, tmp_path / "in", tmp_path / "open.parquet")["a.png"]
    refused = rows(strict, tmp_path / "in", tmp_path / "strict.parquet")["a.png"]
    assert "which the locator is not for" in refused["reason"]
    assert (refused["status"], refused["lon"], refused["topk"], refused["localizable"]) == (
        "abstained",
        None,
        None,
        False,
    )
    assert "not for" not in (given["reason"] or "")
    (score,) = localize.localizability([tmp_path / "in"], strict)
    assert (score["status"], score["score"]) == ("abstained", None)
    (evidence,) = verify.verify([tmp_path / "in"], strict, VerifyRecipe(lon=1.0, lat=2.0))
    assert (evidence.verdict, evidence.log_likelihood_ratio) == ("does not tell", None)
    assert "not for" in str(evidence.reason)


@pytest.mark.parametrize(
    ("res", "fits"), [(0.6, False), (100.0, False), (4000.0, True), (12_000.0, True), (40_000.0, False)]
)
def test_what_a_raster_says_of_its_width_counts(trained, tmp_path: Path, res: float, fits: bool) -> None:
    found = trained[1]
    card = found.card.model_copy(update={"width_km": (200.0, 1000.0), "domain": None})
    (tmp_path / "in").mkdir()
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", height=64, width=80, count=3, dtype="uint8", crs="EPSG:3035",
                         transform=Affine(res, 0, 4_321_000, 0, -res, 3_210_000)) as file:  # fmt: skip
            file.write(np.moveaxis(photos.picture(1, 3), -1, 0)[:, :64, :80])
        (tmp_path / "in" / "a.tif").write_bytes(memory.read())
    Image.fromarray(photos.picture(1, 3)).save(tmp_path / "in" / "b.png")
    both = rows(Locator(found.backbone, found.head, card), tmp_path / "in", tmp_path / "out.parquet")
    assert ("the locator is for 200 to 1000 km" in (both["a.tif"]["reason"] or "")) is not fits
    assert (both["a.tif"]["status"] == "abstained") is (not fits) or fits
    assert "km, the locator is for" not in (both["b.png"]["reason"] or "")
    if not fits:
        assert both["a.tif"]["lon"] is None
