"""The contents of a folder, to compare it with another folder or with its earlier state."""

from __future__ import annotations

from pathlib import Path

from geoml.io.stores.store import sha256


def tree(folder: Path, *, times: bool = False) -> dict[str, str]:
    """SHA-256 of every file of a folder by its path there, hidden ones too; with ``times`` also when it was written."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    return {str(p.relative_to(folder)): sha256(p) + f" {p.stat().st_mtime_ns}" * times for p in files}
