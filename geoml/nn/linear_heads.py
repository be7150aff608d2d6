"""Heads that few labels are enough for, fitted in closed form or by L-BFGS: one face for all of them.

Features are standardised by who calls, so that one strength means the same everywhere; weights say how much a row
counts, so that a class or a polygon with many pixels is no louder than another. What shrinks a head grows with the
number of features, as the squared distances between rows do: 3 bands and 180 features need the same strength.

==========  ==========================================================================================================
prototype   the nearest mean of a class: Snell et al. 2017, https://arxiv.org/abs/1703.05175, equation 8
ridge       least squares of class indicators, shrunk: Hoerl and Kennard 1970, https://doi.org/10.1080/00401706.1970.10488634
logistic    multinomial, shrunk, by L-BFGS: scikit-learn's ``LogisticRegression``
kernel      ridge on the likeness to some rows, exp(-2 d^2 / features), for what no line parts: Williams and Seeger
            2000, Using the Nystrom Method to Speed Up Kernel Machines
==========  ==========================================================================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoml.errors import needs
from geoml.nn.applicability import squared

Floats = NDArray[np.float64]
Index = NDArray[np.int64]

UNSEEN = -1e4
"""Logit of a class that no row has: it is said nowhere, at any temperature."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """``weight`` (class, feature) and ``bias`` (class,) float64 of standardised features."""

    weight: Floats
    bias: Floats

    def logits(self, x: Floats) -> Floats:
        """(n, class) of (n, feature)."""
        found: Floats = x @ self.weight.T + self.bias
        return found

    def tempered(self, temperature: float) -> LinearHead:
        """Logits divided by a temperature: the class stays."""
        return LinearHead(self.weight / temperature, self.bias / temperature)


@dataclass(frozen=True, eq=False)
class KernelHead:
    """``head`` of the likeness to ``landmarks`` (n, feature)."""

    landmarks: Floats
    head: LinearHead

    def logits(self, x: Floats) -> Floats:
        """(n, class) of (n, feature)."""
        return self.head.logits(likeness(x, self.landmarks))

    def tempered(self, temperature: float) -> KernelHead:
        """As that of `LinearHead`."""
        return KernelHead(self.landmarks, self.head.tempered(temperature))


Head = LinearHead | KernelHead
Fit = Callable[[Floats, Index, Floats, int, float], Head]
"""``fit(x, y, weight, classes, strength)``: (n, feature), (n,) index, (n,) of mean 1, number of classes, and how far
the head is shrunk (one number for any n and any number of features)."""


def prototype(x: Floats, y: Index, weight: Floats, classes: int, strength: float = 0.0) -> LinearHead:
    """Half the squared distance to the mean of each class, over the square root of the number of features."""
    one = _indicators(y, classes) * weight[:, None]
    total = one.sum(0)
    means = (one.T @ x) / np.maximum(total, 1e-12)[:, None]
    scale = np.sqrt(x.shape[1])
    return LinearHead(means / scale, np.where(total > 0, -0.5 * (means**2).sum(1) / scale, UNSEEN))


def ridge(x: Floats, y: Index, weight: Floats, classes: int, strength: float) -> LinearHead:
    """Of indicators of -1 and 1; the intercept is not shrunk. ``strength`` is the penalty over the sum of weights
    and the number of features."""
    target = 2 * _indicators(y, classes) - 1
    total = weight.sum()
    center, middle = (weight @ x) / total, (weight @ target) / total
    z, t = (x - center) * np.sqrt(weight)[:, None], (target - middle) * np.sqrt(weight)[:, None]
    penalty = strength * x.shape[1] * total
    if len(z) < z.shape[1]:  # the smaller of the two systems has the same solution
        coefficients = z.T @ np.linalg.solve(z @ z.T + penalty * np.eye(len(z)), t)
    else:
        coefficients = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ t)
    seen = np.bincount(y, minlength=classes) > 0
    return LinearHead(coefficients.T, np.where(seen, middle - center @ coefficients, UNSEEN))


def logistic(x: Floats, y: Index, weight: Floats, classes: int, strength: float) -> LinearHead:
    """``strength``, times the number of features, weighs half the squared coefficients against the mean loss."""
    with needs("train", "logistic regression"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression  # a second to import, which a map does without

    known = np.unique(y)
    head = LogisticRegression(C=1 / (strength * x.shape[1] * weight.sum()), max_iter=300, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # hardly shrunk, it is judged as far as it came
        head.fit(x, y, weight)
    coefficients, intercept = head.coef_, head.intercept_
    if len(known) == 2:  # scikit-learn has one row for two classes
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    weights, bias = np.zeros((classes, x.shape[1])), np.full(classes, UNSEEN)
    weights[known], bias[known] = coefficients, intercept
    return LinearHead(weights, bias)


def likeness(x: Floats, landmarks: Floats) -> Floats:
    """(n, m) from 0 to 1 of (n, feature) standardised features and (m, feature) landmarks."""
    found: Floats = np.exp(-SHARP / x.shape[1] * squared(x, landmarks))
    return found


def kernel(x: Floats, y: Index, weight: Floats, classes: int, strength: float) -> KernelHead:
    """Ridge on the likeness to at most `LANDMARKS` rows: as many of each class, evenly of its rows."""
    order = np.argsort(y, kind="stable")
    count = np.bincount(y, minlength=classes)
    most = max(1, LANDMARKS // max(1, int((count > 0).sum())))
    rows = np.concatenate([
        part[np.unique(np.linspace(0, len(part) - 1, min(most, len(part))).round().astype(np.intp))]
        for part in np.split(order, np.cumsum(count)[:-1])
        if len(part)
    ])  # fmt: skip
    return KernelHead(x[rows], ridge(likeness(x, x[rows]), y, weight, classes, strength))


SHARP = 2.0
"""How fast likeness falls with the mean squared difference of standardised features."""
LANDMARKS = 256
HEADS: Mapping[str, Fit] = {"prototype": prototype, "ridge": ridge, "logistic": logistic, "kernel": kernel}
STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "prototype": (0.0,),
    "ridge": (0.15, 0.015, 0.0015, 0.00015),
    "logistic": (0.15, 0.015, 0.0015, 0.00015),
    "kernel": (0.0004, 0.000004),
}
"""What cross-validation chooses from, the most shrunk first."""


def _indicators(y: Index, classes: int) -> Floats:
    found: Floats = (y[:, None] == np.arange(classes)).astype(np.float64)
    return found


def softmax(logits: Floats) -> Floats:
    """(n, class) probabilities."""
    top = np.exp(logits - logits.max(1, keepdims=True))
    found: Floats = top / top.sum(1, keepdims=True)
    return found


def temperature(logits: Floats, y: Index, weight: Floats) -> float:
    """What logits are divided by so that the weighted likelihood of ``y`` is largest; 0.02 to 50.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        p = softmax(logits / np.exp(log_t))[np.arange(len(y)), y]
        return float(-(weight * np.log(np.maximum(p, 1e-12))).sum())

    found = minimize_scalar(loss, bounds=(np.log(0.02), np.log(50.0)), method="bounded")
    return float(np.exp(found.x))
