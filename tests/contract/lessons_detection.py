"""What a detector is taught: rendered boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geoml.engine import task as tasks
from geoml.nn.centre_heat import HEAT, INDEX, SIDES, render
from tests.contract.lessons import Loss


class BoxLesson:
    """Boxes by their centres."""

    rate = 3e-3

    def channels(self, classes: int) -> int:
        return classes + 4

    def loss(self, classes: int) -> Loss:
        return tasks.find_pixel_task("detection")(classes).loss  # type: ignore[call-arg]

    def target(self, batch: int, height: int, width: int, classes: int) -> Tensor:
        random = np.random.default_rng(2)
        pictures = []
        for _ in range(batch):
            top, left, tall, wide = random.integers([0, 0, 5, 5], [height // 2, width // 2, 20, 20], (6, 4)).T
            boxes = np.column_stack([random.integers(0, classes, 6), top, left, top + tall, left + wide])
            pictures.append(render(boxes.astype(float), (height, width)))
        return torch.from_numpy(np.stack(pictures))

    def by_heart(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pictures = []
        for k, image in enumerate(x):
            boxes = np.array([[k % 2, 8, 10, 23, 21], [1 - k % 2, 34, 30, 49, 57]], float)
            for index, top, left, bottom, right in boxes.astype(int).tolist():
                image[0, top:bottom, left:right] += 6 * (2 * index - 1)
            pictures.append(render(boxes, (height, width)))
        return torch.from_numpy(np.stack(pictures))

    def learnt(self, raw: Tensor, target: Tensor) -> float:
        """1 where at every centre the class is the right one and the sides are within a fifth."""
        at = target[:, HEAT] == 1
        index = raw[:, :-4].argmax(1)[at] == target[:, INDEX][at]
        off = (raw[:, -4:].movedim(1, -1)[at] - target[:, SIDES].movedim(1, -1)[at].log()).abs().amax(1)
        return float((index & (off < 0.2)).float().mean())


LESSON = BoxLesson()
