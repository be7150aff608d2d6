"""Things that are found by their files: in a package, in the core and in wings, and never twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from geoml import registry
from geoml.engine import task as tasks
from geoml.errors import InputError
from geoml.registry import Registry


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package ``house`` with things of its own and of the wing ``east``; the wing ``west`` has none."""
    root = tmp_path / "house"
    for folder in ("things", "east/things", "west", "things/many"):
        (root / folder).mkdir(parents=True)
    for folder in ("", "things", "east", "east/things", "west", "things/many"):
        (root / folder / "__init__.py").touch()
    (root / "things" / "door.py").write_text('"""A door.\n\nOf wood.\n"""\nKNOCK = 1\n')
    (root / "things" / "_hinge.py").touch()
    (root / "east" / "things" / "window.py").write_text('"""A window that breaks."""\nraise RuntimeError\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    yield root
    for name in [n for n in sys.modules if n.partition(".")[0] == "house"]:
        del sys.modules[name]


def test_those_of_the_core_and_of_every_wing_are_found(house: Path) -> None:
    things = Registry("house.*.things", "thing")
    assert things.names() == ["door", "many", "window"]
    assert Registry("house.things", "thing").names() == ["door", "many"]
    assert things.file("window") == house / "east" / "things" / "window.py"
    assert things.file("many") == house / "things" / "many" / "__init__.py"
    assert things.find("door").KNOCK == 1
    assert "house.west" not in sys.modules
    (house / "west" / "things").mkdir()
    (house / "west" / "things" / "__init__.py").touch()
    (house / "west" / "things" / "stove.py").touch()
    assert "stove" in things.names(), "a file that came later is there"


def test_what_a_file_says_is_read_without_running_it(house: Path) -> None:
    things = Registry("house.*.things", "thing")
    assert [things.summary(name) for name in things.names()] == ["A door.", "", "A window that breaks."]
    assert things.defines("door", "KNOCK")
    assert not things.defines("window", "KNOCK")
    assert not {"house.things.door", "house.east.things.window"} & set(sys.modules)
    with pytest.raises(RuntimeError):
        things.find("window")


def test_files_with_a_member_are_found_by_it(house: Path) -> None:
    found = Registry("house.things", "thing").having("KNOCK")
    assert [module.__name__ for module in found] == ["house.things.door"]


def test_a_name_of_two_files_is_refused_with_both(house: Path) -> None:
    twin = house / "east" / "things" / "door.py"
    twin.touch()
    with pytest.raises(InputError, match="thing: door is a name of two files") as caught:
        Registry("house.*.things", "thing").names()
    assert str(house / "things" / "door.py") in str(caught.value)
    assert str(twin) in str(caught.value)


def test_a_misspelt_name_gets_the_nearest_of_all(house: Path) -> None:
    things = Registry("house.*.things", "thing")
    for ask in (things.find, things.file, things.summary):
        with pytest.raises(InputError, match="did you mean 'window'"):
            ask("windoww")


def test_tasks_of_the_wing_are_among_the_tasks() -> None:
    assert {"segmentation", "change", "geolocation", "retrieval"} <= set(tasks.names())
    assert tasks.find("retrieval").__module__ == "geoml.geolocation.tasks.retrieval"
    assert tasks.FILES.file("change").parts[-3:] == ("geoml", "tasks", "change.py")
    with pytest.raises(InputError, match="geolocation trains by itself"):
        tasks.find_pixel_task("geolocation")


# --- entry points of installed distributions


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Registry]]:
    """Install ``something`` with these lines of entry points in ``geoml.models``; the registry of models."""

    def install(lines: str, name: str = "something") -> Registry:
        site = tmp_path / f"site-{name}"
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").touch()
        (site / name / "dilated.py").write_text('"""Holes that grow."""\nKNOCK = 1\n')
        (site / f"{name}-1.dist-info").mkdir()
        (site / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (site / f"{name}-1.dist-info" / "entry_points.txt").write_text(f"[geoml.models]\n{lines}\n")
        monkeypatch.syspath_prepend(str(site))
        registry._entry_points.cache_clear()
        return Registry("geoml.models", "architecture")

    yield install
    monkeypatch.undo()
    registry._entry_points.cache_clear()
    for module in [m for m in sys.modules if m.partition(".")[0] in ("something", "other")]:
        del sys.modules[module]


def test_a_distribution_adds_a_module_under_a_name(distribution: Callable[[str], Registry]) -> None:
    found = distribution("dilated = something.dilated")
    assert {"dilated", "unet"} <= set(found.names())
    assert found.summary("dilated") == "Holes that grow."
    assert found.defines("dilated", "KNOCK")
    assert "something.dilated" not in sys.modules, "read and not imported"
    assert found.find("dilated").KNOCK == 1
    assert "dilated" not in Registry("geoml.data.sources", "source").names()


def test_a_config_that_is_no_dataclass_is_refused_by_name(distribution: Callable[[str], Registry]) -> None:
    found = distribution("dilated = something.dilated")
    found.find("dilated").Config = type("Config", (BaseModel,), {})
    for ask in (found.fields, lambda name: found.configure(name, {"bands": 1})):
        with pytest.raises(InputError, match="architecture: dilated has no dataclass Config"):
            ask("dilated")


@pytest.mark.parametrize(
    ("lines", "name", "message"),
    [
        ("unet = something.dilated", "unet", r"unet is a name in geoml \(geoml.models.unet\) and something"),
        ("gone = something.gone", "gone", "something.gone of an entry point, which is not there"),
        ("far = nowhere.far", "far", "cannot be imported"),
    ],
)
def test_a_clash_and_a_module_that_is_gone_are_refused_by_name(
    distribution: Callable[[str], Registry], lines: str, name: str, message: str
) -> None:
    found = distribution(lines)
    assert name in found.names()
    for ask in (found.find, found.file):
        with pytest.raises(InputError, match=message):
            ask(name)
    assert found.find("segnet").__name__ == "geoml.models.segnet", "others are as they were"


def test_two_distributions_with_one_name_are_refused_by_name(distribution: Callable[..., Registry]) -> None:
    distribution("dilated = something.dilated")
    found = distribution("dilated = other.dilated", "other")
    with pytest.raises(InputError, match=r"other \(other.dilated\) and something \(something.dilated\)"):
        found.find("dilated")
