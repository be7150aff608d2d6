"""What is said where no item can be used."""

from __future__ import annotations

from geoml.errors import DataError
from geoml.io.stac.left_out import LeftOut


def test_one_item_is_no_items() -> None:
    left = LeftOut()
    left.add("a", DataError("item a: broken"))
    assert str(left.none_left("made")) == "made: the only item found cannot be used; 1 item left out: item a: broken"
    left.add("b", DataError("item b: broken"))
    assert str(left.none_left("made")).startswith("made: none of the 2 items found can be used; 2 items left out: ")
