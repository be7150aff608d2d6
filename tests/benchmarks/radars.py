"""How good motion alone is on radars that no package was trained on, by the scores of `geoml evaluate`.

python -m tests.benchmarks.radars CUBE READS --factor 4 --leads PT15M,PT30M,PT1H [--every 2]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geoml.engine.packages import package
from geoml.forecasting.grids.frames import CubeFrames, opened
from geoml.forecasting.grids.run import untrained
from geoml.forecasting.grids.score import scores_of
from geoml.forecasting.grids.seen import SeenCube
from geoml.forecasting.recipe import CubeSource, ForecastRunRecipe


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cube", type=Path)
    parser.add_argument("reads", help="what its numbers mean, of catalogs/cubes")
    parser.add_argument("--factor", type=int, default=1)
    parser.add_argument("--leads", default="PT15M,PT30M,PT1H")
    parser.add_argument("--every", type=int, default=1, help="of the starts that have all leads")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 1.0, 5.0])
    given = parser.parse_args()
    source = CubeSource(
        kind="cube", path=str(given.cube), cube=given.reads, factor=given.factor, thresholds=given.thresholds
    )
    asked = ForecastRunRecipe(
        model="advection", cube=str(given.cube), reads=given.reads, leads=given.leads.split(","), reference_time="-"
    )
    with opened(source) as cube:
        card, terms = untrained(asked, cube)
        card = card.model_copy(update={"made": terms.model_dump(mode="json", exclude_defaults=True)})
        frames = CubeFrames(cube)
        seen = SeenCube(frames, terms)
        first, last = int(frames.numbers[0]) + terms.history - 1, int(frames.numbers[-1]) - terms.numbers[-1]
        at = [int(n) for n in frames.numbers if first <= n <= last][:: given.every]
        found, _ = scores_of(card.name, package.build(card), seen, at, source)
    print(f"{frames.shape[0]} x {frames.shape[1]} pixels, {len(at)} starts from {frames.time(at[0]):%FT%TZ}")
    for name, method in found["methods"].items():
        for lead, row in method["leads"].items():
            csi = " / ".join(f"{row['csi'][f'{t:g}']:.3f}" for t in given.thresholds)
            print(f"{name:12} {lead:6} MAE {row['mae']:.3f}  CSI {csi}  nothing said {row['unsaid']:.1%}")


if __name__ == "__main__":
    main()
