"""Tables of systems: size, compute, metrics on each corpus, composite score; as TSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from spaarsist.artefacts import writing
from spaarsist.config import BASELINE, RANK_1, ConfigError, CostModel, System
from spaarsist.evaluation.metrics import ASVSPOOF5, ECE_BINS
from spaarsist.evaluation.summary import read_summary

SHOWN = {"eer": "EER %", "min_dcf": "minDCF", "act_dcf": "actDCF", "cllr": "Cllr", "ece": "ECE"}
"""Metrics in the readable tables, with their headings; the TSV holds every metric of the summary."""


class Kind(NamedTuple):
    """One of the paper's tables, or of ours: heading, what its rows are, and its LaTeX label."""

    heading: str
    subject: str
    label: str


KINDS = {
    "table1": Kind("Table 1", "AASIST and SpAArSIST configurations.", "tab:systems"),
    "table2": Kind("Table 2", "Back-ends under one front-end and one training recipe.", "tab:backends"),
    "temperature": Kind(
        "Temperatures",
        "Softmax temperatures of the graph layers and of the stack node, where they are not the usual ones: behind k "
        "at inference, switched there; behind k in training, trained so.",
        "tab:temperature",
    ),
}
"""The tables that can be written, by file name."""

_MARKS = {BASELINE: ("†", r"$^\dagger$"), RANK_1: ("‡", r"$^\ddagger$")}
_NOTES = {BASELINE: "AASIST, the baseline", RANK_1: "the paper's rank 1"}


def write_table(
    summary: Path,
    composite: Path,
    kind: str,
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    cost: CostModel = ASVSPOOF5,
    confidence: float = 0.95,
) -> None:
    """Write one table as `<output_stem>.tsv` (for machines), `.md`, `.tex` and `.html` (for readers).

    The TSV holds the systems' rows of the summary and their composite score. A cell of the readable ones holds the mean
    over training seeds and, from two seeds on, the standard deviation (n - 1).

    Args:
        summary: file of `evaluation.summary.summarise`.
        composite: file of `evaluation.selection.composite`; systems it does not rank have no composite score.
        kind: which of `KINDS`.
        systems: rows, in order.
        corpora: (name in the summary, title) of each corpus to show, in order.
        output_stem: path of the outputs without their endings.
        label: said in heading and caption, e.g. that the corpora are miniatures.
        cost: the cost model that the metrics were made with, for the caption.
        confidence: of the intervals, likewise.

    Raises:
        ConfigError: no such kind; a file is unreadable; a corpus or a system is missing.
    """
    if kind not in KINDS:
        raise ConfigError(f"no table {kind!r}; there are {', '.join(KINDS)}")
    names = [name for name, _ in corpora]
    table = read_summary(summary, names, systems)
    try:
        ranked = pd.read_csv(composite, sep="\t", index_col="system")["composite"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{composite}: not a readable composite score ({error!r})") from None
    table["composite"] = ranked.reindex(table.index)
    seeds = sorted({int(n) for name in names for n in table[f"{name}.n_seeds"]} - {0})
    notes = _notes(table, seeds, cost, confidence)
    with writing(f"{output_stem}.tsv") as path:
        table.to_csv(path, sep="\t", float_format="%.10g")
    with writing(f"{output_stem}.md") as path:
        path.write_text(_markdown(table, corpora, KINDS[kind], label, notes), encoding="utf-8")
    with writing(f"{output_stem}.tex") as path:
        path.write_text(_latex(table, corpora, KINDS[kind], label, notes), encoding="utf-8")
    with writing(f"{output_stem}.html") as path:
        path.write_text(_html(table, corpora, KINDS[kind], label, notes), encoding="utf-8")


def _notes(table: pd.DataFrame, seeds: list[int], cost: CostModel, confidence: float) -> str:
    """What the table shows, in plain text that is also legal in Markdown."""
    ways = table[["counter", "n_frames", "feature_dim"]].drop_duplicates().itertuples(index=False)
    counters = "; ".join(f"{way.counter}, {way.n_frames} frames of {way.feature_dim:,} features" for way in ways)
    sentences = []
    if table["k_train"].notna().any():
        sentences.append(
            "AST-(k in training)-(k at inference)-(variant) are AASIST back-ends, k the share of nodes that a pooling "
            "keeps."
        )
    if seeds == [1]:
        sentences.append(f"One training seed; {100 * confidence:g} % bootstrap intervals are in the TSV beside this.")
    else:
        sentences.append(f"Mean ± standard deviation over training seeds (n = {', '.join(map(str, seeds))}; rough).")
    sentences.append("Lower is better; the best of each column is underlined.")
    if table["composite"].notna().any():
        sentences.append(f"Composite: our score over accuracy, calibration and compute, 1 = {BASELINE}.")
    sentences.append(
        f"Costs: spoof prior {cost.p_spoof:g}, miss {cost.c_miss:g}, false acceptance {cost.c_fa:g}; actDCF at the "
        f"Bayes threshold of the ASVspoof 5 evaluation package; Cllr in bits; ECE over {ECE_BINS} bins. Parameters and "
        f"multiply-adds (MACs) are of the exported back-end ({counters})."
    )
    if _smaller_in_the_run(table):
        sentences.append("The back-ends that gave this run's errors are smaller: their parameters stand under Run's.")
    return " ".join(sentences)


def _smaller_in_the_run(table: pd.DataFrame) -> bool:
    run = table["n_params_as_run"]
    return bool((run.notna() & (run != table["n_params"])).any())


def _sizes(table: pd.DataFrame) -> dict[str, list[str]]:
    """Heading and texts of the columns on size and compute."""
    sizes = {
        "Params": [f"{n:,.0f}" for n in table["n_params"]],
        "MACs (M)": [f"{n / 1e6:.1f}" for n in table["n_macs"]],
    }
    if _smaller_in_the_run(table):
        sizes["Run's params"] = ["–" if math.isnan(n) else f"{n:,.0f}" for n in table["n_params_as_run"]]
    return sizes


def _columns(table: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Heading and cells of every numeric column behind the MACs; a cell is (mean, spread, is best)."""
    columns = []
    for corpus, _ in corpora:
        for metric, heading in SHOWN.items():
            scale, digits = (100, 2) if metric == "eer" else (1, 3)
            columns.append((heading, f"{corpus}.{metric}.mean", f"{corpus}.{metric}.std", scale, digits))
    if table["composite"].notna().any():
        columns.append(("Composite", "composite", None, 1, 2))
    filled = []
    for heading, mean, std, scale, digits in columns:
        text = [_number(value * scale, digits) for value in table[mean]]
        spread = [_number(value * scale, digits) for value in table[std]] if std else ["–"] * len(table)
        best = _number(table[mean].min() * scale, digits)
        filled.append((heading, [(m, s, m == best != "–") for m, s in zip(text, spread, strict=True)]))
    return filled


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _markdown(table: pd.DataFrame, corpora: Sequence[tuple[str, str]], kind: Kind, label: str, notes: str) -> str:
    def cell(mean: str, spread: str, best: bool) -> str:
        text = f"<ins>{mean}</ins>" if best else mean
        return text if spread == "–" else f"{text} ± {spread}"

    columns = _columns(table, corpora)
    titles = [title for _, title in corpora for _ in SHOWN]
    heads = [f"{title}<br>{head}" for title, (head, _) in zip(titles, columns, strict=False)]
    heads += [head for head, _ in columns[len(titles) :]]
    lines = [f"# {kind.heading}{f' ({label})' if label else ''}", "", kind.subject, ""]
    sizes = _sizes(table)
    lines.append(f"| {' | '.join(['System', *sizes, *heads])} |")
    lines.append("| :--- |" + " ---: |" * (len(heads) + len(sizes)))
    for row, system in enumerate(table.index):
        name = f"**{system}**{_MARKS[system][0]}" if system in _MARKS else system
        texts = [*(size[row] for size in sizes.values()), *(cell(*cells[row]) for _, cells in columns)]
        lines.append(f"| {' | '.join([name, *texts])} |")
    marked = "; ".join(f"{_MARKS[s][0]} {_NOTES[s]}" for s in _MARKS if s in table.index)
    return "\n".join([*lines, "", f"{notes}{f' {marked}.' if marked else ''}", ""])


def _html(table: pd.DataFrame, corpora: Sequence[tuple[str, str]], kind: Kind, label: str, notes: str) -> str:
    shown = pd.DataFrame({("", "System"): [f"{s}{_MARKS.get(s, [''])[0]}" for s in table.index]})
    for head, texts in _sizes(table).items():
        shown["", head] = texts

    def cell(mean: str, spread: str, best: bool) -> str:
        text = f"<u>{mean}</u>" if best else mean
        return text if spread == "–" else f"{text}\u00a0±\u00a0{spread}"

    titles = [html.escape(title) for _, title in corpora for _ in SHOWN]
    columns = _columns(table, corpora)
    for title, (head, cells) in zip([*titles, *[""] * (len(columns) - len(titles))], columns, strict=True):
        shown[title, head] = [cell(*each) for each in cells]
    shown.columns = pd.MultiIndex.from_tuples(shown.columns)
    marked = [f"{_MARKS[s][0]} {_NOTES[s]}." for s in _MARKS if s in table.index]
    return html_page(kind.heading, label, f"{kind.subject} {' '.join([notes, *marked])}", {"": shown})


def html_page(heading: str, label: str, text: str, sections: Mapping[str, pd.DataFrame]) -> str:
    """A page for the browser: what `snakemake --report` shows of a table.

    Args:
        heading: of the page.
        label: remark behind it, e.g. that the corpora are miniatures.
        text: paragraph below the heading.
        sections: heading -> table of texts, which are HTML.
    """
    title = html.escape(f"{heading} ({label})" if label else heading, quote=False)
    parts = [f"<h1>{title}</h1>", f"<p>{html.escape(text, quote=False)}</p>"]
    for name, table in sections.items():
        parts += [f"<h2>{html.escape(name, quote=False)}</h2>", table.to_html(index=False, border=0, escape=False)]
    style = (
        "body{font:14px sans-serif;margin:2em}p{max-width:60em}table{border-collapse:collapse}"
        "td,th{padding:.2em .7em;text-align:left;border-bottom:1px solid #ddd}"
        "thead{border-bottom:2px solid #333}td:first-child{white-space:nowrap}"
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return "\n".join([head, *parts, "</html>", ""])


def _latex(table: pd.DataFrame, corpora: Sequence[tuple[str, str]], kind: Kind, label: str, notes: str) -> str:
    def cell(mean: str, spread: str, best: bool) -> str:
        if mean == "–":
            return "--"
        if mean.startswith("0."):  # width is scarce
            mean = mean[1:]
        text = rf"\underline{{{mean}}}" if best else mean
        return f"${text}$" if spread == "–" else rf"${text}_{{\pm{spread.removeprefix('0')}}}$"

    marked = "; ".join(f"{_MARKS[s][1]}~{_NOTES[s]}" for s in _MARKS if s in table.index)
    caption = " ".join(
        [
            *([rf"\textbf{{{escape(label)}.}}"] if label else []),
            escape(kind.subject),
            escape(notes),
            *([f"{marked}."] if marked else []),
        ]
    )
    columns = _columns(table, corpora)
    width = len(SHOWN)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{escape(title)}}}" for _, title in corpora]
    groups += [""] * (len(columns) - width * len(corpora))
    with_spread = any(table[f"{name}.n_seeds"].max() > 1 for name, _ in corpora)
    sizes = _sizes(table)
    first = [2 + len(sizes) + index * width for index in range(len(corpora))]
    lines = [
        r"\begin{table*}[p]",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{{kind.label}}}",
        r"\fontsize{6}{7.2}\selectfont" if with_spread else r"\scriptsize",
        r"\setlength{\tabcolsep}{2pt}",
        r"\makebox[\textwidth][c]{%",
        rf"\begin{{tabular}}{{l{'r' * (len(sizes) + len(columns))}}}",
        r"\toprule",
        rf"{' &' * (1 + len(sizes))} {' & '.join(groups)} \\",
        " ".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in first),
        rf"System & {' & '.join([*sizes, *(escape(head) for head, _ in columns)])} \\",
        r"\midrule",
    ]
    previous = None
    for row, system in enumerate(table.index):
        named = System.parse(system)
        ratios = named.k_train, named.variant and named.variant.k_infer
        if previous and previous != ratios:
            lines.append(r"\midrule" if previous[0] != ratios[0] else r"\addlinespace")
        previous = ratios
        name = rf"\textbf{{{system}}}{_MARKS[system][1]}" if system in _MARKS else system
        numbers = [escape(size[row]).replace(",", r"\,") for size in sizes.values()]
        lines.append(rf"{' & '.join([name, *numbers, *(cell(*cells[row]) for _, cells in columns)])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table*}", ""])


_TEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
}


def escape(text: str) -> str:
    """Write plain text so that LaTeX sets it as it is."""
    return "".join(_TEX.get(character, character) for character in text)
