"""Exported programs take some sizes only: those alone are probed, others are padded, and what fails leaves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import geoml
from geoml import testing
from geoml.engine.importers._network import MOST
from geoml.engine.inference.choice import asked_of_machine, choose_backend
from geoml.engine.inference.predict import Predictor
from geoml.engine.packages import exported, package
from geoml.engine.pixels import Pixels
from geoml.errors import DataError, InputError, ModelError
from geoml.grid.plane import Window
from geoml.io.cards import mlm
from geoml.io.stores import store

Dim = torch.export.Dim
AUTO = Dim.AUTO
BANDS, CLASSES = ("red", "nir"), ("low", "middle", "high")


class Down(nn.Module):
    """Down ``levels`` times by two and up again, as an encoder does; sizes have to be multiples."""

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.levels = levels
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        low = nn.functional.max_pool2d(y, 2**self.levels)
        return y + nn.functional.interpolate(low, scale_factor=float(2**self.levels))


def program(module: nn.Module, free: dict[int, Any] | None, size: int = 64) -> torch.export.ExportedProgram:
    example = (torch.zeros(2, 2, size, size),)
    return torch.export.export(module.eval(), example, dynamic_shapes=None if free is None else (free,))


def card(**changes: Any) -> Any:
    return testing.card("mine", BANDS, CLASSES, **{"architecture": "exported", "chip_size": 64, **changes})


@pytest.mark.parametrize("depth", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_u_net_of_smp_maps_what_the_module_says(depth: int, tmp_path: Path, machine: Any) -> None:
    """The commonest network, with free height and width in multiples of 32, on a scene whose sizes are none of them."""
    machine(precision="fp32", device="cpu")
    torch.manual_seed(0)
    channels = (32, 32, 16, 16, 8)[-depth:]
    net = smp.Unet("resnet18", depth, None, in_channels=2, classes=3, decoder_channels=channels)
    free = {0: Dim("batch"), 2: 32 * Dim("rows", min=1, max=64), 3: 32 * Dim("columns", min=1, max=64)}
    made = exported.save_exported(program(net, free), card(chip_size=128), tmp_path / "mine")
    assert made.stride == 2**depth
    assert made.radius is not None
    assert made.chip_grid().size <= 2048
    loaded = package.load(tmp_path / "mine")
    x = torch.randn(3, 2, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(x), net(x))

    scene = testing.Scene(
        id="scene", data=testing.smooth((2, 333, 410), seed=3), bands=BANDS, origin=(600_000, 7_200_320)
    )
    catalog = testing.write_catalog(tmp_path / "made", [scene])
    query = {"catalog": str(catalog), "bbox": scene.bbox(), "datetime": ["2024"]}
    geoml.predict({"model": str(tmp_path / "mine"), "query": query, "block_size": 256}, tmp_path / "out")
    found = testing.read_map(tmp_path / "out")[scene.crs].part(scene.window)[0]
    whole = scene.window.expand(352)  # ground without data on each side, where the network sees zeros
    top, left = whole.y0 % 32, whole.x0 % 32  # chips start at multiples of the stride
    padded = torch.zeros(1, 2, *(-(-n // 32) * 32 for n in (whole.shape[0] + top, whole.shape[1] + left)))
    y, x_ = 352 + top, 352 + left
    padded[..., y : y + 333, x_ : x_ + 410] = torch.from_numpy(scene.data.astype(np.float32) * np.float32(1e-4))
    with torch.no_grad():
        truth = net(padded)[0, :, y : y + 333, x_ : x_ + 410]
    differ = found != truth.argmax(0).numpy()
    first, second = truth.topk(2, dim=0).values
    assert not (differ & ((first - second).numpy() > 1e-4)).any()
    assert differ.mean() < 0.001
    assert len(np.unique(found)) > 1


@pytest.mark.parametrize(
    ("free", "step", "least", "most"),
    [
        ({0: Dim("b"), 2: 4 * Dim("h", min=2, max=64), 3: 4 * Dim("w", min=2, max=64)}, 4, 8, 256),
        ({0: AUTO, 2: AUTO, 3: AUTO}, None, None, None),
        ({2: 8 * Dim("h", max=32), 3: 8 * Dim("w", max=32)}, 8, 16, 256),
    ],
)
def test_other_sizes_are_padded_and_cropped(
    tmp_path: Path, free: dict[int, Any], step: int | None, least: int | None, most: int | None
) -> None:
    net = Down()
    made = exported.save_exported(program(net, free), card(), tmp_path)
    assert made.stride == 4 if made.radius is not None else made.stride == 1
    module = package.load(tmp_path).module
    if step:
        assert (module.height.step, module.height.least, module.largest_side) == (step, least, most)
    for batch, height, width in ((1, 64, 64), (1, 50, 61), (5, 3, 37)):
        x = torch.randn(batch, 2, height, width)
        down, right = module.height.above(height), module.width.above(width)
        grown = nn.functional.pad(x, (0, right - width, 0, down - height), mode="replicate")
        with torch.no_grad():
            torch.testing.assert_close(module(x), net(grown)[..., :height, :width])
    if most:
        with pytest.raises(ModelError, match="at most 256"):
            module(torch.zeros(1, 2, 64, 257))
        with pytest.raises(InputError, match=r"size: .* would get 300 pixels a side; its program takes at most 256"):
            choose_backend(package.load(tmp_path), 300, asked_of_machine())


def test_a_program_too_small_for_chips_with_a_halo_is_blended(tmp_path: Path) -> None:
    free = {0: Dim("b"), 2: 4 * Dim("h", max=128), 3: 4 * Dim("w", max=128)}
    made = exported.save_exported(program(Down(), free), card(), tmp_path)
    assert (made.radius, made.chip_grid().size) == (None, 64)


def test_a_block_is_cut_into_chips_that_a_bounded_program_takes(tmp_path: Path, machine: Any) -> None:
    """Cores twice as wide, which save halo, would be too large for what `geoml models import` exports."""
    machine(precision="fp32", device="cpu")
    net, sides = Down(), [4 * Dim(n, min=1, max=MOST // 4) for n in ("h", "w")]
    made = exported.save_exported(program(net, {0: Dim("b"), 2: sides[0], 3: sides[1]}), card(), tmp_path)
    assert made.radius is not None
    predictor, block = Predictor(package.load(tmp_path)), Window(0, 0, 2048, 2048)
    around = predictor.needed(block)
    data = np.random.default_rng(0).random((2, *around.shape), np.float32)
    pixels = Pixels(data, np.ones(around.shape, np.uint16), (1.0, 1.0), (0.0, 0.0), around)
    found = np.concatenate([rows["class"][0] for rows in predictor.rows(pixels, block)])
    assert found.shape == block.shape


def test_one_symbol_for_both_sides_is_a_square(tmp_path: Path) -> None:
    side = 4 * Dim("side", min=2, max=600)
    net = Down()
    made = exported.save_exported(program(net, {0: Dim("b"), 2: side, 3: side}), card(), tmp_path)
    assert made.radius is not None
    with torch.no_grad():
        found = package.load(tmp_path).module(torch.zeros(1, 2, 32, 50))
    assert found.shape == (1, 3, 32, 50)


def test_the_stride_is_found_though_the_card_does_not_say_it(tmp_path: Path) -> None:
    """A lattice of a wrong stride would make the map depend on the cut without a word."""
    free = {0: Dim("b"), 2: 16 * Dim("h", min=1, max=128), 3: 16 * Dim("w", min=1, max=128)}
    assert exported.save_exported(program(Down(4), free), card(), tmp_path).stride == 16


def fail_to_write_json(*_: Any) -> None:
    raise DataError("disk: not written")


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("where", ["measure", "card"])
def test_what_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, where: str
) -> None:
    free = {0: Dim("b"), 2: 4 * Dim("h", max=512), 3: 4 * Dim("w", max=512)}
    folder = tmp_path / "a" / "b"
    if there:
        folder.mkdir(parents=True)
        (folder / "notes.txt").write_text("mine")
    if where == "card":
        monkeypatch.setattr(store, "write_json", fail_to_write_json)
    else:
        monkeypatch.setattr(mlm, "to_item", lambda *_: 1 / 0)
    for save in (
        lambda: exported.save_exported(program(Down(), free), card(), folder),
        lambda: testing.constant_model(folder, BANDS, CLASSES, 1),
    ):
        with pytest.raises((DataError, ZeroDivisionError)):
            save()
        left = sorted(p.name for p in tmp_path.rglob("*"))
        assert left == (["a", "b", "notes.txt"] if there else [])


def test_a_package_over_another_one_is_the_new_one(tmp_path: Path) -> None:
    testing.constant_model(tmp_path, BANDS, CLASSES, 1)
    before = {p.name for p in tmp_path.iterdir()}
    made = testing.constant_model(tmp_path, BANDS, CLASSES, 2)
    assert {p.name for p in tmp_path.iterdir()} == before == {"model.json", "model.safetensors"}
    assert package.load(tmp_path).card == made


def test_sizes_that_no_number_explains_are_refused(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.repeat(1, 2, 1, 1)[:, :3]

    fixed_height = program(Odd(), {0: Dim("b"), 3: Dim("w", min=8)})
    with pytest.raises(ModelError, match="64 x None pixels, not 64"):
        exported.save_exported(fixed_height, card(), tmp_path / "out")
    small = program(Odd(), {0: Dim("b"), 2: Dim("h", max=48), 3: Dim("w", max=48)}, size=32)
    with pytest.raises(ModelError, match="up to 48 pixels a side, the card has chips of 64"):
        exported.save_exported(small, card(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
