"""``python -m geoml.cli``."""

from geoml.cli.main import app

app()
