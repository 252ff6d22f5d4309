"""Figure of where the multiply-adds of a back-end are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spaarsist.artefacts import read_table
from spaarsist.names import ConfigError, System
from spaarsist.reporting.figures.style import COLOURS, HEADLINE, NAMES, STYLE, TEXT_WIDTH, save

_WORDS = {
    "projection": "input projection",
    "input_norm": "input projection",
    "encoder": "residual encoder",
    "encoder_norm": "residual encoder",
    "map_attention": "attention map",
    "spectral_attention": "graph layers",
    "temporal_attention": "graph layers",
    "spectral_pool": "graph layers",
    "temporal_pool": "graph layers",
    "branches": "heterogeneous branches",
}
"""Modules of the AASIST back-end in plain words; any other module is called by its own name."""

# Neighbours differ in lightness or hatch, so that they stay apart in grey print.
_LOOKS = {
    "input projection": ("0.85", ""),
    "residual encoder": (COLOURS[0], ""),
    "attention map": (COLOURS[7], "///"),
    "graph layers": (COLOURS[1], ""),
    "heterogeneous branches": (COLOURS[3], ""),
}
_MORE_LOOKS = [(COLOURS[2], ""), (COLOURS[4], r"\\\\"), ("0.6", ""), (COLOURS[5], "xxx"), ("0.4", ""), ("0.75", "...")]
_LAST_LOOKS = {"output": ("0.25", ""), "other": ("0.8", "////")}
_LEAST_WRITTEN = 0.03  # narrower segments have no room for a number


def macs_by_module(breakdown: Path, systems: Sequence[str], output_stem: Path, label: str = "") -> None:
    """Draw how the multiply-adds of each system are shared out among the parts of its back-end, one bar per system.

    All bars are of one length, with the total at their ends and the share in each segment that has room. If several
    AASIST back-ends are drawn and all spend the same number on convolutions, a bracket says what share that is.

    Args:
        breakdown: second file of `audit.complexity.write_complexity`. A system's total is the sum of its
            operators; what belongs to no top-level module is `other`.
        systems: names of the systems to draw, from top to bottom. One without a single counted operation (mean pooling;
            its only operator has 0) gets an empty bar.
        output_stem, label: as in `style.save`. The TSV has one row per system and part: n_macs, and its share of the
            total as a fraction (of nothing: 0).

    Raises:
        ConfigError: the file is unreadable or not of that form, lacks a system, holds a number twice, or has more in a
            system's modules than in its operators; or no system was named.
    """
    table = _read(breakdown, systems)
    parts = _parts(breakdown, table, systems)
    shares = parts.pivot(index="system", columns="part", values="share").fillna(0).loc[[*systems]]
    totals = parts.groupby("system")["n_macs"].sum()
    counted = parts.loc[parts["n_macs"] > 0, "part"].unique()
    others = [part for part in counted if part not in _LOOKS | _LAST_LOOKS]
    looks = _LOOKS | {part: _MORE_LOOKS[i % len(_MORE_LOOKS)] for i, part in enumerate(others)} | _LAST_LOOKS
    looks = {part: look for part, look in looks.items() if part in counted}
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(TEXT_WIDTH, 1.4 + 0.27 * len(systems)), layout="constrained")
        axes = figure.subplots()
        left = np.zeros(len(systems))
        for part, (face, hatch) in looks.items():
            lengths = 100 * shares[part].to_numpy()
            axes.barh(range(len(systems)), lengths, left=left, color=face, hatch=hatch, ec="white", lw=0.6, label=part)
            for row in np.flatnonzero(lengths >= 100 * _LEAST_WRITTEN):
                _write(axes, left[row] + lengths[row] / 2, row, f"{lengths[row]:.0f}", face)
            left += lengths
        for row, system in enumerate(systems):
            if not totals[system]:
                axes.barh(row, 100, fill=False, ec="0.7", lw=0.6)
                axes.text(50, row, "no counted operation", color="0.3", fontsize=6.5, ha="center", va="center")
            axes.text(101, row, f"{totals[system] / 1e6:,.1f} M" if totals[system] else "0 M", fontsize=7, va="center")
        axes.set_yticks(range(len(systems)), [NAMES.get(system, system) for system in systems])
        axes.set(xlim=(0, 100), ylim=(len(systems) - 0.4, -1), xlabel="Share of the back-end's multiply-adds (%)")
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        _bracket(axes, table, shares, totals)
        if looks:
            figure.legend(
                loc="outside upper center",
                ncols=6,
                handlelength=1.4,
                title="Where the multiply-adds are",
                title_fontproperties=HEADLINE,
            )
        save(figure, parts, output_stem, "At the bars' ends: all multiply-adds of the back-end", label)


def _write(axes: Axes, x: float, y: float, text: str, face: str) -> None:
    dark = np.dot(mpl.colors.to_rgb(face), (0.299, 0.587, 0.114)) < 0.5
    box = {"fc": face, "ec": "none", "pad": 0.6}  # keeps hatches off the number
    axes.text(x, y, text, color="white" if dark else "0.1", fontsize=6.5, ha="center", va="center", bbox=box)


def _bracket(axes: Axes, table: pd.DataFrame, shares: pd.DataFrame, totals: pd.Series) -> None:
    """Above the first AASIST bar, from its residual encoder on: what all of them spend on convolutions."""
    convolutions = table[(table["kind"] == "operator") & (table["name"] == "conv")].set_index("system")["n_macs"]
    systems = [name for name in shares.index if System.parse(name).variant]
    if len(systems) < 2 or convolutions.reindex(systems).nunique(dropna=False) > 1 or systems[0] not in convolutions:
        return
    percent = (100 * convolutions / totals)[systems]
    row, left = shares.index.get_loc(systems[0]), 100 * shares.loc[systems[0]].get("input projection", 0)
    right = left + percent.iloc[0]
    axes.plot([left, left, right, right], [row - 0.5, row - 0.6, row - 0.6, row - 0.5], color="0.1", lw=0.8)
    text = " to ".join(dict.fromkeys(f"{p:.0f}" for p in (percent.min(), percent.max())))
    text = f"convolutions, the same number in every variant: {text} %"
    axes.text((left + right) / 2, row - 0.65, text, fontsize=7.5, weight="bold", ha="center", va="bottom")


def _read(breakdown: Path, systems: Sequence[str]) -> pd.DataFrame:
    """The rows of the systems' operators and top-level modules."""
    if not systems:
        raise ConfigError("no system was named whose multiply-adds to draw")
    columns = ["system", "kind", "name", "n_macs"]
    table = read_table(breakdown, columns, keep_default_na=False, dtype={"n_macs": float})[columns]
    table = table[table["system"].isin(systems) & ~table["name"].str.contains(".", regex=False)]
    if absent := [name for name in systems if name not in table.loc[table["kind"] == "operator", "system"].array]:
        raise ConfigError(f"{breakdown}: holds no operators of {', '.join(absent)}; count them or leave them out")
    if not (table["n_macs"] >= 0).all() or np.isinf(table["n_macs"]).any():
        raise ConfigError(f"{breakdown}: n_macs has to be a number of 0 or more in every row")
    twice = table[table.duplicated(["system", "kind", "name"])]
    if len(twice):
        raise ConfigError(f"{breakdown}: holds a number twice: {twice.iloc[0][columns[:3]].to_dict()}")
    return table


def _parts(breakdown: Path, table: pd.DataFrame, systems: Sequence[str]) -> pd.DataFrame:
    """One row per system and part that has any multiply-adds: system, part, n_macs, share; without any, a part none."""
    rows = []
    for system in systems:
        own = table[table["system"] == system]
        total = own.loc[own["kind"] == "operator", "n_macs"].sum()
        modules = own[own["kind"] == "module"]
        sizes = modules.groupby(modules["name"].map(lambda name: _WORDS.get(name, name.replace("_", " "))), sort=False)
        named = sizes["n_macs"].sum().to_dict()
        rest = total - sum(named.values())
        if rest < 0:
            raise ConfigError(f"{breakdown}: the modules of {system} have more multiply-adds than its operators")
        if rest:
            named["other"] = named.get("other", 0) + rest
        rows += [(system, part, n_macs, n_macs / total) for part, n_macs in named.items() if n_macs]
        if not total:
            rows.append((system, "none", 0, 0.0))
    return pd.DataFrame(rows, columns=["system", "part", "n_macs", "share"]).astype({"n_macs": "int64"})
