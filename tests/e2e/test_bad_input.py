"""Wrong questions through the command: the exit code of the error table, and a message that says what is right."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from geoml import testing

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 150, 150), seed=5), bands=("red", "nir"))
BOX = SCENE.bbox(inner=0.1)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return testing.write_catalog(tmp_path / "made", [SCENE])


@pytest.fixture
def ask(cli: Callable[..., Result], threshold: str, made: Path, tmp_path: Path) -> Callable[..., str]:
    """``ask(code, option=value, …)`` runs predict with one thing wrong and gives the message."""

    def run(code: int, **changes: object) -> str:
        given = {"model": threshold, "catalog": made, "bbox": BOX, "datetime": "2024", "out": tmp_path / "out"}
        words: list[object] = ["predict"]
        for key, value in {**given, **changes}.items():
            if value is not None:
                words += [f"--{key.replace('_', '-')}", *(value if isinstance(value, tuple) else (value,))]
        result = cli(*words)
        assert result.exit_code == code, (result.output, result.stderr, result.exception)
        left = {p.name for p in (tmp_path / "out").rglob("*") if p.is_file() and ".geoml" not in p.parts}
        assert left <= {"sources.parquet", "model.json"}, "the plan may be there, nothing else"
        return re.sub(r"\s+", " ", result.stderr)

    return run


def test_nothing_wrong_is_no_error(cli: Callable[..., Result], threshold: str, made: Path, tmp_path: Path) -> None:
    """The question that all others change in one place."""
    box = [str(v) for v in BOX]
    words = ["predict", "--model", threshold, "--catalog", made, "--bbox", *box, "--datetime", "2024"]
    dry = cli(*words, "--out", tmp_path / "dry", "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    assert "1 item" in dry.stdout
    assert not (tmp_path / "dry").exists()
    result = cli(*words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "features.parquet" in result.stdout


@pytest.mark.parametrize(
    ("change", "code", "expected"),
    [
        ({"catalog": "earth-serch"}, 2, ["catalog", "earth-serch", "earth-search"]),
        ({"catalog": "nowhere/catalog.json"}, 2, ["catalog", "nowhere/catalog.json"]),
        ({"catalog": "ftp://example.org/stac"}, 2, ["catalog", "https"]),
        ({"collection": "mad"}, 2, ["collection", "'mad'", "'made'"]),
        ({"model": "demo-itaipo"}, 2, ["model", "demo-itaipo"]),
        ({"bbox": (10.0, 5.0, 11.0, 5.0)}, 2, ["bbox", "south"]),
        ({"bbox": (10.0, 6.0, 11.0, 5.0)}, 2, ["bbox", "south is not below north"]),
        ({"bbox": (10.0, 5.0, 10.0, 6.0)}, 2, ["bbox", "empty"]),
        ({"bbox": (500000.0, 5.0, 600000.0, 6.0)}, 2, ["bbox", "degrees|longitude"]),
        ({"bbox": ("nan", 5.0, 6.0, 6.0)}, 2, ["bbox", "finite"]),
        ({"bbox": None}, 2, ["bbox, region", "exactly one"]),
        ({"region": "r.geojson"}, 2, ["bbox, region", "give one of them"]),
        ({"bbox": (10.0, 5.0, 11.0, 6.0)}, 3, ["no items", "holds", "-54."]),
        ({"datetime": "1999"}, 3, ["no items", "1999", "2024-06-01"]),
        ({"datetime": "last week"}, 2, ["datetime", "last week"]),
        ({"datetime": "2024-13-01"}, 2, ["datetime", "2024-13-01"]),
        ({"datetime": "2024-06-02/2024-06-01"}, 2, ["datetime", "2024-06-02"]),
        ({"crs": "EPSG:1"}, 2, ["crs", "EPSG:1"]),
        ({"block_size": 3}, 2, ["block_size", "64"]),
        ({"composite": "best"}, 2, ["composite", "median"]),
        ({"join": "glue"}, 2, ["join", "blend"]),
        ({"mask": "maybe"}, 2, ["mask", "none"]),
        ({"filter": "cloud <"}, 2, ["filter"]),
        ({"pyramid": "1"}, 2, ["pyramid.0", "2"]),
        ({"pyramid": "2.5"}, 2, ["pyramid.0", "integer"]),
        ({"pyramid": "65"}, 2, ["pyramid.0", "64"]),
        ({"pyramid": ("2", "--pyramid", "2")}, 2, [r"pyramid: \[2, 2\]", "larger than the one before"]),
        ({"pyramid": ("4", "--pyramid", "2")}, 2, [r"pyramid: \[4, 2\]", "larger than the one before"]),
        ({"pyramid": sum((("--pyramid", str(k)) for k in range(2, 9)), ())[1:]}, 2, ["pyramid", "6 items"]),
        ({"pyramid": "2"}, 2, ["pyramid", "threshold maps every pixel"]),
    ],
)
def test_a_wrong_question_is_answered(
    change: dict[str, object], code: int, expected: list[str], ask: Callable[..., str]
) -> None:
    message = ask(code, **change)
    for word in expected:
        assert re.search(word, message), message


def test_two_dates_for_a_model_of_one(ask: Callable[..., str]) -> None:
    assert "takes 1" in ask(2, datetime=("2023", "--datetime", "2024"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "region|GeoJSON"),
        ('{"type": "Point", "coordinates": [1, 2]}', "Point.*polygons"),
        ('{"type": "Polygon", "coordinates": [[[500000, 0], [600000, 0], [600000, 9], [500000, 0]]]}', "degrees"),
    ],
)
def test_a_region_file_that_is_none(content: str, word: str, ask: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "r.geojson").write_text(content)
    assert re.search(word, ask(2, bbox=None, region=tmp_path / "r.geojson"))


def test_a_card_that_does_not_fit_is_refused_before_a_pixel_is_read(
    ask: Callable[..., str], made: Path, tmp_path: Path
) -> None:
    (made.parent / "scene" / "image.tif").unlink()  # proves that it is not read
    testing.threshold_model(tmp_path / "other", ("red", "swir16"), (0.2,))
    message = ask(6, model=tmp_path / "other")
    assert "swir16" in message
    assert "nir, red" in message
    testing.threshold_model(tmp_path / "fine", ("red", "nir"), (0.2,), gsd=1.0)
    item = made.parent / "scene" / "item.json"
    value = json.loads(item.read_text())
    value["properties"]["gsd"] = 10
    item.write_text(json.dumps(value))
    assert "1 m" in ask(6, model=tmp_path / "fine")


def model_copy(source: str, folder: Path) -> Path:
    shutil.copytree(source, folder)
    return folder


def test_damaged_weights(ask: Callable[..., str], constant: str, tmp_path: Path) -> None:
    weights = model_copy(constant, tmp_path / "m") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1000] ^= 1
    weights.write_bytes(content)
    assert "sha256" in ask(6, model=tmp_path / "m")
    weights.write_bytes(content[:5000])
    assert "model.safetensors" in ask(6, model=tmp_path / "m")
    weights.unlink()
    assert "model.safetensors" in ask(6, model=tmp_path / "m")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("exploded", "w"))


def test_a_pickle_is_never_executed(
    ask: Callable[..., str], constant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = pickle.dumps(Bomb())
    (tmp_path / "model.pt").write_bytes(bomb)
    assert "pickle" in ask(6, model=tmp_path / "model.pt")
    for name in ("model.safetensors", "model.pt", "model.pt2"):
        folder = model_copy(constant, tmp_path / f"with-{name}")
        (folder / "model.safetensors").unlink()
        (folder / name).write_bytes(bomb)
        card = json.loads((folder / "model.json").read_text())
        (asset,) = (a for a in card["assets"].values() if a["href"].endswith("model.safetensors"))
        asset["href"] = f"./{name}"
        asset["file:checksum"] = "1220" + hashlib.sha256(bomb).hexdigest()
        if name.endswith(".pt2"):
            asset["mlm:artifact_type"] = "torch.export.save"
        (folder / "model.json").write_text(json.dumps(card))
        ask(6, model=folder, out=tmp_path / f"out-{name}")
    assert not (tmp_path / "exploded").exists()


def change_item(made: Path, **changes: object) -> None:
    path = made.parent / "scene" / "item.json"
    value = json.loads(path.read_text())
    for key, new in changes.items():
        if key == "properties":
            value["properties"] |= new  # type: ignore[operator]
        else:
            value[key] = new
    path.write_text(json.dumps(value))


def test_an_item_without_a_place(ask: Callable[..., str], made: Path) -> None:
    """Without a geometry its bbox would do."""
    change_item(made, geometry=None, bbox=None)
    message = ask(4)
    assert "scene" in message
    assert "geometry" in message


def test_an_item_of_another_planet(ask: Callable[..., str], made: Path) -> None:
    """Where the item's word is asked for, a CRS of Mars is refused; the header counts when pixels are read."""
    change_item(made, properties={"proj:code": "IAU_2015:49900"})
    message = ask(4, crs="data")
    assert "scene" in message
    assert "not a CRS of the Earth" in message
    assert "crs" in ask(2, crs="IAU_2015:49900")


def test_a_raster_that_lies_elsewhere_than_its_item_says(ask: Callable[..., str], made: Path) -> None:
    data = testing.smooth((2, 150, 150), seed=5)
    far = testing.Scene(id="scene", data=data, bands=("red", "nir"), origin=(600_000.0, 2_000_000.0))
    testing.write_cog(made.parent / "scene" / "image.tif", data, crs=far.crs, transform=far.transform, nodata=0)
    message = ask(4)
    assert "scene" in message
    assert "proj:transform" in message


def test_a_model_whose_output_is_not_finite(ask: Callable[..., str], tmp_path: Path) -> None:
    testing.threshold_model(tmp_path / "hot", ("red", "nir"), (0.2, 0.4), steepness=3e38)
    assert "not finite" in ask(6, model=tmp_path / "hot")


def test_a_device_that_is_not_there(ask: Callable[..., str], machine: Callable[..., None]) -> None:
    machine(device="cuda:77")
    assert "GEOML_DEVICE: 'cuda:77'" in ask(2)


def test_search_says_the_same(cli: Callable[..., Result], made: Path) -> None:
    box = [str(v) for v in BOX]
    found = cli("search", made, "--bbox", *box, "--datetime", "2024", "--json")
    assert found.exit_code == 0
    assert [f["id"] for f in json.loads(found.stdout)["features"]] == ["scene"]
    assert cli("search", made, "--bbox", *box, "--datetime", "2030").exit_code == 3
    assert cli("search", "demoo", "--bbox", *box, "--datetime", "2030").exit_code == 2


def test_models_show_names_the_nearest(
    cli: Callable[..., Result], constant: str, tmp_path: Path, machine: Callable[..., None]
) -> None:
    machine(catalogs=tmp_path)
    shutil.copytree(constant, tmp_path / "models" / "water-made")
    assert cli("models", "list", "--json").exit_code == 0
    assert json.loads(cli("models", "show", "water-made", "--json").stdout)["name"] == "constant"
    missing = cli("models", "show", "water-mad")
    assert missing.exit_code == 2
    assert "water-made" in missing.stderr
