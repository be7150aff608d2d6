"""From scores of a detector to confidences, by the curves of its card, and thresholds by class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoml.io.cards.map_card import MapCard
from geoml.nn.objects.box_calibration import Knots
from geoml.vector.boxes import Boxes


class ScoreScale:
    """What scores of the classes of a card are worth; without a record of it they stay as they are.

    ``score`` is the one from which on objects are then reported.
    """

    def __init__(self, card: MapCard, score: float) -> None:
        self.score = score
        known = card.detection.classes if card.detection else {}
        self.records = {c.value: known[c.name] for c in card.classes if c.name in known}
        self._knots = {value: Knots.of(record.knots) for value, record in self.records.items()}

    def confidence(self, boxes: Boxes) -> NDArray[np.float64]:
        """(n,) chance to be a true object."""
        out = boxes["score"].astype(np.float64)
        for value, knots in self._knots.items():
            mine = boxes["class"] == value
            out[mine] = knots(out[mine])
        return out

    def reported(self, boxes: Boxes) -> NDArray[np.bool_]:
        """(n,) True from the threshold of the class on."""
        least = np.full(256, self.score)
        for value, record in self.records.items():
            least[value] = record.threshold
        return np.asarray(boxes["score"] >= least[boxes["class"].astype(np.intp)])
