"""Files of imaging spectrometers: what they say is read, what contradicts is refused by field and count."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.warp import transform_bounds
from shapely.geometry import box, mapping

from geoml.cube.load import load
from geoml.data import rasters
from geoml.errors import DataError, InputError
from geoml.io.cog.spectrum import lines_of
from geoml.io.stac.bands import band_specs, select
from geoml.io.stac.catalog import Catalog, Profile
from geoml.testing import spectra

CORNER = (366_000.0, 5_809_980.0)
GRID = GeoBox((24, 20), Affine(30, 0, CORNER[0], 0, -30, CORNER[1]), spectra.CRS)
CLASSES = np.random.default_rng(0).integers(0, 3, (24, 20))
SENSOR = spectra.SENSOR.shuffled(3)
GOOD = [k for k in range(40) if k not in SENSOR.bad]

Stored = np.ndarray[Any, Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return spectra.write(tmp_path / "scene.tif", spectra.scene(SENSOR, CLASSES, 1), SENSOR, CORNER)


def declared(sensor: spectra.Sensor = SENSOR, unit: float = 1000.0, **more: Any) -> list[dict[str, Any]]:
    """Bands as an item lists them."""
    each = enumerate(sensor.wavelengths)
    said = {"data_type": "float32", "nodata": spectra.NODATA, "raster:scale": 1e-4, **more}
    return [
        {"name": f"b{k}", "eo:center_wavelength": w / unit, "eo:full_width_half_max": sensor.fwhm / unit, **said}
        for k, w in each
    ]


def item(path: Path, bands: list[dict[str, Any]] | None = None) -> pystac.Item:
    west, south, east, north = transform_bounds(spectra.CRS, "EPSG:4326", *GRID.boundingbox)
    asset = pystac.Asset(str(path), media_type="image/tiff; application=geotiff", roles=["data"])
    if bands is not None:
        asset.extra_fields["bands"] = bands
    made = pystac.Item("scene", mapping(box(west, south, east, north)), None, datetime(2024, 1, 1, tzinfo=UTC), {})
    made.bbox = [west, south, east, north]
    made.add_asset("spectrum", asset)
    return made


def read(made: pystac.Item, names: list[str]) -> tuple[Stored, Stored]:
    """Physical (band, y, x) and (y, x) valid."""
    folder = Path(made.assets["spectrum"].href).parent
    catalog = Catalog("made", str(folder), "static", remote=False, root=folder)
    found = load([made], names, GRID, profile=Profile(), catalog=catalog)
    data, count = dask.compute(found.data, found.valid_count)
    return data.values * np.array(found.data.attrs["scale"])[:, None, None], count.values > 0


def truth(path: Path) -> Stored:
    with rasterio.open(path) as file:
        stored: Stored = file.read()
    return np.where(stored == spectra.NODATA, 0, stored * 1e-4)


def test_an_asset_of_many_bands_is_many_and_empty_ones_empty_no_scene(file: Path) -> None:
    data, valid = read(item(file, declared()), [f"b{k}" for k in range(40)])
    assert valid.all()
    np.testing.assert_allclose(data, truth(file), atol=1e-6)


def test_empty_bands_are_found_without_a_list_of_bad_ones(tmp_path: Path) -> None:
    path = spectra.write(tmp_path / "scene.tif", spectra.scene(SENSOR, CLASSES, 1), SENSOR, CORNER, bbl="1")
    data, valid = read(item(path, declared()), [f"b{k}" for k in range(40)])
    assert valid.all()
    assert not data[list(SENSOR.bad)].any()


def test_where_a_used_band_has_no_data_a_pixel_has_none(tmp_path: Path) -> None:
    data = spectra.scene(SENSOR, CLASSES, 1)
    data[GOOD[4], 3, 5] = spectra.NODATA
    path = spectra.write(tmp_path / "scene.tif", data, SENSOR, CORNER)
    _, valid = read(item(path, declared()), [f"b{k}" for k in range(40)])
    assert not valid[3, 5]
    assert valid.sum() == valid.size - 1
    _, valid = read(item(path, declared()), [f"b{GOOD[0]}"])
    assert valid.all()


def test_bad_bands_alone_are_no_data(file: Path) -> None:
    assert not read(item(file, declared()), [f"b{k}" for k in SENSOR.bad])[1].any()


@pytest.mark.parametrize("bands", [None, declared()], ids=["by the file", "by the item"])
def test_bands_are_found_by_wavelength_whatever_their_order(file: Path, bands: list[dict[str, Any]] | None) -> None:
    data, valid = read(item(file, bands), ["655nm", "400nm/15nm"])
    expected = truth(file)[[SENSOR.wavelengths.index(655), SENSOR.wavelengths.index(400)]]
    assert valid.all()
    np.testing.assert_allclose(data, expected, atol=1e-6)


def test_a_wide_band_is_near_the_spectrum_seen_with_its_response(file: Path) -> None:
    (wide,), _ = read(item(file), ["842nm/115nm"])
    fine = np.arange(700, 1000, 1.0)
    response = np.exp(-4 * np.log(2) * ((fine - 842) / 115) ** 2)
    expected = spectra.spectra(fine.tolist()) @ response / response.sum()
    for kind in range(3):  # mean light of 0.6 to 1.3 is 0.95
        assert abs(wide[kind == CLASSES].mean() / 0.95 - expected[kind]) < 0.05 * expected[kind] + 0.003


def test_a_named_band_is_found_by_its_wavelength_on_another_sensor(file: Path) -> None:
    data, _ = read(item(file, declared()), ["red@655nm/15nm", "b0@985nm"])
    np.testing.assert_allclose(data, truth(file)[[SENSOR.wavelengths.index(655), 0]], atol=1e-6)


def test_bands_without_names_go_by_their_wavelength(file: Path) -> None:
    unnamed = [{k: v for k, v in b.items() if k != "name"} for b in declared()]
    catalog = Catalog("made", str(file.parent), "static", remote=False, root=file.parent)
    assert list(band_specs(item(file, unnamed), Profile(), catalog)) == [f"{w:g}nm" for w in SENSOR.wavelengths]


def refused(kind: type[Exception], made: pystac.Item, names: list[str], match: str) -> None:
    with pytest.raises(kind, match=match):
        read(made, names)


def test_wavelengths_of_an_item_in_another_unit_are_refused(file: Path) -> None:
    text = r"item scene: eo:center_wavelength: 40 of 40 bands lie at no wavelength in um, the first at \d+; expected"
    refused(InputError, item(file, declared(unit=1.0)), ["655nm"], text)


def test_an_item_whose_bands_are_in_another_order_is_refused(file: Path) -> None:
    other = item(file, declared(SENSOR.shuffled(8)))
    text = r"item scene, asset spectrum .*eo:center_wavelength: (2|3|4) of 4 bands lie elsewhere by the file; band \d+"
    refused(DataError, other, ["b0", "b1", "b2", "b3"], text)
    refused(DataError, other, ["655nm"], r"eo:center_wavelength: 1 of 1 bands lie elsewhere by the file")


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({"wavelength_units": ""}, r"wavelength_units: 40 of 40 bands have no unit"),
        ({"wavelength_units": "Index"}, r"wavelength_units: 40 of 40 bands have the unit 'Index'"),
        ({"wavelength_units": "Micrometers"}, r"wavelength: 40 of 40 bands lie at no wavelength in um"),
        ({"wavelength": "red"}, r"wavelength: 40 of 40 bands have one that is not a number"),
        ({"wavelength": "655"}, r"40 bands lie at 655 nm"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, tags: dict[str, str], match: str) -> None:
    path = spectra.write(tmp_path / "scene.tif", spectra.scene(SENSOR, CLASSES, 1), SENSOR, CORNER, **tags)
    refused(DataError, item(path), ["655nm"], match)


def test_a_file_without_wavelengths_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    place = {"crs": spectra.CRS, "transform": GRID.affine}
    with rasterio.open(path, "w", driver="GTiff", width=20, height=24, count=40, dtype="float32", **place) as file:
        file.write(spectra.scene(SENSOR, CLASSES, 1))
    refused(DataError, item(path), ["655nm"], r"bands: 655nm; no band has a wavelength")


def test_a_range_is_for_recipes(file: Path) -> None:
    catalog = Catalog("made", str(file.parent), "static", remote=False, root=file.parent)
    with pytest.raises(InputError, match="stands for several bands"):
        select(item(file), ["400nm..900nm"], Profile(), catalog)


def test_an_envi_header_says_widths_and_bad_bands(tmp_path: Path) -> None:
    """GDAL gives the bands of ENVI files their wavelength, but neither width nor ``bbl``."""
    path = tmp_path / "scene.img"
    place = {"crs": spectra.CRS, "transform": GRID.affine}
    with rasterio.open(path, "w", driver="ENVI", width=20, height=24, count=3, dtype="float32", **place) as file:
        file.write(np.ones((3, 24, 20), np.float32))
    said = (
        "wavelength units = Micrometers\nwavelength = {0.65, 0.45, 0.55}\nfwhm = {0.01, 0.02, 0.01}\nbbl = {1, 0, 1}\n"
    )
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text() + said)
    found = rasters.lines(path)
    assert [(x.index, round(x.wavelength, 6), x.bad) for x in found] == [
        (1, 650, False),
        (2, 450, True),
        (3, 550, False),
    ]
    assert [round(x.fwhm or 0, 6) for x in found] == [10, 20, 10]
    data, valid = rasters.image_at(path, ["550nm", "450nm"])
    assert valid.all()
    assert data[:, 0, 0].tolist() == [1, 0]


def test_the_imagery_domain_of_gdal_is_known(tmp_path: Path, file: Path) -> None:
    with rasterio.open(tmp_path / "i.tif", "w", driver="GTiff", width=4, height=4, count=2, dtype="uint8") as made:
        for k, (wavelength, width) in enumerate([("0.665", "0.03"), ("0.49", "0.065")], 1):
            made.update_tags(k, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=wavelength, FWHM_UM=width)
    with rasterio.open(tmp_path / "i.tif") as made:
        assert [(x.wavelength, x.fwhm, x.bad) for x in lines_of(made)] == [(665, 30, False), (490, 65, False)]


def test_what_is_no_raster_is_refused_by_name(file: Path) -> None:
    other = item(file)
    other.assets["spectrum"].media_type = "application/x-hdf5"
    refused(InputError, other, ["655nm"], r"655nm cannot be found; .*passed over: spectrum \(type application/x-hdf5\)")
