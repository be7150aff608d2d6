"""From a file of labels to package, map and page by the command, on made fields whose truth is known."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas
import pytest
import shapely
import torch
import yaml
from numpy.typing import NDArray
from typer.testing import CliRunner

import geoml
from geoml import testing
from geoml.cli import app
from geoml.engine.learn import choose, gather
from geoml.engine.learn.fit import fit, prepare
from geoml.engine.learn.recipe import LearnRecipe
from geoml.engine.packages import cards, package
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard
from geoml.models.few_labels import FewLabels
from geoml.recipe import parse
from geoml.settings import settings
from geoml.texts import percent
from tests.e2e.made_landcover import CLASSES, DATES, FOREIGN, SCENE, SEEN, TRUTH, labels, scenes, write_encoder
from tests.e2e.printed import prints, rows, said, wide
from tests.e2e.test_map import browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser", "said", "wide"]  # fixtures

KNOWN = SEEN.any(0)
WHEN = [w for d in DATES for w in ("--datetime", d)]
BANDS = ["--model", "bands", "--bands", "red", "--bands", "nir", "--gsd", "10"]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The catalog ``made``, an encoder, labels; smaller forests and curves than usual."""
    root = tmp_path_factory.mktemp("fields")
    testing.write_catalog(root / "made", scenes())
    write_encoder(root / "tiny")
    labels("point").to_file(root / "points.gpkg")
    labels("polygon", of=6).to_file(root / "polygons.shp")
    labels("point", 1).to_file(root / "others.geojson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choose, "TREES", 10)
        patch.setattr(choose, "DRAWS", 3)
        patch.setenv("GEOML_CATALOGS", str(root))
        patch.setenv("GEOML_PRECISION", "fp32")
        settings.cache_clear()
        yield root


def words(ground: Path, name: str, *more: Any) -> list[str]:
    box = ["--bbox", *(f"{v:.9f}" for v in SCENE.bbox())]
    return [str(w) for w in ("learn", ground / name, "--field", "crop", "--catalog", "made", *box, *WHEN, *more)]


def learnt(ground: Path, name: str, out: str, *more: Any) -> tuple[Path, str]:
    with pytest.MonkeyPatch.context() as patch:
        for console in (geoml.cli.common.out_console, geoml.cli.common.err_console):  # type: ignore[attr-defined]
            patch.setattr(console, "_width", 240)
        result = CliRunner().invoke(app, words(ground, name, *more, "--out", ground / out))
    assert result.exit_code == 0, f"{result.output}{result.exception!r}"
    return ground / out, result.stdout


@pytest.fixture(scope="module")
def by_bands(ground: Path) -> tuple[Path, str]:
    """A run on points and bands, with places to check, and what it printed."""
    return learnt(ground, "points.gpkg", "bands", *BANDS, "--block-size", 128, "--places", 30)


@pytest.fixture(scope="module")
def by_encoder(ground: Path) -> tuple[Path, str]:
    """A run on polygons and an encoder with weights by chance."""
    return learnt(ground, "polygons.shp", "encoder", "--model", ground / "tiny", "--block-size", 128)


def counted(kind: str, which: int = 0) -> gpd.GeoDataFrame:
    """Points where anything was seen."""
    found, (x, y) = labels(kind, which), SCENE.origin
    at = found.geometry
    return found[KNOWN[((y - at.y) // 10).astype(int), ((at.x - x) // 10).astype(int)]]


def part(out: Path, asset: str = "class") -> NDArray[np.uint8]:
    (found,) = testing.read_map(out, asset).values()
    return found.part(SCENE.window)


@prints("learn")
def test_learn(by_bands: tuple[Path, str], ground: Path) -> None:
    out, told = by_bands
    card, table = cards.read(out / "model", MapCard), rows(told)
    scores, count = card.scores, counted("point")["crop"].value_counts()
    for name in CLASSES:
        f1, precision, recall, pixels, places = table[name]
        assert (f1, precision, recall) == tuple(f"{scores[k][name]:.3f}" for k in ("f1", "precision", "recall"))
        assert pixels == places == str(count[name])
    assert f"macro F1 {scores['macro_f1']:.3f}" in told
    tried = {name.removesuffix(" *"): cells for name, cells in table.items() if name.startswith("bands, ")}
    assert set(tried) == {f"bands, {m}" for m in (*choose.HEADS, "random forest")}
    assert f"{scores['learnt']['chosen']} *" in table
    assert float(table["commonest class"][0]) < 0.3 < float(table[f"{scores['learnt']['chosen']} *"][0])
    assert "macro F1 by points a class, 3 draws" in told
    assert {"1", "5", "all"} <= set(table)
    assert re.fullmatch(r"[01]\.\d{3} ± 0\.\d{3}", table["1"][0])
    sets = scores["learnt"]["sets"]
    assert f"prediction sets for 90 %, calibrated on {count.sum()} places;" in told
    assert f"they contain the true class {percent(sets['coverage'])} of the time" in told
    assert f"{len(labels('point')) - count.sum()} points left out: without data." in told
    assert "Held-out labels are not a random sample of the map: for its accuracy and areas see geoml area draw." in told
    assert table["report.html"][0] == f"{(out / 'report.html').stat().st_size / 1e6:.2f} MB"
    places = gpd.read_file(out / "places.gpkg")
    assert f"{len(places)} places in {out / 'places.gpkg'}; fill in the column reference" in told
    assert set(places.columns) == {"id", "reference", "geometry"}
    assert len(places) == pytest.approx(30, abs=3)
    before = (out / "places.gpkg").read_bytes()
    places.assign(reference=CLASSES[0]).to_file(out / "places.gpkg")
    again = CliRunner().invoke(app, words(ground, "points.gpkg", *BANDS, "--places", 30, "--out", out))
    (out / "places.gpkg").write_bytes(before)
    assert (again.exit_code, "of it filled in; expected a new file" in again.stderr, again.stdout) == (2, True, "")


@prints("area next")
def test_area_next(by_bands: tuple[Path, str], said: Callable[..., str], tmp_path: Path) -> None:
    told = said("area", "next", by_bands[0], "--places", 12, "--out", tmp_path / "next.gpkg")
    places = gpd.read_file(tmp_path / "next.gpkg")
    assert told.startswith(f"{len(places)} places in {tmp_path / 'next.gpkg'}; fill in the column crop")
    assert list(places.columns) == ["id", "crop", "set_size", "dissimilarity", "geometry"]
    assert places["crop"].isna().all()
    assert (places["dissimilarity"] <= 1).all(), "what was never taught may be no class at all"
    assert 6 <= len(places) <= 12
    metric = places.to_crs(SCENE.crs).geometry
    x, y = SCENE.origin
    at = ((y - metric.y) // 10).astype(int), ((metric.x - x) // 10).astype(int)
    assert KNOWN[at].all()
    apart = metric.apply(lambda one: metric.distance(one)).to_numpy()
    assert apart[~np.eye(len(places), dtype=bool)].min() > 50
    again = tmp_path / "again.gpkg"
    said("area", "next", by_bands[0], "--places", 12, "--out", again)
    assert gpd.read_file(again).equals(places)
    said("area", "next", by_bands[0], "--places", 12, "--seed", 3, "--out", again)
    assert not gpd.read_file(again).geometry.equals(places.geometry), "of other pixels"
    many = CliRunner().invoke(app, ["area", "next", str(by_bands[0]), "--places", "9999", "--out", str(again)])
    assert len(gpd.read_file(again)) < 9999
    assert "Warning 9,999 places were asked for; no more lie far enough from each other" in many.stderr
    places.assign(crop="corn").to_file(again)
    result = CliRunner().invoke(app, ["area", "next", str(by_bands[0]), "--out", str(again)])
    assert (result.exit_code, "of it filled in; expected a new file" in result.stderr) == (2, True)
    for wrong, number, field in (("3.txt", 3, "out"), ("next.gpkg", 0, "places")):
        asked = ("area", "next", by_bands[0], "--places", number, "--out", tmp_path / wrong)
        result = CliRunner().invoke(app, [str(w) for w in asked])
        assert result.exit_code == 2
        assert field in result.stderr


def test_the_map_is_the_truth_where_anything_was_seen(by_bands: tuple[Path, str]) -> None:
    found, known = part(by_bands[0])[0], KNOWN & ~FOREIGN
    np.testing.assert_array_equal(found[~KNOWN], 255)
    np.testing.assert_array_equal(part(by_bands[0], "valid")[0], SEEN.sum(0))
    assert (found == TRUTH)[known & (SEEN.sum(0) > 1)].all()
    assert (found == TRUTH)[known].mean() > 0.995, "of one look it is not said which"
    assert cards.read(by_bands[0] / "model", MapCard).scores["macro_f1"] > 0.99


def test_sets_hold_the_truth_and_their_size(by_bands: tuple[Path, str]) -> None:
    size, *inside = part(by_bands[0], "sets")
    known = KNOWN & ~FOREIGN
    assert (size[~KNOWN] == 255).all()
    np.testing.assert_array_equal(size[KNOWN], np.sum(inside, 0)[KNOWN])
    assert np.take_along_axis(np.stack(inside), TRUTH[None], 0)[0][known].mean() >= 0.9
    assert np.take_along_axis(np.stack(inside), np.minimum(part(by_bands[0]), 2), 0)[0][KNOWN].all()


@pytest.mark.parametrize("run", ["by_bands", "by_encoder"])
def test_foreign_ground_is_outside_of_what_was_taught(run: str, request: pytest.FixtureRequest) -> None:
    out, _ = request.getfixturevalue(run)
    found = part(out, "dissimilarity")[0]
    assert (found[~KNOWN] == 255).all()
    assert (found[KNOWN & FOREIGN] > 100).all()
    assert (found[KNOWN & ~FOREIGN] > 100).mean() < 0.15


def test_heads_are_folded_into_the_package(by_bands: tuple[Path, str], ground: Path) -> None:
    """Features as they were kept, standardised by the region, and the head that was chosen, as the oracle."""
    out, _ = by_bands
    module = package.load(out / "model").module
    assert isinstance(module, FewLabels)
    kept = {p.name.split("-")[0]: gather.load(p) for p in (out / "model" / ".learn").iterdir()}
    mine, sample = kept["labels"], kept["sample"]
    assert mine is not None
    assert sample is not None
    scaling = choose.Standard.of(sample.parts["bands"])
    x = (mine.parts["bands"].astype(np.float64) - scaling.center) / scaling.spread
    truth = np.array([CLASSES.index(n) for n in labels("point")["crop"]])[mine.place]
    number = np.arange(len(truth))
    given = choose.Learnt({"bands": x}, truth, mine.place, number, 3)
    learnt = module.features(torch.from_numpy(mine.parts["bands"]).T[None, :, :, None])
    card = cards.read(out / "model", MapCard)
    name, temperature = card.scores["learnt"]["chosen"], card.scores["temperature"]
    heads = [c for c in choose.candidates(("bands",), tuple(choose.HEADS)) if c.name == name]
    with torch.no_grad():
        found = module.head(learnt["bands"])[0, :, :, 0].T.double().numpy()
    expected = [c.fit(given).tempered(temperature).logits(x) for c in heads]
    assert min(float(np.abs(found - e).max()) for e in expected) < 1e-3


def test_a_second_model_is_held_beside_the_first(by_encoder: tuple[Path, str]) -> None:
    out, told = by_encoder
    card = cards.read(out / "model", MapCard)
    assert (part(out)[0] == TRUTH)[KNOWN & ~FOREIGN].mean() > 0.99
    both = {"embedding + bands", "embedding", "bands"}
    assert {n.split(", ")[0] for n in rows(told) if ", " in n} == both
    assert card.made["other"] in {f"{p}, {h}" for p in ("embedding", "bands") for h in choose.HEADS}
    assert card.training["encoder"]["name"] == "tiny"
    found = part(out, "disagreement")[0]
    assert set(np.unique(found[KNOWN])) <= {0, 1}
    assert found[KNOWN & ~FOREIGN].mean() < 0.1
    record = json.loads((out / "run.json").read_text())
    assert record["warnings"] == []
    assert record["domain"]["verdict"] == "inside", "its record is of physical values, whatever the encoder scales by"
    assert record["domain"]["outside"] < 0.1


def test_the_page_says_how_far_it_can_be_trusted(by_encoder: tuple[Path, str]) -> None:
    out, _ = by_encoder
    page, card = (out / "report.html").read_text(), cards.read(out / "model", MapCard)
    for title in ("How far it can be trusted", "Learning curve", "Outside of what was taught", "Disagreement"):
        assert title in page
    assert "not the accuracy of the map" in page
    assert "<b>(this map)</b>" in page
    for row in card.scores["learnt"]["rows"]:
        assert row["name"] in page
        assert f"{row['mean']:.3f}" in page
    assert card.made["other"] in page
    assert "nor any label in the same 200 m square" in page
    assert "No map of disagreement" not in page
    known = f"{card.scores['learnt']['places']} labels, each scored by a model that had not seen it (cross-validation)"
    assert known in page
    assert "not seen in training" not in page
    assert "at the limit" in page
    assert re.search(r'background:#dc2626"></span>beyond it, outside of what was taught <b>[<>]?[\d.]+ %</b>', page)


def test_the_page_says_why_there_is_no_map_of_disagreement(by_bands: tuple[Path, str]) -> None:
    page = (by_bands[0] / "report.html").read_text()
    assert "No map of disagreement: the model is on bands alone" in page


@pytest.mark.slow
def test_its_tables_fit_a_screen_and_scroll_on_a_phone(by_encoder: tuple[Path, str], browser: Browser) -> None:
    out, _ = by_encoder
    for width, fits in ((1280, True), (390, False)):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((out / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        tables = page.locator(".scroll:has(th:text('commonest class'))")
        assert tables.count() == 2
        for table in tables.all():
            assert not fits or table.evaluate("t => t.scrollWidth == t.clientWidth")
            assert "gradient" in table.evaluate("t => getComputedStyle(t).backgroundImage"), "what is cut has a shadow"
        page.close()


@pytest.mark.parametrize("run", ["by_bands", "by_encoder"])
def test_the_map_is_the_same_byte_for_byte_however_it_is_cut(
    run: str, ground: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    out, _ = request.getfixturevalue(run)
    query = {"catalog": "made", "bbox": [float(f"{v:.9f}") for v in SCENE.bbox()], "datetime": DATES}
    geoml.predict({"model": str(out / "model"), "query": query, "block_size": 64}, tmp_path / "out")
    item = json.loads(next((out / "items").glob("*.json")).read_text())
    layers = {k for k in item["assets"] if k in ("class", "confidence", "valid", "sets", "dissimilarity",
                                                 "disagreement", "domain")}  # fmt: skip
    assert layers >= {"class", "confidence", "valid", "dissimilarity", "domain"}
    for layer in layers:
        np.testing.assert_array_equal(part(out, layer), part(tmp_path / "out", layer))


def recipe(ground: Path, name: str = "points.gpkg", **changes: Any) -> LearnRecipe:
    query = {"catalog": str(ground / "made" / "catalog.json"), "bbox": SCENE.bbox(), "datetime": DATES}
    about = {"model": "bands", "bands": ["red", "nir"], "gsd": 10, "mask": "none"}
    given = {"labels": str(ground / name), "field": "crop", "query": {**query, **changes.pop("query", {})}}
    return parse(LearnRecipe, {**about, **given, **changes}, "made")


def test_what_was_read_is_kept_and_the_size_of_blocks_is_no_matter(ground: Path, tmp_path: Path) -> None:
    shutil.copytree(ground / "made", tmp_path / "made")
    for name in ("points.gpkg", "others.geojson"):
        shutil.copy(ground / name, tmp_path)
    asked = recipe(tmp_path, heads=["ridge"])
    first = fit(prepare(asked), tmp_path / "a")
    assert fit(prepare(asked), tmp_path / "a") == first, "a finished package is given as it is"
    with pytest.raises(InputError, match=r"out: .* with a different recipe or labels"):
        fit(prepare(recipe(tmp_path, heads=["prototype"])), tmp_path / "a")
    with pytest.raises(InputError, match=r"out: .* with a different recipe or labels"):
        fit(prepare(recipe(tmp_path, "others.geojson", heads=["ridge"])), tmp_path / "a")
    (tmp_path / "a" / "model.json").unlink()  # as when it was stopped
    other = recipe(tmp_path, heads=["ridge"], block_size=64)
    assert fit(prepare(other), tmp_path / "b").sha256 == first.sha256
    for path in (tmp_path / "made").rglob("*.tif"):
        path.unlink()
    assert fit(prepare(asked), tmp_path / "a").sha256 == first.sha256, "no pixel was read"


def test_a_region_much_larger_than_the_images_is_sampled_where_they_are(ground: Path, tmp_path: Path) -> None:
    west, south, east, north = SCENE.bbox()
    wide_box = [west - 0.2, south - 0.2, east + 0.2, north + 0.2]
    fit(prepare(recipe(ground, heads=["ridge"], query={"bbox": wide_box})), tmp_path / "a")
    (path,) = (tmp_path / "a" / ".learn").glob("sample-*")
    sample = gather.load(path)
    assert sample is not None
    assert len(sample.place) > 500
    assert len(np.unique(sample.pixel, axis=0)) == len(sample.pixel)


def test_other_labels_score_a_package(
    by_bands: tuple[Path, str], ground: Path, tmp_path: Path, cli: Callable[..., Any], said: Callable[..., str]
) -> None:
    about = {"model": "bands", "bands": ["red", "nir"], "gsd": 10, "task": "landcover", "field": "crop"}
    query = {"catalog": "made", "bbox": list(SCENE.bbox()), "datetime": list(DATES)}
    others = {"labels": str(ground / "others.geojson"), "query": query}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**about, **others}))
    evaluate = ("evaluate", "--model", by_bands[0] / "model")
    scores = json.loads(said(*evaluate, tmp_path / "r.yaml", "--json"))
    assert scores["split"] == "other labels"
    assert scores["pixels"] == len(counted("point", 1))
    assert scores["macro_f1"] > 0.99
    count = counted("point", 1)["crop"].value_counts()
    assert scores["support"] == {n: {"pixels": int(k), "places": int(k)} for n, k in count.items()}
    told = said(*evaluate, tmp_path / "r.yaml")
    assert "other labels" in told
    assert "below 500 pixels or 10 places a score is a hint" in told
    both = pandas.concat([gpd.read_file(ground / "points.gpkg"), gpd.read_file(ground / "others.geojson")])
    both.to_file(tmp_path / "both.gpkg")
    (tmp_path / "b.yaml").write_text(yaml.safe_dump({**about, **others, "labels": str(tmp_path / "both.gpkg")}))
    again = json.loads(said(*evaluate, tmp_path / "b.yaml", "--json"))
    taught = gpd.read_file(ground / "points.gpkg")
    assert again.pop("taught_with") == len(taught), "what taught it says nothing of it"
    assert scores.pop("taught_with") == 0
    assert {**again, "recipe": None} == {**scores, "recipe": None}
    assert f"{len(taught)} labels left out: the model was taught with them." in said(*evaluate, tmp_path / "b.yaml")
    one = gpd.read_file(ground / "others.geojson").query("crop == @CLASSES[0]").iloc[:1]
    one.to_file(tmp_path / "one.gpkg")
    (tmp_path / "o.yaml").write_text(yaml.safe_dump({**about, **others, "labels": str(tmp_path / "one.gpkg")}))
    assert json.loads(said(*evaluate, tmp_path / "o.yaml", "--json"))["pixels"] == 1
    (tmp_path / "s.yaml").write_text(
        yaml.safe_dump({**about, **others, "labels": str(ground / "points.gpkg"), "seed": 5})
    )
    result = cli(*evaluate, tmp_path / "s.yaml")
    assert result.exit_code == 2
    assert f"has only the {len(taught)} points that taught" in " ".join(result.stderr.split())
    wrong = {"task": "landcover", "field": "crop", "model": str(ground / "tiny"), **others}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(wrong))
    result = cli(*evaluate, tmp_path / "w.yaml")
    assert result.exit_code == 2
    assert "is on bands alone" in " ".join(result.stderr.split())


def test_a_recipe_whose_labels_have_changed_has_no_scores_of_the_card(
    by_bands: tuple[Path, str], ground: Path, tmp_path: Path, said: Callable[..., str]
) -> None:
    card = cards.read(by_bands[0] / "model", MapCard)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(card.training["recipe"]))
    evaluate = ("evaluate", "--model", by_bands[0] / "model", tmp_path / "r.yaml", "--json")
    assert json.loads(said(*evaluate))["macro_f1"] == card.scores["macro_f1"]
    path = ground / "points.gpkg"
    before = path.read_bytes()
    try:
        moved = gpd.read_file(path)
        moved.geometry = moved.translate(10)
        moved["crop"] = moved["crop"].to_numpy()[::-1]
        path.unlink()
        moved.to_file(path)
        found = json.loads(said(*evaluate))
    finally:
        path.write_bytes(before)
    assert found["split"] == "other labels"
    assert found["macro_f1"] < card.scores["macro_f1"] - 0.2


def two(classes: list[str], at: list[tuple[float, float]], **more: Any) -> gpd.GeoDataFrame:
    """Points metres from the corner of the scenes."""
    x, y = SCENE.origin
    return gpd.GeoDataFrame(
        {"crop": classes, **more}, geometry=[shapely.Point(x + a, y - b) for a, b in at], crs=SCENE.crs
    )


SPREAD = [(105.0, 105.0), (905.0, 105.0), (105.0, 905.0), (905.0, 905.0)]


@pytest.mark.parametrize(
    ("frame", "code", "says"),
    [
        (two(list("aab"), SPREAD[:3]), 2, "field: 1 of 2 classes of 'crop' has fewer than two points"),
        (two(list("aabb"), [*SPREAD[:2], (605, 605), (606, 606)]), 2, "1 of 2 classes of 'crop' lies on one piece of"),
        (two(list("aabb"), [(x + 90_000, y) for x, y in SPREAD]), 3, "l.gpkg lies in the region"),
        (two(list("abab"), [(1305, 205), (1305, 255), (1255, 205), (1255, 425)]).iloc[:0], 2, "l.gpkg has no rows"),
        (two(list("aabb"), [*SPREAD[:3], (106, 106)]), 2, "field: 1 pixel labelled as two classes of 'crop'"),
        (two(list("aabb"), [*SPREAD[:2], (405, 655), (1405, 1005)]), 3, "labels: 1 of 2 classes have fewer than two"),
        (two([str(k) for k in range(300)], [(3 * k, 5) for k in range(300)]), 2, "field: 300 values of 'crop'"),
        (two([""] * 4, SPREAD), 2, "field: 'crop' is empty in all 4 rows"),
        (two(list("aaabbb"), [*SPREAD, (505, 105), (505, 905)], id=list("111122")), 2, "'crop' and 'id' contradict"),
        (two(list("aabb"), SPREAD).to_crs(4326).assign(geometry=lambda f: shapely.transform(
            f.geometry.to_numpy(), lambda c: c[:, ::-1])), 2, "4 of them would with x and y swapped"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learnt_from(
    frame: gpd.GeoDataFrame, code: int, says: str, ground: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    frame.to_file(tmp_path / "l.gpkg")
    result = cli(*words(ground, tmp_path / "l.gpkg", *BANDS, "--out", tmp_path / "out"))  # type: ignore[arg-type]
    assert result.exit_code == code, (result.output, result.exception)
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "out" / "model" / "model.json").exists()


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--field", "corn"], 2, "field: no 'corn'"),
        (["--layer", "corn"], 2, "layer: no 'corn'"),
        (["--datetime", "2024-10"], 3, "no item"),
        (["--model", "bands"], 2, "bands, gsd: a model of bands alone needs both"),
        (["--model", "preso"], 2, "preso"),
        (["--sets", "1"], 2, "sets"),
        (["--ground", "5000"], 2, "lie on one piece of ground each"),
        (["--places", "5"], 2, "places: 5; expected at least two for each of 3 classes"),
        (["--places", "-3"], 2, "--places"),
        (["--bands", "0.4um..0.9um"], 2, "bands: '0.4um..0.9um'; expected a range in nanometres, such as 400nm..900nm"),
        (["--bands", "red,nir"], 2, "bands: 'red,nir'; expected one name: repeat --bands for each"),
    ],
)
def test_a_wrong_question(
    more: list[str], code: int, says: str, ground: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    asked = words(ground, "points.gpkg", *(BANDS if more[0] != "--model" else []))
    if more[0] == "--datetime":
        asked = [w for w in asked if w not in ("--datetime", *DATES)]
    result = cli(*asked, *more, "--out", tmp_path / "out")
    assert result.exit_code == code, (result.output, result.exception)
    assert says in " ".join(result.stderr.split())
    assert not (tmp_path / "out" / "model").exists(), "before anything is learnt"


def test_the_run_of_another_model_is_refused_before_anything_is_learnt(
    by_bands: tuple[Path, str], ground: Path, tmp_path: Path, cli: Callable[..., Any], said: Callable[..., str]
) -> None:
    shutil.copytree(by_bands[0] / "model", tmp_path / "package")
    query = ["--catalog", "made", "--bbox", *(f"{v:.9f}" for v in SCENE.bbox(inner=0.4)), *WHEN]
    said("predict", "--model", tmp_path / "package", *query, "--out", tmp_path / "out")
    result = cli(*words(ground, "points.gpkg", *BANDS, "--out", tmp_path / "out"))
    assert result.exit_code == 2
    assert "contains a run of a different recipe: model is " in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "out" / "model").exists()


def test_models_show_says_the_settings_in_words(by_bands: tuple[Path, str], said: Callable[..., str]) -> None:
    shown = said("models", "show", by_bands[0] / "model")
    assert "How well it did, on held-out labels\n" in shown
    (settings,) = rows(shown)["settings"]
    assert settings.startswith("share of prediction sets that hold the truth 0.9, least probability of a class in a")
    assert settings.endswith("distance to labels yes"), "nothing of a second model, which there is none of"


def test_more_steps_than_the_encoder_takes(ground: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    months = [w for n in range(22) for w in ("--datetime", f"{2000 + n}-01")]
    asked = [*words(ground, "points.gpkg", "--model", ground / "tiny"), *months]
    result = cli(*asked, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "datetime: 25 steps given; tiny takes at most 24" in " ".join(result.stderr.split())


def test_bands_under_the_names_of_others_are_refused(ground: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    catalog = testing.write_catalog(tmp_path / "shuffled", scenes(("nir", "red")))
    asked = [w if w != "made" else str(catalog) for w in words(ground, "points.gpkg", "--model", ground / "tiny")]
    result = cli(*asked, "--out", tmp_path / "out")
    assert result.exit_code == 6, (result.output, result.exception)
    assert "bands" in result.stderr
