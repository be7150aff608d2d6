"""CPU seconds and memory of a grid forecast, and how much of them the network alone takes over the same chips.

python -m tests.benchmarks.forecast CUBE READS REFERENCE MODEL OUT [--block-size 2048]
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import torch

from geoml import pipeline
from geoml.engine.inference.predict import Predictor
from geoml.engine.machine.memory import keep_freed_memory
from geoml.engine.packages.package import load
from geoml.engine.run.plan import make_plan
from geoml.forecasting import steps
from geoml.forecasting.recipe import ForecastRunRecipe
from geoml.recipe import PredictRecipe


def bare(recipe: PredictRecipe) -> tuple[int, float]:
    """Chips of a run, and CPU seconds of its network over as many of their shapes."""
    plan, _ = make_plan(recipe)
    loaded = load(plan.model_path)
    predictor, net = Predictor(loaded), loaded.module.eval()
    shapes = []
    for planned in plan.blocks:
        window = plan.block(planned).window
        for row in predictor.grid.rows(window):
            for key in row:
                core = predictor.grid.output_window(*key)
                shapes.append(predictor.trimmed(core, window).expand(predictor.grid.halo).shape)
    channels = len(plan.card.bands) * plan.card.dates
    inputs = {s: (torch.randn(1, channels, *s), torch.ones(1, channels, *s, dtype=torch.bool)) for s in set(shapes)}
    with torch.inference_mode(), keep_freed_memory():
        net(*inputs[shapes[0]])
        cpu = time.process_time()
        for shape in shapes:
            net(*inputs[shape])
    return len(shapes), time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("cube", "reads", "reference", "model", "out"):
        parser.add_argument(name)
    parser.add_argument("--block-size", type=int, default=2048)
    parser.add_argument("--bbox", type=float, nargs=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = ForecastRunRecipe(
        model=given.model, cube=given.cube, reads=given.reads, reference_time=given.reference, bbox=given.bbox,
        block_size=given.block_size,
    )  # fmt: skip
    cpu = time.process_time()
    recipe = steps.grid_run(asked, Path(given.out))
    ready = time.process_time() - cpu
    record = pipeline.predict(recipe, Path(given.out))
    took = time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    chips, alone = bare(recipe)
    print(
        f"{record['region_pixels'] / 1e6:.1f} megapixels in {len(record['blocks']['done'])} blocks, peak {peak:.2f} GiB"
    )
    print(f"run {took:.1f} CPU s ({ready:.1f} of them to make ready), network alone over {chips} chips {alone:.1f}")
    print(f"{alone / took:.2f} of the bare network, {alone / (took - ready):.2f} without making ready")


if __name__ == "__main__":
    main()
