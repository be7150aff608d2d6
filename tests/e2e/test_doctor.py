"""`geoml doctor`: what it finds, what it hides, what it calls broken, and that it asks nobody unless told."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from geoml.cli import doctor
from geoml.settings import PREFIX, settings
from tests.docs import documents
from tests.e2e.printed import Cli, prints, rows, said, wide
from tests.integration import fault_server

__all__ = ["said", "wide"]  # fixtures


@prints("doctor")
def test_doctor(said: Callable[..., str], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show-me")
    for name in (
        "GDAL_HTTP_USERPWD",
        "GDAL_HTTP_HEADERS",
        "GDAL_HTTP_COOKIE",
        "AZURE_SAS",
        f"{PREFIX}OTHER",
        "https_proxy",
    ):
        monkeypatch.setenv(name, "do-not-show-me")
    monkeypatch.setenv("GDAL_CACHEMAX", "64")
    monkeypatch.setenv("GEOML_DATA", "https://user:do-not-show-me@host.example/data")
    told = said("doctor")
    assert "Nothing that geoml needs is broken." in told
    assert "do-not-show-me" not in told
    for name in ("AWS_SECRET_ACCESS_KEY", "GDAL_HTTP_USERPWD", "AZURE_SAS", "https_proxy"):
        assert rows(told)[f"environment: {name}"] == ["", "set, not shown"]
    assert rows(told)["environment: GDAL_CACHEMAX"] == ["", "64"]
    told_in_json = said("doctor", "--json")
    assert "do-not-show-me" not in told_in_json
    found = json.loads(told_in_json)
    by_name = {(one["section"], one["name"]): one for one in found["found"]}
    assert by_name["versions", "torch"]["about"] == torch.__version__.partition("+")[0]
    assert by_name["extra", "openvino"]["state"] == "ok"
    assert {one["state"] for one in found["found"]} <= {"ok", "missing", "info"}
    monkeypatch.setattr("geoml.cli.doctor.DRIVERS", {"NoSuchDriver": "a format"})
    broken = cli("doctor")
    assert broken.exit_code == 1
    assert "Broken: NoSuchDriver" in broken.stdout


def test_doctor_has_words_for_every_extra() -> None:
    declared = tomllib.loads((documents.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(doctor.EXTRAS) == set(declared["optional-dependencies"]) - {doctor.ALL}


def test_doctor_asks_the_services_that_are_configured(
    said: Callable[..., str], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("PREFECT_API_URL", "GEOML_WORKERS", "AWS_ENDPOINT_URL")
    for name in (*names, "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    told = rows(said("doctor"))
    for name in ("Prefect API", "Dask scheduler", "object store"):
        assert told[f"services: {name}"][1].startswith("not configured")
    with fault_server.serve() as server:
        answers = [server.url, f"tcp://{server.url.removeprefix('http://')}", server.url]
        for name, value in zip(names, answers, strict=True):
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        told = rows(said("doctor"))
    assert [told[f"services: {n}"][0] for n in ("Prefect API", "Dask scheduler", "object store")] == ["ok"] * 3
    silent = ["http://me:do-not-show-me@127.0.0.1:9/api", "tcp://127.0.0.1:9", "http://127.0.0.1:9"]
    for name, value in zip(names, silent, strict=True):
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    refused = cli("doctor", "--json")
    assert refused.exit_code == 1
    assert "do-not-show-me" not in refused.output
    found = {one["name"]: one["state"] for one in json.loads(refused.stdout)["found"] if one["section"] == "services"}
    assert set(found.values()) == {"broken"}
    settings.cache_clear()


def test_doctor_asks_catalogs_only_when_told(
    said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "there.yaml").write_text(
        f"url: {documents.ROOT / 'catalogs' / 'demo' / 'catalog.json'}\nkind: static\n"
    )
    (tmp_path / "gone.yaml").write_text("url: http://127.0.0.1:9/stac\nkind: api\n")
    monkeypatch.setenv("GEOML_CATALOGS", str(tmp_path))
    settings.cache_clear()
    assert set(rows(said("doctor"))) & {"catalogs: there", "catalogs: gone"} == set()
    told = rows(said("doctor", "--catalogs"))
    assert told["catalogs: there"][0] == "ok"
    assert told["catalogs: gone"][0] == "missing"
    settings.cache_clear()


def test_doctor_asks_for_a_catalog_in_a_bucket_as_one(
    said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("there", "gone"):
        (tmp_path / f"{name}.yaml").write_text(f"url: s3://{name}/catalog.json\nkind: static\n")
    with fault_server.serve(files={"/there/catalog.json": b"{}"}) as server:
        asked = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": server.url}
        for name, value in {**asked, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("GEOML_CATALOGS", str(tmp_path))
        settings.cache_clear()
        told = rows(said("doctor", "--catalogs"))
    assert told["catalogs: there"] == ["ok", "s3://there/catalog.json"]
    assert told["catalogs: gone"][0] == "missing"
    settings.cache_clear()
