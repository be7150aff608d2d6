"""The steps of geolocation as plain functions: from pictures and the name of a locator to a file or rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoml.engine.track.recipe import TrackRecipe
from geoml.errors import DataError, GeomlError, InputError, limits
from geoml.geolocation.recipe import LocateRecipe, MapRecipe, SimilarRecipe, VerifyRecipe
from geoml.recipe import parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geoml.engine.track.placing import Locate
    from geoml.geolocation.locate.localizability import Localizability
    from geoml.geolocation.locate.locator import Locator
    from geoml.geolocation.locate.similar import Added, Index, SimilarPicture
    from geoml.geolocation.locate.verify import Evidence
    from geoml.geolocation.pictures.prepare import Row
    from geoml.geolocation.pictures.strip import Stripped
    from geoml.grid.homography import Matrix

Sources = Iterable[str | Path]


@limits("geolocate")
def geolocate(
    sources: Sources | str | Path,
    model: str | Path | None,
    out: str | Path,
    *,
    map: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    **options: object,
) -> Row:
    """Locate pictures and write the GeoParquet file ``out``. Returns the contents of ``OUT.run/run.json``.

    ``options`` are the other fields of `geoml.geolocation.recipe.LocateRecipe`; ``map`` is an HTML file to write as
    well. A stopped run is resumed. In the main thread SIGTERM and Ctrl-C end it cleanly. Raises InputError, which names
    the option, and the errors of `geoml.geolocation.locate.locate.geolocate`.
    """
    recipe = parse(LocateRecipe, {"model": model, **options}, "geolocate")
    _check_page(map)
    from geoml.engine.machine.shutdown import graceful_shutdown
    from geoml.geolocation.locate.locate import geolocate as run

    with graceful_shutdown():
        summary = run(_list(sources), _locator(recipe.model), out, recipe, progress)
        if map is not None:
            draw_map(out, map)
    return summary


@limits("geolocate map")
def geolocate_map(
    sources: Sources | str | Path,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    map: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    **options: object,
) -> Row:
    """Locate pictures from above on a map and write the GeoParquet file ``out``. Returns ``OUT.run/run.json``.

    ``options`` are the fields of `geoml.geolocation.recipe.MapRecipe`: one of ``reference``, ``frames`` and ``catalog``
    is the map. ``cache`` keeps indexes and thresholds, by default in ``OUT.run``; ``map`` is an HTML file to write as
    well.

    A stopped run is resumed. Raises InputError for options that do not go together, and the errors
    of `geoml.geolocation.matching.rows.geolocate_map` and `geoml.geolocation.matching.chain.geolocate_chain`.
    """
    recipe = parse(MapRecipe, dict(options), "geolocate map")
    _check_page(map)
    from geoml.engine.machine.shutdown import graceful_shutdown
    from geoml.geolocation.matching import chain, references, rows
    from geoml.geolocation.rows.run import parquet_path

    target = parquet_path(out)
    folder = Path(cache) if cache is not None else target.with_name(f"{target.name}.run") / "references"
    with graceful_shutdown():
        if recipe.catalog is not None:
            locator = None if recipe.model is None and recipe.has_prior else _locator(recipe.model)
            summary = chain.geolocate_chain(_list(sources), recipe, locator, target, folder, progress)
        else:
            if recipe.reference:
                reference = references.of_files(references.files(recipe.reference), folder, recipe.scales)
            else:
                reference = references.of_pictures(recipe.frames, folder, recipe.frames_sigma)
            summary = rows.geolocate_map(_list(sources), reference, target, recipe, progress)
        if map is not None:
            draw_map(target, map)
    return summary


def _check_page(map: str | Path | None) -> None:
    if map is not None and Path(map).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"map: {str(map)!r}; expected the name of an .html file")


@limits("draw map")
def draw_map(rows: str | Path, out: str | Path) -> None:
    """Write a page of the rows that `geolocate` wrote, with thumbnails of the pictures that can still be read."""
    from geoml.geolocation.rows.page import photo_map
    from geoml.io.stores.store import write_text

    write_text(Path(out), photo_map(_rows(Path(rows)), thumbnails=_thumbnail))


@limits("verify")
def verify(sources: Sources | str | Path, model: str | Path | None = None, **options: object) -> list[Evidence]:
    """Check whether pictures fit the claimed place: lon, lat in degrees, else the place from the list or EXIF.

    ``options`` are the other fields of `geoml.geolocation.recipe.VerifyRecipe`. Raises InputError that names an option,
    and the errors of `geoml.geolocation.locate.verify.verify`.
    """
    from geoml.geolocation.locate.verify import verify as run

    recipe = parse(VerifyRecipe, {"model": model, **options}, "geolocate verify")
    return list(run(_list(sources), _locator(recipe.model), recipe))


@limits("localizability")
def localizability(sources: Sources | str | Path, model: str | Path | None = None) -> list[Localizability]:
    """How much each picture reveals about its place, see `geoml.geolocation.locate.localizability.localizability`."""
    from geoml.geolocation.locate.localizability import localizability as run

    return list(run(_list(sources), _locator(model)))


@limits("index add")
def index_add(sources: Sources | str | Path, index: str | Path, model: str | Path | None = None) -> Added:
    """Add pictures to an index of similar ones, see `geoml.geolocation.locate.similar.Index.add`."""
    return _index(index, model).add(_list(sources))


@limits("index remove")
def index_remove(names: Iterable[str], index: str | Path, model: str | Path | None = None) -> int:
    """Remove pictures from an index by name or checksum. Returns how many."""
    return _index(index, model).remove(names)


@limits("similar")
def similar(
    image: str | Path, index: str | Path, model: str | Path | None = None, **options: object
) -> list[SimilarPicture]:
    """The pictures of an index most similar to one; ``options`` are the fields of
    `geoml.geolocation.recipe.SimilarRecipe`.

    Raises InputError that names an option, UnreadablePhoto for a picture that cannot be read, and the errors of
    `geoml.geolocation.locate.similar.Index.search`.
    """
    from geoml.geolocation.pictures import decode as photos
    from geoml.geolocation.pictures.prepare import square
    from geoml.io.stac.query import parse_datetime

    recipe = parse(SimilarRecipe, {"model": model, **options}, "geolocate similar")
    between = parse_datetime(recipe.datetime)
    opened = _index(index, recipe.model)
    rgb = square(photos.read(image, opened.extractor.size).rgb, opened.extractor.size)
    return opened.search(opened.extractor(rgb[None])[0], recipe.k, recipe.bbox, between)


@limits("strip exif")
def strip_exif(
    sources: Sources | str | Path, out: str | Path, *, overwrite: bool = False
) -> list[tuple[str, Stripped | GeomlError]]:
    """Copy local pictures to the folder ``out`` without the metadata that reveal place, time or person.

    Returns (name, outcome) for each; the outcome is an error if there is no copy. Raises NothingFound without pictures.
    """
    from geoml.geolocation.pictures import lists as photo_lists
    from geoml.geolocation.pictures.strip import strip
    from geoml.io.stores.store import check_name, os_failure, within

    folder, outcomes = check_name(Path(out)), []
    for reference in photo_lists.pictures(_list(sources)):
        what: Stripped | GeomlError
        try:
            if reference.refused or reference.remote:
                raise DataError(f"picture {reference.id}: {reference.refused or 'lies elsewhere; fetch it first'}")
            name = Path(reference.id)
            inside = name if not name.is_absolute() and ".." not in name.parts else Path(name.name)
            to = within(folder, inside.as_posix())
            to.parent.mkdir(parents=True, exist_ok=True)
            what = strip(reference.href, to, overwrite=overwrite)
        except GeomlError as err:
            what = err
        except OSError as err:
            what = os_failure(folder, err)
        outcomes.append((reference.id, what))
    return outcomes


@limits("track")
def track(
    source: str | Path | None,
    out: str | Path,
    *,
    cache: str | Path | None = None,
    progress: Callable[[int], None] | None = None,
    **options: object,
) -> dict[str, Any]:
    """Track objects through ``source`` (a folder of frames, a video or None) and write GeoParquet: ``out`` with a row
    for each position, ``OUT.tracks.parquet`` with a row for each track. Returns a summary.

    ``options`` are the fields of `geoml.engine.track.recipe.TrackRecipe`. ``cache`` keeps the index of the reference,
    by default in ``OUT.run``. Raises InputError that names an option, and the errors of
    `geoml.engine.track.run.follow`.
    """
    from geoml.engine.track.run import follow
    from geoml.io.tables.positions import tracks_path

    texts = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    recipe = parse(TrackRecipe, texts, "track")
    target = Path(out)
    tracks_path(target)
    folder = Path(cache) if cache is not None else target.with_name(f"{target.name}.run") / "references"
    locate = None
    if recipe.reference is not None and recipe.reference_homography is None:
        locate = _on_reference(recipe.reference, folder)
    return follow(recipe, target, source, locate=locate, progress=progress)


def _on_reference(place: str, folder: Path) -> Locate:
    """Finds pictures on a mosaic, whose index is made when the first one comes."""
    from geoml.geolocation.matching import references
    from geoml.geolocation.matching.match import SIDE, locate

    @once
    def reference() -> references.IndexedReference:
        return references.of_files(references.files([place]), folder)

    def find(image: NDArray[np.uint8]) -> tuple[Matrix, str] | str:
        found = reference()
        located = locate(image, found.index, found.acceptance(min(max(image.shape[:2]), SIDE)))
        return (located.matrix, located.crs) if located.status == "ok" else located.reason

    return find


def _list(sources: Sources | str | Path) -> list[str | Path]:
    return [sources] if isinstance(sources, str | Path) else list(sources)


def _locator(model: str | Path | None) -> Locator:
    from geoml.geolocation.locate import locator

    return locator.load(model)


def _index(folder: str | Path, model: str | Path | None) -> Index:
    from geoml.geolocation.locate.similar import Index

    return Index(folder, _locator(model).extractor)


def _rows(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [n for n in file.schema_arrow.names if n not in ("geometry", "bbox")]
        for batch in file.iter_batches(4096, columns=names):
            yield from batch.to_pylist()


def _thumbnail(row: Row) -> bytes | None:
    """None for a picture without an answer, and for one that lies elsewhere or has changed."""
    from geoml.geolocation.pictures import decode as photos
    from geoml.geolocation.rows.page import THUMBNAIL, thumbnail

    source = row.get("source_uri")
    if row["status"] not in ("ok", "abstained") or not source or "://" in source:
        return None
    with suppress(DataError):
        photo = photos.read(source, THUMBNAIL)
        return thumbnail(photo.rgb) if photo.sha256 == row["sha256"] else None
    return None
