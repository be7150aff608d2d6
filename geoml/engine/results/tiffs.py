"""How odc-stac opens the files of a run: as TIFFs and nothing else, whatever they hold, and nothing beside them.

Left to itself it opens with any driver of GDAL, and a virtual raster under a TIFF's name would lead to other files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import rasterio
from odc.loader import RasterSource, RioDriver, RioReader
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from geoml.errors import DataError
from geoml.io.stores.hrefs import clean, redact

OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_NETRC": "NO",
    "GDAL_PAM_ENABLED": "NO",
}
"""Of GDAL: no side files, nobody's password."""


class _Tiff(MemoryFile):  # type: ignore[misc]
    """The file ``path``, which holds nothing in memory: rasterio asks this class to open itself."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __str__(self) -> str:
        return redact(self._path)  # odc-stac logs it

    def open(self, driver: str | None = None, sharing: bool = False, **options: Any) -> rasterio.DatasetReader:
        """With the driver of TIFFs, whatever ``driver`` is."""
        return rasterio.open(self._path, driver="GTiff", sharing=sharing, **options)


class _Reader(RioReader):
    """Reads one file. Raises DataError for one that is not a readable TIFF."""

    def __init__(self, src: RasterSource, ctx: Any) -> None:
        super().__init__(replace(src, uri=_Tiff(src.uri)), ctx)

    def read(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read(*args, **options)
        except RasterioError as err:
            raise DataError(f"{self._src.uri}: not readable as a TIFF ({clean(str(err))})") from None


class TiffDriver(RioDriver):
    """The reader that `odc.stac.load` takes as ``driver``."""

    def capture_env(self) -> dict[str, Any]:
        """GDAL's options of a read, here or on a worker."""
        return {**super().capture_env(), **OPTIONS}

    def open(self, src: RasterSource, ctx: Any) -> RioReader:
        """A reader of one band."""
        return _Reader(src, ctx)
