"""EnMAP around Potsdam: what spectra, bands and neighbours in space are worth, on random pixels and on held-out tiles.

    python -m tests.benchmarks.spectra [--repeats 5] [--only "logistic" …]

needs GEOML_DATA. 14 tiles, 4,418 labelled pixels, six classes; three folds of whole tiles, or of random pixels, drawn
anew for each repeat, the same ones for every method. Scores are of all pixels of a repeat together. What a method
chooses (C, penalty) it chooses on three inner folds of the training tiles. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from geoml.data import rasters
from geoml.io import spectrum
from geoml.models.spectral import PENALTIES, Config, Spectral
from geoml.settings import settings

FOUR = ("490nm/65nm", "560nm/35nm", "665nm/30nm", "842nm/115nm")
SENTINEL2 = ("490nm/65nm", "560nm/35nm", "665nm/30nm", "705nm/15nm", "740nm/15nm", "783nm/20nm", "842nm/115nm",
             "865nm/20nm", "1610nm/90nm", "2190nm/180nm")  # fmt: skip
STRENGTHS = (10.0, 1.0, 0.1)
FOLDS = 3

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Fitted = Callable[[Floats], NDArray[np.float64]]
"""(N, features) to (N, classes) probabilities."""
Learner = Callable[[Floats, Ints, Ints], Fitted]
"""Features, classes and tiles of the training pixels."""


class Tiles:
    """All tiles: (tile, y, x, band) reflectance, (tile, y, x) labels, 0 where not known."""

    def __init__(self, bands: tuple[str, ...] | None = None) -> None:
        root = Path(settings().data or ".") / "fewlabels" / "enmap_potsdam"
        files = sorted((root / "images").glob("*.tif"))
        lines = spectrum.within(rasters.lines(files[0]), 400, 2500)
        names = bands or tuple(spectrum.spelled(line.wavelength, line.fwhm) for line in lines)
        read = [rasters.image_at(file, names) for file in files]
        assert all(valid.mean() >= 0.99 for _, valid in read)
        self.values = np.stack([np.moveaxis(data, 0, -1) for data, _ in read]).astype(np.float32)
        self.labels = np.stack([rasters.read(root / "labels" / f.name, [1])[0][0] for f in files]).astype(np.int64)
        self.wavelengths = [said.wavelength for n in names if (said := spectrum.asked(n))]
        self.tile = np.broadcast_to(np.arange(len(files))[:, None, None], self.labels.shape)


def standard(make: Callable[[float], Sequence[Any]], strengths: tuple[float, ...] = STRENGTHS) -> Learner:
    """Steps of a pipeline of scikit-learn, their strength chosen on inner folds of tiles."""

    def learn(x: Floats, y: Ints, tile: Ints) -> Fitted:
        def fit(strength: float, x: Floats, y: Ints) -> Fitted:
            model = make_pipeline(StandardScaler(), *make(strength))
            model.fit(x, y)

            def answer(z: Floats) -> NDArray[np.float64]:
                out = np.zeros((len(z), 7))
                if hasattr(model, "predict_proba"):
                    out[:, model.classes_] = model.predict_proba(z)
                else:
                    out[np.arange(len(z)), model.predict(z)] = 1
                return out

            return answer

        return fit(chosen(strengths, fit, x, y, tile), x, y)

    return learn


def chosen(
    options: tuple[float, ...], fit: Callable[[float, Floats, Ints], Fitted], x: Floats, y: Ints, tile: Ints
) -> float:
    """The option with the best accuracy on inner folds of tiles."""
    if len(options) == 1:
        return options[0]
    right = dict.fromkeys(options, 0)
    for part in np.array_split(np.random.default_rng(9).permutation(np.unique(tile)), FOLDS):
        held = np.isin(tile, part)
        for option in options:
            right[option] += int((fit(option, x[~held], y[~held])(x[held]).argmax(1) == y[held]).sum())
    return max(right, key=lambda option: right[option])


def spectral(wavelengths: list[float], penalties: tuple[float, ...] = PENALTIES) -> Learner:
    """Our model, solved as in a training."""

    def learn(x: Floats, y: Ints, tile: Ints) -> Fitted:
        def fit(penalty: float, x: Floats, y: Ints) -> Fitted:
            mean, std = x.mean(0), x.std(0)
            net = Spectral(Config(x.shape[1], 7)).eval()
            net.describe(mean.tolist(), std.tolist(), wavelengths)
            net.solve(torch.from_numpy((x - mean) / std), torch.from_numpy(y), penalty)

            @torch.inference_mode()
            def answer(z: Floats) -> NDArray[np.float64]:
                raw = net(torch.from_numpy((z - mean) / std).T[None, :, :, None].contiguous())
                found: NDArray[np.float64] = raw[0, :, :, 0].T.softmax(1).double().numpy()
                return found

            return answer

        return fit(chosen(penalties, fit, x, y, tile), x, y)

    return learn


def tile_folds(tiles: Tiles, repeat: int) -> Iterator[NDArray[np.bool_]]:
    order = np.random.default_rng(repeat).permutation(len(tiles.labels))
    for part in np.array_split(order, FOLDS):
        yield np.isin(tiles.tile, part)


def pixel_folds(tiles: Tiles, repeat: int) -> Iterator[NDArray[np.bool_]]:
    number = np.random.default_rng(repeat).integers(FOLDS, size=tiles.labels.shape)
    for k in range(FOLDS):
        yield number == k


def measured(tiles: Tiles, features: Floats, learner: Learner, blur: float, repeats: int, *, whole: bool) -> str:
    """Accuracy and macro F1, mean of the repeats with the deviation of the first."""
    known, accuracy, f1 = tiles.labels > 0, [], []
    for repeat in range(repeats):
        answer = np.zeros(tiles.labels.shape, np.int64)
        for held in (tile_folds if whole else pixel_folds)(tiles, repeat):
            learn = known & ~held
            model = learner(features[learn], tiles.labels[learn], tiles.tile[learn])
            if blur:
                each = model(features.reshape(-1, features.shape[-1])).reshape(*tiles.labels.shape, -1)
                answer[held] = gaussian_filter(each, (0, blur, blur, 0), mode="nearest").argmax(-1)[held]
            else:
                answer[held & known] = model(features[held & known]).argmax(1)
        accuracy.append((answer[known] == tiles.labels[known]).mean())
        f1.append(f1_score(tiles.labels[known], answer[known], average="macro"))
    return f"{np.mean(accuracy):.3f} ({np.std(accuracy):.3f}) / {np.mean(f1):.3f}"


def around(values: Floats, side: int) -> Floats:
    """Each pixel's features, and beside them their mean over a window less their own."""
    mean = uniform_filter(values, (0, side, side, 0), mode="nearest")
    return np.concatenate([values, mean - values], -1)


def window(tiles: Tiles, side: int = 7, parts: int = 8) -> Floats:
    """Principal components of a whole window, as patch classifiers take them. Fitted without labels."""
    flat = tiles.values.reshape(-1, tiles.values.shape[-1])
    few = PCA(parts, whiten=True, random_state=0).fit_transform(StandardScaler().fit_transform(flat))
    maps, half = few.reshape(*tiles.labels.shape, parts), side // 2
    wide = np.pad(maps, ((0, 0), (half, half), (half, half), (0, 0)), mode="reflect")
    rows, cols = tiles.labels.shape[1:]
    shifts = [wide[:, y : y + rows, x : x + cols] for y in range(side) for x in range(side)]
    return np.concatenate(shifts, -1).astype(np.float32)


def logarithms(tiles: Tiles) -> Floats:
    """What our model computes of each pixel, for linear models that see more."""
    net = Spectral(Config(tiles.values.shape[-1], 7)).eval()
    zeros, ones = [0.0] * tiles.values.shape[-1], [1.0] * tiles.values.shape[-1]
    net.describe(zeros, ones, tiles.wavelengths)
    net.dark.fill_(0.1 * float(tiles.values.mean()))
    with torch.inference_mode():
        found = net.features(torch.from_numpy(tiles.values).permute(0, 3, 1, 2).contiguous())
    return found.permute(0, 2, 3, 1).numpy()


def superpixels(tiles: Tiles, values: Floats, count: int = 64) -> Floats:
    """Each pixel's features; what its superpixel has beside them, and what that one's neighbours have beside it: one
    step over the graph of regions, as in Wu et al. 2019 (https://arxiv.org/abs/1902.07153). Made without labels."""
    rows, cols = np.indices(tiles.labels.shape[1:]).reshape(2, -1)
    few, found = window(tiles, side=1).reshape(len(values), -1, 8), []
    for spectra, mine in zip(few, values.reshape(len(values), -1, values.shape[-1]), strict=True):
        at = np.column_stack([spectra, rows * 0.3, cols * 0.3])
        region = KMeans(count, n_init=1, max_iter=30, random_state=0).fit_predict(at)
        member = np.eye(count, dtype=np.float32)[region]
        square = region.reshape(tiles.labels.shape[1:])
        beside = np.zeros((count, count), np.float32)
        for a, b in ((square[1:], square[:-1]), (square[:, 1:], square[:, :-1])):
            beside[a, b] = beside[b, a] = 1
        np.fill_diagonal(beside, 0)
        means = member.T @ mine / np.maximum(member.sum(0)[:, None], 1)
        around_it = beside @ means / np.maximum(beside.sum(1)[:, None], 1)
        found.append(np.concatenate([mine, means[region] - mine, (around_it - means)[region]], -1))
    return np.stack(found).reshape(*tiles.labels.shape, -1).astype(np.float32)


class Attending(torch.nn.Module):
    """Logits of a pixel's own spectrum, and of what it attends to in the window around it."""

    def __init__(self, own: int, side: int, parts: int, hidden: int = 24) -> None:
        super().__init__()
        self.own, self.shape = own, (side * side, parts)
        self.tokens, self.query = torch.nn.Linear(parts, 2 * hidden), torch.nn.Linear(own, hidden)
        self.place = torch.nn.Parameter(torch.zeros(side * side))
        self.plain, self.seen = torch.nn.Linear(own, 7), torch.nn.Linear(hidden, 7, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mine, around = x[:, : self.own], x[:, self.own :].unflatten(1, self.shape)
        key, value = self.tokens(around).chunk(2, -1)
        weights = (torch.einsum("nd,nkd->nk", self.query(mine), key) / key.shape[-1] ** 0.5 + self.place).softmax(1)
        return self.plain(mine) + self.seen(torch.einsum("nk,nkd->nd", weights, value))


def attention(own: int, side: int, parts: int, rounds: tuple[float, ...] = (50, 150, 450)) -> Learner:
    """Attention over a window, trained for as many rounds as are best on inner folds."""

    def learn(x: Floats, y: Ints, tile: Ints) -> Fitted:
        def fit(count: float, x: Floats, y: Ints) -> Fitted:
            torch.manual_seed(0)
            mean, std = x.mean(0), x.std(0) + 1e-6
            net, target = Attending(own, side, parts), torch.from_numpy(y)
            ready = torch.from_numpy((x - mean) / std)
            optimiser = torch.optim.AdamW(net.parameters(), lr=0.003, weight_decay=0.1)
            for _ in range(int(count)):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(net(ready), target).backward()
                optimiser.step()

            @torch.inference_mode()
            def answer(z: Floats) -> NDArray[np.float64]:
                found: NDArray[np.float64] = net(torch.from_numpy((z - mean) / std)).softmax(1).double().numpy()
                return found

            return answer

        return fit(chosen(rounds, fit, x, y, tile), x, y)

    return learn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    few, ten, every = Tiles(FOUR), Tiles(SENTINEL2), Tiles()
    linear = standard(lambda c: [LogisticRegression(C=c, max_iter=400)])
    forest = standard(lambda _: [RandomForestClassifier(100, min_samples_leaf=2, random_state=0)], (1.0,))
    machine = standard(lambda c: [PCA(20, whiten=True), SVC(C=c, gamma=0.01)], (1.0,))
    patch = standard(lambda c: [SVC(C=c)], (1.0,))
    ours, logs = spectral(every.wavelengths), logarithms(every)
    rows: list[tuple[str, Tiles, Floats, Learner, float]] = [
        ("4 bands, forest", few, few.values, forest, 0),
        ("10 bands like Sentinel-2's, logistic regression", ten, ten.values, linear, 0),
        ("10 bands like Sentinel-2's, forest", ten, ten.values, forest, 0),
        ("218 bands, forest", every, every.values, forest, 0),
        ("218 bands, PCA 20 + SVM", every, every.values, machine, 0),
        ("218 bands, logistic regression", every, every.values, linear, 0),
        ("**218 bands, `spectral`**", every, every.values, ours, 0),
        ("10 bands like Sentinel-2's, `spectral`", ten, ten.values, spectral(ten.wavelengths), 0),
        ("context: `spectral`, probabilities blurred (0.7 pixels)", every, every.values,
         spectral(every.wavelengths, (0.003,)), 0.7),
        ("context: logarithms and slopes, and 3 x 3 around less own, logistic regression", every, around(logs, 3),
         standard(lambda c: [LogisticRegression(C=c, max_iter=400)], (0.1,)), 0),
        ("context: PCA 8 of 7 x 7 windows + SVM", every, window(every), patch, 0),
        ("context: graph over superpixels, logistic regression", every, superpixels(every, logs),
         standard(lambda c: [LogisticRegression(C=c, max_iter=400)], (0.1, 0.01)), 0),
        ("context: attention over 5 x 5", every, np.concatenate([logs, window(every, 5, 16)], -1),
         attention(logs.shape[-1], 5, 16), 0),
        ("attention without its window", every, np.concatenate([logs, window(every, 1, 16)], -1),
         attention(logs.shape[-1], 1, 16), 0),
    ]  # fmt: skip
    print("| method | random pixels | whole tiles held out | CPU s |\n|---|---|---|---|")
    for name, tiles, features, learner, blur in rows:
        if asked.only and not any(word in name for word in asked.only):
            continue
        start = time.process_time()
        pixels = measured(tiles, features, learner, blur, asked.repeats, whole=False)
        whole = measured(tiles, features, learner, blur, asked.repeats, whole=True)
        print(f"| {name} | {pixels} | {whole} | {time.process_time() - start:.0f} |", flush=True)


if __name__ == "__main__":
    main()
