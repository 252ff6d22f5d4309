"""Figures of what is saved, counted in two ways, and of where the work of the back-end is."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from spaarsist.artefacts import read_table
from spaarsist.names import BASELINE, PAPER_FRAMES, RANK_1
from spaarsist.reporting.figures.style import COLOURS, STYLE, TEXT_WIDTH, save
from spaarsist.reporting.tables.facts import COUNTED, PRINTED, read_counts, savings

_WAYS = {"linear_head": ("linear layers alone", "--"), "whole": ("all multiply-adds", "-")}
_SPARSE = {RANK_1: (COLOURS[0], "o"), "AST-03-01-MagMean": (COLOURS[3], "s")}
_PARTS = {"convolutions": ("0.75", ""), "linear layers": (COLOURS[0], ""), "matrix products": (COLOURS[1], ""),
          "batch norms": (COLOURS[2], "///")}  # fmt: skip


def saving_against_length(counts: Path, output_stem: Path) -> None:
    """Draw the share that Mag and MagMean save, counted whole and of linear layers, against the input's length.

    Args:
        counts: `counts.tsv` of `audit.facts.measure`.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`; the TSV has the rows of `savings`.

    Raises:
        ConfigError: see `read_counts`.
    """
    shown = savings(read_counts(counts))
    shown = shown[shown["system"].isin([*_SPARSE])]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.75 * TEXT_WIDTH, 3.2), layout="constrained")
        axes = figure.subplots()
        for convention, (way, dashes) in _WAYS.items():
            for system, (colour, marker) in _SPARSE.items():
                part = shown[(shown["system"] == system) & (shown["convention"] == convention)]
                name = COUNTED[system].partition(",")[0]
                axes.plot(part["seconds"], 100 * part["saved"], dashes, color=colour, marker=marker, ms=3.5,
                          label=f"{name}, {way}")  # fmt: skip
        printed = 100 * (1 - PRINTED[RANK_1] / PRINTED[BASELINE])
        axes.axhline(printed, color="0.35", lw=0.8, ls=":")
        axes.text(100, printed - 0.4, f"the paper: {printed:.1f} %", fontsize=7, color="0.25", ha="right", va="top")
        for seconds, text in (
            (4.0375, "training and\nevaluation: 4 s"),
            (8.75, f"the paper's\nMACs: {PAPER_FRAMES} frames"),
        ):
            axes.axvline(seconds, color="0.7", lw=0.8, zorder=0)
            axes.text(seconds * 1.04, 19.5, text, fontsize=6.5, color="0.3", va="top")
        axes.set(xscale="log", xlim=(0.9, 110), ylim=(0, 24), xlabel="Length of the input (s)")
        axes.set_ylabel("Saved of AASIST's multiply-adds (%)")
        axes.set_xticks([1, 2, 4, 10, 20, 40, 100])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.legend(loc="center right", bbox_to_anchor=(1, 0.62))
        note = "Keeping 0.1 of the nodes. Linear layers: of back-end and head, as the paper's MACs come out"
        save(figure, shown, output_stem, note, "")


def where_the_work_is(counts: Path, operators: Path, output_stem: Path) -> None:
    """Draw the multiply-adds of each system by kind of operation, and the part of them that the paper counts.

    Args:
        counts: `counts.tsv` of `audit.facts.measure`.
        operators: `operators.tsv` of it.
        output_stem: path of the outputs without `.png`, `.pdf` and `.tsv`; the TSV has rows `system, part, n_macs`.

    Raises:
        ConfigError: see `read_counts`; the operators are unreadable.
    """
    macs = read_counts(counts)
    table = read_table(operators, ["system", "operator", "n_macs"]).rename(columns={"operator": "part"})
    paper = macs[BASELINE, "linear_head", PAPER_FRAMES]
    shown = pd.concat(
        [table, pd.DataFrame([("the paper's count of AASIST", "linear layers", paper)], columns=table.columns)]
    )
    names = [*COUNTED, "the paper's count of AASIST"]
    order = [names[0], names[-1], *names[1:-1]]
    totals = table.groupby("system")["n_macs"].sum()
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(TEXT_WIDTH, 2.5), layout="constrained")
        axes = figure.subplots()
        for row, system in enumerate(order):
            left = 0.0
            for part, (face, hatch) in _PARTS.items():
                n = shown.loc[(shown["system"] == system) & (shown["part"] == part), "n_macs"].sum() / 1e6
                if part == "convolutions" and system not in COUNTED:
                    left = shown.loc[(shown["system"] == BASELINE) & (shown["part"] == part), "n_macs"].sum() / 1e6
                    continue
                axes.barh(
                    row, n, left=left, color=face, hatch=hatch, ec="white", lw=0.5, label=part if not row else None
                )
                left += n
            if system in COUNTED:
                saved = 1 - totals[system] / totals[BASELINE]
                text = f"{totals[system] / 1e6:,.1f} M" + (f"  (−{100 * saved:.1f} %)" if system != BASELINE else "")
            else:
                text = f"{paper / 1e6:,.3f} M"
                axes.text(
                    left / 3, row, "convolutions: not counted", fontsize=7, color="0.35", ha="center", va="center"
                )
            axes.text(left + 12, row, text, fontsize=7, va="center")
        labels = [COUNTED.get(system, "of it, the paper counts") for system in order]
        axes.set_yticks(range(len(order)), labels)
        axes.set(ylim=(len(order) - 0.4, -0.6), xlim=(0, 1.2 * totals.max() / 1e6))
        axes.set_xlabel(f"Multiply-adds at {PAPER_FRAMES} frames (millions)")
        axes.tick_params(axis="y", length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        figure.legend(loc="outside upper center", ncols=4, handlelength=1.4)
        note = "All that fvcore counts, back-end alone; the paper's count has the head's linear layers too (0.7 M)"
        save(figure, shown, output_stem, note, "")
