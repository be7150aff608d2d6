"""A server on loopback that answers as ArcGIS does, as far as geoml asks: a feature layer, with its limits and errors.

Written from the reference of the REST API (https://developers.arcgis.com/rest/services-reference/); errors come with
HTTP 200. ``trick`` is one misbehaviour, ``faults`` are the codes of the next answers.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import geopandas as gpd
import shapely

MERCATOR = {"wkid": 102100, "latestWkid": 3857}
NAMES = {1: "wood", 2: "field", 3: "town"}
DOMAIN = {"type": "codedValue", "name": "cover", "codedValues": [{"name": n, "code": c} for c, n in NAMES.items()]}
FIELDS: list[dict[str, Any]] = [
    {"name": "OBJECTID", "type": "esriFieldTypeOID", "alias": "OBJECTID"},
    {"name": "cover", "type": "esriFieldTypeSmallInteger", "alias": "Land cover", "domain": DOMAIN},
    {"name": "seen", "type": "esriFieldTypeDate", "alias": "Seen", "length": 8},
    {"name": "note", "type": "esriFieldTypeString", "alias": "Note", "length": 40},
]
SEEN = 1_717_200_000_000
"""2024-06-01 in milliseconds."""


class Refused(Exception):
    """An error inside of an answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FeatureLayer:
    """A layer of polygons in Web Mercator, with ids that have gaps."""

    def __init__(self, frame: gpd.GeoDataFrame, most: int = 3) -> None:
        """``frame`` has a column ``cover`` of codes, in any CRS."""
        shapes = [None if g is None else shapely.get_parts(g) for g in frame.geometry.to_crs("EPSG:3857")]
        self.rows = [
            {
                "attributes": {"OBJECTID": 10 * k + 1, "cover": code, "seen": SEEN, "note": None},
                "geometry": {"rings": [ring for part in parts for ring in _rings(part)]},
            }
            for k, (code, parts) in enumerate(zip(frame["cover"], shapes, strict=True))
        ]
        self.about: dict[str, Any] = {
            "currentVersion": 11.2, "id": 0, "name": "Land", "type": "Feature Layer", "capabilities": "Query,Extract",
            "geometryType": "esriGeometryPolygon", "objectIdField": "OBJECTID", "maxRecordCount": most,
            "advancedQueryCapabilities": {"supportsPagination": True}, "fields": FIELDS,
            "extent": {"spatialReference": MERCATOR}, "typeIdField": "", "types": [],
        }  # fmt: skip

    def query(self, asked: Mapping[str, str], trick: str) -> dict[str, Any]:
        rows = self.rows
        if match := re.fullmatch(r"OBJECTID >= (\d+) AND OBJECTID <= (\d+)", asked.get("where", "")):
            first, last = map(int, match.groups())
            rows = [r for r in rows if first <= r["attributes"]["OBJECTID"] <= last]
        elif asked.get("where") != "1=1":
            raise Refused(400, "Unable to complete operation.")
        if asked.get("returnCountOnly") == "true":
            return {"count": len(rows)}
        ids = [r["attributes"]["OBJECTID"] for r in rows]
        if asked.get("returnIdsOnly") == "true":
            return {"objectIdFieldName": "OBJECTID", "objectIds": ids[::-1] or None}
        start, limit = int(asked.get("resultOffset", 0)), int(asked.get("resultRecordCount", 10**6))
        most = min(self.about["maxRecordCount"], limit) if trick != "heavy" else 1
        page = rows[start : start + most]
        more = start + most < len(rows)
        if trick == "silent":
            page, more = page[: max(1, len(page) - 1)], False
        return {
            "objectIdFieldName": "OBJECTID", "geometryType": "esriGeometryPolygon", "spatialReference": MERCATOR,
            "fields": [{k: v for k, v in f.items() if k != "domain"} for f in FIELDS], "features": page,
            **({"exceededTransferLimit": True} if more else {}),
        }  # fmt: skip


def _rings(polygon: shapely.Polygon) -> list[list[list[float]]]:
    """Outer rings clockwise and holes counterclockwise, as Esri JSON has them."""
    turned = shapely.orient_polygons(polygon, exterior_cw=True)
    return [[list(xy) for xy in ring.coords] for ring in (turned.exterior, *turned.interiors)]


class ArcGISServer:
    """Services by their path; ``token`` is asked for where there is one."""

    def __init__(self, services: Mapping[str, Any]) -> None:
        self.services = dict(services)
        self.token = ""
        self.trick = ""
        self.faults: list[int] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    def answer(self, path: str, asked: dict[str, str]) -> tuple[bytes, str]:
        """The body and its media type."""
        try:
            value = self._value(path, asked)
            if isinstance(value, bytes):
                return value, "image/tiff"
        except Refused as err:
            value = {"error": {"code": err.code, "message": str(err), "details": []}}
        return json.dumps(value).encode(), "application/json"

    def _value(self, path: str, asked: dict[str, str]) -> Any:
        if self.token and "token" not in asked:
            raise Refused(499, "Token Required")
        if self.token and asked["token"] != self.token:
            raise Refused(498, f"Invalid token {asked['token']}.")
        if self.faults:
            raise Refused(self.faults.pop(0), "Error performing query operation")
        name = next((n for n in self.services if path == n or path.startswith(f"{n}/")), None)
        if name is None:
            raise Refused(404, "Service not found")
        service, operation = self.services[name], path[len(name) :].strip("/")
        found = getattr(service, operation, None) if operation else None
        return service.about if found is None else found(asked, self.trick)


@contextmanager
def serve(**services: Any) -> Iterator[ArcGISServer]:
    """``serve(Land=FeatureLayer(…))`` at ``url``/Land/FeatureServer/0."""
    kinds = {"FeatureLayer": "FeatureServer/0", "ImageService": "ImageServer"}
    here = ArcGISServer({f"/{n}/{kinds[type(s).__name__]}": s for n, s in services.items()})
    root = "/arcgis/rest/services"

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked = {k: v[0] for k, v in parse_qs(url.query).items()}
            here.asked.append((url.path.removeprefix(root), asked))
            body, kind = here.answer(url.path.removeprefix(root).rstrip("/"), asked)
            self.send_response(200)
            self.send_header("Content-Type", f"{kind};charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        here.url = f"http://127.0.0.1:{server.server_address[1]}{root}"
        yield here
        server.shutdown()
