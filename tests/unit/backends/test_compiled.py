"""What a back end by a library does beside calling it: one shape, padding, the proof, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoml import testing
from geoml.backends._compiled import Compiled, Program
from geoml.errors import ModelError
from geoml.nn.padding import padded

CARD = testing.card("made", ["red", "nir"], ["low", "high"], stride=4).signature


class Halving(nn.Module):
    """Sees a stride of 4, and pads to it as all models do."""

    stride = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(2, 8, 4, stride=4), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, stride=4))

    def forward(self, x: Tensor) -> Tensor:
        return padded(self.net, x, self.stride)


class Library(Compiled):
    """Runs what torch has exported; a class for each way to go wrong."""

    name: ClassVar[str] = "made"
    packages: ClassVar[tuple[str, ...]] = ()
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    converted: ClassVar[list[tuple[int, ...]]] = []

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        type(self).converted.append(tuple(program.example_inputs[0][0].shape))
        torch.export.save(program, path := self._path())
        return {"made.pt2": path.read_bytes()}

    def load(self, files: Mapping[str, bytes], threads: int) -> Program:
        (path := self._path()).write_bytes(files["made.pt2"])
        module = torch.export.load(path).module()

        def run(inputs: Sequence[Tensor]) -> Tensor:
            with torch.no_grad():
                return self.spoil(module(*inputs))

        return run

    def spoil(self, found: Tensor) -> Tensor:
        return found

    def _path(self) -> Path:
        from geoml.io.stores.scratch import scratch

        return scratch() / "made.pt2"


class Shifted(Library):
    name: ClassVar[str] = "shifted"

    def spoil(self, found: Tensor) -> Tensor:
        return found.roll(1, -1)


class Edge(Library):
    """Wrong in the last rows only, as padding that was frozen is."""

    name: ClassVar[str] = "edge"

    def spoil(self, found: Tensor) -> Tensor:
        return F.pad(found[..., :-4, :], (0, 0, 0, 4))


class Unable(Library):
    name: ClassVar[str] = "unable"

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        raise NotImplementedError("max_unpool2d\nand more")


class Short(Library):
    name: ClassVar[str] = "short"
    tries: ClassVar[int] = 0

    def convert(self, program: torch.export.ExportedProgram) -> dict[str, bytes]:
        type(self).tries += 1
        raise MemoryError


@pytest.fixture(autouse=True)
def _alone(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(scratch=tmp_path / "scratch", device="cpu", precision="fp32")
    Library.converted.clear()


@torch.inference_mode()
def test_sizes_off_the_stride_share_the_program_of_the_next_size_on_it() -> None:
    network = Halving().eval()
    backend = Library(network, CARD)
    for shape in ((1, 2, 32, 32), (2, 2, 31, 29), (1, 2, 30, 32)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(backend.forward(x), network(x))
    assert Library.converted == [(1, 2, 32, 32)]


def test_a_second_one_finds_it_converted_and_other_weights_do_not() -> None:
    proof = Library(Halving(), CARD).prove(30)
    assert proof["sizes"] == [[32, 32], [30, 31]]
    assert proof["equal"] == proof["close"] == 1
    assert Library(Halving(), CARD).prove(30) == proof
    assert len(Library.converted) == 1
    changed = Halving()
    changed.net[0].bias.data += 1e-3  # type: ignore[operator, union-attr]
    Library(changed, CARD).prove(30)
    assert len(Library.converted) == 2


@pytest.mark.parametrize("kind", [Shifted, Edge])
def test_what_says_something_else_is_refused_again_and_again(kind: type[Library]) -> None:
    for _ in range(2):
        with pytest.raises(ModelError, match=r"made by \w+: .*% of the classes are those of torch"):
            kind(Halving(), CARD).prove(32)
    assert len(Library.converted) == 1  # that it fails is kept too


def test_what_cannot_be_converted_says_why_in_a_line() -> None:
    with pytest.raises(ModelError, match=r"cannot be converted \(NotImplementedError: max_unpool2d\)$"):
        Unable(Halving(), CARD).prove(32)


def test_a_lack_of_memory_is_not_kept() -> None:
    for tries in (1, 2):
        with pytest.raises(MemoryError):
            Short(Halving(), CARD).prove(32)
        assert Short.tries == tries


def test_torch_has_one_thread_while_a_library_computes() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Library(Halving(), CARD).failures():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
