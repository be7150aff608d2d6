"""Colours of classes: expected ones by name, and never the same twice."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from geoml.io.cards.class_colours import class_colours


@given(st.lists(st.text("abcforestwater ", min_size=1), min_size=1, max_size=60, unique=True))
def test_every_class_has_a_colour_of_its_own(names: list[str]) -> None:
    found = class_colours(names)
    assert len(set(found)) == len(found) == len(names)
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in found)


def test_a_name_has_the_colour_that_is_expected() -> None:
    assert class_colours(["Open Water", "river"])[0] == "#2b7bba"


def test_as_many_classes_as_a_map_holds_have_colours() -> None:
    assert len(set(class_colours([str(k) for k in range(254)]))) == 254
