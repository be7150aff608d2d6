"""What every file in geoml/outputs promises; a new file gets these tests without another edit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor

from geoml import testing
from geoml.engine.contract import OUTPUTS, BlockRun, ChangeOutput, PixelOutput, Rows
from geoml.engine.following import Follower
from geoml.engine.inference.predict import stored
from geoml.engine.pixels import Pixels
from geoml.engine.run.output import BlockWriter
from geoml.engine.run.plan import Plan, PlannedBlock, Zone
from geoml.errors import ModelError
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.io.cog.template import of_each
from geoml.io.crs import with_heights
from geoml.io.report.blocks import is_known
from geoml.io.report.canvas import Canvas
from geoml.io.report.counts import BlockCounter
from geoml.recipe import PredictRecipe, parse

SIZE = 96
EVERY = OUTPUTS.names()
OF_PIXELS = [name for name in EVERY if OUTPUTS.find(name).Output.joiner == "pixels"]


def card(name: str) -> MapCard:
    """A card for which the output is made, as the file's ``TINY`` says."""
    return testing.card("made", ["red"], **{"classes": (), **OUTPUTS.find(name).TINY})


def recipe(**changes: Any) -> PredictRecipe:
    query = {"catalog": "c", "bbox": [0, 0, 1, 1], "datetime": "2024"}
    given = {"model": "m", "block_size": SIZE, "probabilities": True}
    return parse(PredictRecipe, {**given, "query": query, **changes}, "made")


@pytest.fixture(params=OF_PIXELS)
def output(request: pytest.FixtureRequest) -> PixelOutput:
    made: PixelOutput = OUTPUTS.find(request.param).Output(card(request.param), recipe())
    return made


def raw_of(output: PixelOutput, height: int = SIZE, width: int = SIZE) -> Tensor:
    random = torch.Generator().manual_seed(3)
    coarse = torch.randn(1, output.raw, height // 8 + 1, width // 8 + 1, generator=random)
    return torch.nn.functional.interpolate(3 * coarse, (height, width), mode="bilinear")


@pytest.mark.parametrize("name", EVERY)
def test_says_how_it_is_joined_and_what_it_leaves(name: str) -> None:
    for asked in (None, recipe(), recipe(probabilities=False, features=False)):
        made = OUTPUTS.find(name).Output(card(name), asked)
        assert made.joiner in ("pixels", "owner")
        assert made.raw >= 1
        keys = [layer.key for layer in made.layers]
        assert len(set(keys)) == len(keys)
        assert not {"valid", "domain", "thumbnail", "preview"} & set(keys)  # these every block has
        assert made.layers or made.tables, "something has to be written"
        assert all(name.endswith(".parquet") for name in made.tables)
        assert bool(made.about) == bool(made.layers)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_followed_over_days_is_written_and_read(name: str, tmp_path: Path) -> None:
    follower = OUTPUTS.find(name).Output(card(name)).follower()
    if follower is None:
        return
    assert isinstance(follower, Follower)
    follower.write(follower.empty(), path := tmp_path / "tracks.parquet")
    again = follower.read(path)
    assert len(again.merged(follower.empty())) == 0
    assert len(again.closed) == 0


def test_what_leaves_the_device_is_a_tensor_for_each_layer(output: PixelOutput) -> None:
    raw = raw_of(output)
    averaged = output.average(raw)
    assert averaged.shape == (1, output.channels, SIZE, SIZE)
    assert averaged.dtype == torch.float32
    for encoded in (output.encode(averaged), output.encode_raw(raw)):
        shapes = [(1, len(layer.names), SIZE, SIZE) for layer in output.layers]
        assert [tuple(t.shape) for t in encoded] == shapes
        assert [str(t.dtype).removeprefix("torch.") for t in encoded] == [layer.dtype for layer in output.layers]
    for quick, whole in zip(output.encode_raw(raw), output.encode(averaged), strict=True):
        assert float((quick.double() - whole.double()).abs().max()) <= 1


def test_nothing_known_is_nodata_in_every_layer(output: PixelOutput) -> None:
    raw = raw_of(output)
    rows = stored(output, torch.full_like(raw, torch.nan), np.zeros((1, SIZE, SIZE), bool))
    for layer in output.layers:
        assert layer.nodata is not None
        assert rows[layer.key].shape == (len(layer.names), SIZE, SIZE)
        assert not is_known(rows[layer.key], layer.nodata).any()


def test_raw_output_that_is_not_finite_is_refused_where_something_is_known(output: PixelOutput) -> None:
    raw, known = raw_of(output), np.ones((1, SIZE, SIZE), bool)
    raw[0, 0, 5, 7] = torch.nan
    with pytest.raises(ModelError, match="not finite in 1 pixels"):
        stored(output, raw, known)
    known[0, 5, 7] = False
    rows = stored(output, raw, known)
    first = output.layers[0]
    assert first.nodata is not None
    assert not is_known(rows[first.key], first.nodata)[0, 5, 7]


def test_no_known_pixel_is_stored_as_nodata_and_the_answer_comes_back(output: PixelOutput) -> None:
    known = np.ones((1, SIZE, SIZE), bool)
    known[0, :9] = False
    rows = stored(output, raw_of(output), known)
    for layer in output.layers:
        assert layer.nodata is not None
        assert (is_known(rows[layer.key], layer.nodata) == known).all()
    whole = output.answer(rows)
    top, rest = (
        Rows(Window(a, 0, b, SIZE), {k: v[:, a:b] for k, v in rows.arrays.items()}) for a, b in ((0, 20), (20, SIZE))
    )
    for one, two, every in zip(output.answer(top), output.answer(rest), whole, strict=True):
        assert every.shape == (SIZE, SIZE)
        np.testing.assert_array_equal(np.concatenate([one, two]), every)
    assert output.changes == isinstance(output, ChangeOutput)
    if isinstance(output, ChangeOutput):
        called = output.called(rows)
        assert called.any()
        assert not called[:9].any()


def items(card: MapCard) -> list[tuple[pystac.Item]]:
    return [
        (pystac.Item(f"i{n}", None, None, dt.datetime(2024, 5, 1 + n, tzinfo=dt.UTC), {}),) for n in range(card.dates)
    ]


def block_run(card: MapCard, recipe: PredictRecipe, known: NDArray[np.bool_], asked: NDArray[np.bool_]) -> BlockRun:
    """A block whose pixels are all alike."""
    zone = Zone(crs="EPSG:32621", res=10.0, anchor=0.0, part="POLYGON EMPTY")
    planned = PlannedBlock(zone=0, iy=-7, ix=3, items=(), hash="abc")
    plan = Plan(
        recipe=recipe, hash="abc" * 8, model_path="m", card=card, collection="c", zones=(zone,), blocks=(planned,)
    )
    window = plan.block(planned).window
    channels = len(card.bands) * card.dates
    data = np.full((channels, *window.shape), 7, np.uint16)
    pixels = Pixels(data, known.astype(np.uint16), (1.0,) * channels, (0.0,) * channels, window)
    return BlockRun(plan, planned, plan.block(planned), pixels, asked, tuple(items(card)))


def written(out: Path, output: Any, run: BlockRun, rows: Rows, cuts: Sequence[int]) -> dict[str, bytes]:
    """The files of a block whose rows come in parts that begin at ``cuts``."""
    writer, w = BlockWriter(out, run, output), run.block.window
    for a, b in zip(cuts, [*cuts[1:], SIZE], strict=True):
        writer.rows(Rows(Window(w.y0 + a, w.x0, w.y0 + b, w.x1), {k: v[:, a:b] for k, v in rows.arrays.items()}))
    writer.preview()
    assert writer.finish() > 0
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.fixture
def filled(output: Any) -> Callable[..., tuple[BlockRun, Rows]]:
    def make(every: bool = True) -> tuple[BlockRun, Rows]:
        known, asked = np.full((SIZE, SIZE), every), np.ones((SIZE, SIZE), bool)
        known[:11], asked[:, :13] = False, False
        return block_run(output.card, output.recipe, known, asked), stored(output, raw_of(output), known[None])

    return make


def test_any_cut_of_the_rows_gives_the_same_files(output: Any, filled: Any, tmp_path: Path) -> None:
    run, rows = filled()
    first = written(tmp_path / "a", output, run, rows, [0])
    assert first == written(tmp_path / "b", output, run, rows, [0, 1, 33, 64])
    assert sum(name.endswith(".tif") for name in first) == len(output.layers) + 1
    assert any(name.startswith(".geoml/parts/") for name in first) == bool(output.tables)


def test_gdal_reads_what_was_stored(output: Any, filled: Any, tmp_path: Path) -> None:
    run, rows = filled()
    written(tmp_path, output, run, rows, [0, 50])
    for layer in output.layers:
        with rasterio.open(next(tmp_path.rglob(f"{layer.key}.tif"))) as file:
            found = file.read()
            np.testing.assert_equal(file.nodata, layer.nodata)
            assert file.crs == with_heights(run.block.plane.crs, layer.vertical)
            assert set(file.dtypes) == {layer.dtype}
            assert (file.scales, file.offsets) == tuple(of_each(v, file.count) for v in (layer.scale, layer.offset))
            assert file.descriptions == (layer.descriptions or layer.names)
        assert not is_known(found[:, :, :13], layer.nodata).any()  # outside of the region
        np.testing.assert_array_equal(found[:, :, 13:], rows[layer.key][:, :, 13:])


def test_the_item_says_how_to_read_each_layer(output: Any, filled: Any, tmp_path: Path) -> None:
    run, rows = filled()
    written(tmp_path, output, run, rows, [0])
    item = pystac.Item.from_file(str(next((tmp_path / "items").glob("*.json"))))
    for layer in output.layers:
        asset = item.assets[layer.key]
        assert asset.title == layer.title
        scales = of_each(layer.scale, len(layer.names))
        for band, name, scale in zip(asset.extra_fields["bands"], layer.names, scales, strict=True):
            nodata = "nan" if layer.nodata != layer.nodata else layer.nodata
            assert (band["name"], band["data_type"], band["nodata"]) == (name, layer.dtype, nodata)
            assert band.get("raster:scale", 1.0) == scale
            assert band.get("unit") == layer.unit
            assert band["statistics"]["valid_percent"] > 0


def test_a_block_without_data_is_whole(output: Any, filled: Any, tmp_path: Path) -> None:
    run, rows = filled(False)
    names = written(tmp_path, output, run, rows, [0])
    for layer in output.layers:
        with rasterio.open(tmp_path / next(n for n in names if n.endswith(f"/{layer.key}.tif"))) as file:
            assert not is_known(file.read(), layer.nodata).any()


def test_the_page_shows_it(output: Any, filled: Any, tmp_path: Path) -> None:
    run, rows = filled()
    written(tmp_path, output, run, rows, [0])
    part, place = output.report(tmp_path), run.block.geobox
    sheet = Canvas(place, place.crs.to_wkt(), 1.0)
    opened = {}
    for name, layer in part.layers.items():
        opened[name] = rasterio.open(next(tmp_path.rglob(f"{layer.asset}.tif")), driver="GTiff")
    counter = BlockCounter(part, run.block.window.shape, place.affine, run.block.plane.crs)
    for top in range(0, SIZE, 7):  # any cut of the rows
        height = min(7, SIZE - top)
        strip = rasterio.windows.Window(0, top, SIZE, height)
        counter.add(top, {name: file.read(1, window=strip) for name, file in opened.items()})
    part.add(counter.counts())
    known = int((run.asked & run.inner.valid).sum())
    assert part.known(known) == known
    assert all(label and text for label, text in part.facts())
    drawings = part.drawings({name: file.read(1) for name, file in opened.items()}, sheet)
    assert drawings
    for drawing in drawings:
        assert (drawing.colours[..., 3] > 0).sum() == known
    assert isinstance(part.section(None), Markup)
    for file in opened.values():
        file.close()
