"""A setting of the wrong kind and one that is misspelt are said, by commands, flows and Python alike."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from geoml.errors import InputError
from geoml.settings import OTHERS, Settings, misspelt, settings, variable

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("GEOML_THREADS", "abc", "valid integer"),
        ("GEOML_THREADS", "0", "greater than or equal to 1"),
        ("GEOML_THREADS", "-3", "greater than or equal to 1"),
        ("GEOML_THREADS", "1000000000", "less than or equal to 1024"),
        ("GEOML_THREADS", "9" * 5000, "exceeded maximum size"),
        ("GEOML_CHIP_BATCH", "-1", "greater than or equal to 0"),
        ("GEOML_CHIP_BATCH", "1000000", "less than or equal to 4096"),
        ("GEOML_PREFETCH", "0", "greater than or equal to 1"),
        ("GEOML_PREFETCH", "99999999", "less than or equal to 256"),
        ("GEOML_RETRIES", "-1", "greater than or equal to 0"),
        ("GEOML_RETRIES", "1000000", "less than or equal to 100"),
        ("GEOML_TIMEOUT", "1e300", "less than or equal to 86400"),
        ("GEOML_LEASE", "0", "greater than or equal to 0.01"),
        ("GEOML_LEASE", "1e12", "less than or equal to 86400"),
        ("GEOML_CACHE_BYTES", "1" + "0" * 30, "less than or equal to"),
        ("GEOML_MAX_TABLE_BYTES", "-1", "greater than or equal to 1"),
        ("GEOML_MAX_TABLE_BYTES", "1" + "0" * 30, "less than or equal to"),
        ("GEOML_WORKERS", "processes:99999", "processes:N"),
        ("GEOML_CHIP_BATCH", "1.5", "valid integer"),
        ("GEOML_TIMEOUT", "-1", "greater than 0"),
        ("GEOML_TIMEOUT", "nan", "finite"),
        ("GEOML_LEASE", "inf", "finite"),
        ("GEOML_COMPILE", "perhaps", "valid boolean"),
        ("GEOML_CACHE_BYTES", "-5", "greater than or equal to 0"),
        ("GEOML_MAX_TABLE_BYTES", "0", "greater than or equal to 1"),
        ("GEOML_SCHEMES", "https", "JSON list"),
        ("GEOML_SCHEMES", '{"a": 1}', "valid tuple"),
        ("GEOML_PRECISION", "fp16", "'bf16' or 'int8'"),
        ("GEOML_WORKERS", "processes:0", "processes:N"),
        ("GEOML_CATALOGS", "/no/such/folder", "no such folder"),
    ],
)
def test_a_value_of_the_wrong_kind_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, right: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as told:
        settings()
    for word in (name, right):
        assert word in str(told.value), told.value
    assert len(str(told.value)) < 400


def test_every_wrong_value_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_THREADS", "many")
    monkeypatch.setenv("GEOML_RETRIES", "-2")
    with pytest.raises(InputError, match=r"GEOML_THREADS: 'many'.*GEOML_RETRIES: '-2'"):
        settings()


def test_an_empty_value_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.setenv(variable(field), "")
    assert settings().timeout == 60


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    program = (
        [str(Path(sys.executable).with_name("geoml"))] if words[0] == "geoml" else [sys.executable, "-m", words[0]]
    )
    return subprocess.run(
        [*program, *words[1:]],
        env={**os.environ, **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("geoml", "models", "list"),
        pytest.param(
            ("geoml", "geolocate", "strip-exif", "catalogs/demo/pictures", "--out", "{}"), marks=pytest.mark.slow
        ),
        ("flows.predict", "catalogs/recipes/demo-predict.yaml", "--out", "{}"),
        pytest.param(("flows.monitor", "catalogs/recipes/demo-predict.yaml", "--out", "{}"), marks=pytest.mark.slow),
        pytest.param(("flows.train", "demo-itaipu", "--out", "{}"), marks=pytest.mark.slow),
        pytest.param(
            ("flows.geolocate", "catalogs/demo/pictures", "--model", "world-overhead", "--out", "{}"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_commands_and_flows_end_with_a_line_and_not_a_traceback(words: tuple[str, ...], tmp_path: Path) -> None:
    ended = run(*(w.format(tmp_path / "out") for w in words), GEOML_THREADS="abc", GEOML_TREADS="3")
    assert ended.returncode == InputError.exit_code, ended.stderr
    assert "InputError GEOML_THREADS: 'abc'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("GEOML_TREADS") == 1, "once in a process"
    assert "did you mean GEOML_THREADS?" in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_misspelt_variable_is_warned_of(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("GEOML_PRIVAT_HOSTS", "true")
    monkeypatch.setenv("geoml_quark", "1")
    with caplog.at_level(logging.WARNING):
        assert not settings().private_hosts
        settings()
    first, second = (r.getMessage() for r in caplog.records)
    assert "GEOML_PRIVAT_HOSTS" in first
    assert "GEOML_PRIVATE_HOSTS?" in first
    assert "geoml_quark" in second


def test_every_variable_that_the_project_speaks_of_is_known() -> None:
    """Neither a setting nor a variable of tests and stack is called misspelt; all settings are in the manual."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = [ROOT / p for p in listed if Path(p).suffix in {".py", ".md", ".yaml", ".sh", ".env", ".toml", ""}]
    here = Path(__file__).resolve()
    said = {
        w
        for p in texts
        if p.is_file() and p.resolve() != here
        for w in re.findall(r"\bGEOML_[A-Z_]*[A-Z]\b", p.read_text(encoding="utf-8"))
    }
    assert misspelt(said) == []
    assert said >= {*OTHERS, *map(variable, Settings.model_fields)}
    manual = (ROOT / "docs" / "all-of-geoml.md").read_text(encoding="utf-8")
    assert [n for n in map(variable, Settings.model_fields) if f"`{n}`" not in manual] == []
