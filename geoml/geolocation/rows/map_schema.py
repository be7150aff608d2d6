"""Columns of a picture that was matched with a map, in addition to those of `geoml.geolocation.rows.schema`."""

from __future__ import annotations

import pyarrow as pa

_F = pa.float64()

MORE = pa.schema(
    [
        ("stage", pa.string()),
        ("footprint", pa.binary()),
        ("error_m", _F),
        ("cov_ee", _F),
        ("cov_en", _F),
        ("cov_nn", _F),
        ("inliers", pa.int32()),
        ("p_right", _F),
        ("gsd_m", _F),
        ("heading_deg", _F),
        ("reference", pa.string()),
    ]
)
"""``stage``: ``match`` where the answer is a place on the map, ``cells`` where it is a locator's, null without one.

``footprint`` is the WKB polygon or multipolygon that the picture shows, in degrees; ``error_m`` one standard deviation
along an axis, ``cov_*`` the covariance of (east, north) in square metres; ``inliers`` of the best candidate and
``p_right``, the probability that so many are right, also where it was not accepted; ``gsd_m`` metres of a pixel of the
picture, ``heading_deg`` where its upper edge looks, from north; ``reference`` the file, frame or item it was found in.
"""
