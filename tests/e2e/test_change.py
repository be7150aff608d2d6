"""Two dates through the whole run, on made pairs whose changes are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
from typer.testing import Result

import geoml
from geoml import models, testing
from geoml.engine.packages import package
from geoml.errors import DataError, InputError, ModelError, NothingFound
from geoml.io.cards.map_card import Band, ClassInfo, MapCard
from geoml.texts import percent

BANDS = ("red", "nir")
BEFORE = testing.Scene(
    id="before",
    data=testing.smooth((2, 420, 560), seed=3, cell=9),
    bands=BANDS,
    origin=(595_000.0, 7_198_000.0),  # all in one chip of a network with a halo
    datetime="2020-06-01T12:00:00Z",
)
CHANGED = np.zeros(BEFORE.data.shape[1:], bool)
CHANGED[60:100, 80:150] = CHANGED[250:330, 300:360] = CHANGED[180:190, 40:52] = True
CLOUD = np.zeros(CHANGED.shape, np.uint8)
CLOUD[260:300, 330:480] = testing.BAD_QUALITY


def later(data: np.ndarray = BEFORE.data, **more: Any) -> testing.Scene:
    """The second date: what changed is far off in both bands, the rest has a little noise."""
    noise = np.random.default_rng(1).normal(0, 20, data.shape)
    far = np.where(data < 3000, data + 3500.0, data - 2500.0)
    changed = np.where(CHANGED, far, data + noise).clip(1, 10_000).astype(np.uint16)
    return replace(BEFORE, id="after", data=changed, datetime="2022-06-01T12:00:00Z", **more)


def baseline(folder: Path, architecture: str = "cva", **config: Any) -> str:
    """A package of a model that is calibrated on the run."""
    card = MapCard(
        name=architecture,
        architecture=architecture,
        config=config,
        task="change",
        dates=2,
        bands=tuple(Band(name=b) for b in BANDS),
        gsd=10.0,
        chip_size=256,
        classes=(
            ClassInfo(value=0, name="unchanged", color="#cccccc"),
            ClassInfo(value=1, name="changed", color="#d7301f"),
        ),
    )
    package.save(package.build(card), card, folder)
    return str(folder)


@pytest.fixture(scope="module")
def cva(tmp_path_factory: pytest.TempPathFactory) -> str:
    return baseline(tmp_path_factory.mktemp("model") / "cva")


@pytest.fixture(scope="module")
def siamese(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Siamese network with random weights: nobody knows its answer, but the cut must not show in it."""
    import torch

    torch.manual_seed(0)
    config = {**models.find("siamese_unet").TINY}
    card = MapCard(
        name="siamese",
        architecture="siamese_unet",
        config=config,
        task="change",
        dates=2,
        bands=tuple(Band(name=b, mean=0.3, std=0.15) for b in BANDS),
        gsd=10.0,
        chip_size=256,
        classes=(
            ClassInfo(value=0, name="unchanged", color="#cccccc"),
            ClassInfo(value=1, name="changed", color="#d7301f"),
        ),
    )
    folder = tmp_path_factory.mktemp("model") / "siamese"
    package.save(package.build(card).eval(), card, folder)
    return str(folder)


def recipe(model: str, catalog: Path, dates: Sequence[str] = ("2020", "2022"), **more: Any) -> dict[str, Any]:
    box = [float(f"{v:.9f}") for v in BEFORE.bbox()]
    return {"model": model, "query": {"catalog": str(catalog), "bbox": box, "datetime": list(dates)}, **more}


def run(model: str, folder: Path, scenes: Sequence[testing.Scene], out: str = "out", **more: Any) -> Path:
    catalog = folder / "made" / "catalog.json"
    if not catalog.exists():
        catalog = testing.write_catalog(folder / "made", scenes)
    geoml.predict(recipe(model, catalog, **more), folder / out)
    return folder / out


def part(out: Path, asset: str = "class") -> np.ndarray:
    return testing.read_map(out, asset)[BEFORE.crs].part(BEFORE.window)[0]


def test_changes_are_found_and_told(cva: str, tmp_path: Path, stac_schemas: Any) -> None:
    out = run(cva, tmp_path, [BEFORE, later()], block_size=256)
    found = part(out)
    assert (found == CHANGED).mean() > 0.999
    score = part(out, "score")
    assert ((score > 125) == (found == 1)).all()
    said = json.loads((out / "run.json").read_text())
    assert said["warnings"] == []
    assert said["self_change"] == {"share": 0.0, "dates": [0.0, 0.0]}  # equal dates calibrate it to see none
    frame = geopandas.read_parquet(out / "features.parquet").sort_values("area_m2", ignore_index=True)
    big = frame[frame["area_m2"] > 5000]
    np.testing.assert_allclose(big["area_m2"], [12_000, 280_000, 480_000], rtol=0.05)
    assert set(frame["before_items"].map(tuple)) == {("before",)}
    assert set(frame["after_items"].map(tuple)) == {("after",)}
    assert (frame["before_end"] < frame["after_start"]).all()
    assert frame["id"].is_unique
    assert big["confidence"].between(0.5, 1).all()
    for path in (out / "items").glob("*.json"):
        item = pystac.Item.from_file(str(path))
        stac_schemas.validate(json.loads(path.read_text()))
        assert item.assets.keys() == {"class", "score", "valid", "thumbnail", "before"}
        asset = item.assets["score"]
        assert "no probability" in asset.title
        assert "no probability" in asset.extra_fields["bands"][0]["description"]
        with rasterio.open(asset.get_absolute_href() or asset.href) as file:
            assert "no probability" in file.descriptions[0]
        assert item.properties["geoml:sources"] == ["made/before", "made/after"]
        assert {link.title for link in item.get_links("derived_from")} >= {"before", "after"}
    page = (out / "report.html").read_text()
    assert said["model"]["learnt"] is False
    assert "not known whether the model fits" not in page, "it learnt nothing that images could be unlike"
    assert "area next" not in page, "no labels could correct it"
    assert "Before" in page
    assert "score of change" in page
    assert "probability" not in page.replace("no probability", "")


@pytest.mark.slow
def test_the_cut_does_not_show(siamese: str, cva: str, tmp_path: Path) -> None:
    """Block size changes no pixel, with a network and with a model that is calibrated on the run."""
    for name, model in (("siamese", siamese), ("cva", cva)):
        small = run(model, tmp_path, [BEFORE, later()], f"{name}-small", block_size=128)
        large = run(model, tmp_path, [BEFORE, later()], f"{name}-large", block_size=1024)
        layer = "score" if name == "cva" else "probability"
        a, b = part(small, layer).astype(int), part(large, layer).astype(int)
        assert np.abs(a - b).max() <= 1, name


def test_equal_dates_have_no_change(cva: str, tmp_path: Path) -> None:
    out = run(cva, tmp_path, [BEFORE, replace(BEFORE, id="after", datetime="2022-06-01T12:00:00Z")])
    assert (part(out) == 1).mean() < 0.001
    assert len(geopandas.read_parquet(out / "features.parquet")) == 0


def noisy(share: float = 0.0) -> testing.Scene:
    """Another light and noise, and change in ``share`` of the rows."""
    noise = np.random.default_rng(2).normal(0, 60, BEFORE.data.shape)
    second = BEFORE.data * 1.1 + 200 + noise
    rows = round(share * second.shape[1])
    second[:, :rows] = np.where(second[:, :rows] < 3000, second[:, :rows] + 3500, second[:, :rows] - 2500)
    return replace(BEFORE, id="after", data=second.clip(1).astype(np.uint16), datetime="2022-06-01T12:00:00Z")


@pytest.mark.slow
def test_a_pair_without_change_is_told_wherever_a_person_looks(
    cva: str, cli: Callable[..., Result], tmp_path: Path
) -> None:
    """The split takes much of a pair in which nothing changed, and everything that speaks of the map says so."""
    catalog = testing.write_catalog(tmp_path / "made", [BEFORE, noisy()])
    box = [f"{v:.9f}" for v in BEFORE.bbox()]
    words = ["--model", cva, "--catalog", catalog, "--bbox", *box, "--datetime", "2020", "--datetime", "2022"]
    result = cli("predict", *words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (part(tmp_path / "out") == 1).mean() > 0.2
    (said,) = json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    assert "one mode" in said
    assert said in " ".join(result.output.split())
    page = (tmp_path / "out" / "report.html").read_text()
    assert '<div class="verdict part" role="alert">' in page
    assert "the magnitude of change has one mode" in page
    changed = run(cva, tmp_path / "changed", [BEFORE, noisy(share=0.05)])
    assert json.loads((changed / "run.json").read_text())["warnings"] == []


def early_fusion(folder: Path, task: str = "change") -> str:
    """A U-Net on both dates as bands, with random weights: nothing keeps it from seeing change between equal dates."""
    import torch

    torch.manual_seed(1)
    card = MapCard(
        name="early",
        architecture="unet",
        config={"encoder": "resnet18", "depth": 3, "decoder_channels": [16, 8, 8]},
        task=task,
        dates=2,
        bands=tuple(Band(name=b, mean=0.3, std=0.15) for b in BANDS),
        gsd=10.0,
        chip_size=256,
        classes=(
            ClassInfo(value=0, name="unchanged", color="#cccccc"),
            ClassInfo(value=1, name="changed", color="#d7301f"),
        ),
    )
    module = package.build(card)
    x = torch.randn(2, 4, 64, 64)
    with torch.no_grad():
        for _ in range(3):
            module.train()(x)
        module.eval()
        logits = module(x)
        module.get_submodule("net.segmentation_head.0").bias[1] -= (logits[:, 1] - logits[:, 0]).median()
    package.save(module, card, folder)
    return str(folder)


@pytest.mark.parametrize("max_shift", [pytest.param(8.0, marks=pytest.mark.slow), 0.0])
def test_a_model_that_sees_change_between_equal_dates_is_told(max_shift: float, tmp_path: Path) -> None:
    """As measured on the run's own pixels, and as a run of equal dates comes out; whatever the cut."""
    model = early_fusion(tmp_path / "early")
    none = {"features": False, "map": False}
    out = run(model, tmp_path, [BEFORE, later()], block_size=256, max_shift=max_shift, **none)
    said = json.loads((out / "run.json").read_text())
    assert said["self_change"]["share"] == pytest.approx(np.mean(said["self_change"]["dates"]), abs=1e-6)
    assert "compared with itself" in said["warnings"][0]
    assert percent(said["self_change"]["share"]) in said["warnings"][0]
    assert "compared with itself" in (out / "report.html").read_text()
    other = run(model, tmp_path, [], "other", block_size=1024, max_shift=max_shift, **none)
    assert json.loads((other / "run.json").read_text())["self_change"] == said["self_change"]
    again = replace(BEFORE, id="again", datetime="2022-06-01T12:00:00Z")
    equal = run(model, tmp_path / "equal", [BEFORE, again], max_shift=max_shift, **none)
    truth = (part(equal) == 1).mean()
    assert 0.05 < truth < 0.95
    # chips of the sample have no context, and of some squares only a part is looked at
    assert said["self_change"]["dates"][0] == pytest.approx(truth, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("max_shift", [8.0, 0.0])
def test_classes_of_two_dates_are_no_changes(max_shift: float, tmp_path: Path) -> None:
    """The task says whether dates are compared, not how many there are: both classes are features of their own."""
    model = early_fusion(tmp_path / "early", "segmentation")
    out = run(model, tmp_path, [BEFORE, later()], block_size=512, max_shift=max_shift)
    said = json.loads((out / "run.json").read_text())
    assert "self_change" not in said
    assert said["warnings"] == []
    frame = geopandas.read_parquet(out / "features.parquet")
    assert set(frame["class"]) == {0, 1}
    assert not {"before_items", "after_items"} & set(frame.columns)
    assert np.unique(part(out, "confidence")).size > 2


@pytest.mark.slow
def test_a_model_that_is_right_about_equal_dates_is_not_told(siamese: str, tmp_path: Path) -> None:
    """Absolute differences of equal dates are none, whatever the weights: one answer everywhere."""
    said = json.loads((run(siamese, tmp_path, [BEFORE, later()]) / "run.json").read_text())
    assert said["self_change"]["share"] in (0.0, 1.0)
    assert bool(said["warnings"]) == bool(said["self_change"]["share"])


def test_probabilities_of_a_model_without_any_are_refused(cva: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^probabilities: cva needs no training and has none"):
        run(cva, tmp_path, [BEFORE, later()], probabilities=True)


def test_a_cloud_on_one_date_is_no_data_and_no_change(cva: str, machine: Callable[..., None], tmp_path: Path) -> None:
    machine(catalogs=tmp_path)  # whose YAML says what the quality band means
    second = later(quality=CLOUD)
    first = replace(BEFORE, quality=np.zeros_like(CLOUD))
    second.data[:, CLOUD > 0] = 9000
    testing.write_catalog(tmp_path / "made", [first, second])
    given = recipe(cva, tmp_path / "made" / "catalog.json", mask="auto")
    given["query"]["catalog"] = "made"
    geoml.predict(given, tmp_path / "out")
    found = part(tmp_path / "out")
    assert (found[CLOUD > 0] == 255).all()
    assert (found == 1)[(CLOUD == 0) & CHANGED].mean() > 0.99
    assert (found == 1)[(CLOUD == 0) & ~CHANGED].mean() < 0.001


@pytest.mark.parametrize("shift", [(1, 0), (2, -3)])
def test_a_shift_between_the_dates_is_found_and_corrected(shift: tuple[int, int], cva: str, tmp_path: Path) -> None:
    wide = testing.smooth((2, 460, 600), seed=3, cell=3)  # fine, so that a pixel makes a difference
    first = replace(BEFORE, data=np.ascontiguousarray(wide[:, 20:440, 20:580]))
    moved = wide[:, 20 - shift[0] : 440 - shift[0], 20 - shift[1] : 580 - shift[1]]
    second = replace(later(np.ascontiguousarray(moved)))
    out = run(cva, tmp_path, [first, second], shift_limit=0.5)
    plan = json.loads((out / ".geoml" / "plan.json").read_text())
    np.testing.assert_allclose(plan["sample"]["shifts"][0], shift, atol=0.1)
    left = json.loads(next((out / "items").glob("*.json")).read_text())["properties"]["geoml:shift"][0]
    assert abs(left["dy"]) < 0.2
    assert abs(left["dx"]) < 0.2
    stable = ~np.roll(CHANGED, (-shift[0], -shift[1]), (0, 1)) & ~CHANGED & (part(out) != 255)
    loose = run(cva, tmp_path, [first, second], "loose", max_shift=0)
    assert (part(out) == 1)[stable].mean() < 0.005
    corrected, plain = (part(folder, "score")[stable].astype(float).mean() for folder in (out, loose))
    assert corrected < 0.5 * plain


def test_dates_that_lie_too_far_off_are_refused(cva: str, tmp_path: Path) -> None:
    wide = testing.smooth((2, 460, 600), seed=3, cell=9)
    first = replace(BEFORE, data=np.ascontiguousarray(wide[:, 20:440, 20:580]))
    second = later(np.ascontiguousarray(wide[:, 8:428, 20:580]))
    with pytest.raises(DataError, match=r"2022 is shifted by 12, 0 pixels .* more than max_shift = 8"):
        run(cva, tmp_path, [first, second])


@pytest.mark.slow
@pytest.mark.parametrize(("how", "close", "left"), [("histogram", 0.15, 0.5), ("invariant", 0.03, 0.1)])
def test_other_light_on_the_second_date_is_made_alike(
    how: str, close: float, left: float, siamese: str, tmp_path: Path
) -> None:
    """A network sees the second date in the light of the first, so that it answers as if nothing had happened.

    Quantiles are taken of what changed as well, so a histogram is less exact.
    """
    second = later()
    darker = replace(second, id="darker", data=(second.data * 0.7 + 300).astype(np.uint16))
    same = part(run(siamese, tmp_path / "same", [BEFORE, second]), "probability").astype(int)
    plain = part(run(siamese, tmp_path / "dark", [BEFORE, darker]), "probability").astype(int)
    light = run(siamese, tmp_path / "dark", [], "light", harmonise=how)
    told = json.loads((light / ".geoml" / "plan.json").read_text())["sample"]["transforms"][0]
    for band in told["bands"]:
        gain = (band["y"][-1] - band["y"][0]) / (band["x"][-1] - band["x"][0])
        assert gain == pytest.approx(1 / 0.7, rel=close)
    harmonised = part(light, "probability").astype(int)
    assert np.abs(harmonised - same).mean() < left * np.abs(plain - same).mean()


def test_a_run_that_is_given_again_changes_nothing(cva: str, tmp_path: Path) -> None:
    out = run(cva, tmp_path, [BEFORE, later()], block_size=256)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    run(cva, tmp_path, [], block_size=256)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("dates", "error", "words"),
    [
        (["2020"], InputError, "takes 2"),
        (["2020", "2021", "2022"], InputError, "takes 2"),
        (["2022", "2020"], InputError, "does not end before"),
        (["2020/2022", "2022"], InputError, "does not end before"),
        (["..", "2022"], InputError, "expected an instant or an interval"),
        (["2020", "2024"], NothingFound, "2024"),
    ],
)
def test_dates_that_do_not_fit_are_refused(dates: list[str], error: Any, words: str, cva: str, tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [BEFORE, later()])
    with pytest.raises(error, match=words):
        geoml.predict(recipe(cva, catalog, dates), tmp_path / "out")
    assert not (tmp_path / "out" / ".geoml" / "plan.json").exists()


def test_dates_without_common_ground_are_refused(cva: str, tmp_path: Path) -> None:
    away = replace(later(), origin=(BEFORE.origin[0] + 100_000, BEFORE.origin[1]))
    catalog = testing.write_catalog(tmp_path / "made", [BEFORE, away])
    boxes = np.array([BEFORE.bbox(), away.bbox()])
    given = recipe(cva, catalog)
    given["query"]["bbox"] = [*boxes.min(0)[:2].tolist(), *boxes.max(0)[2:].tolist()]
    with pytest.raises(NothingFound, match="no block of it is covered on all 2 dates"):
        geoml.predict(given, tmp_path / "out")


def test_another_sensor_on_the_second_date_is_refused(cva: str, tmp_path: Path) -> None:
    other = replace(later(), bands=("red", "swir16"))
    catalog = testing.write_catalog(tmp_path / "made", [BEFORE, other])
    with pytest.raises(ModelError, match="nir"):
        geoml.predict(recipe(cva, catalog), tmp_path / "out")


def test_the_command_takes_a_date_each(cva: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    catalog = testing.write_catalog(tmp_path / "made", [BEFORE, later()])
    box = [f"{v:.9f}" for v in BEFORE.bbox()]
    words = ["--model", cva, "--catalog", catalog, "--bbox", *box, "--datetime", "2020", "--datetime", "2022"]
    result = cli("predict", *words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (part(tmp_path / "out") == CHANGED).mean() > 0.999
