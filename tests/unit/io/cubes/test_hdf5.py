"""HDF5 and NetCDF-4 files that name others are refused before a data set is read; what they name is harmless here."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from geoml.errors import DataError, MissingExtra
from geoml.io.cubes.cube import open_cube
from geoml.io.cubes.hdf5 import check_hdf5
from tests import made_cubes as made
from tests.made_cubes import frames, spec


def _external_link(file: h5py.File, other: Path) -> None:
    file["deep/er/link"] = h5py.ExternalLink(str(other), "/rain")


def _external_storage(file: h5py.File, other: Path) -> None:
    file.create_dataset("deep/er/bytes", (16,), "uint8", external=[(str(other), 0, 16)])


def _virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "rain", (4,))
    file.create_virtual_dataset("deep/er/virtual", layout)


def _large_chunk(file: h5py.File, other: Path) -> None:
    file.create_dataset("deep/er/large", (2**20, 2**10), "f4", chunks=(2**16, 2**10))


@pytest.mark.parametrize(
    ("add", "why"),
    [
        (_external_link, "/deep/er/link is an external link"),
        (_external_storage, "/deep/er/bytes keeps its data in another file"),
        (_virtual, "/deep/er/virtual is made of data sets of other files"),
        (_large_chunk, "/deep/er/large: one chunk decodes to 268435456 bytes"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_a_file_that_names_others_is_refused(
    tmp_path: Path, add: Callable[[h5py.File, Path], None], why: str, many: bool
) -> None:
    """Anywhere in it, in groups of either kind (few links, or so many that they lie in a heap)."""
    other = tmp_path / "other.bin"
    other.write_bytes(b"harmless and not read")
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4))
    with h5py.File(path, "r+", libver="latest" if many else None) as file:
        group = file.create_group("deep/er")
        for k in range(40 if many else 0):
            group[f"n{k}"] = k
        add(file, other)
    with pytest.raises(DataError, match=rf"a.nc.*{why}"):
        open_cube(path, spec("netCDF"))


def test_a_soft_link_and_a_circle_of_groups_are_no_other_file(tmp_path: Path) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4))
    with h5py.File(path, "r+") as file:
        file["again"] = h5py.SoftLink("/rain")
        file.create_group("one")["two"] = file["/"]
    check_hdf5(path)


def test_a_file_of_knmis_kind_is_looked_at_too(tmp_path: Path) -> None:
    path = made.hdf5(tmp_path / "202401010000.h5", frames(1)[0])
    with h5py.File(path, "r+") as file:
        file["aside"] = h5py.ExternalLink("other.h5", "/")
    wanted = spec("HDF5", time={"source": "name", "pattern": "%Y%m%d%H%M.h5"})
    with pytest.raises(DataError, match="/aside is an external link"):
        open_cube(path, wanted)


@pytest.mark.parametrize("keep", [8, 200, -300])
def test_a_file_cut_short_is_an_error_of_ours(tmp_path: Path, keep: int) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a.nc: not a readable HDF5 file"):
        open_cube(path, spec("netCDF"))


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.netcdf(tmp_path / "a.nc", frames(), range(4))
    classic = made.netcdf(tmp_path / "b.nc", frames(), range(4), kind="NETCDF3_CLASSIC")
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"geoml\[cube\]"):
        open_cube(path, spec("netCDF"))
    np.testing.assert_array_equal(open_cube(classic, spec("netCDF")).read(0), frames()[0])
