"""Tables of systems: size, compute, metrics on each corpus, composite score; as TSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.config import CostModel
from spaarsist.evaluation.comparison import SIGNIFICANCE
from spaarsist.evaluation.metrics import ASVSPOOF5, ECE_BINS
from spaarsist.evaluation.summary import on, read_summary
from spaarsist.names import BASELINE, PAPER_FRAMES, RANK_1, ConfigError
from spaarsist.reporting.tables.differences import TESTED, find, note_on_stars, read_family, star
from spaarsist.reporting.tables.layout import MOST_VALUES, SECTION, interval, number, over_seeds, write

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

_MARKS = {BASELINE: ("†", "AASIST, the baseline"), RANK_1: ("‡", "the paper's rank 1")}


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
    comparisons: Path | None = None,
    footer: str = "",
) -> None:
    """Write one table as `<output_stem>.tsv` (for machines), `.md`, `.tex` and `.html` (for readers).

    The TSV holds the systems' rows of the summary, their composite score and, with comparisons,
    `<corpus>.<metric>.p_holm` of EER and minDCF. A cell of the readable ones holds the mean over training seeds and, of
    more than `layout.MOST_VALUES` seeds, the standard deviation (n - 1). EER and minDCF bear a star where they differ
    significantly from the system's reference, the best of those that are significantly better than the baseline is set
    off, and in Markdown and HTML stand their intervals and, of few seeds, the EER of each.

    Args:
        summary: file of `evaluation.summary.summarise`.
        composite: file of `evaluation.composite.composite`; systems it does not rank have no composite score.
        kind: which of `KINDS`.
        systems: rows, in order.
        corpora: (name in the summary, title) of each corpus to show, in order.
        output_stem: path of the outputs without their endings.
        label: said in heading and caption, e.g. that the corpora are miniatures.
        cost: the cost model that the metrics were made with, for the caption.
        confidence: of the intervals, likewise.
        comparisons: file of `evaluation.comparison.compare`, where each system has one reference; the notes name the
            systems that are not in it. None, or where the systems are references alone: no stars.
        footer: how the table was made (`artefacts.footer`).

    Raises:
        ConfigError: no such kind; a file is unreadable; a corpus or a system is missing, or all comparisons.
    """
    if kind not in KINDS:
        raise ConfigError(f"no table {kind!r}; there are {', '.join(KINDS)}")
    table = read_summary(summary, [name for name, _ in corpora], systems)
    ranked = read_table(composite, ["system", "composite"]).set_index("system")["composite"]
    parts = [table, ranked.reindex(table.index)]
    notes, better = "", {}
    if comparisons is not None:
        family = read_family(comparisons)
        tests = _tests(comparisons, family, systems, corpora)
        p_holm = tests["p_holm"].droplevel("reference").unstack(["corpus", "metric"])
        parts.append(p_holm.set_axis([on(*key, "p_holm") for key in p_holm], axis=1))
        notes = _note_on_tests(family, tests, systems, corpora) if len(tests) else ""
        better = _better(tests)
    table = pd.concat(parts, axis=1).copy()  # in one piece, or pandas warns
    shown, best = _cells(table, corpora, better)
    if kind == "table1" and table["k_train"].nunique() > 1:
        shown, best = _in_sections(table["k_train"], shown, best)
    write(
        output_stem,
        table.reset_index(),
        shown,
        heading=KINDS[kind].heading,
        subject=KINDS[kind].subject,
        notes=_notes(table, corpora, cost, confidence, bool(better)) + notes,
        tex_label=KINDS[kind].label,
        label=label,
        footer=footer,
        marked=best,
        brief_latex=True,
    )


def _tests(
    path: Path, family: pd.DataFrame, systems: Sequence[str], corpora: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """The tests of these systems, each against the one reference that it has."""
    pairs = family.index.droplevel(["corpus", "metric"]).unique()
    references = dict(pairs)
    if len(references) < len(pairs):
        raise ConfigError(f"{path}: compares a system with two others; a table of systems takes one reference for each")
    tested = [system for system in systems if system in references]
    if not tested and {*systems} - {*references.values()}:
        raise ConfigError(f"{path}: holds no comparison of {', '.join(systems)}")
    keys = [(s, references[s], corpus, metric) for s in tested for corpus, _ in corpora for metric in TESTED]
    for key in keys:
        find(path, family, *key)
    return family.loc[keys]


def _better(tests: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """(corpus, metric) -> the systems that are significantly better than the baseline."""
    found: dict[tuple[str, str], list[str]] = {}
    for (system, reference, *where), test in tests.iterrows():
        if reference == BASELINE and test["p_holm"] < SIGNIFICANCE and test["difference"] < 0:
            found.setdefault(tuple(where), []).append(system)
    return found


def _note_on_tests(
    family: pd.DataFrame, tests: pd.DataFrame, systems: Sequence[str], corpora: Sequence[tuple[str, str]]
) -> str:
    references = tests.index.unique("reference")
    untested = [system for system in systems if system not in tests.index.unique("system").union(references)]
    rest = [f"Not tested: {', '.join(untested)}."] if untested else []
    return (
        f" Stars compare with {' or '.join(references)}, in a paired t test whose variance is that over seeds and that "
        "of a bootstrap, over trials and then over speakers, where they are known; the larger p counts. "
        f"{' '.join([note_on_stars(family, tests, corpora), *rest])}"
    )


def _notes(
    table: pd.DataFrame, corpora: Sequence[tuple[str, str]], cost: CostModel, confidence: float, better: bool
) -> str:
    """How to read the table."""
    sentences = []
    if table["k_train"].notna().any():
        sentences.append(
            "AST-(k in training)-(k at inference)-(variant) are AASIST back-ends, k the share of nodes that a pooling "
            "keeps."
        )
    seeds = sorted({int(n) for name, _ in corpora for n in table[on(name, "n_seeds")]} - {0})
    where = "in the Markdown and HTML forms of this table"
    if seeds == [1]:
        sentences.append("One training seed.")
    else:
        sentences.append(f"Mean over training seeds (n = {', '.join(map(str, seeds))}).")
        if seeds[0] <= MOST_VALUES:
            sentences.append(f"Of up to {MOST_VALUES} seeds the EER of each is below their mean {where}.")
        if seeds[-1] > MOST_VALUES:
            sentences.append(f"Of more than {MOST_VALUES} seeds ± their standard deviation.")
    if any(table[on(name, metric, "ci_low")].notna().any() for name, _ in corpora for metric in TESTED):
        over = "trials" if seeds == [1] else "trials and training seeds"
        sentences.append(f"{100 * confidence:g} % intervals over {over} stand below EER and minDCF {where}.")
    sentences.append("Lower is better.")
    if better:
        sentences.append(f"Underlined: the best of what is significantly better than {BASELINE}.")
    if table["composite"].notna().any():
        sentences.append(f"Composite: our score over accuracy, calibration and compute, 1 = {BASELINE}.")
    ways = table[["counter", "n_frames", "feature_dim"]].drop_duplicates().itertuples(index=False)
    counters = "; ".join(f"{way.counter}, {way.n_frames} frames of {way.feature_dim:,} features" for way in ways)
    sentences.append(
        f"Costs: spoof prior {cost.p_spoof:g}, miss {cost.c_miss:g}, false acceptance {cost.c_fa:g}; actDCF at the "
        f"Bayes threshold of the ASVspoof 5 evaluation package; Cllr in bits; ECE over {ECE_BINS} bins. Parameters and "
        f"multiply-adds (MACs) are of the exported back-end ({counters}); linear: those of linear layers alone, head "
        f"included, at {PAPER_FRAMES} frames, as the paper's MACs come out."
    )
    if _smaller_in_the_run(table):
        sentences.append("The back-ends that gave this run's errors are smaller: their parameters stand under Run's.")
    if marked := [" ".join(_MARKS[system]) for system in _MARKS if system in table.index]:
        sentences.append(f"{'; '.join(marked)}.")
    return " ".join(sentences)


def _smaller_in_the_run(table: pd.DataFrame) -> bool:
    run = table["n_params_as_run"]
    return bool((run.notna() & (run != table["n_params"])).any())


def _cells(
    table: pd.DataFrame, corpora: Sequence[tuple[str, str]], better: Mapping[tuple[str, str], Sequence[str]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Texts of the readable tables, and which of them are set off: the named systems, and what `write_table` says."""
    heads, texts, marks = [("", "System")], [], []
    texts.append([system + _MARKS.get(system, [""])[0] for system in table.index])
    marks.append([system in _MARKS for system in table.index])

    def add(group: str, heading: str, column: list[str], marked: Sequence[bool] | None = None) -> None:
        heads.append((group, heading))
        texts.append(column)
        marks.append([False] * len(table) if marked is None else [*marked])

    add("", "Params", [f"{n:,.0f}" for n in table["n_params"]])
    add("MACs (M)", "all", [f"{n / 1e6:.1f}" for n in table["n_macs"]])
    add("MACs (M)", "linear", [f"{n / 1e6:.1f}" for n in table["n_macs_linear"]])
    if _smaller_in_the_run(table):
        add("", "Run's params", ["–" if math.isnan(n) else f"{n:,.0f}" for n in table["n_params_as_run"]])
    for corpus, title in corpora:
        for metric, heading in SHOWN.items():
            scale, digits = (100, 2) if metric == "eer" else (1, 3)
            p_holm = table.get(on(corpus, metric, "p_holm"), pd.Series(math.nan, table.index))
            column = []
            for p, (_, row) in zip(p_holm, table.iterrows(), strict=True):
                text, _, values = over_seeds(row, corpus, metric, scale, digits).partition("\n")
                ends = [row[on(corpus, metric, end)] * scale for end in ("ci_low", "ci_high")]
                has_interval = metric in TESTED and not math.isnan(ends[0])
                lines = [text + star(p), values if metric == "eer" else "", interval(*ends, digits) * has_interval]
                column.append("\n".join(filter(None, lines)))
            means = table[on(corpus, metric)]
            add(title, heading, column, means == means[means.index.isin(better.get((corpus, metric), ()))].min())
    if table["composite"].notna().any():
        add("", "Composite", [number(value, 2) for value in table["composite"]])
    columns = pd.MultiIndex.from_tuples(heads)
    shown, marked = (pd.DataFrame(zip(*cells, strict=True), columns=columns) for cells in (texts, marks))
    return shown, marked


def _in_sections(k_train: pd.Series, shown: pd.DataFrame, marked: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same rows under headings that tell the k of training."""
    rows, marks, above = [], [], ""
    for k, row, row_marks in zip(k_train, shown.to_numpy().tolist(), marked.to_numpy().tolist(), strict=True):
        heading = "Other back-ends" if math.isnan(k) else f"Trained with k = {k:g}"
        if heading != above:
            rows.append([SECTION + heading, *[""] * (len(row) - 1)])
            marks.append([False] * len(row))
        rows.append(row)
        marks.append(row_marks)
        above = heading
    return pd.DataFrame(rows, columns=shown.columns), pd.DataFrame(marks, columns=shown.columns)
