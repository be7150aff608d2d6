"""The world that trainings of these tests learn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoml.testing import pictures


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures.made_world(tmp_path_factory.mktemp("world"))
