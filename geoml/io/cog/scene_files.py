"""A user's rasters as scenes: bands, place and time from their headers, and from options.

Headers are read and no pixel. What is not known is refused with the number of files, and where a date comes from is
said, for it may only be that of the file.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoml.errors import DataError, InputError
from geoml.io.cog.raster_file import RasterFile, header
from geoml.io.cog.scene_fields import UNUSED, SceneFields
from geoml.io.cog.shards import joined
from geoml.io.stac.times import instant
from geoml.io.stores.remote import is_url
from geoml.redacted import redact
from geoml.texts import counted, listed

_DAY = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?:[T_-]?([01]\d|2[0-3])"
    r"([0-5]\d)([0-5]\d))?(?!\d)"
)
_LANDSAT = re.compile(r"L[CETMO]0?\d\d{6}((?:19|20)\d\d)([0-3]\d\d)")
"""FileScene ids from before Collection 1: path, row, year and day of the year."""
_MILLISECONDS = "system:time_start"
"""A tag of Earth Engine: milliseconds since 1970."""
_ACQUIRED = (
    "acquisitiondatetime",
    "acquisition_date",
    "date_acquired",
    "sensing_time",
    "start_time",
    "datetime",
    _MILLISECONDS,
)
"""Tags with the time that a scene was taken, in small letters."""


@dataclass(frozen=True)
class FileScene:
    """One scene: its files, the names of the bands of each (None: not used), its time and where that comes from."""

    name: str
    files: tuple[RasterFile, ...]
    bands: tuple[tuple[str | None, ...], ...]
    when: dt.datetime
    dated_by: str
    guessed: bool = False
    """The time is that of the file."""

    @property
    def gsd(self) -> float:
        """Of the finest file, metres."""
        return min(f.gsd for f in self.files)

    @property
    def said(self) -> str:
        """The scene in words, for a person to check."""
        names = [name for file in self.bands for name in file if name] or ["bands by their wavelengths"]
        crs = listed(dict.fromkeys(str(f.box.crs) for f in self.files))
        return f"{self.name}: {listed(names, most=40)}; {self.gsd:g} m, {crs}; {self.when:%Y-%m-%d} ({self.dated_by})"


def scenes_of(
    places: Sequence[str],
    told: SceneFields,
    times: Sequence[str] = (),
    *,
    field: str = "scenes",
    undated: bool = False,
    skipped: bool = False,
) -> list[FileScene]:
    """The scenes of files, and of the TIFFs in folders, in their order.

    Several bands and as many files of one band make one scene, all shards of an export of Earth Engine another (see
    `geoml.io.cog.shards`, also for ``skipped``), else each file is one. ``undated=True`` dates those that say no time
    by their last change. Raises InputError, naming the option (``field`` is that of the files) and how many
    files, for what is not there, has no georeference or does not fit ``told``; TransientError for a server.
    """
    found = _files(places, field)
    if twice := [redact(p) for p, n in Counter(found).items() if n > 1]:
        raise InputError(f"{field}: {listed(twice)} given twice; expected each file once")
    files = joined(_opened(found, field), field, skipped=skipped, nodata=told.nodata)
    alone = all(len(f.names) == 1 for f in files)
    count = len(told.bands)
    if alone and count > 1 and len(files) != count:
        raise InputError(
            f"bands: {count} names for {len(files)} files of one band; expected as many files, the bands of one scene"
        )
    groups = [files] if alone and count > 1 else [[f] for f in files]
    if len(times) not in (0, 1, len(groups)):
        raise InputError(
            f"datetime: {len(times)} for {counted(len(groups), 'scene')}; expected one for all or one for each"
        )
    bands = [_bands(group, told) for group in groups]
    if wrong := next((b for b in bands if _flat(b) != _flat(bands[0])), None):
        raise InputError(
            f"bands: scenes differ: {listed(_flat(bands[0]))} and {listed(_flat(wrong))}; expected the same, by --bands"
            " or run apart"
        )
    names = _unique([_name(group) for group in groups], groups)
    dated = [
        _dated(group, times[k] if len(times) > 1 else times[0] if times else None, field)
        for k, group in enumerate(groups)
    ]
    if not undated and (lost := [n for n, (when, _) in zip(names, dated, strict=True) if when is None]):
        raise InputError(
            f"datetime: no date in tags or name of {len(lost)} of {counted(len(names), 'scene')}: {listed(lost)};"
            " expected --datetime, such as 2024-06-01"
        )
    return [
        FileScene(name, tuple(group), b, *(_changed(group) if when is None else (when, by)), guessed=when is None)
        for name, group, b, (when, by) in zip(names, groups, bands, dated, strict=True)
    ]


def _files(places: Sequence[str], field: str) -> list[str]:
    """``places`` with the TIFFs of a folder, by name, in its place. Raises InputError for one without any."""
    found: list[str] = []
    for place in places:
        if is_url(place) or not Path(place).is_dir():
            found.append(place)
            continue
        inside = sorted(str(p) for p in Path(place).iterdir() if p.suffix.lower() in (".tif", ".tiff"))
        if not inside:
            raise InputError(f"{field}: the folder {place} holds no .tif; expected GeoTIFFs, or folders of them")
        found += inside
    return found


def _opened(places: Sequence[str], field: str) -> list[RasterFile]:
    """The headers. Raises one InputError for all files that cannot be used."""
    found, wrong = [], []
    for place in places:
        try:
            found.append(header(place))
        except (DataError, InputError) as err:
            wrong.append(re.sub(r"^(item \S+, asset image \((.*?)\)): ", r"\2: ", str(err)))
    if wrong:
        raise InputError(f"{field}: {len(wrong)} of {len(places)} files cannot be used: {listed(wrong, joined='; ')}")
    return found


def _bands(group: Sequence[RasterFile], told: SceneFields) -> tuple[tuple[str | None, ...], ...]:
    """The names of each file's bands. Raises InputError if they are not known or do not fit."""
    count = sum(len(f.names) for f in group)
    where = redact(Path(group[0].href).name)
    if not told.bands:
        if any(None in f.names and not f.spectral for f in group):
            why = "".join(f" and no wavelengths to go by ({f.unspectral})" for f in group[:1] if f.unspectral)
            raise InputError(
                f"bands: {where} has {count} {'band' if count == 1 else 'bands'} without a name{why}; expected --bands"
                f" with {count}, such as blue,green,red,nir"
            )
        return tuple(f.names for f in group)
    if len(told.bands) == count + 1 and group[0].alpha:  # near infrared is sometimes tagged so
        count += 1
    if len(told.bands) != count:
        raise InputError(f"bands: {len(told.bands)} names for the {count} bands of {where}; expected one for each")
    check_names(told.bands)
    left = iter(told.bands)
    sizes = [len(f.names) for f in group] if len(group) > 1 else [count]
    return tuple(tuple(None if (n := next(left)) == UNUSED else n for _ in range(size)) for size in sizes)


def check_names(bands: Sequence[str]) -> None:
    """Raise InputError for names that are empty or come twice, and where none is used."""
    used = [b for b in bands if b != UNUSED]
    if not used or len(set(used)) < len(used) or "" in used:
        raise InputError(f"bands: {listed(bands, joined=',')}; expected different names, - for what is not used")


def _flat(bands: Sequence[Sequence[str | None]]) -> list[str]:
    return [name or UNUSED for file in bands for name in file]


def _name(group: Sequence[RasterFile]) -> str:
    """A name of letters that an item may have: that of the file, or what the names of several begin with."""
    stems = [redact(Path(f.href).stem) for f in group]
    shared = stems[0]
    while len(stems) > 1 and shared and not all(s.startswith(shared) for s in stems):
        shared = shared[:-1]
    text = re.sub(r"[-_. ]*(B0?|band)?[-_. ]*$", "", shared) if len(stems) > 1 else shared
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:80] or "scene"


def _unique(names: list[str], groups: Sequence[Sequence[RasterFile]]) -> list[str]:
    """Names of which none comes twice; those that do say their folder too, and else their number."""
    often = Counter(names)
    out: list[str] = []
    for name, group in zip(names, groups, strict=True):
        text = name if often[name] == 1 else f"{_name([group[0]])}-{Path(group[0].href).parent.name}"
        out.append(text if text not in out and text not in often.keys() - {name} else f"{text}-{len(out) + 1}")
    return out


def _dated(group: Sequence[RasterFile], told: str | None, field: str) -> tuple[dt.datetime | None, str]:
    """When a scene was taken, by the option, the tags of its files or their names; None if nobody says it.

    Raises InputError for files of one scene that say days apart.
    """
    if told is not None:
        return told_time(told), "--datetime"
    found = [said for f in group if (said := _said(f)) is not None]
    found = found or [said for f in group if (said := _tagged(f, ("tifftag_datetime",))) is not None]
    if not found:
        return None, ""
    first, last = min(when for when, _ in found), max(when for when, _ in found)
    if last - first >= dt.timedelta(days=1):
        raise InputError(
            f"{field}: files of one scene say {first:%Y-%m-%d} and {last:%Y-%m-%d}; expected files of one date, or"
            " --datetime"
        )
    return found[0]


def _said(file: RasterFile) -> tuple[dt.datetime, str] | None:
    """When a file was taken, by a tag for it or by its name."""
    name = Path(file.href).name
    named = _LANDSAT.search(name) or _DAY.search(name)
    when = _read(named) if named else None
    return _tagged(file, _ACQUIRED) or (None if when is None else (when, "file name"))


def _tagged(file: RasterFile, tags: Sequence[str]) -> tuple[dt.datetime, str] | None:
    times = (((_since_1970 if k == _MILLISECONDS else _read)(file.tags[k]), f"tag {k}") for k in tags if k in file.tags)
    return next(((when, by) for when, by in times if when is not None), None)


def told_time(text: str) -> dt.datetime:
    """An instant, or the noon of a day. Raises InputError for another text."""
    try:
        return _noon(text) or instant(text).astimezone(dt.UTC)
    except ValueError as err:
        raise InputError(f"datetime: {text!r}; expected such as 2024-06-01 or 2024-06-01T10:30:00Z") from err


def _noon(text: str) -> dt.datetime | None:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        return None
    return dt.datetime.combine(dt.date.fromisoformat(text), dt.time(12), dt.UTC)


def _read(found: str | re.Match[str]) -> dt.datetime | None:
    """The time of a tag or of a part of a name; None for anything else."""
    try:
        if isinstance(found, str):
            text = re.sub(r"^(\d{4}):(\d\d):(\d\d)\b", r"\1-\2-\3", found.strip())  # as TIFF writes it
            text = re.sub(r"^((?:19|20)\d{6})(\d{4}|\d{6})$", r"\1T\2", text)
            if re.fullmatch(r"-?\d{9,}(\.\d*)?", text):  # the parser would take it for a date with an odd separator
                return None
            return _noon(text) or instant(text).astimezone(dt.UTC)
        if found.re is _LANDSAT:
            return dt.datetime(int(found[1]), 1, 1, 12, tzinfo=dt.UTC) + dt.timedelta(days=int(found[2]) - 1)
        clock = dt.time(int(found[5]), int(found[6]), int(found[7])) if found[5] else dt.time(12)
        return dt.datetime.combine(dt.date(int(found[1]), int(found[3]), int(found[4])), clock, dt.UTC)
    except ValueError:
        return None


def _since_1970(text: str) -> dt.datetime | None:
    """The time of so many milliseconds; None for anything else."""
    if not re.fullmatch(r"-?\d{1,14}(\.0*)?", text.strip()):
        return _read(text)
    try:
        return dt.datetime.fromtimestamp(float(text) / 1000, dt.UTC)
    except (ValueError, OverflowError):
        return None


def _changed(group: Sequence[RasterFile]) -> tuple[dt.datetime, str]:
    """The last change of a scene's files. Raises InputError for one elsewhere."""
    if any(is_url(href) for f in group for href in f.hrefs):
        raise InputError(f"datetime: {redact(group[0].href)} has no date; expected --datetime, such as 2024-06-01")
    last = max(Path(href).stat().st_mtime for f in group for href in f.hrefs)
    return dt.datetime.fromtimestamp(int(last), dt.UTC), "time of its last change; the file states no date"
