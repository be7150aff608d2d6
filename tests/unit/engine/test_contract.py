"""Plug-ins that are found by the card's task."""

from __future__ import annotations

import pytest

from geoml import testing
from geoml.engine.contract import BACKENDS, OUTPUTS, Backend, Layer, Output, input_of, output_of, pixel_output
from geoml.errors import InputError
from geoml.inputs import dated_pair, mosaic
from geoml.outputs import changes, classes


def test_the_task_of_a_card_names_the_output() -> None:
    assert type(output_of(testing.card("made", ["red"], ["a", "b"]))) is classes.Output
    assert type(pixel_output(testing.card("made", ["red"], ["a", "b"], task="change"))) is changes.Output
    with pytest.raises(InputError, match="did you mean 'segmentation'"):
        output_of(testing.card("made", ["red"], ["a"], task="segmentatoin"))


def test_the_task_of_a_card_names_the_input() -> None:
    assert type(input_of(testing.card("made", ["red"], ["a", "b"]))) is mosaic.Input
    assert type(input_of(testing.card("made", ["red"], ["a", "b"], dates=2, task="change"))) is dated_pair.Input


def test_every_file_has_what_the_protocol_asks_for() -> None:
    for name in OUTPUTS.names():
        file = OUTPUTS.find(name)
        made = file.Output(testing.card("made", ["red"], **{"classes": (), **file.TINY}))
        assert isinstance(made, Output), name
    for name in BACKENDS.names():
        kind = BACKENDS.find(name).Backend
        assert {m for m in vars(Backend) if not m.startswith("_")} <= set(dir(kind))


def test_bands_are_called_by_the_layer_unless_they_have_names() -> None:
    assert Layer(key="value", title="v").names == ("value",)
    two = Layer(key="value", title="v", bands=("a", "b"), unit="m", scale=0.1, dtype="int16", nodata=-1)
    infos = two.band_infos([{"minimum": 1.0}, {}])
    assert [(i.name, i.unit, i.scale, i.data_type, i.nodata) for i in infos] == [
        (n, "m", 0.1, "int16", -1) for n in "ab"
    ]
