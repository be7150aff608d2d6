"""What others made is as it came, and data cannot leave the element they stand in."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from geoml.errors import InputError
from geoml.io.webmap.leaflet import VENDOR, json_for_page, leaflet


def test_leaflet_is_as_it_came() -> None:
    script = gzip.decompress((VENDOR / "leaflet.js.gz").read_bytes())
    assert hashlib.sha256(script).hexdigest() in (VENDOR / "README.md").read_text()
    assert b"Leaflet 1.9.4" in script[:200]
    assert "Redistribution" in (VENDOR / "leaflet-LICENSE.txt").read_text()
    assert "://" not in leaflet()["leaflet_css"]


def test_json_cannot_end_its_element() -> None:
    text = json_for_page({"a": "</script><b>&amp;"}, "rows")
    assert not set("<>&") & set(text)
    assert json.loads(text) == {"a": "</script><b>&amp;"}
    with pytest.raises(InputError, match="rows"):
        json_for_page(float("nan"), "rows")
