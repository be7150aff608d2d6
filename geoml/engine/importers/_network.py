"""Shared by imports of networks: the card from files and options, the export, and the comparison with the original."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoml.engine.importers._published import difference, reference
from geoml.engine.packages import exported
from geoml.engine.packages.import_options import ImportOptions
from geoml.errors import InputError, ModelError
from geoml.io.cards.class_colours import class_colours
from geoml.io.cards.map_card import Band, ClassInfo, MapCard, usual_overlap
from geoml.io.unit_names import SPELLINGS
from geoml.texts import counted

TOLERANCE = 1e-4
"""Largest absolute difference of raw output from the original's on a chip."""
MOST = 2048
"""Pixels of a side that an exported network takes."""
CHIP = 256
Call = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Told:
    """What the files themselves say; None and empty if they do not. ``fixed``: it takes chips of one size only."""

    description: str
    channels: int | None = None
    outputs: int | None = None
    classes: Sequence[str] = ()
    chip_size: int | None = None
    stride: int = 1
    fixed: bool = False
    scale: float | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    training: dict[str, Any] = field(default_factory=dict)


def card_of(asked: ImportOptions, told: Told, out: str | Path) -> MapCard:
    """The card of a network. Raises one InputError that names every option that is missing or does not fit."""
    names, classes = asked.bands, asked.classes or tuple(told.classes)
    scale = asked.scale or told.scale
    mean, std = asked.mean or tuple(told.mean), asked.std or tuple(told.std)
    count = f" ({told.channels} names)" if told.channels else ""
    missing = [
        *([] if names else [f"--bands{count}, common names in the network's order"]),
        *([] if asked.gsd else ["--gsd, metres of a pixel"]),
        *([] if scale or (mean and std) else ["--scale, or --mean and --std, of what the network sees"]),
        *([] if classes else [f"--classes{f' ({told.outputs} names)' if told.outputs else ''}, in its order"]),
    ]
    if missing:
        raise InputError("import: the file does not contain everything; give " + "; ".join(missing))
    wrong = [
        *_count("--bands", names, told.channels),
        *_count("--classes", classes, told.outputs, two=told.outputs == 1),
        *([f"--bands has {n} twice" for n in repeated(names)]),
        *([f"--classes has {n} twice" for n in repeated([c.partition("=")[0] for c in classes])]),
        *([] if asked.unit in (None, *SPELLINGS) else [f"--unit {asked.unit}; expected one of {', '.join(SPELLINGS)}"]),
        *([f"--mean {len(mean)}; expected 1 or {len(names)}"] if mean and len(mean) not in (1, len(names)) else []),
        *([f"--std {len(std)}; expected 1 or {len(names)}"] if std and len(std) not in (1, len(names)) else []),
        *(["--std: expected numbers above zero"] if any(s <= 0 for s in std) else []),
        *_size(asked, told),
    ]
    if wrong:
        raise InputError("import: " + "; ".join(wrong))
    factor, size = scale or 1.0, asked.chip_size or told.chip_size or CHIP
    means, stds = (tuple(v) * len(names) if len(v) == 1 else tuple(v) for v in (mean or (0.0,), std or (1.0,)))
    return MapCard(
        name=asked.name or Path(out).resolve().name,
        description=told.description,
        license=asked.license or "other",
        architecture="exported",
        bands=tuple(
            Band(name=n, mean=m / factor, std=s / factor, unit=asked.unit)
            for n, m, s in zip(names, means, stds, strict=True)
        ),
        gsd=asked.gsd,
        chip_size=size,
        overlap=usual_overlap(size),
        stride=told.stride,
        classes=_classes(classes),
        training=told.training,
    )


def as_it_is(y: Tensor) -> Tensor:
    """Raw output, for comparisons of it."""
    return y


def save(
    network: nn.Module, original: Call, asked: ImportOptions, told: Told, out: str | Path, *, seen: Call = as_it_is
) -> MapCard:
    """A package in ``out`` of a network that maps (batch, band, y, x) to raw output of that size; its card.

    ``original`` gives what it has to give, and ``seen`` makes of both what is compared. Raises InputError as `card_of`,
    ModelError for a network that cannot be exported or gives anything else.
    """
    if told.outputs == 1 and len(asked.classes) == 2:
        first, told = original, replace(told, outputs=2)
        network, original = TwoClasses(network), lambda x: two_classes(first(x))
    card = card_of(asked, told, out)
    network = network.eval()
    chip = sample(len(card.bands), card.chip_size)
    try:
        with torch.no_grad():
            expected = original(chip)
    except (RuntimeError, ValueError, TypeError, IndexError) as err:
        raise ModelError(f"import: the network fails on a chip of {card.chip_size} pixels ({str(err)[:200]})") from err
    program = _program(network, card, fixed=told.fixed)
    compared = checks([(chip, expected), *given(asked)], seen)
    try:
        return exported.save_exported(program, card, out, compared)
    except ModelError as err:
        if "only plain tensors and operators" not in str(err):
            raise
    return exported.save_exported(program.run_decompositions(), card, out, compared)


class TwoClasses(nn.Module):
    """Of a network with one output, the odds of its only class: the other class has 0."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return two_classes(self.net(x))


def two_classes(y: Tensor) -> Tensor:
    """(batch, 2, y, x) logits of (batch, 1, y, x)."""
    return torch.cat([torch.zeros_like(y), y], 1)


def refuse_chances(y: Tensor, asked: ImportOptions) -> None:
    """Raise InputError for raw output (batch, class, y, x) that looks like probabilities.

    A package has logits: what is above 0 where one output stands for two classes, and a probability always is.
    """
    within = y.ndim == 4 and bool(((y >= 0) & (y <= 1)).all())
    if asked.logits or not within or (y.shape[1] > 1 and not bool(((y.sum(1) - 1).abs() < TOLERANCE).all())):
        return
    raise InputError(
        "import: the output of a chip of noise looks like probabilities; expected logits: export the network without "
        "its last sigmoid or softmax, or give --logits if these are logits"
    )


def without_sizes(told: Told) -> Told:
    """The same of a network that takes chips of one size."""
    return replace(told, fixed=True, stride=1)


def checks(pairs: Sequence[tuple[Tensor, Tensor]], seen: Call = as_it_is) -> Callable[[nn.Module], dict[str, Any]]:
    """A check of what was written and read back, for `exported.save_exported`: scores with the largest difference."""

    def compared(module: nn.Module) -> dict[str, Any]:
        with torch.no_grad():
            off = [difference(seen(module(x)), seen(y), TOLERANCE, "import") for x, y in pairs]
        return {"original_difference": max(off), "original_chips": len(off)} if off else {}

    return compared


def given(asked: ImportOptions) -> list[tuple[Tensor, Tensor]]:
    """The pair of ``--reference``, if any. Raises InputError, DataError or ModelError for one that cannot be read."""
    if asked.reference is None:
        return []
    x, y = reference(asked.reference, "a reference with `input` and `output`", ("input", "output"))
    if x.ndim != 4 or y.ndim != 4:
        raise InputError(f"reference: input {tuple(x.shape)}, output {tuple(y.shape)}; expected (batch, channel, y, x)")
    return [(x.float(), y.float())]


def sample(channels: int, size: int) -> Tensor:
    """(1, channels, size, size), standard normal."""
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(0))


def _program(network: nn.Module, card: MapCard, *, fixed: bool) -> torch.export.ExportedProgram:
    """Exported for any size that the stride admits, or for chips of the card where that fails."""
    chips = sample(len(card.bands), card.chip_size).repeat(2, 1, 1, 1)
    auto = torch.export.Dim.AUTO
    side = [torch.export.Dim(n, min=1, max=MOST // card.stride) for n in ("rows", "columns")]
    sizes = side if card.stride == 1 else [card.stride * s for s in side]
    attempts: list[dict[int, Any]] = [] if fixed else [{0: auto, 2: sizes[0], 3: sizes[1]}, {0: auto, 2: auto, 3: auto}]
    why = ""
    for dims in [*attempts, {0: auto}]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch about itself
                return torch.export.export(network, (chips,), dynamic_shapes=(dims,))
        except Exception as err:  # torch raises classes of every kind here
            why = str(err).strip().partition("\n")[0][:200]
    raise ModelError(f"import: torch.export cannot export the network ({why})")


def _count(option: str, names: Sequence[str], wanted: int | None, *, two: bool = False) -> list[str]:
    if wanted is None or len(names) == (2 if two else wanted):
        return []
    also = ", so two are wanted" if two else ""
    return [f"{option} has {counted(len(names), 'name')}; the network has {wanted}{also}"]


def repeated(names: Sequence[str]) -> list[str]:
    """Names that are there more than once."""
    return sorted({n for n in names if names.count(n) > 1})


def _size(asked: ImportOptions, told: Told) -> list[str]:
    size = asked.chip_size or told.chip_size or CHIP
    if told.fixed and told.chip_size is not None and size != told.chip_size:
        return [f"--chip-size {size}; the network takes {told.chip_size}"]
    return [f"--chip-size {size}; expected a multiple of {told.stride}"] if size % told.stride else []


def _classes(words: Sequence[str]) -> tuple[ClassInfo, ...]:
    """Classes in their order; those without a colour get one."""
    parts = [word.partition("=") for word in words]
    found = []
    for k, ((name, _, color), made) in enumerate(zip(parts, class_colours([p[0] for p in parts]), strict=True)):
        if color and not _is_color(color):
            raise InputError(f"classes: {words[k]!r}; expected a name, or a name and a colour as water=#419bdf")
        found.append(ClassInfo(value=k, name=name, color=color or made))
    return tuple(found)


def _is_color(text: str) -> bool:
    return len(text) == 7 and text[0] == "#" and all(c in "0123456789abcdefABCDEF" for c in text[1:])
