"""Table 1: every AASIST and SpAArSIST configuration, its size, its compute and its metrics on each corpus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import writing
from spaarsist.config import LABELS, ConfigError, CostModel, Variant
from spaarsist.evaluation.metrics import ASVSPOOF5, ECE_BINS

BASELINE = "AST-05-05"
"""Table-row name of the plain AASIST."""

RANK_1 = "AST-03-01-Mag"
"""Table-row name of the configuration that the paper ranks first."""

SHOWN = {"eer": "EER %", "min_dcf": "minDCF", "act_dcf": "actDCF", "cllr": "Cllr", "ece": "ECE"}
"""Metrics in the readable tables, with their headings; the TSV holds every metric of the metrics files."""

_MARKS = {BASELINE: ("†", r"$^\dagger$"), RANK_1: ("‡", r"$^\ddagger$")}
_NOTES = {BASELINE: "AASIST, the baseline", RANK_1: "the paper's rank 1"}


def table1(
    metrics: Sequence[Path],
    complexity: Sequence[Path],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    cost: CostModel = ASVSPOOF5,
    confidence: float = 0.95,
) -> None:
    """Write Table 1 as `<output_stem>.tsv` (for machines), `.md` and `.tex` (for readers).

    Rows are the systems of the metrics files by falling k_train, falling k_infer and the order of `LABELS`. A
    cell holds the mean over training seeds and, from two seeds on, the standard deviation (n − 1). The TSV
    gives fractions in columns `<corpus>.<metric>.mean` and `.std` (empty for one seed), `.ci_low` and
    `.ci_high` (the bootstrap interval of that one seed; empty for several) and `<corpus>.n_seeds`.

    Args:
        metrics: TSV files that `spaarsist.evaluation.metrics.evaluate` wrote, any mix of systems, seeds and
            corpora.
        complexity: TSV files with the columns system, n_params, n_macs, counter, n_frames, feature_dim; every system
            needs a row.
        corpora: (name in the metrics files, title) of each corpus to show, in order.
        output_stem: path of the outputs without their endings.
        label: said in heading and caption, e.g. that the corpora are miniatures.
        cost: the cost model that the metrics files were made with, for the caption.

    Raises:
        ConfigError: a file lacks columns, a corpus or a system is missing, or two files contradict each
            other.
    """
    table, counters = _collect(metrics, complexity, [name for name, _ in corpora])
    seeds = sorted({int(n) for name, _ in corpora for n in table[f"{name}.n_seeds"]} - {0})
    notes = _caption(seeds, counters, cost, confidence)
    with writing(f"{output_stem}.tsv") as path:
        table.to_csv(path, sep="\t", float_format="%.10g")
    with writing(f"{output_stem}.md") as path:
        path.write_text(_markdown(table, corpora, label, notes), encoding="utf-8")
    with writing(f"{output_stem}.tex") as path:
        path.write_text(_latex(table, corpora, label, notes), encoding="utf-8")


def system_key(system: str) -> tuple[float, float, int]:
    """Sorting key of a table-row name: falling k_train, falling k_infer, order of `LABELS`.

    Raises:
        ConfigError: the name is not of the form `AST-03-01-Mag`.
    """
    family, _, rest = system.partition("-")
    code, _, column = rest.partition("-")
    try:
        if family != "AST":
            raise ValueError("it does not start with AST-")
        variant = Variant.from_column(column)
        return -Variant.from_column(code).k_infer, -variant.k_infer, [*LABELS].index(variant.label)
    except ValueError as error:
        raise ConfigError(f"{system!r} is not a system name such as AST-03-01-Mag ({error})") from None


def _collect(metrics: Sequence[Path], complexity: Sequence[Path], corpora: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """One row per system (index), numbers in fractions; and what counted the operations, in words."""
    key = ["system", "corpus", "metric"]
    scores = _read(metrics, [*key, "seed", "condition", "value", "ci_low", "ci_high"])
    scores = scores[(scores["condition"] == "pooled") & scores["corpus"].isin(corpora)]
    for corpus in corpora:
        if corpus not in scores["corpus"].array:
            raise ConfigError(f"no pooled metrics of corpus {corpus!r} in {', '.join(map(str, metrics))}")
    twice = scores[scores.duplicated([*key, "seed"])]
    if len(twice):
        raise ConfigError(f"the metrics files hold a number twice: {twice.iloc[0][[*key, 'seed']].to_dict()}")

    size = _read(complexity, ["system", "n_params", "n_macs", "counter", "n_frames", "feature_dim"])
    size = (
        size[["system", "n_params", "n_macs", "counter", "n_frames", "feature_dim"]]
        .drop_duplicates()
        .set_index("system")
    )
    systems = sorted({*scores["system"]}, key=system_key)
    contradictory, unknown = {*size.index[size.index.duplicated()]}, {*systems} - {*size.index}
    if contradictory or unknown:
        raise ConfigError(f"complexity is missing for {sorted(unknown)} and contradictory for {sorted(contradictory)}")
    size = size.loc[systems]

    table = size[["n_params", "n_macs"]].copy()
    groups = scores.groupby(key)
    summary = groups["value"].agg(["mean", "std", "count"])
    alone = summary["count"] == 1
    summary[["ci_low", "ci_high"]] = groups[["ci_low", "ci_high"]].first().where(alone)
    order = list(scores["metric"].unique())
    for corpus in corpora:
        part = summary.xs(corpus, level="corpus").unstack("metric")
        table[f"{corpus}.n_seeds"] = part["count"].max(axis=1).reindex(systems).fillna(0).astype(int)
        for metric in sorted(part["mean"], key=order.index):
            for statistic in ("mean", "std", "ci_low", "ci_high"):
                table[f"{corpus}.{metric}.{statistic}"] = part[statistic, metric]
    ways = size[["counter", "n_frames", "feature_dim"]].drop_duplicates().itertuples(index=False)
    return table, "; ".join(f"{way.counter}, {way.n_frames} frames of {way.feature_dim:,} features" for way in ways)


def _read(paths: Sequence[Path], columns: Sequence[str]) -> pd.DataFrame:
    frames = []
    for path in paths:
        try:
            frame = pd.read_csv(path, sep="\t", keep_default_na=False, na_values={"ci_low": "", "ci_high": ""})
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a readable TSV file ({error})") from None
        missing = [name for name in columns if name not in frame]
        if missing:
            raise ConfigError(f"{path}: columns missing: {', '.join(missing)}")
        frames.append(frame)
    if not frames:
        raise ConfigError(f"no file given that holds {', '.join(columns)}")
    return pd.concat(frames, ignore_index=True)


def _caption(seeds: list[int], counters: str, cost: CostModel, confidence: float) -> str:
    """What the table shows, in plain text that is also legal in Markdown."""
    if seeds == [1]:
        spread = f"One training seed; {100 * confidence:g} % bootstrap intervals are in the TSV beside this table."
    else:
        spread = f"Mean ± standard deviation over training seeds (n = {', '.join(map(str, seeds))}; rough)."
    return (
        "Systems are named AST-(k in training)-(k at inference)-(variant), k the share of nodes that a pooling keeps. "
        f"{spread} Lower is better; the best of each column is underlined. "
        f"Costs: spoof prior {cost.p_spoof:g}, miss {cost.c_miss:g}, false acceptance {cost.c_fa:g}; "
        "actDCF at the Bayes threshold of the ASVspoof 5 evaluation package; "
        f"Cllr in bits; ECE over {ECE_BINS} bins. "
        f"Parameters and multiply-adds (MACs) are of the exported back-end ({counters})."
    )


def _cells(table: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Text of every metric cell as (mean, std, is best), columns (corpus, metric)."""
    cells = {}
    for corpus, _ in corpora:
        for metric in SHOWN:
            mean, std = (
                table.get(f"{corpus}.{metric}.{part}", pd.Series(math.nan, table.index)) for part in ("mean", "std")
            )
            scale, digits = (100, 2) if metric == "eer" else (1, 3)
            text = [_number(value * scale, digits) for value in mean]
            spread = [_number(value * scale, digits) for value in std]
            best = _number(mean.min() * scale, digits)
            cells[corpus, metric] = [(m, s, m == best != "–") for m, s in zip(text, spread, strict=True)]
    return pd.DataFrame(cells, index=table.index)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _markdown(table: pd.DataFrame, corpora: Sequence[tuple[str, str]], label: str, notes: str) -> str:
    def cell(mean: str, std: str, best: bool) -> str:
        text = f"<ins>{mean}</ins>" if best else mean
        return text if std == "–" else f"{text} ± {std}"

    heads = ["System", "Params", "MACs (M)", *(f"{title}<br>{head}" for _, title in corpora for head in SHOWN.values())]
    lines = [f"# Table 1{f' ({label})' if label else ''}", "", f"| {' | '.join(heads)} |"]
    lines.append("| :--- |" + " ---: |" * (len(heads) - 1))
    cells = _cells(table, corpora)
    for system, row in table.iterrows():
        name = f"**{system}**{_MARKS[system][0]}" if system in _MARKS else system
        numbers = [f"{int(row['n_params']):,}", f"{row['n_macs'] / 1e6:.1f}", *(cell(*c) for c in cells.loc[system])]
        lines.append(f"| {' | '.join([name, *numbers])} |")
    marked = "; ".join(f"{_MARKS[s][0]} {_NOTES[s]}" for s in _MARKS if s in table.index)
    return "\n".join([*lines, "", f"{notes}{f' {marked}.' if marked else ''}", ""])


def _latex(table: pd.DataFrame, corpora: Sequence[tuple[str, str]], label: str, notes: str) -> str:
    def cell(mean: str, std: str, best: bool) -> str:
        if mean == "–":
            return "--"
        mean, std = mean.removeprefix("0"), std.removeprefix("0")  # width is scarce
        text = rf"\underline{{{mean}}}" if best else mean
        return f"${text}$" if std == "–" else rf"${text}_{{\pm{std}}}$"

    marked = "; ".join(f"{_MARKS[s][1]}~{_NOTES[s]}" for s in _MARKS if s in table.index)
    caption = " ".join(
        [
            *([rf"\textbf{{{_escape(label)}.}}"] if label else []),
            "AASIST and SpAArSIST configurations.",
            _escape(notes),
            *([f"{marked}."] if marked else []),
        ]
    )
    width = len(SHOWN)
    groups = [rf"\multicolumn{{{width}}}{{c}}{{{_escape(title)}}}" for _, title in corpora]
    with_spread = any(table[f"{name}.n_seeds"].max() > 1 for name, _ in corpora)
    first = [4 + index * width for index in range(len(corpora))]
    lines = [
        r"\begin{table*}[p]",
        r"\centering",
        rf"\caption{{{caption}}}",
        r"\label{tab:systems}",
        r"\fontsize{6}{7.2}\selectfont" if with_spread else r"\scriptsize",
        r"\setlength{\tabcolsep}{2pt}",
        r"\makebox[\textwidth][c]{%",
        rf"\begin{{tabular}}{{lrr{'r' * width * len(corpora)}}}",
        r"\toprule",
        rf" & & & {' & '.join(groups)} \\",
        " ".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in first),
        rf"System & Params & MACs (M) & {' & '.join(_escape(h) for _ in corpora for h in SHOWN.values())} \\",
        r"\midrule",
    ]
    cells = _cells(table, corpora)
    previous = None
    for system, row in table.iterrows():
        k_train, k_infer, _ = system_key(system)
        if previous and previous != (k_train, k_infer):
            lines.append(r"\midrule" if previous[0] != k_train else r"\addlinespace")
        previous = k_train, k_infer
        name = rf"\textbf{{{system}}}{_MARKS[system][1]}" if system in _MARKS else system
        numbers = [rf"{int(row['n_params']):,}".replace(",", r"\,"), f"{row['n_macs'] / 1e6:.1f}"]
        lines.append(rf"{' & '.join([name, *numbers, *(cell(*c) for c in cells.loc[system])])} \\")
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


def _escape(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
