"""Published weights into packages: one file each, whose name with hyphens is what ``geoml models import`` calls it.

A file has ``convert(source, out)``: it reads the folder ``source``, compares what comes out with what the original
gave, writes the package ``out`` and gives its card. A pickle is never executed.
"""

from geoml.registry import Registry

IMPORTERS = Registry(__name__, "import")
