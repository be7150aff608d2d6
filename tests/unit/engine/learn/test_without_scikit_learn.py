"""What learns by scikit-learn names the extra that brings it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from geoml.engine.learn import choose, next_places
from geoml.engine.train import simple
from geoml.errors import MissingExtra

NONE: Any = cast("Any", None)
WAYS: dict[str, Callable[[], object]] = {
    "the best simple method": lambda: simple.best_simple(NONE),
    "a forest": lambda: choose.forest(("a",), 0)(NONE, NONE),
    "next places": lambda: next_places.spread(np.zeros((2, 1)), np.ones(2), np.zeros((2, 2)), 1, 1.0),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m == "sklearn" or m.startswith("sklearn.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"pip install 'geoml\[train\]'"):
        WAYS[name]()
