"""Densities over the sphere: what a picture says about its place, as a mixture of von Mises–Fisher components.

Every head answers with one, so that places, masses, regions, priors and temperatures are written once. Izbicki,
Papalexakis, Tsotras: Exploiting the Earth's Spherical Geometry to Geolocate Images. ECML 2019,
https://www.cs.ucr.edu/~epapalex/papers/19-ECML-PKDD-GeolocateImages.pdf.

Components below `PRUNE` of a picture's weight are left out of sums over densities and caps. Where no formula exists
(`credible` areas, `entropy`, `expected_geoscore`) the mixture is read at `NODES` points of equal mass, a
golden-angle spiral inside each component: no randomness, and an error of about 1 % of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from geoml.errors import InputError
from geoml.geolocation.density import vmf
from geoml.grid import sphere

Floats = NDArray[np.float64]
Places = tuple[Floats, Floats]

PRUNE = 1e-6
"""Least share of a picture's weight that a component needs to take part."""
NODES = 256
"""Points of equal mass that stand for a picture's density."""
CACHED = 1 << 16
"""Numbers that are worked on at once: larger arrays are fresh memory each time, which costs more than the sums."""
KEPT = 200_000
"""Weights of all pictures up to which sorted components are kept from question to question."""
STARTS = 32
"""Centres of components from which the mode is climbed to, those of the highest own peaks."""
GEOSCORE_KM = 1492.7
"""Scale of the GeoScore 5000 exp(-d / 1492.7 km): OpenStreetView-5M, https://arxiv.org/abs/2404.18873, section 5."""


@dataclass(frozen=True, eq=False)
class Density:
    """Mixtures of N pictures: ``weight`` (N, K) whose rows sum to 1; ``xyz`` (N, K, 3) or, shared by all, (K, 3) unit
    vectors; ``kappa`` (N, K) or (K,), at least 0. Raises InputError for shapes that do not fit or non-finite values.
    """

    weight: Floats
    xyz: Floats
    kappa: Floats

    def __post_init__(self) -> None:
        w, x, k = (np.asarray(v, np.float64) for v in (self.weight, self.xyz, self.kappa))
        shape = w.shape
        if w.ndim != 2 or x.shape not in ((*shape[1:], 3), (*shape, 3)) or k.shape not in (shape[1:], shape):
            raise InputError(
                f"density: weight {shape}, xyz {x.shape}, kappa {k.shape}; expected (N, K), with 3, (N, K)"
            )
        if not (np.isfinite(w).all() and np.isfinite(x).all() and np.isfinite(k).all() and (w >= 0).all()):
            raise InputError("density: weights below zero or values that are not finite")
        total, length = w.sum(1, keepdims=True), np.linalg.norm(x, axis=-1, keepdims=True)
        if not (total > 0).all() or not (length > 0).all() or (k < 0).any():
            raise InputError("density: a picture without weight, a centre without direction or a kappa below zero")
        object.__setattr__(self, "weight", w / total)
        object.__setattr__(self, "xyz", x / length)
        object.__setattr__(self, "kappa", vmf.clipped(k))

    def __len__(self) -> int:
        return len(self.weight)

    def mode(self) -> Places:
        """(lon, lat) of (N,) highest densities: climbed to from the best of the `STARTS` highest components."""
        return sphere.to_lonlat(self._mode)

    def top(self, k: int, apart_km: float) -> tuple[Floats, Floats, Floats]:
        """(lon, lat, p), each (N, k): the mode, then the densest centres at least ``apart_km`` from those before.

        Centres are those of the `STARTS` highest components. p is the mass within half of ``apart_km``, so that no
        mass counts twice. NaN where a picture has fewer.
        """
        chosen = np.full((len(self), k, 3), np.nan)
        p = np.full((len(self), k), np.nan)
        for rows, part in self._parts(STARTS):
            at = np.concatenate([self._mode[rows, None], part.starts], axis=1)
            height = np.concatenate([np.full((len(at), 1), np.inf), part.heights], axis=1)
            every = np.arange(len(at))
            for j in range(k):
                best = height.argmax(1)
                left = height[every, best] > -np.inf
                chosen[rows, j] = np.where(left[:, None], at[every, best], np.nan)
                chord = np.linalg.norm(at - at[every, best][:, None], axis=2)
                height[chord <= sphere.chord(apart_km)] = -np.inf
        lon, lat = sphere.to_lonlat(chosen)
        for j in range(k):
            rows_in = np.flatnonzero(np.isfinite(lon[:, j]))
            p[rows_in, j] = self._take(rows_in).within(lon[rows_in, j], lat[rows_in, j], apart_km / 2)
        return lon, lat, p

    def within(self, lon: ArrayLike, lat: ArrayLike, km: ArrayLike) -> Floats:
        """(N,) mass within ``km`` (one, or (N,)) of (N,) places; accuracy as of `vmf.mass_in_cap`."""
        centre = sphere.to_xyz(*sphere.check(np.broadcast_to(lon, len(self)), np.broadcast_to(lat, len(self))))
        radius = np.broadcast_to(np.asarray(km, np.float64) / sphere.EARTH_RADIUS_KM, len(self))
        return self._each((), lambda rows, part: part.within(centre[rows], radius[rows]))

    def credible(self, p: float) -> Places:
        """(radius_km, area_km2) of (N,): the cap about the mode, and the smallest region at all, that hold ``p``.

        The region is {density > t}, of several pieces where the density has them; its area is read at the nodes.
        """
        angle = self._each((), lambda rows, part: part.radius(self._mode[rows], self._nodes[rows], p), NODES)
        log_f = np.sort(self._node_log_density, axis=1)[:, ::-1]
        inverse = np.exp(-log_f)  # nodes have equal mass, so a node stands for 1 / (NODES f) of the sphere
        full = p * NODES
        whole = int(full)
        area = inverse[:, :whole].sum(1) + (full - whole) * inverse[:, min(whole, NODES - 1)]
        most = 4 * np.pi * NODES
        radius = angle * sphere.EARTH_RADIUS_KM
        return radius, np.minimum(area, most) / NODES * sphere.EARTH_RADIUS_KM**2

    def entropy(self) -> Floats:
        """(N,) nats; that of the uniform density, log(4 pi) = 2.53, is the largest."""
        return np.asarray(-self._node_log_density.mean(1))

    def expected_geoscore(self) -> Floats:
        """(N,) expected GeoScore, 0 to 5000, of answering the modes."""
        half = np.clip(np.linalg.norm(self._nodes - self._mode[:, None], axis=2) / 2, 0, 1)
        km = 2 * sphere.EARTH_RADIUS_KM * np.arcsin(half)
        return np.asarray(5000 * np.exp(-km / GEOSCORE_KM).mean(1))

    def log_density(self, lon: ArrayLike, lat: ArrayLike) -> Floats:
        """Nats per steradian, (N,) at (N,) places or (N, M) at (N, M) places. No component is left out."""
        at = sphere.to_xyz(lon, lat)
        shape = at.shape[:-1]
        if shape[:1] != (len(self),) or len(shape) > 2:
            raise InputError(f"lon, lat: shape {shape}; expected ({len(self)},) or ({len(self)}, M)")
        at = at.reshape(len(self), -1, 3)
        out = self._each(at.shape[1:2], lambda rows, part: part.log_density(at[rows]), at.shape[1], prune=0.0)
        return out.reshape(shape)

    def level(self, lon: ArrayLike, lat: ArrayLike) -> Floats:
        """Share of the mass where the density is higher than at places, shaped as those of `log_density`.

        0 at the mode, 1 far from it; read at the nodes.
        """
        there = self.log_density(lon, lat).reshape(len(self), -1)
        share = (self._node_log_density[:, None] > there[..., None]).mean(2)
        return np.asarray(share.reshape(np.shape(lon)))

    def tempered(self, t: float, spread: float | None = None) -> Density:
        """Colder (t < 1, surer) or warmer: weights to the power 1 / t, kappas divided by ``spread``, by default t.

        For one component this is the density to the power 1 / t, normalised; Guo et al. 2017,
        https://arxiv.org/abs/1706.04599.
        """
        wide = t if spread is None else spread
        if not (0 < t < np.inf and 0 < wide < np.inf):
            raise InputError(f"t {t}, spread {wide}; expected positive numbers")
        with np.errstate(divide="ignore"):
            weight = softmax(np.log(self.weight) / t, axis=1)
        return replace(self, weight=weight, kappa=self.kappa / wide)

    def with_prior(self, log_prior: Callable[[Floats, Floats], Floats]) -> Density:
        """Weights times a prior: ``log_prior(lon, lat)`` gives, for arrays of centres, its log up to a constant.

        The prior is taken as constant over a component. Raises InputError if it leaves a picture no place at all.
        """
        prior = np.asarray(log_prior(*sphere.to_lonlat(self.xyz)), np.float64)
        with np.errstate(divide="ignore"):
            weight = np.log(self.weight) + prior
        if not (weight.max(1) > -np.inf).all() or np.isnan(weight).any() or (weight == np.inf).any():
            raise InputError("log_prior: not a number, or no component is possible; give every place a floor")
        return replace(self, weight=softmax(weight, axis=1))

    @cached_property
    def _mode(self) -> Floats:
        """(N, 3)."""
        return self._each((3,), lambda _, part: part.climb(), STARTS)

    @cached_property
    def _nodes(self) -> Floats:
        """(N, NODES, 3)."""
        return self._each((NODES, 3), lambda _, part: part.nodes(), NODES)

    @cached_property
    def _node_log_density(self) -> Floats:
        """(N, NODES)."""
        return self._each((NODES,), lambda rows, part: part.log_density_at_nodes(self._nodes[rows]), NODES)

    def _take(self, rows: NDArray[np.int64]) -> Density:
        xyz = self.xyz[rows] if self.xyz.ndim == 3 else self.xyz
        return Density(self.weight[rows], xyz, self.kappa[rows] if self.kappa.ndim == 2 else self.kappa)

    def _each(
        self, shape: tuple[int, ...], answer: Callable[[slice, _Part], Floats], points: int = 24, prune: float = PRUNE
    ) -> Floats:
        """(N, *shape) answers of the parts."""
        out = np.empty((len(self), *shape))
        for rows, part in self._parts(points, prune):
            out[rows] = answer(rows, part)
        return out

    def _parts(self, points: int = 24, prune: float = PRUNE) -> Iterable[tuple[slice, _Part]]:
        """Slices of pictures whose components that matter, heaviest first, with ``points`` each, fit into memory."""
        if self.weight.size > KEPT:
            return self._cut(points, prune)
        key = points, prune
        if key not in self._kept:
            self._kept[key] = list(self._cut(points, prune))
        return self._kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[int, float], list[tuple[slice, _Part]]]:
        """Parts of a small density: each question asks for them, and to sort components costs more than the answer."""
        return {}

    def _cut(self, points: int, prune: float) -> Iterator[tuple[slice, _Part]]:
        shape = self.weight.shape
        kappa, start = np.broadcast_to(self.kappa, shape), 0
        while start < shape[0]:
            keep = max(int((self.weight[start : start + 256] >= prune).sum(1).max()), 1)
            rows = slice(start, start + max(1, min(256, 1_000_000 // (keep * points))))
            w = self.weight[rows]
            order = np.argsort(-w, axis=1, kind="stable")[:, :keep]
            xyz = self.xyz[order] if self.xyz.ndim == 2 else np.take_along_axis(self.xyz[rows], order[..., None], 1)
            yield rows, _Part(np.take_along_axis(w, order, 1), xyz, np.take_along_axis(kappa[rows], order, 1))
            start = rows.stop


@dataclass(frozen=True, eq=False)
class _Part:
    """Some pictures and their heaviest components: ``weight`` (n, k), ``xyz`` (n, k, 3), ``kappa`` (n, k)."""

    weight: Floats
    xyz: Floats
    kappa: Floats

    @cached_property
    def peaks(self) -> Floats:
        """(n, k) log of each component's own peak, with its weight."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.weight) + vmf.log_peak(self.kappa))

    @cached_property
    def starts(self) -> Floats:
        """(n, s, 3) centres of the highest peaks."""
        order = np.argsort(-self.peaks, axis=1, kind="stable")[:, :STARTS]
        return np.take_along_axis(self.xyz, order[..., None], 1)

    @cached_property
    def heights(self) -> Floats:
        """(n, s) log density at the starts."""
        return self.log_density(self.starts)

    def log_terms(self, at: Floats, rows: slice = slice(None)) -> Floats:
        """(n, m, k) log of each component's density at (n, m, 3) unit vectors, of ``rows`` of the pictures."""
        below = np.matmul(at[rows], self.xyz[rows].transpose(0, 2, 1))
        below -= 1
        below *= self.kappa[rows, None]
        below += self.peaks[rows, None]
        return np.asarray(below)

    def log_density(self, at: Floats) -> Floats:
        """(n, m) at (n, m, 3) unit vectors."""
        out = np.empty(at.shape[:2])
        for rows in self._few(at):
            terms = self.log_terms(at, rows)
            most = terms.max(axis=2, keepdims=True)
            np.exp(np.subtract(terms, most, out=terms), out=terms)
            out[rows] = np.log(terms.sum(axis=2)) + most[..., 0]
        return out

    def log_density_at_nodes(self, at: Floats) -> Floats:
        """(n, m) at (n, m, 3) nodes, some six digits of it: exponentials in single precision, which is twice as fast.

        A node lies where its component has density, so the sum neither vanishes nor overflows.
        """
        out = np.empty(at.shape[:2])
        for rows in self._few(at):
            terms = self.log_terms(at, rows).astype(np.float32)
            out[rows] = np.log(np.exp(terms, out=terms).sum(axis=2, dtype=np.float64))
        return out

    def _few(self, at: Floats) -> Iterator[slice]:
        """Pictures whose terms at (n, m, 3) fit into the cache of a core."""
        step = max(1, CACHED // max(1, at.shape[1] * self.weight.shape[1]))
        return (slice(start, start + step) for start in range(0, len(at), step))

    def climb(self) -> Floats:
        """(n, 3) modes, by steps that never go down (expectation maximisation of the place)."""
        at = self.starts[np.arange(len(self.weight)), self.heights.argmax(1)]
        for _ in range(30):
            pull = self.log_terms(at[:, None])[:, 0]
            np.exp(pull - pull.max(axis=1, keepdims=True), out=pull)
            pull *= self.kappa
            there = np.matmul(pull[:, None], self.xyz)[:, 0]
            there /= np.maximum(np.linalg.norm(there, axis=1, keepdims=True), 1e-300)
            moved, at = np.abs(there - at).max(), there
            if moved < 1e-9:
                break
        return np.asarray(at)

    def nodes(self) -> Floats:
        """(n, NODES, 3) points of equal mass: as many in a component as its weight is worth, out from its centre."""
        share = np.cumsum(self.weight, axis=1)
        share = share / share[:, -1:]
        n = len(share)
        mass = (np.arange(NODES) + 0.5) / NODES
        row = np.arange(n)[:, None]
        which = np.searchsorted((share + row).ravel(), (mass + row).ravel()).reshape(n, NODES) - row * share.shape[1]
        which = which.clip(0, share.shape[1] - 1)
        upper = np.take_along_axis(share, which, 1)
        lower = np.where(which > 0, np.take_along_axis(share, np.maximum(which - 1, 0), 1), 0.0)
        inside = ((mass - lower) / np.maximum(upper - lower, 1e-300)).clip(0, 1)
        angle = vmf.quantile(np.take_along_axis(self.kappa, which, 1), inside)
        turn = np.arange(NODES) * np.pi * (3 - np.sqrt(5))
        mu = np.take_along_axis(self.xyz, which[..., None], 1)
        axis = np.eye(3)[np.abs(mu).argmin(2)]
        east = np.cross(axis, mu)
        east /= np.linalg.norm(east, axis=2, keepdims=True)
        side = np.cos(turn)[:, None] * east + np.sin(turn)[:, None] * np.cross(mu, east)
        return np.asarray(np.cos(angle)[..., None] * mu + np.sin(angle)[..., None] * side)

    def within(self, centre: Floats, radius: Floats) -> Floats:
        """(n,) mass within (n,) radians of (n, 3) unit vectors."""
        return np.asarray((self.weight * vmf.mass_in_cap(self.kappa, self.apart(centre), radius[:, None])).sum(1))

    def apart(self, centre: Floats) -> Floats:
        """(n, k) radians between (n, 3) unit vectors and the components."""
        half = np.linalg.norm(self.xyz - centre[:, None], axis=2) / 2
        return np.asarray(2 * np.arcsin(np.clip(half, 0, 1)))

    def radius(self, centre: Floats, nodes: Floats, p: float) -> Floats:
        """(n,) radians about (n, 3) unit vectors that hold ``p``, to 0.1 %: guessed and bracketed by the nodes, then by
        secants, which end in halves where they leave the bracket or take long."""
        far = np.sort(np.linalg.norm(nodes - centre[:, None], axis=2) / 2, axis=1)
        index = np.clip(np.array([p - 0.05, p, p + 0.05]) * NODES, 0, NODES - 1).astype(int)
        low, at, high = (2 * np.arcsin(far[:, i].clip(0, 1)) for i in index)
        slope = (index[2] - index[0]) / NODES / np.maximum(high - low, 1e-12)
        low, high = low * 0.8, np.minimum(high * 1.2 + 1e-9, np.pi)
        goal, apart = p * self.weight.sum(1), self.apart(centre)
        rows = np.arange(len(at))
        before = np.full((2, len(at)), np.nan)
        for step in range(18):
            here = at[rows]
            mass = (self.weight[rows] * vmf.mass_in_cap(self.kappa[rows], apart[rows], here[:, None])).sum(1) - goal[
                rows
            ]
            low[rows], high[rows] = np.where(mass < 0, here, low[rows]), np.where(mass < 0, high[rows], here)
            with np.errstate(divide="ignore", invalid="ignore"):
                secant = (mass - before[1, rows]) / (here - before[0, rows])
                slope[rows] = np.where(secant > 0, secant, slope[rows])
                there = here - mass / slope[rows]
            inside = (there > low[rows]) & (there < high[rows])
            at[rows] = np.where(inside & (step < 6), there, (low[rows] + high[rows]) / 2)
            before[:, rows] = here, mass
            rows = rows[np.abs(at[rows] - here) > 5e-4 * here]
            if not len(rows):
                break
        return np.asarray(at)
