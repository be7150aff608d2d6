"""Hrefs are hostile until shown otherwise."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoml.errors import InputError
from geoml.io.stores import hrefs
from geoml.io.stores.hrefs import gdal_path, redact
from geoml.settings import settings


@pytest.fixture(autouse=True)
def _names_resolve_to_public(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        address = {"intranet.example": "10.1.2.3", "half.example": "192.168.0.1"}.get(host, "93.184.216.34")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    hrefs._private.cache_clear()
    settings.cache_clear()


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://data.example/a/B04.tif", "https://data.example/a/B04.tif"),
        ("http://data.example:8080/B04.tif?sig=abc", "http://data.example:8080/B04.tif?sig=abc"),
        ("https://93.184.216.34/x.tif", "https://93.184.216.34/x.tif"),
        ("https://[2606:2800:220:1::1]/x.tif", "https://[2606:2800:220:1::1]/x.tif"),
        ("https://data.example/a b/ö.tif", "https://data.example/a b/ö.tif"),
        ("s3://sentinel-cogs/a/B04.tif", "s3://sentinel-cogs/a/B04.tif"),
        ("gs://bucket/a.tif", "gs://bucket/a.tif"),
        ("az://container/a.tif", "az://container/a.tif"),
    ],
)
def test_good_urls_stay_as_they_are(href: str, expected: str) -> None:
    assert gdal_path(href, remote=True) == expected
    assert gdal_path(href, remote=False) == expected


@pytest.mark.parametrize(
    "href",
    [
        "",
        "  ",
        " https://data.example/x.tif",
        "/etc/passwd",
        "../x.tif",
        "x.tif",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "FILE:///etc/passwd",
        "/vsicurl/http://data.example/x.tif",
        "/vsicurl?header_file=/home/me/secret&url=http://data.example/",
        "/VSIMEM/x.tif",
        "https://data.example/%2fvsizip/x.tif",
        "vsis3/bucket/x.tif",
        "<VRTDataset rasterXSize='1'/>",
        "WMS:http://data.example/wms",
        "GTIFF_DIR:1:/etc/x.tif",
        'NETCDF:"x.nc":v',
        "zip+file:///x.zip!a.tif",
        "zip+https://data.example/x.zip!a.tif",
        "ftp://data.example/x.tif",
        "gopher://data.example/x.tif",
        "https://data.example/x.tif?header_file=/home/me/secret",
        "https://data.example/x.tif?a=1&HEADER_FILE=%2Fetc%2Fx",
        "https://user:password@data.example/x.tif",
        "https://data.example\\@127.0.0.1/x.tif",
        "https://data.example/x.tif\nHost: other",
        "https://data.example/x\x00.tif",
        "https:///x.tif",
        "https://exa mple/x.tif",
        "https://data.example:99999/x.tif",
        "https://①②⑦.0.0.1/x.tif",
        "s3://bucket",
        "s3://bucket/",
        "s3://bu cket/x.tif",
        "s3://bucket/../other/x.tif",
        "s3://bucket/%2e%2e/other/x.tif",
        "s3:///x.tif",
        "s3://user@bucket/x.tif",
    ],
)
def test_everything_else_from_a_remote_catalog_is_refused(href: str) -> None:
    with pytest.raises(InputError, match="href"):
        gdal_path(href, remote=True)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "db.localhost",
        "printer.local",
        "metadata.google.internal",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fd00::1]",
        "[fe80::1%25eth0]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "224.0.0.1",
        "168.63.129.16",  # Azure's host agent
        "100.100.100.200",  # metadata of Alibaba's cloud
        "192.0.0.192",  # of Oracle's
        "192.88.99.1",
        "198.18.0.1",
        "255.255.255.255",
        "[fd00:ec2::254]",  # of Amazon's
        "[fec0::1]",
        "[64:ff9b::5db8:d822]",  # a public address in NAT64's dress
        "[64:ff9b:1::a00:1]",
        "[::ffff:168.63.129.16]",
        "[::ffff:0:7f00:1]",
        "[::127.0.0.1]",
        "[2002:5db8:d822::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",  # Teredo
        "[2001:db8::1]",
        "[3fff::1]",
        "[5f00::1]",
        "[ff0e::1]",
        "intranet.example",
    ],
)
def test_private_hosts_are_refused_in_any_spelling(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    href = f"https://{host}/x.tif"
    with pytest.raises(InputError, match="private"):
        gdal_path(href, remote=True)
    monkeypatch.setenv("GEOML_PRIVATE_HOSTS", "true")
    settings.cache_clear()
    assert gdal_path(href, remote=True) == href


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "2a00:1450::5", "::ffff:93.184.216.34"])
def test_addresses_of_the_open_internet(address: str) -> None:
    assert hrefs.is_public(address)


def test_a_name_that_does_not_resolve_is_not_remembered_as_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """It passes, since it may be a blip and who is connected to is looked at; a moment later it is asked for again."""
    answers: list[str] = ["", "10.1.2.3"]

    def lookup(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        if not (address := answers.pop(0)):
            raise socket.gaierror("no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    gdal_path("https://later.example/x.tif", remote=True)
    with pytest.raises(InputError, match="private host"):
        gdal_path("https://later.example/x.tif", remote=True)


def test_origins_have_a_port() -> None:
    assert hrefs.origin("HTTPS://Data.Example./x") == hrefs.origin("https://data.example:443/y")
    assert hrefs.origin("http://data.example") == ("data.example", 80)
    for wrong in ("http://[", "https://h:99999/", "s3://bucket/key", "/path"):
        with pytest.raises(InputError, match="is not a URL"):
            hrefs.origin(wrong)


def test_schemes_come_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_SCHEMES", '["https"]')
    settings.cache_clear()
    with pytest.raises(InputError, match="expected https://"):
        gdal_path("s3://bucket/x.tif", remote=True)
    monkeypatch.setenv("GEOML_SCHEMES", '["https", "ftp"]')
    settings.cache_clear()
    with pytest.raises(InputError, match="scheme 'ftp'"):  # allowed by mistake; there is still no way to read it
        gdal_path("ftp://data.example/x.tif", remote=True)


def test_a_local_catalog_may_name_files_below_its_root(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.tif").touch()
    wanted = str(root / "a" / "x.tif")
    assert gdal_path("a/x.tif", remote=False, root=root) == wanted
    assert gdal_path("./a/../a/x.tif", remote=False, root=root) == wanted
    assert gdal_path(wanted, remote=False, root=root) == wanted
    assert gdal_path(f"file://{wanted}", remote=False, root=root) == wanted
    assert gdal_path(f"file://localhost{wanted}", remote=False, root=root) == wanted
    assert gdal_path("/somewhere/x.tif", remote=False) == "/somewhere/x.tif"


def test_a_local_catalog_cannot_leave_its_root(tmp_path: Path) -> None:
    root = tmp_path / "catalog"
    root.mkdir()
    (tmp_path / "secret.tif").touch()
    (root / "link.tif").symlink_to(tmp_path / "secret.tif")
    (root / "loop.tif").symlink_to(root / "loop.tif")
    for href in ("../secret.tif", "link.tif", str(tmp_path / "secret.tif"), f"file://{tmp_path}/secret.tif"):
        with pytest.raises(InputError, match="outside the catalog's folder"):
            gdal_path(href, remote=False, root=root)
    for href in ("file://other/x.tif", "WMS:x", "/vsizip/x.zip", "zip+file://x", "x\x00.tif", "<xml>"):
        with pytest.raises(InputError):
            gdal_path(href, remote=False, root=root)
    with pytest.raises(InputError):
        gdal_path("https://127.0.0.1/x.tif", remote=False, root=root)


@given(st.text(max_size=60))
def test_any_text_is_a_url_or_an_input_error(text: str) -> None:
    try:
        path = gdal_path(text, remote=True)
    except InputError:
        return
    assert path.startswith(("http://", "https://", "s3://", "gs://", "az://"))


@given(st.text(max_size=40))
def test_any_local_path_stays_inside(text: str) -> None:
    root = Path("/nowhere/catalog")
    try:
        path = gdal_path(text, remote=False, root=root)
    except InputError:
        return
    assert "://" in path or Path(path).is_relative_to(root)


def test_redact_takes_secrets_out_of_hrefs_and_of_sentences() -> None:
    assert redact("https://a.example/x.tif?sig=S3CRET&se=1#frag") == "https://a.example/x.tif"
    assert redact("https://me:S3CRET@a.example/x.tif") == "https://a.example/x.tif"
    assert redact("https://me:S3CRET@[::1]:80/x?S3CRET") == "https://[::1]:80/x"
    said = redact("GET 'https://a.example/x?token=S3CRET' failed, so did /vsicurl/https://b.example/y.tif?sig=S3CRET.")
    assert "S3CRET" not in said
    assert "https://a.example/x' failed" in said
    assert redact("/data/a.tif") == "/data/a.tif"
    assert redact("s3://bucket/key.tif") == "s3://bucket/key.tif"


def test_errors_do_not_show_signatures() -> None:
    with pytest.raises(InputError) as caught:
        gdal_path("https://127.0.0.1/x.tif?sig=S3CRET", remote=True)
    assert "S3CRET" not in str(caught.value)
