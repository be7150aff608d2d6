"""Every command as typed, and what it prints for a person: a new one fails here until it has its test."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import torch
import yaml
from affine import Affine

from geoml import models, testing
from geoml.cli.common import out_console
from geoml.data import label_file
from geoml.engine.importers import dynamic_world
from geoml.engine.packages import cards, package
from geoml.engine.train import quantize as quantizing
from geoml.io.cards.map_card import MapCard
from geoml.testing import pictures as photos
from geoml.testing.films import film
from geoml.texts import counted, percent
from tests.docs import given
from tests.e2e.printed import PRINTED, Cli, commands, prints, rows, said, wide

__all__ = ["said", "wide"]  # fixtures

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 200, 300), seed=5), bands=("red", "nir"), cloud_cover=7.0)
PLACE: dict[str, Any] = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000, 0, -10, 7_000_000)}


def test_every_command_has_a_test_of_its_printed_output() -> None:
    for name in (
        "test_arcgis",
        "test_clouds",
        "test_cycles",
        "test_doctor",
        "test_earth_engine",
        "test_elevation",
        "test_every_geolocate_command",
        "test_forecast_grid",
        "test_forecast_rows",
        "test_learn",
        "test_own_files",
        "test_runs",
        "test_satlas",
        "test_view",
    ):
        import_module(f"tests.e2e.{name}")
    assert set(PRINTED) == commands()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The catalog ``made`` of one scene of 200 x 300 pixels."""
    root = tmp_path_factory.mktemp("commands")
    testing.write_catalog(root / "made", [SCENE])
    return root


@pytest.fixture(scope="module")
def run(folder: Path, threshold: str) -> Path:
    """A finished run over the scene."""
    import geoml

    query = {"catalog": str(folder / "made" / "catalog.json"), "bbox": SCENE.bbox(), "datetime": ["2024"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOML_PRECISION", "fp32")
        geoml.predict({"model": threshold, "query": query, "block_size": 256}, folder / "run")
    return folder / "run"


# --- search, predict


@prints("search")
def test_search(folder: Path, said: Callable[..., str]) -> None:
    words = ("search", folder / "made" / "catalog.json", "--bbox", *SCENE.bbox(), "--datetime", "2024")
    told = said(*words)
    assert "1 item" in told
    assert rows(told)["scene"] == ["2024-06-01T12:00:00Z", "7", "", "image"]


@prints("predict")
def test_predict(folder: Path, threshold: str, said: Callable[..., str], tmp_path: Path) -> None:
    catalog = folder / "made" / "catalog.json"
    words = ("predict", "--model", threshold, "--catalog", catalog, "--bbox", *SCENE.bbox(), "--datetime", "2024",
             "--block-size", "256", "--out", tmp_path / "out")  # fmt: skip
    ahead = said(*words, "--dry-run")
    planned = int(re.findall(r"1 item, (\d+) blocks? of 256 pixels in 32621-10; nothing was read", ahead)[0])
    assert not (tmp_path / "out").exists()
    told = said(*words)
    assert f"{planned} blocks in {tmp_path / 'out'}" in told
    made = {n for n in rows(told) if (tmp_path / "out" / n).exists()}
    assert made >= {"collection.json", "features.parquet", "report.html", "run.json"}
    size = (tmp_path / "out" / "report.html").stat().st_size
    assert rows(told)["report.html"][0] == f"{size / 1e6:.2f} MB"


@prints("embed", "similar")
def test_embed_and_similar(
    folder: Path, said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given.my_encoder(tmp_path)
    catalog, out = folder / "made" / "catalog.json", tmp_path / "out"
    words = ("embed", "--model", tmp_path / "my-encoder", "--catalog", catalog, "--bbox", *SCENE.bbox(inner=0.3),
             "--datetime", "2024-05", "--datetime", "2024-06", "--out", out)  # fmt: skip
    planned = int(re.findall(r"1 item, (\d+) blocks? of 512 pixels", said(*words, "--dry-run"))[0])
    told = said(*words)
    assert f"{counted(planned, 'block')} in {out}" in told
    assert "mean embedding of each chip" in rows(told)["embeddings.parquet"][1]
    west, south, east, north = SCENE.bbox()
    point = ((west + east) / 2, (south + north) / 2)
    told = said(
        "similar", "--index", out, "--point", *point, "--count", "3", "--pixels", "--out", tmp_path / "f.parquet"
    )
    found, chips = (
        geopandas.read_parquet(tmp_path / "f.parquet"),
        len(geopandas.read_parquet(out / "embeddings.parquet")),
    )
    for one in found.itertuples():
        place = [f"{v:.5f}" for v in (one.pixel_lon, one.pixel_lat)]
        numbers = [f"{one.score:.3f}", f"{one.pixel_score:.3f}", *place, percent(one.valid, 0)]
        assert rows(told)[str(one.rank)] == [*numbers, one.id]
    monkeypatch.setattr(out_console, "_width", 80)
    narrow = said("similar", "--index", out, "--point", *point, "--pixels", "--out", tmp_path / "g.parquet")
    assert "…" not in narrow
    assert max(map(len, narrow.splitlines()[:5])) <= 80
    assert f"{found.score[0]:.3f}" in rows(narrow)["1"]
    assert "not by their colour" in (tmp_path / "f.html").read_text()
    assert f"{len(found)} of {chips} chips in {tmp_path / 'f.parquet'}; {tmp_path / 'f.html'} shows them" in told


@prints("stream")
def test_stream(threshold: str, said: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "chips").mkdir()
    for k in range(3):
        testing.write_cog(tmp_path / "chips" / f"{k}.tif", testing.smooth((2, 64, 80), seed=k), nodata=0, **PLACE)
    (tmp_path / "chips" / "9.tif").write_bytes(b"II*\0")
    words = ("stream", threshold, tmp_path / "chips", "--scale", "1e-4")
    told = said(*words, "--out", tmp_path / "out")
    assert "frames: 3 done, 1 failed (3 of 80x64)" in told
    record = json.loads((tmp_path / "out" / "stream.json").read_text())
    for stage, ms in record["latency_ms"].items():
        assert rows(told)[stage] == [f"{ms[k]:.1f}" for k in ("p50", "p99", "mean")]
    assert f"{record['rate']['frames_per_second']:.2f} frames/s" in told
    assert "3 warm-up frames" in told
    assert f"torch in fp32 on cpu, {counted(torch.get_num_threads(), 'thread')}; 6 files in {tmp_path / 'out'}" in told
    again = json.loads(said(*words, "--out", tmp_path / "again", "--json"))
    assert again["frames"] == record["frames"]


@prints("track")
def test_track(said: Callable[..., str], tmp_path: Path) -> None:
    made = film(6)
    made.write_truth(tmp_path / "truth.txt")
    made.write_matrices(tmp_path / "ways.txt")
    words = ("track", "--detections", tmp_path / "truth.txt", "--homographies", tmp_path / "ways.txt", "--fps", "10")
    told = said(*words, "--gsd", "0.25", "--truth", tmp_path / "truth.txt", "--out", tmp_path / "o.parquet")
    assert f"36 positions in {tmp_path / 'o.parquet'}, 6 tracks in {tmp_path / 'o.tracks.parquet'}, 3 of them" in told
    assert "6 frames with 36 detections; 0 not sure enough" in told
    assert "lon and lat are empty, x and y are pixels of the first frame of 0.25 m" in told
    assert rows(told)["geoml"] == ["100.00"] * 5 + ["0"]
    assert rows(told)["doing nothing"][-2:] == ["16.67", "30"]
    again = json.loads(said(*words, "--gsd", "0.25", "--out", tmp_path / "o.parquet", "--json"))
    assert (again["positions"], again["scores"]) == (36, {})


# --- models


@prints("models list")
def test_models_list(said: Callable[..., str]) -> None:
    told = rows(said("models", "list"))
    assert told["demo-itaipu"] == ["segmentation", "blue green red", "30 m", "water tree crop developed"]
    assert told["world-overhead"][0] == "geolocation, overhead"
    assert set(told) - {"name"} == set(cards.names())


@prints("models show")
def test_models_show(said: Callable[..., str], tmp_path: Path) -> None:
    page = said("models", "show", "demo-itaipu")
    told = rows(page)
    card = cards.read("demo-itaipu", MapCard)
    assert told["gsd"] == ["30 m"]
    assert told["bands"] == ["blue (reflectance), green (reflectance), red (reflectance)"]
    assert told["classes"] == [", ".join(c.name for c in card.classes)]
    assert (told["sha256"], told["licence"]) == ([card.sha256], [card.license])
    sections = ("What it is", "What it needs", "What it gives", "How well it did", "Where not to use it", "Licence")
    assert sorted(sections, key=page.index) == list(sections)
    assert f"mean IoU if all were {card.scores['baseline']['class']} {card.scores['baseline']['miou']:.3f}" in page
    assert told["months seen"] == [", ".join(map(str, card.domain.months))] if card.domain else False
    for name in cards.names():
        shown = said("models", "show", name)
        assert len(shown.splitlines()) < 75, f"{name}: a page, and not the whole card"
        assert all(title in shown for title in sections), name
    apart = tmp_path / "a folder"
    shutil.copytree(cards.find("demo-itaipu"), apart)
    assert f"geoml models show '{apart}' --json" in said("models", "show", apart)
    for name in ("cva", "image-difference", "ndvi-difference", "ir-mad", "ndvi-crossing"):
        shown = said("models", "show", name)
        assert "How well it did: not scored on labels\n" in shown
        assert rows(shown)["elsewhere"] == ["it learnt nothing from data, so no image is unlike its training"]
        assert not cards.read(name, MapCard).learnt, "as a run is told"
    shown, world = said("models", "show", "dynamic-world"), cards.read("dynamic-world", MapCard)
    for row in world.scores["beside"]:
        assert f"│ {row['model']:.3f} " in shown
        assert f"{row['nothing']:.3f}, " in shown
    whole = json.loads(said("models", "show", "kit-cars", "--json"))
    assert whole == json.loads(cards.read_any("kit-cars").model_dump_json())


@prints("models new", "models compare")
def test_models_new_and_compare(said: Callable[..., str], tmp_path: Path) -> None:
    new = tmp_path / "ndvi"
    words = ("--bands", "red,nir", "--gsd", "30", "--config", "first=1", "--config", "second=0", "--out", new)
    assert said("models", "new", "index_difference", *words).split() == ["wrote", str(new)]
    both = tmp_path / "both"
    assert said("models", "compare", "demo-itaipu", "--out", both).split() == ["wrote", str(both)]
    for name, bands in (("ndvi", "red nir"), ("both", "blue green red")):
        assert rows(said("models", "show", tmp_path / name))["dates"] == ["2"]
        assert [b.name for b in cards.read(tmp_path / name, MapCard).bands] == bands.split()


PLAIN = {
    "stem": 0, "side.0": 1,
    "main.0.main.0": 3, "main.0.main.2": 5, "main.0.main.4": 7, "main.0.skip": 9,
    "main.1.main.0": 10, "main.1.main.2": 12, "main.1.main.4": 14, "main.1.skip": 16,
    "join.main.0": 17, "join.main.2": 19, "join.main.4": 21, "join.skip": 23,
}  # fmt: skip
DEPTHWISE = {
    "side.1": 2,
    "main.0.main.1": 4, "main.0.main.3": 6, "main.0.main.5": 8,
    "main.1.main.1": 11, "main.1.main.3": 13, "main.1.main.5": 15,
    "join.main.1": 18, "join.main.3": 20, "join.main.5": 22,
}  # fmt: skip
"""Our layers in the order of the published convolutions, with the number of their published normalisation."""


def published(folder: Path) -> torch.nn.Module:
    """Dynamic World's arrays with weights drawn by chance, under the names that it was published with; the network."""
    torch.manual_seed(0)
    config = {"bands": 9, "classes": 9, "log_shift": [0.1] * 9, "log_scale": [0.02] * 9}
    module = models.build("dynamicworld", config).eval()
    weights = {k: v.numpy() for k, v in module.state_dict().items()}
    variables = {
        "conv2d_14/kernel": weights["head.weight"].transpose(2, 3, 1, 0),
        "conv2d_14/bias": weights["head.bias"],
    }
    kinds = (
        ("conv2d", "kernel", (2, 3, 1, 0), PLAIN),
        ("depthwise_conv2d", "depthwise_kernel", (2, 3, 0, 1), DEPTHWISE),
    )
    for kind, kernel, axes, layers in kinds:
        for number, (layer, place) in enumerate(layers.items()):
            conv, norm = (f"_{n}" if n else "" for n in (number, place))
            variables[f"{kind}{conv}/{kernel}"] = weights[f"{layer}.conv.weight"].transpose(axes)
            variables[f"{kind}{conv}/bias"] = weights[f"{layer}.conv.bias"]
            for ours, theirs in dynamic_world.NORM.items():
                variables[f"batch_normalization{norm}/{theirs}"] = weights[f"{layer}.norm.{ours}"]
    folder.mkdir()
    np.savez(folder / "dw_forward_vars.npz", **variables)
    (folder / "normalisation.json").write_text(json.dumps({"shift_scale": [[0.1, 0.02]] * 9}))
    return module


@prints("models import")
def test_models_import(said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    original = published(tmp_path / "given")
    out = tmp_path / "imported" / "dw"
    assert said("models", "import", "dynamic-world", tmp_path / "given", "--out", out).split() == ["wrote", str(out)]
    x = torch.rand(1, 9, 40, 56) * 3000
    with torch.no_grad():
        assert torch.equal(package.load(out).module(x), original(x))
    told = rows(said("models", "show", out))
    assert (told["name"], told["architecture"]) == (["dynamic-world"], ["dynamicworld"])
    brought = tmp_path / "net.pt2"
    x = torch.rand(2, 2, 64, 64)
    layer = torch.nn.Conv2d(2, 2, 1).eval()
    torch.export.save(torch.export.export(layer, (x,)), brought)
    with torch.no_grad():
        np.savez(tmp_path / "said.npz", input=x.numpy(), output=layer(x).numpy())
    words = ("--bands", "red,nir", "--gsd", "10", "--scale", "1", "--classes", "field,town", "--chip-size", "64")
    printed = said("models", "import", brought, *words, "--reference", tmp_path / "said.npz", "--out", tmp_path / "net")
    assert "differs from the original's by at most" in printed
    assert rows(said("models", "show", tmp_path / "net"))["architecture"] == ["exported"]
    asked = cli("models", "import", brought, "--bands", "red,nir")
    assert asked.exit_code == 2
    assert "--gsd, metres of a pixel; --scale, or --mean and --std" in asked.stderr
    (tmp_path / "given" / "normalisation.json").write_text("{}")
    failed = cli("models", "import", "dynamic-world", tmp_path / "given", "--out", tmp_path / "half")
    assert failed.exit_code == 6
    assert "ModelError" in failed.stderr
    assert not (tmp_path / "half").exists()


# --- scores


def east(metres: float) -> dict[str, Any]:
    return {**PLACE, "transform": Affine.translation(metres, 0) @ PLACE["transform"]}


def write_pairs(root: Path, wrong: int, shape: tuple[int, int] = (128, 160)) -> np.ndarray:
    """A scene ``t`` whose truth is `testing.levels` of its red, but ``wrong`` pixels of level 0 are of 1; the truth.

    ``a`` is the same elsewhere, to train on.
    """
    data = testing.smooth((2, *shape), seed=2)
    truth = testing.levels(data, (0.20005, 0.40005))
    rows_, columns = np.nonzero(truth == 0)
    truth[rows_[:wrong], columns[:wrong]] = 1
    for name, values in (("image", data.astype(np.float32) * np.float32(1e-4)), ("label", truth[None])):
        root.mkdir(exist_ok=True)
        testing.write_cog(root / f"t_{name}.tif", values, **PLACE)
        testing.write_cog(root / f"a_{name}.tif", values, **east(5000))
    return truth


def write_recipe(path: Path, **changes: Any) -> Path:
    levels = [{"value": k, "name": f"level-{k}", "color": "#00000" + str(k)} for k in range(3)]
    value = {
        "name": "made",
        "model": {"architecture": "unet", "config": {}},
        "bands": ["red", "nir"],
        "gsd": 10,
        "classes": levels,
        "source": {
            "kind": "pairs",
            "root": str(path.parent / "data"),
            "images": "{id}_image.tif",
            "labels": "{id}_label.tif",
            "file_bands": ["red", "nir"],
        },
        "split": {"kind": "files", "test": ["t"]},
        "precision": "fp32",
    }
    path.write_text(yaml.safe_dump({**value, **changes}))
    return path


@prints("evaluate")
def test_evaluate_of_segmentation(threshold: str, said: Callable[..., str], tmp_path: Path) -> None:
    truth = write_pairs(tmp_path / "data", wrong=200)
    file = write_recipe(tmp_path / "recipe.yaml")
    told = said("evaluate", file, "--model", threshold, "--report", tmp_path / "page.html")
    assert f"test split, {truth.size:,} pixels" in told
    zero, one, two = (int((truth == k).sum()) for k in range(3))
    table = rows(told)
    # all wrong pixels are of truth 1 and called 0
    assert table["level-0"][:4] == [
        f"{v:.3f}" for v in (zero / (zero + 200), 2 * zero / (2 * zero + 200), zero / (zero + 200), 1.0)
    ]
    assert table["level-1"][2:5] == ["1.000", f"{(one - 200) / one:.3f}", str(one)]
    assert table["level-2"][:5] == [*["1.000"] * 4, str(two)]
    assert f"overall accuracy {1 - 200 / truth.size:.3f}" in told
    assert (
        f"overall accuracy if all were level-{np.argmax([zero, one, two])} {max(zero, one, two) / truth.size:.3f}"
        in told
    )
    assert "level-1" in (tmp_path / "page.html").read_text()


@pytest.mark.slow  # two back ends convert it, twice
@prints("models quantize")
def test_models_quantize(
    unet: str, said: Callable[..., str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOML_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("GEOML_DEVICE", "cpu")
    monkeypatch.setattr(quantizing, "MOST", 1.0)  # how much is lost hangs on the training, and so on the processor
    truth = write_pairs(tmp_path / "data", wrong=0)
    names = [c.name for c in cards.read(unet, MapCard).classes]
    classes = [{"value": k, "name": n, "color": "#00000" + str(k)} for k, n in enumerate(names)]
    file = write_recipe(tmp_path / "recipe.yaml", classes=classes, split={"kind": "files", "val": ["t"]})
    out = tmp_path / "small-int8"
    told = said("models", "quantize", unet, "--data", file, "--out", out)
    record = cards.read(out, MapCard).int8
    assert record is not None
    assert f"IoU on the val split, {truth.size:,} pixels" in told
    before = json.loads(said("evaluate", file, "--model", unet, "--split", "val", "--json"))["iou"]
    table = rows(told)
    assert table["class"] == ["torch fp32", "onnx int8", "openvino int8"]
    for name in names:
        after = [one.after[name] for one in record.loss.values()]
        assert table[name] == [f"{v:.3f}" for v in (before[name], *after)]
    means = [np.mean([*values.values()]) for values in (before, *(one.after for one in record.loss.values()))]
    assert table["mean"] == [f"{v:.3f}" for v in means]
    lost = ", ".join(f"{100 * (means[0] - m):+.2f} by {name}" for m, name in zip(means[1:], record.loss, strict=True))
    assert f"points of mean IoU lost: {lost}; ranges from {record.chips} chips" in told
    assert told.strip().endswith(f"wrote {out}; GEOML_PRECISION=int8 and GEOML_BACKEND run it")
    assert rows(said("models", "show", out))["name"] == ["small-int8"]
    monkeypatch.setattr(quantizing, "MOST", -1.0)
    refused = cli("models", "quantize", unet, "--data", file, "--out", tmp_path / "refused", "--json")
    assert refused.exit_code == 6
    assert re.search(r"ModelError small-unet: int8 by onnx loses -?[\d.]+ points of mean IoU", refused.stderr)
    assert not (tmp_path / "refused").exists()


@prints("models shrink")
def test_models_shrink(unet: str, said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    told = said("models", "shrink", unet, "--out", tmp_path / "small")
    before, after = ((Path(p) / "model.safetensors").stat().st_size for p in (unet, tmp_path / "small"))
    assert after < 0.7 * before
    assert f"weights of {after:,} bytes, before {before:,}" in told
    assert rows(said("models", "show", tmp_path / "small"))["stored"] == ["float16"]
    again = cli("models", "shrink", tmp_path / "small", "--out", tmp_path / "again")
    assert again.exit_code == 2
    assert "stored as float16; expected a package as training writes it" in again.stderr


@prints("models radius")
def test_models_radius(unet: str, folder: Path, said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data", wrong=0, shape=(240, 240))
    before = cards.read(unet, MapCard)
    classes = [{"value": k, "name": c.name, "color": "#00000" + str(k)} for k, c in enumerate(before.classes)]
    file = write_recipe(tmp_path / "recipe.yaml", classes=classes, split={"kind": "files", "val": ["t"]})
    words = ("models", "radius", unet, "--data", file, "--tolerance", "0.05", "--out", out := tmp_path / "short")
    told = said(*words)
    card, halo, table = cards.read(out, MapCard), before.chip_grid().halo, rows(told)
    record = card.short_radius
    assert record is not None
    assert f"val split, {(240 - 2 * halo) ** 2} pixels, fp32; cores of 1024 pixels" in told
    assert table[str(before.radius)] == ["0 %", f"{(1 + 2 * halo / 1024) ** 2:.2f}"]
    for one in record.tried:
        assert table[str(one.radius)] == [f"{100 * one.changed:.3g} %", f"{(1 + 2 * one.radius / 1024) ** 2:.2f}"]
    price = told.strip().split(f"wrote {out}: ")[1]
    assert price.startswith(f"a radius by tolerance, {card.radius} pixels for {before.radius}: the map is that of")
    assert f"about {100 * record.changed:.2g} % of the pixels" in price
    again = json.loads(said(*words[:-1], tmp_path / "b", "--json"))
    assert again == {"radius": card.radius, **record.model_dump(mode="json"), "test": None}
    made = cli("predict", "--model", out, "--catalog", folder / "made" / "catalog.json", "--bbox", *SCENE.bbox(),
               "--datetime", "2024", "--no-features", "--out", tmp_path / "run")  # fmt: skip
    assert f"Warning {price}" in made.stderr
    assert cli("models", "radius", out, "--data", file, "--out", tmp_path / "no").exit_code == 2


def test_evaluate_of_change(said: Callable[..., str], tmp_path: Path) -> None:
    """Squares appear; the difference of images finds them all, and nothing between a date and itself."""
    data = tmp_path / "data"
    data.mkdir()
    before = np.random.default_rng(0).normal(0.2, 0.002, (2, 128, 160)).astype(np.float32)
    truth = np.zeros((1, 128, 160), np.uint8)
    truth[:, 20:40, 30:60] = truth[:, 80:90, 100:110] = 1
    for name, values in (("1", before), ("2", before + 0.3 * truth), ("label", truth)):
        testing.write_cog(data / f"t_{name}.tif", values, **PLACE)
    said("models", "new", "image_difference", "--bands", "red,nir", "--gsd", "10", "--out", tmp_path / "difference")
    classes = cards.read(tmp_path / "difference", MapCard).classes
    source = {
        "kind": "change_pairs",
        "root": str(data),
        "images": ["{id}_1.tif", "{id}_2.tif"],
        "labels": "{id}_label.tif",
        "file_bands": ["red", "nir"],
    }
    known = [{"value": c.value, "name": c.name, "color": c.color} for c in classes]
    file = write_recipe(
        tmp_path / "recipe.yaml",
        **{"task": "change", "dates": 2, "source": source, "classes": known},
        model={"architecture": "siamese_unet", "config": {}},
    )
    words = ("evaluate", file, "--model", tmp_path / "difference", "--split", "all")
    found, told = json.loads(said(*words, "--json")), said(*words)
    assert f"all split, {truth.size:,} pixels" in told
    name = classes[1].name
    scores = [f"{found[k][name]:.3f}" for k in ("iou", "f1", "precision", "recall")]
    assert rows(told)[name] == [*scores, *(str(found["support"][name][k]) for k in ("pixels", "places"))]
    assert found["support"][name] == {"pixels": 20 * 30 + 100, "places": 2}
    assert float(rows(told)[name][0]) > 0.99
    line = next(line for line in told.splitlines() if line.startswith("any change against none: "))
    keys = {"F1": "f1", "IoU": "iou", "precision": "precision", "recall": "recall", "kappa": "kappa"}
    wanted = [f"{k} {found['change'][v]:.3f}" for k, v in {**keys, "average precision": "average_precision"}.items()]
    assert line.split(": ")[1].split("  ") == wanted
    objects = {k: v for k, v in rows(told).items() if "m²" in k}
    assert sum(int(v[0]) for v in objects.values()) == 2
    assert "changed when a date is compared with itself 0 %" in told


@pytest.mark.slow
# affine 3 deprecates the operator that odc-geo 0.5.3 uses for its geoboxes
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_train_and_evaluate_of_retrieval(said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    noise = testing.smooth((3, 80, 96), seed=1, cell=4, low=1, high=200)
    for date, gain in (("2010", 1.0), ("2015", 0.9)):
        for name, metres in (("a", 0), ("c", 10_000)):
            place = Affine(5, 0, 486_000 + metres, 0, -5, 5_209_000)
            pixels = (noise * gain).astype(np.uint8)
            testing.write_cog(tmp_path / f"{name}_{date}.tif", pixels, crs="EPSG:32614", transform=place)
    source = {"kind": "files", "root": str(tmp_path), "images": "a_{date}.tif", "dates": ["2010", "2015"]}
    recipe = {
        "task": "retrieval",
        "name": "made-years",
        "license": "CC0-1.0",
        "data_license": "CC0-1.0",
        "sources": [source],
        "tests": [{**source, "images": "c_{date}.tif"}],
        "training": {"side": 32, "steps": 2, "batch": 4, "zoom": [1, 1]},
    }
    file = tmp_path / "years.yaml"
    file.write_text(yaml.safe_dump(recipe))
    trained = cli("train", file, "--out", tmp_path / "model")
    assert trained.exit_code == 0, trained.output
    assert rows(trained.stdout)["name"] == ["made-years"]
    words = ("evaluate", file, "--model", tmp_path / "model")
    refused = cli(*words, "--report", tmp_path / "page.html")
    assert (refused.exit_code, refused.stdout) == (2, ""), "before anything is scored"
    assert "report: scores of retrieval have no page" in refused.stderr
    assert not (tmp_path / "page.html").exists()
    scored = cli(*words)
    assert "known again, R@1" in scored.stdout
    lines = [line for line in scored.stdout.splitlines() if line.startswith("│")]
    found = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert {tuple(row[1:3]) for row in found} == {("0", "1"), ("1", "0")}
    for row in found:
        chance, north_up, any_heading = (float(cell.rstrip("%")) for cell in row[4:])
        assert 0 < 3 * chance < any_heading <= north_up, "the second date is the first, a tenth darker"
        assert north_up > 50


@prints("train")
def test_train_and_evaluate_of_geolocation(
    said: Callable[..., str], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOML_SCRATCH", str(tmp_path / "scratch"))
    file = tmp_path / "world.yaml"
    made = photos.world_recipe(photos.made_world(tmp_path / "world"))
    file.write_text(yaml.safe_dump(made.model_dump(mode="json")))
    trained = cli("train", file, "--out", tmp_path / "model")
    assert trained.exit_code == 0, trained.output
    epochs = re.findall(r"epoch (\d+)  loss \d+\.\d{4}", trained.stderr)
    assert [int(e) for e in epochs] == list(range(made.training.epochs))
    assert rows(trained.stdout)["name"] == [made.name]
    found = json.loads(said("evaluate", file, "--model", tmp_path / "model", "--json"))["sets"]
    told = rows(said("evaluate", file, "--model", tmp_path / "model", "--report", tmp_path / "page.html"))
    assert set(found) == {"in-region", "held-out", "other-month"}
    for name, row in found.items():
        assert told[name][0] == f"{row['median_km']:.0f}"
        assert told[name][1:5] == [percent(row[f"within_{d}"]) for d in (25, 200, 750, 2500)]
        assert told[name][5] == f"{row['geoscore']:.0f}"
    assert "held-out" in (tmp_path / "page.html").read_text()


# --- areas


@prints("area draw", "area estimate")
def test_area(run: Path, said: Callable[..., str], cli: Cli, tmp_path: Path) -> None:
    told = said("area", "draw", run, "--places", "100", "--out", tmp_path / "places.gpkg")
    places = geopandas.read_file(tmp_path / "places.gpkg")
    assert told.strip() == f"{len(places)} places in {tmp_path / 'places.gpkg'}; fill in the column reference"
    at = places.to_crs(SCENE.crs).geometry
    made = testing.read_map(run)[SCENE.crs]
    places["reference"] = made.at(at.x.to_numpy(), at.y.to_numpy()).tolist()
    places.to_file(tmp_path / "places.gpkg")
    again = cli("area", "draw", run, "--out", tmp_path / "places.gpkg")
    assert (again.exit_code, "of it filled in; expected a new file" in again.stderr) == (2, True)
    told = said("area", "next", run, "--out", tmp_path / "next.gpkg")
    assert told.endswith("the file can then be labels of geoml learn or geoml train --labels for a model of your own\n")
    page = (run / "report.html").read_text()
    assert "for a model of your own" in page
    assert "--add" not in page + told, "no labels made the model"
    unsure = geopandas.read_file(tmp_path / "next.gpkg")
    unsure.assign(**{"class": unsure["mapped"]}).to_file(tmp_path / "next.gpkg")
    assert label_file.read(tmp_path / "next.gpkg", "class").left_out == {}, "its columns are no contradiction"
    told = said("area", "estimate", run, tmp_path / "places.gpkg")
    assert f"overall accuracy 1.000 ± 0.000 from {len(places)} places" in told
    pixels = (made.data[0] == 1).sum()
    mapped, estimated, *_ = rows(told)["level-1"]
    assert mapped == estimated
    assert float(mapped) == pytest.approx(pixels * 1e-4, rel=0.002)  # km² on the ellipsoid


# --- the demos


@pytest.mark.slow
@prints("demo")
def test_demo(said: Callable[..., str], capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    told = said("demo", "--out", tmp_path / "demo")
    files = json.loads((tmp_path / "demo" / "run.json").read_text())["files"]
    assert set(files) <= set(rows(told))
    scores = cards.read_any("demo-itaipu").scores
    assert rows(told)["water"][:4] == [f"{scores[k]['water']:.3f}" for k in ("iou", "f1", "precision", "recall")]
    assert f"mean IoU {scores['miou']:.3f}" in told
    assert f"Look at {tmp_path / 'demo' / 'report.html'}" in told.replace("\n", "")


@pytest.mark.slow
def test_demo_of_change(said: Callable[..., str], tmp_path: Path) -> None:
    told = rows(said("demo", "--change", "--out", tmp_path / "demo"))
    assert float(told["unchanged"][1].rstrip("%")) < 15
    for patch in ("tree to crop", "crop to developed", "tree to water", "crop to tree"):
        assert float(told[patch][1].rstrip("%")) > 50, patch
