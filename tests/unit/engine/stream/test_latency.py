"""Percentiles are those of numpy over all frames."""

from __future__ import annotations

import numpy as np

from geoml.engine.stream.latency import Latency


def test_percentiles_of_all_frames() -> None:
    model = np.random.default_rng(0).exponential(20, 500)
    found = Latency()
    assert (len(found), found.summary()) == (0, {})
    for value in model:
        found.add({"read": 1.0, "wait": 0.0, "model": value, "latency": 1.0 + value, "write": 2.0})
    told = found.summary()
    assert len(found) == 500
    assert list(told) == ["read", "wait", "model", "latency", "write"]
    ordered = np.sort(model)
    assert ordered[248] < told["model"]["p50"] < ordered[251]
    assert ordered[493] < told["model"]["p99"] < ordered[496]
    assert told["model"]["mean"] == round(float(model.mean()), 3)
    assert told["latency"]["p99"] == round(float(np.percentile(model + 1, 99)), 3)
