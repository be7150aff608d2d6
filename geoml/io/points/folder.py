"""Clouds of a folder and of those below it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from geoml.errors import InputError
from geoml.io.points.files import EPT

SUFFIXES: Final = (".las", ".laz")
"""Of LAS, LAZ and COPC."""


def clouds_below(folder: Path, hidden: str) -> list[Path]:
    """The files of points in ``folder`` and below it, and the document of each EPT but not its tiles, sorted.

    Folders below it that begin with a dot, that have one called ``hidden`` (what another program made of clouds), or
    that are links are passed over. Raises InputError for one that cannot be listed.
    """

    def refuse(err: OSError) -> None:
        raise InputError(f"points: {err.filename} cannot be listed ({err.strerror})") from err

    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        here = Path(place)
        if here != folder and hidden in folders:
            folders.clear()
        elif EPT in files:
            folders.clear()
            found.append(here / EPT)
        else:
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [here / name for name in files if Path(name).suffix.lower() in SUFFIXES]
    return sorted(found)
