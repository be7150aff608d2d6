"""Dynamic World's published variables into a package."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from geoml.engine.importers import dynamic_world
from geoml.engine.packages import cards, package
from geoml.engine.packages.shrink import shrink
from geoml.errors import DataError, InputError, ModelError
from geoml.io.cards.map_card import MapCard

WEIGHTS = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "weights" / "dynamicworld"
real = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"needs {WEIGHTS} (GEOML_DATA)")


@real
@pytest.mark.data
def test_the_package_gives_what_the_original_gives(tmp_path: Path) -> None:
    written = dynamic_world.convert(WEIGHTS, tmp_path / "dw")
    loaded = package.load(tmp_path / "dw")
    assert loaded.card == written
    shipped = cards.read("dynamic-world", MapCard)
    beside = {"scores", "made"}  # measured by tests/benchmarks/dynamic_world.py
    small = shrink(tmp_path / "dw", tmp_path / "small")  # the weights too, by their checksum
    assert shipped.model_dump(exclude=beside) == small.model_dump(exclude=beside)
    assert [b.name for b in written.bands][::4] == ["blue", "rededge075", "swir22"]
    assert written.radius is not None
    assert written.stride == 2
    # from the squeezed reference input back to reflectance, as the card wants it
    reference = np.load(WEIGHTS / "reference_128.npz")
    pairs = np.array(json.loads((WEIGHTS / "normalisation.json").read_text())["shift_scale"])
    squeezed = reference["input_normalised"].astype(np.float64)
    log = (np.log(squeezed / (1 - squeezed)) + 1) / 5 * pairs[:, 1] + pairs[:, 0]
    reflectance = np.expm1(log) / 0.005 * 1e-4
    x = torch.from_numpy(reflectance.astype(np.float32) / written.bands[0].std).movedim(-1, 0)[None]
    with torch.no_grad():
        y = loaded.module(x)[0].movedim(0, -1).numpy()
    assert np.abs(y - reference["logits"]).max() < 1e-4


@real
@pytest.mark.data
@pytest.mark.parametrize(("change", "message"), [("drop", "is missing"), ("add", "is not known"), ("move", "differs")])
def test_variables_that_do_not_fit_are_refused(tmp_path: Path, change: str, message: str) -> None:
    variables = dict(np.load(WEIGHTS / "dw_forward_vars.npz"))
    if change == "drop":
        del variables["conv2d_9/kernel"]
    elif change == "add":
        variables["conv2d_99/kernel"] = np.zeros(1, np.float32)
    else:
        variables["conv2d_9/bias"] = variables["conv2d_9/bias"] + 0.01
    np.savez(tmp_path / "dw_forward_vars.npz", **variables)
    for name in ("normalisation.json", "reference_128.npz"):
        (tmp_path / name).write_bytes((WEIGHTS / name).read_bytes())
    with pytest.raises(ModelError, match=message):
        dynamic_world.convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_and_pickled_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dw_forward_vars"):
        dynamic_world.convert(tmp_path, tmp_path / "out")
    np.savez(tmp_path / "dw_forward_vars.npz", x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="pickle is never executed"):
        dynamic_world.convert(tmp_path, tmp_path / "out")
