"""Fixtures of the io tests."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def stac_server() -> Callable[[list[dict[str, Any]]], AbstractContextManager[Any]]:
    """``serve(items)`` of stac_server.py, which lies beside this file and is no package."""
    spec = spec_from_file_location("stac_server", Path(__file__).with_name("stac_server.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.serve  # type: ignore[no-any-return]


_LINKS = {"to a device": "/dev/zero", "to nothing": "nowhere", "to a file": __file__}


@pytest.fixture(params=["a named pipe", "a folder", "a socket", *_LINKS])
def odd_file(request: pytest.FixtureRequest) -> tuple[str, Callable[[Path], None]]:
    """(what it is called, how to make it at a path): each kind of what is no regular file."""
    kind: str = request.param

    def make(path: Path) -> None:
        if kind == "a named pipe":
            os.mkfifo(path)
        elif kind == "a folder":
            path.mkdir()
        elif kind == "a socket":
            here = Path.cwd()
            os.chdir(path.parent)  # the names of sockets are short
            try:
                with socket.socket(socket.AF_UNIX) as one:
                    one.bind(path.name)
            finally:
                os.chdir(here)
        else:
            path.symlink_to(_LINKS[kind])

    return ("a symbolic link" if kind in _LINKS else kind), make
