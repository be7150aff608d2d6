"""No form of a URL shows or keeps a secret, however odd; what is no secret stays; and time follows the length."""

from __future__ import annotations

import json
import logging
import pickle
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoml.errors import DataError, InputError
from geoml.io.stores.hrefs import check_url, clean
from geoml.io.stores.signed import Signatures, join_url, signed
from geoml.logs import Line
from geoml.redacted import bare, redact, shown, wrong

FORMS = [
    *(f"https://user:{word}@host.example/x" for word in (
        "S3CRET", "a#S3CRET", "a?S3CRET", "a/S3CRET", "a\\S3CRET", "a;S3CRET", "a:S3CRET", "a@S3CRET", "1/S3CRET",
        "p#a?s/S3CRET@w", "a%3FS3CRET", "a%2FS3CRET", "a%23S3CRET", "a%40S3CRET", "a%2540S3CRET", "a://S3CRET",
        '"S3CRET', "a S3CRET", "a'S3CRET", "a<S3CRET", "a\nS3CRET", "a\tS3CRET", "\u2028S3CRET", "S3CRET\uff20w",
    )),
    "https://S3CRET@host.example/x", "https://user%3AS3CRET%40host.example/x", "https://user:S3CRET%40host.example/x",
    "https%3A%2F%2Fuser%3AS3CRET%40host.example%2Fx", "https://us\ner:S3CRET@host.example/x",
    "user:S3CRET@host.example/x", "user:a/S3CRET@host.example/x", "user:a?S3CRET@host.example/x",
    "//user:S3CRET@host.example/x", "//S3CRET@host.example/x", "https:/user:S3CRET@host.example/x",
    "https:\\\\user:S3CRET@host.example\\x", "https:\\/\\/user:S3CRET@host.example\\/x",
    "https:///user:S3CRET@host.example/x", "https://user:S3CRET", "https://user.name:1/S3CRET@host.example/x",
    "HTTPS://user:S3CRET@host.example/x", "HtTp://user:S3CRET@host.example/x", "ftp://user:S3CRET@host.example/x",
    "postgresql+asyncpg://user:S3CRET@db:5432/x", "https://user:S3CRET@127.0.0.1:8000/x", "https://user:S3CRET@[::1]/x",
    "https://user:S3CRET@host.example:99999/x", "https://user:S3CRET@[host.example/x",
    "s3://KEY:S3CRET@bucket/x", "s3://KEY:a/S3CRET+b@bucket/x", "gs://KEY:S3CRET@bucket/x", "az://S3CRET@bucket/x",
    "https://host.example/x?sig=S3CRET", "https://host.example/x?S3CRET", "https://host.example/x#S3CRET",
    "https://host.example?sig=S3CRET", "https://host.example/x?a=b@c&sig=S3CRET", "http://minio:9000/x?sig=S3CRET",
    "https://[::1]:80/x?S3CRET", "https://host.example/x%3Fsig=S3CRET", "https://host.example/x%3Fsig%3DS3CRET",
    "https://host.example/x;sig=S3CRET", "https://host.example/x;sig=S3CRET/y", "https://host.example/x?sig='S3CRET'",
    "https://host.example/x?to=https://b.example/y?sig=S3CRET", "/vsicurl/https://user:S3CRET@host.example/x",
    "/vsicurl?url=https://host.example/x&header=S3CRET",
]  # fmt: skip

PORTS = ["https://user:1/S3CRET@host.example/x", "https://user.name:1/S3CRET@host.example/x"]
"""By RFC 3986 port 1 of the host `user`, with an @ in the path: no message shows it, and an output has to keep it."""

NAMED = [f for f in FORMS if "@" in f and "://" in f and "@c&" not in f and "vsi" not in f and f not in PORTS]

PATHS = ["host.example/x?sig=S3CRET", "host.example/x#token=S3CRET", "/x?sig=S3CRET"]
"""What a message may not show and what may be the name of a file."""


def ways(form: str) -> dict[str, str]:
    """How a form comes to be shown."""
    record = Line("geoml", logging.INFO, "", 0, "read %s and %s", (form, {"href": form}), None)
    try:
        check_url(form, "model")
        said = "passes"
    except InputError as err:
        said = str(err)
    return {
        "alone": shown(form), "text": redact(form), "sentence": redact(f"catalog: {form}: not found; try {form}"),
        "repr": redact(repr({"href": form, "b": [form]})), "json": redact(json.dumps({"href": form, "b": "c"})),
        "error": str(DataError(f"item A: {form!r} is gone")),
        "pickled": str(pickle.loads(pickle.dumps(DataError(form)))),
        "log": record.getMessage(), "library": clean(f'"GET {form} HTTP/1.1" 403'), "refused": said,
    }  # fmt: skip


@pytest.mark.parametrize("form", [*FORMS, *PATHS])
def test_no_message_shows_a_secret(form: str) -> None:
    assert {how: text for how, text in ways(form).items() if "S3CRET" in text} == {}


@pytest.mark.parametrize("form", [f for f in FORMS if f not in PORTS])
def test_no_output_keeps_a_secret(form: str) -> None:
    assert "S3CRET" not in bare(form)
    assert bare(bare(form)) == bare(form)


@pytest.mark.parametrize("form", NAMED)
def test_user_names_are_refused_without_being_shown(form: str) -> None:
    assert wrong(form) is not None
    with pytest.raises(InputError, match=r"^model: ") as caught:
        check_url(form, "model")
    assert "user:" not in str(caught.value)


GOOD = [
    "https://a.example/x/a@b.tif", "http://127.0.0.1:8000/a@b.tif", "s3://bucket/a@b.tif", "s3://bucket/key.tif",
    "file:///data/a@b.tif", "/data/a:b@c.tif", "./a b.tif", "C:\\a@b.tif", "EPSG:4326", "https://[::1]:80/x",
    "HTTPS://A.example:8443/x%20y.tif", "gs://b/x.tif",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_what_is_no_secret_stays(url: str) -> None:
    assert [bare(url), shown(url), redact(url)] == [url] * 3
    assert wrong(url) is None


def test_outputs_keep_what_messages_shorten() -> None:
    """A host without a dot and a port may be a user and the start of a password; an output needs the whole href."""
    assert bare("http://minio:9000/b/a@b.tif?sig=1#x") == "http://minio:9000/b/a@b.tif"
    assert redact("http://minio:9000/b/a@b.tif") == "http://b.tif"
    assert bare("/data/what?.tif") == "/data/what?.tif"


@pytest.mark.parametrize("text", [
    "catalog https://a.example: 3 items; the last is a:b, at 12:30:00", "did you mean 'x'? it has red, nir",
    "https://a.example/x: HTTP 404 (me@a.example)", "C:\\x: not readable", "item A, asset b (https://a.example/x.tif)",
])  # fmt: skip
def test_sentences_stay(text: str) -> None:
    assert redact(text) == text


def test_several_urls_of_one_text() -> None:
    said = redact("from https://u:S3CRET@a.example/x?y=1 to s3://K:S3CRET@b/c, not <https://c.example/d#S3CRET>")
    assert said == "from https://a.example/x to s3://b/c, not <https://c.example/d>"


@given(st.text("ab:/@?#;%40 .'\\\"<\n", max_size=12), st.text(max_size=12))
@settings(deadline=None)
def test_no_character_of_a_password_lets_the_others_through(before: str, after: str) -> None:
    url = f"https://user:a{before}S3CRET{after}@host.example/x"
    assert "S3CRET" not in shown(url)
    assert "S3CRET" not in bare(url)


@pytest.mark.parametrize("piece", [
    "https://", "a", "a:", "@", "%25", "https://u:p", "https://u:p@h/x?a ", "://", "x?", "u:p@h ", "https://u:p ", "a://b:c",
    ";a=", "a://b@",
])  # fmt: skip
def test_time_follows_the_length(piece: str) -> None:
    """Ten times the text in less than forty times the time: with a square it would be a hundred."""

    def took(size: int) -> float:
        text = piece * (size // len(piece))
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            redact(text), shown(text), bare(text), wrong(text)
            best = min(best, time.process_time() - start)
        return best

    assert took(50_000) < 40 * max(took(5_000), 1e-4)


def test_signatures_are_remembered_for_their_place_alone() -> None:
    taken = Signatures({"https://a.example/m": "sig=S3CRET"})
    assert "S3CRET" not in repr(taken) + str(taken)
    pickle.loads(pickle.dumps(taken)).install()
    assert signed("https://a.example/m/model.json", "model") == "https://a.example/m/model.json?sig=S3CRET"
    for other in ("https://a.example/m2/model.json", "https://a.example/x", "https://b.example/m", "s3://a.example/m"):
        assert signed(other, "model") == other
    assert signed("https://a.example/m/x.jpg", "picture") == "https://a.example/m/x.jpg"
    assert signed("https://a.example/m/x.json?sig=new", "model") == "https://a.example/m/x.json?sig=new"
    assert signed("https://a.example/m/y.json", "model").endswith("?sig=new")
    assert join_url("https://a.example/m/?sig=1", "model.json") == "https://a.example/m/model.json?sig=1"
