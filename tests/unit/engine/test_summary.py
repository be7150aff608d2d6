"""A run as Markdown: links where people find it, a digest by day, and untrusted text that stays text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from geoml.engine import summary
from geoml.errors import InputError
from geoml.settings import settings


@pytest.mark.parametrize(
    ("given", "out", "link"),
    [
        ("/data/runs=https://maps.example/runs/", "/data/runs/a/b", "https://maps.example/runs/a/b/report.html"),
        ("/data/runs/=https://maps.example", "/data/runs", "https://maps.example/report.html"),
        ("s3://bucket/maps=https://maps.example", "s3://bucket/maps/x/", "https://maps.example/x/report.html"),
        ("/data/runs=https://maps.example", "/data/runs-of-others/a", None),
        ("/data/runs=https://maps.example", "/elsewhere", None),
    ],
)
def test_a_report_is_linked_where_people_find_it(
    given: str, out: str, link: str | None, machine: Callable[..., None]
) -> None:
    machine(public_url=given)
    assert summary.public_url(out, "report.html") == link


@pytest.mark.parametrize("wrong", ["https://maps.example", "runs=https://a.example", "/runs=ftp://a", "/r=https://u@h"])
def test_a_wrong_setting_says_what_would_be_right(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOML_PUBLIC_URL", wrong)
    settings.cache_clear()
    with pytest.raises(InputError, match=r"GEOML_PUBLIC_URL.*FOLDER=URL"):
        settings()
    monkeypatch.undo()
    settings.cache_clear()


def test_a_digest_has_a_line_for_each_day() -> None:
    rows = [{"day": "2024-06-01", "change": "new"}] * 2 + [{"day": "2024-06-03", "change": "withdrawn"}]
    told = summary.digest("/runs/series", rows, {"2024-06-02": InputError("no [link](x)")})
    assert "## What changed: 2 new, 1 withdrawn" in told
    lines = told.splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| 2024")] == [
        "| 2024-06-03",
        "| 2024-06-02",
        "| 2024-06-01",
    ]
    assert "| 2024-06-01 | 2 |  |  |  | days/2024-06-01/report.html |" in lines
    assert r"- 2024-06-02 failed: no \[link\](x)" in lines


def test_what_is_cut_is_counted() -> None:
    failed = {f"2024-{m:02}-{d:02}": InputError("late") for m in (1, 2, 3) for d in range(1, 29)}
    told = summary.digest("/runs/series", (), failed)
    assert "… and 24 earlier days" in told
    assert told.splitlines()[-1] == "- … and 74 more"


def test_a_run_with_failed_blocks_says_so(tmp_path: Path) -> None:
    assert summary.of_run(str(tmp_path)) is None
    done, failed = ["a", "b"], {f"f{k}": "cut [short]" for k in range(12)}
    run = {"title": "rivers", "valid_percent": 50.0, "blocks": {"done": done, "failed": failed}, "warnings": ["old"]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "report.html").write_text('<img src="data:image/png;base64,AAAA" alt="no picture">')
    told = (summary.of_run(str(tmp_path)) or "").splitlines()
    assert "**12 of 14 blocks failed.** 50.0 % of the region has data." in told
    assert {"- Warning: old", r"- f0 failed: cut \[short\]", "- … and 2 more"} <= set(told)
    assert not any("base64" in line for line in told)


def test_untrusted_text_is_no_markdown() -> None:
    assert summary.escaped("a|b\n# c <img>") == r"a\|b\\n\# c \<img\>"
    assert summary.escaped("see https://a.example ~~x~~ 10:30") == r"see https\://a.example \~\~x\~\~ 10:30"
