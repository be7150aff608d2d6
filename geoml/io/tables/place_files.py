"""Files of places for people to fill in: points in EPSG:4326, as GeoPackage or GeoJSON."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import geopandas

from geoml.errors import InputError
from geoml.io.stores.store import atomic

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}


def check(out: Path) -> None:
    """Raise InputError for a file of another kind."""
    if out.suffix.lower() not in DRIVERS:
        raise InputError(f"out: {out}; expected a .gpkg or .geojson file")


def write(frame: geopandas.GeoDataFrame, out: Path) -> None:
    """Write places atomically, in the format that the name of the file says."""
    with tempfile.TemporaryDirectory() as folder, atomic(out) as temporary:
        made = Path(folder) / out.name  # GDAL wants the file's own name
        frame.to_file(made, driver=DRIVERS[out.suffix.lower()])
        shutil.copyfile(made, temporary)
