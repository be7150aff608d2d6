"""Skill of a forecast: what it is better than, lead by lead and score by score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCORES = ("mae", "rmse", "crps")


def told(rows: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """The scores of the model ``name`` and, by lead, its skill against the best of the other rows for each score."""
    skill: dict[str, Any] = {}
    for lead, mine in rows[name]["leads"].items():
        skill[lead] = {}
        for score_name in SCORES:
            others = {other: row["leads"][lead][score_name] for other, row in rows.items() if other != name}
            known = {k: v for k, v in others.items() if v is not None}
            if not known or mine[score_name] is None:
                continue
            best = min(known, key=lambda k: known[k])
            part = 1 - mine[score_name] / known[best] if known[best] > 0 else None
            skill[lead][score_name] = {"best": best, "error": known[best], "skill": part}
    return {"crps": rows[name]["crps"], "mae": rows[name]["mae"], "levels": rows[name]["levels"], "name": name,
            "methods": {k: dict(v) for k, v in rows.items()}, "skill": skill}  # fmt: skip
