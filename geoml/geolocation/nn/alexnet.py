"""AlexNet: five convolutions and three fully connected layers.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks. NIPS 2012,
https://papers.nips.cc/paper/4824; in the single-tower form of Krizhevsky: One weird trick for parallelizing
convolutional neural networks. 2014, https://arxiv.org/abs/1404.5997, which torchvision has too: names of weights are
the same, so that its weights fit. ``local_response`` adds the normalisation after the first two layers of the paper of
2012, which later work left out.
"""

from __future__ import annotations

from torch import Tensor, nn

from geoml.errors import InputError

FEATURES = 4096
"""Width of the second fully connected layer, which is what follows takes."""
LEAST_SIZE = 63
"""Sides of the smallest picture that is left with a pixel after the last pooling."""


def _local_response() -> nn.Module:
    """Section 3.3 of the paper: k 2, n 5, alpha 1e-4 (torch divides alpha by n), beta 0.75."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


class AlexNet(nn.Module):
    """(B, 3, H, W) float to (B, 4096) features, or (B, ``classes``) logits of the third fully connected layer."""

    def __init__(self, classes: int | None = None, dropout: float = 0.5, local_response: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        self.response = _local_response() if local_response else None
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, FEATURES),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(FEATURES, FEATURES),
            nn.ReLU(),
            nn.Identity() if classes is None else nn.Linear(FEATURES, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < LEAST_SIZE:
            raise InputError(f"picture: {x.shape[-2]} x {x.shape[-1]} pixels; alexnet needs sides of {LEAST_SIZE}")
        for place, layer in enumerate(self.features):
            x = layer(x)
            if self.response is not None and place in (1, 4):
                x = self.response(x)
        return self.classifier(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]
