"""Health of a container: asks ``$GEOML_HEALTH``, an http URL or tcp://HOST:PORT; without it, whether geoml is whole."""

from __future__ import annotations

import os
import socket
import sys
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener


def healthy(url: str | None) -> bool:
    """True when what runs here answers; raises OSError or ImportError when it does not."""
    if not url:
        from geoml.settings import shipped

        return (shipped() / "demo.yaml").is_file()
    if url.startswith("tcp://"):
        where = urlsplit(url)
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=10):
            return True
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        return bool(answer.status < 400)


if __name__ == "__main__":
    try:
        sys.exit(0 if healthy(os.environ.get("GEOML_HEALTH")) else "not whole")
    except (OSError, ImportError) as err:
        sys.exit(f"{type(err).__name__}: {err}")
