"""What the documents speak of and a reader has: models, catalogs, pictures. Each function lays it out in a folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from affine import Affine

from geoml import models, testing
from geoml.engine.cards.encoder import EncoderCard
from geoml.engine.packages import encoder
from geoml.io.cards.map_card import Band
from geoml.testing import films
from geoml.testing import pictures as photos

VENICE = (280_000.0, 5_050_000.0)
"""Upper left of 40 km in UTM zone 33, around the box of the documents."""


def my_model(root: Path) -> None:
    """A package of red and nir. At 100 m, so that Venice is small."""
    testing.threshold_model(root / "my-model", ("red", "nir"), (0.20005, 0.40005), gsd=100.0)


def my_encoder(root: Path) -> None:
    """A package of an encoder of red and nir with weights by chance, at 100 m."""
    torch.manual_seed(0)
    config = models.find("presto").TINY
    module = models.encoder("presto", {**config, "bands": 2})
    bands = (Band(name="red", unit="reflectance"), Band(name="nir", unit="reflectance"))
    about = {"architecture": "presto", "config": config, "gsd": 100.0, "steps": 24, "width": 32}
    encoder.save(module, EncoderCard(name="my-encoder", bands=bands, **about), root / "my-encoder")


def my_locator(root: Path) -> None:
    photos.made_locator(root / "my-locator")


def earth_search(root: Path) -> None:
    """The catalog earth-search, here without a network: two summers of Venice in the bands that its models see, and a
    month with colours in 8 bits."""
    (root / "catalogs" / "earth-search.yaml").unlink(missing_ok=True)
    place = {"crs": "EPSG:32633", "origin": VENICE, "res": 100.0, "cloud_cover": 5.0}
    scenes = [
        testing.Scene(
            id=f"S2_{year}",
            data=np.concatenate([testing.smooth((n, 400, 400), seed=int(year)) for n in (2, 7)]),
            bands=("red", "nir", "blue", "green", "rededge071", "rededge075", "rededge078", "swir16", "swir22"),
            datetime=f"{year}-06-15T10:00:00Z",
            **place,  # type: ignore[arg-type]
        )
        for year in ("2020", "2024")
    ]
    colours = np.moveaxis(ground(400), -1, 0)
    scenes.append(
        testing.Scene(
            id="S2_colours",
            data=colours,
            bands=("red", "green", "blue"),
            scale=1.0,
            datetime="2024-07-10T10:00:00Z",
            **{**place, "res": 10.0, "origin": (296_000.0, 5_032_000.0)},  # type: ignore[arg-type]
        )
    )
    folder = root / "catalogs" / "earth-search"
    testing.write_catalog(folder, scenes, collection="sentinel-2-l2a")
    _rename_asset(folder / "S2_colours" / "item.json", "visual")


def pictures(root: Path) -> None:
    photos.folder(root / "pictures", 3)


def photos_of_towns(root: Path) -> None:
    """Photos with positions of towns: ``photos/``, ``archive/``, ``photo.jpg``."""
    photos.folder(root / "photos", 3)
    photos.folder(root / "archive", 4, seed=1)
    for name in ("photo.jpg", "archive/old.jpg"):
        photos.write(root / name, photos.picture(1, 3), exif=photos.gps(*photos.TOWNS[1]))


def ground(size: int = 320, seed: int = 0) -> np.ndarray:
    """(size, size, 3) uint8 with keypoints of many scales."""
    rng = np.random.default_rng(seed)
    total = np.full((size, size), 128.0)
    for sigma, weight in ((1, 10), (3, 12), (9, 14)):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma)
        total += weight * noise / noise.std()
    return np.repeat(np.clip(total, 1, 255).astype(np.uint8)[..., None], 3, -1)


def frames(root: Path) -> None:
    """``mosaic.tif``, ``frames/`` cut out of it, ``frame.png``, and ``flown-last-year/`` with positions in a list."""
    land, place = ground(), Affine(2, 0, 450_000, 0, -2, 5_412_000)
    testing.write_cog(root / "mosaic.tif", np.moveaxis(land, -1, 0), crs="EPSG:32631", transform=place, nodata=0)
    (root / "frames").mkdir(exist_ok=True)
    (root / "flown-last-year").mkdir(exist_ok=True)
    for path, y, x in ((root / "frame.png", 60, 80), (root / "frames" / "1.png", 100, 120)):
        photos.write(path, land[y : y + 110, x : x + 140])
    from pyproj import Transformer

    to = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True)
    for k, (y, x) in enumerate(((0, 0), (40, 60), (90, 110), (150, 150), (20, 160))):
        lon, lat = to.transform(*(place @ (x + 70, y + 55)))
        photos.write(root / "flown-last-year" / f"{k}.jpg", land[y : y + 110, x : x + 140], quality=97,
                     exif=photos.gps(lon, lat))  # fmt: skip


def maps(root: Path) -> None:
    """``maps/catalog.json``: a reference map of Paris."""
    data = np.moveaxis(ground(), -1, 0)
    scene = testing.Scene(id="map", data=data, bands=("red", "green", "blue"), scale=1.0, res=2.0, crs="EPSG:32631",
                          origin=(450_000.0, 5_412_000.0))  # fmt: skip
    testing.write_catalog(root / "maps", [scene])


def naip(root: Path) -> None:
    """The catalog planetary-computer, here without a network: two years of NAIP around 45.9° N, 99.1° W."""
    (root / "catalogs" / "planetary-computer.yaml").unlink(missing_ok=True)
    scenes = [
        testing.Scene(
            id=f"naip_{year}",
            data=testing.smooth((3, 400, 400), seed=k, cell=6, low=1, high=250).astype("u1"),
            bands=("red", "green", "blue"),
            scale=1.0,
            res=5.0,
            crs="EPSG:32614",
            origin=(491_000.0, 5_085_000.0),
            datetime=f"{year}-08-18T12:00:00Z",
        )
        for k, year in enumerate(("2009", "2015"))
    ]
    testing.write_catalog(root / "catalogs" / "planetary-computer", scenes, collection="naip")


def short_demo_recipe(root: Path) -> None:
    """The recipe demo-itaipu with one short epoch."""
    file = root / "catalogs" / "recipes" / "demo-itaipu.yaml"
    text = re.sub(r"^epochs: .*$", "epochs: 1", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text, count = re.subn(r"samples: \d+", "samples: 8", text)
    assert count == 1
    file.unlink()  # it may be linked to the one of another document
    file.write_text(text, encoding="utf-8")


def _rename_asset(file: Path, name: str) -> None:
    item = json.loads(file.read_text(encoding="utf-8"))
    item["assets"] = {name: next(iter(item["assets"].values()))}
    file.write_text(json.dumps(item), encoding="utf-8")


def chips(root: Path) -> None:
    """``chips/``: four GeoTIFFs of red and nir."""
    (root / "chips").mkdir(exist_ok=True)
    place = {"crs": "EPSG:32633", "transform": Affine(100, 0, 280_000, 0, -100, 5_050_000), "nodata": 0}
    for k in range(4):
        testing.write_cog(root / "chips" / f"{k}.tif", testing.smooth((2, 96, 128), seed=k), **place)  # type: ignore[arg-type]


def colour_model(root: Path) -> None:
    testing.threshold_model(root / "colour-model", ("red", "green", "blue"), (85.5, 170.5), gsd=1.0)


def film(root: Path) -> None:
    """``film.avi``: a second and a half, 64 x 48 pixels."""
    import cv2

    writer = cv2.VideoWriter(str(root / "film.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for k in range(15):
        writer.write(np.ascontiguousarray(ground(64, k)[:48]))
    writer.release()


def flight(root: Path) -> None:
    """A film of cars: ``flight/``, ``flight.avi``, its log, what was found, where frames lie; the model ``marks``."""
    made = films.film(8)
    made.write(root / "flight")
    made.write_video(root / "flight.avi")
    made.write_truth(root / "found.txt")
    made.write_matrices(root / "ways.txt")
    plane = np.array([[0.25, 0, 300_000], [0, -0.25, 5_000_000], [0, 0, 1]]) @ made.corner
    np.savetxt(root / "plane.txt", plane.reshape(1, 9))
    rows = [f"{k + 1},2024-05-01T10:00:00.{k}Z" for k in range(8)]
    (root / "flight.csv").write_text("\n".join(["frame,timestamp", *rows]))
    films.mark_model(root / "marks")


GIVEN: dict[str, Callable[[Path], None]] = {
    "chips": chips,
    "colour-model": colour_model,
    "film": film,
    "flight": flight,
    "my-encoder": my_encoder,
    "my-model": my_model,
    "my-locator": my_locator,
    "earth-search": earth_search,
    "pictures": pictures,
    "photos": photos_of_towns,
    "frames": frames,
    "maps": maps,
    "naip": naip,
    "short-demo-recipe": short_demo_recipe,
}
