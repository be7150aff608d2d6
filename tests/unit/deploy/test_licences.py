"""Every package of the lock that is installed has a licence that is accounted for; what would not be is found."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("geoml_licences", ROOT / "docker" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["geoml_licences"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_every_package_here_is_accounted_for(licences: ModuleType) -> None:
    found, core = licences.here()
    assert licences.wrong(found, core) == []
    assert {"torch", "rasterio", "dask", "odc-stac"} <= core
    assert not {"psycopg", "plpygis", "pytest", "basemap-data", "prefect", "distributed"} & core


def test_all_of_the_lock_is_looked_at(licences: ModuleType) -> None:
    """Services and tools are in one lock with geoml, and in this environment."""
    lines = re.findall(r"^([\w.-]+==[^\\\n]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    wishes = [Requirement(line) for line in lines]
    here = {canonicalize_name(w.name) for w in wishes if w.marker is None or w.marker.evaluate()}
    assert len(here) > 200
    assert here - licences.here()[0].keys() == set()


@pytest.mark.parametrize(
    ("expression", "free"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("(MIT OR GPL-2.0-only) AND AGPL-3.0-only", False),
        ("Apache-2.0 WITH LLVM-exception AND ISC", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("MIT OR GPL-2.0-only AND AGPL-3.0-only", True),  # AND binds closer
        ("a licence of our own", False),
        ("MIT AND", False),
        ("(MIT", False),
        ("MIT)", False),
        ("", False),
    ],
)
def test_a_choice_and_a_sum_of_licences(licences: ModuleType, expression: str, free: bool) -> None:
    assert licences.permissive(expression) is free


OSI = "License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("metadata", "classifiers", "stated"),
    [
        ({"License-Expression": "Apache-2.0 OR MIT", "License": "GPL"}, [f"{OSI}BSD License"], "Apache-2.0 OR MIT"),
        ({"License": "MIT License"}, [], "MIT"),
        ({"License": "The MIT License (MIT)"}, [f"{OSI}MIT License"], "MIT"),
        ({"License": "GPL-3.0-or-later"}, [f"{OSI}MIT License"], "MIT AND GPL-3.0-or-later"),
        ({"License": "Copyright (c) 2015\nall rights"}, [f"{OSI}BSD License"], "BSD-3-Clause"),
        ({}, [f"{OSI}Apache Software License", f"{OSI}GNU General Public License (GPL)"], "Apache-2.0 AND GPL"),
        ({"License": "UNKNOWN"}, ["Programming Language :: Python"], ""),
        ({"License": "as you like"}, [], "as you like"),
    ],
)
def test_what_a_package_states(
    licences: ModuleType, metadata: dict[str, str], classifiers: list[str], stated: str
) -> None:
    assert licences.stated(metadata, classifiers) == stated


def test_what_is_not_accounted_for_is_named(licences: ModuleType) -> None:
    found = licences.wrong(
        {
            "fine": "MIT",
            "viral": "AGPL-3.0-only",
            "silent": "",
            "psycopg": "LGPL-3.0-only",
            "plpygis": "AGPL-3.0-only",
            "psycopg-pool": "LGPL-3.0-only",
            "nvidia-new": "LicenseRef-NVIDIA-Proprietary",
        },
        core={"fine", "psycopg-pool", "nvidia-new"},
    )
    assert [line.partition(":")[0] for line in found] == ["plpygis", "psycopg-pool", "silent", "viral"]
    assert "listed in docker/licences.py as 'GPL-3.0-only'" in found[0]
    assert "geoml itself needs it" in found[1]
