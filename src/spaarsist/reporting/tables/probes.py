"""Tables of probes: which scorer keeps nodes that were spoofed on purpose, what is kept at the edges of excerpts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.names import ConfigError, System, system_name
from spaarsist.reporting.tables.layout import SECTION, interval, number, write

PLANTS = {
    "world_copy": "WORLD copy-synthesis",
    "griffin_lim_mel": "Griffin–Lim from mel bands",
    "lpc_vocoder": "LPC vocoder",
    "elsewhere": "Bona fide, from elsewhere",
    "unchanged": "Itself (control)",
}
"""What is planted, in the order of tables -> how tables call it."""

SCORERS = ("learned", "magnitude")

_CLASSES = {"bonafide": "bona fide", "spoof": "spoof"}
_CROPS = {
    "scored": "As scored (%)",
    "inside": "Within the speech, no silence or padding (%)",
    "shifted": "The same, 0.3 s later (%)",
    "padded": "As scored, shorter clips, padded with zeros (%)",
}
_KEPT_INSIDE = {"first": "shifted", "last": "inside"}  # the excerpt in which a node is at the border for comparison


def read_probed(probed: Sequence[Path], file: str, corpora: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Put files of one name that `audit.probes.probe` wrote together.

    Args:
        probed: folders that it wrote, one per corpus.
        file: name of the files, such as `planted.tsv`.
        corpora: names of those to read; others are dropped.
        columns: that must be there besides `trained, corpus, k, scorer`.

    Returns:
        Their rows: trainings in the order of tables, then corpora in the order given.

    Raises:
        ConfigError: no folder, a file is unreadable or lacks columns, two are of one corpus, or one is missing.
    """
    needed = ["trained", "corpus", "k", "scorer", *columns]
    texts = dict.fromkeys(("trained", "corpus", "scorer", "method", "label", "crop", "node"), str)
    tables: dict[str, pd.DataFrame] = {}
    for path in (Path(folder, file) for folder in probed):
        for name, table in read_table(path, needed, dtype=texts).groupby("corpus", sort=False):
            if name in tables:
                raise ConfigError(f"{path}: corpus {name} was given before; give each once")
            tables[name] = table
    if absent := [name for name in corpora if name not in tables]:
        raise ConfigError(f"the folders given hold no probes of corpus {absent[0]!r}; make them with `spaarsist probe`")
    rows = pd.concat([tables[name] for name in corpora], ignore_index=True)
    order = rows["trained"].map(lambda name: System.parse(system_name(name, "10")).order)
    return rows.iloc[sorted(range(len(rows)), key=order.__getitem__)].reset_index(drop=True)


def write_planted(
    probed: Sequence[Path],
    output_stem: Path,
    corpora: Sequence[tuple[str, str]],
    label: str = "",
    footer: str = "",
) -> None:
    """Write the table of planted stretches: are their nodes kept more often than the same nodes before?

    Args:
        probed: folder of `audit.probes.probe` of every corpus.
        corpora: (name in the files, title) of each group of columns.
        output_stem, label, footer: as in `layout.write`. The TSV has the rows of the files.

    Raises:
        ConfigError: see `read_probed`.
    """
    numbers = ["before", "after", "difference", "low", "high", "lowest_seed", "highest_seed"]
    numbers += ["synthesis", "synthesis_low", "synthesis_high", "score_change", "score_low", "score_high"]
    columns = ["method", "n_clips", "n_seeds", "n_nodes", "n_planted", "chance", *numbers]
    rows = read_probed(probed, "planted.tsv", [name for name, _ in corpora], columns)
    cells = [(name, k) for name, _ in corpora for k in sorted(rows["k"].unique(), reverse=True)]
    lines = []
    for trained, own in rows.groupby("trained", sort=False):
        lines.append([f"{SECTION}{trained}", *[""] * (2 + len(cells))])
        found = own.set_index(["method", "scorer", "corpus", "k"]).to_dict("index")
        for method, name in PLANTS.items():
            for scorer in SCORERS:
                of = [found.get((method, scorer, *cell)) for cell in cells]
                first = name if scorer == SCORERS[0] else ""
                lines.append([first, scorer, "kept", *map(_kept_cell, of)])
                if any(row and not math.isnan(row["synthesis"]) for row in of):
                    lines.append(["", "", "kept, by synthesis", *(_points(row, "synthesis", 1) for row in of)])
                lines.append(["", "", "score", *map(_score_cell, of)])
    heads = [("", "Planted"), ("", "Scorer"), ("", "Change of"), *((dict(corpora)[c], f"k = {k:g}") for c, k in cells)]
    write(
        output_stem,
        rows,
        pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Which scorer keeps spoofed nodes",
        subject=(
            "A stretch of 0.3 s in bona fide clips is remade, all else equal sample for sample: how much more often "
            "the first temporal pooling then keeps its nodes."
        ),
        notes=" ".join(
            [
                _counts(rows, corpora),
                f"A stretch has {rows['n_planted'].mean():.3g} of {rows['n_nodes'].iloc[0]:.0f} nodes.",
                "Kept: change in percentage points of the share kept, with its interval; below it the share before and "
                "after, and the change of the lowest and of the highest seed. Chance keeps the share k.",
                "Score: change in nats of the score with nodes chosen so; negative is towards spoof.",
                "Intervals hold variation over clips and over seeds, and speak of these speakers alone.",
                "Speech from elsewhere in the same clip, put in the same way, shows what the exchange does without any "
                "synthesis; what a method does beyond it is by synthesis.",
            ]
        ),
        tex_label="tab:planted",
        label=label,
        footer=footer,
        brief_latex=True,
    )


def write_edges(
    probed: Sequence[Path],
    output_stem: Path,
    corpora: Sequence[tuple[str, str]],
    label: str = "",
    footer: str = "",
) -> None:
    """Write the table of edges: how often the first and the last temporal node are kept, by where the excerpt ends.

    Args:
        probed: folder of `audit.probes.probe` of every corpus.
        corpora: (name in the files, title) of each group of columns.
        output_stem, label, footer: as in `layout.write`. The TSV has the rows of the files.

    Raises:
        ConfigError: see `read_probed`.
    """
    numbers = ["share", "same_speech", "border", "low", "high", "lowest_seed", "highest_seed"]
    numbers += ["repeated", "repeated_low", "repeated_high", "score_change", "score_low", "score_high"]
    columns = ["label", "crop", "node", "n_clips", "n_seeds", "chance", *numbers]
    rows = read_probed(probed, "edges.tsv", [name for name, _ in corpora], columns)
    cells = [(name, kind) for name, _ in corpora for kind in _CLASSES]
    lines = []
    for (trained, k), own in rows.groupby(["trained", "k"], sort=False):
        found = own.set_index(["scorer", "crop", "corpus", "label", "node"]).to_dict("index")
        for scorer in SCORERS:
            lines.append([f"{SECTION}{trained}, {scorer}, k = {k:g}", *[""] * len(cells)])
            at = {crop: [_nodes(found, scorer, crop, cell) for cell in cells] for crop in _CROPS}
            border = [
                {node: found.get((scorer, crop, *cell, node)) for node, crop in _KEPT_INSIDE.items()} for cell in cells
            ]
            for crop, name in _CROPS.items():
                lines.append([name, *(_pair(of, "share") for of in at[crop])])
            lines.append(["The same speech where it is no edge (%)", *(_pair(of, "same_speech") for of in border)])
            lines.append(["What being at the edge adds (points)", *map(_border_cell, border)])
            repeated = [[_points(row, "repeated", 0) for row in of.values()] for of in border]
            lines.append(["The same, without zeros beyond it (points)", *map(" /\n".join, repeated)])
            lines.append(
                ["Score within the speech − as scored (nats)", *(_score_cell(of["first"]) for of in at["inside"])]
            )
    heads = [("", "First / last temporal node kept"), *((dict(corpora)[c], _CLASSES[kind]) for c, kind in cells)]
    write(
        output_stem,
        rows,
        pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Nodes at the edges",
        subject=(
            "How often the first temporal pooling keeps the first and the last node of an excerpt, by where the "
            "excerpt begins and ends."
        ),
        notes=" ".join(
            [
                _counts(rows[rows["crop"] == "inside"], corpora),
                "All rows but the padded clips' are of the same clips, whose speech is longer than an excerpt.",
                "The same speech: of the two excerpts within speech, one begins 0.3 s after the other. What its first "
                "node hears, another node hears further in; and so for the last.",
                "What being at the edge adds has nothing to do with the sound.",
                "Without zeros: the encoder's convolutions go on beyond the excerpt with their last values instead.",
                "Intervals hold variation over clips and over seeds; behind them the lowest and the highest seed.",
            ]
        ),
        tex_label="tab:edges",
        label=label,
        footer=footer,
        brief_latex=True,
    )


def _counts(rows: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> str:
    """Clips and seeds behind the numbers, in a sentence."""
    clips = rows.groupby("corpus")["n_clips"].agg(["min", "max"])
    parts = []
    for name, title in corpora:
        low, high = clips.loc[name] if name in clips.index else (0, 0)
        parts.append(f"{low:.0f}{f' to {high:.0f}' if high > low else ''} of {title}")
    seeds = ", ".join(f"{n:.0f}" for n in sorted(rows["n_seeds"].unique()))
    return f"Clips of a class: {', '.join(parts)}. Training seeds: {seeds}."


def _with_interval(change: float, low: float, high: float, digits: int) -> str:
    return f"{number(change, digits, '+')} {interval(low, high, digits, '+')}"


def _kept_cell(row: Mapping[str, float] | None) -> str:
    if row is None:
        return "–"
    change, low, high, before, after, lowest, highest = (
        100 * row[name] for name in ("difference", "low", "high", "before", "after", "lowest_seed", "highest_seed")
    )
    text = _with_interval(change, low, high, 1)
    seeds = f"; seeds {number(lowest, 1, '+')} to {number(highest, 1, '+')}" if highest > lowest else ""
    return f"{text}\n{before:.0f} → {after:.0f} %{seeds}"


def _score_cell(row: Mapping[str, float] | None) -> str:
    if row is None:
        return "–"
    return _with_interval(row["score_change"], row["score_low"], row["score_high"], 2)


def _points(row: Mapping[str, float] | None, name: str, digits: int) -> str:
    """A change of a share in percentage points, with its interval."""
    if row is None:
        return "–"
    mean, low, high = (100 * row[key] for key in (name, f"{name}_low", f"{name}_high"))
    return _with_interval(mean, low, high, digits)


def _nodes(found: Mapping[tuple, Mapping], scorer: str, crop: str, cell: tuple[str, str]) -> dict[str, Mapping | None]:
    return {node: found.get((scorer, crop, *cell, node)) for node in _KEPT_INSIDE}


def _pair(rows: Mapping[str, Mapping | None], name: str) -> str:
    return " / ".join("–" if row is None else number(100 * row[name], 0) for row in rows.values())


def _border_cell(rows: Mapping[str, Mapping | None]) -> str:
    if None in rows.values():
        return "–"
    lines = []
    for row in rows.values():
        mean, low, high, lowest, highest = (
            100 * row[name] for name in ("border", "low", "high", "lowest_seed", "highest_seed")
        )
        seeds = f"; {number(lowest, 0, '+')} to {number(highest, 0, '+')}" if highest > lowest else ""
        lines.append(f"{_with_interval(mean, low, high, 0)}{seeds}")
    return " /\n".join(lines)
