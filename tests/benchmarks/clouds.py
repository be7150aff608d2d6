"""What masks of clouds are worth on the two samples of ukis-csmask with a mask drawn by hand, beside simple methods.

    python tests/benchmarks/clouds.py

The samples (`GEOML_DATA`, segmentation/cloud_ukis: Sentinel-2 and Landsat 7, 512 x 512 pixels, reflectance at the top
of the atmosphere) may be among what the networks were trained on. F1 of cloud, of shadow and of either; the brightness
is that of blue, with the best threshold on the other sample and, as a bound, the best on the sample itself.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoml import pipeline, testing
from geoml.engine.importers import ukis_csmask

SAMPLES = Path(os.environ.get("GEOML_DATA", "../shared/data")) / "segmentation" / "cloud_ukis"
NAMES = ("sentinel2", "landsat7")
BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
NETWORKS = ("6b-l1c", "4b-l1c")
SHADOW, CLOUD = 0, 4
LIMITS = np.linspace(0.05, 0.6, 56)

Bools = NDArray[np.bool_]


def f1(found: Bools, truth: Bools) -> float:
    return float(2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1))


def scene(name: str) -> testing.Scene:
    with np.load(SAMPLES / f"{name}.npz") as sample:
        data = (np.moveaxis(sample["img"], -1, 0) * 1e4).round().clip(1, 65535).astype(np.uint16)
    return testing.Scene(id=name, data=data, bands=BANDS, res=30, origin=(600_000.0, 7_199_970.0), unit="reflectance")


def truth(name: str) -> NDArray[np.uint8]:
    with np.load(SAMPLES / f"{name}.npz") as sample:
        mask: NDArray[np.uint8] = sample["msk"][..., 0]
    return mask


def masks(folder: Path, network: str) -> dict[str, NDArray[np.uint8]]:
    """By sample: 0 clear, 1 cloud, 2 shadow, 3 near either."""
    scenes = [scene(name) for name in NAMES]
    ukis_csmask.convert(network, folder / "model")
    catalog = testing.write_catalog(folder / "made", scenes)
    query = {"catalog": str(catalog), "bbox": scenes[0].bbox(), "datetime": "2024"}
    pipeline.cloud_masks({"query": query, "model": str(folder / "model")}, folder / "out")
    found = {}
    for name in NAMES:
        with rasterio.open(folder / "out" / "masks" / f"{name}.tif") as file:
            found[name] = file.read(1)
    return found


def main() -> None:
    """Print a line for each method and sample."""
    blue = {name: scene(name).data[0] * 1e-4 for name in NAMES}
    true = {name: truth(name) for name in NAMES}
    best = {}
    for name in NAMES:
        found_at = [f1(blue[name] > limit, true[name] == CLOUD) for limit in LIMITS]
        best[name] = LIMITS[int(np.argmax(found_at))]
    for network in NETWORKS:
        with tempfile.TemporaryDirectory() as folder:
            found = masks(Path(folder), network)
        for name, mask in found.items():
            told(f"{network}", name, mask == 1, mask == 2, true[name])
            bad = np.isin(true[name], (CLOUD, SHADOW))
            missed, kept = (bad & (mask == 0)).sum() / (mask == 0).sum(), ((mask == 0) & ~bad).sum() / (~bad).sum()
            print(f"{'':28} of what is clear with the buffer {missed:.3f} is not; of clear ground {kept:.3f} is kept")
    for name in NAMES:
        other = NAMES[1 - NAMES.index(name)]
        none = np.zeros_like(blue[name], bool)
        told(f"blue above {best[other]:.2f}, other's", name, blue[name] > best[other], none, true[name])
        told(f"blue above {best[name]:.2f}, its own", name, blue[name] > best[name], none, true[name])
        told("nothing is cloud", name, none, none, true[name])


def told(method: str, name: str, cloud: Bools, shadow: Bools, mask: NDArray[np.uint8]) -> None:
    """Print F1 and accuracy."""
    bad = np.isin(mask, (CLOUD, SHADOW))
    right = ((cloud | shadow) == bad).mean()
    figures = f1(cloud, mask == CLOUD), f1(shadow, mask == SHADOW), f1(cloud | shadow, bad), right
    print(f"{method:28} {name:10} F1 of cloud {figures[0]:.3f}, shadow {figures[1]:.3f}, either {figures[2]:.3f};"
          f" clear or not is right for {figures[3]:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
