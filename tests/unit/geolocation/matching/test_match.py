"""Pictures cut from a made map by known homographies are found where they were cut; others are not found at all."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pyproj
import pytest
import scipy.ndimage
from affine import Affine
from shapely.geometry import Polygon

from geoml.cube.keypoints import UNIT, detect, match, mirrored
from geoml.errors import InputError
from geoml.geolocation.matching.acceptance import Acceptance
from geoml.geolocation.matching.decoys import of_frames, of_map
from geoml.geolocation.matching.frames import FrameReference
from geoml.geolocation.matching.match import MatchOptions, locate
from geoml.geolocation.matching.mosaic import index
from geoml.geolocation.matching.prior import Prior
from geoml.grid.homography import apply, corners, middle, similarity
from geoml.testing import write_cog
from tests.geolocation_frames import Frame, frames

SIZE, RES = 600, 0.25
SHAPE = (180, 240)
SMALL = 300
"""Pixels of a side of the map where less will do."""
GEOD = pyproj.Geod(ellps="WGS84")
SURE = Acceptance(5.0, -15.0, 30)
FEW = MatchOptions(candidates=3)


def texture(seed: int, size: int = SIZE) -> np.ndarray:
    """(size, size, 3) uint8: fields with borders and blobs of many scales."""
    rng = np.random.default_rng(seed)
    total = 25 * scipy.ndimage.gaussian_filter(np.kron(rng.normal(size=(size // 30 + 1,) * 2), np.ones((30, 30))), 0.8)
    total = total[:size, :size]
    for sigma, weight in ((1, 10), (3, 12), (9, 15), (27, 15)):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=(size, size)), sigma)
        total = total + weight * noise / noise.std()
    return np.clip(np.stack([120 + total, 110 + 0.9 * total, 90 + 0.7 * total], -1), 1, 255).astype(np.uint8)


def write(path, image: np.ndarray, crs: str = "EPSG:32631", transform: Affine | None = None) -> None:
    transform = transform or Affine(RES, 0, 500_000, 0, -RES, 5_600_000)
    write_cog(path, np.moveaxis(image, -1, 0), crs=crs, transform=transform, nodata=0)


@pytest.fixture(scope="module")
def ground():
    return texture(0)


@pytest.fixture(scope="module")
def reference(ground, tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    write(folder / "map.tif", ground)
    return index([folder / "map.tif"], folder / "cache", cell=300, most=900)


def cut(image: np.ndarray, truth: np.ndarray, shape=SHAPE) -> np.ndarray:
    """The picture whose pixels ``truth`` takes to those of the map; darker, with less contrast and some noise."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    blurred = cv2.GaussianBlur(image, (0, 0), 0.5)
    out = cv2.warpPerspective(blurred, np.linalg.inv(half) @ truth @ half, shape[::-1], flags=flags)
    rng = np.random.default_rng(0)
    return np.clip(0.7 * out + 10 + rng.normal(0, 3, out.shape), 0, 255).astype(np.uint8)


def view(scale: float, angle: float, x: float, y: float, tilt=(0.0, 0.0), shape=SHAPE) -> np.ndarray:
    """The map's pixel (x, y) in the middle of the picture."""
    matrix = similarity(scale, np.radians(angle), 0, 0)
    matrix[2, :2] = tilt
    matrix[:2, 2] = 0
    shift = np.eye(3)
    shift[:2, 2] = (x, y) - apply(matrix, middle(shape))[0]
    return shift @ matrix


def lonlat(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = 500_000 + RES * pixels[:, 0], 5_600_000 - RES * pixels[:, 1]
    return pyproj.Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform(x, y)


@pytest.mark.parametrize(
    ("scale", "angle", "tilt"),
    [(1.0, 133, (0, 0)), (0.6, -70, (0, 0)), (1.8, 200, (0, 0)), (1.0, 45, (5e-4, -4e-4))],
)
def test_a_picture_of_any_scale_and_heading_is_found_to_a_pixel(ground, reference, scale, angle, tilt) -> None:
    truth = view(scale, angle, 290, 310, tilt)
    found = locate(cut(ground, truth), reference, SURE)
    assert found.status == "ok", found.reason
    lon, lat = lonlat(apply(truth, np.vstack([middle(SHAPE), corners(SHAPE)])))
    away = GEOD.inv(found.lon, found.lat, lon[0], lat[0])[2]
    assert away < RES * max(1.0, scale)
    assert away < 4 * found.error
    off = GEOD.inv(*found.footprint.T, lon[1:], lat[1:])[2]
    assert max(off) < 2 * RES * max(1.0, scale)
    assert (
        found.polygon.symmetric_difference(Polygon(zip(lon[1:], lat[1:], strict=True))).area < 0.03 * found.polygon.area
    )
    assert found.error < 2 * RES * max(1.0, scale)
    if tilt == (0, 0):
        assert found.gsd == pytest.approx(RES * scale, rel=0.01)
        assert (found.heading - angle + 180) % 360 - 180 == pytest.approx(0, abs=1)


def test_another_place_and_a_blank_picture_are_not_found(reference) -> None:
    other = locate(cut(texture(9), view(1.0, 20, 300, 300)), reference, SURE, options=FEW)
    assert other.status == "abstained"
    assert "needed" in other.reason or "no candidate" in other.reason
    assert locate(np.full((*SHAPE, 3), 90, np.uint8), reference, SURE, options=FEW).status == "abstained"
    assert np.isnan(other.lon)
    with pytest.raises(InputError, match="footprint"):
        _ = other.polygon


def test_a_prior_narrows_the_search_and_contradicts_what_lies_elsewhere(ground, reference) -> None:
    truth = view(1.0, 70, 260, 280)
    (lon,), (lat,) = lonlat(np.array([[260.0, 280.0]]))
    near = locate(cut(ground, truth), reference, SURE, prior=Prior(lon, lat, 10))
    assert near.status == "ok"
    far_lon, far_lat, _ = GEOD.fwd(lon, lat, 90, 2000)
    far = locate(cut(ground, truth), reference, SURE, prior=Prior(far_lon, far_lat, 10))
    assert far.status == "abstained"


@pytest.mark.parametrize(
    ("crs", "step", "x", "y"), [("EPSG:4326", 3e-6, 3.0, 50.5), ("EPSG:3857", 0.4, 334_000.0, 6_500_000.0)]
)
def test_any_crs(crs, step, x, y, ground, tmp_path) -> None:
    """Pixels that are square in degrees show ground that is not; the picture is cut from the ground as it is."""
    squeeze = 1 / np.cos(np.radians(50.5)) if crs == "EPSG:4326" else 1.0
    part = ground[:SMALL, :SMALL]
    image = cv2.resize(part, (round(SMALL * squeeze), SMALL), interpolation=cv2.INTER_LINEAR)
    write(tmp_path / "map.tif", image, crs, Affine(step, 0, x, 0, -step, y))
    reference = index([tmp_path / "map.tif"], tmp_path / "cache", cell=512, most=900)
    truth = view(0.8, 30, 150, 145)
    found = locate(cut(ground, truth), reference, SURE)
    assert found.status == "ok", found.reason
    px, py = apply(truth, middle(SHAPE))[0]
    place = x + step * px * image.shape[1] / SMALL, y - step * py
    lon, lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*place)
    assert GEOD.inv(found.lon, found.lat, lon, lat)[2] < 0.6


def test_the_acceptance_of_a_map_is_chosen_from_itself(ground, reference) -> None:
    chosen = of_map(reference, side=128, tries=2, options=MatchOptions(candidates=2, rounds=2))
    assert chosen.true == 2
    assert chosen.false >= 4
    assert chosen.highest < chosen.threshold < 400
    assert locate(cut(ground, view(1.0, 10, 320, 280)), reference, chosen, options=FEW).status == "ok"


def six(ground: np.ndarray) -> list[Frame]:
    """Frames in two rows, of any heading."""
    rng = np.random.default_rng(2)
    given = []
    for k in range(6):
        place = np.array([[200 + 95 * (k % 3), 250 + 85 * (k // 3)]], float)
        (lon,), (lat,) = lonlat(place)
        given.append(Frame(f"{k}", cut(ground, view(1.0, rng.uniform(0, 360), *place[0])), lon, lat))
    return given


def test_frames_with_positions_are_a_map(ground) -> None:
    """Six frames in rows; a seventh between them is found where it was cut, whatever heading they have."""
    given = six(ground)
    reference = frames(given, sigma=1.0)
    assert all(m is not None for m in reference.network.matrices)
    truth = view(1.1, 77, 290, 290)
    found = locate(cut(ground, truth), reference, SURE, options=FEW)
    assert found.status == "ok", found.reason
    lon, lat = lonlat(apply(truth, np.vstack([middle(SHAPE), corners(SHAPE)])))
    assert GEOD.inv(found.lon, found.lat, lon[0], lat[0])[2] < 4 * RES
    assert max(GEOD.inv(*found.footprint.T, lon[1:], lat[1:])[2]) < 8 * RES
    lonely = frames(given[:1])
    alone = locate(given[1].image, lonely, SURE)
    assert alone.status == "abstained"
    assert "scale and heading" in alone.reason


def test_pairs_of_frames_of_which_the_network_is_not_sure_say_nothing(ground) -> None:
    """Moved by half a footprint, a frame's true matches are no false candidates; by two, they are."""
    reference = frames(six(ground), sigma=1.0)
    side = RES * SHAPE[1]
    matrices = [m.copy() for m in reference.network.matrices]

    def shifted(sides: float) -> FrameReference:
        moved = matrices[0].copy()
        moved[0, 2] += sides * side
        reference.network = replace(reference.network, matrices=(moved, *matrices[1:]))
        return reference

    assert of_frames(shifted(2.0)).highest >= 40
    chosen = of_frames(shifted(0.5))
    assert chosen.true >= 3
    assert chosen.highest < 10, "mirror images alone"
    assert chosen.false == 6 * 6


def test_keypoints_of_a_mirror_image_are_those_that_are_found_in_it(ground) -> None:
    image = cut(ground, view(1.0, 30, 300, 280))
    told = mirrored(detect(image, most=150), image.shape[1])
    found = detect(np.ascontiguousarray(image[:, ::-1]), most=200)
    pairs = match(told, found)
    assert len(pairs) > 100
    away = np.abs(told.xy[pairs[:, 0]] - found.xy[pairs[:, 1]]).max(1)
    near = pairs[away < 0.5]
    assert len(near) > 0.9 * len(pairs)
    assert np.abs(np.median(told.xy[near[:, 0]] - found.xy[near[:, 1]], 0)).max() < 0.01, "no side is preferred"
    turn = told.points[near[:, 0], 3] - found.points[near[:, 1], 3]
    assert np.median(np.abs(np.angle(np.exp(1j * turn)))) < 0.02
    a, b = (k.descriptors[near[:, n]].astype(float) for n, k in enumerate((told, found)))
    assert np.median(np.linalg.norm(a - b, axis=1)) < 0.1 * UNIT
