"""Types of every call into models, heads, nn and tasks are checked at run time, in tests only."""

from __future__ import annotations

import pkgutil

from jaxtyping import install_import_hook

from geoml import models, nn, outputs, tasks
from geoml.geolocation import heads
from geoml.geolocation import nn as place_nn
from geoml.geolocation import tasks as place_tasks

PLUGINS = (models, heads, nn, place_nn, outputs, tasks, place_tasks)
CHECKED = [f"{p.__name__}.{m.name}" for p in PLUGINS for m in pkgutil.iter_modules(p.__path__)]
install_import_hook(CHECKED, "beartype.beartype")
