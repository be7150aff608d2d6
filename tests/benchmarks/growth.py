"""How everything beside pixels grows: plan, reading of a block, its bookkeeping, collect, report, polygons, monitor.

    make bench-growth ARGS="--largest 7000"

Each part is a benchmark of its own (`growth_plan`, `growth_blocks`, `growth_features`, `monitor`), where its figures
are described. ``--largest`` is the number of blocks of the largest size: 7000 takes minutes, 70000 an hour of one core.
"""

from __future__ import annotations

import argparse

from tests.benchmarks import growth_blocks, growth_features, growth_plan, monitor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=7000, help="blocks")
    largest = parser.parse_args().largest
    blocks = [n for n in (700, 7000, 70_000) if n <= largest]
    items = [{700: 1000, 7000: 10_000, 70_000: 100_000}[n] for n in blocks]
    print("# plan and reading of a block", flush=True)
    growth_plan.main(["--items", *map(str, items), "--blocks", *map(str, blocks)])
    print("# a block, collect and report", flush=True)
    growth_blocks.main(["--blocks", *map(str, [100, 1000, *blocks[1:]])])
    print("# polygons", flush=True)
    growth_features.main(["--polygons", *map(str, (100_000, 1_000_000, 10_000_000)[: len(blocks)])])
    print("# a night of the monitor", flush=True)
    monitor.main([10, 100, 400])


if __name__ == "__main__":
    main()
