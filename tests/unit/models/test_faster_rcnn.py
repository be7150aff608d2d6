"""Faster R-CNN learns nothing from ground of which nothing is known, and does not break on it."""

from __future__ import annotations

import numpy as np
import torch

from geoml import models
from geoml.nn.metrics import IGNORE
from geoml.nn.objects.centre_heat import render


def test_unknown_ground_has_no_loss_and_no_gradient_that_is_not_finite() -> None:
    torch.manual_seed(0)
    tiny = models.find("faster_rcnn").TINY
    module = models.build("faster_rcnn", {**tiny, "bands": 2, "classes": 5}).train()
    target = torch.from_numpy(np.stack([render(np.zeros((0, 5)), (64, 64), IGNORE)]))
    loss = module.loss(module(torch.randn(1, 2, 64, 64)), target)  # type: ignore[operator]
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)
