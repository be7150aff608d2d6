"""From a model of segmentation to one of change: its maps of two dates are compared (`geoml.models.compared`)."""

from __future__ import annotations

from geoml.engine.packages.package import Package, build
from geoml.errors import InputError
from geoml.io.cards.map_card import TEMPERATURE, ClassInfo, MapCard
from geoml.models.compared import kinds

UNCHANGED = ClassInfo(value=0, name="unchanged", color="#d9d9d9")
CHANGED = ClassInfo(value=1, name="changed", color="#d7301f")
MOST = 255
"""Classes that an output of one byte holds beside nodata."""


def compare(package: Package, *, binary: bool = False) -> Package:
    """A package of two dates with the weights of ``package``, which maps one.

    Its classes are unchanged and every change from one class to another, with ``before`` and ``after``; only unchanged
    and changed when ``binary``. Raises InputError for a model of another task, of several dates, without an
    architecture (an exported program) or with too many classes.
    """
    card = package.card
    if card.task != "segmentation" or card.dates != 1:
        raise InputError(f"model: {card.name} is for {card.task} of {card.dates} dates; expected segmentation of one")
    if card.architecture == "exported":
        raise InputError(f"model: {card.name} is an exported program; expected a package with an architecture")
    count = len(card.classes)
    if count < 2:
        raise InputError(f"classes: {card.name} has one class; expected at least two to compare")
    if not binary and kinds(count) > MOST:
        raise InputError(
            f"classes: {count} give {kinds(count)} kinds of change, more than {MOST}; expected at most 16, or binary"
        )
    fixed = ("bands", "dates", "classes", "encoder_weights")  # by the data, and where the weights came from
    config = {k: v for k, v in card.config.items() if k not in fixed}
    calibrated = {TEMPERATURE: card.made[TEMPERATURE]} if TEMPERATURE in card.made else {}
    new = MapCard(
        name=f"{card.name}-compared",
        description=f"Change between two maps of {card.name}",
        license=card.license,
        architecture="compared",
        config={"architecture": card.architecture, "config": config, "inner": count, **calibrated},
        task="change",
        bands=card.bands,
        gsd=card.gsd,
        anchor=card.anchor,
        dates=2,
        chip_size=card.chip_size,
        overlap=card.overlap,
        window=card.window,
        stride=card.stride,
        radius=card.radius,
        classes=(UNCHANGED, CHANGED) if binary else (UNCHANGED, *_pairs(card)),
        parameters=card.parameters,
        training={"compared": {"model": card.name, "version": card.version, "sha256": card.sha256}},
        bbox=card.bbox,
        domain=card.domain,
    )
    module = build(new)
    module.get_submodule("net").load_state_dict(package.module.state_dict())
    return Package(module.eval(), new, package.path)


def _pairs(card: MapCard) -> list[ClassInfo]:
    pairs = [(a, b) for a in card.classes for b in card.classes if a.value != b.value]
    return [
        ClassInfo(value=k, name=f"{a.name} to {b.name}", color=_mixed(a.color, b.color), before=a.name, after=b.name)
        for k, (a, b) in enumerate(pairs, 1)
    ]


def _mixed(before: str, after: str) -> str:
    """A colour between two, nearer to the second, so that neither direction nor start is lost."""
    a, b = ([int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (before, after))
    return "#" + "".join(f"{round((x + 3 * y) / 4):02x}" for x, y in zip(a, b, strict=True))
