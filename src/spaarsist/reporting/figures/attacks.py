"""Figure of the EER by attack, text-to-speech apart from what starts from a recording."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spaarsist.evaluation.statistics import LOGIT, interval_of_mean
from spaarsist.names import METHODS, ConfigError
from spaarsist.reporting.figures.style import COLOURS, MARKERS, NAMES, STYLE, TEXT_WIDTH, head, look, save
from spaarsist.reporting.seeds import read_eers

KINDS = tuple(dict.fromkeys(kind for kind, _ in METHODS.values()))
"""Of attacks, in the order of rows; an attack that `METHODS` does not know is of no kind."""

_COLUMNS = ["corpus", "kind", "attack", "system", "eer", "ci_low", "ci_high", "n_seeds", "n_spoof"]
_ALL, _OTHER = "all attacks pooled", "Other"
_HEADING = 0.7  # height of a heading, in rows
_MOST_INCHES = 7.0  # of all rows: a page holds no more


def attacks(
    metrics: Sequence[Path],
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    confidence: float = 0.95,
) -> None:
    """Draw the EER of each system on each attack with its interval, one panel per corpus whose attacks are known.

    An EER sets one attack's spoofs against all bona fide trials of the corpus and is the mean over training seeds; its
    interval holds seeds and trials (`evaluation.statistics.interval_of_mean`). Attacks of the mini corpora stand under
    their kind (`KINDS`); the EER of all attacks pooled, which mixes easy and hard ones, is the last row. Where no
    corpus names its attacks, the figure says so instead.

    Args:
        metrics: files of `evaluation.evaluate.evaluate`, any mix of systems, seeds and corpora.
        systems: names of the systems to draw, at most seven.
        corpora: (name in the files, title) of each panel; one without attacks is left out.
        output_stem, label: as in `style.save`. The TSV has a row per corpus, attack and system: `corpus, kind, attack,
            system, eer, ci_low, ci_high, n_seeds, n_spoof`; fractions.
        confidence: that the files' intervals were made with, and that of those drawn.

    Raises:
        ConfigError: a file is unreadable, the files hold a number twice or contradict each other on the number of
            spoofs, a system lacks a corpus or one of its attacks, or there are too many systems.
    """
    if not 0 < len(systems) <= len(MARKERS):
        raise ConfigError(f"a readable figure holds 1 to {len(MARKERS)} systems; got {len(systems)}")
    points = _points(metrics, systems, [name for name, _ in corpora], confidence)
    drawn = [(name, title) for name, title in corpora if name in points["corpus"].array]
    if not drawn:
        titles = ", ".join(title for _, title in corpora)
        text = f"No corpus of this run names its attacks: {titles}. An EER by attack needs attack_id in a trial list."
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(TEXT_WIDTH, 0.75), layout="constrained")
            figure.suptitle(textwrap.fill(text, 100), fontsize=8.5, parse_math=False)
            save(figure, points, output_stem, "", label)
        return
    rows = {corpus: _rows(points[points["corpus"] == corpus]) for corpus, _ in drawn}
    n_rows = max(sum(_heights(of_corpus)) for of_corpus in rows.values())
    looks = {
        system: look(colour, 1, marker) | {"ms": 4, "ls": ""}
        for system, colour, marker in zip(systems, COLOURS, MARKERS, strict=False)
    }
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x", "ytick.major.size": 0}):
        row_height = min(max(0.2, 0.1 * len(systems)), _MOST_INCHES / n_rows)
        figure = Figure(figsize=(TEXT_WIDTH, 1.2 + row_height * n_rows), layout="constrained")
        panels = figure.subplots(1, len(drawn), squeeze=False, sharex=True)[0]
        for axes, (corpus, title) in zip(panels, drawn, strict=True):
            _draw(axes, points[points["corpus"] == corpus], rows[corpus], looks)
            axes.set_ylim(n_rows, 0)
            axes.set_title(title, loc="right", parse_math=False)  # a long one has room above the names
            axes.set_xlabel("EER (%)")
        reached = 100 * points[["eer", "ci_high"]].max(axis=None)
        panels[0].set_xlim(0, min(100, 1.03 * reached) or 1)
        named = {NAMES.get(system, system): style for system, style in looks.items()}
        head(figure, "Which spoofs are found out", named, ncols=4)
        note = [f"Mean over training seeds with its {100 * confidence:g} % interval over seeds and trials"]
        note.append("in brackets: spoofs of that attack, which stand against all bona fide trials")
        seeds = ", ".join(map(str, sorted({*points["n_seeds"]})))
        save(figure, points, output_stem, "; ".join([*note, f"seeds: {seeds}"]), label)


def _rows(points: pd.DataFrame) -> list[tuple[str, str]]:
    """(kind, attack) of each row from the top; a heading has no attack, and what is of no kind no heading."""
    rows, above = [], ""
    for kind, attack in points[["kind", "attack"]].drop_duplicates().itertuples(index=False):
        if kind and kind != above:
            rows.append((kind, ""))
        rows.append((kind, attack))
        above = kind
    return rows


def _draw(axes: Axes, points: pd.DataFrame, rows: Sequence[tuple[str, str]], looks: dict[str, dict]) -> None:
    """The rows of a corpus, systems below each other within a row."""
    offsets = dict(zip(looks, 0.7 * ((np.arange(len(looks)) + 0.5) / len(looks) - 0.5), strict=True))
    edges = np.cumsum([0, *_heights(rows)])
    middles = (edges[:-1] + edges[1:]) / 2
    heights = {attack: middle for middle, (_, attack) in zip(middles, rows, strict=True) if attack}
    for point in points.itertuples():
        y, style = heights[point.attack] + offsets[point.system], looks[point.system]
        axes.hlines(y, 100 * point.ci_low, 100 * point.ci_high, color=style["color"], lw=1, zorder=2)
        axes.plot(100 * point.eer, y, **style, clip_on=False, zorder=3)
    for edge in edges[1:]:
        axes.axhline(edge, color="0.9", lw=0.5, zorder=0)
    sizes = points.groupby("attack")["n_spoof"].first()
    names = [
        f"{METHODS.get(attack, (kind, attack))[1]} ({sizes[attack]:,})" if attack else kind for kind, attack in rows
    ]
    axes.set_yticks(middles, names)
    for text, (_, attack) in zip(axes.get_yticklabels(), rows, strict=True):
        text.set(weight="normal" if attack not in ("", _ALL) else "bold", parse_math=False)


def _heights(rows: Sequence[tuple[str, str]]) -> list[float]:
    return [1 if attack else _HEADING for _, attack in rows]


def _points(metrics: Sequence[Path], systems: Sequence[str], corpora: Sequence[str], confidence: float) -> pd.DataFrame:
    """One row per corpus, attack and system, in drawing order."""
    eers = read_eers(metrics, systems, corpora)
    named = eers["condition"].str.startswith("attack:")
    with_attacks = eers["corpus"].isin(eers.loc[named, "corpus"])
    eers = eers[named | (with_attacks & (eers["condition"] == "pooled"))]
    eers = eers.assign(attack=eers["condition"].str.removeprefix("attack:").replace("pooled", _ALL))
    n_sizes = eers.groupby(["corpus", "attack"])["n_spoof"].nunique()
    if len(n_sizes) and n_sizes.max() > 1:
        corpus, attack = n_sizes.idxmax()
        raise ConfigError(
            f"the metrics files contradict each other on the number of spoofs of attack {attack} of corpus {corpus!r}; "
            "evaluate all systems on one trial list"
        )
    kinds = {method: kind for method, (kind, _) in METHODS.items()}
    order = [*KINDS, _OTHER, ""]
    rows = []
    for corpus in corpora:
        of_corpus = eers[eers["corpus"] == corpus]
        other = _OTHER if any(attack in kinds for attack in of_corpus["attack"]) else ""
        placed = {(kinds.get(attack, "" if attack == _ALL else other), attack) for attack in of_corpus["attack"]}
        for kind, attack in sorted(placed, key=lambda place: (order.index(place[0]), place[1] == _ALL, place[1])):
            for system in systems:
                own = of_corpus[(of_corpus["attack"] == attack) & (of_corpus["system"] == system)]
                if own.empty:
                    raise ConfigError(
                        f"the metrics files hold no EER of {system} on attack {attack} of corpus {corpus!r}"
                    )
                ends = _interval(own, confidence)
                size = own["n_spoof"].iloc[0]
                rows.append((corpus, kind, attack, system, own["eer"].mean(), *ends, len(own), size))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _interval(of_seeds: pd.DataFrame, confidence: float) -> tuple[float, float]:
    """Ends for the mean over seeds; seeds share the trials, whose variance a mean over seeds does not lessen."""
    reach = (of_seeds["ci_high"] - of_seeds["ci_low"]) / 2 / NormalDist().inv_cdf((1 + confidence) / 2)
    return interval_of_mean(of_seeds["eer"], float((reach**2).mean()), np.inf, LOGIT, confidence)
