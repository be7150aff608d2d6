"""Hrefs come from outside: checked, turned into what is opened, and cleaned before they are shown.

GDAL reads much more than files (``/vsi…`` chains, inline XML, ``WMS:``, sub-dataset names), so an href is parsed as a
URL or as a plain path, and GDAL gets plain paths only: URLs are read by `geoml.io.stores.ranges`.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import unicodedata
from functools import lru_cache
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from geoml.errors import InputError
from geoml.redacted import clean, redact, wrong
from geoml.redacted import shown as _shown
from geoml.settings import settings

__all__ = ["LONGEST", "RedactingFilter", "check_host", "check_url", "clean", "gdal_path", "is_public", "redact"]

_BUCKETS = ("s3", "gs", "az")
_HTTP = ("https", "http")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9+._-]+:")  # two letters or more, so that a drive letter is none
_GDAL_KEYS = ("header_file", "useragent", "cookie", "cookiefile")
_PORTS = {"https": 443, "http": 80}

_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "168.63.129.16/32",  # Azure's host agent
            "100.64.0.0/10",  # carriers, and metadata services of some clouds
            "192.0.0.0/24",  # IETF protocols, and the metadata service of Oracle's cloud
            "192.88.99.0/24",  # relays of 6to4
            "2001::/23",  # Teredo, ORCHID and other protocols: addresses of something else
            "2002::/16",  # 6to4
            "3fff::/20",  # documentation
        ),
    )
)
"""Special ranges (IANA's registries, vendors' manuals) that some versions of ``ipaddress`` call global."""

_UNICAST = ipaddress.ip_network("2000::/3")
"""All global addresses of IPv6; loopback, site-local, NAT64 and IPv4 in any dress lie elsewhere."""

LONGEST = 4096
"""Characters of an href, an id or a link of an item."""


def gdal_path(href: str, *, remote: bool, root: Path | None = None, look_up: bool = True) -> str:
    """What to open for ``href``: an absolute path of this machine, or a URL that is allowed.

    ``remote`` says that the href comes from a catalog elsewhere: then only URLs with a scheme of
    ``settings().schemes`` pass. A local catalog may also name files; relative ones start at ``root``, and with a
    ``root`` every file must lie under it once symbolic links are resolved.

    ``look_up=False`` asks no name server, so that a name may still turn out to be that of a private host.

    Raises InputError for everything else: ``/vsi…``, inline XML, driver prefixes, user names in URLs, options meant
    for GDAL, control characters, hosts that are private (unless ``settings().private_hosts``), and more than `LONGEST`
    characters.
    """
    if len(href) > LONGEST:
        raise InputError(
            f"href: {_shown(href[:LONGEST])[:60]!r}… has {len(href)} characters; expected at most {LONGEST}"
        )
    shown = _shown(href)
    if not href.strip():
        raise InputError("href: empty; expected a URL or a path")
    plain = href.isascii() and href.isprintable()  # as nearly all are, and told without looking at each character
    odd = not plain and any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in href)
    if odd or href != href.strip():
        raise InputError(f"href: {shown!r} has control characters or blanks around it")
    if href.startswith("<") or "/vsi" in unquote(href).lower().replace("\\", "/"):
        raise InputError(f"href: {shown!r} is a GDAL construct; expected a plain URL or path")
    if "://" in href:
        return _from_url(href, shown, remote=remote, root=root, look_up=look_up)
    if href.lower().startswith("file:") or _PREFIX.match(href):
        raise InputError(f"href: {shown!r} has a driver prefix; expected a plain URL or path")
    if remote:
        raise InputError(f"href: {shown!r} is a local path in a remote catalog; expected {_schemes()}")
    return _from_path(Path(href), shown, root)


def _schemes() -> str:
    return " or ".join(f"{s}://" for s in settings().schemes)


def _from_url(href: str, shown: str, *, remote: bool, root: Path | None, look_up: bool) -> str:
    try:
        url = urlsplit(href)
        host, _ = url.hostname or "", url.port  # reading the port checks it
    except ValueError:  # its text may hold a password
        raise InputError(f"href: {shown!r} is not a URL") from None
    if url.scheme == "file" and not remote:
        if host not in ("", "localhost"):
            raise InputError(f"href: {shown!r} names a file on another machine")
        return _from_path(Path(unquote(url.path)), shown, root)
    if url.scheme not in settings().schemes or url.scheme not in (*_HTTP, *_BUCKETS):
        raise InputError(f"href: {shown!r} has the scheme {url.scheme!r}; expected {_schemes()}")
    if "\\" in href or "@" in url.netloc:
        raise InputError(f"href: {shown!r} has a backslash or a user name; expected a plain URL")
    if url.scheme in _BUCKETS:
        return _from_bucket(url, shown)
    if any(key.lower() in _GDAL_KEYS for key, _ in parse_qsl(url.query, keep_blank_values=True)):
        raise InputError(f"href: {shown!r} carries options for GDAL in its query")
    check_host(host, shown, look_up=look_up)
    return href


def _from_bucket(url: SplitResult, shown: str) -> str:
    key = url.path.lstrip("/")
    if not _BUCKET.fullmatch(url.netloc) or not key or ".." in unquote(key).split("/") or url.query or url.fragment:
        raise InputError(f"href: {shown!r} is not {url.scheme}://bucket/key")
    return f"{url.scheme}://{url.netloc}/{key}"


def _from_path(path: Path, shown: str, root: Path | None) -> str:
    try:
        full = ((root or Path()) / path).resolve()
        inside = root is None or full.is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError) as err:  # a NUL, a loop of links, a name that is too long
        raise InputError(f"href: {shown!r} is not a usable path ({err.__class__.__name__})") from None
    if not inside:
        raise InputError(f"href: {shown!r} lies outside the catalog's folder {root}")
    return str(full)


def check_host(host: str, shown: str, *, look_up: bool = True) -> None:
    """Raises InputError if ``host`` is or resolves to an address that is not public."""
    if not host or not re.fullmatch(r"[A-Za-z0-9._:\[\]%-]+", host):
        raise InputError(f"href: {shown!r} has no plain host name")
    try:
        private = not settings().private_hosts and _private(host.lower().rstrip("."), look_up)
    except (OSError, UnicodeError):  # it does not resolve: not known, and looked at when it is connected to
        private = False
    if private:
        raise InputError(f"href: {shown!r} points to a private host; set GEOML_PRIVATE_HOSTS=true to allow it")


@lru_cache(maxsize=1024)
def _private(host: str, look_up: bool = True) -> bool:
    """True for loopback, link-local, private and reserved hosts, in any spelling (``127.1``, ``0x7f000001``).

    Raises OSError or UnicodeError for a name that does not resolve, so that this is not remembered.
    """
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not is_public(host)
    except ValueError:
        pass
    try:
        return not _public(ipaddress.ip_address(socket.inet_aton(host)))
    except OSError:
        pass
    if not look_up:
        return False
    addresses = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return not all(is_public(str(a[4][0])) for a in addresses)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet. Raises ValueError for what is not an address."""
    return _public(ipaddress.ip_address(address.split("%")[0]))


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if (inner := address.ipv4_mapped) is not None:  # what a socket of both families calls IPv4
            return _public(inner)
        if address not in _UNICAST:
            return False
    return address.is_global and not address.is_multicast and not any(address in n for n in _NOT_PUBLIC)


def scheme(text: object) -> str:
    """The scheme of a URL in small letters, as hosts see it; empty for what is not a URL."""
    before, mark, _ = str(text).partition("://")
    return before.lower() if mark else ""


def origin(url: str) -> tuple[str, int]:
    """(host in small letters, port) of an http or https URL. Raises InputError for another one."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        host, port = "", None
    if not host or port is None:
        raise InputError(f"{redact(url)!r} is not a URL; expected https://host/path")
    return host, port


def check_url(url: str, what: str) -> None:
    """Raise InputError, naming the field ``what``, for a malformed URL and for a user name in one. A path passes."""
    if why := wrong(url):
        raise InputError(f"{what}: {_shown(url)!r} {why}")


class RedactingFilter(logging.Filter):
    """For loggers of libraries that print whole URLs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = clean(record.getMessage()), ()
        return True
