"""Tables of differences between systems: their intervals and tests, and the ablation step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spaarsist.evaluation.comparison import SIGNIFICANCE, read_comparisons
from spaarsist.evaluation.summary import on, read_summary
from spaarsist.names import BASELINE, ConfigError
from spaarsist.reporting.tables.layout import MOST_VALUES, SECTION, interval, number, over_seeds, write

FEW_SEEDS, FEW_SPEAKERS = 3, 10
"""Fewer than these are warned of."""

TESTED = {"eer": ("EER, %", 100, 2), "min_dcf": ("minDCF", 1, 3)}
"""Metrics whose differences are tested: heading, factor, decimals."""

_ABLATED = {"eer": ("ΔEER", 100, 2), "min_dcf": ("ΔminDCF", 1, 3), "cllr": ("ΔCllr", 1, 3)}
_COSTS = {"n_params": ("Params", 1, ",.0f", False), "n_macs": ("MACs (M)", 1e-6, ".1f", True)}
"""Costs in the ablation: heading, factor, format, and whether their change is a share."""

_VALUES = ("difference", "ci_low", "ci_high", "n_seeds", "n_speakers", "p", "p_holm")


def read_family(path: Path) -> pd.DataFrame:
    """What tables and figures take of a file of `evaluation.comparison.compare`; see its `read_comparisons`."""
    return read_comparisons(path, _VALUES)


def find(path: Path, comparisons: pd.DataFrame, *key: str) -> pd.Series:
    """What `read_family` gave of one comparison; raises `ConfigError` where the file lacks it."""
    if key not in comparisons.index:
        system, reference, corpus, metric = key
        raise ConfigError(f"{path}: holds no comparison of {system} with {reference} on {corpus!r}, {metric}")
    return comparisons.loc[key]


def star(p_holm: float) -> str:
    """The mark of a difference whose corrected p is small; NaN has none."""
    return "*" if p_holm < SIGNIFICANCE else ""


def note_on_tests(family: pd.DataFrame, shown: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> str:
    """How the differences were tested, and `note_on_stars`."""
    return (
        "Differences (Δ) are means over the training seeds that both systems have; below zero the system is better. "
        "Their variance is that of a paired bootstrap, both systems under the same draws, plus, from two seeds on, "
        "that of a mean over seeds. Trials are drawn and, in a second test, speakers, where they are known: the larger "
        "p of the two t tests counts, and its interval is shown; degrees of freedom are the fewest of seeds - 1 and of "
        f"what speakers leave. {note_on_stars(family, shown, corpora)}"
    )


def note_on_stars(family: pd.DataFrame, shown: pd.DataFrame, corpora: Sequence[tuple[str, str]]) -> str:
    """When a difference bears a star, on how much that rests, and what to beware of.

    Args:
        family: all that `read_family` gave; its tests are what the correction is for.
        shown: those of its rows that are shown.
        corpora: (name, title) of each corpus.
    """
    n_tests = int(family["p_holm"].notna().sum())
    n_speakers = shown["n_speakers"].fillna(0).groupby("corpus").max().astype(int)
    seeds = sorted({*shown["n_seeds"]})
    speakers = [f"{n_speakers[name] or 'unknown'} in {title}" for name, title in corpora]
    sentences = [
        f"* p < {SIGNIFICANCE:g} after Holm's correction for all {n_tests} tests of this family (EER and minDCF).",
        f"Seeds: {', '.join(f'{n:g}' for n in seeds)}. Speakers: {', '.join(speakers)}.",
    ]
    if seeds[0] == 1:
        sentences.append("With one seed, tests are about these trainings and not about the recipes.")
    elif seeds[0] < FEW_SEEDS:
        sentences.append("Two seeds hardly tell how much trainings differ.")
    if few := [title for name, title in corpora if 0 < n_speakers[name] < FEW_SPEAKERS]:
        sentences.append(f"Beware: fewer than {FEW_SPEAKERS} speakers make rough intervals ({', '.join(few)}).")
    return " ".join(sentences)


_SUMMARY = {
    "mean": "mean", "std": "std", "ci_low": "trials_low", "ci_high": "trials_high", "speakers_low": "speakers_low",
    "speakers_high": "speakers_high",
}  # fmt: skip
"""What the tables take of each metric in the summary -> its name in their TSVs."""


def write_differences(
    summary: Path,
    comparisons: Path,
    systems: Sequence[str],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    footer: str = "",
    confidence: float = 0.95,
) -> None:
    """Write the table of EER and minDCF with their intervals, and of their differences from the baseline with tests.

    The TSV has a row per corpus, system and metric: `corpus, system, metric, mean, std, trials_low, trials_high,
    speakers_low, speakers_high` as in the summary and `reference, difference, ci_low, ci_high, n_seeds, n_speakers, p,
    p_holm` as in the comparisons (empty for the baseline); fractions.

    Args:
        summary: file of `evaluation.summary.summarise`.
        comparisons: file of `evaluation.comparison.compare`, which holds every system against the baseline.
        systems: rows, in order.
        corpora: (name in the files, title) of each part of the table, in order.
        output_stem, label, footer: as in `layout.write`.
        confidence: of the intervals.

    Raises:
        ConfigError: a file is unreadable, or lacks a corpus, a system or a comparison.
    """
    table, family = read_summary(summary, [name for name, _ in corpora], systems), read_family(comparisons)
    data, rows, keys = [], [], []
    for corpus, title in corpora:
        rows.append([f"{SECTION}{title}", *[""] * 4 * len(TESTED)])
        for system in systems:
            cells = [system]
            for metric, (_, scale, digits) in TESTED.items():
                own = table.loc[system, [on(corpus, metric, statistic) for statistic in _SUMMARY]].to_numpy(float)
                _, _, *ends = own * scale
                cells.append(over_seeds(table.loc[system], corpus, metric, scale, digits))
                cells += [interval(*ends[:2], digits), interval(*ends[2:], digits)]
                values = dict(zip(_SUMMARY.values(), own, strict=True))
                of_file = {"corpus": corpus, "system": system, "metric": metric, **values}
                if system == BASELINE:
                    cells.append("–")
                else:
                    keys.append((system, BASELINE, corpus, metric))
                    found = find(comparisons, family, *keys[-1])
                    cells.append(difference(found, scale, digits, " "))
                    of_file |= {"reference": BASELINE, **found.to_dict()}
                data.append(of_file)
            rows.append(cells)
    if not keys:
        raise ConfigError(f"no system but {BASELINE} was named, which cannot differ from itself")
    over = f"{100 * confidence:g} % over"
    heads = [
        (heading, head)
        for heading, _, _ in TESTED.values()
        for head in ("mean", f"{over} trials", f"{over} speakers", "Δ to baseline")
    ]
    write(
        output_stem,
        pd.DataFrame(data, columns=["corpus", "system", "metric", *_SUMMARY.values(), "reference", *_VALUES]),
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples([("", "System"), *heads])),
        heading="Differences from the baseline",
        subject=f"EER and minDCF of each system, and how they differ from those of {BASELINE}.",
        notes="Means are over training seeds; below them, in Markdown and HTML, the value of each (of more than "
        f"{MOST_VALUES} seeds ± their standard deviation). Intervals are the mean's and hold training seeds besides; "
        "differences of EER are in percentage points. "
        f" {note_on_tests(family, family.loc[keys], corpora)}",
        tex_label=f"tab:{output_stem.name}",
        label=label,
        footer=footer,
        brief_latex=True,
    )


def write_ablation(
    summary: Path,
    comparisons: Path,
    steps: Sequence[tuple[str, str, str]],
    corpora: Sequence[tuple[str, str]],
    output_stem: Path,
    label: str = "",
    footer: str = "",
) -> None:
    """Write the table of an ablation: per step its cost and its errors, each with the change from the step's reference.

    The TSV has a row per step, corpus and metric (`eer`, `min_dcf`, `cllr`): `section, step, system, reference,
    n_params, n_params_change, n_macs, n_macs_change` (the last relative), `corpus, metric, mean` and `difference,
    ci_low, ci_high, n_seeds, n_speakers, p, p_holm`; fractions.

    Args:
        summary: file of `evaluation.summary.summarise`.
        comparisons: file of `evaluation.comparison.compare`, which holds every step's system against its reference.
        steps: (title, system, reference) of each row, in order; a system that is its own reference is shown without
            changes; ("# heading", "", "") is a heading across the table.
        corpora: (name in the files, title) of each group of columns, in order.
        output_stem, label, footer: as in `layout.write`.

    Raises:
        ConfigError: a file is unreadable, or lacks a corpus, a system or a comparison; no step has a reference.
    """
    table, family = read_summary(summary, [name for name, _ in corpora]), read_family(comparisons)
    if unknown := [name for _, *names in steps for name in names if name and name not in table.index]:
        raise ConfigError(f"{summary}: holds no system {', '.join(dict.fromkeys(unknown))}")
    data, rows, keys, section = [], [], [], ""
    for title, system, reference in steps:
        if not system:
            section = title = title.removeprefix(SECTION)
            rows.append([SECTION + title, *[""] * (len(_COSTS) + len(corpora) * (1 + len(_ABLATED)))])
            continue
        of_step = {"section": section, "step": title, "system": system, "reference": reference}
        against = "" if reference in (BASELINE, system) else f" against {reference}"
        cells = [f"{title}\n{system}{against}"]
        for cost, (_, scale, form, is_relative) in _COSTS.items():
            value, change = table.loc[system, cost], table.loc[system, cost] - table.loc[reference, cost]
            if is_relative:
                change /= table.loc[reference, cost] or math.nan
            of_step |= {cost: value, f"{cost}_change": change}
            text = format(value * scale, form)
            if system != reference and not math.isnan(change):
                text += f"\n{number(100 * change, 1, '+')} %" if is_relative else f"\n{number(change, 0, '+')}"
            cells.append(text)
        for corpus, _ in corpora:
            cells.append(over_seeds(table.loc[system], corpus, "eer", 100, 2).partition("\n")[0])
            for metric, (_, scale, digits) in _ABLATED.items():
                of_corpus = {"corpus": corpus, "metric": metric, "mean": table.loc[system, on(corpus, metric)]}
                if system == reference:
                    cells.append("–")
                else:
                    keys.append((system, reference, corpus, metric))
                    found = find(comparisons, family, *keys[-1])
                    cells.append(difference(found, scale, digits, "\n"))
                    of_corpus |= found.to_dict()
                data.append(of_step | of_corpus)
        rows.append(cells)
    if not keys:
        raise ConfigError("no step of the ablation has a reference other than itself")
    heads = [("", "Step"), *(("", heading) for heading, *_ in _COSTS.values())]
    heads += [(title, head) for _, title in corpora for head in ("EER, %", *(head for head, *_ in _ABLATED.values()))]
    costs = [of for cost in _COSTS for of in (cost, f"{cost}_change")]
    columns = ["section", "step", "system", "reference", *costs, "corpus", "metric", "mean", *_VALUES]
    write(
        output_stem,
        pd.DataFrame(data, columns=columns),
        pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(heads)),
        heading="Ablation",
        subject="What each change to the back-end alone, and then several together, do to cost and error.",
        notes=f"Below a step stand its system and, unless it is {BASELINE}, the reference; below a cost its change "
        "from there. Parameters and multiply-adds (MACs) are of the exported back-end. EER: mean over training seeds, "
        f"of more than {MOST_VALUES} ± their standard deviation; its differences are in percentage points. "
        f"{note_on_tests(family, family.loc[keys], corpora)} "
        "Differences of Cllr (bits) are not tested.",
        tex_label=f"tab:{output_stem.name}",
        label=label,
        footer=footer,
    )


def difference(comparison: pd.Series, scale: float, digits: int, gap: str) -> str:
    """A difference with its star and, behind the gap, its interval."""
    value, low, high = (comparison[name] * scale for name in ("difference", "ci_low", "ci_high"))
    return f"{number(value, digits, '+')}{star(comparison['p_holm'])}{gap}{interval(low, high, digits, '+')}"
