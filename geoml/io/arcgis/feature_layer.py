"""Feature layers of ArcGIS: all features of ``…/FeatureServer/0`` or ``…/MapServer/0``, or an error.

https://developers.arcgis.com/rest/services-reference/enterprise/query-feature-service-layer/. A server cuts an answer
at ``maxRecordCount`` and some say so nowhere. So the ids are asked for first, which no server cuts, then the features
by ranges of ids, and each range has to come whole. GDAL reads the geometries, from a file of ours: it would follow
redirects to private hosts, and cannot tell a short answer from a whole one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import geopandas as gpd

from geoml.errors import DataError, InputError
from geoml.io.arcgis.service import ArcGIS, TooLarge

AT_ONCE = 2000
"""Features of one request at most, whatever the server allows."""
LARGEST = 2**28
"""Bytes of all features as JSON."""
_LAYER = re.compile(r"(.+/(?:FeatureServer|MapServer)/\d+)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_LEFT_OUT = ("esriFieldTypeGeometry", "esriFieldTypeBlob", "esriFieldTypeRaster", "esriFieldTypeXML")
"""Fields without a value."""

Attributes = dict[str, Any]


def read(url: str, layer: str | None, field: str) -> gpd.GeoDataFrame:
    """The features of a layer, with the CRS of the service; codes of domains and subtypes are their names.

    Raises InputError, naming ``field``, for the URL of something else, no access and a layer that cannot be queried;
    DataError for features that did not all come, and for more than `LARGEST` bytes; TransientError when the server does
    not answer. Answers of another form raise KeyError, TypeError or ValueError.
    """
    service = ArcGIS.at(url, field)
    if layer is not None:
        raise InputError(f"layer: no {layer!r} in {service.url}; a feature layer is named by its number in the URL")
    if not _LAYER.fullmatch(service.url):
        raise InputError(f"{field}: {service.url} is no layer; expected its number, such as …/FeatureServer/0")
    about = service.ask()
    if not about.get("geometryType"):
        raise InputError(
            f"{field}: {service.url} is a {about.get('type', 'resource')} without geometries; expected a feature layer"
        )
    if "query" not in str(about.get("capabilities", "query")).lower():
        raise InputError(
            f"{field}: {service.url} cannot be queried ({about['capabilities']}); expected a layer that can"
        )
    found = service.ask("query", where="1=1", returnIdsOnly="true")
    name, ids = str(found["objectIdFieldName"]), sorted(map(int, found["objectIds"] or ()))
    if not _NAME.fullmatch(name):
        raise DataError(f"{service.url}: the field of the ids is called {name!r}")
    if not ids:
        raise InputError(f"{field}: {service.url} has no features; expected some")
    with TemporaryDirectory(prefix="geoml-") as folder:
        path = Path(folder) / "layer.json"
        with path.open("w", encoding="utf-8") as file:
            _write(service, about, name, ids, file)
        frame = gpd.read_file(f"ESRIJSON:{path}")
    if len(frame) != len(ids):
        raise DataError(f"{service.url}: {len(frame)} of {len(ids)} features can be read")
    return frame


def _write(service: ArcGIS, about: Mapping[str, Any], name: str, ids: Sequence[int], file: TextIO) -> None:
    """All features as one Esri JSON document."""
    names = _Names(about)
    frame: dict[str, Any] | None = None
    for page in pages(service, name, ids, int(about.get("maxRecordCount") or 1000)):
        head = {
            "geometryType": str(page["geometryType"]),
            "spatialReference": _reference(page.get("spatialReference")),
            "fields": names.fields(page["features"][0]["attributes"]),
        }
        if frame is None:
            file.write(f'{json.dumps(head)[:-1]}, "features": [')
        elif head != frame:
            raise DataError(f"{service.url}: answers differ in their fields, geometry or spatial reference")
        for row in page["features"]:
            one = {"attributes": names.named(row["attributes"]), "geometry": row.get("geometry")}
            file.write("\n" if frame is None else ",\n")
            frame = head
            file.write(json.dumps(one))
        if file.tell() > LARGEST:
            raise DataError(
                f"{service.url}: more than {LARGEST >> 20} MiB of features; expected a part, as a GeoPackage"
            )
    file.write("]}")


def pages(service: ArcGIS, name: str, ids: Sequence[int], most: int) -> Iterator[dict[str, Any]]:
    """Answers that together hold every id once, ``most`` or fewer each. A range too large for the server is halved.

    ``name`` is the field of the ids, which rise; what else lies in a range is left out. Raises DataError for a range
    that does not come whole.
    """
    most = max(1, min(most, AT_ONCE))
    left = [ids[k : k + most] for k in range(0, len(ids), most)][::-1]
    while left:
        part = left.pop()
        middle = len(part) // 2
        try:
            page = service.ask(
                "query", where=f"{name} >= {part[0]} AND {name} <= {part[-1]}", outFields="*", returnGeometry="true",
                returnZ="false", returnM="false",
            )  # fmt: skip
        except TooLarge:
            if not middle:
                raise
            left += [part[middle:], part[:middle]]
            continue
        wanted = set(part)
        rows = [row for row in page["features"] if int(row["attributes"][name]) in wanted]
        came = [int(row["attributes"][name]) for row in rows]
        if sorted(came) == list(part):
            yield {**page, "features": rows}
        elif page.get("exceededTransferLimit") and middle:
            left += [part[middle:], part[:middle]]
        else:
            raise DataError(
                f"{service.url}: {len(set(came))} of {len(part)} features came, and {len(page['features'])} in all;"
                " the answer is cut, or the layer has changed meanwhile"
            )


def _reference(value: Any) -> dict[str, Any]:
    """A spatial reference of numbers and WKT alone, which is all that GDAL has to see."""
    kept: dict[str, Any] = {k: int(value[k]) for k in ("wkid", "latestWkid") if (value or {}).get(k)}
    wkt = (value or {}).get("wkt")
    return {"wkt": wkt} if not kept and isinstance(wkt, str) and wkt[:6] in ("PROJCS", "GEOGCS") else kept


def _codes(domain: Any) -> dict[Any, str] | None:
    """Names by code of a domain of coded values; None for another one."""
    if not isinstance(domain, dict) or domain.get("type") != "codedValue":
        return None
    return {entry["code"]: str(entry["name"]) for entry in domain["codedValues"]}


class _Names:
    """Names in the place of codes: of domains, and of subtypes with domains of their own."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        """``about`` is what the layer says of itself."""
        self._fields = [f for f in about["fields"] if f["type"] not in _LEFT_OUT]
        self._domains = {f["name"]: codes for f in self._fields if (codes := _codes(f.get("domain"))) is not None}
        self._by, kinds, key = str(about.get("typeIdField") or ""), about.get("types") or (), "id"
        if not self._by or not kinds:
            self._by, kinds, key = str(about.get("subtypeField") or ""), about.get("subtypes") or (), "code"
        self._own = {
            kind[key]: {n: c for n, d in (kind.get("domains") or {}).items() if (c := _codes(d)) is not None}
            for kind in kinds
        }
        if kinds and self._by:
            named = {kind[key]: str(kind["name"]) for kind in kinds}
            self._domains[self._by] = self._domains.get(self._by, {}) | named
        self._named = self._domains.keys() | {n for own in self._own.values() for n in own}

    def fields(self, row: Attributes) -> list[dict[str, str]]:
        """Those of the rows, as an answer describes them; named ones are text."""
        return [
            {"name": f["name"], "type": "esriFieldTypeString" if f["name"] in self._named else f["type"]}
            for f in self._fields
            if f["name"] in row
        ]

    def named(self, row: Attributes) -> Attributes:
        """The attributes with names; a code without one stays as it is."""
        domains = self._domains | self._own.get(row.get(self._by), {})
        kept = {f["name"]: row.get(f["name"]) for f in self._fields if f["name"] in row}
        for name in self._named & kept.keys():
            if (value := kept[name]) is not None:
                kept[name] = domains.get(name, {}).get(value, str(value))
        return kept
