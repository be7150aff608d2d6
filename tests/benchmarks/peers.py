"""What others write to map a scene, in a process of its own: no geoml here. ``python peers.py WHO SCENE WEIGHTS OUT``.

``plain``: windows of 512, fp32, one GeoTIFF; ``overlap``: windows of 512 that share 128 pixels, softmax averaged;
``torchgeo``: GridGeoSampler and DataLoader as its documents show; ``geoai``: its predictor with its own defaults.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window

CHIP, MEAN, STD, SCALE = 512, 0.2, 0.1, 1e-4


def network(weights: str) -> Any:
    """The smp.Unet of the package's weights."""
    import segmentation_models_pytorch as smp
    from safetensors.torch import load_file

    net = smp.Unet("resnet18", encoder_weights=None, in_channels=4, classes=3)
    net.load_state_dict({k.removeprefix("net."): v for k, v in load_file(weights).items()})
    return net.eval()


def scaled(values: Any) -> torch.Tensor:
    return (torch.from_numpy(np.asarray(values).astype(np.float32)) * SCALE - MEAN) / STD


def plain(scene: str, weights: str, out: Path, overlap: int = 0) -> None:
    net = network(weights)
    with torch.inference_mode(), rasterio.open(scene) as src:
        profile = src.profile | {"count": 1, "dtype": "uint8", "nodata": 255, "compress": "deflate", "predictor": 1}
        step, (height, width) = CHIP - overlap, src.shape
        total = np.zeros((3, height, width), np.float32) if overlap else None
        with rasterio.open(out, "w", **profile) as dst:
            for y in range(0, max(height - overlap, 1), step):
                for x in range(0, max(width - overlap, 1), step):
                    window = Window(min(x, width - CHIP), min(y, height - CHIP), CHIP, CHIP)
                    logits = net(scaled(src.read(window=window))[None])
                    if total is None:
                        dst.write(logits.argmax(1).byte().numpy(), window=window)
                    else:
                        rows, cols = window.toslices()
                        total[:, rows, cols] += logits.softmax(1)[0].numpy()
            if total is not None:
                dst.write(total.argmax(0).astype(np.uint8), 1)


def torchgeo(scene: str, weights: str, out: Path) -> None:
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    class Scene(RasterDataset):
        filename_glob = "scene-0.tif"

    net, data = network(weights), Scene(str(Path(scene).parent))
    half = 32
    loader = DataLoader(
        data, batch_size=1, sampler=GridGeoSampler(data, CHIP, CHIP - 2 * half), collate_fn=stack_samples
    )
    with torch.inference_mode(), rasterio.open(scene) as src:
        done = np.zeros(src.shape, np.uint8)
        for batch in loader:
            classes = net(scaled(batch["image"].numpy())).argmax(1)[0].byte().numpy()
            x, y, *_ = batch["bounds"][0]
            col, row = (round(v) for v in ~src.transform * (x.start, y.stop))
            y0, x0 = row + half, col + half
            part = done[max(y0, 0) : y0 + CHIP - 2 * half, max(x0, 0) : x0 + CHIP - 2 * half]
            part[:] = classes[half : half + part.shape[0], half : half + part.shape[1]]
        with rasterio.open(out, "w", **src.profile | {"count": 1, "dtype": "uint8", "predictor": 1}) as dst:
            dst.write(done, 1)


def geoai(scene: str, weights: str, out: Path) -> None:
    import geoai as library

    state = out.with_suffix(".pth")
    torch.save(network(weights).state_dict(), state)
    library.semantic_segmentation(
        scene, str(out), str(state), architecture="unet", encoder_name="resnet18", num_channels=4, num_classes=3
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    who, scene, weights, out = sys.argv[1:]
    if who == "overlap":
        plain(scene, weights, Path(out), 128)
    else:
        {"plain": plain, "torchgeo": torchgeo, "geoai": geoai}[who](scene, weights, Path(out))
