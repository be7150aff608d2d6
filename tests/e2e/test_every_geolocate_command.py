"""Every command of geolocation as typed, and what it prints for a person, see `tests.e2e.test_every_command`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import scipy.ndimage
from affine import Affine

from geoml import testing
from geoml.testing import pictures as photos
from tests.e2e.printed import prints, rows, said, wide

__all__ = ["said", "wide"]  # fixtures

PLACE: dict[str, Any] = {"crs": "EPSG:32621", "transform": Affine(10, 0, 600_000, 0, -10, 7_000_000)}


@pytest.fixture(scope="module")
def locator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands") / "locator"
    photos.made_locator(folder)
    return folder


@prints("geolocate run", "geolocate localizability", "geolocate strip-exif", "geolocate verify")
def test_pictures(locator: Path, said: Callable[..., str], tmp_path: Path) -> None:
    photos.folder(tmp_path / "in", 6)
    claimed = photos.write(tmp_path / "claimed.jpg", photos.picture(1, 3), exif=photos.gps(*photos.TOWNS[1]))
    words = ("--model", locator)
    told = said("geolocate", tmp_path / "in", *words, "--out", tmp_path / "out.parquet")
    frame = geopandas.read_parquet(tmp_path / "out.parquet")
    counts = ", ".join(f"{n} {status}" for status, n in frame.status.value_counts().items())
    assert told.startswith(f"6 pictures in {tmp_path / 'out.parquet'}: ")
    assert sorted(told.split(": ")[1].split(";")[0].split(", ")) == sorted(counts.split(", "))
    assert re.search(r"; features by torch in (fp32|bf16)$", told.strip())
    again = said("geolocate", tmp_path / "in", *words, "--out", tmp_path / "by.parquet", "--backend", "onnx")
    assert again.strip().endswith("; features by onnx in fp32")
    table = rows(said("geolocate", "localizability", tmp_path / "in", claimed, *words))
    assert len(table) == 1 + 7
    assert table["claimed.jpg"][2] == "yes"
    assert all(0 <= float(table[p.name][0]) <= 1 for p in (tmp_path / "in").iterdir())
    verified = said("geolocate", "verify", claimed, *words, "--radius", "2000", "--prior", "uniform")
    verdict, ratio, *_ = rows(verified)["claimed.jpg"]
    assert verdict == "supports"
    assert ratio.endswith(" : 1")
    assert "Evidence of a model, not proof" in verified
    stripped = said("geolocate", "strip-exif", claimed, "--out", tmp_path / "clean")
    assert re.match(r"claimed\.jpg: removed .*\bgps", stripped)


@pytest.mark.slow
@prints("geolocate map")
def test_pictures_on_a_map(said: Callable[..., str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    total = np.full((320, 320), 128.0)
    for sigma, weight in ((1, 10), (3, 12), (9, 14)):
        noise = scipy.ndimage.gaussian_filter(rng.normal(size=total.shape), sigma)
        total += weight * noise / noise.std()
    ground = np.repeat(np.clip(total, 1, 255).astype(np.uint8)[None], 3, 0)
    testing.write_cog(tmp_path / "mosaic.tif", ground, nodata=0, **PLACE)
    (tmp_path / "in").mkdir()
    photos.write(tmp_path / "in" / "a.png", np.moveaxis(ground[:, 60:170, 80:220], 0, -1))
    told = said("geolocate", "map", tmp_path / "in", "--reference", tmp_path / "mosaic.tif",
                "--out", tmp_path / "found.parquet", "--map", tmp_path / "found.html")  # fmt: skip
    row = geopandas.read_parquet(tmp_path / "found.parquet").iloc[0]
    assert told.splitlines()[0] == f"1 picture in {tmp_path / 'found.parquet'}: 1 ok; 1 computed now"
    threshold = re.fullmatch(r"accepted from (\d+) inliers on", told.splitlines()[1])
    assert threshold
    assert int(threshold[1]) <= row.inliers


@prints("geolocate index add", "geolocate index remove", "geolocate similar")
def test_an_index(locator: Path, said: Callable[..., str], tmp_path: Path) -> None:
    photos.folder(tmp_path / "in", 6)
    index = ("--index", tmp_path / "alike", "--model", locator)
    assert said("geolocate", "index", "add", tmp_path / "in", *index).split(";")[0] == (
        "6 added, 0 were already there, 0 could not be read"
    )
    asked = sorted((tmp_path / "in").iterdir())[2]
    told = rows(said("geolocate", "similar", asked, *index, "--k", "3"))
    assert len(told) >= 2
    assert Path(told["1.000"][0]).name == asked.name
    assert said("geolocate", "index", "remove", asked.name, *index).strip() == "1 removed"
    assert "1.000" not in rows(said("geolocate", "similar", asked, *index, "--k", "3"))
