from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geoml.data.recipe import Blocks, Carve, Files, Lists, RightPart
from geoml.data.scene import LabelledScene, Sample, outline
from geoml.data.splits import assign, check_copies, check_ground, draw
from geoml.errors import InputError


def sample(shape, fill=1):
    return Sample(np.full((1, *shape), fill, np.uint8), np.ones(shape, bool), np.zeros(shape, np.uint8))


def scene(name, x=600_000, y=7_000_000, shape=(10, 10), res=10.0, crs="EPSG:32621", fill=1):
    place = None if crs is None else GeoBox(shape, Affine(res, 0, x, 0, -res, y), crs)
    return LabelledScene(name, shape, lambda: sample(shape, fill), place)


def splits_of(pieces):
    return {p.name: p.split for p in pieces}


def test_files_by_pattern():
    scenes = [scene(n, x=600_000 + 1000 * i) for i, n in enumerate(["Spain_1", "India_2", "Somalia_3"])]
    found = splits_of(assign(scenes, Files(kind="files", test=("Spain_*",), val=("*_3",)), None, 0))
    assert found == {"Spain_1": "test", "India_2": "train", "Somalia_3": "val"}


def test_the_same_ground_in_two_splits_is_a_leak():
    scenes = [scene("town_2018"), scene("town_2020")]
    with pytest.raises(InputError, match="leak"):
        assign(scenes, Files(kind="files", test=("*_2020",)), None, 0)


def test_a_leak_between_two_crs_is_found():
    east = scene("east", x=800_000, crs="EPSG:32621", shape=(50, 50))
    centre = outline(east.geobox, east.window).centroid
    west = scene("west", x=centre.x, y=centre.y, res=0.0001, crs="EPSG:4326", shape=(20, 20))
    with pytest.raises(InputError, match="leak"):
        assign([east, west], Files(kind="files", test=("west",)), None, 0)


def test_neighbours_that_share_an_edge_are_no_leak():
    pieces = assign([scene("a"), scene("b", x=600_100)], Files(kind="files", test=("b",)), None, 0)
    check_ground(pieces)


def test_an_empty_train_split_is_refused():
    with pytest.raises(InputError, match="in train"):
        assign([scene("a")], Files(kind="files", test=("*",)), None, 0)


def test_lists_and_the_ground_they_name(tmp_path):
    for name, text in {"train": "a_2020", "val": "b_2020", "test": "c_2020\nnot-here"}.items():
        (tmp_path / f"{name}.txt").write_text(text + "\n")
    scenes = [scene(f"{n}_{y}", x=600_000 + 1000 * i) for i, n in enumerate("abcd") for y in (2016, 2020)]
    how = Lists(kind="lists", train="train.txt", val="val.txt", test="test.txt")
    assert splits_of(assign(scenes, how, str(tmp_path), 0)) == {"a_2020": "train", "b_2020": "val", "c_2020": "test"}
    more = splits_of(assign(scenes, how.model_copy(update={"same_ground": True}), str(tmp_path), 0))
    assert more == {f"{n}_{y}": s for n, s in zip("abc", ("train", "val", "test"), strict=True) for y in (2016, 2020)}


def test_lists_that_hold_file_names(tmp_path):
    (tmp_path / "train.csv").write_text("a_S1.tif,a_L.tif\nother_S2.tif,x\n")
    how = Lists(kind="lists", train="train.csv", name="{id}_S1.tif")
    assert splits_of(assign([scene("a")], how, str(tmp_path), 0)) == {"a": "train"}


def test_an_id_in_two_lists_and_a_missing_list(tmp_path):
    (tmp_path / "l.txt").write_text("a\n")
    with pytest.raises(InputError, match="lists of train and val"):
        assign([scene("a")], Lists(kind="lists", train="l.txt", val="l.txt"), str(tmp_path), 0)
    with pytest.raises(InputError, match=r"gone\.txt"):
        assign([scene("a")], Lists(kind="lists", train="gone.txt"), str(tmp_path), 0)


def test_official_lists_that_share_ground_are_refused(tmp_path):
    (tmp_path / "train.txt").write_text("a_2018\n")
    (tmp_path / "val.txt").write_text("a_2020\n")
    with pytest.raises(InputError, match="leak"):
        assign(
            [scene("a_2018"), scene("a_2020")], Lists(kind="lists", train="train.txt", val="val.txt"), str(tmp_path), 0
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(5, 120), st.integers(5, 120)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([200.0, 370.0, 1000.0]),
    st.integers(0, 50),
)
@settings(max_examples=60, deadline=None)
def test_blocks_give_each_pixel_of_the_ground_one_split(places, size, seed):
    """Overlapping scenes of one pixel grid, large ones: a ground pixel is in the same split whoever shows it."""
    scenes = [scene(f"s{i}", 600_000 + c * 10, 7_000_000 - r * 10, (max(h, 101), max(w, 101)))
              for i, (r, c, h, w) in enumerate(places)]  # fmt: skip
    anchor = [scene(f"far{i}", x=300_000 + 5000 * i) for i in range(20)]  # so that train is never empty
    pieces = assign([*scenes, *anchor], Blocks(kind="blocks", size=size, val=0.3, test=0.3), None, seed)
    pieces = [p for p in pieces if p.scene in scenes]
    ground: dict[tuple[int, int], str] = {}
    covered = 0
    for piece in pieces:
        a, w = piece.scene.geobox.affine, piece.window
        covered += w.shape[0] * w.shape[1]
        r0, c0 = round((7_000_000 - a.f) / 10), round((a.c - 600_000) / 10)
        for r in range(w.y0 + r0, w.y1 + r0, 7):
            for c in range(w.x0 + c0, w.x1 + c0, 7):
                assert ground.setdefault((r, c), piece.split) == piece.split
    assert covered == sum(s.shape[0] * s.shape[1] for s in scenes)


def test_blocks_keep_small_scenes_whole_and_years_together():
    scenes = [scene(f"s{i}_{y}", x=500_000 + 1000 * i) for i in range(60) for y in (2016, 2018)]
    pieces = assign(scenes, Blocks(kind="blocks", size=700, val=0.2, test=0.2), None, 1)
    found = splits_of(pieces)
    assert len(pieces) == len(scenes)
    assert all(found[f"s{i}_2016"] == found[f"s{i}_2018"] for i in range(60))
    assert set(found.values()) == {"train", "val", "test"}


def test_a_strip_of_every_training_image_validates():
    scenes = [scene(n, shape=(10, 100), crs=None, fill=i) for i, n in enumerate("abc")]
    how = Files(kind="files", test=("c",), strip=RightPart(share=0.25, gap=5))
    found = splits_of(assign(scenes, how, None, 0))
    parts = {f"{n}[0:10,{x}]": s for n in "ab" for x, s in (("0:70", "train"), ("75:100", "val"))}
    assert found == {**parts, "c": "test"}
    for wrong in (RightPart(share=0.25, gap=75), RightPart(share=0.001)):
        with pytest.raises(InputError, match=r"split\.strip: .* leaves none"):
            assign(scenes, how.model_copy(update={"strip": wrong}), None, 0)
    with pytest.raises(InputError, match="give one or the other"):
        assign(scenes, how.model_copy(update={"val": ("b",)}), None, 0)


def test_carve_takes_val_from_train_only():
    scenes = [scene(f"s{i}", x=500_000 + 1000 * i) for i in range(40)]
    how = Files(kind="files", test=("s1?",), carve=Carve(size=700, share=0.3))
    found = splits_of(assign(scenes, how, None, 0))
    assert sum(v == "test" for v in found.values()) == 10
    assert 3 <= sum(v == "val" for v in found.values()) <= 20
    with pytest.raises(InputError, match="carve"):
        assign(scenes, Files(kind="files", val=("s1",), carve=Carve(size=700, share=0.3)), None, 0)


def test_shares_are_what_was_asked():
    drawn = [draw(str(i), {"test": 0.2, "val": 0.1}, 0) for i in range(4000)]
    assert drawn.count("test") / 4000 == pytest.approx(0.2, abs=0.03)
    assert drawn.count("val") / 4000 == pytest.approx(0.1, abs=0.03)
    assert draw("a", {"test": 0.5}, 3) == draw("a", {"test": 0.5}, 3)


def test_copies_without_georeference_are_found():
    def pieces(fill):
        scenes = [scene("a", crs=None), scene("b", crs=None, fill=fill)]
        return assign(scenes, Files(kind="files", test=("b",)), None, 0)

    check_copies(pieces(2))
    with pytest.raises(InputError, match="copy"):
        check_copies(pieces(1))


def test_rotated_scenes_cannot_be_cut():
    turned = GeoBox((50, 50), Affine(10, 1, 600_000, 1, -10, 7_000_000), "EPSG:32621")
    with pytest.raises(InputError, match="rotated"):
        assign(
            [LabelledScene("a", (50, 50), lambda: sample((50, 50)), turned)], Blocks(kind="blocks", size=100), None, 0
        )
