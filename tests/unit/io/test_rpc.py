"""RPC of every kind of file are the same numbers in one convention, and damaged ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import DataError, InputError
from geoml.io.rpc import RpcCoefficients, beside, crop_offset, read_rpc, rpc_of
from geoml.testing.stereo import made_rpc, rasterio_rpc

SCALARS = ("LINE_OFF", "SAMP_OFF", "LAT_OFF", "LONG_OFF", "HEIGHT_OFF")
SCALES = tuple(s.replace("_OFF", "_SCALE") for s in SCALARS)
LISTS = ("LINE_NUM_COEFF", "LINE_DEN_COEFF", "SAMP_NUM_COEFF", "SAMP_DEN_COEFF")


@pytest.fixture
def rpc() -> RpcCoefficients:
    return made_rpc(256, 0.5, (0.05, 0.2), first=(300, 200))


def numbers(rpc: RpcCoefficients) -> dict[str, float]:
    return dict(zip((*SCALARS, *SCALES), map(float, (*rpc.offsets, *rpc.scales)), strict=True))


def geom(rpc: RpcCoefficients) -> str:
    lines = [f"{k.lower()}:  {v!r}" for k, v in numbers(rpc).items()] + ["polynomial_format:  B", "type:  x"]
    for name, part in zip(LISTS, rpc.polynomials, strict=True):
        lines += [f"{name.lower()}_{k:02}:  {float(v)!r}" for k, v in enumerate(part)]
    return "\n".join(lines)


def txt(rpc: RpcCoefficients) -> str:
    lines = [f"{k}: {v!r} pixels" for k, v in numbers(rpc).items()]
    for name, part in zip(LISTS, rpc.polynomials, strict=True):
        lines += [f"{name}_{k}: {float(v)!r}" for k, v in enumerate(part, 1)]
    return "\n".join(lines)


def rpb(rpc: RpcCoefficients, spec: str = "RPC00B") -> str:
    names = {"LINE": "line", "SAMP": "samp", "LAT": "lat", "LONG": "long", "HEIGHT": "height"}
    lines = ['satId = "QB02";', f'SpecId = "{spec}";'.replace("SpecId", "specId"), "BEGIN_GROUP = IMAGE"]
    for key, value in numbers(rpc).items():
        what, kind = key.split("_")
        lines.append(f"\t{names[what]}{'Offset' if kind == 'OFF' else 'Scale'} = {value!r};")
    for name, part in zip(LISTS, rpc.polynomials, strict=True):
        what, kind, _ = name.lower().split("_")
        body = ",\n\t\t\t".join(repr(float(v)) for v in part)
        lines.append(f"\t{what}{kind.title()}Coef = (\n\t\t\t{body});")
    return "\n".join([*lines, "END_GROUP = IMAGE", "END;"])


def dimap(rpc: RpcCoefficients, *, third: bool = False, first: int = 1) -> str:
    values = numbers(rpc)
    values["LINE_OFF"] += first
    values["SAMP_OFF"] += first
    tag = "GroundtoImage_Values" if third else "Inverse_Model"
    parts = [
        f"<{name}_{k}>{float(v)!r}</{name}_{k}>"
        for name, part in zip(LISTS, rpc.polynomials, strict=True)
        for k, v in enumerate(part, 1)
    ]
    other = "".join(f"<{name}_{k}>7</{name}_{k}>" for name in LISTS for k in range(1, 21))
    valid = "".join(f"<{k}>{v!r}</{k}>" for k, v in values.items())
    domain = f"<FIRST_ROW>{first}</FIRST_ROW><FIRST_COL>{first}</FIRST_COL>"
    domain = f"<ImagetoGround_Validity_Domain>{domain}</ImagetoGround_Validity_Domain>" if third else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- made --><Dimap_Document><Global_RFM>'
        f"<Direct_Model>{other}</Direct_Model><{tag}>{''.join(parts)}</{tag}>{domain}"
        f"<RFM_Validity>{valid}</RFM_Validity></Global_RFM></Dimap_Document>"
    )


def test_every_kind_of_file_is_the_same_model(rpc: RpcCoefficients, tmp_path: Path) -> None:
    texts = {
        "a.geom": geom(rpc), "a_RPC.TXT": txt(rpc), "a.RPB": rpb(rpc), "v2.XML": dimap(rpc),
        "v3.XML": dimap(rpc, third=True, first=0),
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found = read_rpc(tmp_path / name)
        np.testing.assert_allclose(found.offsets, rpc.offsets, rtol=0, atol=1e-9, err_msg=name)
        assert all(map(np.array_equal, found.polynomials, rpc.polynomials)), name
        assert np.array_equal(found.scales, rpc.scales), name


def test_gdal_reads_the_same_of_an_rpb(rpc: RpcCoefficients, tmp_path: Path) -> None:
    """GDAL's reader as oracle of ours, on a file beside a picture."""
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "p.tif", "w", **profile) as file:
        file.write(np.ones((1, 8, 8), np.uint16))
    (tmp_path / "p.RPB").write_text(rpb(rpc))
    imd = 'version = "R";\nBEGIN_GROUP = IMAGE_1\n\tsatId = "QB02";\nEND_GROUP = IMAGE_1\nEND;'
    (tmp_path / "p.IMD").write_text(imd)
    with rasterio.open(tmp_path / "p.tif") as file:
        theirs = file.rpcs
    ours = read_rpc(beside(tmp_path / "p.tif") or tmp_path)
    assert theirs is not None
    assert theirs.line_off == ours.offsets[0]
    assert theirs.samp_num_coeff == ours.samp_num.tolist()


def test_tags_of_a_tiff(rpc: RpcCoefficients, tmp_path: Path) -> None:
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "p.tif", "w", **profile) as file:
        file.write(np.ones((1, 8, 8), np.uint16))
        file.rpcs = rasterio_rpc(rpc)
    with rasterio.open(tmp_path / "p.tif") as file:
        found = rpc_of(file)
    np.testing.assert_allclose(found.offsets, rpc.offsets, rtol=1e-14)
    for ours, theirs in zip(found.polynomials, rpc.polynomials, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)  # the tag holds text
    with rasterio.open(tmp_path / "none.tif", "w", **profile) as file:
        file.write(np.ones((1, 8, 8), np.uint16))
    with rasterio.open(tmp_path / "none.tif") as file, pytest.raises(InputError, match="has none in its TIFF tags"):
        rpc_of(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.replace("line_den_coeff_00:  1.0", "line_den_coeff_00:  nan"), "line_den_coeff"),
        (lambda t: t.replace("height_scale:  500.0", "height_scale:  0"), "scales"),
        (lambda t: t.replace("polynomial_format:  B", "polynomial_format:  A"), "another order"),
        (lambda t: t.replace("samp_num_coeff_07", "gone"), "samp_num_coeff"),
        (lambda t: t.replace("line_off:", "gone:"), "line_off"),
        (lambda t: t + "\0", "text"),
        (lambda t: "<a>" + t, "not XML"),
        (lambda t: '<!DOCTYPE a [<!ENTITY b "c">]><a/>', "declarations"),
        (lambda t: "<a/>", "Inverse_Model"),
        (lambda t: "", "expected a number"),
    ],
)
def test_damaged_files_are_named(rpc: RpcCoefficients, tmp_path: Path, change: Callable[[str], str], says: str) -> None:
    path = tmp_path / "bad.geom"
    path.write_text(change(geom(rpc)))
    with pytest.raises(DataError, match=says) as caught:
        read_rpc(path)
    assert "bad.geom" in str(caught.value)


def test_a_missing_file_is_an_error_of_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.geom"):
        read_rpc(tmp_path / "none.geom")


def test_denominators_of_zero_are_refused(rpc: RpcCoefficients) -> None:
    with pytest.raises(DataError, match="denominator of the sample is zero"):
        RpcCoefficients(rpc.offsets, rpc.scales, rpc.line_num, rpc.line_den, rpc.samp_num, np.zeros(20))


@given(st.binary(max_size=300))
def test_any_bytes_end_in_an_error_of_ours(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data)
        with pytest.raises(DataError):
            read_rpc(path)


def test_the_place_of_a_crop(rpc: RpcCoefficients) -> None:
    assert crop_offset(Affine.translation(200, 300), False, (256, 256), rpc) == (300, 200)
    for transform, crs, says in (
        (Affine.translation(200, 9000), False, "another crop"),
        (Affine.translation(200.5, 300), False, "whole pixels"),
        (Affine.translation(200, 300) @ Affine.scale(2), False, "steps"),
        (Affine.translation(200, 300), True, "with CRS"),
    ):
        with pytest.raises(DataError, match=says):
            crop_offset(transform, crs, (256, 256), rpc)
