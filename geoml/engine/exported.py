"""Packages whose network is a ``.pt2`` program (torch.export): no Python of ours is needed to run it.

``torch.export.load`` trusts its file: it unpickles, evaluates expressions and looks up functions by name. So the
archive is rebuilt from the parts that are plain data, raw tensors and a graph of aten operators, and from nothing
else.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoml.engine.measure import measure
from geoml.errors import ModelError
from geoml.io import mlm, store
from geoml.io.card import ModelCard

WEIGHTS = "model.pt2"
MAX_GRAPH = 64 * 2**20
"""Bytes of the program's JSON."""

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
    """An exported program behind the same face as a model: (B, bands, H, W) float to (B, classes, H, W) logits."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        self.net = program.module(check_guards=False)  # guards are Python text
        self.batch, self.bands, self.height, self.width = _input_shape(program)
        self.stride = 1

    @property
    def fixed_size(self) -> int | None:
        """Height = width that the program insists on, or None when it takes others."""
        return self.height if self.height is not None else self.width

    def train(self, mode: bool = True) -> Exported:
        """Nothing: what training mode changes was decided when the program was exported."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.batch is None or self.batch == len(x):
            y = self.net(x)
        else:
            y = torch.cat([self.net(part) for part in torch.split(x, self.batch)])
        return y  # type: ignore[no-any-return]


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

    ``program`` takes one (B, bands, H, W) float32 tensor. Raises ModelError when it does not fit the card, or could not
    be loaded again.
    """
    directory = Path(directory)
    card = card.model_copy(update={"architecture": "exported", "weights": WEIGHTS})
    module = _checked(program, card, card.name)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with store.atomic(directory / WEIGHTS) as temporary:
        temporary.write_bytes(buffer.getvalue())
    load_exported(directory / WEIGHTS, card)
    found: dict[str, Any] = {"stride": 1, "radius": None}
    if module.fixed_size is None:
        sight = measure(module, len(card.bands) * card.dates, card.stride)
        found = {"stride": sight.stride, "radius": sight.radius}
    found["sha256"] = store.sha256(directory / WEIGHTS)
    found["parameters"] = sum(p.numel() for p in module.parameters())
    card = card.model_copy(update=found)
    item = mlm.to_item(card, (directory / WEIGHTS).stat().st_size)
    store.write_json(directory / "model.json", item.to_dict(include_self_link=False, transform_hrefs=False))
    return card


def _checked(program: torch.export.ExportedProgram, card: ModelCard, where: str) -> Exported:
    module = Exported(program)
    bands = len(card.bands) * card.dates
    if module.bands not in (None, bands):
        raise ModelError(f"{where}: the program takes {module.bands} bands, the card lists {bands}")
    if module.fixed_size not in (None, card.chip_size) or (module.height is None) != (module.width is None):
        raise ModelError(f"{where}: the program takes {module.height} x {module.width} pixels, not {card.chip_size}")
    size = card.chip_size
    with torch.no_grad():
        shape = tuple(module(torch.zeros(1, bands, size, size)).shape)
    if shape != (1, len(card.classes), size, size):
        raise ModelError(f"{where}: the output is {shape}; expected (1, {len(card.classes)} classes, {size}, {size})")
    return module


def _input_shape(program: torch.export.ExportedProgram) -> list[int | None]:
    """Batch, bands, height, width of the only input; None where the program takes any."""
    names = program.graph_signature.user_inputs
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder" and n.name in names]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(f"the program has inputs {list(names)}; expected one of shape (batch, bands, height, width)")
    return [n if isinstance(n, int) else None for n in shapes[0]]


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
