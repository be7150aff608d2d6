# SPDX-License-Identifier: GPL-2.0-or-later
"""A Processing provider that runs the geoml command."""

from __future__ import annotations

from typing import Any


def classFactory(interface: Any) -> Any:
    """The plugin."""
    from .plugin import Plugin

    return Plugin()
