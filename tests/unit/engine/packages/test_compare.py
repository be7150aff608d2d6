"""From a package of segmentation to one of change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from geoml.cli import app
from geoml.engine.contract import output_of
from geoml.engine.packages import cards, package
from geoml.engine.packages.compare import compare
from geoml.engine.packages.package import Package
from geoml.errors import InputError
from geoml.io.cards.map_card import TEMPERATURE, Band, ClassInfo, MapCard


def land(count: int = 3, **changes: object) -> Package:
    """A segmentation whose class values are not their positions."""
    names = ("land", "water", "ice") if count == 3 else [f"c{k}" for k in range(count)]
    card = MapCard(
        name="land",
        architecture="segnet",
        config={"bands": 2, "classes": count, "channels": [4, 4], "convolutions": [1, 1]},
        bands=(Band(name="vv", mean=-11.0, std=4.0), Band(name="vh", mean=-18.0, std=5.0)),
        gsd=20.0,
        anchor=0.5,
        chip_size=128,
        classes=tuple(ClassInfo(value=3 * k + 1, name=n, color="#0000ff") for k, n in enumerate(names)),
        nodata=0,
        sha256="ab",
        scores={"miou": 0.5},
    ).model_copy(update=changes)
    torch.manual_seed(0)
    return Package(package.build(card).eval(), card, Path())


def test_every_pair_of_classes_is_one(tmp_path: Path) -> None:
    source = land()
    made = compare(source)
    card = made.card
    assert [(c.value, c.name, c.before, c.after) for c in card.classes] == [
        (0, "unchanged", None, None),
        (1, "land to water", "land", "water"),
        (2, "land to ice", "land", "ice"),
        (3, "water to land", "water", "land"),
        (4, "water to ice", "water", "ice"),
        (5, "ice to land", "ice", "land"),
        (6, "ice to water", "ice", "water"),
    ]
    assert (card.task, card.dates, card.gsd, card.anchor, card.nodata) == ("change", 2, 20.0, 0.5, 255)
    assert card.bands == source.card.bands
    assert card.scores == {}  # those of the maps are not those of their comparison
    written = package.save(made.module, card, tmp_path / "p")
    assert package.load(tmp_path / "p").card == written
    assert written.stride == 2 or written.stride == 4


def test_the_weights_are_those_of_the_segmentation(tmp_path: Path) -> None:
    source = land()
    made = compare(source, binary=True)
    assert [c.name for c in made.card.classes] == ["unchanged", "changed"]
    package.save(made.module, made.card, tmp_path / "p")
    x = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = source.module(x[:, :2]).softmax(1), source.module(x[:, 2:]).softmax(1)
        found = package.load(tmp_path / "p").module(x).softmax(1)
    torch.testing.assert_close(found[:, 1], 1 - (first * second).sum(1), atol=1e-5, rtol=1e-4)
    same = torch.cat([x[:, :2], x[:, :2]], 1)
    assert compare(source).module(same).shape == (1, 7, 24, 24)


def test_maps_that_are_calibrated_are_compared_as_they_are(tmp_path: Path) -> None:
    source = land()
    card = source.card.model_copy(update={"made": {TEMPERATURE: 3.0}})
    made = compare(package.Package(source.module, card, source.path), binary=True)
    x = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = (output_of(card).average(source.module(part)) for part in x.split(2, dim=1))
        found = made.module(x).softmax(1)
    torch.testing.assert_close(found[:, 1], 1 - (first * second).sum(1), atol=1e-5, rtol=1e-4)
    assert made.card.made == {}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "change"}, "expected segmentation"),
        ({"dates": 2}, "2 dates"),
        ({"architecture": "exported"}, "exported program"),
    ],
)
def test_what_cannot_be_compared_is_refused(changes: dict[str, object], says: str) -> None:
    source = land()
    with pytest.raises(InputError, match=says):
        compare(replace(source, card=source.card.model_copy(update=changes)))


def test_too_many_and_too_few_classes_are_refused() -> None:
    assert len(compare(land(16)).card.classes) == 241
    with pytest.raises(InputError, match="17 give 273"):
        compare(land(17))
    assert len(compare(land(17), binary=True).card.classes) == 2
    with pytest.raises(InputError, match="at least two"):
        compare(land(1))


def test_the_command_writes_a_package(tmp_path: Path) -> None:
    source = land()
    package.save(source.module, source.card, tmp_path / "land")
    run = CliRunner().invoke(app, ["models", "compare", str(tmp_path / "land"), "--out", str(tmp_path / "change")])
    assert run.exit_code == 0, run.output
    card = package.load(tmp_path / "change").card
    assert (card.name, len(card.classes)) == ("change", 7)
    assert card.training["compared"]["sha256"] == cards.read_any(tmp_path / "land").sha256
    words = ["models", "compare", str(tmp_path / "land"), "--out", str(tmp_path / "two"), "--binary"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len(cards.read(tmp_path / "two", MapCard).classes) == 2
    words = ["models", "compare", str(tmp_path / "two"), "--out", str(tmp_path / "three")]
    assert CliRunner().invoke(app, words).exit_code == InputError.exit_code
    assert not (tmp_path / "three").exists()
