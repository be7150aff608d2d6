"""The order of what a card says by class or by duration: a JSON object has none, and ours are sorted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from pydantic import TypeAdapter, ValidationError

_PERIOD = TypeAdapter(dt.timedelta)


def in_order(value: Any, classes: Sequence[str]) -> Any:
    """``value`` of JSON where each object by names of ``classes`` follows them, and one by ISO 8601 durations begins
    with the shortest. Lists, and objects by anything else, stay as they are. Raises RecursionError for a deep one."""
    if isinstance(value, list):
        return [in_order(v, classes) for v in value]
    if not isinstance(value, Mapping):
        return value
    keys = list(value)
    if set(keys) <= set(classes):
        keys.sort(key=classes.index)
    elif all(str(k).startswith("P") for k in keys):
        with suppress(ValidationError):
            keys = sorted(keys, key=_PERIOD.validate_python)
    return {k: in_order(value[k], classes) for k in keys}
