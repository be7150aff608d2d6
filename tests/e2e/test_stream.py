"""A stream says of a scene what `geoml predict` says of it, and of a video what it says of its pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import rasterio
from PIL import Image

import geoml
from geoml import testing

SCENE = testing.Scene(id="scene", data=testing.smooth((2, 150, 230), seed=5), bands=("red", "nir"))


def test_a_chip_gets_the_map_that_a_run_makes_of_it(catalog: Path, tmp_path: Path) -> None:
    testing.small_unet(tmp_path / "net", ("red", "nir"), ("low", "middle", "high"), steps=0)
    model = str(tmp_path / "net")
    query = {"catalog": str(catalog), "bbox": SCENE.bbox(), "datetime": ["2024"]}
    geoml.predict({"model": model, "query": query, "block_size": 256}, tmp_path / "run")
    (chip,) = (p for p in catalog.parent.rglob("*.tif"))
    record = geoml.stream(chip, tmp_path / "stream", model=model, size=64, scale=1e-4)
    assert record["frames"]["done"] == 1
    for layer in ("class", "confidence"):
        (found,) = testing.read_map(tmp_path / "run", layer).values()
        (path,) = (tmp_path / "stream" / layer).iterdir()
        with rasterio.open(path) as file:
            window = found.plane.window(*file.bounds)
            values = file.read()
        asked = found.part(window.intersect(found.window))
        inside = asked != 255  # the region of the run ends a little inside of the scene
        assert inside.mean() > 0.9
        np.testing.assert_array_equal(values[inside], asked[inside])


def test_a_video_gets_the_maps_of_its_pictures(tmp_path: Path) -> None:
    testing.small_unet(tmp_path / "net", ("red", "green", "blue"), ("low", "middle", "high"), steps=0)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 48, 72, 3), np.uint8)
    writer = cv2.VideoWriter(
        str(tmp_path / "film.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 10.0, (72, 48)
    )
    (tmp_path / "pictures").mkdir()
    for k, picture in enumerate(pictures):
        writer.write(np.ascontiguousarray(picture[..., ::-1]))
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{k}.png")
    writer.release()
    options = {"model": str(tmp_path / "net"), "scale": 1 / 255}
    film = geoml.stream(tmp_path / "film.avi", tmp_path / "a", **options)
    folder = geoml.stream(tmp_path / "pictures", tmp_path / "b", **options)
    assert film["frames"] == folder["frames"] == {"done": 5, "failed": 0, "dropped": 0}
    seen = set()
    for k in range(5):
        for layer in ("class", "confidence"):
            one, other = (
                np.asarray(Image.open(tmp_path / out / layer / f"{k:08d}{name}.png"))
                for out, name in (("a", ""), ("b", f"_{k}"))
            )
            np.testing.assert_array_equal(one, other)
            seen.add(one.tobytes())
    assert len(seen) == 10, "each frame has its own"
