"""Which back end ran the network: recorded in the items of blocks, and summarised for the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from geoml.io.software import UNKNOWN

BEFORE = {"name": "torch", "precision": UNKNOWN, "reason": UNKNOWN, "proof": None}
"""Of a block by an older geoml, which did not write it."""


def count_backends(found: Sequence[object]) -> tuple[dict[str, Any], str]:
    """Contents of ``run.json`` of the back end of blocks, and a warning where there were several.

    ``found`` is `geoml.io.software.MADE_BY` of each. Of several it is that of most blocks, and ``blocks`` counts each.
    """
    facts = [f for f in found if isinstance(f, dict)]
    like_before = next((f for f in facts if f.get("name") == "torch"), BEFORE)
    facts += [like_before] * (len(found) - len(facts))
    counts = Counter(f"{f.get('name')} {f.get('precision')}" for f in facts)
    if len(counts) <= 1:
        return dict(facts[0] if facts else BEFORE), ""
    (kind, _), *_ = counts.most_common(1)
    most = next(f for f in facts if f"{f.get('name')} {f.get('precision')}" == kind)
    words = ", ".join(f"{n} by {name}" for name, n in counts.most_common())
    return {**most, "blocks": dict(counts)}, f"blocks were made by several back ends or precisions: {words}"
