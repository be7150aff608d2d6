"""A made pair of known geometry, corrected for its parallax once for all tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from geoml.cube.stereo.matching import Matcher
from geoml.cube.stereo.pair import Pair, overlap
from geoml.cube.stereo.parallax import Parallax, parallax
from geoml.testing.stereo import MadePair, from_plane, made_pair, to_plane, town


@pytest.fixture(scope="session")
def made() -> MadePair:
    return made_pair(town(1, side=100.0, count=5), size=200, parallax=-3.0)


@pytest.fixture(scope="session")
def found(made: MadePair) -> Parallax:
    return parallax(made.pair(), overlap(made.pair()))


@pytest.fixture(scope="session")
def corrected(made: MadePair, found: Parallax) -> Pair:
    return made.pair().shifted(np.array(found.shift))


@pytest.fixture
def matcher(corrected: Pair) -> Callable[[], Matcher]:
    """Makes new ones that remember nothing."""
    return lambda: Matcher(corrected, overlap(corrected), to_plane, from_plane)
