"""Networks that people have, exported and read back: the same numbers, and memory is shared only where it may be."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from torch import Tensor, nn

from geoml import models
from geoml.engine.packages import operators
from geoml.engine.packages.exported import read_program
from geoml.engine.packages.network import ProgramNetwork


class Out(nn.Module):
    """torchvision's networks give a mapping."""

    def __init__(self, name: str) -> None:
        super().__init__()
        build = getattr(torchvision.models.segmentation, name)
        self.net = build(weights=None, weights_backbone=None, num_classes=3)

    def forward(self, x: Tensor) -> Any:
        return {"out": self.net(x)["out"]}


def unet(encoder: str) -> nn.Module:
    size = {"encoder_depth": 4, "decoder_channels": (32, 16, 16, 8)} if encoder.startswith("tu-") else {}
    return smp.Unet(encoder, encoder_weights=None, classes=3, **size)


def ours(name: str) -> nn.Module:
    module = models.find(name)
    return models.build(name, {"bands": 3, "classes": 3, **getattr(module, "TINY", {})})


DECODERS = ("UnetPlusPlus", "FPN", "PSPNet", "DeepLabV3Plus", "Linknet", "MAnet", "UPerNet", "Segformer")
ENCODERS = ("efficientnet-b0", "mobilenet_v2", "mit_b0", "tu-convnext_atto", "tu-swin_tiny_patch4_window7_224")
NETS: dict[str, Callable[[], nn.Module]] = {
    **{n: lambda n=n: getattr(smp, n)("resnet18", encoder_weights=None, classes=3) for n in DECODERS},  # type: ignore[misc]
    **{n: lambda n=n: unet(n) for n in ENCODERS},  # type: ignore[misc]
    **{n: lambda n=n: Out(n) for n in ("deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large")},  # type: ignore[misc]
    **{n: lambda n=n: ours(n) for n in ("dynamicworld", "deeplabv3plus")},  # type: ignore[misc]
}


def check(net: nn.Module, *, dynamic: bool, decomposed: bool = False, side: int = 64) -> None:
    """Export, save and read a network; compare the numbers, and where they lie."""
    auto = torch.export.Dim.AUTO
    free = ({0: auto, 2: auto, 3: auto},) if dynamic else None
    program = torch.export.export(net.eval(), (torch.randn(2, 3, side, side),), dynamic_shapes=free)
    program = program.run_decompositions() if decomposed else program
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    found = read_program(buffer.getvalue(), "m")
    assert isinstance(found.net, ProgramNetwork)
    for size in (side, 2 * side) if dynamic else (side,):
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            expected = program.module()(x)
            expected = expected["out"] if isinstance(expected, dict) else expected
            assert torch.equal(found.net(x), expected)
    apart(found.net, x)


def apart(net: ProgramNetwork, x: Tensor) -> None:
    """What operators of `NEW` give lies in no memory of what they are given."""
    seen = 0

    def watched(run: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            given = {t.untyped_storage().data_ptr() for t in tensors((*args, *kwargs.values()))}
            out = run(*args, **kwargs)
            nonlocal seen
            for tensor in tensors([out]):
                seen += 1
                assert tensor.untyped_storage().data_ptr() not in given or not tensor.numel(), str(run)
            return out

        return call

    for step in net.steps:
        if f"torch.ops.{step.run}" in operators.NEW:
            object.__setattr__(step, "run", watched(step.run))
    with torch.no_grad():
        net(x)
    assert seen > 0


def tensors(values: Any) -> list[Tensor]:
    parts = [part for value in values for part in (value if isinstance(value, list | tuple) else [value])]
    return [part for part in parts if isinstance(part, Tensor)]


class Small(nn.Module):
    """What the others have, on few pixels: norms, attention, positions, gates, paddings and views."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")
        self.norm, self.layer = nn.GroupNorm(2, 8), nn.LayerNorm(8)
        self.drop, self.act = nn.Dropout2d(0.5, inplace=True), nn.Hardswish(inplace=True)
        self.table = nn.Parameter(torch.randn(5, 8))
        self.register_buffer("index", torch.tensor([0, 4, 2, 1]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.drop(self.norm(self.conv(x))))
        b, c, h, w = y.shape
        rows = self.layer(y.flatten(2).transpose(1, 2)) + self.table[self.index].mean(0)
        y = nn.functional.scaled_dot_product_attention(rows, rows, rows).transpose(1, 2).reshape(b, c, h, w)
        y = y * torch.sigmoid(nn.functional.adaptive_avg_pool2d(y, 1))
        first, second = y.chunk(2, 1)
        y = nn.functional.pad(torch.cat([first, nn.functional.gelu(second, approximate="tanh")], 1), (1, 1, 1, 1))
        low = nn.functional.interpolate(nn.functional.avg_pool2d(y, 2), size=(h, w), mode="bicubic")
        return (low + torch.arange(w, device=x.device)).clamp(-9, 9).roll(1, 3)


@pytest.mark.parametrize(("dynamic", "decomposed"), [(False, False), (True, False), (False, True)])
def test_a_small_network_of_all_parts(dynamic: bool, decomposed: bool) -> None:
    check(Small(), dynamic=dynamic, decomposed=decomposed, side=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore")  # of timm and torch
def test_networks_that_people_have(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name]()
    check(net, dynamic=name in ("FPN", "efficientnet-b0", "mit_b0"), side=224 if "swin" in name else 64)
