"""The polygon tables of a run, in the formats that its recipe requests in addition to GeoParquet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from geoml.io.stac.items import AssetInfo
from geoml.io.stores.store import sha256

if TYPE_CHECKING:
    from geoml.io.tables.feature_formats import Format

MEDIA: dict[Format, str] = {
    "gpkg": "application/geopackage+sqlite3",
    "fgb": "application/vnd.flatgeobuf",
    "pmtiles": "application/vnd.pmtiles",
}
EDITABLE: tuple[Format, ...] = ("gpkg", "fgb")
"""What desktop programs open without Parquet, the better first."""


@dataclass
class FeatureFiles:
    """``assets`` that were added, by key, and of each table of polygons the file that a project shows."""

    assets: dict[str, AssetInfo] = field(default_factory=dict)
    shown: list[str] = field(default_factory=list)


def feature_names(tables: Mapping[str, str]) -> list[str]:
    """The files of ``tables`` in all formats beside GeoParquet, those that are there and those that are not."""
    return [f"{Path(name).stem}.{kind}" for name in tables for kind in MEDIA]


def kinds_in(tables: Mapping[str, str], files: Iterable[str]) -> tuple[Format, ...]:
    """The formats beside GeoParquet in which ``files``, such as those of ``run.json``, hold any of ``tables``."""
    named = set(files)
    return tuple(kind for kind in MEDIA if any(f"{Path(name).stem}.{kind}" in named for name in tables))


def write_features(
    out: Path, tables: Mapping[str, str], kinds: Sequence[Format], kept: Collection[str] = ()
) -> FeatureFiles:
    """Write those of ``tables`` in the folder of a run that have geometries in all ``kinds``. Raises DataError.

    Files in ``kept`` are left as they are, if they exist.
    """
    from geoml.io.tables.feature_formats import TITLES, is_geoparquet, write_as  # GDAL, as above

    found = FeatureFiles()
    for name in tables:
        if not is_geoparquet(out / name):
            continue
        for kind in kinds:
            if kind != "parquet":
                path = out / f"{Path(name).stem}.{kind}"
                if path.name not in kept or not path.is_file():
                    path = write_as(out / name, kind)
                about = path.stat().st_size, sha256(path)
                found.assets[f"{path.stem}-{kind}"] = AssetInfo(path, TITLES[kind], ("data",), MEDIA[kind], *about)
        best = next((kind for kind in EDITABLE if kind in kinds), "parquet")
        found.shown.append(f"{Path(name).stem}.{best}")
    return found
