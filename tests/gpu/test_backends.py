"""On a CUDA device: programs that are compiled for it say what the network says, in batches and off the stride."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from geoml import testing
from geoml.engine.contract import BACKENDS, Backend
from geoml.engine.packages import package
from geoml.errors import InputError, MissingExtra

HERE = torch.cuda.is_available()
CARD = testing.card(
    "made", ["red", "nir"], ["low", "high"], stride=8,
    config={"encoder": "resnet18", "depth": 3, "decoder_channels": (16, 16, 8)},
)  # fmt: skip
COMPILED = [n for n in BACKENDS.names() if "cuda" in BACKENDS.find(n).Backend.auto]


@pytest.mark.gpu
@pytest.mark.skipif(not HERE, reason="no CUDA device on this machine")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", COMPILED)
@torch.inference_mode()
def test_gives_what_the_network_gives(name: str, precision: str, machine: Callable[..., None], tmp_path: Path) -> None:
    if name == "tensorrt" and find_spec("torch_tensorrt") is None:
        pytest.skip("tensorrt: Torch-TensorRT is not installed")
    machine(device="cuda", precision=precision, scratch=tmp_path, chip_batch=4)
    torch.manual_seed(0)
    network, file = package.build(CARD).eval(), BACKENDS.find(name)
    made: Backend = file.Backend(network, CARD.signature, file.choose())
    proof = made.prove(64)
    assert proof is not None
    assert proof["equal"] >= (0.9999 if precision == "fp32" else 0.95)
    exact = package.build(CARD).eval()
    exact.load_state_dict(network.state_dict())
    for count, height, width in ((1, 64, 64), (6, 61, 58)):
        x = torch.randn(count, 2, height, width, generator=torch.Generator().manual_seed(1))
        found, expected = made.forward(made.upload(x.numpy())), exact(x)
        assert found.shape == expected.shape
        assert found.is_cuda
        near = 1e-3 if precision == "fp32" else 0.1
        assert (found.cpu() - expected).abs().max() < near * expected.abs().max()


@pytest.mark.parametrize("name", ["tensorrt"])
def test_on_a_processor_it_is_refused_with_the_reason(name: str, machine: Callable[..., None]) -> None:
    machine(device="cpu")
    missing = find_spec("torch_tensorrt") is None or find_spec("tensorrt") is None
    with pytest.raises(MissingExtra if missing else InputError, match=r"geoml\[tensorrt\]" if missing else "on cuda"):
        BACKENDS.find(name).choose()
