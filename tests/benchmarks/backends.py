"""Forward of one chip by every back end, as a ratio to PyTorch's in the same run.

    make bench-backends ARGS="--models unet deeplabv3plus --size 512 --rounds 9"
    make bench-backends ARGS="--precision bf16"

One thread, one chip at a time, back ends one after the other in each round; CPU seconds of the process, so other work
on the machine counts little. ``torch`` is the forward of geoml, with batch normalisations fused. Weights are random.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from importlib.metadata import version

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported

import torch

from geoml import models, testing
from geoml.backends._network import processor
from geoml.engine.contract import BACKENDS, Backend
from geoml.errors import GeomlError

BANDS, CLASSES = 4, 5


def made(name: str, size: int) -> list[Backend]:
    """The back ends that can run an architecture, proved for chips of ``size``; says why another one cannot."""
    torch.manual_seed(0)
    module = models.build(name, {"bands": BANDS, "classes": CLASSES}).eval()
    card = testing.card(name, [f"b{k}" for k in range(BANDS)], [f"c{k}" for k in range(CLASSES)], stride=32)
    found: list[Backend] = []
    for file in map(BACKENDS.find, BACKENDS.names()):
        start = time.process_time()
        try:
            backend: Backend = file.Backend(module, card, file.choose())
            proof = backend.prove(size)
        except GeomlError as err:
            print(f"{name}: {err}")
            continue
        seconds = time.process_time() - start
        if proof:
            print(
                f"{name}: {backend.name} {backend.precision} ready in {seconds:.1f} CPU s; {proof['equal']:.4%} of the"
                f" classes are those of torch fp32 (torch: {proof['torch_equal']:.4%})"
            )
        found.append(backend)
    return found


@torch.inference_mode()
def measure(backends: list[Backend], size: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each forward, by back end and precision."""
    x = torch.randn(1, BANDS, size, size, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {f"{b.name} {b.precision}": [] for b in backends}
    for number in range(rounds + 1):
        for backend in backends:
            with backend.failures():
                start = time.process_time()
                backend.forward(x)
                if number:  # the first one of a shape pays for its memory
                    seconds[f"{backend.name} {backend.precision}"].append(time.process_time() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["unet", "deeplabv3plus"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    os.environ |= {"GEOML_PRECISION": given.precision, "GEOML_DEVICE": "cpu"}
    print(*processor(), *(f"{p} {version(p)}" for p in ("torch", "openvino", "onnxruntime")), sep=", ")
    for name in given.models:
        seconds = measure(made(name, given.size), given.size, given.rounds)
        usual = next(s for kind, s in seconds.items() if kind.startswith("torch"))
        for kind, values in seconds.items():
            by_median = statistics.median(usual) / statistics.median(values)
            least, median = min(values), statistics.median(values)
            print(
                f"  {name:14} {kind:14} median {median:.3f} s, least {least:.3f} s: "
                f"{by_median:.2f} x torch by the median, {min(usual) / least:.2f} by the least"
            )
    print("load", *(f"{n:.1f}" for n in os.getloadavg()))


if __name__ == "__main__":
    main()
