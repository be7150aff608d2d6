"""With this folder in PYTHONPATH every new Python process knows the model ``brittle``."""

from pathlib import Path

import geoml.models

geoml.models.__path__.append(str(Path(__file__).parent))
