"""Pictures on maps as a plain function: pictures and a reference, frames or a catalog in, a file of rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from geoml.errors import InputError, limits

Sources = Iterable[str | Path]


@limits("geolocate map")
def geolocate_map(
    sources: Sources | str | Path,
    out: str | Path,
    *,
    reference: Sources = (),
    frames: Sources = (),
    catalog: str | None = None,
    collection: str | None = None,
    datetime: str = "../..",
    filter: str | None = None,
    asset: str | None = None,
    items: int = 12,
    model: str | Path | None = None,
    use: Iterable[str] = (),
    near: tuple[float, float] | None = None,
    within_km: float = 1.0,
    frames_sigma: float = 5.0,
    scales: Sequence[float] = (1.0,),
    cache: str | Path | None = None,
    map: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Where pictures from above lie on a map, as the GeoParquet file ``out``; what ``OUT.run/run.json`` says.

    One of three is the map: ``reference`` (rasters, folders of them), ``frames`` (pictures with positions, good to
    ``frames_sigma`` metres), or ``catalog`` with ``collection``, ``datetime``, ``filter``, ``asset``: then the locator
    ``model`` says where to search, unless a position is known, and at most ``items`` are matched for a picture.
    ``use`` may name ``position``: that of the list, else of the EXIF; ``near`` is (lon, lat) for pictures without;
    ``within_km`` is how far these may be off. ``scales`` are pixel sizes to match at, in pixels of the map. ``cache``
    keeps indexes and thresholds, by default in ``OUT.run``; ``map`` is an HTML file to write as well.

    A run that was stopped goes on where it was. Raises as `geoml.geolocation.matching.rows.geolocate_map` and
    `geoml.geolocation.matching.chain.geolocate_chain`, InputError for options that do not go together.
    """
    from geoml.engine.machine.halt import halting
    from geoml.geolocation.matching import grounds
    from geoml.geolocation.matching import rows as over
    from geoml.geolocation.steps import draw_map

    given = [sources] if isinstance(sources, str | Path) else list(sources)
    rasters, pictures = list(reference), list(frames)
    if sum(map_ is not None for map_ in (rasters or None, pictures or None, catalog)) != 1:
        raise InputError("reference, frames, catalog: expected exactly one of them")
    if catalog is None and (collection or filter or asset or model is not None):
        raise InputError("collection, filter, asset, model: go with a catalog")
    if unknown := set(use) - {"position"}:
        raise InputError(f"use: {', '.join(sorted(unknown)[:3])}; expected position")
    if map is not None and Path(map).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"map: {str(map)!r}; expected the name of an .html file")
    target = Path(out)
    if target.suffix.lower() not in (".parquet", ".geoparquet") or target.is_dir():
        raise InputError(f"out: {str(out)!r}; expected the name of a .parquet file")
    known = over.Known("position" in set(use), near, within_km)
    folder = Path(cache) if cache is not None else target.with_name(f"{target.name}.run") / "references"
    with halting():
        if catalog is not None:
            from geoml.geolocation.matching.chain import Search, geolocate_chain

            search = Search(catalog, collection, datetime, filter, asset, items, tuple(scales))
            found = geolocate_chain(given, search, _locator(model, known.any), target, folder, known, progress)
        else:
            made = grounds.of_files(grounds.files(rasters), folder, scales) if rasters else None
            ground = made or grounds.of_pictures(pictures, folder, frames_sigma)
            found = over.geolocate_map(given, ground, target, known, progress)
        if map is not None:
            draw_map(target, map)
    return found


def _locator(model: str | Path | None, known: bool) -> Any:
    """The locator that is meant; none where nothing was said and positions are known."""
    from geoml.geolocation.locate import locator

    return None if model is None and known else locator.load(model)
