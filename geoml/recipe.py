"""Recipes: one run, frozen, readable as YAML, hashed; everything that changes the result and nothing about the
machine.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from geoml.errors import InputError
from geoml.fields import Absent, Spelled, Unhashed, unhashed
from geoml.redacted import bare, wrong
from geoml.texts import listed, short

T = TypeVar("T", bound=BaseModel)

ONE = (str, int, float, dt.date, Mapping, BaseModel)
"""Kinds of a value that stands for a list of one."""

MAX_VALUES = 100_000
"""Of one YAML file."""


def _phase(value: float) -> float:
    if value not in (0.0, 0.5):
        raise ValueError("expected 0.0 (pixel edges on multiples of the gsd) or 0.5 (pixel centres)")
    return value


def require_separators(text: str) -> str:
    """``text`` of an instant or interval. Raises ValueError for a part in digits only, which others read as seconds."""
    for part in map(str.strip, text.split("/")):
        if re.fullmatch(r"[0-9]{5,}(\.[0-9]+)?", part):
            cuts = ((0, 4), (4, 6), (6, 8))
            near = "-".join(part[a:b] for a, b in cuts if part[a:b])
            is_date = len(part) in (6, 8, 14) and re.match(r"(1[89]|2[01])[0-9]{2}(0[1-9]|1[0-2])", part)
            expected = near if is_date else "2024-01-01"
            raise ValueError(f"{part}: a date in digits only may mean seconds; write {expected}")
    return text


def _when(value: object) -> object:
    """Text of what YAML and JSON make of a date: their dates, and a year as a number."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    return require_separators(value) if isinstance(value, str) else value


When = Annotated[str, BeforeValidator(_when)]
"""An RFC 3339 instant or interval."""


FeatureFormats = Annotated[tuple[Literal["parquet", "gpkg", "fgb", "pmtiles"], ...], Unhashed("it adds files")]
"""Files of the features of a run; see `geoml.io.tables.feature_formats`."""

NOT_EMBED = Absent("embed", "it says nothing of embeddings")

Phase = Annotated[float, AfterValidator(_phase)]
"""The anchor of a plane; see `geoml.grid.plane`."""


def _sound(text: str) -> str:
    if why := wrong(text):
        raise ValueError(why)
    return text


Place = Annotated[
    str,
    AfterValidator(_sound),
    PlainSerializer(bare, when_used="json"),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""A name, a path or a URL. What signs it is in memory only: files and hashes are made of JSON, which leaves it out."""


def _region_text(value: Any) -> object:
    """GeoJSON text of a geometry in memory; anything else as it is. Raises ValueError without a CRS."""
    geometry = getattr(value, "geometry", value)  # of a GeoDataFrame
    if not hasattr(geometry, "__geo_interface__") and not isinstance(value, Mapping):
        return value
    found = dict(geometry.__geo_interface__ if hasattr(geometry, "__geo_interface__") else value)
    if hasattr(value, "to_crs"):  # coordinates of geopandas are in its CRS, all others in degrees
        if not len(value):
            raise ValueError("an empty GeoDataFrame; expected one with polygons")
        if value.crs is None:
            raise ValueError("a GeoDataFrame without CRS; expected one, see GeoDataFrame.set_crs")
        found["crs"] = {"type": "name", "properties": {"name": value.crs.to_string()}}
    try:
        return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as err:
        raise ValueError(f"no GeoJSON ({err}); expected a geometry, a Feature or a FeatureCollection") from None


def separated(value: object) -> object:
    """Numbers of a text with commas or spaces between; anything else as it is."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


RegionPlace = Annotated[Place, BeforeValidator(_region_text)]
"""A file or URL of polygons, or GeoJSON itself: a mapping, or what `shapely` and `geopandas` hold."""


class Frozen(BaseModel):
    """Base of every recipe part: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: Any) -> Any:
        """One value where a list is meant."""
        if not isinstance(value, Mapping):
            return value
        lists = {
            n
            for n, f in cls.model_fields.items()
            if get_origin(f.annotation) is tuple and ... in get_args(f.annotation)
        }
        one = {n: (value[n],) for n in lists & value.keys() if isinstance(value[n], ONE)}
        return {**value, **one} if one else value

    later: ClassVar[tuple[str, ...]] = ()
    """Fields that came after recipes had been hashed: they count where they are not the default, so old hashes hold."""


class Query(Frozen):
    """What to search, with the names of the STAC API."""

    catalog: Place = Field(
        description="a name in catalogs/, the URL of a STAC API, or a static catalog or stac-geoparquet file"
        " (local; a static catalog also by URL)"
    )
    collection: str | None = Field(
        default=None, description="collection id; optional if the catalog has one collection"
    )
    bbox: Annotated[tuple[float, float, float, float] | None, Spelled("W S E N"), BeforeValidator(separated)] = Field(
        default=None,
        description="west, south, east, north in degrees; west > east crosses the antimeridian. Give this or a region",
    )
    region: RegionPlace | None = Field(
        default=None,
        description="polygons in any CRS: GeoJSON, GeoPackage, shapefile (or zipped), FlatGeobuf, KML or GeoParquet;"
        " file, FILE:LAYER or URL; or the URL of an ArcGIS feature layer",
    )
    datetime: Annotated[
        tuple[When, ...],
        Absent("monitor", "every day is looked at by itself; reference is the earlier date, of a model of two"),
    ] = Field(
        description="RFC 3339 date (2020, 2020-05, 2020-05-18), instant or interval (a/b, ../b); once for each"
        " date that the model needs, earliest first",
    )
    filter: str | None = Field(default=None, description='CQL2 text, such as "eo:cloud_cover" < 20')
    sortby: str | None = Field(default=None, description="property to sort by, with a leading - for descending order")
    limit: int | None = Field(default=None, ge=1, description="maximum number of items")
    strict: Annotated[bool, Unhashed("it decides whether there is a result, and not which")] = Field(
        default=False,
        description="refuse an item that cannot be placed in time or space, or whose metadata cannot be read,"
        " instead of leaving it out",
    )

    @model_validator(mode="after")
    def _one_region(self) -> Self:
        if (self.bbox is None) == (self.region is None):
            raise ValueError("bbox, region: give exactly one of them")
        return self


class PredictRecipe(Frozen):
    """One prediction run: from a region, a time range and a model to a map."""

    model_config = ConfigDict(allow_inf_nan=False)

    later: ClassVar[tuple[str, ...]] = ("pyramid",)

    model: Place = Field(description="a name in catalogs/models, or the folder or URL of a package")
    query: Query
    crs: str = Field(
        default="utm",
        description="utm: the zone of each place; data: the CRS of the items, or else of their files; or EPSG:code",
    )
    block_size: Annotated[int, Unhashed("a pixel does not depend on its block")] = Field(
        default=2048, ge=64, le=65536, description="side of a block in pixels; does not change the result"
    )
    mask: Literal["auto", "none"] = Field(
        default="auto", description="auto: use the quality mask described in the catalog's YAML"
    )
    composite: Literal["first", "least_cloudy", "median", "mean"] = Field(
        default="least_cloudy",
        description="how the items of one place are combined into one image; first is the newest",
    )
    join: Annotated[Literal["auto", "exact", "blend"], NOT_EMBED] = Field(
        default="auto",
        description="how chips are joined into one map: exact (halo and core) or blend (window); auto: exact if"
        " the model allows it",
    )
    tta: Annotated[bool, NOT_EMBED] = Field(default=False, description="average over the eight flips and rotations")
    pyramid: Annotated[tuple[Annotated[int, Field(ge=2, le=64)], ...], NOT_EMBED] = Field(
        default=(), max_length=6,
        description="for object models: find larger objects too, in pixels this many times as wide; repeat for"
        " each level, 2 to 64, smallest first",
    )  # fmt: skip
    probabilities: Annotated[bool, NOT_EMBED] = Field(
        default=False, description="also write the probability of every class"
    )
    features: Annotated[bool, NOT_EMBED] = Field(default=True, description="also write polygons of the classes")
    map: Annotated[bool, Unhashed("it is a page beside the result")] = Field(
        default=True, description="also write map.html, a map to open in a browser"
    )
    features_format: Annotated[FeatureFormats, NOT_EMBED] = Field(
        default=("parquet",),
        description="also write the polygons as gpkg, fgb or pmtiles; once for each. GeoParquet is always written",
    )
    min_area: Annotated[float, NOT_EMBED] = Field(
        default=0.0, ge=0, description="m²; smaller polygons are left out, after merging"
    )
    simplify: Annotated[float, NOT_EMBED] = Field(
        default=0.0, ge=0, description="tolerance in metres; neighbours keep their shared borders"
    )
    harmonise: Annotated[Literal["none", "histogram", "invariant"], NOT_EMBED] = Field(
        default="none", description="for two dates, match the colours of the later one to those of the first"
    )
    shift_limit: Annotated[float, NOT_EMBED] = Field(
        default=0.5, ge=0, description="pixels; a later date that is shifted further is moved back"
    )
    max_shift: Annotated[float, NOT_EMBED] = Field(
        default=8.0, ge=0, le=32, description="pixels; dates shifted further apart are an error; 0 skips the check"
    )
    max_failed: Annotated[float, Unhashed("it decides when a run stops")] = Field(
        default=1.0, ge=0, le=1, description="share of blocks that may fail before the run stops"
    )
    out_of_domain: Annotated[
        Literal["warn", "refuse", "allow"], Unhashed("it decides whether there is a result, and not which")
    ] = Field(
        default="warn",
        description="for images unlike the training data: warn (but refuse another unit), refuse, or allow",
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.pyramid) != sorted(set(self.pyramid)):
            raise ValueError(f"pyramid: {list(self.pyramid)}; expected each larger than the one before")
        return self

    @property
    def hash(self) -> str:
        """sha256 over the canonical JSON of what is `counted`."""
        return digest(self.counted())

    def counted(self, *leave: str) -> dict[str, Any]:
        """Plain JSON without fields that change no pixel (`Unhashed`), and without those that came later (``later``)
        and say nothing; and without ``leave``."""
        silent = (n for n in self.later if getattr(self, n) == type(self).model_fields[n].default)
        return self.model_dump(mode="json", exclude=unhashed(type(self)) | dict.fromkeys((*silent, *leave), True))


class EmbedRecipe(PredictRecipe):
    """One run of an encoder. Its blocks are smaller: a pixel is a whole vector."""

    block_size: Annotated[int, Unhashed("a pixel does not depend on its block")] = Field(
        default=512, ge=64, le=65536, description="side of a block in pixels; does not change the result"
    )


class ChipSearchRecipe(Frozen):
    """A search on a map of embeddings."""

    index: Place = Field(description="folder or bucket written by geoml embed")
    point: Annotated[tuple[float, float] | None, Spelled("LON LAT")] = Field(
        default=None, description="look for pixels like the one here, in degrees. Give this or a region"
    )
    region: RegionPlace | None = Field(
        default=None,
        description="look for the mean of the pixels inside these polygons: a file as of geoml predict",
    )
    count: int = Field(default=100, ge=1, description="number of chips to return")
    pixels: bool = Field(default=False, description="rank the best chips by their best pixel")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.point is None) == (self.region is None):
            raise ValueError("point, region: give exactly one of them")
        return self


def canonical(value: object) -> str:
    """JSON of ``value``, the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: object) -> str:
    """sha256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def differences(before: Mapping[str, object], now: BaseModel, leave: Iterable[str] = ()) -> str:
    """The fields in which the recipe ``before`` (as plain JSON) differs from ``now``, with both values.

    Nested fields have dots in their names; ``leave`` are names that do not count. Empty if nothing differs.
    """
    try:  # fields that came later have their default
        before = type(now).model_validate(before).model_dump(mode="json")
    except ValidationError:
        before = dict(before)
    one, two = _flat(before), _flat(now.model_dump(mode="json"))
    names = [n for n in {**one, **two} if one.get(n) != two.get(n) and n not in set(leave)]
    return listed((f"{n} is {_shown(one.get(n))} there and {_shown(two.get(n))} here" for n in names), "", joined="; ")


def _flat(value: object, name: str = "") -> dict[str, object]:
    """Plain values by dotted name; a list stays whole unless it holds mappings."""
    if isinstance(value, dict) and value:
        inner = value.items()
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        inner = {str(n): v for n, v in enumerate(value)}.items()
    else:
        return {name: value}
    return {k: v for n, part in inner for k, v in _flat(part, f"{name}.{n}" if name else str(n)).items()}


def _shown(value: object) -> str:
    """As JSON, short, and without what signs a URL."""
    return short(json.dumps(bare(value) if isinstance(value, str) else value, ensure_ascii=False), 80)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping, read safely. Raises InputError for a missing file, bad YAML or another top level."""
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as err:
        raise InputError(f"{path}: cannot be read ({err.strerror}); expected a YAML file") from err
    except (yaml.YAMLError, ValueError, RecursionError) as err:  # ValueError: not UTF-8, or an invalid date
        raise InputError(f"{path}: not plain YAML ({' '.join(str(err).split())[:300]})") from err
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a YAML mapping, found {type(value).__name__}")
    if _size(value, {}) > MAX_VALUES:
        raise InputError(f"{path}: its aliases expand to more than {MAX_VALUES} values, or contain themselves")
    return value


def _size(value: object, sizes: dict[int, int]) -> int:
    """Number of values with all aliases written out: a few lines of YAML can stand for billions, or for no end."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in sizes:
        sizes[id(value)] = MAX_VALUES + 1  # until it is counted: an alias that is met now lies inside of itself
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        sizes[id(value)] = 1 + sum(_size(v, sizes) for v in inner)
    return sizes[id(value)]


def check_text(value: object, where: str) -> None:
    """Raise InputError for text that is not Unicode: a file name in bytes that are not UTF-8 cannot be written down."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as err:
        text = err.object[max(0, err.start - 60) : err.end].encode(errors="backslashreplace").decode()
        raise InputError(f"{where}: …{short(text)}… is not UTF-8; expected a UTF-8 path, rename it") from err


def parse(kind: type[T], value: Mapping[str, object], where: str) -> T:
    """``kind(**value)``, with pydantic's errors as one InputError that names the fields."""
    check_text(value, where)
    try:
        return kind.model_validate(dict(value))
    except ValidationError as err:
        messages = ((".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")) for e in err.errors())
        lines = [f"{field}: {message}" if field else message for field, message in messages]
        # pydantic's own text quotes the value, which may be a password
        raise InputError(f"{where}: {listed(lines, joined='; ')}") from None
