"""What fields say of themselves: hashes that stay, options by name, and functions made of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from geoml import fields
from geoml.fields import Absent, Spelled, Unhashed
from geoml.geolocation.recipe import LocateRecipe, MapRecipe
from geoml.recipe import PredictRecipe, Query


class Inner(BaseModel):
    place: Annotated[tuple[float, float] | None, Spelled("X Y")] = None
    days: Annotated[int, Unhashed("no pixel hangs on it"), Absent("night", "it is one day")] = Field(
        default=3, ge=1, le=9, description="days"
    )


class Outer(BaseModel):
    name: str
    inner: Inner
    how: Literal["fast", "well"] = Field(default="well", description="how")
    many: tuple[Literal["one"], ...] = ()
    share: float = Field(default=0.5, gt=0, lt=1, description="share")
    size: int = Field(default=7, ge=0, le=2**40, description="size")


FULL = {
    "model": "demo-itaipu",
    "query": {
        "catalog": "https://host.example/c.json?sig=S",
        "collection": "some",
        "region": "some.geojson",
        "datetime": ["2024-05", "2024-07"],
        "filter": "eo:cloud_cover < 20",
        "sortby": "-eo:cloud_cover",
        "limit": 7,
        "strict": True,
    },
    "crs": "EPSG:32621", "block_size": 1024, "mask": "none", "composite": "first", "join": "exact", "tta": True,
    "probabilities": True, "features": False, "min_area": 1.0, "simplify": 1.0, "harmonise": "histogram",
    "shift_limit": 0.25, "max_shift": 4.0, "max_failed": 0.5, "out_of_domain": "refuse",
}  # fmt: skip
LEAST = {"model": "m", "query": {"catalog": "demo", "bbox": [0, 0, 1, 1], "datetime": ["2024"]}}


@pytest.mark.parametrize(
    ("recipe", "known"),
    [
        (LEAST, "98eafce3fe5819ee0081e4b6384508d1c8f7d6bf80bea9a7b8b19d62d6ea6cd8"),
        (FULL, "eb499e47578e1b672d6f70b63f40ee7681e3002e07eb8ee615e94061626f8cf9"),
    ],
)
def test_the_hash_of_a_recipe_is_that_of_runs_from_before(recipe: dict[str, Any], known: str) -> None:
    assert PredictRecipe.model_validate(recipe).hash == known


def test_what_is_not_counted_says_why_and_changes_no_hash() -> None:
    full = {**FULL, "pyramid": [2, 4], "map": False, "features_format": ["fgb"]}
    silent = fields.unhashed(PredictRecipe)
    assert silent == {
        "block_size": True, "features_format": True, "map": True, "max_failed": True, "out_of_domain": True,
        "query": {"strict": True},
    }  # fmt: skip
    made, other = (PredictRecipe.model_validate(v) for v in (LEAST, full))
    for name, option in fields.options(PredictRecipe).items():
        value = fields.flat(other)[name]
        changed = fields.flat(made) | {name: value} | ({"bbox": None} if name == "region" else {})
        if name == "bbox":
            changed["bbox"] = (0, 0, 1, 2)
        now = PredictRecipe.model_validate(fields.nested(PredictRecipe, changed))
        mark = option.mark(Unhashed)
        assert (now.hash == made.hash) is (mark is not None), name
        assert mark is None or mark.why


def test_options_have_their_schema_bounds_and_choices() -> None:
    known = fields.options(Outer)
    assert list(known) == ["name", "place", "days", "how", "many", "share", "size"]
    assert known["place"].within == ("inner",)
    assert known["place"].mark(Spelled) == Spelled("X Y")
    assert known["how"].mark(Spelled) is None
    assert [n for n, o in known.items() if o.required] == ["name"]
    assert (known["how"].choices, known["many"].choices, known["name"].choices) == (("fast", "well"), ("one",), ())
    told = {n: known[n].about for n in ("days", "how", "share", "size")}
    assert told == {"days": "days; 1 to 9", "how": "how", "share": "share; above 0 and below 1", "size": "size"}
    assert set(known) - set(fields.options(Outer, "night")) == {"days"}


def test_flat_and_nested_are_each_others_way_back() -> None:
    made = Outer.model_validate({"name": "a", "inner": {"days": 4}, "how": "fast"})
    flat = fields.flat(made)
    assert flat == {"name": "a", "place": None, "days": 4, "how": "fast", "many": (), "share": 0.5, "size": 7}
    assert fields.nested(Outer, {**flat, "other": 1}) == {
        **{k: v for k, v in flat.items() if k not in ("place", "days")},
        "inner": {"place": None, "days": 4},
    }


@pytest.mark.parametrize("kind", [PredictRecipe, Query, LocateRecipe, MapRecipe])
def test_no_two_fields_of_a_recipe_have_one_name_and_all_are_described(kind: type[BaseModel]) -> None:
    every = list(fields.walk(kind))
    assert len({o.name for o in every}) == len(every)
    assert [o.name for o in every if not o.info.description] == []


def test_a_function_of_a_recipe_becomes_one_of_its_fields() -> None:
    def run(recipe: Outer, out: str, dry: bool = False) -> tuple[Outer, str, bool]:
        """Run it."""
        return recipe, out, dry

    made = [
        inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, annotation=str),
        inspect.Parameter("days", inspect.Parameter.KEYWORD_ONLY, annotation=int, default=3),
    ]

    def recipe(given: Mapping[str, Any]) -> Outer:
        assert given["out"] == "there", "it sees all that was given"
        return Outer.model_validate(fields.nested(Outer, given))

    flat = fields.expand_recipe(run, made, recipe)
    assert flat(name="a", days=5, out="there") == (Outer(name="a", inner=Inner(days=5)), "there", False)
    assert str(inspect.signature(flat)) == "(*, name: str, out: str, days: int = 3, dry: bool = False)"
    assert (flat.__name__, flat.__doc__) == ("run", "Run it.")
