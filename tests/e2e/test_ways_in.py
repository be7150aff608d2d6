"""Every field of a recipe goes through every way in: Python, command, YAML file, form of the flow and of the monitor.

A field that is added is walked by itself: its other value comes from its type and bounds.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import Result

from flows import command, form
from flows import monitor as nightly
from flows import predict as adhoc
from geoml import pipeline
from geoml.errors import InputError
from geoml.recipe import PredictRecipe, Query, parse

TEXTS = {
    "model": "demo-itaipu",
    "catalog": "demo",
    "collection": "some",
    "region": "some.geojson",
    "filter": "eo:cloud_cover < 20",
    "sortby": "-eo:cloud_cover",
    "crs": "EPSG:32621",
}
"""Of fields that are text and no choice."""


class Reached(Exception):
    """A recipe has come where it is used."""

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe


def reach(recipe: Any, *_: Any, **__: Any) -> Any:
    raise Reached(recipe)


def other(name: str, model: type[PredictRecipe] | type[Query]) -> Any:
    """A value that is allowed and not the default."""
    field = model.model_fields[name]
    choices = [c for a in (field.annotation, *typing.get_args(field.annotation)) for c in typing.get_args(a)]
    if name in ("bbox", "datetime"):
        return {"bbox": (10.0, 20.0, 11.0, 21.0), "datetime": ("2024-05", "2024-07")}[name]
    if name in TEXTS:
        return TEXTS[name]
    if isinstance(field.default, bool):
        return not field.default
    if isinstance(field.default, int | float):
        return type(field.default)(field.default / 2 if field.default else 1)
    if int in (field.annotation, *typing.get_args(field.annotation)):
        return 7
    (value, *_) = [c for c in choices or typing.get_args(field.annotation) if isinstance(c, str) and c != field.default]
    return value


def every_field(area: str) -> PredictRecipe:
    """A recipe in which no field has its default, with a bbox or a region."""
    query = {n: other(n, Query) for n in Query.model_fields if n not in {"bbox", "region"} - {area}}
    rest = {n: other(n, PredictRecipe) for n in PredictRecipe.model_fields if n != "query"}
    made = parse(PredictRecipe, {**rest, "query": query}, "test")
    for model, value in ((Query, made.query), (PredictRecipe, made)):
        left = [n for n, f in model.model_fields.items() if getattr(value, n) == f.default]
        assert left in ([], [{"bbox": "region", "region": "bbox"}[area]]), "these keep their default"
    return made


@pytest.fixture(params=["bbox", "region"])
def asked(request: pytest.FixtureRequest) -> PredictRecipe:
    return every_field(request.param)


def words_of(values: dict[str, Any]) -> list[str]:
    """Options of a command."""
    words: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif name == "bbox":
            words += ["--bbox", *map(str, value)]
        else:
            for one in value if isinstance(value, tuple | list) else [value]:
                words += [f"--{option}", str(one)]
    return words


def given(asked: PredictRecipe) -> dict[str, Any]:
    return {k: v for k, v in form.flat(asked).items() if v is not None}


def test_by_command(
    asked: PredictRecipe, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "predict", reach)
    ended = cli("predict", *words_of(given(asked)), "--out", tmp_path / "out")
    assert isinstance(ended.exception, Reached), ended.output
    assert ended.exception.recipe == asked
    monkeypatch.setattr(pipeline, "search", reach)
    query = {k: v for k, v in asked.query.model_dump().items() if v is not None}
    catalog = query.pop("catalog")
    ended = cli("search", catalog, *words_of(query))
    assert isinstance(ended.exception, Reached), ended.output
    assert parse(Query, ended.exception.recipe, "search") == asked.query


def test_by_python(asked: PredictRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = yaml.safe_load(yaml.safe_dump(asked.model_dump(mode="json")))
    monkeypatch.setattr(pipeline.planning, "check", reach)
    monkeypatch.setattr(pipeline.monitoring, "check", reach)
    for run in (pipeline.predict, pipeline.monitor):
        with pytest.raises(Reached) as reached:
            run(plain, tmp_path / "out")
        assert reached.value.recipe == asked
    assert not (tmp_path / "out").exists()


def test_by_form_and_by_file_of_the_flow(asked: PredictRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adhoc, "check", reach)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json")))
    by_file = command._asked(str(tmp_path / "recipe.yaml"), adhoc.predict.parameters.properties)
    for parameters in (form.flat(asked), by_file):
        with pytest.raises(Reached) as reached:
            adhoc.predict.fn(**parameters, out=str(tmp_path / "out"))
        assert reached.value.recipe == asked


def test_by_form_and_by_file_of_the_monitor(
    asked: PredictRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the datetime, of which the reference is the first."""
    monkeypatch.setattr(nightly, "check", reach)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json")))
    by_form = {k: v for k, v in form.flat(asked).items() if k != "datetime"}
    by_file = command._asked(str(tmp_path / "recipe.yaml"), nightly.monitor.parameters.properties)
    reference = asked.query.datetime[0]
    for parameters in (by_form, by_file):
        with pytest.raises(Reached) as reached:
            nightly.monitor.fn(**parameters, reference=reference, out=str(tmp_path / "out"))
        query = asked.query.model_copy(update={"datetime": (reference, "..")})
        assert reached.value.recipe == asked.model_copy(update={"query": query})


NIGHTS = {"lookback": 3, "until": "2024-06-05", "fill": False}
"""Options of the monitor beside the recipe, none with its default."""


def test_the_options_of_the_monitor_by_python_form_and_command(
    asked: PredictRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = set(inspect.signature(pipeline.monitor).parameters) - {"recipe", "out"}
    assert known == NIGHTS.keys() == set(inspect.signature(pipeline.look).parameters) - {"recipe", "out"}
    for module in (pipeline.monitoring, nightly):
        monkeypatch.setattr(module, "check", lambda *_: None)
    monkeypatch.setattr(pipeline, "look", lambda *_, **given: reach(given))
    with pytest.raises(Reached) as reached:
        pipeline.monitor(asked, tmp_path / "python", **NIGHTS)  # type: ignore[arg-type]
    assert reached.value.recipe == NIGHTS

    monkeypatch.setattr(nightly.steps, "exclusive", lambda *_: nullcontext())
    monkeypatch.setattr(nightly.steps, "look", nightly.steps.look.fn)
    by_form = {k: v for k, v in form.flat(asked).items() if k != "datetime"}
    with pytest.raises(Reached) as reached:
        nightly.monitor.fn(**by_form, **NIGHTS, out=str(tmp_path / "form"))
    assert reached.value.recipe == NIGHTS

    given: dict[str, Any] = {}
    shown = SimpleNamespace(name="monitor", description="", parameters=nightly.monitor.parameters)
    monkeypatch.setattr(command, "exit_code", lambda run: run())
    monkeypatch.setattr(
        nightly, "monitor", type("Flow", (), {**vars(shown), "__call__": lambda _, **k: given.update(k)})()
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json")))
    nightly.main([str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "command"), *words_of(NIGHTS)])
    assert {k: given[k] for k in NIGHTS} == NIGHTS


@pytest.mark.parametrize("of", ["predict", "monitor"])
def test_the_forms_have_the_defaults_of_the_recipe(of: str) -> None:
    shown = {"predict": adhoc.predict, "monitor": nightly.monitor}[of].parameters.properties
    for model in (PredictRecipe, Query):
        for name, field in model.model_fields.items():
            if name != "query" and not field.is_required():
                assert shown[name].get("default") == field.default, name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("20240101", "write 2024-01-01"),
        ("[20240601]", "write 2024-06-01"),
        ("['20240601/20240630']", "write 2024-06-01"),
        ("1704067200", "write 2024-01-01"),
        ("[1704067200.5]", "digits only"),
    ],
)
def test_a_date_in_digits_only_is_refused_by_every_way_in(
    text: str, says: str, cli: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one of them may read it as seconds since 1970."""
    value = yaml.safe_load(text)
    recipe = {"model": "demo-itaipu", "query": {"catalog": "demo", "bbox": [-54.7, -25.4, -54.6, -25.3]}}
    recipe["query"]["datetime"] = value  # type: ignore[index]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for run in (pipeline.predict, pipeline.monitor):
        with pytest.raises(InputError, match=says):
            run(recipe, tmp_path / "out")
    for main in (adhoc.main, nightly.main):
        assert main([str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]) == InputError.exit_code
        assert says in capsys.readouterr().err
    (written,) = value if isinstance(value, list) else [value]
    words = ["--bbox", "-54.7", "-25.4", "-54.6", "-25.3", "--datetime", str(written)]
    ended = cli("predict", "--model", "demo-itaipu", "--catalog", "demo", *words, "--out", tmp_path / "out")
    assert (ended.exit_code, says in ended.stderr) == (InputError.exit_code, True), ended.stderr
    ended = cli("search", "demo", *words)
    assert (ended.exit_code, says in ended.stderr) == (InputError.exit_code, True), ended.stderr
    with pytest.raises(InputError, match=says):
        nightly.check(
            parse(PredictRecipe, {**recipe, "query": {**recipe["query"], "datetime": ["2024"]}}, "t"), 3, str(written)
        )  # type: ignore[dict-item]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01", ("2024-01-01",)),
        ("[2024-01-01, 2024-06]", ("2024-01-01", "2024-06")),
        ("2024", ("2024",)),
        ("2024-06-01T10:00:00Z", ("2024-06-01T10:00:00+00:00",)),
        ("2024-06-01/2024-06-30", ("2024-06-01/2024-06-30",)),
    ],
)
def test_what_yaml_reads_as_a_date_or_a_number_is_the_date_that_was_written(
    text: str, expected: tuple[str, ...]
) -> None:
    query = {"catalog": "demo", "bbox": [0, 0, 1, 1], "datetime": yaml.safe_load(text)}
    assert parse(Query, query, "test").datetime == expected
