"""Figures drawn from scores: DET curves and histograms."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.special import ndtr, ndtri
from tqdm import tqdm

from spaarsist.artefacts import read_metadata
from spaarsist.config import CostModel
from spaarsist.evaluation.evaluate import read_scored_trials
from spaarsist.evaluation.metrics import ASVSPOOF5, compute_metrics, det_curve
from spaarsist.evaluation.side_by_side import Systems
from spaarsist.names import ConfigError, System
from spaarsist.reporting.figures.style import COLOURS, DASHES, DOT, HEADLINE, MARKERS, NAMES, STYLE, head, save, width

_DET_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_DET_POINTS = 1500  # per curve; a plotter cannot show more
_HISTOGRAM_BINS = 30

MOST_SYSTEMS = len(DASHES)
"""That one figure can show apart."""

_Classes = tuple[int, np.ndarray, np.ndarray]
"""Training seed, scores of the bona fide trials, scores of the spoofs."""

OfSeeds = Mapping[tuple[str, str], Sequence[_Classes]]
"""(corpus, system) -> its scores under each training seed; every system on every corpus."""


def det(
    scores: Sequence[Path],
    trials: Mapping[str, Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
) -> None:
    """Draw DET curves of a few systems, one panel per corpus, on normal-deviate axes.

    Every training seed has its own thin curve, since scores of different seeds have different scales and must not be
    pooled: how far the curves of a system lie apart is what another training may give. The marker is the mean of
    their EERs; the legend has it too, with the lowest and the highest.

    Args:
        scores: score files of any systems, seeds and corpora.
        trials: corpus -> trial list.
        systems: table-row names to draw, at most seven, in legend order.
        corpora: (name in the score files, title) of each panel.
        output_stem, label: as in `style.save`. The TSV holds the points of every curve.

    Raises:
        ConfigError: a system has no scores on a corpus, a trial list is missing, or there are too many systems.
    """
    note = "Nearer the lower left is better; a thin curve is a training seed, a marker the mean EER of its seeds"
    draw_det(_of_seeds(scores, trials, systems, corpora), corpora, output_stem, note, label)


def draw_det(
    found: OfSeeds,
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    note: str,
    label: str = "",
    names: Mapping[str, str] = NAMES,
) -> None:
    """Draw DET curves of scores at hand, see `det`.

    Args:
        found: the scores, the systems in legend order.
        corpora: as in `det`.
        output_stem, note, label: as in `style.save`.
        names: system -> what the figure calls it, where that is something else.
    """
    systems = [*dict.fromkeys(system for _, system in found)]
    curves = [_det_curve(*key, *of_seed) for key, of_seeds in found.items() for of_seed in of_seeds]
    curves = pd.concat(curves, ignore_index=True)
    shown = curves[["p_miss", "p_fa"]].to_numpy()
    low = float(np.clip(shown[shown > 0].min() * 4, 5e-4, 0.05))  # less than four trials say little
    eers = curves.groupby(["corpus", "system", "seed"], sort=False)["eer"].first()
    high = float(np.clip(ndtr(ndtri(eers.max()) + 0.7), 0.3, 0.95))
    looks = {
        system: {"color": colour, "ls": dashes, "marker": marker, **DOT, "ms": 5.5}
        for system, colour, dashes, marker in zip(systems, COLOURS, DASHES, MARKERS, strict=False)
    }
    with mpl.rc_context(STYLE):
        # Inches for panels and for the legends under them
        rows = width(len(corpora)) / len(corpora) + 0.1, 0.2 + 0.14 * len(systems)
        figure = Figure(figsize=(width(len(corpora)), 0.9 + sum(rows)), layout="constrained")
        named = {names.get(system, system): style for system, style in looks.items()}
        head(figure, "Errors at every threshold", named, ncols=4 if len(corpora) > 1 else 2)
        panels, feet = figure.subplots(2, len(corpora), squeeze=False, height_ratios=rows)
        for axes, foot, (corpus, title) in zip(panels, feet, corpora, strict=True):
            eers_told = []
            for index, (system, style) in enumerate(looks.items()):
                of_system = curves[(curves["corpus"] == corpus) & (curves["system"] == system)]
                for _, curve in of_system.groupby("seed"):
                    # Rates of 0 and 1 lie at infinity: draw them just outside the frame.
                    points = ndtri(curve[["p_fa", "p_miss"]].clip(low / 4, 1 - (1 - high) / 4).to_numpy())
                    axes.plot(*points.T, color=style["color"], ls=style["ls"], lw=0.7, zorder=3 + 0.1 * index)
                own = eers[corpus, system]
                if 0 < own.mean() < 1:
                    axes.plot(*[ndtri(own.mean())] * 2, **style | {"ls": ""}, zorder=5)
                spread = f" ({100 * own.min():.1f} to {100 * own.max():.1f})" if len(own) > 1 else ""
                eers_told.append(f"EER {100 * own.mean():.1f} %{spread}")
            axes.axline((0, 0), slope=1, color="0.75", lw=0.6, zorder=1)
            foot.axis("off")
            foot.legend([Line2D([], [], **style) for style in looks.values()], eers_told, loc="center", handlelength=4)
            ticks = _det_ticks(low, high)
            text = [f"{100 * tick:g}" for tick in ticks]
            limits = ndtri([low, high])
            axes.set(xticks=ndtri(ticks), yticks=ndtri(ticks), xticklabels=text, yticklabels=text)
            axes.set(xlim=limits, ylim=limits, aspect="equal")
            axes.set(title=title, xlabel="Spoofs accepted (%)", ylabel="Bona fide rejected (%)")
        save(figure, curves, output_stem, note, label)


def _det_ticks(low: float, high: float) -> list[float]:
    """Round rates inside the limits, none so close to the one before that their numbers would touch."""
    ticks, room = [], 0.06 * (ndtri(high) - ndtri(low))
    for tick in _DET_TICKS:
        if low <= tick <= high and (not ticks or ndtri(tick) - ndtri(ticks[-1]) > room):
            ticks.append(tick)
    return ticks


def _det_curve(corpus: str, system: str, seed: int, bonafide: np.ndarray, spoof: np.ndarray) -> pd.DataFrame:
    """The DET curve, thinned to equal steps along what is drawn."""
    p_miss, p_fa, _ = det_curve(bonafide, spoof)
    edge = 0.5 / p_miss.size  # the ends lie at infinity: half a trial stands for none
    drawn = ndtri(np.clip([p_fa, p_miss], edge, 1 - edge))
    length = np.append(0, np.cumsum(np.abs(np.diff(drawn)).sum(axis=0)))
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], _DET_POINTS)))
    identity = {"corpus": corpus, "system": system, "seed": seed, "eer": compute_metrics(bonafide, spoof)["eer"]}
    return pd.DataFrame({**identity, "p_fa": p_fa[kept], "p_miss": p_miss[kept]})


def histograms(
    scores: Sequence[Path],
    trials: Mapping[str, Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    *,
    cost: CostModel = ASVSPOOF5,
) -> None:
    """Draw how the scores of bona fide trials and of spoofs are distributed: a row per corpus, a column per system.

    A column shares its axis of scores, since a shift between corpora is a system's own; scales of different systems are
    not comparable. Both classes have the same area, whatever their sizes. Marked are the threshold at which the EER is
    reached and Bayes' threshold of the costs, which actDCF applies.

    Only the lowest-numbered training seed is shown, chosen before any result is known. Arguments and errors are those
    of `det`; `cost` is the model of the costs whose Bayes threshold is marked. The TSV has a row per bin: low and high
    edge (nats), n_bonafide, n_spoof.
    """
    found = _of_seeds(scores, trials, systems, corpora, n_seeds=1)
    seeds = sorted({seed for ((seed, *_),) in found.values()})
    note = f"Higher is more bona fide  ·  Training seed {' or '.join(map(str, seeds))}, the lowest of each system"
    draw_histograms(found, corpora, output_stem, note, label, cost=cost)


def draw_histograms(
    found: OfSeeds,
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    note: str,
    label: str = "",
    names: Mapping[str, str] = NAMES,
    *,
    cost: CostModel = ASVSPOOF5,
) -> None:
    """Draw histograms of scores at hand, one seed of each system; see `histograms`, and `draw_det` for arguments."""
    chosen = {key: of_seed for key, (of_seed,) in found.items()}
    systems = [*dict.fromkeys(system for _, system in found)]
    edges = {
        system: _edges(np.concatenate([values for corpus, _ in corpora for values in chosen[corpus, system][1:]]))
        for system in systems
    }
    looks = {
        "Bona fide": {"fill": True, "fc": f"{COLOURS[0]}50", "ec": COLOURS[0], "lw": 0.7},
        "Spoof": {"fill": False, "hatch": "//////", "ec": COLOURS[3], "lw": 0.9},
    }
    marks = {
        f"Bayes' threshold of these costs ({cost.bayes_threshold:z.2f} nats)".replace("-", "−"): "-",
        "EER threshold": (0, (2, 1.2)),
    }
    with mpl.rc_context(STYLE):
        named = {system: names.get(system, system) for system in systems}
        figure, panels = _grid(named, corpora, "Density", height=1.2)
        shown = []
        for (corpus, system), (seed, *classes) in chosen.items():
            axes, bins = panels[corpus, system], edges[system]
            eer = compute_metrics(*classes)["eer"]
            p_miss, p_fa, thresholds = det_curve(*classes)
            eer_threshold = thresholds[np.argmin(np.abs(p_miss - p_fa))]
            counts = [np.histogram(values, bins)[0] for values in classes]
            for values, look in zip(counts, looks.values(), strict=True):
                axes.stairs(values / values.sum(), bins, **look)
            for threshold, dashes in zip((cost.bayes_threshold, eer_threshold), marks.values(), strict=True):
                axes.axvline(threshold, color="0.1", ls=dashes, lw=0.9)
            axes.set_title(f"{axes.get_title()}EER {100 * eer:.2f} %")
            axes.set(xlabel="Score (nats)", yticks=[])
            identity = {"corpus": corpus, "system": system, "seed": seed, "eer": eer}
            identity |= {"eer_threshold": eer_threshold, "bayes_threshold": cost.bayes_threshold}
            columns = {"low": bins[:-1], "high": bins[1:], "n_bonafide": counts[0], "n_spoof": counts[1]}
            shown.append(pd.DataFrame({**identity, **columns}))
        handles = [Patch(**look) for look in looks.values()]
        handles += [Line2D([], [], color="0.1", ls=dashes, lw=0.9) for dashes in marks.values()]
        figure.legend(
            handles,
            [*looks, *marks],
            loc="outside upper center",
            ncols=2 if len(systems) == 1 else 4,
            title="How the scores of both classes lie",
            title_fontproperties=HEADLINE,
        )
        save(figure, pd.concat(shown, ignore_index=True), output_stem, note, label)


def _edges(scores: np.ndarray) -> np.ndarray:
    """Of bins for these scores; equal ones get a bin of width 1 around them."""
    try:
        return np.histogram_bin_edges(scores, _HISTOGRAM_BINS)
    except ValueError:  # they differ by less than floats of their size can be divided into
        return np.nextafter([scores.min(), scores.max()], [-np.inf, np.inf])


def draw_side_by_side(systems: Systems, title: str, output: Path, cost: CostModel = ASVSPOOF5) -> None:
    """Draw DET curves and histograms of systems of which only scores are known, on one set of trials.

    Of more than a figure can show, the first are drawn; stderr says so.

    Args:
        systems: their scores.
        title: what the trials are.
        output: folder that gets `det` and `histograms`, each as PNG, PDF and TSV.
        cost: as in `histograms`.
    """
    shown = [*systems][:MOST_SYSTEMS]
    if len(systems) > len(shown):
        tqdm.write(f"figures: of {len(systems)} systems the first {len(shown)} are drawn", file=sys.stderr)
    found = {(title, system): [(0, *systems[system])] for system in shown}
    most = 24 if len(shown) <= 4 else 14  # characters that have room
    names = [name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}" for name in shown]
    if len({*names}) < len(names):
        names = [f"{place}: {name}" for place, name in enumerate(names, start=1)]
    how = {"corpora": [(title, title)], "names": dict(zip(shown, names, strict=True))}
    with mpl.rc_context({"text.parse_math": False}):  # a name may have dollar signs
        draw_det(found, output_stem=output / "det", note="Nearer the lower left is better; a marker is the EER", **how)
        draw_histograms(found, output_stem=output / "histograms", note="Higher is more bona fide", cost=cost, **how)


def _grid(
    systems: Mapping[str, str], corpora: Sequence[tuple[str, str]], ylabel: str, height: float
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A panel of that height in inches per corpus (row) and system (column): (corpus, system) -> axes.

    Each row stands under its corpus's title; a panel's title is the name that `systems` gives its system and a line
    break, ready for a number.
    """
    figure = Figure(figsize=(width(len(systems)), 0.5 + (0.95 + height) * len(corpora)), layout="constrained")
    panels = {}
    for (corpus, title), row in zip(corpora, figure.subfigures(len(corpora), squeeze=False).flat, strict=True):
        row.suptitle(title, fontsize=8.5, fontweight="bold")
        for system, axes in zip(systems, row.subplots(1, len(systems), squeeze=False).flat, strict=True):
            axes.set_title(_two_lines(systems[system]) + "\n", fontsize=7.5)
            panels[corpus, system] = axes
        panels[corpus, next(iter(systems))].set_ylabel(ylabel)
    return figure, panels


def _two_lines(name: str) -> str:
    """A system's name, broken if seven of its length could not stand side by side."""
    if " (" in name:
        return name.replace(" (", "\n(")
    return name if len(name) < 15 else "-\n".join(name.rsplit("-", 1))


def _of_seeds(
    scores: Sequence[Path],
    trials: Mapping[str, Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    n_seeds: int | None = None,
) -> OfSeeds:
    """Scores by rising seed; of `n_seeds`, the lowest."""
    if not 0 < len(systems) <= MOST_SYSTEMS:
        raise ConfigError(f"a readable figure holds 1 to {MOST_SYSTEMS} systems; got {len(systems)}")
    files: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for path in scores:
        metadata = read_metadata(path)
        files.setdefault((metadata["corpus"], metadata["system"]), []).append((metadata["seed"], path))
    rows = [System.parse(name) for name in systems]
    found: dict[tuple[str, str], list[_Classes]] = {(corpus, name): [] for corpus, _ in corpora for name in systems}
    for corpus, _ in corpora:
        if corpus not in trials:
            raise ConfigError(f"no trial list was given for corpus {corpus!r}")
        for trained in dict.fromkeys(row.trained for row in rows):
            wanted = [row for row in rows if row.trained == trained]
            if (corpus, trained) not in files:
                raise ConfigError(f"no scores of {wanted[0].name} on corpus {corpus!r}")
            for seed, path in sorted(files[corpus, trained])[:n_seeds]:
                _, listed, frame = read_scored_trials(path, trials[corpus])
                is_bonafide = (listed["label"] == "bonafide").to_numpy()
                for row in wanted:
                    if row.column not in frame:
                        raise ConfigError(f"{path}: no scores of {row.name} on corpus {corpus!r}")
                    values = frame[row.column].to_numpy()
                    found[corpus, row.name].append((seed, values[is_bonafide], values[~is_bonafide]))
    return found
