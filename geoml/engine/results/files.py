"""The files of a run, wherever it is: in a folder, a bucket, or on a web server."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoml.errors import DataError, InputError
from geoml.io.stores.bucket import endpoint
from geoml.io.stores.hrefs import check_url, redact
from geoml.io.stores.remote import LARGEST, fetch, is_url
from geoml.io.stores.signed import join_url
from geoml.texts import plain, short


@dataclass(frozen=True)
class RunFiles:
    """A folder, or a URL (s3, gs, az, https or http), as ``url``; nothing is read until a file is needed."""

    url: str

    def __post_init__(self) -> None:
        check_url(self.url, "run")

    @property
    def remote(self) -> bool:
        return is_url(self.url)

    def href(self, name: str) -> str:
        """The path or URL of a file, which need not exist; of one that is there already, itself."""
        if is_url(name) or Path(name).is_absolute():
            return name
        name = name.removeprefix("./")
        return join_url(self.url, name) if self.remote else str(Path(self.url).absolute() / name)

    def inside(self, name: str, item: str) -> str:
        """The path or URL of a file that ``item`` names, which has to lie in the run.

        Raises DataError for any name that could lead elsewhere: a path from the root, a URL, ``..``.
        """
        simple = name.isprintable() and not re.search(r"[:\\?#%]", name)
        if not name or not simple or name.startswith("/") or ".." in name.split("/"):
            raise DataError(f"{item}: its asset {short(plain(redact(name)))!r} is not a file of the run")
        return self.href(name)

    def file(self, name: str) -> Path:
        """Local path of the file, which is downloaded if it is remote.

        Raises InputError if there is none, TransientError if the server does not answer.
        """
        if self.remote:
            return fetch(self.href(name), "run", LARGEST)
        if not (path := Path(self.href(name))).exists():
            raise InputError(f"run: {self.url} has no {name}; expected the folder or URL of a finished run")
        return path

    def json(self, name: str) -> dict[str, Any]:
        """A file of JSON. Raises as `file`, and DataError for anything but a JSON object."""
        try:
            value = json.loads(self.file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as err:
            if isinstance(err, InputError):  # which is a ValueError too
                raise
            raise DataError(f"{redact(self.href(name))}: cannot be read ({err})") from err
        if not isinstance(value, dict):
            raise DataError(f"{redact(self.href(name))}: expected a JSON object")
        return value

    def gdal_options(self) -> dict[str, Any]:
        """What GDAL has to be told to read where obstore does: it takes an S3 server of one's own by other names."""
        if not self.url.startswith("s3://") or not (server := endpoint()):
            return {}
        scheme, _, host = server.rstrip("/").partition("://")
        return {
            "AWS_S3_ENDPOINT": host,
            "AWS_HTTPS": "YES" if scheme == "https" else "NO",
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
