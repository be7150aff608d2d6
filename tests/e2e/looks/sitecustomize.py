"""With this folder in PYTHONPATH every new Python process knows the model ``looks`` and the task ``seasons``."""

from pathlib import Path

import geoml.models
import geoml.tasks

geoml.models.__path__.append(str(Path(__file__).parent / "models"))
geoml.tasks.__path__.append(str(Path(__file__).parent / "tasks"))
