"""What every file in geoml/models whose task is the classes of points promises; a new file gets these tests too."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from geoml import models
from geoml.elevation.training.fit import set_loss
from geoml.engine.cards.point_classes import PointCard, PointClass
from geoml.engine.packages import points
from geoml.engine.packages.points import PointColumns, PointPackage
from geoml.errors import InputError, ModelError
from tests.unit.elevation.made import BUILDING, GROUND, TREE, cloud_of, scanned

NAMES = [n for n in models.names() if "point_classes" in models.find(n).TASKS]
CLASSES = tuple(PointClass(value=v, name=n) for v, n in ((GROUND, "ground"), (TREE, "tree"), (BUILDING, "building")))

LOOKS = 40

every_model = pytest.mark.parametrize("name", NAMES)


def card_of(name: str, **changed: Any) -> PointCard:
    config = {k: v for k, v in models.find(name).TINY.items() if k != "classes"}
    made = models.configure(name, {**config, "classes": 3})
    about = {"name": "tiny", "architecture": name, "config": config, "voxel": made.voxel, "radius": made.halo}
    return PointCard.model_validate({**about, "classes": CLASSES, **changed})


@cache
def package_of(name: str) -> PointPackage:
    """After some looks at clouds, so that it says more than one class."""
    card = card_of(name)
    torch.manual_seed(0)
    module = points.build(card).train()
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for seed in range(LOOKS):
        columns, code = scanned(seed, 24)
        order, x = points.arguments_of(card, columns)
        optimiser.zero_grad()
        set_loss(module(*x), torch.from_numpy(code[order][:, None] == [c.value for c in CLASSES])).backward()
        optimiser.step()
    return PointPackage(module.eval(), card, Path())


def logits(package: PointPackage, columns: PointColumns) -> torch.Tensor:
    order, x = points.arguments_of(package.card, columns)
    out = torch.empty(len(order), 3, dtype=torch.float64)
    with torch.inference_mode():
        out[order] = package.module(*x)
    return out


def within(columns: PointColumns, low: float, high: float) -> NDArray[np.bool_]:
    """Points in a square, in metres from the corner of `scanned`."""
    at = columns.points[:, :2] / 1000 - [1000, 2000]
    return ((at >= low) & (at < high)).all(1)


@every_model
def test_says_where_it_comes_from_and_what_it_is_for(name: str) -> None:
    file = models.find(name)
    assert "https://" in (file.__doc__ or "")
    assert file.TASKS == ("point_classes",)


@every_model
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    card = card_of(name)
    module = points.build(card).train()
    columns, code = scanned(0, 24)
    order, x = points.arguments_of(card, columns)
    set_loss(module(*x), torch.from_numpy(code[order][:, None] == [c.value for c in CLASSES])).backward()
    for weight, value in module.named_parameters():
        assert value.grad is not None, weight
        assert bool(torch.isfinite(value.grad).all()), weight


@every_model
def test_what_a_point_gets_is_of_no_order_and_of_no_point_beyond_the_halo(name: str) -> None:
    """Logits bit for bit: a square out of the middle with the halo about it, and the whole; wherever it is cut."""
    package = package_of(name)
    halo = package.halo
    columns, _ = scanned(7, 2 * halo + 16, density=2.0)
    whole = logits(package, columns)
    order = np.random.default_rng(1).permutation(len(whole))
    assert torch.equal(logits(package, columns.take(order)), whole[order])
    for low in (halo + 1.3, halo + 6.1):
        core, near = within(columns, low, low + 5), within(columns, low - halo, low + 5 + halo)
        assert core.sum() > 20
        assert not near.all()
        assert torch.equal(logits(package, columns.take(near))[core[near]], whole[core])


@every_model
def test_the_halo_is_not_much_too_large(name: str) -> None:
    """Points at the edge of some part of it do matter."""
    package = package_of(name)
    columns, _ = scanned(7, 2 * package.halo + 6, density=2.0)
    low = package.halo
    core, near = within(columns, low, low + 6), within(columns, low - package.halo / 4, low + 6 + package.halo / 4)
    assert not torch.equal(logits(package, columns.take(near))[core[near]], logits(package, columns)[core])


@every_model
def test_a_large_cloud_is_classified_in_parts_with_the_same_answer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = package_of(name)
    columns, _ = scanned(3, 4 * package.halo, density=1.0)
    whole = package.classify(cloud_of(columns))
    assert len(np.unique(whole)) > 1
    seen: list[int] = []
    tensors = models.find(name).tensors

    def counted(config: Any, some: NDArray[np.int64], known: NDArray[np.float64]) -> Any:
        seen.append(len(some))
        return tensors(config, some, known)

    monkeypatch.setattr(points, "MOST_POINTS", len(whole) // 3)
    monkeypatch.setattr(models.find(name), "tensors", counted)
    assert (package.classify(cloud_of(columns)) == whole).all()
    assert len(seen) > 2
    assert max(seen) < len(whole)


@every_model
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_takes_few_points_and_the_same_one_again(name: str, count: int) -> None:
    package = package_of(name)
    columns = PointColumns(*(column[:count] for column in scanned(0, 4)[0]))
    found = package.classify(cloud_of(columns))
    assert found.dtype == np.uint8
    assert set(found.tolist()) <= {c.value for c in CLASSES}
    twice = columns.take(np.repeat(np.arange(count), 2))
    assert package.classify(cloud_of(twice)).shape == (2 * count,)


@every_model
def test_save_and_load_give_the_same(name: str, tmp_path: Path) -> None:
    package = package_of(name)
    card = points.save(package.module, package.card, tmp_path / "tiny")
    loaded = points.load(tmp_path / "tiny")
    assert loaded.card == card
    columns, _ = scanned(2, 20)
    assert torch.equal(logits(loaded, columns), logits(package, columns))


@every_model
def test_a_card_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="radius"):
        points.build(card_of(name, radius=1.0))
    with pytest.raises(ModelError, match="expected one for points"):
        points.build(card_of(name, architecture="unet"))
    with pytest.raises(InputError, match="classes"):
        models.build(name, {**models.find(name).TINY, "classes": 1})
