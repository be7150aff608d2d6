from __future__ import annotations

import numpy as np
import pytest
import torch

from geoml import testing
from geoml.engine.inference.predict import stored
from geoml.errors import InputError, ModelError
from geoml.outputs.quantity import LARGEST, NODATA, TINY, Output


def output(**made):
    return Output(testing.card("made", ["red"], [], **{**TINY, "made": {**TINY["made"], **made}}))


def raw(value, spread):
    """One pixel of raw output."""
    return torch.tensor([value, spread], dtype=torch.float32).reshape(1, 2, 1, 1)


KNOWN = np.ones((1, 1, 1), bool)


def test_values_are_in_the_unit_and_stored_in_steps():
    rows = stored(output(), raw(0.5, 0.0), KNOWN)
    assert rows["value"].item() == round((3 + 0.5 * 2) / 0.1)
    assert rows["spread"].item() == round(np.log(2) * 2 / 0.1)
    value, spread = output().answer(rows)
    assert value.item() == pytest.approx(4.0)
    assert spread.item() == pytest.approx(np.log(2) * 2, abs=0.05)


def test_as_float32_nothing_is_rounded():
    made = output(dtype="float32")
    rows = stored(made, raw(0.123, 0.0), KNOWN)
    assert rows["value"].item() == pytest.approx(3.246)
    assert [layer.nodata for layer in made.layers] == [NODATA["float32"]] * 2
    hidden = stored(made, raw(float("nan"), 0.0), ~KNOWN)
    assert np.isnan(made.answer(hidden)[0]).all()
    with pytest.raises(ModelError, match="not finite in 1 pixels"):
        stored(made, raw(float("inf"), 0.0), KNOWN)


def test_what_is_beyond_the_steps_is_the_last_and_infinity_is_refused():
    assert stored(output(), raw(1e9, 0.0), KNOWN)["value"].item() == LARGEST
    with pytest.raises(ModelError, match="not finite in 1 pixels"):
        stored(output(), raw(float("-inf"), 0.0), KNOWN)


def test_layers_say_unit_and_scale():
    value, spread = output().layers
    assert (value.key, spread.key) == ("value", "spread")
    assert (value.unit, value.scale, value.dtype) == ("m", 0.1, "int16")
    with pytest.raises(InputError, match="made"):
        output(stepp=1)
