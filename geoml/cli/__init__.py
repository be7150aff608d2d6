"""The command line: one file a group of commands; ``app`` is all of them."""

from geoml.cli.main import app

__all__ = ["app"]
