"""Pascal VOC XML (http://host.robots.ox.ac.uk/pascal/VOC), a file for each image.

Whether corners count from 1 and hold their last pixel, as in the book, or anything else, a recipe has to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, sin
from pathlib import Path
from typing import Any
from xml.parsers import expat

from shapely.geometry import Polygon

from geoml.data.annotation import Annotation, Record, around, number, strange_path, too_large
from geoml.errors import DataError

COORDINATES = ("pixels",)
CORNERS = True
DEEPEST = 32
"""Elements in elements."""


@dataclass(slots=True)
class _Node:
    """An element of an XML file."""

    name: str
    line: int
    text: str = ""
    children: list[_Node] = field(default_factory=list)

    def all(self, name: str) -> list[_Node]:
        return [c for c in self.children if c.name == name]

    def first(self, *path: str) -> _Node | None:
        node: _Node | None = self
        for name in path:
            node = next(iter(node.all(name)), None) if node else None
        return node

    def said(self, *path: str) -> str:
        node = self.first(*path)
        return node.text.strip() if node else ""


def read(path: Path, source: Any, problems: list[str]) -> list[Record]:
    """The objects of one image; those marked ``difficult`` are unknown. Raises OSError or DataError."""
    if too_large(path, problems):
        return []
    root = _parsed(path)
    image = root.said("filename") or None
    if image and strange_path(image):
        problems.append(f"{path}: filename: {image!r} is a path; expected the name of a file beside the others")
        image = None
    size = tuple(number(root.said("size", side)) for side in ("height", "width"))
    known = all(s == s and s > 0 for s in size)
    found = tuple(f for node in root.all("object") if (f := _object(node, path, problems)) is not None)
    return [Record(found, image, (int(size[0]), int(size[1])) if known else None)]


def _object(node: _Node, path: Path, problems: list[str]) -> Annotation | None:
    where, label = f"line {node.line}", node.said("name")
    unknown = node.said("difficult") == "1"
    if (box := node.first("bndbox")) is not None:
        left, top, right, bottom = (number(box.said(k)) for k in ("xmin", "ymin", "xmax", "ymax"))
        return Annotation(f"line {box.line}", (left, top, right, bottom), label, unknown=unknown)
    if (box := node.first("robndbox")) is not None:
        x, y, width, height, angle = (number(box.said(k)) for k in ("cx", "cy", "w", "h", "angle"))
        half = [(sx * width / 2, sy * height / 2) for sx, sy in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        turn = angle if angle == angle and abs(angle) < 1e6 else 0.0
        corners = [(x + a * cos(turn) - b * sin(turn), y + a * sin(turn) + b * cos(turn)) for a, b in half]
        sides = around(corners)
        outline = Polygon(corners) if sides[0] == sides[0] else None
        return Annotation(f"line {box.line}", sides, label, outline, unknown, rotated=True)
    problems.append(f"{path}: {where}: an object without bndbox")
    return None


def _parsed(path: Path) -> _Node:
    """The root of an XML file. Raises DataError for what is not XML, and for entities: those may be made to explode."""
    top = _Node("", 0)
    stack = [top]
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > DEEPEST:
            raise DataError(f"{path}: line {parser.CurrentLineNumber}: more than {DEEPEST} elements in each other")
        node = _Node(name, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(name: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def refused(*_: object) -> int:
        raise DataError(f"{path}: line {parser.CurrentLineNumber}: a document type or entities; expected none")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = parser.ExternalEntityRefHandler = refused
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, ValueError) as err:
        raise DataError(f"{path}: is not XML ({err})") from err
    return top.children[0]
