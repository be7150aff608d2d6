"""Areas with confidence intervals by the commands, on a map whose errors are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from typer.testing import Result

import geoml
from geoml import testing
from geoml.cli.common import err_console, out_console
from geoml.engine.packages import cards
from geoml.engine.run.estimate import estimate, sample_places
from geoml.io.areas import PixelAreas
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.classmap import open_map
from geoml.outputs._class_report import ClassCounter
from tests.e2e.printed import rows

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 500, 600), seed=5), bands=("red", "nir"))
SCENE.data[:, 100:140, 30:200] = 0


@pytest.fixture(scope="module")
def run(threshold: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of several blocks."""
    folder = tmp_path_factory.mktemp("area")
    catalog = testing.write_catalog(folder / "made", [SCENE])
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_PRECISION", "fp32")
        geoml.predict({"model": threshold, "query": query, "block_size": 256}, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def truth(run: Path) -> tuple[testing.Map, np.ndarray]:
    """What is there: the map, but in every second column class 0 is really 1, in every third row 2 is 0."""
    made = testing.read_map(run)[SCENE.crs]
    real = made.data[0].copy()
    real[:, ::2][made.data[0][:, ::2] == 0] = 1
    real[::3][made.data[0][::3] == 2] = 0
    return made, real


def filled(places: geopandas.GeoDataFrame, truth: tuple[testing.Map, np.ndarray]) -> list[int]:
    made, real = truth
    at = places.to_crs(SCENE.crs).geometry
    return replace(made, data=real[None]).at(at.x.to_numpy(), at.y.to_numpy()).tolist()


@pytest.fixture(scope="module")
def drawn(run: Path, cli_once: Callable[..., Result]) -> geopandas.GeoDataFrame:
    found = cli_once("area", "draw", run, "--places", 600, "--out", run.parent / "places.gpkg")
    assert found.exit_code == 0, found.output
    return geopandas.read_file(run.parent / "places.gpkg")


@pytest.fixture(scope="module")
def cli_once() -> Callable[..., Result]:
    from typer.testing import CliRunner

    from geoml.cli import app

    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


def test_places_are_in_every_class_and_do_not_say_which(drawn: geopandas.GeoDataFrame, truth: tuple) -> None:
    assert set(drawn.columns) == {"id", "reference", "geometry"}
    assert drawn["reference"].isna().all()
    assert 590 <= len(drawn) <= 600
    made = truth[0]
    mapped = np.array(filled(drawn, (made, made.data[0])))
    area = np.bincount(made.data[0][made.data[0] < 3], minlength=3)
    assert set(mapped) == {0, 1, 2}, "never nodata"
    expected = 50 + (600 - 150) * area / area.sum()
    np.testing.assert_allclose(np.bincount(mapped, minlength=3), expected, atol=1)
    assert (np.diff(mapped) != 0).mean() > 0.3, "classes are mixed, so that their order says nothing"
    assert not drawn.geometry.duplicated().any()


def test_the_estimate_is_nearer_to_the_truth_than_the_map(
    run: Path, drawn: geopandas.GeoDataFrame, truth: tuple, cli: Callable[..., Result], tmp_path: Path
) -> None:
    drawn = drawn.assign(reference=[str(v) for v in filled(drawn, truth)])
    drawn.to_file(tmp_path / "filled.geojson", driver="GeoJSON")
    found = cli("area", "estimate", run, tmp_path / "filled.geojson", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    made, real = truth
    metres = made.plane.res**2
    off = np.zeros(2)
    for value, name in enumerate(said["classes"]):
        is_, mapped = metres * (real == value).sum(), metres * (made.data[0] == value).sum()
        row = said["classes"][name]
        assert said["mapped"][name] == pytest.approx(mapped, rel=2e-3), "the scale of UTM is at most 0.1 % off"
        assert abs(row["area"] - is_) < 3 * row["area_se"], "coverage is tested over many samples in unit tests"
        low, high = row["area_95"]
        assert (high - low) / 2 == pytest.approx(1.96 * row["area_se"], rel=1e-3)
        off += np.array([abs(row["area"] - is_), abs(mapped - is_)])
    assert off[0] < off[1] / 2
    assert said["places"] == len(drawn)
    assert said["overall"] == pytest.approx((made.data[0] == real)[real < 3].mean(), abs=3 * said["overall_se"])


def test_no_number_is_cut_and_intervals_that_are_too_narrow_are_named(
    run: Path, truth: tuple, cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_console, "_width", 80)
    monkeypatch.setattr(err_console, "_width", 240)
    made = truth[0]
    mapped = sample_places(run, 30, tmp_path / "few.gpkg")
    mapped = mapped.assign(reference=[str(v) for v in filled(mapped, (made, made.data[0]))])
    mapped.loc[mapped.index[mapped["reference"] == "0"][0], "reference"] = "1"
    mapped.to_file(tmp_path / "few.gpkg")
    found = cli("area", "estimate", run, tmp_path / "few.gpkg")
    assert found.exit_code == 0, found.output
    names = [c.name for c in cards.read(run, MapCard).classes]
    assert "…" not in found.stdout
    table = rows(found.stdout)
    for name in names:
        _, estimated, low, high, *_ = (float(v) for v in table[name])
        assert low <= estimated <= high
    few = ", ".join(f"{name} 10" for name in names)
    assert f"Warning 3 of 3 classes have fewer than 50 checked places ({few}): the intervals are too" in found.stderr
    assert f"Warning 2 of 3 classes have no wrong place ({names[1]}, {names[2]}) and count as" in found.stderr


def test_nothing_is_doubted_with_enough_places_and_errors(run: Path, tmp_path: Path) -> None:
    drawn, truth = sample_places(run, 600, tmp_path / "p.gpkg"), np.array([0, 1, 2])
    drawn.assign(reference=np.resize(truth, len(drawn)).astype(str)).to_file(tmp_path / "p.gpkg")
    assert estimate(run, tmp_path / "p.gpkg")["warnings"] == []


def test_the_same_seed_draws_the_same_places(run: Path, drawn: geopandas.GeoDataFrame, tmp_path: Path) -> None:
    assert len(sample_places(run, 600, tmp_path / "again.gpkg")) == len(drawn)
    assert geopandas.read_file(tmp_path / "again.gpkg").geometry.equals(drawn.geometry)
    sample_places(run, 600, tmp_path / "other.gpkg", seed=1)
    assert not geopandas.read_file(tmp_path / "other.gpkg").geometry.equals(drawn.geometry)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["draw", "RUN", "--places", 3, "--out", "a.gpkg"], "at least two"),
        (["draw", "RUN", "--out", "a.csv"], "gpkg or .geojson"),
        (["draw", "TMP", "--out", "a.gpkg"], "model.json"),
        (["estimate", "RUN", "gone.gpkg"], "not a file"),
        (["estimate", "RUN", "strange.geojson"], "reference: swamp in 4 of 4 rows; expected "),
        (["estimate", "RUN", "twice.gpkg"], "id: 1 place more than once ("),
        (["estimate", "RUN", "strange.geojson", "--column", "kind"], "column kind"),
        (["estimate", "RUN", "few.geojson"], "mapped classes have fewer than two checked places: "),
        (["estimate", "RUN", "empty.geojson"], "reference: none of 4 places in"),
    ],
)
def test_bad_input_is_named(
    run: Path, cli: Callable[..., Result], tmp_path: Path, words: Sequence[object], says: str, drawn: object
) -> None:
    assert isinstance(drawn, geopandas.GeoDataFrame)
    drawn.head(4).assign(reference="swamp").to_file(tmp_path / "strange.geojson", driver="GeoJSON")
    drawn.head(4).assign(reference=None).to_file(tmp_path / "empty.geojson", driver="GeoJSON")
    drawn.iloc[[0, 1, 2, 0]].assign(reference="1").to_file(tmp_path / "twice.gpkg")
    drawn.head(1).assign(reference="1").to_file(tmp_path / "few.geojson", driver="GeoJSON")
    place = {"RUN": run, "TMP": tmp_path}
    files = (".gpkg", ".csv", ".geojson")
    asked = [place.get(str(w), tmp_path / str(w) if str(w).endswith(files) else w) for w in words]
    found = cli("area", *asked)
    assert found.exit_code == 2, found.output
    assert says in " ".join(found.output.split())


def test_mapped_areas_are_those_of_the_page(run: Path, drawn: geopandas.GeoDataFrame, tmp_path: Path) -> None:
    drawn.assign(reference=np.resize(["0", "1", "2"], len(drawn))).to_file(tmp_path / "any.gpkg")
    card = cards.read(run, MapCard)
    of_page = dict.fromkeys([c.name for c in card.classes], 0.0)
    for path in open_map(run).paths:
        with rasterio.open(path) as file:
            counter = ClassCounter(PixelAreas(file.shape, file.transform, str(file.crs)), file.height, 1, (255, 255))
            counter.add(0, {"class": file.read(1)})
        counted = counter.result()["classes"]
        for value, area in zip(counted["values"], counted["area"], strict=True):
            of_page[next(c.name for c in card.classes if c.value == value)] += area
    assert estimate(run, tmp_path / "any.gpkg")["mapped"] == pytest.approx(of_page, rel=1e-9)
