"""What a package must never run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def trap(tmp_path: Path) -> bytes:
    """A pickle that creates ``executed`` in the folder of the test when it is read as one."""
    return pickle.dumps(Trap(tmp_path / "executed"))
