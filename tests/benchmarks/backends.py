"""Forward of one chip by every back end, as a ratio to PyTorch's in the same run.

    make bench-backends ARGS="--models unet deeplabv3plus --size 512 --rounds 9"
    make bench-backends ARGS="--precision bf16"

Back ends that compute in int8 do so too, with ranges seen on one made chip: what that costs in IoU is said by
``geoml models quantize`` of a trained package, and not here. One thread, one chip at a time, back ends one after the
other in each round; CPU seconds of the process, so other work on the machine counts little. ``torch`` is the forward of
geoml, with batch normalisations fused and a U-Net's upsampling joined; ``plain torch`` is without the joining.
Weights are random.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch

from geoml import models, testing
from geoml.backends._network import processor
from geoml.backends._proof import made_inputs
from geoml.backends.torch import choose
from geoml.engine.contract import BACKENDS, Backend
from geoml.errors import GeomlError
from geoml.io.cards.int8 import Int8, Int8Loss
from geoml.io.cards.map_card import MapCard
from geoml.nn.fusion import fuse_batch_norms

BANDS, CLASSES = 4, 5
Forward = Callable[[torch.Tensor], torch.Tensor]


def made(name: str, size: int) -> dict[str, tuple[Backend, Forward]]:
    """The back ends that can run an architecture, proved for chips of ``size``; says why another one cannot."""
    torch.manual_seed(0)
    module = models.build(name, {"bands": BANDS, "classes": CLASSES}).train()
    with torch.no_grad():
        for k in range(3):  # statistics of real batches: without them layers make values smaller until all are alike
            module(made_inputs({"x": (2, BANDS, 128, 128)}, k)["x"])
    module.eval()
    card = testing.card(name, [f"b{k}" for k in range(BANDS)], [f"c{k}" for k in range(CLASSES)], stride=32)
    found: dict[str, tuple[Backend, Forward]] = {}
    kinds = [(BACKENDS.find(n), None) for n in BACKENDS.names()]
    kinds += [(file, "int8") for file, _ in kinds if "int8" in file.Backend.precisions]
    for file, precision in kinds:
        start = time.process_time()
        try:
            backend: Backend = file.Backend(
                module,
                (card if precision is None else ranged(card, module, size)).signature,
                file.choose(*filter(None, [precision])),
            )
            proof = backend.prove(size)
        except GeomlError as err:
            print(f"{name}: {err}")
            continue
        seconds = time.process_time() - start
        if proof:
            exact, when = (proof["fp32"], " before int8") if precision else (proof, "")
            print(
                f"{name}: {backend.name} {backend.precision} ready in {seconds:.1f} CPU s; {exact['equal']:.4%} of the"
                f" classes are those of torch fp32 (torch: {exact['torch_equal']:.4%}){when}"
            )
        found[f"{backend.name} {backend.precision}"] = backend, backend.forward
        if backend.name == "torch":
            found["plain torch"] = backend, plain(module, size)
    return found


def plain(module: torch.nn.Module, size: int) -> Forward:
    """The forward of PyTorch with batch normalisations fused and nothing else."""
    how = choose("cpu")
    network = fuse_batch_norms(how.place(copy.deepcopy(module)), made_inputs({"x": (1, BANDS, 64, 64)}, 0)["x"])

    def forward(x: torch.Tensor) -> torch.Tensor:
        with how.autocast():
            out: torch.Tensor = network(x.contiguous(memory_format=torch.channels_last))
        return out

    return forward


def ranged(card: MapCard, module: torch.nn.Module, size: int) -> MapCard:
    """The card with ranges of a made chip; the loss in it is none that was measured."""
    onnx = BACKENDS.find("onnx")
    image = made_inputs({"x": (1, BANDS, size, size)}, 0)["x"][0].numpy()
    ranges, graph = onnx.Backend(module, card.signature, onnx.choose("fp32")).calibrate([image])
    unknown = Int8Loss(before={"c0": 0.0}, after={"c0": 0.0})
    loss = dict.fromkeys(BACKENDS.names(), unknown)
    return card.model_copy(update={"int8": Int8(ranges=ranges, graph=graph, chips=1, recipe="", pixels=0, loss=loss)})


@torch.inference_mode()
def measure(backends: Mapping[str, tuple[Backend, Forward]], size: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each forward, by back end and precision."""
    x = made_inputs({"x": (1, BANDS, size, size)}, 7)["x"]
    seconds: dict[str, list[float]] = {kind: [] for kind in backends}
    for number in range(rounds + 1):
        for kind, (backend, forward) in backends.items():
            with backend.failures():
                start = time.process_time()
                forward(x)
                if number:  # the first one of a shape pays for its memory
                    seconds[kind].append(time.process_time() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["unet", "deeplabv3plus", "segnet"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    os.environ |= {"GEOML_PRECISION": given.precision, "GEOML_DEVICE": "cpu"}
    print(*processor(), *(f"{p} {version(p)}" for p in ("torch", "openvino", "onnxruntime")), sep=", ")
    for name in given.models:
        seconds = measure(made(name, given.size), given.size, given.rounds)
        usual = next(s for kind, s in seconds.items() if kind.startswith("torch"))
        before = seconds["plain torch"]
        for kind, values in seconds.items():
            ratios = [f"{f(usual) / f(values):.2f} and {f(before) / f(values):.2f}" for f in (statistics.median, min)]
            print(
                f"  {name:14} {kind:14} median {statistics.median(values):.3f} s, least {min(values):.3f} s: "
                f"{ratios[0]} x torch and plain torch by the median, {ratios[1]} by the least"
            )
    print("load", *(f"{n:.1f}" for n in os.getloadavg()))


if __name__ == "__main__":
    main()
