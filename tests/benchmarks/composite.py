"""A composite of a stack of scenes, of this checkout and, with ``--old``, of another one, interleaved.

    make bench-composite ARGS="--scenes 12 30 --old ../geoml-before"

Every scene has four uint16 bands in one file (deflate, tiles of 256) and a quality band. Clouds of ``--cloud`` pixels
leave gaps of which the 6th scene fills the last pixel. Every measurement is a process of its own with one thread: CPU
seconds after the imports, bytes read, and a checksum of map and count, which have to be the same. ``numpy`` reads all
with rasterio and composites in one go; ``--odc PYTHON`` is a Python with odc-stac, for the median.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

FILLS = 6
"""The scene that fills the last pixel."""
CRS, EDGE = "EPSG:32633", (491_520.0, 5_120_000.0)


def make(folder: Path, count: int, side: int, cloud: int) -> None:
    """``count`` scenes of ``side`` pixels as a static catalog; without a quality band where ``cloud`` is 0."""
    from geoml.testing import Scene, smooth, write_catalog

    rng = np.random.default_rng(0)
    width = cloud or side
    cells = -(-side // width)
    fills = rng.integers(0, FILLS, (cells, cells))  # the first scene that shows a cell
    fills[0, 0] = FILLS - 1
    scenes = []
    for k in range(count):
        over = (fills > k) | ((fills < k) & (rng.random((cells, cells)) < 0.4))
        hidden = np.kron(over, np.ones((width, width), bool))[:side, :side].astype(np.uint8)
        data = smooth((4, side, side), seed=k, cell=128)
        when = f"2024-06-{k % 28 + 1:02d}T12:00:00Z"
        scenes.append(
            Scene(
                id=f"s{k:02d}", data=data, bands=("blue", "green", "red", "nir"), crs=CRS, origin=EDGE, datetime=when,
                cloud_cover=float(k), quality=hidden if cloud else None,
            )
        )  # fmt: skip
    write_catalog(folder, scenes)


def ours(folder: Path, name: str, side: int) -> dict[str, object]:
    """One composite by the geoml that is imported."""
    import pystac
    from odc.geo.geobox import GeoBox

    from geoml.cube.load import load
    from geoml.io.stac import search as stac

    catalog = stac.open_catalog(folder.name)
    items = [pystac.Item.from_file(str(p)) for p in sorted(folder.glob("*/item.json"))]
    box = GeoBox((side, side), Affine(10, 0, EDGE[0], 0, -10, EDGE[1]), CRS)
    bands, about = ["blue", "green", "red", "nir"], {"profile": catalog.profile("made"), "catalog": catalog}
    load(items[:1], bands, box[:64, :64], mask="none", **about).compute(scheduler="single-threaded")  # imports
    before, read = cpu(), asked()
    cube = load(items, bands, box, composite=name, **about)
    done = cube.compute(scheduler="single-threaded")
    found = {"cpu": cpu() - before, "bytes": asked() - read}
    return found | {"sum": checksum(done["data"].to_numpy(), done["valid_count"].to_numpy())}


def plain(folder: Path, name: str, side: int) -> dict[str, object]:
    """The same by rasterio and numpy, everything at once."""
    before, read = cpu(), asked()
    layers = []
    for place in sorted(p.parent for p in folder.glob("*/item.json")):
        with rasterio.open(place / "image.tif") as image:
            data = image.read()
        values = np.where(data == 0, np.nan, data.astype(np.float32))
        if (place / "quality.tif").exists():
            with rasterio.open(place / "quality.tif") as quality:
                values[:, quality.read(1) == 1] = np.nan
        layers.append(values)
    stack = np.stack(layers)
    count = np.isfinite(stack).all(axis=1).sum(axis=0).astype(np.uint16)
    if name == "median":
        found = np.floor(np.nan_to_num(np.nanmedian(stack, axis=0)) + 0.5).astype(np.uint16)
    else:
        at = np.isfinite(stack).all(axis=1).argmax(axis=0)
        found = np.nan_to_num(np.take_along_axis(stack, at[None, None], axis=0)[0]).astype(np.uint16)
    return {"cpu": cpu() - before, "bytes": asked() - read, "sum": checksum(found, count)}


def checksum(data: NDArray[np.number], count: NDArray[np.number]) -> str:
    return hashlib.sha256(data.tobytes() + count.tobytes()).hexdigest()[:16]


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def asked() -> int:
    """Bytes that this process read by system calls, from the cache of the system or not."""
    lines = Path("/proc/self/io").read_text().split()
    return int(lines[lines.index("rchar:") + 1])


ODC = """
import sys, json, resource, glob, pystac, numpy as np
from odc.stac import load
folder, side = sys.argv[1], int(sys.argv[2])
items = [pystac.Item.from_file(p) for p in sorted(glob.glob(folder + "/*/item.json"))]
for item in items:  # it does not read the bands of STAC 1.1
    item.assets["image"].extra_fields["raster:bands"] = [{"data_type": "uint16", "nodata": 0}] * 4
def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF); return u.ru_utime + u.ru_stime
before = cpu()
cube = load(items, bands=["image.1", "image.2", "image.3", "image.4", "quality"], crs="EPSG:32633", resolution=10,
            chunks={"x": 2048, "y": 2048, "time": 1}, groupby="id")
clear = (cube["quality"] != 1).chunk({"time": -1})
for name in ["image.1", "image.2", "image.3", "image.4"]:
    band = cube[name].chunk({"time": -1})
    band.where(clear & (band != 0)).median("time").compute(scheduler="single-threaded")
print(json.dumps({"cpu": cpu() - before, "bytes": 0, "sum": "-"}))
"""


def measured(words: list[str], where: Path) -> dict[str, object]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GEOML_THREADS": "1", "PYTHONPATH": str(where)}
    env["GEOML_CATALOGS"] = str(Path(words[words.index("--work") + 1]).parent) if "--work" in words else ""
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False, cwd=where)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print a line for each composite and stack: median CPU seconds, megabytes, ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, nargs="+", default=[12, 30])
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--names", nargs="+", default=["least_cloudy", "median"])
    parser.add_argument("--cloud", type=int, default=256, help="pixels of a cloud; 0: scenes without a quality band")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--old", type=Path, help="another checkout of geoml")
    parser.add_argument("--odc", help="a Python with odc-stac")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        what, name = given.child
        print(json.dumps({"geoml": ours, "numpy": plain}[what](given.work, name, given.side)))
        return
    here, script = Path(__file__).parents[2], str(Path(__file__).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        for count in given.scenes:
            folder = Path(given.work or temporary) / f"stack-{count}-{given.side}-{given.cloud}"
            if not (folder / "catalog.json").exists():
                folder.mkdir(parents=True, exist_ok=True)
                make(folder, count, given.side, given.cloud)
            for name in given.names:
                base = [sys.executable, script, "--work", str(folder), "--side", str(given.side), "--child"]
                ways = {"new": ([*base, "geoml", name], here), "numpy": ([*base, "numpy", name], here)}
                if given.old:
                    ways["old"] = ([*base, "geoml", name], given.old.resolve())
                if given.odc and name == "median":
                    ways["odc-stac"] = ([given.odc, "-c", ODC, str(folder), str(given.side)], here)
                seen: dict[str, list[dict[str, object]]] = {way: [] for way in ways}
                for _ in range(given.repeat):
                    for way, (words, where) in ways.items():
                        seen[way].append(measured(words, where))
                report(name, count, seen)


def report(name: str, count: int, seen: dict[str, list[dict[str, object]]]) -> None:
    seconds = {way: statistics.median(float(str(f["cpu"])) for f in found) for way, found in seen.items()}
    sums = {str(f["sum"]) for found in seen.values() for f in found} - {"-"}
    print(f"{name}, {count} scenes, {'same map and count' if len(sums) == 1 else f'DIFFER: {sums}'}")
    for way, found in seen.items():
        ratio = seconds[way] / seconds["new"]
        print(f"  {way:9}{seconds[way]:8.2f} CPU s {float(str(found[0]['bytes'])) / 1e6:8.1f} MB {ratio:6.2f}")


if __name__ == "__main__":
    main()
