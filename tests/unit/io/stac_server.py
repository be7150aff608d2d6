"""A STAC API on loopback whose items, paging and faults a test decides; as much of the standard as a search needs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cql2
from shapely.geometry import box, shape

from tests.serving import serving

CONFORMS = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/item-search#filter",
]


def passes(expression: Any, item: dict[str, Any]) -> bool:
    try:
        return bool(cql2.Expr(expression).matches(item))
    except Exception:  # NULL in SQL
        return False


class StacServer:
    """``faults``: statuses of the next searches; ``cuts``: bodies that break off; ``trick``: another misbehaviour."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.items = items
        self.page = 2
        self.faults: list[int] = []
        self.headers: dict[str, str] = {}
        self.trick = ""
        self.cuts = 0
        self.post = True
        self.matched = False
        self.searches: list[dict[str, Any]] = []
        self.url = ""

    def collections(self) -> list[dict[str, Any]]:
        return [
            {
                "type": "Collection",
                "stac_version": "1.0.0",
                "id": name,
                "description": "made",
                "license": "CC0-1.0",
                "extent": {
                    "spatial": {"bbox": [[-60, -30, 60, 30]]},
                    "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
                },
                "links": [],
            }
            for name in sorted({i["collection"] for i in self.items})
        ]

    def root(self) -> dict[str, Any]:
        methods = ["GET", "POST"] if self.post else ["GET"]
        links = [{"rel": "search", "href": f"{self.url}/search", "method": m} for m in methods]
        links += [{"rel": r, "href": self.url} for r in ("self", "root")]
        links += [{"rel": "data", "href": f"{self.url}/collections"}]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "made",
            "description": "made",
            "conformsTo": CONFORMS,
            "links": links,
        }

    def search(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.searches.append(asked)
        found = [i for i in self.items if i["collection"] in asked["collections"]]
        found = [i for i in found if box(*asked["bbox"]).intersects(shape(i["geometry"]))]
        if asked.get("datetime"):
            low, _, high = asked["datetime"].partition("/")
            times = [datetime.fromisoformat(t) if t != ".." else None for t in (low, high or low)]
            when = [datetime.fromisoformat(i["properties"]["datetime"]) for i in found]
            inside = [(not times[0] or t >= times[0]) and (not times[1] or t <= times[1]) for t in when]
            found = [i for i, keep in zip(found, inside, strict=True) if keep]
        if asked.get("filter"):
            found = [i for i in found if passes(asked["filter"], i)]
        for rule in reversed(asked.get("sortby") or []):
            name = rule["field"].removeprefix("properties.")
            given = [i for i in found if name in i["properties"] or name in i]
            given.sort(key=lambda i: i["properties"].get(name, i["id"]), reverse=rule["direction"] == "desc")
            found = given + [i for i in found if i not in given]
        start = int(asked.get("token", 0))
        size = min(self.page, int(asked.get("limit", self.page)))
        if self.trick == "repeat":
            start = 0
        answer: dict[str, Any] = {"type": "FeatureCollection", "features": found[start : start + size], "links": []}
        if self.matched:
            answer["numberMatched"] = len(found)
        if start + size < len(found) or self.trick == "repeat":
            host = {"elsewhere": "http://127.0.0.2:9"}.get(self.trick, self.url)
            body = {**asked, "token": str(start + size)}
            answer["links"] = [{"rel": "next", "href": f"{host}/search", "method": "POST", "body": body}]
            if not self.post:
                answer["links"] = [{"rel": "next", "href": f"{host}/search?token={start + size}&" + asked["query"]}]
        return answer


@contextmanager
def serve(items: list[dict[str, Any]]) -> Iterator[StacServer]:
    """The server, running until the block ends."""
    state = StacServer(items)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, value: Any) -> None:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            whole = len(body)
            if state.cuts and status == 200:
                state.cuts -= 1
                body = body[: whole // 2]
            elif state.trick == "gzip":
                body = gzip.compress(body)
                whole = len(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(whole))
            if state.trick == "gzip":
                self.send_header("Content-Encoding", "gzip")
            for name, text in state.headers.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not state.post:
                self.answer(405, {"description": "method not allowed"})
            elif state.faults:
                self.answer(state.faults.pop(0), {"description": "busy, or your word was wrong"})
            else:
                self.answer(200, state.search(asked))

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            names = {c["id"]: c for c in state.collections()}
            if url.path.rstrip("/") == "":
                root = {"not json": b"<html>hello</html>", "nan": b'{"a": NaN}', "deep": b'{"a":' * 100_000}
                self.answer(200, root.get(state.trick, state.root()))
            elif url.path == "/collections":
                self.answer(200, {"collections": list(names.values()), "links": []})
            elif url.path.startswith("/collections/"):
                found = names.get(url.path.split("/")[2])
                self.answer(200 if found else 404, found or {"description": "no such collection"})
            elif url.path == "/search" and state.faults:
                self.answer(state.faults.pop(0), {"description": "busy, or your word was wrong"})
            elif url.path == "/search":
                query = {k: v[0] for k, v in parse_qs(url.query).items()}
                asked: dict[str, Any] = {**query, "collections": query["collections"].split(",")}
                asked["bbox"] = [float(v) for v in query["bbox"].split(",")]
                rest = "&".join(p for p in url.query.split("&") if not p.startswith("token="))
                self.answer(200, state.search({**asked, "sortby": None, "query": rest}))
            else:
                self.answer(404, {})

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
