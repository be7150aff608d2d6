"""Ten labels on their images, as a network learns them: half a pixel too far, or rows for columns, is seen there."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from geoml.data.targets.boxes import boxes_of
from geoml.engine.packages import cards
from geoml.engine.task import OnEpoch, find
from geoml.grid.plane import Window
from geoml.io.cards.map_card import MapCard
from geoml.io.stores.store import write_bytes, write_text
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import OUTLINE
from geoml.tasks import _loop

if TYPE_CHECKING:
    from geoml.data.recipe import RasterRecipe
    from geoml.data.scene import LabelledScene, Piece
    from geoml.io.cards.map_card import ClassInfo

NAME, PAGE = "labels.png", "scores.html"
COUNT, COLUMNS = 10, 5
SIDE, LINE, GAP = 240, 18, 8
"""Pixels of a panel, of a line of text below it, and between panels."""
CONTEXT, LEAST = 2.5, 24
"""A panel shows so many times the longer side of its box, and at least so many pixels."""
UNKNOWN = "#9ca3af"
"""Of boxes of which nothing is known."""
RIM = "#00b8d4"
"""Of outlines, where these are learnt."""
NO_DATA = 214
"""Grey of pixels without data, and beyond the image."""


@dataclass(frozen=True)
class Label:
    """A box (6,) or (7,) of a scene as `boxes_of` has it: class, whether that is unknown, top, left, bottom, right.

    The last of seven is the angle in radians by which it is turned about its middle, from east towards south.
    """

    scene: LabelledScene
    box: NDArray[np.float64]

    @property
    def shape(self) -> tuple[float, float]:
        """Height and width."""
        return self.box[4] - self.box[2], self.box[5] - self.box[3]

    @property
    def size(self) -> float:
        """Its area."""
        height, width = self.shape
        return float(height * width)

    @property
    def ring(self) -> NDArray[np.float64]:
        """(5, 2) x and y of its corners, the first once more."""
        (height, width), turn = self.shape, self.box[6] if len(self.box) > 6 else 0.0
        across, down = np.array([-1, 1, 1, -1, -1]) * width / 2, np.array([-1, -1, 1, 1, -1]) * height / 2
        x, y = (self.box[3] + self.box[5]) / 2, (self.box[2] + self.box[4]) / 2
        cos, sin = np.cos(turn), np.sin(turn)
        return np.column_stack([x + across * cos - down * sin, y + across * sin + down * cos])


def fit(recipe: Any, out: Path, on_epoch: OnEpoch | None = None) -> None:
    """As `geoml.tasks._loop.fit`; beside the package `NAME`, and the page of its scores with it."""
    from geoml.data.prepare import prepare  # scenes, which a task that is only named does without

    _loop.fit(recipe, out, on_epoch)
    if (Path(out) / PAGE).exists():
        return
    splits = prepare(recipe)
    drawn = picture([*splits["train"], *splits["val"]], recipe)
    write_bytes(Path(out) / NAME, drawn)
    scores = {"model": recipe.name, **cards.read(Path(out), MapCard).scores}
    labels = "data:image/png;base64," + base64.b64encode(drawn).decode()
    write_text(Path(out) / PAGE, find(recipe.task).page(scores | {"labels": labels}))


def picture(pieces: Sequence[Piece], recipe: RasterRecipe) -> bytes:
    """A PNG of `COUNT` labels, or of all where there are fewer, spread over classes and sizes."""
    classes: Sequence[ClassInfo] = recipe.card_fields["classes"]
    scenes = dict.fromkeys(p.scene for p in pieces)
    chosen = spread([Label(s, box) for s in scenes for box in boxes_of(s.read().target)])
    rows = max(-(-len(chosen) // COLUMNS), 1)
    page = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + 2 * LINE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(page)
    bands = [recipe.bands.index(b) for b in ("red", "green", "blue") if b in recipe.bands]
    for k, label in enumerate(chosen):
        x, y = GAP + k % COLUMNS * (SIDE + GAP), GAP + k // COLUMNS * (SIDE + 2 * LINE + GAP)
        page.paste(_panel(label, bands if len(bands) == 3 else [0] * 3, classes), (x, y))
        height, width = label.shape
        draw.text((x, y + SIDE + 2), f"{classes[int(label.box[0])].name}, {width:.4g} x {height:.4g} px", fill="black")
        draw.text((x, y + SIDE + LINE), label.scene.id[-36:], fill="#4b5563")
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()


def spread(labels: Iterable[Label], count: int = COUNT) -> list[Label]:
    """Known ones, class by class in turn; of each class by size from the smallest to the largest."""
    by_class: dict[int, list[Label]] = {}
    for label in labels:
        if not label.box[1]:
            by_class.setdefault(int(label.box[0]), []).append(label)
    shares = dict.fromkeys(sorted(by_class), 0)
    for k in _in_turn({k: len(v) for k, v in by_class.items()}, count):
        shares[k] += 1
    out = []
    for k, share in shares.items():
        ordered = sorted(by_class[k], key=lambda label: label.size)
        out += [ordered[i] for i in np.linspace(0, len(ordered) - 1, share).round().astype(int)]
    return out


def _in_turn(left: dict[int, int], count: int) -> Iterator[int]:
    """Keys in turn, each as often as it has something left."""
    while count and any(left.values()):
        for k in sorted(left):
            if left[k] and count:
                left[k], count = left[k] - 1, count - 1
                yield k


def _panel(label: Label, bands: Sequence[int], classes: Sequence[ClassInfo]) -> Image.Image:
    """The surroundings of a box, magnified without smoothing, with the edges of all boxes there."""
    sample = label.scene.read()
    top, left, bottom, right = label.box[2:6]
    side = int(np.ceil(max(CONTEXT * max(label.shape), LEAST)))
    y0, x0 = int((top + bottom - side) // 2), int((left + right - side) // 2)
    crop = np.zeros((len(bands), side, side), np.float64)
    part = Window(y0, x0, y0 + side, x0 + side).intersect(label.scene.window)
    inside = part.slices(Window(y0, x0, y0 + side, x0 + side))
    values = sample.image[np.asarray(bands)].astype(np.float64)
    low, high = (_percentiles(values, sample.valid, q) for q in (1.0, 99.0))
    crop[:, *inside] = values[:, *part.slices(label.scene.window)]
    shades = np.clip((crop - low) / np.maximum(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    known = np.zeros((side, side), bool)
    known[inside] = sample.valid[part.slices(label.scene.window)]
    shades[:, ~known] = NO_DATA
    panel = Image.fromarray(np.moveaxis(shades, 0, -1)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    draw, scale = ImageDraw.Draw(panel), SIDE / side
    for box in boxes_of(sample.target):
        ring = ((Label(label.scene, box).ring - [x0, y0]) * scale).round()
        if (ring.max(0) < 0).any() or (ring.min(0) > SIDE).any():
            continue
        color = UNKNOWN if int(box[0]) == IGNORE else classes[int(box[0])].color
        _outline(draw, [tuple(xy) for xy in ring.tolist()], color, 2 if np.allclose(box, label.box) else 1)
    if len(sample.target) > OUTLINE:
        numbers = np.zeros((side, side), np.float32)
        numbers[inside] = sample.target[OUTLINE, *part.slices(label.scene.window)]
        panel.paste(RIM, mask=_rim(numbers))
    return panel


def _rim(numbers: NDArray[np.float32]) -> Image.Image:
    """Where a panel is on the inner edge of an outline, of the numbers (n, n) of outlines by pixel."""
    large = np.asarray(Image.fromarray(numbers).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    around = np.pad(large, 1)
    others = (around[1:-1, :-2], around[1:-1, 2:], around[:-2, 1:-1], around[2:, 1:-1])
    return Image.fromarray((large > 0) & np.any([large != other for other in others], axis=0))


def _outline(draw: ImageDraw.ImageDraw, ring: list[tuple[float, ...]], color: str, width: int) -> None:
    """A frame whose middle is the edge of the box, on white so that it is seen on anything."""
    draw.line(ring, fill="white", width=width + 2)
    draw.line(ring, fill=color, width=width)


def _percentiles(values: NDArray[np.float64], valid: NDArray[np.bool_], q: float) -> NDArray[np.float64]:
    """(band, 1, 1) of what has data."""
    there = values[:, valid]
    found: NDArray[np.float64] = np.percentile(there, q, axis=1) if there.size else np.zeros(len(values))
    return found[:, None, None]
