"""Parts that touch, read as one file: the same pixels as the whole, and nothing that a VRT of others could do more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from geoml import testing
from geoml.errors import DataError, GeomlError, InputError
from geoml.io.cog import limits, vrt_mosaic
from geoml.io.cog.directories import first_layout
from geoml.io.cog.read import header, read
from geoml.io.cog.vrt_mosaic import MosaicBand, MosaicPart, VrtMosaic
from geoml.io.stac.bands import BandSpec
from geoml.io.stores import ranges
from geoml.settings import settings
from tests.integration import fault_server

DATA = testing.smooth((2, 70, 90), seed=5)
GRID = Affine(10, 0, 600_000, 0, -10, 7_000_000)
BOX = GeoBox((70, 90), GRID, "EPSG:32621")
PARTS = tuple(
    MosaicPart(f"p{r}{c}.tif", r, c, *DATA[0, r : r + 32, c : c + 64].shape) for r in (0, 32, 64) for c in (0, 64)
)
MOSAIC = VrtMosaic("EPSG:32621", GRID, (70, 90), (MosaicBand("uint16", 0.0), MosaicBand("uint16", 0.0)), PARTS)
NAMES = [p.href for p in PARTS]


def written(path: Path, data: np.ndarray, transform: Affine, **more: object) -> None:
    size = {"count": len(data), "height": data.shape[1], "width": data.shape[2], "dtype": data.dtype, **more}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32621", transform=transform, nodata=0, **size) as file:
        file.write(data)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with the parts, a VRT over them and the whole as one file."""
    for p in PARTS:
        written(
            tmp_path / p.href,
            DATA[:, p.y : p.y + p.height, p.x : p.x + p.width],
            GRID @ Affine.translation(p.x, p.y),
        )
    written(tmp_path / "whole.tif", DATA, GRID)
    (tmp_path / "m.vrt").write_text(MOSAIC.text(NAMES))
    return tmp_path


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are private hosts."""
    monkeypatch.setenv("GEOML_PRIVATE_HOSTS", "true")
    settings.cache_clear()


def specs(href: str | Path, **more: object) -> list[BandSpec]:
    spec = BandSpec("one", "image", str(href), "red", remote=False)
    return [replace(spec, index=k, **more) for k in (1, 2)]  # type: ignore[arg-type]


TARGETS = {
    "the same grid": BOX,
    "half a pixel off": GeoBox((60, 80), GRID @ Affine.translation(3.5, 4.25), "EPSG:32621"),
    "coarser": GeoBox((20, 25), GRID @ Affine.scale(3.3), "EPSG:32621"),
    "beyond its edge": GeoBox((90, 120), GRID @ Affine.translation(-10, -10), "EPSG:32621"),
    "another CRS": GeoBox.from_bbox((-54.98, 63.06, -54.965, 63.065), "EPSG:4326", resolution=0.0001),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic", "average"])
def test_parts_are_read_as_the_whole_is(parts: Path, target: str, resampling: str) -> None:
    """Kernels reach over the seams."""
    ours = read(specs(parts / "m.vrt"), TARGETS[target], resampling=resampling)
    whole = read(specs(parts / "whole.tif"), TARGETS[target], resampling=resampling)
    assert all(np.array_equal(a, b) for a, b in zip(ours, whole, strict=True))


def test_a_window_that_gdal_would_read_in_threads_is_whole(tmp_path: Path) -> None:
    """GDAL reads windows of a million pixels over several parts in threads of its own."""
    data = np.random.default_rng(6).integers(1, 10_000, (2, 1400, 1400), dtype=np.uint16)
    places = [(r, c) for r in (0, 700) for c in (0, 700)]
    large = replace(
        MOSAIC, shape=(1400, 1400), parts=tuple(MosaicPart(f"q{r}_{c}.tif", r, c, 700, 700) for r, c in places)
    )
    for p in large.parts:
        written(tmp_path / p.href, data[:, p.y : p.y + 700, p.x : p.x + 700], GRID @ Affine.translation(p.x, p.y))
    (tmp_path / "m.vrt").write_text(large.text([p.href for p in large.parts]))
    found, valid = read(specs(tmp_path / "m.vrt"), GeoBox((1400, 1400), GRID, "EPSG:32621"))
    assert valid.all()
    assert np.array_equal(found, data)


def test_gdal_reads_what_we_write(parts: Path) -> None:
    with (
        rasterio.open(parts / "m.vrt") as file,
        WarpedVRT(file, crs="EPSG:32621", resampling=Resampling.nearest) as same,
    ):
        assert np.array_equal(file.read(), DATA)
        assert np.array_equal(same.read(), DATA)
    assert header(specs(parts / "m.vrt")[0]).shape == (70, 90)


def test_a_mosaic_on_a_server_is_read_part_by_part(parts: Path, loopback: None) -> None:
    files = {f"/a/{p.name}": p.read_bytes() for p in parts.iterdir()}
    corner = GeoBox((20, 20), GRID, "EPSG:32621")
    with fault_server.serve(files=files) as server:
        data, valid = read(specs(f"{server.url}/a/m.vrt", remote=True), corner)
        assert np.array_equal(data, DATA[:, :20, :20])
        assert valid.all()
        assert {s.path for s in server.seen} == {"/a/m.vrt", "/a/p00.tif"}, (
            "parts that are not needed are not asked for"
        )
        local = parts / "far.vrt"
        local.write_text(MOSAIC.text([vrt_mosaic.for_gdal(f"{server.url}/a/{n}") for n in NAMES], relative=False))
        assert np.array_equal(read(specs(local), BOX)[0], DATA)
        del server.files["/a/p3264.tif"]
        with pytest.raises(DataError, match=r"item one, asset image .*p3264\.tif.*404"):
            read(specs(f"{server.url}/a/m.vrt", remote=True), TARGETS["half a pixel off"])


def harmful(parts: Path) -> Iterator[tuple[str, str]]:
    """VRTs that want more than a mosaic, and what is said of them."""
    plain = MOSAIC.text(NAMES)
    part = "<SourceFilename relativeToVRT="
    yield plain.replace("p00.tif", "../../secret.tif"), "lies outside the catalog's folder"
    yield plain.replace("p00.tif", "m.vrt"), "not a TIFF, it starts with b'<VRTDataset"
    yield plain.replace("p00.tif", "gone.tif"), "gone.tif: No such file"
    yield plain.replace(f'{part}"1" shared="0">p00', f'{part}"0" shared="0">/vsizip/x.zip/p00'), "is a GDAL construct"
    yield (
        plain.replace(f'{part}"1" shared="0">p00', f'{part}"0" shared="0">/vsicurl/http://127.0.0.1/p00'),
        "private host",
    )
    yield plain.replace('band="1">', 'band="1" subClass="VRTDerivedRasterBand">', 1), "a derived band"
    yield plain.replace("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" '), "VRTWarpedDataset"
    yield plain.replace("SimpleSource>", "ComplexSource>"), "with ComplexSource"
    yield plain.replace("</SRS>", "</SRS><MaskBand/>"), "with MaskBand"
    yield plain.replace('<SrcRect xOff="0"', '<SrcRect xOff="1"', 1), "a part of a file"
    yield plain.replace("<SourceBand>1<", "<SourceBand>2<", 1), "of another band"
    yield plain.replace('band="2">', 'band="3">'), "out of order"
    yield plain.replace('band="2">', 'band="2"><ColorInterp>Alpha</ColorInterp>'), "an alpha band"
    yield "<!DOCTYPE x>" + plain, "not a VRT|with declarations"
    yield plain.replace("<SRS>", "<!ENTITY a 'b'><SRS>"), "with declarations"
    yield plain[:-20], "no mosaic"


def test_a_vrt_can_name_no_more_than_an_item_can(parts: Path) -> None:
    inside = parts / "catalog"
    inside.mkdir()
    for p in parts.glob("p*.tif"):
        p.rename(inside / p.name)
    written(parts.parent / "secret.tif", DATA[:, :32, :64], GRID)
    for k, (text, says) in enumerate(harmful(parts)):
        (inside / "m.vrt").write_text(text)
        with pytest.raises((DataError, InputError), match=says) as found:
            read(specs(inside / "m.vrt", root=str(inside), item=f"i{k}"), BOX)
        assert "item i" in str(found.value)


def swapped(parts: Path) -> Iterator[tuple[Callable[[Path], object], str]]:
    """Other files in the place of the first part, and what is said of them."""
    data = DATA[:, :32, :64]
    yield lambda path: written(path, data[:, :, :32], GRID), "2 bands of 32 x 32 uint16; its VRT says 2 of 32 x 64"
    yield lambda path: written(path, data[:1], GRID), "1 bands of 32 x 64 uint16"
    yield lambda path: written(path, data.astype(np.int16), GRID), "32 x 64 int16; its VRT says 2 of 32 x 64 uint16"
    yield lambda path: written(path, data.astype(np.complex64), GRID), "values of an unknown kind"
    yield lambda path: written(path, data, GRID, tiled=True, blockxsize=256, blockysize=256), "one tile of it decodes"
    yield masked, "has a mask, which a mosaic would not respect"


def masked(path: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        written(path, DATA[:, :32, :64], GRID)
        with rasterio.open(path, "r+") as file:
            file.write_mask(np.ones((32, 64), np.uint8) * 255)


def test_a_part_that_is_another_file_than_its_vrt_says_is_refused(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BLOCK_BYTES", 100_000)
    for k, (write, says) in enumerate(swapped(parts)):
        (parts / "p00.tif").unlink()
        write(parts / "p00.tif")
        with pytest.raises(DataError, match=rf"item i{k}, .*p00\.tif: .*{says}"):
            read(specs(parts / "m.vrt", item=f"i{k}"), BOX)


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 32}, {"interleave": "band"}])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("big", ["NO", "YES"])
def test_the_layout_is_what_gdal_says(tmp_path: Path, options: dict[str, Any], dtype: str, big: str) -> None:
    written(tmp_path / "a.tif", DATA.astype(dtype), GRID, BIGTIFF=big, **options)
    content = (tmp_path / "a.tif").read_bytes()
    found = first_layout(lambda start, count: content[start : start + count])
    assert found is not None
    with rasterio.open(tmp_path / "a.tif") as file:
        planes = file.count if file.profile["interleave"] == "pixel" else 1
        assert (found.shape, found.tile) == ((file.count, *file.shape), file.block_shapes[0])
        assert (found.dtype, found.itemsize, found.planes) == (file.dtypes[0], np.dtype(dtype).itemsize, planes)


@pytest.mark.parametrize("remote", [True, False])
def test_a_mosaic_elsewhere_names_no_files_here(parts: Path, loopback: None, remote: bool) -> None:
    """Nor does one that a local item or ``--image`` names."""
    text = MOSAIC.text([str(parts / n) for n in NAMES], relative=False)
    with (
        fault_server.serve(files={"/a/m.vrt": text.encode()}) as server,
        pytest.raises((DataError, InputError), match="is a local path in a remote catalog"),
    ):
        read(specs(f"{server.url}/a/m.vrt", remote=remote), BOX)


@pytest.mark.parametrize("place", ["https", "s3://mine"])
def test_a_mosaic_elsewhere_spends_keys_in_its_own_bucket_only(
    parts: Path, loopback: None, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    machine(retries=0, timeout=2)
    with fault_server.serve() as server:
        for name, value in {
            "ENDPOINT_URL": server.url, "ACCESS_KEY_ID": "AKIA", "SECRET_ACCESS_KEY": "secret", "ALLOW_HTTP": "true",
            "REGION": "us-east-1",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"AWS_{name}", value)
        ranges._bucket.cache_clear()
        for bucket in ("mine", "private"):
            text = MOSAIC.text([vrt_mosaic.for_gdal(f"s3://{bucket}/a/{n}") for n in NAMES], relative=False)
            server.files[f"/mine/{bucket}.vrt"] = text.encode()
            server.files |= {f"/{bucket}/a/{n}": (parts / n).read_bytes() for n in NAMES}
        start = place if place.startswith("s3") else f"{server.url}/mine"
        if place.startswith("s3"):
            assert np.array_equal(read(specs(f"{start}/mine.vrt", remote=True), BOX)[0], DATA)
            assert all("authorization" in s.headers for s in server.seen)
        with pytest.raises(GeomlError, match=r"private"):
            read(specs(f"{start}/private.vrt", remote=True), BOX)
        assert not [s for s in server.seen if s.path.startswith("/private")], "asked for with keys"


@pytest.mark.parametrize("kind", ["remote", "mosaic", "remote mosaic"])
def test_what_is_cut_off_is_no_data_and_no_zeros(tmp_path: Path, loopback: None, kind: str) -> None:
    data = np.random.default_rng(6).integers(1, 10_000, (1, 512, 512), dtype=np.uint16)
    written(tmp_path / "a.tif", data, GRID, tiled=True, blockxsize=128, blockysize=128)
    content = (tmp_path / "a.tif").read_bytes()[:-100_000]
    (tmp_path / "a.tif").write_bytes(content)
    band = (MosaicBand("uint16", 0.0),)
    one = replace(MOSAIC, shape=(512, 512), bands=band, parts=(MosaicPart("a.tif", 0, 0, 512, 512),))
    (tmp_path / "m.vrt").write_text(one.text(["a.tif"]))
    with fault_server.serve(files={f"/{p.name}": p.read_bytes() for p in tmp_path.iterdir()}) as server:
        name = "m.vrt" if "mosaic" in kind else "a.tif"
        remote = "remote" in kind
        spec = specs(f"{server.url}/{name}" if remote else tmp_path / name, remote=remote)[:1]
        with pytest.raises(DataError, match=rf"a\.tif: cut off, it ends at byte {len(content)}"):
            read(spec, GeoBox((512, 512), GRID, "EPSG:32621"))
        whole = read(spec, GeoBox((128, 128), GRID, "EPSG:32621"))
        assert np.array_equal(whole[0], data[:, :128, :128]), "what is there is read"


def test_one_part_with_overviews_is_read_coarser_as_the_file_is(tmp_path: Path) -> None:
    """GDAL gives such a mosaic the overviews of its part."""
    data = np.random.default_rng(6).integers(1, 10_000, (2, 1024, 1024), dtype=np.uint16)
    written(tmp_path / "a.tif", data, GRID, tiled=True)
    one = replace(MOSAIC, shape=(1024, 1024), parts=(MosaicPart("a.tif", 0, 0, 1024, 1024),))
    (tmp_path / "m.vrt").write_text(one.text(["a.tif"]))
    coarse = GeoBox((100, 100), GRID @ Affine.scale(9), "EPSG:32621")
    plain = read(specs(tmp_path / "a.tif"), coarse, resampling="average")
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.build_overviews([2, 4, 8], Resampling.average)
    with rasterio.open(tmp_path / "m.vrt") as file:
        assert file.overviews(1) == [2, 4, 8]
    found = read(specs(tmp_path / "m.vrt"), coarse, resampling="average")
    assert all(np.array_equal(a, b) for a, b in zip(found, plain, strict=True))


def test_parts_are_found_beside_their_vrt() -> None:
    assert vrt_mosaic.located("./../a.tif", "https://x.org/c/mosaics/m.vrt?sig=1") == "https://x.org/c/a.tif"
    assert vrt_mosaic.located("./a.tif", "s3://bucket/k/m.vrt") == "s3://bucket/k/a.tif"
    assert vrt_mosaic.located("/vsigs/bucket/a.tif", "m.vrt") == "gs://bucket/a.tif"
    for url in ("https://x.org/a.tif", "s3://b/a.tif", "gs://b/a.tif", "az://b/a.tif"):
        assert vrt_mosaic.located(vrt_mosaic.for_gdal(url), "/c/m.vrt") == url
