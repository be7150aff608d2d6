"""Pixels that travel as one, and plug-ins that are found by the card's task."""

from __future__ import annotations

import numpy as np
import pytest

from geoml import testing
from geoml.engine.contract import BACKENDS, OUTPUTS, Backend, Layer, Output, output_of, pixel_output
from geoml.engine.pixels import Pixels
from geoml.errors import InputError
from geoml.grid.plane import Window
from geoml.outputs import changes, classes


def pixels() -> Pixels:
    data = np.arange(2 * 4 * 5, dtype=np.uint16).reshape(2, 4, 5)
    count = np.ones((4, 5), np.uint16)
    count[1, 2] = 0
    return Pixels(data, count, (0.5, 2.0), (1.0, -1.0), Window(10, 20, 14, 25))


def test_a_part_of_pixels_is_what_lies_there() -> None:
    whole = pixels()
    part = whole.crop(Window(11, 22, 13, 24))
    assert part.data.tolist() == whole.data[:, 1:3, 2:4].tolist()
    assert part.valid.tolist() == [[False, True], [True, True]]
    assert part.crop(part.origin).data.base is whole.data.base  # nothing is copied
    assert part.crop(Window(12, 23, 13, 24)).data.tolist() == whole.data[:, 2:3, 3:4].tolist()


def test_what_the_model_sees_is_what_the_numbers_mean() -> None:
    whole = pixels()
    physical = whole.data * np.array([0.5, 2.0])[:, None, None] + np.array([1.0, -1.0])[:, None, None]
    np.testing.assert_allclose(whole.physical(), physical)
    card = testing.card("made", ["red", "nir"], ["a"])
    bands = tuple(b.model_copy(update={"mean": 3.0, "std": 4.0}) for b in card.bands)
    mul, add = whole.coefficients(card.model_copy(update={"bands": bands}))
    np.testing.assert_allclose(whole.data * mul[:, None, None] + add[:, None, None], (physical - 3) / 4, rtol=1e-6)
    with pytest.raises(InputError, match="expected 1"):
        whole.coefficients(testing.card("made", ["red"], ["a"]))


def test_nothing_is_known_outside_of_a_mask() -> None:
    mask = np.zeros((4, 5), bool)
    mask[:2] = True
    masked = pixels().only(mask)
    assert masked.valid.sum() == 9
    assert masked.count.dtype == np.uint16
    assert pixels().valid.sum() == 19


def test_the_task_of_a_card_names_the_output() -> None:
    assert type(output_of(testing.card("made", ["red"], ["a", "b"]))) is classes.Output
    assert type(pixel_output(testing.card("made", ["red"], ["a", "b"], task="change"))) is changes.Output
    with pytest.raises(InputError, match="did you mean 'segmentation'"):
        output_of(testing.card("made", ["red"], ["a"], task="segmentatoin"))


def test_every_file_has_what_the_protocol_asks_for() -> None:
    for name in OUTPUTS.names():
        made = OUTPUTS.find(name).Output(testing.card("made", ["red"], ["a", "b"]))
        assert isinstance(made, Output), name
    for name in BACKENDS.names():
        kind = BACKENDS.find(name).Backend
        assert {m for m in vars(Backend) if not m.startswith("_")} <= set(vars(kind)) | {
            "device",
            "fixed",
            "batch",
            "side",
        }


def test_bands_are_called_by_the_layer_unless_they_have_names() -> None:
    assert Layer(key="value", title="v").names == ("value",)
    two = Layer(key="value", title="v", bands=("a", "b"), unit="m", scale=0.1, dtype="int16", nodata=-1)
    infos = two.band_infos([{"minimum": 1.0}, {}])
    assert [(i.name, i.unit, i.scale, i.data_type, i.nodata) for i in infos] == [
        (n, "m", 0.1, "int16", -1) for n in "ab"
    ]
