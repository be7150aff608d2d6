"""Leaflet (BSD-2-Clause, see ``vendor/README.md``) and data as they stand inside a page that needs no network."""

from __future__ import annotations

import base64
import gzip
import json
import re
from functools import lru_cache
from pathlib import Path

from geoml.errors import InputError

VENDOR = Path(__file__).parent / "vendor"


@lru_cache(maxsize=1)
def leaflet() -> dict[str, str]:
    """``leaflet_css`` and ``leaflet_js``. Addresses in comments and credits are cut: the page names none."""
    style = (VENDOR / "leaflet.css").read_text(encoding="utf-8")
    script = gzip.decompress((VENDOR / "leaflet.js.gz").read_bytes()).decode()
    for address in ("https://leafletjs.com", "//# sourceMappingURL=leaflet.js.map"):
        script = script.replace(address, "")
    style = re.sub(r"https?://[^\s*]+", "", re.sub(r"url\(images/[^)]*\)", "none", style))
    return {"leaflet_css": style, "leaflet_js": script}


def json_for_page(data: object, what: str) -> str:
    """JSON that cannot end the script element it stands in. Raises InputError, naming ``what``, for other values."""
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as err:
        raise InputError(f"{what}: not JSON ({err}); expected finite numbers and text") from err
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def data_uri(kind: str, data: bytes) -> str:
    """``data:KIND;base64,…``."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
