"""Serve the map of a run: its page, tiles of its COGs and nothing else, to this machine only."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from geoml.errors import GeomlError, InputError, MissingExtra
from geoml.io.webmap.tiles import DEEPEST, RunTiles

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HOST = "127.0.0.1"
UNREAD = "Geoml-Unread"
"""Header of an answer about a place: how many files there could not be read."""


def app(tiles: RunTiles) -> Starlette:
    """Answers for requests that name this machine as their host; raises MissingExtra without starlette."""
    try:
        import rio_tiler.io  # noqa: F401  # before there are threads: of two that import it first, one fails
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.responses import HTMLResponse, JSONResponse, Response
        from starlette.routing import Route
    except ImportError as err:
        raise MissingExtra(f"{err.name} is not installed: install geoml[view]") from err

    def page(request: Request) -> Response:
        try:
            return HTMLResponse(tiles.page())
        except GeomlError as err:
            return Response(str(err), 502)

    def report(request: Request) -> Response:
        try:
            found = tiles.store.read("report.html", 2**28)
        except GeomlError as err:
            return Response(str(err), 502)
        return Response("no report", 404) if found is None else HTMLResponse(found)

    def tile(request: Request) -> Response:
        z, x, y = (int(request.path_params[k]) for k in "zxy")
        if z > DEEPEST or not (0 <= x < 2**z and 0 <= y < 2**z):
            return Response("no such tile", 404)
        try:
            found = tiles.tile(request.path_params["key"], z, x, y)
        except InputError as err:
            return Response(str(err), 404)
        except GeomlError as err:
            return Response(str(err), 502)
        return Response(found, 200 if found else 204, media_type="image/png")

    def point(request: Request) -> Response:
        try:
            lon, lat = (float(request.query_params[k]) for k in ("lon", "lat"))
        except (KeyError, ValueError):
            lon = lat = math.nan
        if not (math.isfinite(lon) and -90 <= lat <= 90):
            return Response("lon, lat: expected degrees", 400)
        try:
            values, unread = tiles.point(lon, lat)
        except GeomlError as err:
            return Response(str(err), 502)
        return JSONResponse(values, headers={UNREAD: str(unread)} if unread else None)

    routes = [
        Route("/", page),
        Route("/map.html", page),
        Route("/report.html", report),
        Route("/tiles/{key}/{z:int}/{x:int}/{y:int}.png", tile),
        Route("/point", point),
    ]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])  # no page of elsewhere asks us
    return Starlette(routes=routes, middleware=[hosts])


def serve(tiles: RunTiles, port: int, ready: Callable[[str], object]) -> None:
    """Serve until Ctrl-C. ``port`` 0 takes a free one. ``ready`` is called with the address just before it answers, so
    it may not wait for an answer; who asks then is answered.

    Raises InputError for a port that is taken, MissingExtra without uvicorn.
    """
    made = app(tiles)
    try:
        import uvicorn
    except ImportError as err:
        raise MissingExtra("uvicorn is not installed: install geoml[view]") from err
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as err:
            raise InputError(f"port: {port} cannot be had ({err.strerror}); expected a free one, or 0 for any") from err
        listening.listen()
        ready(f"http://{HOST}:{listening.getsockname()[1]}/")
        server = uvicorn.Server(uvicorn.Config(made, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
