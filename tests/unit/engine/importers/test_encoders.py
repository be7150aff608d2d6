"""Published encoders into packages: what comes out is what the original gave, and nothing else is written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geoml.engine.importers import IMPORTERS, _sentinel2, convert
from geoml.engine.packages import encoder
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import DataError, InputError, ModelError

WEIGHTS = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "fewlabels" / "weights"
FILES = {"presto": ("presto", "presto.safetensors"), "galileo": ("galileo_nano", "encoder.safetensors")}
REAL = pytest.mark.skipif(not WEIGHTS.is_dir(), reason=f"needs {WEIGHTS} (GEOML_DATA)")
every_encoder = pytest.mark.parametrize("name", FILES)


def copied(name: str, folder: Path) -> Path:
    shutil.copytree(WEIGHTS / FILES[name][0], folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    return folder


@REAL
@pytest.mark.data
@every_encoder
def test_the_package_gives_what_the_original_gave(name: str, tmp_path: Path) -> None:
    card = IMPORTERS.find(name).convert(WEIGHTS / FILES[name][0], tmp_path / name)
    assert card.scores["reference_difference"] <= 1e-5
    loaded = encoder.load(tmp_path / name)
    assert loaded.card == card
    assert (card.license, card.level, card.steps, card.width) == ("MIT", "L1C", 24, 128)
    assert [b.name for b in card.bands] == [
        "blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22",
    ]  # fmt: skip
    assert {b.unit for b in card.bands} == {"reflectance"}
    assert card.profile == _sentinel2.profile()


@REAL
@pytest.mark.data
@torch.no_grad()
def test_presto_gives_the_reference_through_its_whole_forward(tmp_path: Path) -> None:
    """From reflectance to the embedding: with the NDVI that the reference has, which is no NDVI of its bands."""
    IMPORTERS.find("presto").convert(WEIGHTS / "presto", tmp_path / "p")
    module = encoder.load(tmp_path / "p").module
    given = {k: torch.from_numpy(v) for k, v in np.load(WEIGHTS / "presto" / "reference.npz").items()}
    x, months = given["x"], (given["month"][:, None] + torch.arange(12)) % 12
    module.bands, module.ndvi = 11, None  # the NDVI as one more band
    channels = x[..., [*range(2, 12), 16]].flatten(1)[..., None, None]
    found = module(channels, None, months, given["latlon"].flip(1)[..., None, None])
    assert float((found[..., 0, 0] - given["embedding"]).abs().max()) <= 1e-5
    swapped = module(channels, None, months, given["latlon"][..., None, None])
    assert float((swapped[..., 0, 0] - given["embedding"]).abs().max()) > 0.01


@REAL
@pytest.mark.data
@every_encoder
@pytest.mark.parametrize(("change", "message"), [("drop", "is missing"), ("move", "differs"), ("shape", "expected")])
def test_weights_that_do_not_fit_are_refused(name: str, change: str, message: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path / "given")
    path = folder / FILES[name][1]
    published = load_file(path)
    key = next(k for k in published if k.endswith("blocks.1.mlp.fc1.bias") and "decoder" not in k)
    if change == "drop":
        del published[key]
    else:
        published[key] = published[key] + 0.01 if change == "move" else published[key][:-1].clone()
    save_file(published, path)
    with pytest.raises(ModelError, match=message):
        IMPORTERS.find(name).convert(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@REAL
@pytest.mark.data
@every_encoder
def test_a_reference_that_is_missing_or_lacks_something_is_refused(name: str, tmp_path: Path) -> None:
    folder = copied(name, tmp_path / "given")
    (folder / "reference.npz").unlink()
    with pytest.raises(InputError, match=r"reference.npz: cannot be read"):
        IMPORTERS.find(name).convert(folder, tmp_path / "out")
    np.savez(folder / "reference.npz", x=np.zeros(1))
    with pytest.raises(ModelError, match="the reference lacks"):
        IMPORTERS.find(name).convert(folder, tmp_path / "out")
    np.savez(folder / "reference.npz", x=np.array([{}], dtype=object))
    with pytest.raises(DataError, match="pickle is never executed"):
        IMPORTERS.find(name).convert(folder, tmp_path / "out")


@every_encoder
def test_a_folder_without_weights_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source: .*; expected the folder with (presto|encoder).safetensors"):
        IMPORTERS.find(name).convert(tmp_path, tmp_path / "out")
    (tmp_path / FILES[name][1]).write_bytes(b"no weights")
    with pytest.raises((ModelError, InputError)):
        IMPORTERS.find(name).convert(tmp_path, tmp_path / "out")


@REAL
@pytest.mark.data
def test_statistics_of_galileo_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = copied("galileo", tmp_path / "given")
    (folder / "normalization.json").write_text(json.dumps({"13": {"mean": [1, 2]}}))
    with pytest.raises(ModelError, match="expected mean and std of 13 channels"):
        IMPORTERS.find("galileo").convert(folder, tmp_path / "out")


@pytest.mark.parametrize("name", IMPORTERS.names())
def test_every_importer_refuses_an_empty_folder_and_writes_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    with pytest.raises(InputError, match="given"):
        convert(name.replace("_", "-"), tmp_path / "given", tmp_path / "out", ImportOptions())
    assert not (tmp_path / "out").exists()


def test_the_profile_is_of_the_bands() -> None:
    assert len(_sentinel2.profile().center) == len(_sentinel2.BANDS)
