"""Packages of every kind are read once, checked and written alike; nothing damaged or executable gets in."""

from __future__ import annotations

import functools
import json
import pickle
import resource
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from geoml.engine.packages import cards, exported, package, weights
from geoml.engine.train.transfer import transfer
from geoml.errors import DataError, InputError, ModelError
from geoml.geolocation import heads
from geoml.geolocation.cards.locator import LocatorCard
from geoml.geolocation.locate import locator
from geoml.io.cards.card import ModelCard
from geoml.io.stores import store
from tests.serving import serving
from tests.unit.engine.packages.tiny_water import CARD, network


def tiny_locator() -> locator.Locator:
    torch.manual_seed(0)
    backbone = locator.build_backbone("timm:test_resnet.r160_in1k").eval()
    head: Any = heads.build("latlon", {"features": backbone.features, "hidden": 4}).eval()
    card = LocatorCard(
        name="tiny-places", kind="photo", license="MIT", data_license="CC0-1.0", backbone=backbone.name, head="latlon",
        head_config=asdict(head.config), features=backbone.features, size=32, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2),
    )  # fmt: skip
    return locator.Locator(backbone, head, card)


@dataclass(frozen=True)
class Kind:
    """``made`` writes a package to a folder, ``broken`` tries to with a weight that is not finite; ``weight`` has two
    values."""

    made: Callable[[Path], ModelCard]
    broken: Callable[[Path], ModelCard]
    load: Callable[[str | Path], Any]
    weight: str


def broken_water(folder: Path) -> ModelCard:
    module = network()
    with torch.no_grad():
        next(module.parameters()).fill_(float("inf"))
    return package.save(module, CARD, folder)


def broken_locator(folder: Path) -> ModelCard:
    made = tiny_locator()
    with torch.no_grad():
        next(made.head.parameters()).fill_(float("nan"))
    return locator.save(made, folder)


KINDS = {
    "map": Kind(lambda folder: package.save(network(), CARD, folder), broken_water, package.load, "head.bias"),
    "locator": Kind(
        lambda folder: locator.save(tiny_locator(), folder, half=False), broken_locator, locator.load, "head.net.3.bias"
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def folder(kind: Kind, tmp_path: Path) -> Path:
    """A package of the kind."""
    kind.made(tmp_path / "p")
    return tmp_path / "p"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    item = json.loads((folder / "model.json").read_text())
    change(item)
    (folder / "model.json").write_text(json.dumps(item))


def point(folder: Path, name: str, sha256: str | None = None) -> None:
    """Let the card name another file of weights, and its checksum if it is there."""
    said = sha256 or (store.sha256(folder / name) if (folder / name).is_file() else "0" * 64)

    def change(item: dict[str, Any]) -> None:
        item["assets"]["model"].update({"href": name, "file:checksum": f"1220{said}"})
        item["properties"].get("geoml:locator", {}).update({"weights": name, "sha256": said})

    edit(folder, change)


def replace_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Other weights with a checksum that fits them."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    point(folder, "model.safetensors")


def replace_content(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    point(folder, "model.safetensors")


def test_what_was_saved_is_loaded_with_the_same_card(kind: Kind, tmp_path: Path) -> None:
    written = kind.made(tmp_path / "p")
    loaded = kind.load(tmp_path / "p")
    assert loaded.card == written == cards.read_any(tmp_path / "p")
    assert loaded.path == tmp_path / "p"
    assert written.sha256 == store.sha256(tmp_path / "p" / written.weights)
    assert written.parameters > 0


def test_saving_twice_gives_the_same_bytes_and_nothing_else(kind: Kind, folder: Path) -> None:
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert set(before) == {"model.json", "model.safetensors"}
    kind.made(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_weights_that_are_not_finite_are_not_saved(kind: Kind, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not finite"):
        kind.broken(tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_what_fails_leaves_the_old_package_whole(kind: Kind, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the card cannot be written after the weights."""
    replace_weights(folder, lambda tensors: tensors.update({kind.weight: torch.tensor([5.0, 7.0])}))
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*_: object) -> None:
        raise DataError("the disk is full")

    monkeypatch.setattr(store, "write_json", full)
    with pytest.raises(DataError, match="full"):
        kind.made(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_named(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file"):
        kind.made(tmp_path / "file" / "p")


def test_a_flipped_byte_is_found(kind: Kind, folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="damaged, sha256"):
        kind.load(folder)


def test_a_truncated_file_and_a_missing_checksum_are_found(kind: Kind, folder: Path) -> None:
    edit(folder, lambda item: item["assets"]["model"].pop("file:checksum"))
    edit(folder, lambda item: item["properties"].get("geoml:locator", {}).pop("sha256", None))
    with pytest.raises(ModelError, match="the card says nothing"):
        kind.load(folder)
    content = (folder / "model.safetensors").read_bytes()
    replace_content(folder, content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged or no safetensors"):
        kind.load(folder)


def test_weights_that_do_not_fit_are_named(kind: Kind, tmp_path: Path) -> None:
    name = kind.weight
    cases: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
        f"missing {name}": lambda t: t.pop(name),
        "unexpected extra": lambda t: t.update(extra=torch.zeros(1)),
        rf"{name} is \(3,\), expected \(2,\)": lambda t: t.update({name: torch.zeros(3)}),
        f"{name} is not finite": lambda t: t.update({name: torch.tensor([float("nan"), 0.0])}),
    }
    for number, (message, change) in enumerate(cases.items()):
        kind.made(tmp_path / str(number))
        replace_weights(tmp_path / str(number), change)
        with pytest.raises(ModelError, match=message):
            kind.load(tmp_path / str(number))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/../../model.safetensors", "..", ""])
def test_weights_outside_the_package_are_refused(kind: Kind, folder: Path, name: str) -> None:
    (folder.parent / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    point(folder, name, store.sha256(folder / "model.safetensors"))
    with pytest.raises(ModelError, match=r"beside the card|does not exist"):
        kind.load(folder)


def test_weights_that_are_gone_are_named(kind: Kind, folder: Path) -> None:
    point(folder, "gone.safetensors")
    with pytest.raises(ModelError, match=r"the card names gone\.safetensors, which does not exist"):
        kind.load(folder)


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pt2", "model.pkl"])
def test_a_pickle_is_never_executed(kind: Kind, folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    point(folder, name)
    with pytest.raises(ModelError, match=r"a pickle is never executed|damaged or no safetensors"):
        kind.load(folder)
    edit(folder, lambda item: item["assets"]["model"].update({"mlm:artifact_type": "torch.export.save"}))
    if kind is KINDS["map"]:
        edit(folder, lambda item: item["properties"].update({"geoml:architecture": "exported"}))
    with pytest.raises(ModelError):
        kind.load(folder)
    assert not (tmp_path / "executed").exists()


def header(claimed: int, text: bytes = b"{}", data: bytes = b"") -> bytes:
    """A safetensors file by hand: length of the header, the header, the data."""
    return claimed.to_bytes(8, "little") + text + data


def entry(shape: list[int], offsets: list[int], dtype: str = "F32") -> bytes:
    return json.dumps({"head.bias": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


FAR = entry([2**40], [0, 2**42])
OVER = entry([2], [0, 8])
HOSTILE = {
    "empty": b"",
    "2**62": header(2**62),
    "200 MB": header(200 * 2**20),
    "terabytes": header(len(FAR), FAR, bytes(64)),
    "beyond": header(len(OVER), OVER, bytes(4)),
    "list": header(2, b"[]"),
    "no text": header(3, b"{\xff}"),
    "deep": header(50_000, b"[" * 50_000),
    "backwards": header(len(entry([2], [8, 0])), entry([2], [8, 0]), bytes(8)),
    "negative": header(len(entry([-2], [0, 8])), entry([-2], [0, 8]), bytes(8)),
    "dtype": header(len(entry([2], [0, 8], "X9")), entry([2], [0, 8], "X9"), bytes(8)),
}


def test_hostile_headers_are_refused_before_anything_is_allocated(kind: Kind, folder: Path) -> None:
    """Their checksum fits, so safetensors itself has to refuse them; a header may promise what it likes."""
    for content in HOSTILE.values():
        replace_content(folder, content)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ModelError, match=r"model\.safetensors: damaged or no safetensors"):
            kind.load(folder)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """After the first opening a file of the folder holds another text; the names that were opened."""

    def watch(folder: Path) -> list[str]:
        opened: list[str] = []
        original = Path.open

        def open_(self: Path, *args: Any, **kwargs: Any) -> Any:
            if self.parent != folder:
                return original(self, *args, **kwargs)
            opened.append(self.name)
            with original(self, "rb") as file:
                content = file.read()
            with original(self, "wb") as file:
                file.write(b"replaced")
            same = tempfile.TemporaryFile()  # noqa: SIM115  for who opens it
            same.write(content)
            same.seek(0)
            return same

        monkeypatch.setattr(Path, "open", open_)
        return opened

    return watch


def test_a_package_is_read_once(kind: Kind, folder: Path, once: Callable[[Path], list[str]]) -> None:
    made = cards.read_any(folder)
    opened = once(folder)
    assert kind.load(folder).card == made
    assert sorted(opened) == ["model.json", "model.safetensors"]
    with pytest.raises(ModelError, match="not a model card"):
        kind.load(folder)


def test_a_card_of_any_kind_is_read_once(folder: Path, once: Callable[[Path], list[str]]) -> None:
    opened = once(folder)
    assert cards.read_any(folder).name.startswith("tiny-")
    assert opened == ["model.json"]


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


def test_an_exported_program_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    program = torch.export.export(Twice().eval(), (torch.zeros(1, 2, 8, 8),))
    exported.save_exported(program, CARD.model_copy(update={"chip_size": 8}), tmp_path)
    opened = once(tmp_path)
    package.load(tmp_path)
    assert sorted(opened) == ["model.json", "model.pt2"]


def test_a_package_to_start_from_is_read_once(tmp_path: Path, once: Callable[[Path], list[str]]) -> None:
    package.save(network(), CARD, tmp_path)
    opened = once(tmp_path)
    assert transfer(network(), str(tmp_path), ["vh", "vv"])["share"] == 1.0
    assert sorted(opened) == ["model.json", "model.safetensors"]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(folder: Path, machine: Callable[..., None], tmp_path: Path) -> Iterator[str]:
    """The folder, served by HTTP."""
    machine(scratch=tmp_path / "scratch", private_hosts=True, retries=1)
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def test_a_package_elsewhere_is_fetched(kind: Kind, folder: Path, url: str) -> None:
    assert kind.load(url).card == cards.read_any(folder)
    point(folder, "gone.safetensors")
    with pytest.raises(InputError, match=r"gone\.safetensors: not found"):
        kind.load(f"{url}/")


def test_weights_of_another_checksum_and_none(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"1")
    with pytest.raises(ModelError, match="damaged, sha256 is 6b86b273ff34…, the card says nothing"):
        weights.read_weights(tmp_path / "w", "")
    with pytest.raises(ModelError, match="not readable"):
        weights.read_weights(tmp_path / "none", "")
