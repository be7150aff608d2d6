"""The networks of ukis-csmask as packages, beside that package's own class."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from geoml import pipeline, testing
from geoml.engine.importers import ukis_csmask
from geoml.engine.packages import cards, package
from geoml.errors import InputError
from geoml.io.cards.map_card import MapCard

SAMPLES = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "segmentation" / "cloud_ukis"
real = pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"needs {SAMPLES} (GEOML_DATA)")
BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
SHADOW, CLOUD = 0, 4
"""Of the truth of the samples."""
EDGE, PART = 64, 384


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the network of six bands of level L1C."""
    out = tmp_path_factory.mktemp("models") / "6b-l1c"
    ukis_csmask.convert("6b-l1c", out)
    return out


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not known; did you mean"):
        ukis_csmask.convert("6b", tmp_path)


def test_no_card_is_left_by_what_was_killed_between_its_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def small(_path: Path, out: Path, *_: object, **__: object) -> MapCard:  # the networks take half a minute
        return testing.threshold_model(out, ("red",), (0.5,))

    monkeypatch.setattr(ukis_csmask, "onnx", SimpleNamespace(convert=small))
    monkeypatch.setattr(ukis_csmask, "cards", SimpleNamespace(write=killed, CARD=cards.CARD))
    with pytest.raises(KeyboardInterrupt):
        ukis_csmask.convert("4b-l1c", tmp_path / "4b-l1c")
    assert not (tmp_path / "4b-l1c").exists()


def f1(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def masks(folder: Path, image: NDArray[np.float32], runs: dict[int, dict[str, str]]) -> list[bytes]:
    """Files of the mask of an image (y, x, band), one for each size of blocks, with more of the recipe."""
    data = (np.moveaxis(image, -1, 0) * 1e4).round().clip(1, 65535).astype(np.uint16)
    scene = testing.Scene(
        id="scene", data=data, bands=BANDS, res=30, origin=(600_000.0, 7_199_970.0), unit="reflectance"
    )
    catalog = testing.write_catalog(folder / "made", [scene])
    query = {"catalog": str(catalog), "bbox": scene.bbox(), "datetime": "2024"}
    found = []
    for size, more in runs.items():
        recipe = {"query": query, "block_size": size, "buffer": 0, **more}
        pipeline.cloud_masks(recipe, folder / f"out{size}")
        found.append((folder / f"out{size}" / "masks" / "scene.tif").read_bytes())
    return found


@pytest.mark.slow
@pytest.mark.data
@real
def test_clouds_of_a_real_image_are_found_as_ukis_finds_them(six: Path, tmp_path: Path) -> None:
    from ukis_csmask.mask import CSmask

    with np.load(SAMPLES / "sentinel2.npz") as sample:
        image, truth = sample["img"][:PART, :PART], sample["msk"][:PART, :PART, 0]
    one, two = masks(tmp_path, image, {256: {"model": str(six)}, 1024: {"level": "L1C"}})
    assert one == two, "neither the size of blocks matters nor who names the network"
    with rasterio.MemoryFile(one) as memory, memory.open() as file:
        ours = file.read(1)
        assert file.transform == Affine(30, 0, 600_000, 0, -30, 7_199_970)
    theirs = CSmask(image.copy(), list(BANDS), "l1c", providers=["CPUExecutionProvider"]).csm[..., 0]
    # both blend chips of 256 pixels, on other lattices; theirs begins at the corner, and cropped it agrees to 0.98 too
    assert (ours == theirs)[EDGE:-EDGE, EDGE:-EDGE].mean() > 0.97
    bad = (truth == CLOUD) | (truth == SHADOW)
    assert f1(ours != 0, bad) > 0.83
    bright = max(f1(image[..., 0] > limit, bad) for limit in np.linspace(0.05, 0.6, 56))
    assert f1(ours != 0, bad) > bright + 0.1, "no threshold of brightness finds shadows"


@pytest.mark.slow
def test_a_chip_gets_the_probabilities_of_the_published_file_up_to_its_rounding(six: Path) -> None:
    import onnxruntime
    import torch

    made = package.load(six)
    chip = testing.smooth((6, 256, 256), seed=3).astype(np.float32) * 1e-4
    mean, std = (np.array([getattr(b, k) for b in made.card.bands], np.float32) for k in ("mean", "std"))
    x = ((chip - mean[:, None, None]) / std[:, None, None])[None].astype(np.float32)
    session = onnxruntime.InferenceSession(ukis_csmask.files("6b-l1c")[0], providers=["CPUExecutionProvider"])
    theirs = ukis_csmask.probabilities(torch.from_numpy(session.run(None, {"input": x})[0]))
    with torch.no_grad():
        ours = ukis_csmask.probabilities(made.module(torch.from_numpy(x)))
    assert float((ours - theirs).abs().max()) < 0.03, "theirs is rounded to half precision after each operator"
    assert float((ours.argmax(1) == theirs.argmax(1)).float().mean()) > 0.998
