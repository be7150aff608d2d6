"""What geoml writes stays what it was: digests of two whole runs, on networks whose answer hangs on no processor."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import rasterio
import torch
from torch import nn

from geoml import testing
from geoml.engine.packages.exported import save_exported
from geoml.engine.run.plan import read_plan

BANDS = ("red", "nir")
SCENE = testing.Scene(id="scene", data=testing.smooth((2, 200, 260), seed=5, cell=12), bands=BANDS)
LATER = replace(SCENE, id="later", data=testing.smooth((2, 200, 260), seed=6, cell=12), datetime="2025-06-01T12:00:00Z")

SEGMENTATION = "af66368e974bf1e62c0a841c3bf8147753f2d3797f33ef894cb9a227b01d6816"
CHANGE = "ccc453bbd5ecccde53f01185305e1dc0ce6d936d5697c8c101c564dbd0ee36da"


PASSING = (
    r"""["']processing:software["']: \{[^}]*\}""",
    r"""["'](created|updated|version|file:size|file:checksum|geoml:recipe_hash|hash|key)["']: ["']?[\w.:+-]+""",
)
"""What changes with the versions of other packages, the time, or the program's bytes."""

SINCE = ("geoml:backend", "geoml:counts", "geoml:sketch")
"""Properties of blocks that came later, with tests of their own; all else is as it was before them."""


def difference(folder: Path) -> str:
    """A model of change: red rose by more than 0.05, or not; by far more than rounding moves."""
    layer = nn.Conv2d(4, 2, 1)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1, 2, 0, 0], layer.weight[1, 0, 0, 0] = 1e5, -1e5
        layer.bias.copy_(torch.tensor([0.0, -1e5 * 0.05005]))  # type: ignore[union-attr]
    card = testing.card("difference", BANDS, ("unchanged", "risen"), task="change", dates=2)
    example = torch.zeros(2, 4, card.chip_size, card.chip_size)
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    save_exported(torch.export.export(layer.eval(), (example,), dynamic_shapes=(free,)), card, folder)
    return str(folder)


PAGES = ("run.json", "report.html", "map.html", "map.qgz", "features.qml")
"""The map and what other programs open came after the digests; what they hold is tested beside them."""
LAYERS = "layers"


def said(out: Path) -> str:
    """sha256 of all that a run says, file by file, without times, versions and checksums of what is compressed."""
    hidden = {json.loads((out / "model.json").read_text())["assets"]["model"]["file:checksum"][4:]: "MODEL"}
    hidden[json.loads((out / "run.json").read_text())["hash"]] = "RUN"
    parts: list[str] = []
    own = out / ".geoml" / "parts"  # what blocks leave for the tables, in a form of its own
    for path in sorted(p for p in out.rglob("*") if p.is_file() and p.name not in PAGES):
        if path.parent in (own, out / LAYERS):
            continue
        name = str(path.relative_to(out))
        if path.suffix == ".tif":
            with rasterio.open(path) as file:
                about = [file.dtypes, file.nodatavals, file.scales, file.descriptions, file.overviews(1), str(file.crs)]
                colours = file.colormap(1) if file.colorinterp[0].name == "palette" else None
                whole = hashlib.sha256(file.read().tobytes()).hexdigest()
                small = hashlib.sha256(file.read(1, out_shape=(25, 25)).tobytes()).hexdigest()
            parts.append(f"{name} {about} {colours} {list(file.transform)} {whole} {small}")
        elif name == ".geoml/plan.json":  # as one document, which it was when the digests were made
            plan = read_plan(out).model_dump(mode="json", exclude={"numbers"})
            assert not plan["recipe"].pop("pyramid")
            assert plan["recipe"].pop("map")
            assert plan["recipe"].pop("features_format")
            plan["blocks"] = [{k: v for k, v in block.items() if k != "near"} for block in plan["blocks"]]
            parts.append(f"{name} {json.dumps(plan, sort_keys=True)}")
        elif name.startswith(".geoml/blocks/"):
            continue
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            table = table.drop_columns([name for name in SINCE if name in table.column_names])
            parts.append(f"{name} {table.schema.names} {table.to_pylist()}")
        elif path.suffix == ".json":
            value = json.loads(path.read_text())
            if path.parent.name == "items":
                assert all(value["properties"].pop(key) for key in SINCE)
            if name == "collection.json":
                assert value.pop("renders")
                value["stac_extensions"] = [url for url in value["stac_extensions"] if "/render/" not in url]
            parts.append(f"{name} {json.dumps(value, sort_keys=True)}")
        else:
            parts.append(name)
    text = "\n".join(parts)
    for value, word in hidden.items():
        text = text.replace(value, word).replace(value[:12], word)
    text = text.replace(str(out.parent), "")
    for pattern in PASSING:
        text = re.sub(pattern, "", text)
    (out.parent / "said.txt").write_text(text)  # to be compared with that of an earlier build
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(tmp_path: Path, cli: Callable[..., Any], model: str, *dates: str) -> str:
    testing.write_catalog(tmp_path / "made", [SCENE, LATER])
    box = [f"{v:.9f}" for v in SCENE.bbox(inner=0.05)]
    words = ["predict", "--model", model, "--catalog", tmp_path / "made", "--bbox", *box, "--out", tmp_path / "out"]
    when = [w for date in dates for w in ("--datetime", date)]
    result = cli(*words, *when, "--block-size", 100, "--probabilities", "--max-shift", 0)
    assert result.exit_code == 0, result.output
    return said(tmp_path / "out")


def test_a_segmentation_says_what_it_said(tmp_path: Path, cli: Callable[..., Any]) -> None:
    testing.threshold_model(tmp_path / "model", BANDS, (0.20005, 0.40005), steepness=1e5)
    assert digest_of(tmp_path, cli, str(tmp_path / "model"), "2024") == SEGMENTATION


def test_a_change_says_what_it_said(tmp_path: Path, cli: Callable[..., Any]) -> None:
    assert digest_of(tmp_path, cli, difference(tmp_path / "model"), "2024", "2025") == CHANGE
