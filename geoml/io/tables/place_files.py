"""Files of places for people to fill in: points in EPSG:4326, as GeoPackage or GeoJSON."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import geopandas
from pyogrio.errors import DataSourceError

from geoml.errors import InputError
from geoml.io.stores.store import atomic
from geoml.texts import counted

DRIVERS = {".gpkg": "GPKG", ".geojson": "GeoJSON"}


def check(out: Path, column: str) -> None:
    """Raise InputError for a file of another kind, and for one that exists, unless it is a file of places whose
    ``column`` nobody has filled in yet."""
    if out.suffix.lower() not in DRIVERS:
        raise InputError(f"out: {out}; expected a .gpkg or .geojson file")
    if not out.exists():
        return
    try:
        answers = geopandas.read_file(out, ignore_geometry=True)[column]
    except (DataSourceError, KeyError) as err:
        raise InputError(f"out: {out} exists and has no column {column!r}; expected a new file") from err
    if filled := int(answers.notna().sum() - (answers == "").sum()):
        filled_in = f"{counted(filled, 'place')} of it filled in"
        raise InputError(f"out: {out} exists, with {filled_in}; expected a new file")


def write(frame: geopandas.GeoDataFrame, out: Path) -> None:
    """Write places atomically, in the format that the name of the file says."""
    with tempfile.TemporaryDirectory() as folder, atomic(out) as temporary:
        made = Path(folder) / out.name  # GDAL wants the file's own name
        frame.to_file(made, driver=DRIVERS[out.suffix.lower()])
        shutil.copyfile(made, temporary)
