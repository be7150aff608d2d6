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
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

from geoml.errors import DataError, GeomlError, InputError, TransientError
from geoml.io.stores.hrefs import redact, scheme
from geoml.io.stores.store import atomic
from geoml.settings import settings

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta, UpdateVersion

SCHEMES = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
"""Schemes and what the environment variables of their stores begin with."""

PIECE = 32 * 2**20
"""Bytes asked for or sent at once; each piece has the whole timeout. Larger files go up as multipart uploads."""

CHUNK = 2**20
"""Bytes of a body that are held at once where it goes to a file."""

_URL = re.compile(r"(s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(/[^\s?#]*)?")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
_NO_CREDENTIALS = ("169.254.169.254", "metadata.google", "MissingAccount", "Credential")
_TRUE = ("1", "true", "yes", "on")


@dataclass(frozen=True)
class ObjectInfo:
    """The present state of an object: its size in bytes, and a tag that changes with its content."""

    size: int
    tag: str | None
    version: str | None = None

    @property
    def update_version(self) -> UpdateVersion:
        """The condition of a PUT that replaces this state of the object and no later one."""
        tags = {"e_tag": self.tag, "version": self.version}
        return cast("UpdateVersion", {k: v for k, v in tags.items() if v is not None})


class Bucket:
    """The objects below ``url``, by names relative to it. What is asked for fails as a geoml error that names it."""

    def __init__(self, url: str, what: str = "out") -> None:
        """``what`` is the field that named the URL. Raises InputError for another kind of URL; no request is sent."""
        self.url, self.what = url.rstrip("/"), what
        match = _URL.fullmatch(self.url)
        if match is None or any(part in ("", ".", "..") for part in self.url.partition("://")[2].split("/")):
            raise InputError(
                f"{what}: {redact(url)!r} is not s3://bucket/prefix (or gs://, az://); see docs/storage.md"
            )
        from obstore.store import from_url  # 20 ms that a local run need not spend

        with _translated_errors(what, self.url):
            self._store = from_url(self.url, **_options(match[1]))

    def list(self, prefix: str = "") -> dict[str, ObjectInfo]:
        """Objects below the folder ``prefix``, by name."""
        with _translated_errors(self.what, f"{self.url}/{prefix}"):
            pages = self._store.list(prefix.rstrip("/") or None)
            return {meta["path"]: _info(meta) for page in pages for meta in page}

    def empty(self) -> bool:
        """True when there is no object at all; a prefix of millions is not listed for it."""
        with _translated_errors(self.what, self.url):
            return not any(page for page in self._store.list(chunk_size=1))

    def head(self, name: str) -> ObjectInfo | None:
        """The object, without its content; None if there is none."""
        with _translated_errors(self.what, f"{self.url}/{name}"):
            try:
                return _info(self._store.head(name))
            except FileNotFoundError:
                return None

    def get(self, name: str, limit: int) -> tuple[bytes, ObjectInfo] | None:
        """A small object; None if there is none. Raises DataError for more than ``limit`` bytes."""
        with _translated_errors(self.what, f"{self.url}/{name}"):
            try:
                answer = self._store.get(name)
            except FileNotFoundError:
                return None
            info = _info(answer.meta)
            self._capped(name, info, limit)
            return self._collected(name, answer, info.size), info

    def part(self, name: str, start: int, stop: int) -> tuple[bytes, ObjectInfo]:
        """Bytes ``start`` … ``stop`` of an object, or to its end. Raises DataError if it is not there or not ours."""
        from obstore.exceptions import PermissionDeniedError

        with _translated_errors(self.what, f"{self.url}/{name}"):
            try:
                answer = self._store.get(name, options={"range": (start, stop)})
                return self._collected(name, answer, stop - start), _info(answer.meta)
            except FileNotFoundError as err:
                raise DataError(f"{self.url}/{name}: HTTP 404") from err
            except PermissionDeniedError as err:
                raise DataError(f"{self.url}/{name}: HTTP 403") from err

    def download(self, name: str, path: Path, limit: int, tag: str | None = None) -> ObjectInfo | None:
        """Write the object to ``path``, atomically; None if there is none.

        Nothing is written when the object still has ``tag``. An object that changes while it is read is read again.
        """
        from obstore.exceptions import NotModifiedError, PreconditionError

        for last in (False, False, True):
            with _translated_errors(self.what, f"{self.url}/{name}"):
                try:
                    answer = self._store.get(name, options={"if_none_match": tag} if tag else None)
                    info = _info(answer.meta)
                    self._capped(name, info, limit)
                    with atomic(path) as temporary:
                        self._write(name, temporary, info, answer)
                except FileNotFoundError:
                    return None
                except NotModifiedError:
                    return ObjectInfo(path.stat().st_size, tag)
                except PreconditionError:
                    if last:
                        raise
                    continue
                return info
        raise AssertionError("unreachable")

    def _write(self, name: str, path: Path, info: ObjectInfo, answer: GetResult) -> None:
        with path.open("wb") as file:
            if info.size <= PIECE:
                self._copy(name, answer, file, info.size)
            for start in range(0, info.size if info.size > PIECE else 0, PIECE):
                stop = min(start + PIECE, info.size)
                options: GetOptions = {"range": (start, stop)}
                if info.tag:
                    options["if_match"] = info.tag
                self._copy(name, self._store.get(name, options=options), file, stop - start)
        if path.stat().st_size != info.size:
            raise TransientError(f"{self.url}/{name}: {path.stat().st_size} of {info.size} bytes came")

    def _collected(self, name: str, answer: GetResult, most: int) -> bytes:
        body = BytesIO()
        self._copy(name, answer, body, most)
        return body.getvalue()

    def _copy(self, name: str, answer: GetResult, file: BinaryIO, most: int) -> None:
        """Write a body as it comes. Raises TransientError for more bytes than the store has announced."""
        size = 0
        for chunk in answer.stream(CHUNK):
            size += len(chunk)
            if size > most:
                raise TransientError(f"{self.url}/{name}: more than the {most} bytes that were announced")
            file.write(chunk)

    def upload(self, path: Path, name: str) -> ObjectInfo:
        """Publish a file: until it is whole, readers see the old object or none."""
        with _translated_errors(self.what, f"{self.url}/{name}"):
            try:
                size = path.stat().st_size
                large = size > PIECE
                put = self._store.put(name, path, use_multipart=large, chunk_size=PIECE // 2, max_concurrency=4)
            except FileNotFoundError as err:
                raise DataError(f"{path}: missing, so it cannot be published as {self.url}/{name}") from err
            return ObjectInfo(size, put["e_tag"], put["version"])

    def put(self, name: str, body: bytes, expected: ObjectInfo | None) -> ObjectInfo | None:
        """Write a small object that is still as ``expected`` (None: absent); None, and no change, where it is not."""
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        with _translated_errors(self.what, f"{self.url}/{name}"):
            try:
                put = self._store.put(name, body, mode="create" if expected is None else expected.update_version)
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                return None
            except (NotSupportedError, NotImplementedError) as err:
                raise InputError(
                    f"{self.what}: {self.url} does not know conditional writes, which geoml needs"
                ) from err
            return ObjectInfo(len(body), put["e_tag"], put["version"])

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens when it does not exist."""
        with _translated_errors(self.what, f"{self.url}/{name}"):
            try:
                self._store.delete(name)
            except FileNotFoundError:
                return

    def _capped(self, name: str, info: ObjectInfo, limit: int) -> None:
        if info.size > limit:
            raise DataError(f"{self.url}/{name}: {info.size} bytes; at most {limit} are read")


def is_bucket(text: object) -> bool:
    """True for a URL of an object store."""
    return scheme(text) in SCHEMES


def bucket_of(url: object) -> str:
    """``s3://bucket`` of a URL below it, with the scheme in small letters; empty for a URL of no object store."""
    name = str(url).partition("://")[2].partition("/")[0]
    return f"{scheme(url)}://{name}" if is_bucket(url) and name else ""


def public_url(url: str) -> str:
    """Where anybody may ask for an object: an https URL at the public endpoint of its store.

    Nothing of the environment counts but the region of AWS and the name of the account of Azure, which are not secrets.
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


def env_flag(name: str) -> bool:
    """Whether an environment variable is set to ``1``, ``true``, ``yes`` or ``on``."""
    return os.environ.get(name, "").strip().lower() in _TRUE


def _options(scheme: str) -> dict[str, Any]:
    chosen, prefix = settings(), SCHEMES[scheme]
    options: dict[str, Any] = {
        # obstore reads the environment itself; options of the client stand in for all that it read of them
        "client_options": {
            "timeout": timedelta(seconds=chosen.timeout),
            "connect_timeout": timedelta(seconds=min(chosen.timeout, 15.0)),
            "allow_http": env_flag(f"{prefix}_ALLOW_HTTP"),
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
        options |= {"endpoint": url} if (url := endpoint()) else {}
        options |= {"skip_signature": True} if env_flag("AWS_NO_SIGN_REQUEST") else {}  # as GDAL calls it
    if scheme == "az" and (account := os.environ.get("AZURE_STORAGE_ACCOUNT")):  # as GDAL calls it
        options["account_name"] = account
    return options


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(meta["size"], meta["e_tag"], meta["version"])


@contextmanager
def _translated_errors(what: str, url: str) -> Iterator[None]:
    """Raise what obstore raises as an error of ours. A FileNotFoundError that means absence is caught inside."""
    from obstore.exceptions import BaseError

    try:
        yield
    except GeomlError:
        raise
    except (BaseError, OSError, ValueError, RuntimeError) as err:
        raise _translate(err, what, url) from None  # the whole text may repeat a key


def _translate(err: BaseException, what: str, url: str) -> GeomlError:
    """The geoml error for what obstore raised at ``url``."""
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    text = str(err)
    status = int(m[1]) if (m := _STATUS.search(text)) else None
    code = m[1] if (m := _CODE.search(text)) else ""
    answer = " ".join(filter(None, [f"HTTP {status}" if status else "", code]))
    prefix = SCHEMES[urlsplit(url).scheme]
    where = f"{what}: {redact(url)}"
    if "BadScheme" in text:
        return InputError(f"{where}: the endpoint is plain http; set {prefix}_ALLOW_HTTP=true to allow it")
    if not answer and any(word in text for word in _NO_CREDENTIALS):
        return InputError(f"{where}: no credentials; expected the {prefix}_… environment variables of your store")
    if isinstance(err, (PermissionDeniedError, UnauthenticatedError)) or status in (401, 403):
        return InputError(f"{where}: access refused ({answer or type(err).__name__}); look at the {prefix}_… variables")
    if code == "NoSuchBucket":
        return InputError(f"{where}: there is no such bucket")
    if isinstance(err, (InvalidPathError, FileNotFoundError)) or status == 404:
        return InputError(f"{where}: not found")
    if status is not None and 400 <= status < 500 and status not in (408, 409, 412, 425, 429):
        return DataError(f"{where}: refused ({answer})")
    if isinstance(err, ValueError) and status is None:
        return InputError(f"{where}: {redact(text.splitlines()[0])[:200] if text else type(err).__name__}")
    tries = m[1] if (m := re.search(r"after (\d+) retries", text)) else "no"
    return TransientError(
        f"{where}: {answer or _reason(text)} after {tries} retries; what is finished stays, go on later"
    )


def _reason(text: str) -> str:
    """The last words of obstore's first line: 'HTTP error: error sending request'."""
    line = redact(text.splitlines()[0] if text else "no answer")
    return line.rpartition(" - ")[2][:120]
