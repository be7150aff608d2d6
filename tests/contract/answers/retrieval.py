"""Of places that are known again."""

from __future__ import annotations

from geoml.geolocation.training.recall import Recall, RecallScores
from tests.contract.cases import Answers, Parts


def make(name: str) -> Answers:
    def found(share: float, queries: int = 60) -> Parts:
        """Of 50 tiles one is near."""
        recall = Recall(round(share * queries), queries, 50, queries)
        return [("north_up", recall), ("any_heading", recall)]

    return Answers(
        scores=RecallScores,
        best=1.0,
        perfect=found(1.0),
        nothing=found(1 / 50, 100),
        parts=[*found(0.5, 20), *found(0.25, 40)],
        whole=found(1 / 3),
        shown=lambda scores: {
            "model": "made", "recall": [{"ground": 0, "reference": 0, "query": 1, "tiles": 50, **scores}]
        },
    )  # fmt: skip
