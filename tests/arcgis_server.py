"""A server on loopback that answers as ArcGIS does, as far as geoml asks: feature layers and image services.

Written from the reference of the REST API (https://developers.arcgis.com/rest/services-reference/); errors come with
HTTP 200. ``trick`` is one misbehaviour, ``faults`` are the codes of the next answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import geopandas as gpd
import numpy as np
import shapely
from rasterio.io import MemoryFile
from rasterio.transform import from_bounds

from tests.serving import serving

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


class ImageService:
    """A mosaic of rasters on one grid, the first on top; each is (band, y, x), its upper left corner and its time.

    As a service with a default rendering, it gives stretched values to who does not ask for the values themselves.
    """

    def __init__(self, rasters: dict[str, tuple[np.ndarray, tuple[float, float], int | None]], wkid: int, res: float,
                 nodata: float, most: int = 64) -> None:  # fmt: skip
        self.rasters, self.res, self.nodata = rasters, res, nodata
        first = next(iter(rasters.values()))[0]
        self.kind = {"u": "U", "i": "S", "f": "F"}[first.dtype.kind] + str(8 * first.dtype.itemsize)
        self.reference = {"wkid": wkid, "latestWkid": wkid}
        boxes = [self.extent(k) for k in range(1, len(rasters) + 1)]
        whole = {k: (min if k.endswith("min") else max)(b[k] for b in boxes) for k in ("xmin", "ymin", "xmax", "ymax")}
        self.about: dict[str, Any] = {
            "currentVersion": 11.2, "name": "Folder/Dates", "pixelType": self.kind, "bandCount": len(first),
            "pixelSizeX": res, "pixelSizeY": res, "maxImageHeight": most, "maxImageWidth": most, "maxRecordCount": 1000,
            "extent": {**whole, "spatialReference": self.reference}, "capabilities": "Image,Metadata,Catalog",
            "allowRasterFunction": True, "timeInfo": {"startTimeField": "AcquisitionDate"},
            "fields": [{"name": "AcquisitionDate", "type": "esriFieldTypeDate"}],
        }  # fmt: skip

    def extent(self, number: int) -> dict[str, Any]:
        data, (x, y), _ = list(self.rasters.values())[number - 1]
        high, wide = data.shape[1:]
        box = {"xmin": x, "ymin": y - high * self.res, "xmax": x + wide * self.res, "ymax": y}
        return {**box, "spatialReference": self.reference}

    def info(self, number: int) -> dict[str, Any]:
        data = list(self.rasters.values())[number - 1][0]
        size = {"pixelSizeX": self.res, "pixelSizeY": self.res}
        return {**size, "extent": self.extent(number), "bandCount": len(data), "pixelType": self.kind}

    def query(self, asked: Mapping[str, str], trick: str) -> dict[str, Any]:
        ids = range(1, len(self.rasters) + 1)
        if match := re.fullmatch(r"OBJECTID >= (\d+) AND OBJECTID <= (\d+)", asked["where"]):
            ids = range(int(match[1]), int(match[2]) + 1)
        elif asked["where"] != "Category = 1":
            raise Refused(400, "Unable to complete operation.")
        if "geometry" in asked:
            west, south, east, north = map(float, asked["geometry"].split(","))
            boxes = {k: self.extent(k) for k in ids}
            ids = [k for k, b in boxes.items() if b["xmin"] < east and b["xmax"] > west and b["ymin"] < north
                   and b["ymax"] > south]  # fmt: skip
        if asked.get("returnIdsOnly") == "true":
            return {"objectIdFieldName": "OBJECTID", "objectIds": list(ids)}
        names = list(self.rasters)
        rows = [
            {"OBJECTID": k, "Name": names[k - 1], "Category": 1, "AcquisitionDate": self.rasters[names[k - 1]][2]}
            for k in ids
        ]
        return {"objectIdFieldName": "OBJECTID", "features": [{"attributes": row} for row in rows]}

    def exportImage(self, asked: Mapping[str, str], trick: str) -> bytes:
        """The pixel of the source that holds the centre of each pixel asked for."""
        width, height = map(int, asked["size"].split(","))
        if max(width, height) > self.about["maxImageWidth"]:
            raise Refused(400, "The requested image exceeds the size limit.")
        west, south, east, north = map(float, asked["bbox"].split(","))
        if trick == "shifted":
            west, east = west + self.res / 2, east + self.res / 2
        number = json.loads(asked.get("mosaicRule", "{}")).get("lockRasterIds", [1])[0]
        data, (x, y), _ = list(self.rasters.values())[number - 1]
        columns = np.floor((west + (np.arange(width) + 0.5) * (east - west) / width - x) / self.res).astype(int)
        rows = np.floor((y - north + (np.arange(height) + 0.5) * (north - south) / height) / self.res).astype(int)
        inside = ((rows >= 0) & (rows < data.shape[1]))[:, None] & (columns >= 0) & (columns < data.shape[2])
        picked = data[:, np.clip(rows, 0, data.shape[1] - 1)][:, :, np.clip(columns, 0, data.shape[2] - 1)]
        values = np.where(inside, picked, np.array(self.nodata, data.dtype))
        if json.loads(asked.get("renderingRule", "{}")) != {"rasterFunction": "None"}:
            values = (values / 2).astype(data.dtype)
        place = {
            "crs": f"EPSG:{self.reference['wkid']}",
            "transform": from_bounds(west, south, east, north, width, height),
        }
        about = {"count": len(data), "height": height, "width": width, "dtype": data.dtype, "nodata": self.nodata}
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", **about, **place) as file:
                file.write(values)
            return bytes(memory.getbuffer())


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
        if operation.endswith("/info"):
            return service.info(int(operation.partition("/")[0]))
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

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        here.url = f"http://127.0.0.1:{server.server_address[1]}{root}"
        yield here
