"""Tables of what goes on inside the AASIST back-ends: which nodes are kept, what the stack node attends to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from spaarsist.artefacts import read_table
from spaarsist.names import ConfigError, System, system_name
from spaarsist.reporting.tables.layout import SECTION, write

LAYERS = {
    "spectral_pool": "Spectral, first",
    "temporal_pool": "Temporal, first",
    "branches.0.spectral_pool": "Spectral, branch 1",
    "branches.1.spectral_pool": "Spectral, branch 2",
    "branches.0.temporal_pool": "Temporal, branch 1",
    "branches.1.temporal_pool": "Temporal, branch 2",
    "branches.0.first": "Branch 1, layer 1",
    "branches.0.second": "Branch 1, layer 2",
    "branches.1.first": "Branch 2, layer 1",
    "branches.1.second": "Branch 2, layer 2",
}
"""Poolings, and heterogeneous layers, by their names in the back-end."""

AGGREGATIONS = {"attention": "attention", "uniform": "a plain mean", "linear": "the released code's mean"}

_RUN = ["trained", "seed", "corpus", "label"]
_APART = 0.05  # Jaccard indices of the classes that differ by less are not worth a line
_CHANGES = {"Mag": "other choice, no gate", "MagGate": "other choice, gate kept"}
_DEPTHS = {"first": "Layer 1", "second": "Layer 2"}
_FROM_A_MEAN = {
    "entropy": ("Entropy of the attention / log N (of a mean: 1)", 5),
    "total_variation": ("Total variation distance of the attention from a mean (of a mean: 0)", 4),
    "largest_weight_times_n": ("Largest weight times N (of a mean: 1)", 3),
}
_SPREADS = {
    "stack_node_spread": "Spread over trials of the last stack node, with",
    "other_nodes_spread": "Spread over trials of what is made of the last other nodes, with",
}
_SCORE_CHANGES = {
    "score_change": ("Change (nats)", 4),
    "score_change_relative": ("Change (standard deviations)", 4),
    "score_change_spearman": ("ρ", 5),
}


def read_inspected(
    inspected: Sequence[Path], file: str, corpora: Sequence[str], columns: Sequence[str], *, partial: bool = False
) -> pd.DataFrame:
    """Put files of one name that `audit.nodes.inspect` wrote together.

    Args:
        inspected: folders that it wrote, one per training, seed and corpus.
        file: name of the files, such as `nodes.tsv`.
        corpora: names of those to read; others are dropped.
        columns: that must be there besides `trained, seed, corpus, label`.
        partial: a training may lack a corpus.

    Returns:
        Their rows: trainings in the order of tables, then corpora in the order given.

    Raises:
        ConfigError: no folder, a file is unreadable or lacks columns, two are of one training, seed and corpus, or a
            training lacks a corpus.
    """
    names = ["trained", "corpus", "label", "layer", "variant", "quartile", "quantity", "aggregation"]
    tables, seen, texts = [], {}, dict.fromkeys(names, str)
    for path in (Path(folder, file) for folder in inspected):
        table = read_table(path, [*_RUN, *columns], dtype=texts)
        for run in table[_RUN[:3]].drop_duplicates().itertuples(index=False, name=None):
            if run in seen:
                raise ConfigError(f"{path}: {run[0]}, seed {run[1]}, on {run[2]} was given in {seen[run]} already")
            seen[run] = path
        tables.append(table[table["corpus"].isin(corpora)])
    if not tables:
        raise ConfigError("no folders were given of what was found inside the back-ends (`spaarsist inspect`)")
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    trainings = sorted(rows["trained"].unique(), key=lambda name: System.parse(system_name(name, "10")).order)
    for name in [] if partial else trainings or ["any training"]:
        if absent := [c for c in corpora if c not in rows.loc[rows["trained"] == name, "corpus"].array]:
            raise ConfigError(f"the folders given hold nothing of {name} on corpus {absent[0]!r}; inspect it there too")
    order = {name: index for index, name in enumerate([*trainings, *corpora])}
    return rows.sort_values(["trained", "corpus"], key=lambda names: names.map(order), kind="stable", ignore_index=True)


def over_seeds(rows: pd.DataFrame, keys: Sequence[str], values: Sequence[str]) -> pd.DataFrame:
    """Average over training seeds.

    Returns:
        A row per combination of the keys, in the order in which they first occur: the keys, `n_seeds`, and of each
        value the mean (`<value>`) and the standard deviation (`<value>.seeds_std`; n - 1, NaN of one seed).
    """
    groups = rows.groupby([*keys], sort=False, dropna=False)
    parts = [groups["seed"].nunique().rename("n_seeds")]
    for value in values:
        parts += [groups[value].mean(), groups[value].std().rename(f"{value}.seeds_std")]
    return pd.concat(parts, axis=1).reset_index()


def write_nodes(
    inspected: Sequence[Path],
    output_stem: Path,
    corpora: Sequence[tuple[str, str]],
    label: str = "",
    footer: str = "",
) -> None:
    """Write the table of node overlap: how far the learned scorer and the squared norm keep the same nodes.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each group of columns.
        output_stem, label, footer: as in `layout.write`. The TSV has rows of classes, and of quartiles of agreement, as
            well.

    Raises:
        ConfigError: see `read_inspected`.
    """
    names = [name for name, _ in corpora]
    keys, values = ["trained", "corpus", "label", "layer", "k"], ["jaccard", "chance", "spearman"]
    rows = read_inspected(inspected, "nodes.tsv", names, [*keys[3:], "n_nodes", "n_kept", "n_trials", *values])
    overlap = over_seeds(rows, [*keys, "n_nodes", "n_kept", "n_trials"], values)
    keys = ["trained", "corpus", "label", "k", "variant", "quartile"]
    values = ["n_trials", "jaccard", "score_change", "spearman"]
    changes = read_inspected(inspected, "agreement.tsv", names, [*keys[3:], *values], partial=True)
    changes = over_seeds(changes, keys, values)
    data = pd.concat([overlap, changes.assign(layer="all")], ignore_index=True)

    ratios = sorted(overlap["k"].unique())
    cells = [(name, k) for name in names for k in ratios]
    lines = []
    for trained in overlap["trained"].unique():
        lines.append([f"{SECTION}{trained}", *[""] * (1 + len(cells))])
        own = overlap[overlap["trained"] == trained]
        found = own.set_index(["corpus", "k", "label", "layer"]).to_dict("index")
        for layer, name in LAYERS.items():
            sizes = own.loc[own["layer"] == layer, "n_nodes"].unique()
            if len(sizes):
                first = f"{name} (of {sizes[0]:.0f})" if len(sizes) == 1 else name
                lines.append([first, "Jaccard [chance]", *(_overlap_cell(found, *cell, layer) for cell in cells)])
                lines.append(["", "Spearman ρ", *(_cell(found.get((*c, "all", layer)), "spearman") for c in cells)])
        own = changes[(changes["trained"] == trained) & (changes["label"] == "all") & (changes["quartile"] == "all")]
        found = own.set_index(["variant", "corpus", "k"]).to_dict("index")
        for variant, name in _CHANGES.items():
            if variant in own["variant"].array:
                of = [found.get((variant, *cell)) for cell in cells]
                lines.append([f"Score as {variant}", "|change| (nats)", *(_cell(each, "score_change") for each in of)])
                lines.append([f"({name})", "ρ with Jaccard", *(_cell(each, "spearman") for each in of)])
    heads = [("", "Pooling"), ("", "Measure"), *((title, f"k = {k:g}") for _, title in corpora for k in ratios)]
    notes = [
        _counts(rows, corpora),
        "[chance]: expected Jaccard index of two random choices of as many nodes.",
        f"Below it, where there is room: the classes, if their indices differ by {_APART} or more.",
        "The first poolings meet the same nodes at every k, those of the branches what the first have left; a dash: "
        "all nodes are kept.",
        "Spectral nodes are groups of three neighbouring features of a learned projection, not frequency bands.",
    ]
    if len(changes):
        notes += [
            "|change|: of the score when the squared norm takes the learned scorer's place in every pooling, mean over "
            "trials. The learned score also scales the nodes that it keeps, which is the gate.",
            "ρ with Jaccard: Spearman's correlation over trials of that change and the trial's mean Jaccard index.",
        ]
    write(
        output_stem,
        data,
        pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Which nodes are kept",
        subject=(
            "Learned scorer and squared norm as choosers among the same nodes: those that a pooling is given when all "
            "poolings keep the share k by the learned score."
        ),
        notes=" ".join(notes),
        tex_label="tab:nodes",
        label=label,
        footer=footer,
        brief_latex=True,
    )


def write_stack(
    inspected: Sequence[Path],
    output_stem: Path,
    corpora: Sequence[tuple[str, str]],
    label: str = "",
    footer: str = "",
) -> None:
    """Write the table of the stack node: how far its attention is from a mean, and what replacing it does.

    Args:
        inspected: folder of `audit.nodes.inspect` of every training, seed and corpus.
        corpora: (name in the files, title) of each group of columns.
        output_stem, label, footer: as in `layout.write`. The TSV has rows of each branch and class as well.

    Raises:
        ConfigError: see `read_inspected`.
    """
    names = [name for name, _ in corpora]
    keys = ["trained", "corpus", "label", "quantity", "layer", "stack_temperature", "aggregation"]
    rows = read_inspected(inspected, "stack.tsv", names, [*keys[3:], "value", "n_trials"])
    data = over_seeds(rows, [*keys, "n_trials"], ["value"])
    rows = rows[rows["label"] == "all"].assign(depth=rows["layer"].str.rpartition(".")[2])
    keys = ["quantity", "depth", "stack_temperature", "aggregation", "corpus", "trained"]
    of_seeds = rows.groupby([*keys, "seed"], sort=False, dropna=False)["value"].mean().reset_index()  # of both branches
    means = over_seeds(of_seeds, keys, ["value"])

    trained_at = means.loc[means["quantity"] == "stack_node_spread", "stack_temperature"].unique()
    temperatures = {
        t: f"τ = {t:g}{', as trained' if [*trained_at] == [t] else ''}"
        for t in sorted(means.loc[means["quantity"] == "entropy", "stack_temperature"].unique())
    }
    sections = {
        title: [
            (f"{name}, {at}", digits, {"quantity": quantity, "depth": depth, "stack_temperature": t})
            for depth, name in _DEPTHS.items()
            for t, at in temperatures.items()
        ]
        for quantity, (title, digits) in _FROM_A_MEAN.items()
    }
    for quantity, title in _SPREADS.items():
        sections[title] = [
            (name, 4, {"quantity": quantity, "aggregation": aggregation}) for aggregation, name in AGGREGATIONS.items()
        ]
    for aggregation, name in [*AGGREGATIONS.items()][1:]:
        sections[f"Score with {name} in place of attention"] = [
            (title, digits, {"quantity": quantity, "aggregation": aggregation})
            for quantity, (title, digits) in _SCORE_CHANGES.items()
        ]
    columns = [(name, trained) for name in names for trained in rows["trained"].unique()]
    lines = []
    for title, wanted in sections.items():
        cells = []
        for name, digits, only in wanted:
            own = means[(means[[*only]] == pd.Series(only)).all(axis=1)]
            found = own.set_index(["corpus", "trained"]).to_dict("index")
            if found:
                cells.append([name, *(_cell(found.get(column), "value", digits) for column in columns)])
        if cells:
            lines += [[f"{SECTION}{title}", *[""] * len(columns)], *cells]
    titles = dict(corpora)
    heads = [("", "Quantity"), *((titles[name], trained) for name, trained in columns)]
    write(
        output_stem,
        data,
        pd.DataFrame(lines, columns=pd.MultiIndex.from_tuples(heads)),
        heading="What the stack node attends to",
        subject=(
            "The stack node of the heterogeneous layers: how far its attention over the N other nodes is from a mean, "
            "by layer and softmax temperature τ, and what replacing it does."
        ),
        notes=" ".join(
            [
                _counts(rows, corpora),
                "Entropy, distance and weight: mean over trials and over the two branches, every layer run at τ.",
                "Spread: standard deviation over trials of what the output layer is given, mean over features. A 0 "
                "without decimals is exact: there the stack node does not depend on the input.",
                "The released code's mean makes the stack node a linear map of itself and drops the attention among "
                "the other nodes as well.",
                "Change: |score so − score with attention|, mean over trials, in nats and in standard deviations of "
                "the scores with attention; ρ: Spearman's correlation of the two scores.",
            ]
        ),
        tex_label="tab:stack",
        label=label,
        footer=footer,
    )


def _counts(rows: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> str:
    """Trials and seeds behind the numbers, in sentences."""
    n_trials = rows[rows["label"] == "all"].groupby("corpus")["n_trials"].max()
    trials = ", ".join(f"{n_trials[name]:,.0f} of {title}" for name, title in corpora)
    n_seeds = sorted({*rows.groupby(["trained", "corpus"])["seed"].nunique()})
    if n_seeds == [1]:
        return f"Trials: {trials}. One training seed."
    n = ", ".join(map(str, n_seeds))
    return f"Trials: {trials}. Mean ± standard deviation over training seeds (n = {n}; rough)."


def _overlap_cell(found: Mapping[tuple, Mapping], corpus: str, k: float, layer: str) -> str:
    both, *classes = (found.get((corpus, k, label, layer)) for label in ("all", "bonafide", "spoof"))
    if both is None:
        return "–"
    text = f"{_cell(both, 'jaccard')} [{both['chance']:.2f}]"
    bonafide, spoof = (each["jaccard"] if each else math.nan for each in classes)
    return f"{text}\nbona fide {bonafide:.2f}, spoof {spoof:.2f}" if abs(bonafide - spoof) >= _APART else text


def _cell(row: Mapping[str, float] | None, value: str, digits: int = 2) -> str:
    """Mean and, from two seeds on, standard deviation; a dash for what is not there."""
    if row is None or math.isnan(row[value]):
        return "–"
    numbers = [number for number in (row[value], row[f"{value}.seeds_std"]) if not math.isnan(number)]
    # An exact zero, such as the spread of what never moves, is not to be mistaken for a small number
    return " ± ".join(f"{number:z.{digits}f}" if number else "0" for number in numbers).replace("-", "−")
