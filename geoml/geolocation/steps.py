"""The steps of geolocation as plain functions: pictures and the name of a locator in, a file or rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geoml.errors import DataError, GeomlError, InputError, limits
from geoml.geolocation.recipe import LocateRecipe
from geoml.recipe import parse

if TYPE_CHECKING:
    from geoml.geolocation.locate.locator import Locator
    from geoml.geolocation.locate.similar import Index, Like
    from geoml.geolocation.locate.verify import Evidence
    from geoml.geolocation.pictures.strip import Stripped

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
) -> dict[str, Any]:
    """Where pictures were taken, as the GeoParquet file ``out``; what ``OUT.run/run.json`` says.

    ``options`` are the other fields of `geoml.geolocation.recipe.LocateRecipe`; ``map`` is an HTML file to write as
    well. A run that was stopped goes on where it was. In the main thread SIGTERM and Ctrl-C end it in order. Raises as
    `geoml.geolocation.locate.locate.geolocate`, InputError that names an option.
    """
    asked = parse(LocateRecipe, {"model": model, **options}, "geolocate")
    if map is not None and Path(map).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"map: {str(map)!r}; expected the name of an .html file")
    from geoml.engine.machine.shutdown import graceful_shutdown
    from geoml.geolocation.locate import heights as raster
    from geoml.geolocation.locate.evidence import Beside
    from geoml.geolocation.locate.locate import Options
    from geoml.geolocation.locate.locate import geolocate as run

    known = raster.read(asked.heights) if asked.heights is not None else None
    how = Options(asked.precision, asked.top, Beside(asked.use, asked.sigma_km, known))
    with graceful_shutdown():
        found = run(_list(sources), _locator(asked.model), out, how, progress)
        if map is not None:
            draw_map(out, map)
    return found


@limits("draw map")
def draw_map(rows: str | Path, out: str | Path) -> None:
    """A page of the rows that `geolocate` wrote, with thumbnails of the pictures that can still be read."""
    from geoml.geolocation.rows.page import photo_map
    from geoml.io.stores.store import write_text

    write_text(Path(out), photo_map(_rows(Path(rows)), thumbnails=_thumbnail))


@limits("verify")
def verify(
    sources: Sources | str | Path,
    model: str | Path | None = None,
    *,
    lon: float | None = None,
    lat: float | None = None,
    radius_km: float = 50.0,
    prior: str = "training",
) -> list[Evidence]:
    """Does each picture fit the claimed place? The claim is lon, lat (degrees), else that of the list or the EXIF.

    ``prior`` is ``training`` or ``uniform``. Raises as `geoml.geolocation.locate.verify.verify`.
    """
    from geoml.geolocation.locate.verify import Claim
    from geoml.geolocation.locate.verify import verify as run

    if (lon is None) != (lat is None):
        raise InputError("claim: lon and lat; expected both or neither")
    claim = None if lon is None or lat is None else Claim(lon, lat, radius_km)
    return list(run(_list(sources), _locator(model), claim, radius_km, prior))


@limits("localizability")
def localizability(sources: Sources | str | Path, model: str | Path | None = None) -> list[dict[str, Any]]:
    """How much each picture tells of its place, see `geoml.geolocation.locate.localizability.localizability`."""
    from geoml.geolocation.locate.localizability import localizability as run

    return list(run(_list(sources), _locator(model)))


@limits("index add")
def index_add(sources: Sources | str | Path, index: str | Path, model: str | Path | None = None) -> dict[str, Any]:
    """Add pictures to an index of similar ones, see `geoml.geolocation.locate.similar.Index.add`."""
    return _index(index, model).add(_list(sources))


@limits("index remove")
def index_remove(names: Iterable[str], index: str | Path, model: str | Path | None = None) -> int:
    """Take pictures out of an index by name or checksum; how many."""
    return _index(index, model).remove(names)


@limits("similar")
def similar(
    image: str | Path,
    index: str | Path,
    model: str | Path | None = None,
    *,
    k: int = 10,
    bbox: tuple[float, float, float, float] | None = None,
    datetime: str = "../..",
) -> list[Like]:
    """The ``k`` pictures of an index most like one; ``datetime`` is an RFC 3339 date or interval.

    Raises UnreadablePhoto for a picture that cannot be read, and as `geoml.geolocation.locate.similar.Index.search`.
    """
    from geoml.geolocation.pictures import decode as photos
    from geoml.geolocation.pictures.ready import square
    from geoml.io.stac.query import parse_datetime

    first, last = parse_datetime(datetime)
    found = _index(index, model)
    size = found.extractor.size
    rgb = square(photos.read(image, size).rgb, size)
    return found.search(found.extractor(rgb[None])[0], k, bbox, (first, last))


@limits("strip exif")
def strip_exif(
    sources: Sources | str | Path, out: str | Path, *, overwrite: bool = False
) -> list[tuple[str, Stripped | GeomlError]]:
    """Copies of pictures of this machine in the folder ``out`` without what tells place, time or person.

    (name, what became of it) for each, an error for one that has no copy. Raises NothingFound without a picture.
    """
    from geoml.geolocation.pictures import lists as photo_lists
    from geoml.geolocation.pictures.strip import strip
    from geoml.io.stores.store import failed, nameable, within

    folder, found = nameable(Path(out)), []
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
            what = failed(folder, err)
        found.append((reference.id, what))
    return found


def _list(sources: Sources | str | Path) -> list[str | Path]:
    return [sources] if isinstance(sources, str | Path) else list(sources)


def _locator(model: str | Path | None) -> Locator:
    from geoml.geolocation.locate import locator

    return locator.load(model)


def _index(folder: str | Path, model: str | Path | None) -> Index:
    from geoml.geolocation.locate.similar import Index

    return Index(folder, _locator(model).extractor)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [n for n in file.schema_arrow.names if n not in ("geometry", "bbox")]
        for batch in file.iter_batches(4096, columns=names):
            yield from batch.to_pylist()


def _thumbnail(row: Mapping[str, Any]) -> bytes | None:
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
