"""Makes the pictures of ``geoml demo --geolocate``: places on land that were drawn by chance, never trained on.

    npm pack three-globe@2.45.2 && tar xzf three-globe-2.45.2.tgz
    python catalogs/demo/pictures/make.py package/example/img/earth-blue-marble.jpg

The picture is NASA's Blue Marble of another month than the one that trained the model; imagery of NASA is in the public
domain. ``truth.csv`` holds the centre of each.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from PIL import Image

from geoml.geolocation.training import world

HERE = Path(__file__).parent
COUNT, SEED, SIDE, WIDTHS = 12, 2026, 224, (600.0, 1000.0)


def main(picture: Path) -> None:
    land = world.read_land(world.find("basemap:lsmask_5min_l.bin"))
    places = world.places(land, COUNT, SEED, 0.5, 500.0, -60.0, 90.0)
    views = world.views(places, WIDTHS, SEED)
    with (HERE / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "lon", "lat"])
        for i, (view, rgb) in enumerate(zip(views, world.crops(world.read(picture), views, SIDE), strict=True), 1):
            Image.fromarray(rgb).save(HERE / f"{i:02d}.jpg", quality=90)
            rows.writerow([f"{i:02d}.jpg", f"{view.lon:.4f}", f"{view.lat:.4f}"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
