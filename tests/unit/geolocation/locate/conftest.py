"""The locator that these tests ask."""

from __future__ import annotations

import pytest

from geoml.geolocation.locate.locator import Locator
from geoml.testing import pictures


@pytest.fixture(scope="module")
def overhead(tmp_path_factory: pytest.TempPathFactory) -> Locator:
    return pictures.made_locator(tmp_path_factory.mktemp("overhead"))
