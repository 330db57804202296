"""How far can one get by cheating: telling the classes apart without reading the lungs.

COVID and non-COVID films usually come from different hospitals, so a classifier may learn the hospital (DeGrave et
al., "AI for radiographic COVID-19 detection selects shortcuts over signal", Nature Machine Intelligence 2021). Maguolo
& Nanni ("A critic evaluation of methods for COVID-19 automatic detection from X-ray images", Information Fusion 2021)
blacked the lungs out and still told the data sets apart. ``border`` and ``source`` show a shortcut; ``blur`` and
``histogram`` only how much is to be had from brightness, which disease changes too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.contracts import Features, Labels, Pixels, no_progress

CELLS = 32  # the border is looked at in cells of 1/32 of the film's height and width
# Cells of the ring: 9.4 % at the top, 12.5 % at the bottom, 6.2 % at either side, where lungs come closest. On 3,600
# diseased phantom films no opacity reached it (by more than 1 grey level of 255); on tightly cropped films it may.
TOP, BOTTOM, SIDE = 3, 4, 2
BLUR, GREYS = 16, 32  # cells across the blurred film, bins of the grey-level histogram
MOST_FOLDS = 5
TREES = 30
LEAST_OF_SOURCE = 20  # films of one source within a class; an AUROC from fewer is mostly luck
RESAMPLES, AT_ONCE = 1000, 100
MIDDLE = (2.5, 97.5)  # percentiles; of the resamples in which every class stands
CHANCE = 0.5
# An interval over groups holds the luck of which ones were scored, not of which ones trained the probe: of 420 with
# shuffled labels 85 % held 0.5 and 8 % lay above it, but 0.5 % by so much of half their width. So much is asked for.
SLACK = 0.65
SOLVED = 0.8  # from here on a shortcut ranks four of five pairs of films rightly: it is most of the task
ASKED = {
    "border": "Can the classes be told apart by the outer frame of the film alone, with the lungs blacked out?",
    "blur": f"Can the classes be told apart on films blurred to {BLUR} x {BLUR} pixels?",
    "histogram": f"Can the classes be told apart by the share of {GREYS} grey levels alone?",
    "source": "Can the sources (hospitals, collections) of one class be told apart?",
}
CONTENT = {"border": "the border", "blur": f"a {BLUR} x {BLUR} blur", "histogram": "the grey-level histogram"}
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Probe:
    """What one way of cheating achieves.

    Attributes:
        name, question: ``border``, ``blur``, ``histogram`` or ``source``, and what was asked, in words.
        auroc: out-of-fold macro one-vs-rest AUROC in [0, 1] (of ``source``: the mean over classes weighted by
            their films), or None where the probe abstained.
        low, high: the 95 % bootstrap interval over groups, or None; at chance it is too narrow (see ``SLACK``).
        n, groups: films that were scored, and distinct patients or duplicate clusters among them.
        verdict: what it means (or why the probe abstained), in words.
        per_class: class name -> one-vs-rest AUROC (of ``source``: of the sources within that class, where it has two).
    """

    name: str
    question: str
    auroc: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    verdict: str
    per_class: dict[str, float]


@dataclass(frozen=True)
class _Scored:
    """Held-out scores float64 ``[n, K]``, and the true kind, fold and group of each film: int64 ``[n]``."""

    scores: Floats
    kinds: Labels
    folds: Labels
    groups: Labels


def audit_shortcuts(
    films: Pixels,
    labels: Labels,
    classes: Sequence[str],
    groups: Labels,
    sources: Sequence[str | None],
    features: Features | None,
    seed: int = 0,
    progress: Callable[[int, int], None] = no_progress,
) -> list[Probe]:
    """``border``, ``blur``, ``histogram`` and ``source`` of a data set, in that order; the same for the same seed.

    Every AUROC is out of fold (no group stands in the films trained on and in those scored) and taken within
    folds, since scores of two models do not compare. Its 95 % interval is the percentile bootstrap over groups.

    Args:
        films: uint8 ``[N, 1, H, W]``, H and W at least 32; may be a memmap (read in chunks).
        labels, groups: int64 ``[N]``: index into ``classes`` (their names), patient or duplicate cluster of each film.
        sources: hospital or collection of each film, or None (or empty) where it is unknown.
        features: float32 ``[N, D]`` in which sources are told apart; None: ``source`` abstains.
        progress: called after each of the four probes.

    Raises:
        ValueError: films have another type or shape, lengths differ, labels have no class, features are not finite.
    """
    if films.dtype != np.uint8 or films.ndim != 4 or films.shape[1] != 1 or min(films.shape[2:]) < CELLS:
        raise ValueError(f"films must be uint8 [N, 1, H, W] of at least {CELLS} x {CELLS}, got {films.shape}")
    if {len(part) for part in (labels, groups, sources, films if features is None else features)} != {len(films)}:
        raise ValueError(f"labels, groups, sources and features must have one row for each of the {len(films)} films")
    if not np.isin(labels, np.arange(len(classes))).all():
        raise ValueError(f"labels must lie in [0, {len(classes)})")
    if features is not None and not np.isfinite(features).all():
        raise ValueError("features must be finite")
    probes = []
    for name, seen in _looks(films).items():
        probes.append(_class_probe(name, _hold_out(seen, labels, classes, groups, False, seed), classes, seed))
        progress(len(probes), len(ASKED))
    probes.append(_source_probe(features, labels, classes, groups, np.asarray([s or "" for s in sources]), seed))
    progress(len(probes), len(ASKED))
    return probes


def rank_aurocs(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """The AUROC of B resamples, by ranks, as float64 ``[2, B]``: pairs ranked rightly (a tie is half), and all pairs.

    Of scores float64 ``[n]``, n > 0, whose ``positive`` are bool ``[n]``; film j counts ``weights[b, j]`` times.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])  # of each run of ties
    sorted_weights, truth = weights[:, order], positive[order]
    wins = np.add.reduceat(sorted_weights * truth, starts, axis=1)
    losses = np.add.reduceat(sorted_weights * ~truth, starts, axis=1)
    below = np.cumsum(losses, axis=1) - losses
    return np.stack([(wins * (below + 0.5 * losses)).sum(axis=1), wins.sum(axis=1) * losses.sum(axis=1)])


def draw_probes(probes: Mapping[str, list[Probe]], path: Path) -> None:
    """Draw AUROC and interval of every probe, one colour per data set (the keys); raises OSError if it cannot write."""
    import seaborn as sns
    from matplotlib.figure import Figure  # not pyplot: it would keep the figure, and needs a backend

    figure = Figure(figsize=(6.4, 1.6 + 0.24 * len(ASKED) * max(len(probes), 1)), layout="constrained")
    axis, names = figure.add_subplot(), list(ASKED)
    axis.axvline(CHANCE, color="black", linewidth=0.8, linestyle="--", label="chance")
    colours = sns.color_palette("colorblind", len(probes))
    for i, (title, found) in enumerate(probes.items()):
        rows = [(names.index(p.name), p.auroc, p.low, p.high) for p in found if p.auroc is not None]
        at, auroc, low, high = np.asarray(rows, np.float64).reshape(-1, 4).T
        shift = 0.7 * ((i + 0.5) / len(probes) - 0.5)  # within its row, so that intervals do not overlap
        axis.hlines(at + shift, low, high, color=colours[i], linewidth=2)
        axis.plot(auroc, at + shift, "o", color=colours[i], markersize=5, label=title)
    axis.set(yticks=range(4), yticklabels=names, ylim=(3.5, -0.5), xlabel="out-of-fold AUROC, 95 % interval")
    figure.legend(fontsize=8, loc="outside right upper")
    figure.savefig(path, dpi=100)


def _looks(films: Pixels) -> dict[str, Features]:
    """What each probe may see: float32 ``[N, D]`` by name."""
    ring = np.ones((CELLS, CELLS), bool)
    ring[TOP : CELLS - BOTTOM, SIDE : CELLS - SIDE] = False
    area = int(np.prod(films.shape[2:]))
    parts, step = [], max(1, 2**22 // area)  # 4 million pixels at a time
    for start in range(0, max(len(films), 1), step):
        chunk = np.asarray(films[start : start + step, 0])
        bins = (chunk // (256 // GREYS)).reshape(-1, area) + GREYS * np.arange(len(chunk))[:, None]
        counts = np.bincount(bins.ravel(), minlength=GREYS * len(chunk)).reshape(-1, GREYS)
        blurred = _cell_means(chunk, BLUR).reshape(-1, BLUR**2)
        parts.append((_cell_means(chunk, CELLS)[:, ring], blurred, (counts / area).astype(np.float32)))
    return dict(zip(("border", "blur", "histogram"), map(np.concatenate, zip(*parts, strict=True)), strict=True))


def _cell_means(chunk: NDArray[np.uint8], cells: int) -> Features:
    """uint8 ``[n, H, W]`` to float32 ``[n, cells, cells]``: no pixel counts in two cells."""
    edges = [np.arange(cells + 1) * side // cells for side in chunk.shape[1:]]
    rows = np.add.reduceat(chunk, edges[0][:-1], axis=1, dtype=np.uint32)
    sums = np.add.reduceat(rows, edges[1][:-1], axis=2)
    return np.asarray(sums / np.outer(np.diff(edges[0]), np.diff(edges[1])), np.float32)


def _class_probe(name: str, held: _Scored | str, classes: Sequence[str], seed: int) -> Probe:
    if isinstance(held, str):
        return _abstain(name, held)
    aurocs, draws = _bootstrap([held], seed)
    auroc, (low, high) = float(aurocs[0].mean()), np.nanpercentile(draws[0], MIDDLE).tolist()
    said = f"{CONTENT[name]} alone tells the classes apart (AUROC {auroc:.2f}, 95 % interval {low:.2f} to {high:.2f})"
    if not _shows(low, high):
        verdict = f"no sign that {said}"
    elif name != "border":
        verdict = f"{said}; disease itself changes brightness, so this is no proof of a shortcut"
    else:
        most = "most of the task can be solved with the lungs blacked out"
        verdict = f"{said}: {most if auroc >= SOLVED else 'part of any reported score may be the hospital'}"
    per_class = dict(zip(classes, aurocs[0].tolist(), strict=True))
    return Probe(name, ASKED[name], auroc, low, high, len(held.kinds), len(np.unique(held.groups)), verdict, per_class)


def _source_probe(
    features: Features | None, labels: Labels, classes: Sequence[str], groups: Labels, sources: Any, seed: int
) -> Probe:
    if features is None:
        return _abstain("source", "there are no features to tell sources apart in")
    told: dict[str, _Scored] = {}
    for label, kind in enumerate(classes):
        mine = {source: (labels == label) & (sources == source) for source in sorted({*sources.tolist()} - {""})}
        enough = [s for s, rows in mine.items() if rows.sum() >= LEAST_OF_SOURCE and len(np.unique(groups[rows])) > 1]
        chosen = np.flatnonzero((labels == label) & np.isin(sources, enough))
        kinds = np.searchsorted(enough, sources[chosen]).astype(np.int64)
        held = _hold_out(features[chosen], kinds, enough, groups[chosen], True, seed)
        if not isinstance(held, str):
            told[kind] = held
    if not told:
        return _abstain("source", f"no class has two known sources of at least {LEAST_OF_SOURCE} films and 2 groups")
    aurocs, draws = _bootstrap(list(told.values()), seed)
    counts = [len(held.kinds) for held in told.values()]
    per_class = {kind: float(a.mean()) for kind, a in zip(told, aurocs, strict=True)}
    auroc = float(np.average([*per_class.values()], weights=counts))
    low, high = np.nanpercentile(np.average(draws, axis=0, weights=counts), MIDDLE).tolist()
    tail = MIDDLE[0] / len(told)  # the more classes are asked, the likelier one of them shows by luck
    spans = np.nanpercentile(draws, [tail, 100 - tail], axis=1).T
    apart = [kind for kind, span in zip(told, spans, strict=True) if _shows(*span)]
    verdict = f"no sign that hospitals can be told apart within {' or '.join(told)} (AUROC {auroc:.2f})"
    if apart:
        each = " and ".join(f"{kind} ({per_class[kind]:.2f})" for kind in apart)
        verdict = f"hospitals can be told apart within {each}: a classifier can learn the hospital in place of the lung"
    distinct = len({group for held in told.values() for group in held.groups})
    return Probe("source", ASKED["source"], auroc, low, high, sum(counts), distinct, verdict, per_class)


def _shows(low: float, high: float) -> bool:
    return low > CHANCE + SLACK * (high - low) / 2


def _abstain(name: str, reason: str) -> Probe:
    return Probe(name, ASKED[name], None, None, None, 0, 0, f"not measured: {reason}", {})


def _hold_out(
    seen: Features, kinds: Labels, names: Sequence[str], groups: Labels, linear: bool, seed: int
) -> _Scored | str:
    """Score every film by a model that has not seen its group; or say why that cannot be."""
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    if len(names) < 2:
        return "there is one class only"
    distinct = [len(np.unique(groups[kinds == kind])) for kind in range(len(names))]
    if min(distinct) < 2:
        return (
            f"class {names[int(np.argmin(distinct))]!r} has {min(distinct)} patients or duplicate clusters of 2 needed"
        )
    cut = StratifiedGroupKFold(min(MOST_FOLDS, *distinct), shuffle=True, random_state=seed)
    held = _Scored(np.zeros((len(kinds), len(names))), kinds, np.zeros(len(kinds), np.int64), groups)
    for fold, (train, test) in enumerate(cut.split(kinds, kinds, groups)):
        held.folds[test] = fold
        present = np.unique(kinds[train])
        if len(test) and len(present) > 1:  # else groups of mixed classes left nothing to learn: all scores tie
            with threadpool_limits(1):  # two threads are no faster, and 20 times slower where others use the machine
                model = _model(linear, len(train), seen.shape[1], seed).fit(seen[train], kinds[train])
                held.scores[np.ix_(test, present)] = model.predict_proba(seen[test])
    if np.isnan(_aurocs(held, np.ones((1, len(kinds))))).any():
        return "no fold holds films to compare: the groups are too few, or hold several classes"
    return held


def _model(linear: bool, films: int, width: int, seed: int) -> Any:
    """Linear for deep features; trees for pictures, where they find more (real borders: AUROC 0.97 against 0.91)."""
    from sklearn import decomposition, ensemble, linear_model, pipeline, preprocessing

    if linear:
        few = decomposition.PCA(min(64, films, width), random_state=seed)
        last = linear_model.LogisticRegression(C=0.1, max_iter=500)
        return pipeline.make_pipeline(preprocessing.StandardScaler(), few, last)
    leaf = min(20, max(1, films // 50))  # the usual 20 would forbid any split of a few dozen films
    return ensemble.HistGradientBoostingClassifier(
        max_iter=TREES,
        max_leaf_nodes=15,
        min_samples_leaf=leaf,
        max_features=0.2,
        early_stopping=False,
        random_state=seed,
    )


def _bootstrap(tasks: list[_Scored], seed: int) -> tuple[list[Floats], Floats]:
    """AUROC of every kind in every task, and macro AUROCs float64 ``[tasks, RESAMPLES]`` over resampled groups."""
    distinct, group = np.unique(np.concatenate([task.groups for task in tasks]), return_inverse=True)
    cuts = np.cumsum([len(task.groups) for task in tasks])[:-1]
    rng, chance = np.random.default_rng(seed), np.full(len(distinct), 1 / len(distinct))
    draws: list[list[Floats]] = [[] for _ in tasks]
    for _ in range(0, RESAMPLES, AT_ONCE):
        drawn = rng.multinomial(len(distinct), chance, AT_ONCE).astype(np.float64)
        for done, task, mine in zip(draws, tasks, np.split(group, cuts), strict=True):
            done.append(_aurocs(task, drawn[:, mine]).mean(axis=0))
    whole = [_aurocs(task, np.ones((1, len(task.groups))))[:, 0] for task in tasks]
    return whole, np.asarray(draws).reshape(len(tasks), -1)


def _aurocs(task: _Scored, weights: Floats) -> Floats:
    """float64 ``[K, B]``; nan where a resample holds no pair. Films are compared with others of their fold."""
    total = np.zeros((task.scores.shape[1], 2, len(weights)))
    for rows in (np.flatnonzero(task.folds == fold) for fold in np.unique(task.folds)):
        some = weights[:, rows]
        total += [rank_aurocs(task.scores[rows, k], task.kinds[rows] == k, some) for k in range(len(total))]
    return np.divide(total[:, 0], total[:, 1], out=np.full_like(total[:, 0], np.nan), where=total[:, 1] > 0)
