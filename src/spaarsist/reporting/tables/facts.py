"""Tables of what can be known without data: MACs by convention and by length, and the facts about paper and code."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.names import BASELINE, CONVENTIONS, LIGHT, PAPER_FRAMES, RANK_1, ConfigError
from spaarsist.reporting.claims import COMMIT, judge_facts, typeset
from spaarsist.reporting.tables.layout import SECTION, number, write

COUNTED = {
    BASELINE: "AASIST",
    RANK_1: "Mag, k 0.1",
    "AST-03-01-MagMean": "MagMean, k 0.1",
    LIGHT: LIGHT,
}
"""Systems whose MACs are counted by every convention -> what tables and figures call them."""

PRINTED = {BASELINE: 195.045, RANK_1: 154.706}
"""System -> MACs that the paper prints, in millions (C1 and C2 of `paper/claims.csv`)."""

FRAMES_PER_SECOND = 50
"""Of XLS-R: a frame every 320 samples, at 16 kHz."""

TOPICS = {
    "F1": "The row of rank 1 joins two systems",
    "F2": "The released code's mean is no mean",
    "F3": "What the paper's MACs count",
    "F4": "Batches leak",
    "F5": "Which layer the features are of",
    "F6": "Two thresholds of the actual DCF",
    "F7": "Ties in the EER",
    "F9": "A pass per row, or per checkpoint",
    "F10": "Scores that saturate",
    "F11": "Losses that a print alone tells of",
    "F12": "The time mask falls before the crop",
    "F13": "Dropout before the norm",
}
"""Number of a fact -> what its rows are about. F8 needs trainings: it stands in a run's ledger."""


def read_counts(path: Path) -> pd.Series:
    """Read `counts.tsv` of `audit.facts.measure`: (system, convention, n_frames) -> n_macs.

    Raises:
        ConfigError: it is unreadable, or lacks a count of `COUNTED` that another length has.
    """
    keys = ["system", "convention", "n_frames"]
    counts = read_table(path, [*keys, "n_params", "n_macs"]).set_index(keys)["n_macs"]
    for convention, n_frames in counts.index.droplevel("system").unique():
        if convention in ("whole", "linear_head"):
            for system in COUNTED:
                if (system, convention, n_frames) not in counts.index:
                    raise ConfigError(f"{path}: no {convention} of {system} at {n_frames} frames; make it anew")
    return counts


def write_macs(counts: Path, output_stem: Path, footer: str = "") -> None:
    """Write the paper's MACs beside every way of counting, as `<output_stem>.tsv`, `.md`, `.tex` and `.html`.

    Args:
        counts: `counts.tsv` of `audit.facts.measure`.
        output_stem: path of the outputs without their endings.
        footer: how the table was made (`artefacts.footer`).

    Raises:
        ConfigError: see `read_counts`.
    """
    table = read_table(counts, ["system", "n_params"])
    n_params = table.drop_duplicates("system").set_index("system")["n_params"]
    macs = read_counts(counts)
    lengths = (200, 201, PAPER_FRAMES)
    heads = [("", "System"), ("", "Params"), *(("MACs at frames", f"{n}") for n in lengths)]
    heads += [("Saved %", f"{n}") for n in lengths[1:]] + [
        ("Paper's MACs", "prints (M)"),
        ("Paper's MACs", "differs by (M)"),
    ]
    rows, marked = [], []
    for convention, what in CONVENTIONS.items():
        rows.append([f"{SECTION}{what.capitalize()} ({convention})", *[""] * (len(heads) - 1)])
        marked.append([False] * len(heads))
        for system, name in COUNTED.items():
            found = [macs.get((system, convention, n)) for n in lengths]
            saved = [1 - macs[system, convention, n] / macs[BASELINE, convention, n] for n in lengths[1:]]
            printed, ours = PRINTED.get(system), round(found[-1] / 1e6, 3)
            rows.append([name, f"{n_params[system]:,}", *("–" if n is None else f"{int(n):,}" for n in found)])
            rows[-1] += ["–" if system == BASELINE else number(100 * share, 2) for share in saved]
            rows[-1] += ["–", "–"] if printed is None else [f"{printed:.3f}", number(ours - printed, 3, "+")]
            marked.append([False] * (len(heads) - 1) + [printed is not None and ours == printed])
    write(
        output_stem,
        table,
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="What the paper's MACs count",
        subject="Multiply-adds of one excerpt at the paper's size, by each way of counting, and the two it prints.",
        notes=f"1,024 features, an embedding of 1,024; 201 frames are those of 64,600 samples, {PAPER_FRAMES} those of "
        f"8.75 s. Counted of linear layers alone, in back-end and head, at {PAPER_FRAMES} frames, AASIST and Mag give "
        "the paper's numbers to the last digit. Why that length, the paper does not say. Differs by: ours less the "
        "paper's, at that length. "
        "MagMean, whose parameters it prints beside Mag's MACs, is another system. ptflops is the authors' own tool, "
        "run at 200 frames in their code; here on a textbook back-end that is equal to theirs. Saved: of AASIST's, at "
        "the same length.",
        tex_label="tab:macs",
        footer=footer,
        marked=pd.DataFrame(marked),
    )


def write_saving(counts: Path, output_stem: Path, footer: str = "") -> None:
    """Write what is saved against the length of the input, as `<output_stem>.tsv`, `.md`, `.tex` and `.html`.

    The TSV has the rows of `savings`. Arguments and errors as of `write_macs`.
    """
    data = savings(read_counts(counts))
    heads = [("", "Seconds"), ("", "Frames")]
    conventions = {"whole": "All", "linear_head": "Linear layers"}
    for title in conventions.values():
        heads += [(title, "AASIST (M)"), *((f"{title}: saved %", name) for s, name in COUNTED.items() if s != BASELINE)]
    rows = []
    for (seconds, n_frames), part in data.groupby(["seconds", "n_frames"]):
        cells = part.set_index(["convention", "system"])
        rows.append([f"{seconds:g}", f"{n_frames:,}"])
        for convention in conventions:
            rows[-1].append(f"{cells.loc[(convention, BASELINE), 'n_macs'] / 1e6:,.1f}")
            rows[-1] += [number(100 * cells.loc[(convention, s), "saved"], 1) for s in COUNTED if s != BASELINE]
    write(
        output_stem,
        data,
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Saving against length",
        subject="What sparsifying (Mag, MagMean, at k 0.1) and shrinking (AASIST-L) save of AASIST's multiply-adds.",
        notes="All: everything that fvcore counts, back-end alone; linear layers: these alone, in back-end and head, "
        "as the paper counts. Pairs of nodes grow with the square of the length, convolutions with the length: from "
        "four seconds up, the longer the input, the more is saved.",
        tex_label="tab:saving",
        footer=footer,
    )


def savings(counts: pd.Series) -> pd.DataFrame:
    """Counts as rows `seconds, n_frames, system, convention, n_macs, saved`, for all lengths that XLS-R gives.

    `saved` is a share of what AASIST takes at the same length, by the same convention.
    """
    rows = []
    for (system, convention, n_frames), n_macs in counts.items():
        if system in COUNTED and convention in ("whole", "linear_head"):
            seconds = (n_frames + 1) / FRAMES_PER_SECOND
            saved = 1 - n_macs / counts[BASELINE, convention, n_frames]
            rows.append((seconds, n_frames, system, convention, n_macs, saved))
    columns = ["seconds", "n_frames", "system", "convention", "n_macs", "saved"]
    return pd.DataFrame(rows, columns=columns).sort_values(["n_frames", "convention"], kind="stable", ignore_index=True)


def write_facts(facts: Path, quantities: Path, output_stem: Path, footer: str = "") -> pd.DataFrame:
    """Write every fact with its verdict, as `<output_stem>.tsv`, `.md`, `.tex` and `.html`.

    Args:
        facts: `paper/facts.csv`.
        quantities: `quantities.tsv` of `audit.facts.measure`.
        output_stem: path of the outputs without their endings.
        footer: how the table was made (`artefacts.footer`).

    Returns:
        Columns `fact, where, statement, obtained, how, verdict`, the last `shown` or `not shown`.

    Raises:
        ConfigError: see `judge_facts`.
    """
    ledger = judge_facts(facts, quantities)
    data = ledger[["claim_id", "where", "statement", "ours", "why"]]
    data = data.set_axis(["fact", "where", "statement", "obtained", "how"], axis=1)
    data["verdict"] = ledger["verdict"].eq("reproduced").map({True: "shown", False: "not shown"})
    rows = []
    for topic, title in TOPICS.items():
        rows.append([f"{SECTION}{topic}. {title}", *[""] * 4])
        for row in data[data["fact"].str.fullmatch(f"{topic}[a-z]?")].itertuples(index=False):
            rows.append([row.fact, row.statement, f"{row.obtained}\n{row.how}", row.where, row.verdict])
    shown = pd.DataFrame(rows, columns=["Id", "Fact", "Obtained", "Where", "Verdict"]).map(typeset)
    write(
        output_stem,
        data,
        shown,
        heading="Facts",
        subject="What can be known of the paper and of its authors' released code without data, each measured here.",
        notes=f"Where: file and lines of the released code at commit {COMMIT[:12]} "
        "(https://github.com/Security-FIT/SpAArSIST), which has the number, or ours. Its authors disclose the "
        "path without attention in their README, in backend.py (lines 106-111 and 150-154) and in tools/efficiency.py. "
        "F8, on choosing by random development crops, needs trainings: it is in the ledger of a run.",
        tex_label="tab:facts",
        footer=footer,
        brief_latex=True,
        wrapped={"Fact": 90},
        marked=shown.apply(lambda column: (column.name == "Verdict") & column.eq("not shown")),
    )
    return data
