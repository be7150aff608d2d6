"""No back end tells anybody that it is used, in whose libraries that is the default."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from geoml.engine.contract import BACKENDS

CODE = """
import sys
import torch
from geoml import testing
from geoml.engine.contract import BACKENDS
from geoml.engine.packages import package
from geoml.io.cards.int8 import Int8, Int8Loss

torch.manual_seed(0)
card = testing.card("made", ["red", "nir"], ["low", "high"], stride=8,
                    config={"encoder": "resnet18", "depth": 3, "decoder_channels": (8, 8, 8)})
module = package.build(card).eval()
file = BACKENDS.find(sys.argv[1])
file.Backend(module, card.signature, file.choose()).prove(64)
if "int8" in file.Backend.precisions:
    onnx = BACKENDS.find("onnx")
    ranges, graph = onnx.Backend(module, card.signature, onnx.choose()).calibrate([torch.randn(2, 64, 64).numpy()])
    loss = {sys.argv[1]: Int8Loss(before={"low": 1.0}, after={"low": 1.0})}
    record = Int8(ranges=ranges, graph=graph, chips=1, recipe="", pixels=1, loss=loss)
    file.Backend(module, card.model_copy(update={"int8": record}).signature, file.choose("int8")).prove(64)
print([m for m in sys.modules if m.startswith("openvino_telemetry")])
"""


@pytest.mark.parametrize("name", [n for n in BACKENDS.names() if "cpu" in BACKENDS.find(n).Backend.auto])
def test_no_library_keeps_a_number_of_this_machine_or_loads_what_would_send_it(name: str, tmp_path: Path) -> None:
    """OpenVINO and ONNX Runtime write a number for the machine below the home folder before they send anything."""
    (home := tmp_path / "home").mkdir()
    inherited = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY" and not k.startswith("XDG_")}
    env = {**inherited, "HOME": str(home), "GEOML_SCRATCH": str(tmp_path / "scratch"), "GEOML_DEVICE": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE, name], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert [str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()] == []
