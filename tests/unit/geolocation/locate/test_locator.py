"""Locators: features are computed once, a trained head finds made places, a package comes back as it was saved."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from geoml.backends.torch import choose
from geoml.engine.packages import cards
from geoml.errors import DataError, InputError, ModelError
from geoml.geolocation.cards.locator import FittedCalibration, FittedDomain, LocatorCard
from geoml.geolocation.locate import features, locator
from geoml.geolocation.nn.backbones import Backbone
from geoml.geolocation.nn.domains import DomainHead
from geoml.geolocation.training import head as fit_locator
from geoml.geolocation.training.recipe import Calibration, GeoRecipe, HeadTraining
from geoml.geolocation.training.world_sets import FeatureSet
from geoml.grid import sphere
from geoml.nn.weights import precision

TOWNS = np.array([[179.5, 10.0], [-60.0, -20.0], [20.0, 88.0], [100.0, 40.0]])


class Colours(torch.nn.Module):
    """Mean colour of the four quarters: a backbone that takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1) * self.scale


def backbone() -> Backbone:
    return Backbone("colours", Colours(), 12, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 255, (count, 16, 16, 3), np.uint8))


def towns(count: int, seed: int, noise: float = 0.3) -> FeatureSet:
    """Features that tell four towns apart, places within some 50 km of them: over the antimeridian, near a pole."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 4, count)
    x = np.eye(4)[which].repeat(3, 1) + rng.normal(0, noise, (count, 12))
    lon, lat = sphere.destination(*TOWNS[which].T, rng.uniform(0, 360, count), rng.uniform(0, 50, count))
    return FeatureSet(x.astype(np.float32), lon, lat)


def trained(name: str = "cells", **config: object) -> torch.nn.Module:
    how = HeadTraining(epochs=20, batch=64, lr=1e-2)
    return fit_locator.train_head(name, {"hidden": 16, **config}, towns(300, 0), how, seed=1)


@pytest.fixture(scope="module")
def cells() -> torch.nn.Module:
    return trained(most=90, least=3)


def test_features_are_computed_once_and_in_order(tmp_path):
    seen = pictures(70)
    extractor = features.Extractor(backbone(), device=choose("cpu", "fp32"))
    first = features.compute(seen, extractor, tmp_path)
    normal = (np.stack(seen) / 255 - 0.5) / 0.2
    quarters = normal.reshape(70, 2, 8, 2, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2).reshape(70, 12)
    assert np.abs(first - quarters).max() < 2e-3
    calls = []
    extractor.backend.module.register_forward_hook(lambda *_: calls.append(1))
    again = features.compute(reversed(seen), extractor, tmp_path)
    assert (again == first[::-1]).all()
    assert not calls
    features.compute([*seen, *pictures(1, 9)], extractor, tmp_path)
    assert len(calls) == 1


def test_a_run_that_stopped_goes_on_after_its_last_part(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "PART", 32)
    seen, extractor = pictures(96), features.Extractor(backbone(), device=choose("cpu", "fp32"))

    def broken():
        yield from seen[:64]
        raise DataError("the disk is gone")

    with pytest.raises(DataError, match="the disk is gone"):
        features.compute(broken(), extractor, tmp_path)
    rows = []
    extractor.backend.module.register_forward_hook(lambda _m, x, _y: rows.append(len(x[0])))
    got = features.compute(seen, extractor, tmp_path)
    assert sum(rows) <= 64
    assert (got == features.compute(seen, extractor)).all()


def test_other_weights_another_size_and_a_damaged_cache_are_not_mixed_up(tmp_path):
    one, device = backbone(), choose("cpu", "fp32")
    other = backbone()
    with torch.no_grad():
        other.net.scale.fill_(2.0)
    a, b = (features.compute(pictures(3), features.Extractor(m, device=device), tmp_path) for m in (one, other))
    assert b == pytest.approx(2 * a, rel=1e-2)
    extractor = features.Extractor(one, device=device)
    part = next((tmp_path / extractor.tag).iterdir())
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(DataError, match="delete it"):
        features.compute(pictures(3), extractor, tmp_path)
    with pytest.raises(InputError, match="expected"):
        features.compute([np.zeros((8, 8, 3), np.uint8)], extractor)
    assert features.compute([], extractor).shape == (0, 12)


def test_a_trained_head_finds_places_that_it_did_not_see_and_repeats(cells):
    test = towns(200, 7)
    at = locator.head_density(cells, test.features).mode()
    assert np.median(sphere.distance(*at, test.lon, test.lat)) < 60
    same = trained(most=90, least=3)
    assert all((v == same.state_dict()[k]).all() for k, v in cells.state_dict().items())


def test_calibration_mends_a_head_that_is_too_sure(cells):
    seen = towns(400, 8, noise=1.2)
    raw = locator.head_density(cells, seen.features)
    t, spread = fit_locator.temperature(raw, seen.lon, seen.lat)
    before = -raw.log_density(seen.lon, seen.lat).mean()
    after = -raw.tempered(t, spread).log_density(seen.lon, seen.lat).mean()
    assert t > 1
    assert after < before


def test_sets_and_threshold_keep_their_promise_on_other_pictures(cells):
    how = Calibration(alpha=0.1, precision=0.9)
    found = fit_locator.calibrate(cells, towns(800, 9, noise=0.9), how)
    row = fit_locator.evaluate(cells, found, towns(800, 10, noise=0.9), draws=20)
    assert 0.85 <= row["conformal"]["coverage"] <= 0.96
    assert row["precision"] >= 0.85
    assert row["within_at_coverage"]["0.5"] >= row["within_at_coverage"]["1"]
    assert row["within_at_coverage"]["1"] == pytest.approx(row["within_750"])
    assert row["interval"]["within_750"][0] <= row["within_750"] <= row["interval"]["within_750"][1]
    with pytest.raises(InputError, match="at least 20"):
        fit_locator.calibrate(cells, towns(10, 1), how)


def card_of(head: torch.nn.Module, **other: object) -> LocatorCard:
    return LocatorCard(
        name="made", kind="overhead", license="MIT", data_license="CC0-1.0", backbone="timm:test_resnet.r160_in1k",
        head="cells", head_config=dict(head.config.__dict__), features=12, size=16,
        mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), **other,
    )  # fmt: skip


def saved(tmp_path, half: bool = False) -> tuple[locator.Locator, LocatorCard]:
    made = locator.build_backbone("efficientnet-lite0-stages")
    x = towns(100, 0)
    wide = FeatureSet(np.resize(x.features, (100, made.features)), x.lon, x.lat)
    head = fit_locator.train_head("cells", {"hidden": 8, "most": 40}, wide, HeadTraining(epochs=1), 0)
    card = card_of(head, calibration=FittedCalibration(temperature=1.5, threshold=0.4)).model_copy(
        update={"backbone": made.name, "features": made.features}
    )
    whole = locator.Locator(made.eval(), head, card)
    return whole, locator.save(whole, tmp_path, half)


@pytest.fixture(scope="module")
def package_of_cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("locator")
    saved(folder)
    return folder


@pytest.mark.parametrize(("half", "near"), [(False, 1e-6), (True, 0.02)])
def test_a_package_answers_as_before_it_was_saved(tmp_path, half, near):
    before, card = saved(tmp_path, half)
    after = locator.load(tmp_path)
    assert after.card == card
    x = np.random.default_rng(0).normal(0, 1, (5, before.card.features)).astype(np.float32)
    a, b = before.locate(x), after.locate(x)
    assert np.abs(a.weight - b.weight).max() < near
    assert before.extractor(np.zeros((1, 16, 16, 3), np.uint8)) == pytest.approx(
        after.extractor(np.zeros((1, 16, 16, 3), np.uint8)), abs=0.05
    )
    item = json.loads((tmp_path / cards.CARD).read_text())
    assert item["properties"]["license"] == "MIT"
    assert item["properties"]["geoml:locator"]["calibration"]["threshold"] == 0.4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": "alexnett"}, "did you mean 'alexnet'"),
        ({"head": "cell"}, "did you mean 'cells'"),
        ({"head_config": {"hidden": 8}}, "features"),
        ({"features": 13}, "has 736 features, not 13"),
        ({"size": 4}, "size"),
        ({"format": 2}, "format"),
        ({"strange": 1}, "strange"),
    ],
)
def test_a_card_that_fits_no_network_is_refused(package_of_cells, tmp_path, change, message):
    shutil.copytree(package_of_cells, tmp_path / "p")
    item = json.loads((tmp_path / "p" / cards.CARD).read_text())
    item["properties"]["geoml:locator"] |= change
    (tmp_path / "p" / cards.CARD).write_text(json.dumps(item))
    with pytest.raises(ModelError, match=message):
        locator.load(tmp_path / "p")


def test_what_learnt_what_it_is_not_for_is_loaded_in_eval_mode_and_named_where_it_is_gone(tmp_path):
    """The tensors of a head that the card does not speak of are not passed over in silence."""
    whole, _ = saved(tmp_path / "without")
    limit = FittedDomain(kinds=("sea",), hidden=4, limit=0.0, kept=1.0)
    domain = DomainHead(whole.card.features, 1, 4)
    both = dataclasses.replace(whole, card=whole.card.model_copy(update={"domain": limit}), domain=domain)
    locator.save(both, tmp_path / "with", half=False)
    again = locator.load(tmp_path / "with")
    assert not any(m.training for part in (again.backbone, again.head, again.domain) for m in part.modules())
    for given, said, message in (("with", None, "unexpected domain"), ("without", limit, "missing domain")):
        card = locator.load(tmp_path / given).card.model_copy(update={"domain": said})
        cards.write(card, tmp_path / given)
        with pytest.raises(ModelError, match=message):
            locator.load(tmp_path / given)


def test_a_recipe_never_trains_on_the_month_that_tests():
    source = {"kind": "world", "picture": "a.jpg", "land": "l.bin", "renderings": ["b.jpg"], "other": "b.jpg"}
    value = {"task": "geolocation", "name": "x", "license": "MIT", "data_license": "CC0-1.0", "head": {"name": "cells"}}
    with pytest.raises(ValueError, match="other month"):
        GeoRecipe.model_validate({**value, "source": source})
    good = {**source, "other": "c.jpg"}
    assert (
        GeoRecipe.model_validate({**value, "source": good}).hash
        != GeoRecipe.model_validate({**value, "source": good, "seed": 1}).hash
    )
    with pytest.raises(ValueError, match="nothing to train"):
        GeoRecipe.model_validate({**value, "source": good, "split": {"test": 0.5, "val": 0.5}})


def test_a_gallery_in_eight_bits_finds_the_same_neighbours():
    rows = torch.nn.functional.normalize(torch.randn(200, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    kept = precision.stored({"gallery": rows, "other": rows[0]}, half=True, int8=False, packed="gallery")
    assert kept["gallery"].dtype == torch.int8
    again = precision.unpacked(kept, "weights")
    assert set(again) == {"gallery", "other"}
    assert (again["gallery"] @ rows.T - rows @ rows.T).abs().max() < 0.01
