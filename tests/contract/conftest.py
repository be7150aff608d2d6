"""Types of every call into models, heads, nn and tasks are checked at run time, in tests only."""

from __future__ import annotations

import pkgutil

from jaxtyping import install_import_hook

from geoml import inputs, models, nn, outputs, tasks
from geoml.geolocation import heads
from geoml.geolocation import tasks as locating

PLUGINS = (models, heads, nn, inputs, outputs, tasks, locating)
CHECKED = [f"{p.__name__}.{m.name}" for p in PLUGINS for m in pkgutil.iter_modules(p.__path__)]
install_import_hook(CHECKED, "beartype.beartype")
