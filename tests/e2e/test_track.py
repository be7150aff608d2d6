"""Made films with known cars: ids, places and speeds, in every way of saying them; what is wrong leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from affine import Affine
from PIL import Image
from typer.testing import Result

import geoml
from geoml import testing
from geoml.errors import DataError, InputError, NothingFound
from geoml.grid.homography import apply, similarity
from geoml.testing.films import GSD, MadeFilm, film, mark_model

Cli = Callable[..., Result]
SPEEDS = (0.0, 0.0, 6.0, 10.0, 14.0, -9.0)
ORIGIN = (300_000.0, 5_000_000.0)
UTM = "EPSG:32633"


@pytest.fixture(scope="module")
def made() -> MadeFilm:
    return film(16, speeds=SPEEDS)


@pytest.fixture(scope="module")
def root(made: MadeFilm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The film as frames, video and tables; a mosaic of its ground; a model that finds its cars."""
    folder = tmp_path_factory.mktemp("film")
    made.write(folder / "frames")
    made.write_video(folder / "film.avi")
    made.write_truth(folder / "truth.txt")
    made.write_matrices(folder / "homographies.txt")
    times = "".join(f"{k},2024-05-01T10:00:{k * 100 / 1000:06.3f}Z,12.457,45.124\n" for k in range(1, 17))
    (folder / "log.csv").write_text("frame,timestamp,longitude,latitude\n" + times)
    affine = Affine(GSD, 0, ORIGIN[0], 0, -GSD, ORIGIN[1])
    testing.write_cog(folder / "mosaic.tif", np.moveaxis(made.ground, -1, 0), crs=UTM, transform=affine)
    np.savetxt(folder / "corner.txt", made.corner.reshape(1, 9))
    np.savetxt(folder / "plane.txt", (np.array(affine).reshape(3, 3) @ made.corner).reshape(1, 9))
    mark_model(folder / "marks")
    return folder


def track(root: Path, out: Path, source: str | None = None, **options: Any) -> tuple[dict[str, Any], Any, Any]:
    """What is said, positions and tracks; names of files of the film are made paths of."""
    files = ("detections", "homographies", "log", "reference", "reference_homography", "model", "truth")
    placed = {k: str(root / v) if k in files else v for k, v in options.items()}
    found = geoml.track(root / source if source else None, out / "out.parquet", **placed)
    return found, geopandas.read_parquet(out / "out.parquet"), geopandas.read_parquet(out / "out.tracks.parquet")


def check_speeds(positions: Any, off: float) -> None:
    """Of all six cars, in km/h."""
    assert positions["id"].nunique() == len(SPEEDS)
    for key, rows in positions.groupby("id"):
        speed = 3.6 * abs(SPEEDS[key - 1])
        assert rows["speed_kmh"].median() == pytest.approx(speed, abs=off)
        assert (rows["moving"].mean() > 0.9) == (speed > 0)


def test_frames_with_detections_of_a_file(root: Path, made: MadeFilm, tmp_path: Path) -> None:
    found, positions, tracks = track(
        root, tmp_path, "frames", detections="truth.txt", fps=10, gsd=GSD, truth="truth.txt"
    )
    assert (found["frames"], found["tracks"], found["moved"], found["crs"]) == (16, 6, 4, None)
    assert positions["id"].min() == 1
    check_speeds(positions, 0.2)
    ground = apply(np.linalg.inv(made.corner), made.places[positions["frame"] - 1, positions["id"] - 1])
    np.testing.assert_allclose(positions[["x", "y"]], ground, atol=0.2)
    # without a place on Earth there are metres, right and up
    np.testing.assert_allclose(positions.geometry.x, GSD * positions["x"])
    np.testing.assert_allclose(positions.geometry.y, -GSD * positions["y"])
    assert positions[["lon", "lat", "time"]].isna().all(axis=None)
    assert tracks.set_index("id")["length_m"].to_dict() == pytest.approx(
        {k: abs(v) * 1.5 for k, v in enumerate(SPEEDS, 1)}, abs=0.3
    )
    scores = found["scores"]
    assert scores["geoml"]["hota"] == pytest.approx(1)
    assert scores["doing nothing"]["idf1"] == pytest.approx(6 / 96)
    assert list(scores) == ["geoml", "nearest centre of the last frame", "doing nothing"]


def test_a_video_through_a_model(root: Path, tmp_path: Path) -> None:
    found, positions, _ = track(root, tmp_path, "film.avi", model="marks", fps=10, gsd=GSD, truth="truth.txt")
    assert found["scores"]["geoml"]["idf1"] == pytest.approx(1)
    assert set(positions["class"]) == {"car"}
    check_speeds(positions, 2.0)
    # centres are those of pixels: their errors are seen in the deviation
    assert 0.1 < positions["speed_sd_kmh"].median() < 3


def test_one_setting_at_any_rate(root: Path, tmp_path: Path) -> None:
    for every in (1, 3, 5):
        found, _, _ = track(
            root, tmp_path, "frames", detections="truth.txt", log="log.csv", gsd=GSD, truth="truth.txt", every=every
        )
        assert found["scores"]["geoml"]["idf1"] == pytest.approx(1)
        assert found["frames"] == len(range(0, 16, every))


def test_homographies_and_a_plane(root: Path, made: MadeFilm, tmp_path: Path) -> None:
    """No frame is read; the log's times are the rows' times."""
    found, positions, tracks = track(
        root, tmp_path, detections="truth.txt", homographies="homographies.txt", log="log.csv",
        reference_homography="plane.txt", crs=UTM,
    )  # fmt: skip
    assert found["crs"] == UTM
    assert positions.crs.to_epsg() == 4326
    assert str(positions["time"].iloc[0]) == "2024-05-01 10:00:00.100000+00:00"
    check_speeds(positions, 0.1)
    places = made.places[positions["frame"] - 1, positions["id"] - 1] * (GSD, -GSD) + ORIGIN
    np.testing.assert_allclose(positions[["x", "y"]], places, atol=0.01)
    here = positions.to_crs(UTM).geometry
    np.testing.assert_allclose(np.column_stack([here.x, here.y]), places, atol=0.01)
    # east by grid north is a little off east by true north
    assert positions[positions["id"] == 4]["heading"].median() == pytest.approx(90 - 1.8, abs=0.3)
    assert positions[positions["id"] == 1]["heading"].isna().mean() > 0.9
    assert tracks.to_crs(UTM).geometry.iloc[3].length == pytest.approx(15, abs=0.05)

    _, same, _ = track(
        root, tmp_path, detections="truth.txt", homographies="homographies.txt", log="log.csv",
        reference_homography="corner.txt", reference="mosaic.tif",
    )  # fmt: skip
    np.testing.assert_allclose(same[["x", "y"]], positions[["x", "y"]], atol=1e-6)


def test_frames_with_a_georeference_of_their_own(made: MadeFilm, root: Path, tmp_path: Path) -> None:
    """A camera that does not turn, so that frames are GeoTIFFs."""
    still = film(8, speeds=(0.0, 8.0), drift=0.0)
    (tmp_path / "tiffs").mkdir()
    for k, picture in enumerate(still.pictures):
        shift = Affine(GSD, 0, ORIGIN[0] + 80 * GSD, 0, -GSD, ORIGIN[1] - 80 * GSD)
        testing.write_cog(tmp_path / "tiffs" / f"{k}.tif", np.moveaxis(picture, -1, 0), crs=UTM, transform=shift)
    still.write_truth(tmp_path / "truth.txt")
    found = geoml.track(tmp_path / "tiffs", tmp_path / "o.parquet", detections=tmp_path / "truth.txt", fps=10)
    positions = geopandas.read_parquet(tmp_path / "o.parquet")
    assert (found["crs"], found["tracks"]) == (UTM, 2)
    assert positions["speed_kmh"].max() == pytest.approx(28.8, abs=6)  # frames turn a little and their headers do not
    assert positions["x"].min() > ORIGIN[0]


def photos(folder: Path) -> tuple[int, Path, Path]:
    """Three overlapping photos of parked cars: how many there are, their homographies, and boxes of what each shows."""
    folder.mkdir()
    scene = testing.films.textured((300, 600), 4)
    places = [(x, y) for x in range(40, 580, 60) for y in (60, 150, 240)]
    for x, y in places:
        scene[y - 4 : y + 5, x - 9 : x + 9] = (200, 60, 40)
    rows, matrices, seen = [], [], set()
    for k, left in enumerate((0, 120, 250), 1):
        Image.fromarray(scene[:, left : left + 350]).save(folder / f"{k}.png")
        matrices.append([k, *similarity(1, 0, left, 0).ravel()])
        for key, (x, y) in enumerate(places):
            if left + 10 < x < left + 340:
                rows.append([k, key, x - left - 9, y - 4, 18, 9, 0.9])
                seen.add(key)
    np.savetxt(folder.parent / "boxes.txt", rows, delimiter=",")
    np.savetxt(folder.parent / "ways.txt", matrices[1:], delimiter=",")
    assert len(rows) > len(seen) + 10
    return len(seen), folder.parent / "ways.txt", folder.parent / "boxes.txt"


def test_overlapping_photos_count_a_car_once(tmp_path: Path) -> None:
    count, ways, boxes = photos(tmp_path / "photos")
    for way in ({"homographies": ways}, {}):
        found = geoml.track(tmp_path / "photos", tmp_path / "o.parquet", detections=boxes, stills=True, gsd=GSD, **way)
        rows = geopandas.read_parquet(tmp_path / "o.parquet")
        assert len(rows) == found["tracks"] == count
        assert found["elsewhere"] == len(boxes.read_text().splitlines()) - count
        assert rows["id"].is_unique
        assert rows["speed_kmh"].isna().all()
        where = rows[["x", "y"]].to_numpy()
        apart = np.hypot(*(where[:, None] - where[None]).T)[~np.eye(count, dtype=bool)]
        assert apart.min() > 50


@pytest.mark.slow
def test_frames_and_photos_are_found_on_a_mosaic(root: Path, made: MadeFilm, tmp_path: Path) -> None:
    options = {"reference": "mosaic.tif", "cache": tmp_path / "cache", "start": "2024-05-01T10:00:00Z"}
    found, positions, _ = track(root, tmp_path, "frames", detections="truth.txt", fps=10, **options)
    assert (found["crs"], found["unplaced"]) == (UTM, [])
    check_speeds(positions, 0.2)
    places = made.places[positions["frame"] - 1, positions["id"] - 1] * (GSD, -GSD) + ORIGIN
    assert np.hypot(*(positions[["x", "y"]] - places).to_numpy().T).max() < GSD
    # stills are each found by themselves; parked cars of two photos are one
    (tmp_path / "two").mkdir()
    for k in (1, 15):
        (tmp_path / "two" / f"{k}.png").write_bytes((root / "frames" / f"{k:04d}.png").read_bytes())
    rows = made.truth[np.isin(made.truth[:, 0], (1, 15)) & (made.truth[:, 1] <= 2)]
    rows[:, 0] = np.where(rows[:, 0] == 15, 2, 1)
    np.savetxt(root / "parked.txt", rows, delimiter=",")
    found, positions, _ = track(
        root, tmp_path, str(tmp_path / "two"), detections="parked.txt", stills=True, reference="mosaic.tif",
        cache=tmp_path / "cache",
    )  # fmt: skip
    assert (len(positions), found["elsewhere"]) == (2, 2)
    other = testing.films.textured((320, 420), 77)
    (tmp_path / "other").mkdir()
    Image.fromarray(other).save(tmp_path / "other" / "1.png")
    with pytest.raises(NothingFound, match="not found on it"):
        track(root, tmp_path, str(tmp_path / "other"), detections="truth.txt", fps=10, **options)


# --- what is wrong


def changed(root: Path, name: str, change: Callable[[list[str]], list[str]]) -> str:
    """A file of the film with other lines."""
    lines = (root / name).read_text().splitlines()
    (root / f"bad-{name}").write_text("\n".join(change(lines)) + "\n")
    return f"bad-{name}"


FILES = {"detections": "truth.txt", "homographies": "homographies.txt", "log": "log.csv", "gsd": GSD}
FRAMES = {"source": "frames", "detections": "truth.txt", "log": "log.csv", "gsd": GSD}
FOLD = "5,1,0,0,0,1,0,-0.01,0,1"
MIRROR = "5,-1,0,400,0,1,0,0,0,1"
NAN = "5,nan,0,400,0,1,0,0,0,1"

BAD: dict[str, tuple[dict[str, Any], str, Callable[[list[str]], list[str]] | None, str]] = {
    "two frames of one time": (FILES, "log.csv", lambda v: [*v[:4], v[3].replace("3,", "4,", 1), *v[5:]], "same time"),
    "time backwards": (FILES, "log.csv", lambda v: [v[0], *(r.replace("T10", "T09") if k == 5 else r for k, r in
                       enumerate(v[1:]))], "backwards"),
    "a frame missing in the log": (FILES, "log.csv", lambda v: [*v[:5], *v[6:]], "frame 5 is missing"),
    "a frame missing in the homographies": (FILES, "homographies.txt", lambda v: [*v[:5], *v[6:]], "frame 7 is miss"),
    "a shorter log": (FILES, "log.csv", lambda v: v[:-3], "without frame 14"),
    "a longer log": (FILES, "log.csv", lambda v: [*v, *(f"{k},2024-05-01T10:00:0{k - 10}Z,," for k in (17, 18, 19))],
                     "homographies end at 16"),
    "a shorter log of frames": (FRAMES, "log.csv", lambda v: v[:-3], "there are more frames"),
    "a longer log of frames": (FRAMES, "log.csv", lambda v: [*v, "17,2024-05-01T10:00:07Z,,"], "17 rows; there are 16"),
    "a homography that folds": (FILES, "homographies.txt", lambda v: [FOLD if r[:2] == "5," else r for r in v],
                                "frame 5: homography: folded"),
    "a homography that mirrors": (FILES, "homographies.txt", lambda v: [MIRROR if r[:2] == "5," else r for r in v],
                                  "mirrored"),
    "a homography that is none": (FILES, "homographies.txt", lambda v: [NAN if r[:2] == "5," else r for r in v],
                                  "not finite"),
    "a score that is not finite": (FILES, "truth.txt", lambda v: [*v[:40], "9,1,9,9,9,9,nan,0", *v[40:]], "of nan"),
    "an inverted box": (FILES, "truth.txt", lambda v: [*v[:40], "7,1,9,9,-9,9,1,0", *v[40:]], "inverted"),
    "detections of no frame": (FRAMES, "truth.txt", lambda v: [*v, "40,1,9,9,9,9,1,0"], "frame 40"),
    "detections far away": ({"detections": "truth.txt", "fixed_camera": True, "fps": 10, "gsd": GSD}, "truth.txt",
                            lambda v: [*v, "4000000000,1,9,9,9,9,1,0"], "frame 4000000000"),
    "a longer log without numbers": ({"detections": "truth.txt", "fixed_camera": True, "log": "log.csv", "gsd": GSD},
                                     "log.csv", lambda v: [r[r.index(",") + 1:] for r in [*v, "17,2024-05-01T10:09Z"]],
                                     "17 rows; there are 16"),
    "detections before the first": (FRAMES, "truth.txt", lambda v: ["0,1,9,9,9,9,1,0", *v], "--first-frame"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_an_error_and_leaves_nothing(case: str, root: Path, tmp_path: Path) -> None:
    options, name, change, expected = BAD[case]
    assert change is not None
    bad = changed(root, name, change)
    options = {k: bad if v == name else v for k, v in options.items()}
    with pytest.raises(DataError, match=expected):
        track(root, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({**FILES, "gsd": None}, "--reference MOSAIC, --reference-homography FILE"),
        ({**FRAMES, "gsd": None}, "--reference MOSAIC, --reference-homography FILE"),
        ({**FILES, "homographies": None}, "the motion of the camera is unknown"),
        ({**FILES, "log": None}, "log, fps"),
        ({**FILES, "detections": None}, "model, detections"),
        ({**FILES, "model": "marks"}, "model, detections"),
        ({"model": "marks", "fps": 10, "gsd": GSD}, "a model needs them"),
        ({**FILES, "fps": 10}, "give one of them"),
        ({**FILES, "reference_homography": "plane.txt"}, "or the crs"),
        ({**FILES, "reference": "mosaic.tif"}, "gsd: the reference already states it"),
        ({**FILES, "gsd": None, "reference": "mosaic.tif"}, "needs frames"),
        ({**FILES, "gsd": None, "reference_homography": "plane.txt", "crs": "EPSG:1"}, "crs"),
        ({**FILES, "stills": True}, "stills"),
        ({**FILES, "unsure": 0.9}, "unsure"),
        ({**FILES, "start": "2024-05-01T00:00:00Z"}, "times of its own"),
        ({**FRAMES, "source": "nowhere"}, "does not exist"),
        ({**FILES, "log": "nowhere.csv"}, "does not exist"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], expected: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected):
        track(root, tmp_path, **{k: v for k, v in options.items() if v is not None})
    assert list(tmp_path.iterdir()) == []


def test_a_plane_that_the_picture_cannot_lie_on(root: Path, tmp_path: Path) -> None:
    (root / "horizon.txt").write_text("1 0 0 0 -1 0 0 -0.01 1")
    options = {**FILES, "gsd": None, "reference_homography": "horizon.txt", "crs": UTM}
    with pytest.raises(DataError, match="beyond the horizon"):
        track(root, tmp_path, **{k: v for k, v in options.items() if v is not None})


def test_a_codec_that_is_not_there(root: Path, tmp_path: Path) -> None:
    film_bytes = (root / "film.avi").read_bytes()
    assert b"FFV1" in film_bytes
    (root / "other.avi").write_bytes(film_bytes.replace(b"FFV1", b"Q9Z7"))
    with pytest.raises(DataError, match=r"other\.avi"):
        track(root, tmp_path, "other.avi", model="marks", fps=10, gsd=GSD)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_frame_and_one_of_elsewhere_are_left_out_and_said(root: Path, tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for k in range(1, 17):
        (folder / f"{k}.png").write_bytes((root / "frames" / f"{k:04d}.png").read_bytes())
    (folder / "5.png").write_bytes(b"\x89PNG no")
    Image.fromarray(np.full((320, 420, 3), 90, np.uint8)).save(folder / "9.png")
    words = ("track", folder, "--detections", root / "truth.txt", "--log", root / "log.csv", "--gsd", GSD)
    result = cli(*words, "--out", tmp_path / "o.parquet", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["frames"], len(said["unread"]), len(said["unplaced"]), said["tracks"]) == (14, 1, 1, 6)
    assert "5.png" in said["unread"][0]
    assert "9.png" in said["unplaced"][0]
    tracks = geopandas.read_parquet(tmp_path / "o.tracks.parquet")
    assert tracks["n"].tolist() == [14] * 6
