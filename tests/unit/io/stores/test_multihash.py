"""Checksums of the STAC file extension against its own example."""

from __future__ import annotations

import hashlib

from geoml.io.stores.multihash import multihash, sha256_of

EXAMPLE = "1220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Of no bytes at all; 12 is sha2-256 in the table of multicodec and 20 its length, 32, in hexadecimal digits."""


def test_a_sha256_becomes_a_multihash_and_comes_back() -> None:
    empty = hashlib.sha256(b"").hexdigest()
    assert multihash(empty) == EXAMPLE
    assert sha256_of(EXAMPLE) == empty


def test_what_is_no_sha256_gives_nothing() -> None:
    sha1 = "1114da39a3ee5e6b4b0d3255bfef95601890afd80709"
    assert [sha256_of(text) for text in ("", sha1, EXAMPLE[4:])] == ["", "", ""]
