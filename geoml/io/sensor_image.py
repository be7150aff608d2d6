"""Pictures as a sensor took them: never on a grid, placed by an RPC; read by window like other rasters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as PixelWindow

from geoml.errors import DataError, InputError
from geoml.io.cog.source import using
from geoml.io.rpc import RpcCoefficients, beside, crop_offset, rpc_of
from geoml.io.stac.assets import lowercase_words
from geoml.io.stac.bands import BandSpec
from geoml.io.stores.hrefs import redact
from geoml.io.stores.remote import is_url
from geoml.io.stores.signed import signed, unsigned

FIELDS = ("offsets", "scales", "line_num", "line_den", "samp_num", "samp_den")


@dataclass(frozen=True, eq=False)
class SensorImage:
    """A file of ``shape`` (rows, columns) that begins at ``first`` (row, column) of its sensor image. One band counts:
    the first."""

    href: str
    """Without what signs it, since files keep it; that is remembered in memory (`geoml.io.stores.signed`)."""
    rpc: RpcCoefficients
    first: tuple[int, int]
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        """For messages."""
        return redact(self.href).rsplit("/", 1)[-1]

    def read(self, top: int, bottom: int, left: int, right: int) -> NDArray[np.float32]:
        """(y, x) float32 of rows and columns of the file, NaN without data.

        Raises DataError for a broken file, TransientError if a server does not answer.
        """
        window = PixelWindow(left, top, right - left, bottom - top)

        def action(dataset: rasterio.DatasetReader) -> NDArray[np.float32]:
            values = dataset.read(1, window=window).astype(np.float32)
            return np.where(dataset.read_masks(1, window=window) > 0, values, np.float32(np.nan))

        return using(_spec(self.href), action, placed=False)

    def as_plain(self) -> dict[str, Any]:
        """As JSON; numbers come back the same."""
        rpc = {name: getattr(self.rpc, name).tolist() for name in FIELDS}
        return {"href": self.href, "rpc": rpc, "first": list(self.first), "shape": list(self.shape)}

    @classmethod
    def from_plain(cls, said: Any) -> SensorImage:
        """What `as_plain` gave. Raises DataError for something else."""
        try:
            rpc = RpcCoefficients(*(np.array(said["rpc"][name], np.float64) for name in FIELDS))
            (row, column), (rows, columns) = said["first"], said["shape"]
            return cls(str(said["href"]), rpc, (int(row), int(column)), (int(rows), int(columns)))
        except (LookupError, TypeError, ValueError) as err:
            raise DataError(f"stereo: has no metadata on its pictures ({err})") from err


def open_image(place: str) -> SensorImage:
    """The picture at a path or URL, or of a STAC item of this machine, with the RPC of a file that is named or lies
    beside it, or of its tags; its header is read.

    Raises InputError for a picture without RPC and for a URL with more than a path and a query, DataError for a
    damaged RPC, or one of another crop.
    """
    href, file = _of_item(Path(place)) if place.lower().endswith(".json") else (place, None)
    if is_url(href):
        href = unsigned(href, "stereo")
    else:
        if not Path(href).is_file():
            raise InputError(f"stereo: {href} does not exist; expected a picture")
        href = str(Path(href).resolve())
        file = file or beside(Path(href))

    def action(dataset: rasterio.DatasetReader) -> SensorImage:
        rpc = rpc_of(dataset, file)
        first = crop_offset(dataset.transform, dataset.crs is not None, dataset.shape, rpc)
        piece = re.search(r"_R(\d+)C(\d+)$", Path(href).stem)
        if piece is not None and piece.groups() != ("1", "1") and first == (0, 0):
            raise DataError("a tile of a larger picture that does not say where it begins; expected an offset in it")
        return SensorImage(href, rpc, first, dataset.shape)

    try:
        return using(_spec(href), action, placed=False)
    except (DataError, InputError) as err:
        raise type(err)(f"stereo: {redact(href)}: {err}") from err


def _of_item(path: Path) -> tuple[str, Path | None]:
    """The picture of an item, and the file of its RPC where an asset called ``rpc`` or with that role has it."""
    if is_url(str(path)) or not path.is_file():
        raise InputError(f"stereo: {path} does not exist; expected an item of this machine")
    try:
        item = pystac.Item.from_dict(json.loads(path.read_bytes()), href=str(path.resolve()))
        assets = {key: (asset.get_absolute_href() or "", asset) for key, asset in item.assets.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, pystac.STACError, pystac.STACTypeError) as err:
        raise DataError(f"stereo: {path}: no STAC item ({err})") from err
    data = [h for h, a in assets.values() if "data" in lowercase_words(a.roles) and is_picture(h, a.media_type)]
    if len(data) != 1:
        raise DataError(f"stereo: {path}: {len(data)} pictures with the role data; expected one GeoTIFF or JPEG 2000")
    rpc = [h for key, (h, a) in assets.items() if key.lower() == "rpc" or "rpc" in lowercase_words(a.roles)]
    if rpc and is_url(rpc[0]):
        raise InputError(f"stereo: {path}: its RPC is elsewhere ({redact(rpc[0])}); expected a file of this machine")
    return data[0], Path(rpc[0]) if rpc else None


def is_picture(href: str, media_type: object) -> bool:
    """Whether an asset is a GeoTIFF or JPEG 2000, by its media type or its name."""
    kind = media_type.lower() if isinstance(media_type, str) else ""
    name = href.split("?")[0].lower()
    return "tiff" in kind or "jp2" in kind or name.endswith((".tif", ".tiff", ".jp2"))


def _spec(href: str) -> BandSpec:
    return BandSpec("stereo", "picture", signed(href, "stereo"), "1", remote=is_url(href))
