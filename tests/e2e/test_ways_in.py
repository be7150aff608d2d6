"""Every field of a recipe goes through every way in: Python, command, YAML file, form of the flow and of the monitor.

A field that is added is walked by itself: its other value comes from its type and bounds, and so does a wrong one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from prefect.utilities.schema_tools.validation import is_valid
from pydantic import BaseModel
from typer.testing import Result

from flows import command
from flows import geolocate as locating
from flows import monitor as nightly
from flows import predict as adhoc
from geoml import fields, pipeline
from geoml.cli import app
from geoml.engine.images.settle import settled
from geoml.engine.run import search as searching
from geoml.errors import InputError
from geoml.fields import Absent, Option, Spelled
from geoml.geolocation import steps
from geoml.geolocation.recipe import LocateRecipe, MapRecipe, SimilarRecipe, VerifyRecipe
from geoml.recipe import PredictRecipe, Query, parse

Cli = Callable[..., Result]

TEXTS = {
    "model": "demo-itaipu",
    "catalog": "demo",
    "collection": "some",
    "region": "some.geojson",
    "filter": "eo:cloud_cover < 20",
    "sortby": "-eo:cloud_cover",
    "crs": "EPSG:32621",
    "datetime": "2024-05",
    "precision": "exact",
    "heights": "heights.tif",
    "asset": "visual",
    "reference": "mosaic.tif",
    "frames": "frames",
}
"""Of fields that are text and no choice."""

WRONG = {
    "model": "https://me:S3CRET@host.example/model",
    "catalog": "https://me:S3CRET@host.example/catalog.json",
    "region": "https://me:S3CRET@host.example/region.geojson",
    "heights": "https://me:S3CRET@host.example/heights.tif",
    "datetime": "20240601",
    "precision": "fine",
}
"""Texts that are refused by the recipe itself."""

LATER = {"collection", "filter", "sortby", "crs", "asset", "reference", "frames"}
"""Texts that only a search, the data or the pictures show to be wrong; see test_bad_input, for one."""

PREDICT, QUERY = fields.options(PredictRecipe), fields.options(Query)
LOCATE, MAP = fields.options(LocateRecipe), fields.options(MapRecipe)


class Reached(Exception):
    """A recipe has come where it is used."""

    def __init__(self, recipe: Any) -> None:
        self.recipe = recipe


def reach(recipe: Any, *_: Any, **__: Any) -> Any:
    raise Reached(recipe)


def other(option: Option) -> Any:
    """A value that is allowed and not the default, as JSON has it."""
    kind, default = option.schema["type"], option.default
    if option.choices:
        known = default if isinstance(default, tuple | list) else [default]
        chosen = next(c for c in option.choices if c not in known)
        return [chosen] if kind == "array" else chosen
    if kind == "boolean":
        return not default
    if "prefixItems" in option.schema:
        return [10.0, 20.0, 11.0, 21.0][: len(option.schema["prefixItems"])]
    if kind == "string":
        return TEXTS[option.name]
    if kind == "array":
        numbers = {"number": [2.0, 4.0], "integer": [2, 4]}
        return numbers.get(option.schema["items"]["type"]) or [TEXTS[option.name]]
    return {"integer": int, "number": float}[kind](default / 2 if default else 7)


def wrong(option: Option) -> Any:
    """A value that is refused, as text where a command line could hold it; None where any text will do."""
    kind, inner = option.schema["type"], option.schema.get("items", {})
    if kind == "boolean":
        return "maybe"
    if "prefixItems" in option.schema:
        return ["west", *other(option)[1:]]
    if option.choices:
        return ["glue"] if kind == "array" else "glue"
    if kind in ("integer", "number"):
        return "-3"
    value = "small" if inner.get("type") in ("number", "integer") else WRONG.get(option.name)
    return [value] if value and kind == "array" else value


def whole(kind: type[BaseModel], leave: str, **given: Any) -> dict[str, Any]:
    """Flat values of a recipe in which no field has its default but those named in ``leave``."""
    known = {n: o for n, o in fields.options(kind).items() if n not in leave.split()}
    flat = {**{n: other(o) for n, o in known.items()}, **given}
    made = fields.flat(parse(kind, fields.nested(kind, flat), "test"))
    assert [n for n, o in known.items() if made[n] == o.default] == [], "these keep their default"
    return flat


def words_of(known: Mapping[str, Option], flat: Mapping[str, Any]) -> list[str]:
    """Options of a command."""
    words: list[str] = []
    for name, value in flat.items():
        spelled = (known[name].mark(Spelled) if name in known else None) or Spelled()
        option = spelled.name or name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif name in known and "prefixItems" in known[name].schema:
            words += [f"--{option}", *map(str, value)]
        else:
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{option}", str(one)]
    return words


AREAS = {"bbox": "region", "region": "bbox"}


@pytest.fixture(params=AREAS)
def flat(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A prediction without a default, with a bbox or a region."""
    return whole(PredictRecipe, AREAS[request.param])


def asked_of(flat: Mapping[str, Any]) -> PredictRecipe:
    return parse(PredictRecipe, fields.nested(PredictRecipe, flat), "test")


# --- the ways: flat values to the recipe that is used, or to an error

Way = Callable[[dict[str, Any]], Any]


@pytest.fixture
def ways(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Way]:
    """Every way in to a prediction, up to where its recipe is used."""
    for module in (pipeline.planning, pipeline.monitoring, adhoc, nightly):
        monkeypatch.setattr(module, "check", reach)
    out, file = str(tmp_path / "out"), tmp_path / "recipe.yaml"

    def by_command(flat: dict[str, Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(pipeline, "predict", lambda recipe, *_, **__: reach(settled(recipe, out)))
            return of_command(cli("predict", *words_of(PREDICT, flat), "--out", out))

    def written(flat: dict[str, Any]) -> str:
        file.write_text(yaml.safe_dump(fields.nested(PredictRecipe, flat)))
        return str(file)

    def by_file(run: Any, flat: dict[str, Any], **more: Any) -> Any:
        given = command._recipe_parameters(written(flat), run.parameters.properties)
        return run.fn(**given, **more, out=out)

    def of_monitor(flat: dict[str, Any]) -> dict[str, Any]:
        dates = flat["datetime"] if isinstance(flat["datetime"], list) else [flat["datetime"]]
        return {**{k: v for k, v in flat.items() if k != "datetime"}, "reference": dates[0]}

    return {
        "python": lambda flat: pipeline.predict(fields.nested(PredictRecipe, flat), out),
        "command": by_command,
        "form": lambda flat: adhoc.predict.fn(**flat, out=out),
        "file": lambda flat: by_file(adhoc.predict, flat),
        "monitor by python": lambda flat: pipeline.monitor(fields.nested(PredictRecipe, flat), out),
        "monitor by form": lambda flat: nightly.monitor.fn(**of_monitor(flat), out=out),
        "monitor by file": lambda flat: by_file(nightly.monitor, flat, reference=of_monitor(flat)["reference"]),
    }


def of_command(ended: Result) -> Any:
    """What a command raised, as it was: typer makes an exit of the errors of the table."""
    if isinstance(ended.exception, Reached):
        raise ended.exception
    assert ended.exit_code == InputError.exit_code, ended.output
    raise InputError(" ".join(ended.stderr.split()).removeprefix("InputError "))


def reached(way: Way, flat: dict[str, Any]) -> Any:
    with pytest.raises(Reached) as found:
        way(flat)
    return found.value.recipe


NIGHTLY = {"datetime": ("2024-05", "..")}
"""What the monitor makes of the fields that it does not have."""


def as_seen(way: str, asked: PredictRecipe) -> PredictRecipe:
    if way not in ("monitor by form", "monitor by file"):
        return asked
    return asked.model_copy(update={"query": asked.query.model_copy(update=NIGHTLY)})


def test_all_fields_together_by_every_way(flat: dict[str, Any], ways: dict[str, Way], tmp_path: Path) -> None:
    asked = asked_of(flat)
    for name, way in ways.items():
        found, seen = reached(way, flat), as_seen(name, asked)
        assert (found, found.hash) == (seen, seen.hash), name
    assert not (tmp_path / "out").exists()


LEAST = {"model": "m", "catalog": "c", "bbox": [0.0, 1.0, 2.0, 3.0], "datetime": ["2024-05"]}


@pytest.mark.parametrize("name", PREDICT)
def test_one_field_by_every_way(name: str, ways: dict[str, Way]) -> None:
    """The others have their defaults, which are the same everywhere."""
    least = {k: v for k, v in LEAST.items() if k != AREAS.get(name)}
    flat = {**least, name: other(PREDICT[name])}
    asked = asked_of(flat)
    assert name in LEAST or fields.flat(asked)[name] != PREDICT[name].default
    for way, run in ways.items():
        seen = as_seen(way, asked)
        assert (reached(run, flat), seen.hash) == (seen, reached(run, flat).hash), way


@pytest.mark.parametrize("name", PREDICT)
def test_a_wrong_value_is_the_same_error_by_every_way(name: str, ways: dict[str, Way]) -> None:
    value = wrong(PREDICT[name])
    if value is None:
        assert name in LATER
        return
    flat = {**{k: v for k, v in LEAST.items() if k != AREAS.get(name)}, name: value}
    if PREDICT[name].schema["type"] == "boolean":
        del ways["command"]  # there it is a flag, which has no value
    told = {}
    for way, run in ways.items():
        with pytest.raises(InputError) as error:
            run(flat)
        told[way] = str(error.value).split(": ", 1)[1]  # without where it was asked
    field = ".".join((*PREDICT[name].within, name))
    assert told["python"].startswith((f"{field}: ", f"{field}."))
    assert "S3CRET" not in str(told)
    assert set(told.values()) == {told["python"]}, told


@pytest.mark.parametrize("name", PREDICT)
def test_prefect_leaves_a_wrong_value_to_the_recipe_and_its_form_refuses_it(name: str, tmp_path: Path) -> None:
    value = wrong(PREDICT[name])
    if value is None or name == "datetime":
        return
    given = {**{k: v for k, v in LEAST.items() if k != AREAS.get(name)}, "out": str(tmp_path)}
    schema = adhoc.predict.parameters.model_dump()
    assert is_valid(given | {name: other(PREDICT[name])}, schema)
    assert not is_valid(given | {name: value}, schema)
    assert adhoc.predict.validate_parameters(given | {name: value})[name] == value


def test_a_field_that_a_way_does_not_have_says_why() -> None:
    """All that is taken out of a way, and by what."""
    absent = [(m.way, n, m.why) for n, o in PREDICT.items() for m in o.info.metadata if isinstance(m, Absent)]
    by_way = {way: {n for other, n, _ in absent if other == way} for way, _, _ in absent}
    of_maps = {"join", "tta", "pyramid", "probabilities", "features", "min_area", "simplify", "harmonise"}
    of_maps |= {"features_format"}
    assert by_way == {"monitor": {"datetime"}, "embed": {*of_maps, "shift_limit", "max_shift"}}
    assert all(len(why) > 20 for _, _, why in absent)
    shown = {w: set(f.parameters.properties) for w, f in {"predict": adhoc.predict, "monitor": nightly.monitor}.items()}
    assert shown["predict"] - set(PREDICT) == {"out", "batch", "wait"}
    assert shown["monitor"] - set(PREDICT) == {"out", "batch", "wait", *NIGHTS, "reference"}
    assert set(PREDICT) - shown["predict"] == set()
    assert set(PREDICT) - shown["monitor"] == {"datetime"}
    assert set(LOCATE) - set(locating.geolocate.parameters.properties) == set()
    given: Any = typer.main.get_command(app)
    groups = given.commands | given.commands["geolocate"].commands
    for name, known in {"predict": PREDICT, "search": QUERY, "run": LOCATE, "map": MAP, "embed": PREDICT}.items():
        assert set(known) - {p.name for p in groups[name].params} == by_way.get(name, set()), name


# --- the other recipes that have commands


@pytest.mark.parametrize("name", QUERY)
def test_a_field_of_a_query_by_command_and_python(name: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    least = {k: v for k, v in LEAST.items() if k not in ("model", AREAS.get(name))}
    flat, value = {**least, name: other(QUERY[name])}, wrong(QUERY[name])

    def by_command(flat: dict[str, Any]) -> Any:
        rest = {k: v for k, v in flat.items() if k != "catalog"}
        return of_command(cli("search", flat["catalog"], *words_of(QUERY, rest)))

    with monkeypatch.context() as patch:
        patch.setattr(searching, "region_of", reach)
        assert reached(by_command, flat) == reached(pipeline.search, flat) == parse(Query, flat, "test")
    if value is not None and QUERY[name].schema["type"] != "boolean":
        said = []
        for way in (by_command, pipeline.search):
            with pytest.raises(InputError) as error:
                way(flat | {name: value})
            said.append(str(error.value).split(": ", 1)[1])
        assert said[0] == said[1]
        assert said[0].startswith((f"{name}: ", f"{name}."))


GEO: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "geolocate": (LocateRecipe, {"use": ["time"]}),
    "geolocate map": (MapRecipe, {"catalog": "c"}),
}


@pytest.mark.parametrize(("of", "name"), [*(("geolocate", n) for n in LOCATE), *(("geolocate map", n) for n in MAP)])
def test_a_field_of_geolocation_by_every_way(
    of: str, name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, least = GEO[of]
    option = fields.options(kind)[name]
    if name in ("reference", "frames"):
        least = {}
    flat, value, out = {**least, name: other(option)}, wrong(option), tmp_path / "out.parquet"
    assert fields.flat(parse(kind, flat, "test"))[name] != option.default
    python = steps.geolocate if kind is LocateRecipe else steps.geolocate_map

    def used(*given: Any) -> Any:
        raise Reached(parse(*given))

    def by_command(flat: dict[str, Any]) -> Any:
        words = words_of(fields.options(kind), flat)
        return of_command(cli(*of.split(), str(tmp_path), *words, "--out", str(out)))

    ways: dict[str, Way] = {
        "python": lambda flat: python([tmp_path], out=out, **({"model": None} | flat)),
        "command": by_command,
    }
    if kind is LocateRecipe:
        ways["form"] = lambda flat: locating.geolocate.fn(sources=[str(tmp_path)], out=str(out), **flat)
        monkeypatch.setattr(locating, "locate", lambda *given: reach(given[-1]))
    with monkeypatch.context() as patch:
        patch.setattr(steps, "parse", used)
        for way, run in ways.items():
            assert reached(run, flat) == parse(kind, flat, "test"), way
    if value is None:
        assert name in LATER | {"catalog", "model", "datetime"}
        return
    told = {}
    for way, run in ways.items():
        with pytest.raises(InputError) as error:
            run(flat | {name: value})
        told[way] = str(error.value).split(": ", 1)[1]
    assert told["python"].startswith((f"{name}: ", f"{name}."))
    assert set(told.values()) == {told["python"]}, told


LOOKS = {"verify": VerifyRecipe, "similar": SimilarRecipe}


@pytest.mark.parametrize(("of", "name"), [(of, name) for of, kind in LOOKS.items() for name in fields.options(kind)])
def test_a_field_of_verify_and_similar_by_command_and_python(
    of: str, name: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = fields.options(LOOKS[of])
    flat = {"lon": 7.0, "lat": 7.0} if name in ("lon", "lat") else {name: other(known[name])}
    more = () if of == "verify" else (tmp_path / "index",)
    ways: dict[str, Way] = {
        "python": lambda flat: getattr(steps, of)(tmp_path, *more, **flat),
        "command": lambda flat: of_command(
            cli("geolocate", of, str(tmp_path), *words_of(known, flat), *(w for m in more for w in ("--index", str(m))))
        ),
    }
    with monkeypatch.context() as patch:
        patch.setattr(steps, "parse", lambda *given: reach(parse(*given)))
        for way, run in ways.items():
            assert reached(run, flat) == parse(LOOKS[of], flat, "test"), way
    value = "far" if name in ("lon", "lat") else wrong(known[name])
    told = set()
    for run in ways.values():
        with pytest.raises(InputError) as error:
            run(flat | {name: value})
        told.add(str(error.value).split(": ", 1)[1])
    (said,) = told
    assert said.startswith((f"{name}: ", f"{name}."))


NIGHTS = {"lookback": 3, "until": "2024-06-05", "fill": False}
"""Options of the monitor beside the recipe, none with its default."""


def test_the_options_of_the_monitor_by_python_form_and_command(
    flat: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = set(inspect.signature(pipeline.monitor).parameters) - {"recipe", "out"}
    assert known == NIGHTS.keys() == set(inspect.signature(pipeline.scan).parameters) - {"recipe", "out"}
    for module in (pipeline.monitoring, nightly):
        monkeypatch.setattr(module, "check", lambda *_: None)
    monkeypatch.setattr(pipeline, "scan", lambda *_, **given: reach(given))
    with pytest.raises(Reached) as reached:
        pipeline.monitor(asked_of(flat), tmp_path / "python", **NIGHTS)  # type: ignore[arg-type]
    assert reached.value.recipe == NIGHTS

    monkeypatch.setattr(nightly.steps, "exclusive", lambda *_: nullcontext())
    monkeypatch.setattr(nightly.steps, "scan", nightly.steps.scan.fn)
    by_form = {k: v for k, v in flat.items() if k != "datetime"}
    with pytest.raises(Reached) as reached:
        nightly.monitor.fn(**by_form, **NIGHTS, out=str(tmp_path / "form"))
    assert reached.value.recipe == NIGHTS

    given: dict[str, Any] = {}
    shown = SimpleNamespace(name="monitor", description="", parameters=nightly.monitor.parameters)
    monkeypatch.setattr(command, "exit_code", lambda run: run())
    run = type("Flow", (), {**vars(shown), "__call__": lambda _, **k: given.update(k)})()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(fields.nested(PredictRecipe, flat)))
    assert nightly.main.args == (nightly.monitor,)
    nightly.main.func(run, [str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "command"), *words_of({}, NIGHTS)])
    assert {k: given[k] for k in NIGHTS} == NIGHTS


def test_the_options_of_a_flow_by_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no recipe of a file: every parameter of the flow is an option, with its type and default."""
    given: dict[str, Any] = {}
    flow = locating.geolocate
    shown = {"name": flow.name, "description": "", "parameters": flow.parameters}
    monkeypatch.setattr(command, "exit_code", lambda run: run())
    run = type("Flow", (), {**shown, "__call__": lambda _, **k: given.update(k)})()
    assert locating.main.args == (locating.geolocate,)
    flat = whole(LocateRecipe, "")
    words = [w for n, v in flat.items() for w in (f"--{n.replace('_', '-')}", *(v if isinstance(v, list) else [v]))]
    locating.main.func(run, ["a.jpg", "b.jpg", "--out", "o.parquet", *map(str, words)])
    assert given == {**flat, "sources": ["a.jpg", "b.jpg"], "out": "o.parquet", "map": None, "return_state": True}
    given.clear()
    locating.main.func(run, ["a.jpg", "--out", "o.parquet"])
    assert {n: given[n] for n in LOCATE} == {n: list(o.default) if n == "use" else o.default for n, o in LOCATE.items()}


@pytest.mark.parametrize("of", ["predict", "monitor"])
def test_the_forms_have_the_defaults_of_the_recipe(of: str) -> None:
    shown = {"predict": adhoc.predict, "monitor": nightly.monitor}[of].parameters.properties
    for name, option in PREDICT.items():
        if not option.required:
            default = list(option.default) if isinstance(option.default, tuple) else option.default
            assert shown[name].get("default") == default, name
            assert shown[name]["description"] == f"{option.about}.", name


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
