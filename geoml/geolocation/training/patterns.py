"""Pictures that nobody photographed: blanks, and grounds nearby as fields, towns, woods and slopes look from above.

They need to be like the real ones only as far as the features of a locator see: grain, edges, colours and their spread.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]
Rng = np.random.Generator

EARTH = np.array([
    (120, 100, 70), (160, 140, 100), (90, 110, 60), (60, 90, 40), (40, 60, 30), (190, 175, 140), (110, 120, 80),
    (140, 90, 60), (200, 200, 190), (80, 75, 65), (150, 160, 90), (35, 50, 45),
], np.float32)  # fmt: skip
"""Soils, crops, grass, woods, sand, rock and roads in daylight."""


def fractal(rng: Rng, size: int, power: float) -> Field:
    """(size, size) within 0 and 1: noise whose spectrum falls with the ``power`` of the frequency."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    strength = np.maximum(np.hypot(fy, fx), 1 / size) ** (-power)
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * strength, (size, size))
    low, high = np.percentile(field, (0.5, 99.5))
    return np.asarray(np.clip((field - low) / max(high - low, 1e-9), 0, 1), np.float32)


def shaded(height: Field, towards: float, steep: float) -> Field:
    """(H, W) within 0 and 1: a hill shade of the slopes, light falling at 45 degrees towards an azimuth (Horn 1981)."""
    dy, dx = np.gradient(height / max(float(height.max() - height.min()), 1e-6) * steep * 10)
    a = np.radians(towards)
    light = (1 + dx * np.sin(a) - dy * np.cos(a)) / np.sqrt(2 * (1 + dx**2 + dy**2))
    return np.asarray(np.clip(light, 0, 1), np.float32)


def _nearest(points: NDArray[np.floating], size: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(size, size) how far each pixel is from the nearest of (N, 2) points, and the number of that."""
    y, x = np.mgrid[:size, :size]
    far, which = cKDTree(points).query(np.stack([y, x], -1).reshape(-1, 2))
    return far.reshape(size, size), which.reshape(size, size)


def _word(rng: Rng, letters: int) -> str:
    return "".join(chr(int(c)) for c in rng.integers(97, 122, letters))


def clouds(rgb: Pixels, rng: Rng) -> Pixels:
    """Clouds of any cover over a picture."""
    cover = np.clip((fractal(rng, len(rgb), rng.uniform(1.2, 2.0)) - rng.uniform(0.2, 0.8)) * 4, 0, 1)[..., None]
    return np.asarray(rgb * (1 - cover) + 245 * cover, np.uint8)


def wedge(rgb: Pixels, rng: Rng) -> Pixels:
    """A side or corner without data, in black or white."""
    size = len(rgb)
    y, x = np.mgrid[:size, :size] / size - 0.5
    turn = rng.uniform(0, 2 * np.pi)
    out = rgb.copy()
    out[x * np.cos(turn) + y * np.sin(turn) > rng.uniform(0.0, 0.45)] = 0 if rng.random() < 0.6 else 255
    return out


def waves(rng: Rng, size: int) -> Pixels:
    """Water nearby: a blue or green with crests in one direction, sometimes foam."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    turn, length = rng.uniform(0, np.pi), rng.uniform(3, 40)
    along = x * np.cos(turn) + y * np.sin(turn) + 12 * fractal(rng, size, 1.5)
    height = 0.5 * np.sin(along * 2 * np.pi / length) + fractal(rng, size, rng.uniform(0.5, 1.5)) - 0.5
    base = np.array([rng.uniform(0, 60), rng.uniform(20, 120), rng.uniform(50, 150)])
    out = base + rng.uniform(2, 40) * height[..., None]
    if rng.random() < 0.3:
        out = np.where((height > np.quantile(height, rng.uniform(0.9, 0.995)))[..., None], 225, out)
    return _u8(out)


def _constant(rng: Rng, size: int) -> Pixels:
    colour = [(255,) * 3, (0,) * 3, (int(rng.integers(256)),) * 3, tuple(rng.integers(0, 256, 3))][int(rng.integers(4))]
    return _u8(np.broadcast_to(np.array(colour, np.float32), (size, size, 3)) + rng.normal(0, rng.choice([0, 2, 6]), 3))


def _ramp(rng: Rng, size: int) -> Pixels:
    """From one colour to another, along a line or about a place, once or several times."""
    y, x = np.mgrid[:size, :size] / size
    turn = rng.choice([0.0, np.pi / 2, rng.uniform(0, 2 * np.pi)])
    t = x * np.cos(turn) + y * np.sin(turn) if rng.random() < 0.7 else np.hypot(x - rng.random(), y - rng.random())
    t = (t - t.min()) / (t.max() - t.min()) * rng.choice([1, 1, 1, 2, 5]) % 1.0001
    ends = rng.uniform(0, 256, (2, 3)) if rng.random() < 0.6 else np.array([[0.0] * 3, [255.0] * 3])
    out = ends[0] + (ends[1] - ends[0]) * t[..., None]
    if rng.random() < 0.2:  # red along x, green along y
        out = np.stack([x * 255, y * 255, np.full_like(x, rng.uniform(0, 255))], -1)
    return _u8(out)


def _noise(rng: Rng, size: int) -> Pixels:
    """White to smooth noise, grey or in colours, on any ground colour."""
    shape = (size, size, 1 if rng.random() < 0.5 else 3)
    grain = ndimage.gaussian_filter(rng.normal(size=shape), (*(rng.choice([0, 0, 1, 3, 12]),) * 2, 0))
    return _u8(rng.uniform(0, 255, 3) + grain / max(float(grain.std()), 1e-6) * rng.uniform(2, 90))


def _checks(rng: Rng, size: int) -> Pixels:
    """Squares or stripes of two colours, or bars of many."""
    step = int(rng.integers(2, max(3, size // 3)))
    y, x = np.mgrid[:size, :size] // step
    which = [x + y, x, y][int(rng.integers(3))]
    count = int(rng.choice([2, 2, 8]))
    return _u8(rng.uniform(0, 256, (count, 3))[which % count])


def _page(rng: Rng, size: int) -> Pixels:
    """A sheet with lines, boxes, circles or words on it: a document, a diagram, a plan."""
    dark = rng.random() < 0.15
    image = Image.new("RGB", (size, size), (20, 20, 24) if dark else tuple(int(v) for v in rng.integers(225, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 40))):
        colour = tuple(int(v) for v in (rng.integers(0, 256, 3) if rng.random() < 0.5 else [230 if dark else 20] * 3))
        a, b = rng.integers(0, size, 2), rng.integers(0, size, 2)
        low, high = np.minimum(a, b).tolist(), (np.maximum(a, b) + 1).tolist()
        what = rng.random()
        if what < 0.35:
            draw.text((int(a[0]), int(a[1])), "".join(chr(int(c)) for c in rng.integers(65, 122, 8)), fill=colour)
        elif what < 0.65:
            draw.line([*a.tolist(), *b.tolist()], fill=colour, width=int(rng.integers(1, 4)))
        elif what < 0.85:
            draw.rectangle([*low, *high], outline=colour, fill=colour if rng.random() < 0.3 else None)
        else:
            draw.ellipse([*low, *high], outline=colour, fill=colour if rng.random() < 0.3 else None)
    return np.asarray(image, np.uint8)


def _mist(rng: Rng, size: int) -> Pixels:
    """Clouds or snow all over."""
    return _u8(
        rng.uniform(170, 240) + 60 * (fractal(rng, size, rng.uniform(1.0, 2.5))[..., None] - 0.5) + rng.normal(0, 4, 3)
    )


def _fields(rng: Rng, size: int) -> Pixels:
    """Parcels, each with its colour and rows, between paths."""
    count = int(rng.integers(4, 60))
    seeds = rng.uniform(0, size, (count, 2))
    y, x = np.mgrid[:size, :size].astype(np.float32)
    if rng.random() < 0.6:  # a grid of parcels
        turn, step = rng.uniform(0, np.pi), size / np.sqrt(count)
        u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        cell = np.floor(u / (step * rng.uniform(0.6, 1.8))) * 31 + np.floor(v / step)
        _, owner = np.unique(cell, return_inverse=True)
        owner = owner.reshape(size, size)
        count = int(owner.max()) + 1
    else:
        owner = _nearest(seeds, size)[1]
    out = EARTH[rng.integers(0, len(EARTH), count)][owner] + rng.normal(0, 10, (count, 3))[owner]
    along, apart = rng.uniform(0, np.pi, count)[owner], rng.uniform(2, 9, count)[owner]
    rows = np.sin((x * np.cos(along) + y * np.sin(along)) * 2 * np.pi / apart) * rng.uniform(0, 14, count)[owner]
    out += rows[..., None] + 20 * (fractal(rng, size, 1.0)[..., None] - 0.5)
    edge = (ndimage.maximum_filter(owner, 3) != ndimage.minimum_filter(owner, 3))[..., None]
    return _u8(np.where(edge, EARTH[int(rng.integers(len(EARTH)))], out) if rng.random() < 0.7 else out)


def _town(rng: Rng, size: int) -> Pixels:
    """Roofs with shadows along streets, with trees between."""
    ground = EARTH[int(rng.integers(len(EARTH)))] + 40 * (fractal(rng, size, 1.2)[..., None] - 0.5)
    image = Image.fromarray(_u8(ground))
    draw = ImageDraw.Draw(image)
    step, road = float(rng.uniform(10, 70)), tuple(int(v) for v in rng.integers(70, 170, 1).repeat(3))
    turn, wide = rng.uniform(0, np.pi / 2), float(rng.uniform(0.08, 0.25))
    c, s = np.cos(turn), np.sin(turn)
    reach, shade = size * 1.5, rng.uniform(-0.2, 0.2, 2) * step
    for k in np.arange(-reach, reach, step * rng.uniform(1, 4)):
        for (x0, y0), (x1, y1) in (((k, -reach), (k, reach)), ((-reach, k), (reach, k))):
            line = [(x0 * c - y0 * s, x0 * s + y0 * c), (x1 * c - y1 * s, x1 * s + y1 * c)]
            draw.line(line, fill=road, width=max(1, int(step * wide)))
    roofs = [tuple(int(v) for v in EARTH[i] * f) for i, f in
             zip(rng.integers(0, len(EARTH), 6), rng.uniform(0.7, 1.3, 6), strict=True)]  # fmt: skip
    for u in np.arange(-reach, reach, step):
        for v in np.arange(-reach, reach, step):
            if rng.random() < 0.35:
                continue
            half = step * rng.uniform(0.15, 0.4, 2)
            box = [(u + a * half[0], v + b * half[1]) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            outline = np.array([(x * c - y * s, x * s + y * c) for x, y in box])
            if rng.random() < 0.2:
                r, (x, y) = half[0], outline.mean(0)
                draw.ellipse([x - r, y - r, x + r, y + r], fill=(40, 65, 35))
                continue
            draw.polygon([tuple(p) for p in outline + shade], fill=(25, 25, 30))
            draw.polygon([tuple(p) for p in outline], fill=roofs[int(rng.integers(6))])
    return _u8(np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 8), (size, size, 1)))


def _woods(rng: Rng, size: int) -> Pixels:
    """Crowns, lit from one side, over soil or grass."""
    count, radius = int(rng.integers(20, 900)), float(rng.uniform(2, 18))
    far, which = _nearest(rng.uniform(0, size, (count, 2)), size)
    own = radius * rng.uniform(0.5, 1.3, count)[which]
    dome = np.sqrt(np.clip(1 - (far / own) ** 2, 0, 1))
    light = 0.55 + 0.9 * (shaded(np.asarray(dome, np.float32), rng.uniform(0, 360), 1.5) - 0.4)
    crown = np.array([60, 90, 45]) * rng.uniform(0.5, 1.5, (count, 1))[which] + rng.normal(0, 8, 3)
    soil = EARTH[int(rng.integers(len(EARTH)))] + 30 * (fractal(rng, size, 1.0)[..., None] - 0.5)
    return _u8(np.where((far < own)[..., None], crown * light[..., None], soil) + rng.normal(0, 6, (size, size, 1)))


def _slopes(rng: Rng, size: int) -> Pixels:
    """Rough ground between colours, with relief or without: rock, moor, scrub, sand."""
    height = fractal(rng, size, rng.uniform(0.8, 2.2))
    a, b, c = EARTH[rng.integers(0, len(EARTH), 3)]
    cover = fractal(rng, size, rng.uniform(0.6, 1.8))[..., None]
    out = a + (b - a) * height[..., None] + (c - a) * np.clip(cover * 3 - rng.uniform(0.5, 2), 0, 1)
    if rng.random() < 0.6:
        out = out * (0.4 + 0.9 * shaded(height, rng.uniform(0, 360), rng.uniform(1, 6))[..., None])
    if rng.random() < 0.3:  # a river or a road
        y, x = np.mgrid[:size, :size] / size
        line = np.abs(x - 0.5 - 0.3 * np.sin(y * rng.uniform(2, 9)) * rng.random()) < rng.uniform(0.005, 0.08)
        out = np.where(line[..., None], EARTH[int(rng.integers(len(EARTH)))] * 0.8, out)
    return _u8(out + rng.normal(0, rng.uniform(0, 10), (size, size, 1)))


def drawing(land: NDArray[np.bool_], rng: Rng) -> Pixels:
    """A drawn map of a (size, size) mask: flat colours, a coast line, borders, a graticule, names."""
    size = len(land)
    pale = rng.random() < 0.7
    low, high = (190, 256) if pale else (30, 200)
    ground, sea = rng.integers(low, high, 3).astype(np.float32), rng.integers(low, high, 3).astype(np.float32)
    count = int(rng.integers(1, 9))
    country = _nearest(rng.uniform(0, size, (count, 2)), size)[1]
    tint = rng.normal(0, rng.choice([0, 25]), (count, 3))[country]
    out = np.where(land[..., None], ground + tint, sea)
    dark = rng.integers(0, 110, 3)
    coast = land != ndimage.binary_erosion(land, border_value=1)
    border = (ndimage.maximum_filter(country, 3) != country) & land
    for line in (coast, border) if rng.random() < 0.8 else ():
        out[line] = dark
    image = Image.fromarray(_u8(out))
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.5:
        step = int(rng.integers(15, 60))
        for k in range(int(rng.integers(step)), size, step):
            draw.line([k, 0, k, size], fill=(150, 150, 150))
            draw.line([0, k, size, k], fill=(150, 150, 150))
    for _ in range(int(rng.integers(0, 14))):
        at = (int(rng.integers(size)), int(rng.integers(size)))
        draw.text(at, _word(rng, int(rng.integers(3, 10))), fill=tuple(dark.tolist()))
    return np.asarray(image, np.uint8)


def streets(rng: Rng, size: int) -> Pixels:
    """A drawn map of a town, or its lights at night: lines of a few widths on one ground, some blocks and names."""
    night = rng.random() < 0.3
    ground = rng.integers(0, 25, 3) if night else rng.integers(215, 250, 3)
    image = Image.new("RGB", (size, size), tuple(ground.tolist()))
    draw = ImageDraw.Draw(image)
    turn, step = rng.uniform(0, np.pi), rng.uniform(8, 50)
    for _ in range(int(rng.integers(0, 12))):
        x, y = rng.uniform(0, size, 2)
        w, h = rng.uniform(5, size / 2, 2)
        fill = tuple(int(v) for v in np.clip(ground + rng.integers(-60, 40, 3), 0, 255))
        draw.polygon([(x, y), (x + w, y + h / 4), (x + w / 2, y + h), (x - w / 3, y + h / 2)], fill=fill)
    for width in (1, 2, 4):
        fill = (255, int(rng.integers(180, 256)), int(rng.integers(60, 256)))
        for k in np.arange(-size, size, step * width):
            for t in (turn, turn + np.pi / 2):
                x, y = size / 2 - np.sin(t) * (k + rng.normal(0, 3)), size / 2 + np.cos(t) * (k + rng.normal(0, 3))
                dx, dy = np.cos(t) * 2 * size, np.sin(t) * 2 * size
                draw.line([x - dx, y - dy, x + dx, y + dy], fill=fill, width=width)
    for _ in range(0 if night else int(rng.integers(0, 10))):
        at = (int(rng.integers(size)), int(rng.integers(size)))
        draw.text(at, _word(rng, int(rng.integers(3, 9))), fill=(70, 70, 70))
    out = np.asarray(image, np.float32)
    return _u8(ndimage.gaussian_filter(out, (1.5, 1.5, 0)) * rng.uniform(0.3, 1.2) if night else out)


def _u8(x: NDArray[np.floating]) -> Pixels:
    return np.asarray(np.clip(np.rint(x), 0, 255), np.uint8)


BLANK: tuple[Callable[[Rng, int], Pixels], ...] = (_constant, _ramp, _noise, _checks, _page, _mist)
GROUND: tuple[Callable[[Rng, int], Pixels], ...] = (_fields, _town, _woods, _slopes)
