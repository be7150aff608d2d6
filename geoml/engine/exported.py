"""Packages whose network is a ``.pt2`` program (torch.export): no Python of ours is needed to run it.

``torch.export.load`` trusts its file: it unpickles, evaluates expressions and looks up functions by name. So the
archive is rebuilt from the parts that are plain data, raw tensors and a graph of aten operators, and from nothing
else.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geoml.engine.admitted import axes
from geoml.engine.measure import Sight, measure
from geoml.errors import ModelError
from geoml.grid.chips import exact_grid
from geoml.io import mlm, store
from geoml.io.card import ModelCard

WEIGHTS = "model.pt2"
MAX_GRAPH = 64 * 2**20
"""Bytes of the program's JSON."""
DEEPEST = 64
"""Pixels: no common encoder halves its input more than six times."""

_RECORD = re.compile(r"[^/]+/(data/(weights|constants)/[\w.]+|archive_format|archive_version|byteorder|\.data/\w+)")
_RAW = re.compile(r"(weight|tensor)_\d+")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision)\.\w+\.\w+|_operator\.(add|sub|mul|floordiv|mod|neg|eq|ge|gt|le|lt|ne)"
)
_PLAIN = re.compile(r"[\w.\-+ ]*")
_EXPRESSION = re.compile(
    r"(Mul|Add|Pow|Integer|Symbol|FloorDiv|CleanDiv|Mod|PythonMod|Max|Min|positive|nonnegative|integer|True|False"
    r"|'[su]\d+'|\b[su]\d+\b|[\d\s(),=+*/-])*"
)
_SPEC_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}


class Exported(nn.Module):
    """An exported program behind the same face as a model: (B, bands, H, W) float to (B, classes, H, W) logits.

    Sizes that the program does not admit are grown to the next one that it does (edge pixels are repeated at the bottom
    and right, samples at the end) and the output is cropped back. Raises ModelError where none is large enough.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.net = program.module(check_guards=False)  # guards are Python text
        self.batch, self.bands, self.height, self.width = axes(program)
        self.stride = 1

    @property
    def fixed_size(self) -> int | None:
        """Height = width that the program insists on, or None when it takes others."""
        return self.height.fixed or self.width.fixed

    @property
    def most(self) -> int | None:
        """Largest height = width that the program takes; None: any."""
        return min((n for n in (self.height.most, self.width.most) if n is not None), default=None)

    @torch.no_grad()
    def probe_multiples(self, size: int) -> None:
        """Find the multiple that free sizes need, from ``size``, which works, in steps of 1, 2, 4 … pixels.

        With `torch.export.Dim.AUTO` it stands in guards only, which are text to be evaluated and not looked at.
        """
        if self.height.step > 1 or self.width.step > 1 or self.fixed_size is not None:
            return
        for step in (2**k for k in range(DEEPEST.bit_length())):
            try:
                near = size + step if self.most is None or size + step <= self.most else size - step
                if tuple(self(torch.zeros(1, self.bands.least, near, near)).shape[-2:]) == (near, near):
                    break
            except (RuntimeError, ValueError, AssertionError):
                continue
        self.height, self.width = (replace(a, step=step, offset=size % step) for a in (self.height, self.width))

    def train(self, mode: bool = True) -> Exported:
        """Nothing: what training mode changes was decided when the program was exported."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        down, right = self.height.above(height), self.width.above(width)
        if self.height.symbol is not None and self.height.symbol == self.width.symbol:
            down = right = max(down, right)
        if (down, right) != (height, width):
            x = functional.pad(x, (0, right - width, 0, down - height), mode="replicate")
        y = torch.cat([self._samples(part) for part in torch.split(x, self.batch.most or len(x))])
        return y[..., :height, :width]

    def _samples(self, x: Tensor) -> Tensor:
        count = self.batch.above(len(x))
        y: Tensor = self.net(torch.cat([x, x[-1:].expand(count - len(x), -1, -1, -1)]) if count > len(x) else x)
        return y[: len(x)]


def load_exported(path: Path, card: ModelCard) -> Exported:
    """Read a program and check it against its card. Raises ModelError for anything but plain tensors and operators."""
    try:
        program = torch.export.load(_rebuilt(path))
    except ModelError:
        raise
    except Exception as err:  # torch raises every kind for a damaged program
        raise ModelError(f"{path}: not a torch.export program that this torch can load ({err})") from err
    return _checked(program, card, str(path))


def save_exported(program: torch.export.ExportedProgram, card: ModelCard, directory: str | Path) -> ModelCard:
    """Write a package around an exported program; the card as written, with measured stride and radius.

    ``program`` takes one (B, bands, H, W) float32 tensor; where its sizes are free, only those that it admits are
    tried. The card comes last, and nothing is left behind by what fails. Raises ModelError when the program does not
    fit the card, or could not be loaded again, DataError when the folder cannot be written.
    """
    card = card.model_copy(update={"architecture": "exported", "weights": WEIGHTS})
    _checked(program, card, card.name)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with store.folder(directory, last="model.json") as folder:
        (folder / WEIGHTS).write_bytes(buffer.getvalue())
        module = load_exported(folder / WEIGHTS, card)
        sight = _sight(module, card)
        card = card.model_copy(
            update={
                "stride": sight.stride,
                "radius": sight.radius,
                "sha256": store.sha256(folder / WEIGHTS),
                "parameters": sum(p.numel() for p in module.parameters()),
            }
        )
        item = mlm.to_item(card, (folder / WEIGHTS).stat().st_size)
        store.write_json(folder / "model.json", item.to_dict(include_self_link=False, transform_hrefs=False))
    return card


def _sight(module: Exported, card: ModelCard) -> Sight:
    """Stride and radius of a program with free sizes; no radius where a chip with its halo would be too large for it.

    A program does not say its stride, so the search starts at the deepest that encoders have.
    """
    if module.fixed_size is not None:
        return Sight(None, 1)
    start = math.lcm(card.stride, module.height.step, module.width.step)
    if start & (start - 1) == 0:
        start = max(start, DEEPEST)
    sizes = tuple(n for n in (256, 512, 1024) if module.most is None or n <= module.most)
    try:
        found = measure(module, len(card.bands) * card.dates, start, sizes=sizes)
    except ModelError:  # a sight so wide that the program takes no scene of its size
        found = Sight(None, start)
    if found.radius is not None:
        size = exact_grid(card.chip_size, found.radius, found.stride).size
        if module.most is None or size <= module.most:
            return found
    return Sight(None, card.stride)


def _checked(program: torch.export.ExportedProgram, card: ModelCard, where: str) -> Exported:
    module = Exported(program)
    bands, size = len(card.bands) * card.dates, card.chip_size
    height, width = module.height.fixed, module.width.fixed
    if module.bands.fixed not in (None, bands):
        raise ModelError(f"{where}: the program takes {module.bands.fixed} bands, the card lists {bands}")
    if module.fixed_size not in (None, size) or (height is None) != (width is None):
        raise ModelError(f"{where}: the program takes {height} x {width} pixels, not {size}")
    if module.most is not None and size > module.most:
        raise ModelError(f"{where}: the program takes up to {module.most} pixels a side, the card has chips of {size}")
    try:
        with torch.no_grad():
            shape = tuple(module(torch.zeros(1, bands, size, size)).shape)
    except (RuntimeError, ValueError, AssertionError) as err:
        raise ModelError(f"{where}: the program fails on a chip of {size} pixels ({err})") from err
    if shape != (1, len(card.classes), size, size):
        raise ModelError(f"{where}: the output is {shape}; expected (1, {len(card.classes)} classes, {size}, {size})")
    module.probe_multiples(size)
    return module


def _rebuilt(path: Path) -> io.BytesIO:
    """The archive again, from checked parts only: no pickled example inputs, no guards, no traces of source code."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {i.filename: archive.read(i) for i in archive.infolist() if i.file_size <= path.stat().st_size}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as err:
        raise ModelError(f"{path}: not a .pt2 archive ({err})") from err
    graphs = [n for n in parts if re.fullmatch(r"[^/]+/models/\w+\.json", n)]
    if len(graphs) != 1:
        raise ModelError(f"{path}: {len(graphs)} programs in the archive; expected one")
    root, _, name = graphs[0].partition("/models/")
    sample = f"{root}/data/sample_inputs/{name.removesuffix('.json')}.pt"
    for record, content in parts.items():
        if record in (graphs[0], sample):
            continue
        if not _RECORD.fullmatch(record) or record.endswith(".pt"):
            raise ModelError(f"{path}: {record} is not part of a plain program; only tensors and operators are loaded")
        if record.endswith("_config.json"):
            _check_payload(path, content)
    parts[graphs[0]] = _checked_graph(path, parts[graphs[0]])
    empty = io.BytesIO()
    torch.save(((), {}), empty)
    parts[sample] = empty.getvalue()
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(rebuilt, "w", zipfile.ZIP_STORED) as archive:
        for record, content in parts.items():
            archive.writestr(record, content)
    rebuilt.seek(0)
    return rebuilt


def _check_payload(path: Path, content: bytes) -> None:
    for name, entry in json.loads(content)["config"].items():
        if entry.get("use_pickle") or not _RAW.fullmatch(entry["path_name"]):
            raise ModelError(f"{path}: {name} is pickled; a pickle is never executed")


def _checked_graph(path: Path, content: bytes) -> bytes:
    if len(content) > MAX_GRAPH:
        raise ModelError(f"{path}: a graph of {len(content)} bytes; expected at most {MAX_GRAPH}")
    program = json.loads(content)
    program["guards_code"] = []
    program["graph_module"]["metadata"] = {}
    program["graph_module"]["treespec_namedtuple_fields"] = {}
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"] = {}
    for key, text in _texts(program):
        if key == "target":
            good = _OPERATOR.fullmatch(text) is not None
        elif key == "expr_str" or key == "range_constraints":
            good = _EXPRESSION.fullmatch(text) is not None
        elif key in ("in_spec", "out_spec"):
            good = not text or _plain_spec(json.loads(text))
        else:
            good = _PLAIN.fullmatch(text) is not None
        if not good:
            raise ModelError(f"{path}: {key} {text[:80]!r} in the program; only plain tensors and operators are loaded")
    return json.dumps(program).encode()


def _texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a JSON value with the key it stands under; keys of mappings count as well."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield key if key == "range_constraints" else "key", name
            yield from _texts(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, key)
    elif isinstance(value, str):
        yield key, value


def _plain_spec(spec: Any) -> bool:
    """True for the JSON of a pytree of tuples, lists and dicts."""
    if isinstance(spec, list):
        return all(_plain_spec(part) for part in spec)
    if isinstance(spec, dict):
        return spec.get("type") in _SPEC_TYPES and _plain_spec(spec.get("children_spec", []))
    return isinstance(spec, int)
