"""A new source is one new file: found by name, with its own fields, errors and schema."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from geoml.data import sources
from geoml.data.prepare import prepare
from geoml.data.recipe import TrainRecipe
from geoml.data.source import SOURCES, FileSource, config_of
from geoml.errors import InputError
from geoml.recipe import parse

STRIPES = '''
"""Source ``stripes``: made images whose right part is bright."""

from functools import partial
from typing import Literal

import numpy as np
from pydantic import Field

from geoml.data.scene import LabelledScene, Sample
from geoml.data.source import SourceConfig
from geoml.data.target import pixels


class Config(SourceConfig):
    """Made images."""

    kind: Literal["stripes"]
    count: int = Field(ge=3, description="images")


def scenes(source, recipe):
    kind = pixels(recipe)

    def read(n):
        image = np.zeros((len(recipe.bands), 16, 16), np.float32)
        image[:, :, n + 4 :] = source.count
        target = kind.of_raster(np.minimum(image[0], 1), np.ones((16, 16), bool), "made", {}, ())
        return Sample.of(image, np.ones((16, 16), bool), target, kind)

    names = "tva" + "a" * (source.count - 3)
    return [LabelledScene(f"{name}{n}", (16, 16), partial(read, n)) for n, name in enumerate(names)]
'''


@pytest.fixture
def stripes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "stripes.py").write_text(STRIPES)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path / "plugin")])
    yield
    sys.modules.pop("geoml.data.sources.stripes", None)


@pytest.mark.usefixtures("stripes")
def test_a_source_is_added_as_a_file(recipe):
    value = recipe().model_dump(mode="json") | {"source": {"kind": "stripes", "count": 5}}
    made = parse(TrainRecipe, {**value, "split": {"kind": "files", "val": ["v*"], "test": ["t*"]}}, "recipe")
    assert parse(TrainRecipe, made.model_dump(mode="json"), "again") == made
    assert TrainRecipe.model_validate_json(made.model_dump_json()) == made
    assert made.hash != made.model_copy(update={"source": config_of("stripes")(kind="stripes", count=6)}).hash
    with pytest.raises(InputError, match=r"source\.count: Input should be greater"):
        parse(TrainRecipe, {**value, "source": {"kind": "stripes", "count": 1}}, "recipe")
    kinds = [one["properties"]["kind"]["const"] for one in schema()["oneOf"]]
    assert "stripes" in kinds
    (piece,) = prepare(made.model_copy(update={"seed": 1}))["test"]
    sample = piece.scene.read()
    assert (sample.target == np.minimum(sample.image[0], 1)).all()


def schema() -> dict:
    return TrainRecipe.model_json_schema()["properties"]["source"]


def test_every_source_says_its_fields_and_their_meaning():
    assert [one["properties"]["kind"]["const"] for one in schema()["oneOf"]] == SOURCES.names()
    for name in SOURCES.names():
        kind = config_of(name)
        assert kind.__doc__
        assert kind.model_fields["kind"].annotation.__args__ == (name,)
        if issubclass(kind, FileSource):
            assert {"root", "file_bands"} <= set(kind.model_fields)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"kind": "pears"}, "did you mean .pairs"),
        ({}, "source"),
        ("pairs", "source"),
        ({"kind": "pairs"}, r"source\.root: Field required"),
        ({"kind": "pairs", "rot": "x"}, r"source\.rot: Extra inputs"),
    ],
)
def test_a_wrong_source_is_named(recipe, source, says):
    with pytest.raises(InputError, match=says):
        parse(TrainRecipe, {**recipe().model_dump(mode="json"), "source": source}, "recipe")


@pytest.mark.usefixtures("stripes")
def test_one_of_several_sources_is_held_out_as_a_whole(recipe):
    towns = {name: {"kind": "stripes", "count": n} for name, n in (("north", 4), ("south", 3))}
    split = {"kind": "files", "test": ["south/*"], "val": ["north/v*"]}
    value = recipe().model_dump(mode="json") | {"source": {"kind": "several", "of": towns}, "split": split}
    made = parse(TrainRecipe, value, "recipe")
    assert parse(TrainRecipe, made.model_dump(mode="json"), "again").hash == made.hash
    splits = prepare(made)
    assert [p.scene.id for p in splits["test"]] == ["south/t0", "south/v1", "south/a2"]
    assert [p.scene.id for p in splits["val"]] == ["north/v1"]
    sample = splits["train"][0].scene.read()
    assert (sample.target == np.minimum(sample.image[0], 1)).all()
    longer = {**value, "source": {"kind": "several", "of": {**towns, "south": {"kind": "stripes", "count": 9}}}}
    assert parse(TrainRecipe, longer, "recipe").hash != made.hash


def test_several_sources_have_equally_many_dates(recipe):
    one = recipe().model_dump(mode="json")["source"]
    two = {"kind": "change_pairs", "root": ".", "images": ["a{id}", "b{id}"], "labels": "{id}", "file_bands": ["red"]}
    value = recipe().model_dump(mode="json") | {"source": {"kind": "several", "of": {"one": one, "two": two}}}
    with pytest.raises(InputError, match="different dates"):
        parse(TrainRecipe, value, "recipe")
