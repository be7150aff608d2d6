"""Runs inside and outside of what their model saw: what is said, where it is written, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from rasterio.features import geometry_mask
from rio_cogeo.cogeo import cog_validate
from typer.testing import Result

import geoml
from geoml import testing
from geoml.cube import profile
from geoml.cube.domain import fit
from geoml.engine.packages import cards, package
from geoml.errors import ModelError
from geoml.io.cards.domain import OUTSIDE
from geoml.io.cards.map_card import MapCard
from geoml.recipe import PredictRecipe

BANDS = ("red", "nir")
LIKE = testing.Scene(
    id="like", data=testing.smooth((2, 300, 380), seed=5), bands=BANDS, properties={"platform": "sat-1"}
)
UNLIKE = np.zeros(LIKE.data.shape[1:], bool)
UNLIKE[40:180, 100:260] = True
UNLIKE_SHARE = UNLIKE.mean()


def shifted(where: np.ndarray = UNLIKE) -> testing.Scene:
    """The same scene with near infrared above every value of the training data in one place."""
    data = LIKE.data.copy()
    data[1, where] = 9000 + data[1, where] // 10
    return replace(LIKE, id="shifted", data=data, properties={"platform": "sat-2"})


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of thresholds with a record of other scenes of the same making."""
    pixels = [testing.smooth((2, 200, 200), seed=k).reshape(2, -1).T * 1e-4 for k in (50, 51)]
    folder = tmp_path_factory.mktemp("models") / "known"
    record = fit(*pixels, months=(6,), platforms=("sat-1",))
    testing.threshold_model(folder, BANDS, (0.20005, 0.40005), domain=record)
    return str(folder)


@pytest.fixture
def run(tmp_path: Path, known: str) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """``run(scene, name="out", **recipe)`` gives the folder and what run.json says."""

    def of(*scenes: testing.Scene, name: str = "out", model: str = known, **recipe: Any) -> tuple[Path, dict[str, Any]]:
        catalog = testing.write_catalog(tmp_path / f"{name}-made", scenes)
        query = {
            "catalog": str(catalog),
            "bbox": LIKE.bbox(inner=0.05),
            "datetime": ["2024"],
            **recipe.pop("query", {}),
        }
        said = geoml.predict({"model": model, "query": query, "block_size": 128, **recipe}, tmp_path / name)
        return tmp_path / name, said

    return of


def test_images_like_the_training_data_are_called_so(run: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    out, said = run(LIKE)
    assert said["domain"]["verdict"] == "inside"
    assert 0 <= said["domain"]["outside"] < 0.05
    assert said == json.loads((out / "run.json").read_text())
    page = (out / "report.html").read_text()
    assert 'class="verdict beside good"' in page
    assert "The map is complete" in page
    assert "unlike the training data" not in caplog.text


def test_what_is_unlike_is_said_in_every_place(run: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    out, said = run(shifted())
    # the truth: pixels of the region in the place that was shifted, and the few that are rare everywhere
    count = testing.read_map(out, "valid")[LIKE.crs]
    inside = (count.part(LIKE.window)[0] != 255) & (count.part(LIKE.window)[0] > 0)
    share = (inside & UNLIKE).sum() / inside.sum()
    assert said["domain"]["outside"] == pytest.approx(share, abs=0.03)
    assert said["domain"]["verdict"] == "partly"
    assert "partly unlike the training data" in caplog.text
    page = (out / "report.html").read_text()
    assert 'class="verdict beside part"' in page
    assert "The map is complete" in page
    assert "There are images of sat-2; it was trained on sat-1." in page

    alike = testing.read_map(out, "domain")[LIKE.crs].part(LIKE.window)[0]
    assert (alike[inside & UNLIKE] < OUTSIDE).all()
    assert (alike[inside & ~UNLIKE] < OUTSIDE).mean() < 0.03
    assert (alike[~inside] == 255).all()
    outside = valid = 0
    for path in (out / "items").glob("*.json"):
        item = json.loads(path.read_text())
        asset = item["assets"]["domain"]
        assert asset["roles"] == ["data"]
        (band,) = asset["bands"]
        wanted = {"name": "domain", "data_type": "uint8", "nodata": 255, "raster:scale": 0.004}
        assert band.items() >= wanted.items()
        assert cog_validate(path.parent / asset["href"], quiet=True)[0]
        outside += item["properties"]["geoml:outside_pixels"]
        valid += item["properties"]["geoml:valid_pixels"]
    assert said["domain"]["outside"] == round(outside / valid, 6)
    assert "domain" in json.loads((out / "collection.json").read_text())["item_assets"]


def test_every_polygon_knows_its_share(run: Callable[..., Any]) -> None:
    out, _ = run(shifted())
    frame = geopandas.read_parquet(out / "features.parquet").to_crs(LIKE.crs)
    alike = testing.read_map(out, "domain")[LIKE.crs].part(LIKE.window)[0]
    assert frame["outside"].dtype == np.float32
    for row in frame[frame["area_m2"] > 5000].itertuples():
        pixels = geometry_mask([row.geometry], alike.shape, LIKE.transform, invert=True)
        assert row.outside == pytest.approx((alike[pixels] < OUTSIDE).mean(), abs=0.01)
    assert frame["outside"].min() == 0
    assert frame["outside"].max() > 0.9


def test_the_numbers_do_not_depend_on_the_cut(run: Callable[..., Any]) -> None:
    one, said = run(shifted(), name="one", block_size=64)
    two, again = run(shifted(), name="two", block_size=500)
    maps = [testing.read_map(out, "domain")[LIKE.crs].part(LIKE.window) for out in (one, two)]
    np.testing.assert_array_equal(*maps)
    assert said["domain"] == again["domain"]
    samples = [json.loads((out / ".geoml" / "domain.json").read_text()) for out in (one, two)]
    assert samples[0] | {"key": ""} == samples[1] | {"key": ""}
    frames = [geopandas.read_parquet(out / "features.parquet").sort_values("id") for out in (one, two)]
    assert frames[0]["outside"].tolist() == frames[1]["outside"].tolist()


def test_no_class_of_a_package_changes_by_its_record(run: Callable[..., Any], known: str, tmp_path: Path) -> None:
    card = cards.read(known, MapCard)
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / card.weights).write_bytes((Path(known) / card.weights).read_bytes())
    cards.write(card.model_copy(update={"domain": None}), bare)
    with_it, _ = run(shifted(), name="with")
    without, said = run(shifted(), name="without", model=str(bare))
    for path in (without / "cogs").rglob("*.tif"):
        assert path.read_bytes() == (with_it / path.relative_to(without)).read_bytes()
    assert not list(without.rglob("domain.tif"))
    assert said["domain"] is None
    assert geopandas.read_parquet(without / "features.parquet")["outside"].isna().all()
    page = (without / "report.html").read_text()
    assert "It is not known whether the model fits these images" in page
    assert 'class="verdict beside soft"' in page


@pytest.mark.parametrize("factor", [1e4, 100.0, 0.01])
def test_numbers_in_another_unit_are_refused_before_the_model_runs(run: Callable[..., Any], factor: float) -> None:
    wrong = replace(LIKE, scale=LIKE.scale * factor)
    with pytest.raises(ModelError, match=r"red .*nir .*expected the same scaling .*out_of_domain='allow'$"):
        run(wrong)
    out, said = run(wrong, out_of_domain="allow")  # in the same folder: it decides no pixel
    assert said["domain"]["verdict"] in ("partly", "outside")
    assert list(out.rglob("class.tif"))


def test_refuse_ends_a_run_that_is_unlike_and_lets_others_pass(run: Callable[..., Any]) -> None:
    everywhere = shifted(np.ones_like(UNLIKE))
    with pytest.raises(ModelError, match=r"mostly unlike the training data of the model \(\S+ % of the pixels\)"):
        run(everywhere, name="bad", out_of_domain="refuse")
    assert run(LIKE, name="good", out_of_domain="refuse")[1]["domain"]["verdict"] == "inside"


def test_the_command_warns_and_refuses(cli: Callable[..., Result], known: str, threshold: str, tmp_path: Path) -> None:
    def words(catalog: Path, out: str, model: str = known) -> list[Any]:
        bbox = ["--bbox", *LIKE.bbox(inner=0.05)]
        return ["predict", "--model", model, "--catalog", catalog, *bbox, "--datetime", "2024", "--out", tmp_path / out]

    everywhere = testing.write_catalog(tmp_path / "everywhere", [shifted(np.ones_like(UNLIKE))])
    warned = cli(*words(everywhere, "a"))
    assert warned.exit_code == 0
    assert "Warning: the images are mostly unlike the training data of the model" in warned.stderr
    refused = cli(*words(everywhere, "b"), "--out-of-domain", "refuse")
    assert refused.exit_code == 6
    unknown = cli(*words(everywhere, "c", threshold))
    assert unknown.exit_code == 0
    assert "it is not known whether the model fits these images" in unknown.stderr
    assert cli(*words(everywhere, "d"), "--out-of-domain", "no").exit_code == 2


def test_both_dates_of_a_change_are_compared(run: Callable[..., Any], tmp_path: Path) -> None:
    made = package.build(card := testing.card("seg", BANDS, ("a", "b"), config=testing.small_unet.__globals__["_UNET"]))
    pixels = [testing.smooth((2, 200, 200), seed=k).reshape(2, -1).T * 1e-4 for k in (50, 51)]
    package.save(made, card.model_copy(update={"domain": fit(*pixels)}), tmp_path / "seg")
    from geoml.engine.packages.compare import compare

    both = compare(package.load(tmp_path / "seg"), binary=True)
    package.save(both.module, both.card, tmp_path / "both")
    before, after = replace(LIKE, datetime="2020-06-01T12:00:00Z"), shifted()
    when = {"query": {"datetime": ["2020", "2024"]}, "max_shift": 0, "model": str(tmp_path / "both")}
    later = run(before, after, name="later", **when)[1]["domain"]
    earlier = run(replace(shifted(), datetime="2020-06-01T12:00:00Z"), replace(LIKE, id="z"), name="earlier", **when)[
        1
    ]["domain"]
    neither = run(before, replace(LIKE, id="z"), name="neither", **when)[1]["domain"]
    assert later["verdict"] == earlier["verdict"] == "partly"
    assert neither["verdict"] == "inside"


def test_a_run_of_before_goes_on_as_it_was(run: Callable[..., Any], known: str) -> None:
    """Blocks that were done before the package had a record stay, and what is not known of them is not invented."""
    out, said = run(LIKE)
    kept = {p: p.stat().st_mtime_ns for p in (out / "cogs").rglob("class.tif")}
    for path in (out / "items").glob("*.json"):
        item = json.loads(path.read_text())
        del item["properties"]["geoml:outside_pixels"], item["assets"]["domain"]
        path.write_text(json.dumps(item))
    (out / "run.json").unlink()
    _, again = run(LIKE)
    assert again["domain"] is None
    assert again["hash"] == said["hash"]
    assert {p: p.stat().st_mtime_ns for p in (out / "cogs").rglob("class.tif")} == kept


def test_the_hash_of_a_recipe_is_that_of_before() -> None:
    """As computed before the field was there."""
    query = {"catalog": "demo", "bbox": (-54.725, -25.46, -54.46, -25.15), "datetime": ("2020-05-18",)}
    for allowed in ("warn", "refuse", "allow"):
        recipe = PredictRecipe.model_validate({"model": "demo-itaipu", "query": query, "out_of_domain": allowed})
        assert recipe.hash == "d9fa834c3020048536c5d1743ea240831468e8eba0f7b83009d3a4233db4bde7"


def test_a_square_that_cannot_be_read_stops_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    out, said = run(LIKE)
    broken = tmp_path / "out-made" / "like" / "image.tif"
    broken.write_bytes(broken.read_bytes()[:2000])
    (out / ".geoml" / "domain.json").unlink()
    plan = geoml.pipeline.plan(PredictRecipe.model_validate(said["recipe"]), out)
    assert len(plan.blocks) > 1
    assert json.loads((out / ".geoml" / "domain.json").read_text())["pixels"] == 0


def levelled(folder: Path, known: str, **fields: Any) -> str:
    """The package ``known`` without its record, with others."""
    shutil.copytree(known, folder)
    card = cards.read(known, MapCard)
    cards.write(card.model_copy(update={"domain": None, "name": folder.name, **fields}), folder)
    return str(folder)


def test_bands_in_another_order_are_refused_and_named(run: Callable[..., Any], known: str, tmp_path: Path) -> None:
    pixels = np.moveaxis(testing.smooth((2, 200, 200), seed=50) * [[[1e-4]], [[4e-4]]], 0, -1)
    model = levelled(tmp_path / "ordered", known, profile=profile.fit(pixels.reshape(-1, 2), "made"))
    data = np.stack([LIKE.data[0], np.minimum(LIKE.data[1] * 4.0, 60_000).astype(LIKE.data.dtype)])
    right, wrong = replace(LIKE, data=data), replace(LIKE, data=data[::-1].copy())
    run(right, name="right", model=model)
    with pytest.raises(ModelError, match=r"ordered: bands: .*red holds nir, nir holds red"):
        run(wrong, name="wrong", model=model)
    assert not list((tmp_path / "wrong").glob("cogs/*"))
    run(wrong, name="allowed", model=model, out_of_domain="allow")
    with pytest.raises(ModelError, match="ordered: bands:"):  # what is allowed once is not known to be right
        run(wrong, name="allowed", model=model)


def test_another_level_is_said_and_refused_when_asked(
    run: Callable[..., Any], known: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = levelled(tmp_path / "top", known, level="L1C")
    surface = replace(LIKE, properties={"processing:level": "L2A"})
    run(surface, name="warned", model=model)
    assert "top: level: 1 of L2A among 1 item; the model was trained on L1C" in caplog.text
    with pytest.raises(ModelError, match="top: level: 1 of L2A"):
        run(surface, name="refused", model=model, out_of_domain="refuse")
    run(replace(LIKE, properties={"processing:level": "L1C"}), name="same", model=model, out_of_domain="refuse")
