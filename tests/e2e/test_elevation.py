"""Heights of a made town: the known ground and roofs, any cut, order and worker, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import laspy
import numpy as np
import pystac
import pytest
import rasterio
from numpy.typing import NDArray

from geoml import pipeline
from geoml.elevation import steps
from geoml.elevation.recipe import ElevationRecipe
from geoml.elevation.run.points import opened
from geoml.errors import DataError, InputError, NothingFound
from geoml.io.crs import with_heights
from geoml.io.report.blocks import is_known
from tests import made_town
from tests.e2e.printed import Cli, prints, rows, said, wide
from tests.made_clouds import made_points
from tests.made_octrees import write_ept

__all__ = ["said", "wide"]  # fixtures

LAYERS = ("dtm", "dsm", "height", "count", "spread", "distance", "building")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return made_town.write_town(tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def heights(town: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in blocks of 64 cells of a metre."""
    out = tmp_path_factory.mktemp("heights") / "run"
    run(town, out)
    return out


def recipe(town: list[Path], **changes: Any) -> ElevationRecipe:
    return ElevationRecipe.model_validate({"points": [str(p) for p in town], "block_size": 64, **changes})


def run(town: list[Path], out: Path, **changes: Any) -> dict[str, Any]:
    asked = recipe(town, **changes)
    pipeline.predict(steps.elevation_run(asked, out), out)
    return steps.finish(asked, out)


def squares(out: Path, size: int) -> dict[tuple[str, int, int], bytes]:
    """Stored values of each layer by place in squares of 64 cells of the plane, where anything is known."""
    found = {}
    for name in LAYERS:
        for path in out.glob(f"cogs/*/{name}.tif"):
            with rasterio.open(path) as file:
                values, nodata = file.read(1), file.nodata
                y, x = round(-file.transform.f), round(file.transform.c)
            for i in range(0, size, 64):
                for j in range(0, size, 64):
                    part = values[i : i + 64, j : j + 64]
                    if is_known(part, nodata).any():
                        found[name, y + i, x + j] = part.tobytes()
    return found


def layer(out: Path, name: str) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.float64]]:
    """Known values of a layer with the x and y of the middles of their cells."""
    values, xs, ys = [], [], []
    for path in out.glob(f"cogs/*/{name}.tif"):
        with rasterio.open(path) as file:
            band = file.read(1)
            known = is_known(band, file.nodata)
            row, col = np.nonzero(known)
            x, y = file.transform.c + file.res[0] * (col + 0.5), file.transform.f - file.res[0] * (row + 0.5)
        values.append(band[known])
        xs.append(x)
        ys.append(y)
    return np.concatenate(values), np.concatenate(xs), np.concatenate(ys)


def test_the_ground_lies_where_it_was_made(heights: Path) -> None:
    dtm, x, y = layer(heights, "dtm")
    error = dtm - made_town.terrain(x, y)
    assert len(dtm) > 0.9 * made_town.WIDTH * made_town.HEIGHT
    assert np.sqrt((error**2).mean()) < 0.1
    dsm, x, y = layer(heights, "dsm")
    house = made_town.HOUSES[2]
    inside = (np.abs(x - made_town.X0 - house.x - 10) < 9) & (np.abs(y - made_town.Y0 - house.y - 10) < 9)
    np.testing.assert_allclose(dsm[inside], house.roof, atol=0.01)
    assert (layer(heights, "count")[0] >= 0).all()
    distance, _, _ = layer(heights, "distance")
    assert distance.min() == 0
    assert distance.max() > 9  # in the middle of a house


def test_houses_have_their_heights(heights: Path) -> None:
    found = geopandas.read_parquet(heights / "buildings.parquet").to_crs("EPSG:32632")
    assert len(found) == len(made_town.HOUSES)
    for house in made_town.HOUSES:
        middle = made_town.X0 + house.x + house.wide / 2, made_town.Y0 + house.y + house.deep / 2
        row = found[found.contains(geopandas.points_from_xy([middle[0]], [middle[1]])[0])].iloc[0]
        ground = float(made_town.terrain(*(np.array([v]) for v in middle))[0])
        assert row["roof"] == pytest.approx(house.roof, abs=0.01)
        assert row["height"] == pytest.approx(house.roof - ground, abs=0.4)
        assert row["area_m2"] == pytest.approx(house.wide * house.deep, rel=0.1)
        assert row["count"] > 2 * house.wide * house.deep
        assert 0 <= row["empty"] < 0.2


def test_files_say_above_what_they_are(heights: Path) -> None:
    path = next(heights.glob("cogs/*/dtm.tif"))
    with rasterio.open(path) as file:
        assert np.isnan(file.nodata)
        assert file.units == ("metre",) or file.units == ("m",)
        assert "EGM96" in file.crs.to_wkt()
    with rasterio.open(path.with_name("height.tif")) as file:
        assert file.crs.to_epsg() == 32632
    item = pystac.Item.from_file(str(next((heights / "items").glob("*.json"))))
    assert item.properties["proj:code"] == "EPSG:32632"
    assert "EGM96" in item.assets["dtm"].title
    assert item.assets["dtm"].extra_fields["bands"][0]["unit"] == "m"


@pytest.mark.parametrize("size", [128, 512])
def test_the_heights_do_not_hang_on_blocks_or_the_order_of_files(
    heights: Path, town: list[Path], tmp_path: Path, size: int
) -> None:
    run(town[::-1], tmp_path / "large", block_size=size)
    small, large = squares(heights, 64), squares(tmp_path / "large", size)
    assert len(small) > 7 * 6
    assert small == large
    assert (heights / "buildings.parquet").read_bytes() == (tmp_path / "large/buildings.parquet").read_bytes()


@pytest.mark.slow
def test_the_heights_do_not_hang_on_workers_or_a_stop(
    heights: Path, town: list[Path], tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine(workers="processes:3")
    out = tmp_path / "workers"
    run(town, out)
    assert squares(heights, 64) == squares(out, 64)
    gone = next((out / "items").glob("*.json"))
    before = {p: p.stat().st_mtime_ns for p in out.glob("cogs/*/dtm.tif")}
    gone.unlink()
    run(town, out)
    again = {p for p in before if p.stat().st_mtime_ns != before[p]}
    assert {p.parent.name for p in again} == {gone.stem}
    assert squares(heights, 64) == squares(out, 64)


def test_a_file_that_changed_does_its_blocks_again(town: list[Path], tmp_path: Path) -> None:
    here = made_town.write_town(tmp_path / "town")
    out = tmp_path / "run"
    run(here, out, block_size=512)
    before, _, _ = layer(out, "dsm")
    made = made_town.columns(seed=1)
    here[0].write_bytes(made_town.las_bytes(made, crs=made_town.CRS))
    run(here, out, block_size=512)
    assert not np.array_equal(before, layer(out, "dsm")[0])


def test_a_folder_goes_on_without_its_broken_file_and_names_it(town: list[Path], tmp_path: Path) -> None:
    here = made_town.write_town(tmp_path / "town")
    here[1].write_bytes(here[1].read_bytes()[:2000])
    record = run([tmp_path / "town"], tmp_path / "run", block_size=512)
    ((name, why),) = record["left_out"].items()
    assert name.endswith("east.las")
    assert "of a file of 2000" in why
    with pytest.raises(DataError, match=r"east\.las"):
        run(here, tmp_path / "other", block_size=512)


def test_what_cannot_be_placed_is_refused_by_the_name_of_the_option(tmp_path: Path, cli: Cli) -> None:
    here = made_town.write_town(tmp_path / "town", crs=None)
    with pytest.raises(InputError, match="--crs"):
        run(here, tmp_path / "run")
    told = cli("elevation", "--points", here[0], "--out", tmp_path / "run")
    assert told.exit_code == 2
    mixed = [here[0], made_town.write_town(tmp_path / "other", crs="EPSG:32633+5773")[1]]
    mixed[0].write_bytes(made_town.write_town(tmp_path / "third")[0].read_bytes())
    with pytest.raises(InputError, match="files differ"):
        run(mixed, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingFound, match="no file named"):
        run([tmp_path / "empty"], tmp_path / "run")


def test_other_heights_do_not_share_a_folder(heights: Path, town: list[Path]) -> None:
    with pytest.raises(InputError, match="different heights"):
        run(town, heights, ground="pmf")


def test_heights_above_nobody_knows_what_say_so(tmp_path: Path) -> None:
    here = made_town.write_town(tmp_path / "town", crs="EPSG:32632")
    record = run(here, tmp_path / "run", block_size=512)
    assert any("--vertical" in words for words in record["warnings"])
    with rasterio.open(next((tmp_path / "run").glob("cogs/*/dtm.tif"))) as file:
        assert file.crs.to_epsg() == 32632
    page = (tmp_path / "run/report.html").read_text()
    assert "not known" in page


def test_a_catalog_of_clouds_is_searched(town: list[Path], heights: Path, tmp_path: Path) -> None:
    catalog = heights / ".geoml/points"
    home = tmp_path / "catalog"
    (home / "items").mkdir(parents=True)
    for path in catalog.rglob("*.json"):
        value = json.loads(path.read_text())
        for asset in value.get("assets", {}).values():
            name = Path(asset["href"]).name
            (home / name).write_bytes(Path(asset["href"]).read_bytes())
            asset["href"] = f"../{name}"
        (home / path.relative_to(catalog)).write_text(json.dumps(value))
    asked = ElevationRecipe.model_validate({
        "catalog": str(home / "catalog.json"),
        "datetime": "../..",
        "region": str(heights / ".geoml/region.geojson"),
        "block_size": 64,
    })  # fmt: skip
    out = tmp_path / "run"
    pipeline.predict(steps.elevation_run(asked, out), out)
    assert squares(out, 64) == squares(heights, 64)


@prints("elevation")
def test_the_command_says_what_it_wrote(said: Callable[..., str], town: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    told = said("elevation", "--points", *town[:1], "--res", "2", "--block-size", "512", "--out", out)
    assert "buildings with their heights" in " ".join(rows(told)["buildings.parquet"])
    assert "% of the region has data" in told
    assert "training data" not in told


def test_points_come_back_with_the_classes_that_were_used(tmp_path: Path) -> None:
    bare = made_town.columns()
    bare["classification"] = np.ones(len(bare["classification"]), np.uint8)
    (tmp_path / "bare.laz").write_bytes(made_town.las_bytes(bare, crs=made_town.CRS))
    run([tmp_path / "bare.laz"], tmp_path / "run", block_size=512, write_classes=True)
    (path,) = (tmp_path / "run/points").glob("*.laz")
    written, known = laspy.read(path), made_town.columns()
    np.testing.assert_array_equal(np.asarray(written.x).round(2), np.asarray(known["x"]).round(2))
    ground = np.asarray(written.classification) == 2
    assert (ground == (known["classification"] == 2)).mean() > 0.99


def test_clouds_named_from_here_are_read_from_anywhere(
    town: list[Path], heights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(town[0].parent)
    out = tmp_path / "run"
    asked = ElevationRecipe.model_validate({"points": [town[0].name, "./east.las"], "block_size": 64})
    recipe = steps.elevation_run(asked, out)
    monkeypatch.chdir(tmp_path)
    pipeline.predict(recipe, out)
    assert squares(out, 64) == squares(heights, 64)


def test_a_folder_is_read_with_what_lies_below_it(tmp_path: Path) -> None:
    folder = made_town.write_town(tmp_path / "clouds" / "west")[0].parents[1]
    write_ept(folder / "tiles", made_points(500))
    for place, kinds in ((folder, {"las", "laz", "ept"}), (folder / "tiles", {"ept"})):
        found, left = opened(ElevationRecipe.model_validate({"points": [str(place)]}))
        assert {s.kind for s in found} == kinds
        assert len(found) == len(kinds)
        assert not left


def test_what_was_written_after_other_heights_goes_with_them(town: list[Path], tmp_path: Path) -> None:
    path, out = tmp_path / "a.laz", tmp_path / "run"
    made = made_town.columns(density=1.0)
    path.write_bytes(made_town.las_bytes(made, crs=made_town.CRS))
    run([path], out, block_size=512, res=2, write_classes=True, left_out=True)
    (classes,) = (out / "points").glob("*.laz")
    assert len(laspy.read(classes).points) == len(made["x"])
    assert "left out by chance" in (out / "report.html").read_text()
    before = classes.stat().st_mtime_ns
    same = run([path], out, block_size=512, res=2)  # the same heights: what is known of them stays
    assert {"points", "accuracy.json"} <= set(same["files"])
    assert run([path], out, block_size=512, res=2, write_classes=True)["files"]["points"]
    assert classes.stat().st_mtime_ns == before

    fewer = {k: v[::2] for k, v in made.items()}
    path.write_bytes(made_town.las_bytes(fewer, crs=made_town.CRS))
    record = run([path], out, block_size=512, res=2)
    assert not (out / "points").exists()
    assert not (out / "accuracy.json").exists()
    assert not {"points", "accuracy.json"} & set(record["files"])
    assert "left out by chance" not in (out / "report.html").read_text()
    run([path], out, block_size=512, res=2, write_classes=True)
    assert len(laspy.read(classes).points) == len(fewer["x"])


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("withheld", {"withheld": True}),
        ("noise", {"classification": 7}),
        ("one place", {"x": made_town.X0 + 10, "y": made_town.Y0 + 10, "z": 100.0}),
        ("one line", {"y": made_town.Y0 + 10}),
    ],
)
def test_clouds_without_a_surface_say_so(tmp_path: Path, name: str, columns: dict[str, Any]) -> None:
    made = made_town.columns(density=0.5)
    made |= {k: np.full(len(made["x"]), v) for k, v in columns.items()}
    path = tmp_path / "cloud.laz"
    path.write_bytes(made_town.las_bytes(made, crs=made_town.CRS))
    with pytest.raises(NothingFound):
        run([path], tmp_path / "run", block_size=512, res=2)


def test_water_has_a_surface_and_no_terrain(tmp_path: Path) -> None:
    made = made_town.columns(density=1.0)
    made["classification"] = np.full(len(made["x"]), 9, np.uint8)
    path = tmp_path / "cloud.laz"
    path.write_bytes(made_town.las_bytes(made, crs=made_town.CRS))
    run([path], tmp_path / "run", block_size=512, res=2)
    assert not len(layer(tmp_path / "run", "dtm")[0])
    assert len(layer(tmp_path / "run", "dsm")[0]) > 1000
    assert not len(geopandas.read_parquet(tmp_path / "run/buildings.parquet"))


def test_ground_that_was_left_out_is_missed_by_more_than_points_by_chance(town: list[Path], tmp_path: Path) -> None:
    record = run(town, tmp_path / "run", block_size=128, left_out=True)
    found = json.loads((tmp_path / "run/accuracy.json").read_text())
    assert record["files"]["accuracy.json"]
    assert found["left_out"]["random"]["n"] > 100
    assert found["left_out"]["random"]["rmse"] < found["left_out"]["squares"]["rmse"] < 0.3
    assert [r[0] for r in found["table"][1:]] == ["1 in 10 left out by chance", "squares of 10 m left out"]
    assert "squares of 10 m left out" in (tmp_path / "run/report.html").read_text()


def test_another_model_of_the_heights_is_laid_on_the_run(tmp_path: Path) -> None:
    made = made_town.columns()
    x, y = (np.asarray(made[k], float) for k in "xy")
    made |= {"z": np.round(100 + 8 * np.sin(x / 15) * np.cos(y / 20), 2)}
    path = tmp_path / "hills.laz"
    path.write_bytes(made_town.las_bytes(made, crs=made_town.CRS))
    asked: dict[str, Any] = {"block_size": 128, "ground": "delivered"}
    run([path], tmp_path / "run", **asked, check_points=str(hills(tmp_path / "dem.tif", 2, -1, -3)))
    found = json.loads((tmp_path / "run/accuracy.json").read_text())
    assert (found["dem"]["east"], found["dem"]["north"]) == pytest.approx((2, -1), abs=0.1)
    assert found["dem"]["up"] == pytest.approx(-3, abs=0.05)
    assert found["dem"]["nmad_after"] < 0.1 < found["dem"]["nmad_before"]
    assert found["notes"][0].startswith("dem.tif: ")
    assert found["notes"][0][:20] in (tmp_path / "run/report.html").read_text()
    other = hills(tmp_path / "other.tif", 0, 0, 0, with_heights("EPSG:32632", "EPSG:3855"))
    with pytest.raises(InputError, match="one datum"):
        run([path], tmp_path / "run", **asked, check_points=str(other))


def test_a_run_is_laid_on_another_run_above_the_ellipsoid(tmp_path: Path) -> None:
    made = made_town.columns()
    x, y = (np.asarray(made[k], float) for k in "xy")
    made |= {"z": np.round(100 + 8 * np.sin(x / 15) * np.cos(y / 20), 2)}
    path = tmp_path / "hills.laz"
    path.write_bytes(made_town.las_bytes(made, crs=made_town.CRS))
    asked: dict[str, Any] = {"block_size": 512, "ground": "delivered", "vertical": "EPSG:4979"}
    run([path], tmp_path / "run", **asked)
    (dtm,) = (tmp_path / "run").glob("cogs/*/dtm.tif")
    run([path], tmp_path / "again", **asked, check_points=str(dtm))
    found = json.loads((tmp_path / "again/accuracy.json").read_text())["dem"]
    assert (found["east"], found["north"], found["up"]) == pytest.approx((0, 0, 0), abs=0.01)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("none.tif", None, InputError),
        ("text.tif", "no raster", DataError),
        ("none.gpkg", None, InputError),
        ("text.gpkg", "no table", DataError),
        ("far.csv", "x,y,z\n500000,5000000,1\n", InputError),
    ],
)
def test_a_check_file_is_looked_at_before_the_blocks(
    town: list[Path], tmp_path: Path, name: str, text: str | None, kind: type[Exception]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    given = {"points": [str(p) for p in town], "check_points": str(tmp_path / name), "check_crs": "EPSG:4979"}
    with pytest.raises(kind, match=re.escape(name)):
        steps.elevation_run(ElevationRecipe.model_validate(given), tmp_path / "run")


def hills(path: Path, east: float, north: float, up: float, crs: str = "EPSG:32632") -> Path:
    """The hills moved by so many metres, as a DEM."""
    left, top = made_town.X0 + 20, made_town.Y0 + 110
    x, y = np.meshgrid(left + 0.5 + np.arange(110), top - 0.5 - np.arange(90))
    heights = 100 + 8 * np.sin((x - east) / 15) * np.cos((y - north) / 20) + up
    profile = {"driver": "GTiff", "width": 110, "height": 90, "count": 1, "dtype": "float32", "crs": crs}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(1, 0, left, 0, -1, top)) as file:
        file.write(heights.astype(np.float32), 1)
    return path


def test_a_run_goes_on_from_wherever_it_is_asked(town: list[Path], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run(town, Path("run"), block_size=512)
    path = next((tmp_path / "run/cogs").glob("*/dtm.tif"))
    before = path.stat().st_mtime_ns
    run(town, tmp_path / "run", block_size=512)
    assert path.stat().st_mtime_ns == before


def test_what_decides_a_height_is_in_the_hash_of_its_block(town: list[Path], tmp_path: Path) -> None:
    hashes = set()
    for number, changes in enumerate(({}, {"ground": "pmf"}, {"reach": 20.0})):
        out = tmp_path / str(number)
        made = pipeline.plan(steps.elevation_run(recipe(town, block_size=512, **changes), out), out)
        hashes |= {made.card.marks}
    assert len(hashes) == 3


@pytest.mark.parametrize(("given", "word"), [({"matching": "mccnn"}, "matching"), ({"margin": 20.0}, "margin")])
def test_options_of_pictures_are_not_of_points(town: list[Path], given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"{word}: not of points"):
        recipe(town, **given)


def test_classes_of_an_ept_are_refused_before_the_blocks(tmp_path: Path) -> None:
    write_ept(tmp_path / "tiles", made_points(2000), per_node=500, levels=1)
    with pytest.raises(InputError, match="write_classes: an EPT"):
        steps.elevation_run(recipe([tmp_path / "tiles/ept.json"], write_classes=True), tmp_path / "run")


def test_heights_go_to_earth_engine(said: Callable[..., str], heights: Path, tmp_path: Path) -> None:
    """NaN is no number of JSON; Earth Engine makes coarser levels as the COGs have them."""
    asked = ("--bucket", "gs://maps/a", "--asset", "projects/mine/assets/town", "--out", tmp_path / "up")
    said("export", "earth-engine", heights, *asked)
    (path,) = (tmp_path / "up").iterdir()
    bands = {b["id"]: b for b in json.loads(path.read_text())["bands"]}
    assert {k for k, b in bands.items() if "missingData" in b} >= {"building", "count", "valid"}
    assert "missingData" not in bands["dtm"]
    assert {k: b["pyramidingPolicy"] for k, b in bands.items() if b["pyramidingPolicy"] != "MEAN"} == {
        "building": "MODE",
        "valid": "SAMPLE",
    }
