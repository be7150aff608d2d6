"""A copy of a KML file with what describes places and nothing else, for GDAL to read.

GDAL picks the reader of an XML file by texts in it, and other readers open other files and servers. So the copy has
known elements only, without declarations, comments, links, styles and namespaces of others.
"""

from __future__ import annotations

from pathlib import Path
from xml.parsers import expat
from xml.sax.saxutils import escape

from geoml.errors import DataError

ELEMENTS = frozenset(
    (
        *("kml", "Document", "Folder", "Placemark", "name", "description", "TimeStamp", "TimeSpan", "when", "begin"),
        *("end", "ExtendedData", "Data", "value", "displayName", "SchemaData", "SimpleData", "Schema", "SimpleField"),
        *("MultiGeometry", "Point", "LineString", "LinearRing", "Polygon", "outerBoundaryIs", "innerBoundaryIs"),
        *("coordinates", "altitudeMode", "tessellate", "extrude", "visibility"),
    )
)
"""Of OGC KML 2.3 (https://docs.ogc.org/is/12-007r2/12-007r2.html), by name; with others goes what is in them."""
ATTRIBUTES = frozenset(("id", "name", "type", "schemaUrl"))
BEGINNING = '<kml xmlns="http://www.opengis.net/kml/2.2">'


def copied(file: Path, to: Path) -> Path:
    """Write the copy. Raises DataError for XML with a document type or another root, ExpatError for no XML."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    inside, skipped = 0, 0
    with file.open("rb") as source, to.open("w", encoding="utf-8") as target:

        def start(name: str, attributes: dict[str, str]) -> None:
            nonlocal inside, skipped
            name = name.rpartition(":")[2]
            if not inside and name != "kml":
                raise DataError(f"{file}: cannot be read as vectors (the root of its XML is {name}, not kml)")
            inside += 1
            if skipped or name not in ELEMENTS or (name == "kml" and inside > 1):
                skipped += 1
            elif name == "kml":
                target.write(BEGINNING)
            else:
                told = "".join(f' {k}="{_plain(v)}"' for k, v in attributes.items() if k in ATTRIBUTES)
                target.write(f"<{name}{told}>")

        def end(name: str) -> None:
            nonlocal inside, skipped
            inside -= 1
            if skipped:
                skipped -= 1
            else:
                target.write(f"</{name.rpartition(':')[2]}>")

        def text(value: str) -> None:
            if not skipped:
                target.write(_plain(value))

        def declared(*_: object) -> None:
            raise DataError(f"{file}: cannot be read as vectors (KML with a document type; expected none)")

        parser.StartElementHandler, parser.EndElementHandler = start, end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = text, declared
        parser.ParseFile(source)
    return to


def _plain(value: str) -> str:
    """Text without an address as it is written, for GDAL looks for these too."""
    return escape(value, {'"': "&quot;", "/": "&#47;"})
