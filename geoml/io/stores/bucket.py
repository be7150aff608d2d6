"""A folder of an object store (``s3://``, ``gs://``, ``az://``) through obstore.

Endpoint and credentials come from the usual environment variables (``AWS_…``, ``GOOGLE_…``, ``AZURE_…``) and from
nowhere else. Foreign errors are translated here, without the parts of an answer that may repeat a key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stores.hrefs import redact, scheme
from geoml.io.stores.store import atomic
from geoml.settings import settings

SCHEMES = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
"""Schemes and what the environment variables of their stores begin with."""

PIECE = 32 * 2**20
"""Bytes asked for or sent at once; each piece has the whole timeout. Larger files go up as multipart uploads."""

CHUNK = 2**20
"""Bytes of a body that are held at once where it goes to a file."""

_URL = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[^\s?#]*)?")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_YES = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class Found:
    """An object as it is now: its size in bytes, and a tag that changes with its content."""

    size: int
    tag: str | None
    version: str | None = None

    @property
    def mode(self) -> Any:
        """For a PUT that replaces this object and no later one."""
        return {k: v for k, v in (("e_tag", self.tag), ("version", self.version)) if v is not None}


class Bucket:
    """The objects below ``url``, by names relative to it. What is asked for fails as a geoml error that names it."""

    def __init__(self, url: str, what: str = "out") -> None:
        """``what`` is the field that named the URL. Raises InputError for a URL that is none; asks for nothing yet."""
        self.url, self.what = url.rstrip("/"), what
        match = _URL.fullmatch(self.url)
        if match is None or any(part in ("", ".", "..") for part in self.url.partition("://")[2].split("/")):
            raise InputError(
                f"{what}: {redact(url)!r} is not s3://bucket/prefix (or gs://, az://); see docs/storage.md"
            )
        from obstore.store import from_url  # 20 ms that a local run need not spend

        with _translated(what, self.url):
            self._store: Any = from_url(self.url, **_options(match[1]))

    def list(self, prefix: str = "") -> dict[str, Found]:
        """Objects below the folder ``prefix``, by name."""
        import obstore

        with _translated(self.what, f"{self.url}/{prefix}"):
            pages = obstore.list(self._store, prefix.rstrip("/") or None)
            return {meta["path"]: _found(meta) for page in pages for meta in page}

    def empty(self) -> bool:
        """True when there is no object at all; a prefix of millions is not listed for it."""
        import obstore

        with _translated(self.what, self.url):
            return not any(page for page in obstore.list(self._store, chunk_size=1))

    def head(self, name: str) -> Found | None:
        """The object, without its content; None when there is none."""
        import obstore

        with _translated(self.what, f"{self.url}/{name}"):
            try:
                return _found(obstore.head(self._store, name))
            except FileNotFoundError:
                return None

    def get(self, name: str, limit: int) -> tuple[bytes, Found] | None:
        """A small object; None when there is none. Raises DataError for more than ``limit`` bytes."""
        import obstore

        with _translated(self.what, f"{self.url}/{name}"):
            try:
                answer = obstore.get(self._store, name)
            except FileNotFoundError:
                return None
            found = _found(answer.meta)
            self._capped(name, found, limit)
            return self._collected(name, answer, found.size), found

    def part(self, name: str, start: int, stop: int) -> tuple[bytes, Found]:
        """Bytes ``start`` … ``stop`` of an object, or to its end. Raises DataError when it is not there or not ours."""
        import obstore
        from obstore.exceptions import PermissionDeniedError

        with _translated(self.what, f"{self.url}/{name}"):
            try:
                answer = obstore.get(self._store, name, options={"range": (start, stop)})
                return self._collected(name, answer, stop - start), _found(answer.meta)
            except FileNotFoundError as err:
                raise DataError(f"{self.url}/{name}: HTTP 404") from err
            except PermissionDeniedError as err:
                raise DataError(f"{self.url}/{name}: HTTP 403") from err

    def download(self, name: str, path: Path, limit: int, known: str | None = None) -> Found | None:
        """Write the object to ``path``, atomically; None when there is none.

        With ``known``, a tag of before, nothing is written when the object still has it. A file that changes while it
        is read is asked for again.
        """
        import obstore
        from obstore.exceptions import NotModifiedError, PreconditionError

        for last in (False, False, True):
            with _translated(self.what, f"{self.url}/{name}"):
                try:
                    answer = obstore.get(self._store, name, options={"if_none_match": known} if known else None)
                    found = _found(answer.meta)
                    self._capped(name, found, limit)
                    with atomic(path) as temporary:
                        self._write(name, temporary, found, answer)
                except FileNotFoundError:
                    return None
                except NotModifiedError:
                    return Found(path.stat().st_size, known)
                except PreconditionError:
                    if last:
                        raise
                    continue
                return found
        raise AssertionError("unreachable")

    def _write(self, name: str, path: Path, found: Found, answer: Any) -> None:
        import obstore

        with path.open("wb") as file:
            if found.size <= PIECE:
                self._copy(name, answer, file, found.size)
            for start in range(0, found.size if found.size > PIECE else 0, PIECE):
                stop = min(start + PIECE, found.size)
                same: Any = {"if_match": found.tag} if found.tag else {}
                options: Any = {"range": (start, stop), **same}
                self._copy(name, obstore.get(self._store, name, options=options), file, stop - start)
        if path.stat().st_size != found.size:
            raise TransientError(f"{self.url}/{name}: {path.stat().st_size} of {found.size} bytes came")

    def _collected(self, name: str, answer: Any, most: int) -> bytes:
        kept = BytesIO()
        self._copy(name, answer, kept, most)
        return kept.getvalue()

    def _copy(self, name: str, answer: Any, file: BinaryIO, most: int) -> None:
        """Write a body as it comes. Raises TransientError for more bytes than the store has announced."""
        size = 0
        for chunk in answer.stream(CHUNK):
            size += len(chunk)
            if size > most:
                raise TransientError(f"{self.url}/{name}: more than the {most} bytes that were announced")
            file.write(chunk)

    def upload(self, path: Path, name: str) -> Found:
        """Publish a file: until it is whole, readers see the object of before or none."""
        import obstore

        with _translated(self.what, f"{self.url}/{name}"):
            try:
                size = path.stat().st_size
                large = size > PIECE
                put = obstore.put(
                    self._store, name, path, use_multipart=large, chunk_size=PIECE // 2, max_concurrency=4
                )
            except FileNotFoundError as err:
                raise DataError(f"{path}: not there, so it cannot be published as {self.url}/{name}") from err
            return Found(size, put["e_tag"], put["version"])

    def put(self, name: str, body: bytes, when: Found | None) -> Found | None:
        """Write a small object if it is still ``when`` (None: not there); None when it is not, and nothing changed."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        with _translated(self.what, f"{self.url}/{name}"):
            try:
                put = obstore.put(self._store, name, body, mode="create" if when is None else when.mode)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None
            except (NotSupportedError, NotImplementedError) as err:
                raise InputError(
                    f"{self.what}: {self.url} does not know conditional writes, which geoml needs"
                ) from err
            return Found(len(body), put["e_tag"], put["version"])

    def delete(self, name: str) -> None:
        """Take an object away; nothing happens when there is none."""
        import obstore

        with _translated(self.what, f"{self.url}/{name}"):
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    def _capped(self, name: str, found: Found, limit: int) -> None:
        if found.size > limit:
            raise DataError(f"{self.url}/{name}: {found.size} bytes; at most {limit} are read")


def is_bucket(text: object) -> bool:
    """True for a URL of an object store."""
    return scheme(text) in SCHEMES


def bucket_of(url: object) -> str:
    """``s3://bucket`` of a URL below it, with the scheme in small letters; empty for a URL of no object store."""
    name = str(url).partition("://")[2].partition("/")[0]
    return f"{scheme(url)}://{name}" if is_bucket(url) and name else ""


def public_url(url: str) -> str:
    """Where anybody may ask for an object: an https URL at the public endpoint of its store.

    Nothing of the environment counts but the region of AWS and the name of the account of Azure, which are no secrets.
    Raises InputError for ``az://`` without an account: a container has no public name of its own.
    """
    kind, (bucket, _, key) = scheme(url), url.partition("://")[2].partition("/")
    path = quote(key)
    if kind == "gs":
        return f"https://storage.googleapis.com/{bucket}/{path}"
    if kind == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME") or os.environ.get("AZURE_STORAGE_ACCOUNT", "")
        if not re.fullmatch(r"[a-z0-9]{3,24}", account):
            raise InputError(
                f"href: {redact(url)!r} names no account; expected https://ACCOUNT.blob.core.windows.net/…"
            )
        return f"https://{account}.blob.core.windows.net/{bucket}/{path}"
    if not re.fullmatch(r"[a-z0-9-]+", bucket):  # no host name, or none that a certificate covers
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION", "")
        region = region if re.fullmatch(r"[a-z0-9-]{3,30}", region) else "us-east-1"
        return f"https://s3.{region}.amazonaws.com/{bucket}/{path}"
    return f"https://{bucket}.s3.amazonaws.com/{path}"


def endpoint() -> str | None:
    """The S3 server that the environment names, when it is not that of AWS."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def yes(name: str) -> bool:
    """Whether an environment variable says so."""
    return os.environ.get(name, "").strip().lower() in _YES


def _options(scheme: str) -> dict[str, Any]:
    chosen, own = settings(), SCHEMES[scheme]
    given: dict[str, Any] = {
        # obstore reads the environment itself; options of the client stand in for all that it read of them
        "client_options": {
            "timeout": timedelta(seconds=chosen.timeout),
            "connect_timeout": timedelta(seconds=min(chosen.timeout, 15.0)),
            "allow_http": yes(f"{own}_ALLOW_HTTP"),
        },
        "retry_config": {
            "max_retries": chosen.retries,
            "retry_timeout": timedelta(seconds=min(4 * chosen.timeout, 240.0)),
            "backoff": {
                "init_backoff": timedelta(seconds=0.25),
                "max_backoff": timedelta(seconds=15),
                "base": 2,
            },
        },
    }
    if scheme == "s3":
        given |= {"endpoint": url} if (url := endpoint()) else {}
        given |= {"skip_signature": True} if yes("AWS_NO_SIGN_REQUEST") else {}  # as GDAL calls it
    if scheme == "az" and (account := os.environ.get("AZURE_STORAGE_ACCOUNT")):  # as GDAL calls it
        given["account_name"] = account
    return given


def _found(meta: Any) -> Found:
    return Found(int(meta["size"]), meta.get("e_tag"), meta.get("version"))


@contextmanager
def _translated(what: str, url: str) -> Iterator[None]:
    """Raise what obstore raises as the class of the party that has to act. FileNotFoundError is left to the caller."""
    from obstore.exceptions import BaseError

    try:
        yield
    except GeomlError:
        raise
    except (BaseError, OSError, ValueError, RuntimeError) as err:
        raise explain(err, what, url) from None  # the whole text may repeat a key


def explain(err: BaseException, what: str, url: str) -> GeomlError:
    """The geoml error for what obstore raised at ``url``."""
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    text = str(err)
    status = int(m[1]) if (m := _STATUS.search(text)) else None
    code = m[1] if (m := _CODE.search(text)) else ""
    said = " ".join(filter(None, [f"HTTP {status}" if status else "", code]))
    own = SCHEMES[urlsplit(url).scheme]
    where = f"{what}: {redact(url)}"
    if "BadScheme" in text:
        return InputError(f"{where}: the endpoint is plain http; set {own}_ALLOW_HTTP=true to allow it")
    if (
        any(word in text for word in ("169.254.169.254", "metadata.google", "MissingAccount", "Credential"))
        and not said
    ):
        return InputError(f"{where}: no credentials; expected the {own}_… environment variables of your store")
    if isinstance(err, (PermissionDeniedError, UnauthenticatedError)) or status in (401, 403):
        return InputError(f"{where}: access refused ({said or type(err).__name__}); look at the {own}_… variables")
    if code == "NoSuchBucket":
        return InputError(f"{where}: there is no such bucket")
    if isinstance(err, (InvalidPathError, FileNotFoundError)) or status == 404:
        return InputError(f"{where}: not found")
    if status is not None and 400 <= status < 500 and status not in (408, 409, 412, 425, 429):
        return DataError(f"{where}: refused ({said})")
    if isinstance(err, ValueError) and status is None:
        return InputError(f"{where}: {redact(text.splitlines()[0])[:200] if text else type(err).__name__}")
    tries = m[1] if (m := re.search(r"after (\d+) retries", text)) else "no"
    return TransientError(
        f"{where}: {said or _reason(text)} after {tries} retries; what is finished stays, go on later"
    )


def _reason(text: str) -> str:
    """The last words of obstore's first line: 'HTTP error: error sending request'."""
    line = redact(text.splitlines()[0] if text else "no answer")
    return line.rpartition(" - ")[2][:120]
