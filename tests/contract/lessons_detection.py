"""What a detector is taught: rendered boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from geoml import testing
from geoml.data.targets.boxes import boxes_of
from geoml.engine import task as tasks
from geoml.engine.contract import Rows, output_of
from geoml.grid.plane import Window
from geoml.nn.objects.centre_heat import render
from geoml.vector.boxes import COLUMNS, edges, iou, suppress
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
        """Share of the true boxes that the best candidate of the right class there overlaps by half."""
        hits = total = 0
        for answer, truth in zip(raw, target.numpy(), strict=True):
            known = torch.ones(answer.shape[1:], dtype=torch.bool)
            output = output_of(testing.card("learnt", ["red"], ["0", "1"], task="detection", chip_size=64))
            chip = Window(0, 0, *known.shape)
            columns = {k: v.numpy() for k, v in output.candidates(answer, chip, known).items()}  # type: ignore[union-attr]
            found = suppress(dict(zip(COLUMNS, output.answer(Rows(chip, columns))[0].T, strict=True)), 0.5)
            for index, _, *sides in boxes_of(truth).tolist():
                mine = edges(found)[found["class"] == index]
                total += 1
                hits += bool(len(mine)) and bool(iou(mine[:1], np.array([sides]))[0] > 0.5)
        return hits / total


LESSON = BoxLesson()
