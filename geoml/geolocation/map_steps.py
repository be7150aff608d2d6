"""Pictures on maps as a plain function: pictures and a reference, frames or a catalog in, a file of rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from geoml.errors import InputError, limits
from geoml.geolocation.recipe import MapRecipe
from geoml.recipe import parse

Sources = Iterable[str | Path]


@limits("geolocate map")
def geolocate_map(
    sources: Sources | str | Path,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    map: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    **options: object,
) -> dict[str, Any]:
    """Where pictures from above lie on a map, as the GeoParquet file ``out``; what ``OUT.run/run.json`` says.

    ``options`` are the fields of `geoml.geolocation.recipe.MapRecipe`: one of ``reference``, ``frames`` and ``catalog``
    is the map. ``cache`` keeps indexes and thresholds, by default in ``OUT.run``; ``map`` is an HTML file to write as
    well.

    A run that was stopped goes on where it was. Raises as `geoml.geolocation.matching.rows.geolocate_map` and
    `geoml.geolocation.matching.chain.geolocate_chain`, InputError for options that do not go together.
    """
    asked = parse(MapRecipe, dict(options), "geolocate map")
    from geoml.engine.machine.shutdown import graceful_shutdown
    from geoml.geolocation.matching import grounds
    from geoml.geolocation.matching import rows as over
    from geoml.geolocation.steps import draw_map

    given = [sources] if isinstance(sources, str | Path) else list(sources)
    if map is not None and Path(map).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"map: {str(map)!r}; expected the name of an .html file")
    target = Path(out)
    if target.suffix.lower() not in (".parquet", ".geoparquet") or target.is_dir():
        raise InputError(f"out: {str(out)!r}; expected the name of a .parquet file")
    known = over.Known("position" in asked.use, asked.near, asked.within_km)
    folder = Path(cache) if cache is not None else target.with_name(f"{target.name}.run") / "references"
    with graceful_shutdown():
        if asked.catalog is not None:
            from geoml.geolocation.matching.chain import Search, geolocate_chain

            kept = asked.collection, asked.datetime, asked.filter, asked.asset, asked.items, asked.scales
            locator = _locator(asked.model, known.any)
            found = geolocate_chain(given, Search(asked.catalog, *kept), locator, target, folder, known, progress)
        else:
            if asked.reference:
                ground = grounds.of_files(grounds.files(asked.reference), folder, asked.scales)
            else:
                ground = grounds.of_pictures(asked.frames, folder, asked.frames_sigma)
            found = over.geolocate_map(given, ground, target, known, progress)
        if map is not None:
            draw_map(target, map)
    return found


def _locator(model: str | Path | None, known: bool) -> Any:
    """The locator that is meant; none where nothing was said and positions are known."""
    from geoml.geolocation.locate import locator

    return None if model is None and known else locator.load(model)
