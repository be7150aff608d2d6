"""``file:checksum`` of the STAC file extension, a multihash (https://github.com/multiformats/multihash): SHA-256."""

from __future__ import annotations

_SHA256 = "1220"
"""Code of sha2-256 and its length, 32 bytes."""


def multihash(sha256: str) -> str:
    """The multihash of a SHA-256 in hexadecimal digits."""
    return f"{_SHA256}{sha256}"


def sha256_of(checksum: str) -> str:
    """The SHA-256 in a multihash, as it is written; "" for one of another kind and for none."""
    return checksum.removeprefix(_SHA256) if checksum.startswith(_SHA256) else ""
