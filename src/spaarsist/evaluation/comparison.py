"""Is a system better than another, or as good? Paired differences with intervals, tests, and declared margins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spaarsist.artefacts import read_metadata, read_table, writing
from spaarsist.config import Question
from spaarsist.evaluation.evaluate import Replicates, read_replicates
from spaarsist.evaluation.statistics import holm, t_test
from spaarsist.names import ConfigError, System

TESTED = ("eer", "min_dcf")
"""Metrics whose differences are tested; the p-values of the others are shown, but not corrected."""

COMPARED = (*TESTED, "act_dcf", "cllr")
SIGNIFICANCE = 0.05
"""A difference is significant below this p, corrected by Holm for all that its file tests."""

KEY = ["system", "reference", "corpus", "metric"]
COLUMNS = (
    *("system", "reference", "corpus", "metric", "n_seeds", "value", "reference_value", "difference"),
    *("ci_low", "ci_high", "se_trials", "se_speakers", "n_speakers", "seeds_std", "p_trials", "p_speakers", "p"),
    *("p_fixed", "p_holm"),
)

ANSWERS = (
    *("question", "system", "reference", "corpus", "metric", "margin", "n_seeds", "n_speakers", "value"),
    *("reference_value", "difference", "ci_low", "ci_high", "verdict"),
)


def compare(
    metrics: Sequence[Path],
    replicates: Sequence[Path],
    pairs: Sequence[tuple[str, str]],
    output: Path,
    confidence: float = 0.95,
) -> None:
    """Compare systems with references, and write a TSV: a row per corpus, pair and metric.

    The difference is the mean over the training seeds that both have of (system - reference), on all trials. Training
    seeds and test material are both samples, so its variance is the sum of

    * the variance of its paired bootstrap replicates: over trials, or over speakers (which makes up for few of them,
      see `SpeakerResampling.inflation`). Either way a shared draw hits both systems and all seeds;
    * the variance of the seeds' differences over their number. With one seed there is no such term: the test is then
      about these two trainings, and not about the recipes. From two on, a part of the trials' variance is in it as
      well and counts twice: that makes the test more careful, not less.

    It is tested against 0 by t with the fewest degrees of freedom of its parts: infinite for trials, speakers minus
    strata, seeds - 1. So with two or three seeds nothing but the largest differences can become significant, and that
    is what so few seeds can say. Where speakers are known, p is the larger one of both ways and the interval is that
    way's. p_holm corrects, by Holm's method, for all tests of the file: EER and minDCF of every pair on every corpus.

    Columns: system, reference, corpus, metric (eer, min_dcf, act_dcf, cllr), n_seeds, value and reference_value (means
    over these seeds), difference, ci_low, ci_high, se_trials, se_speakers (standard errors without the seeds' share;
    empty where speakers are not known), n_speakers (0 there), seeds_std (n - 1, of the seeds' differences; empty for
    one seed), p_trials, p_speakers, p, p_fixed (as p, but for these very trainings: without the seeds' share; not
    corrected), p_holm (empty for act_dcf and cllr). Metrics are fractions, Cllr is in bits.

    Args:
        metrics: TSVs of `evaluation.evaluate.evaluate`, any mix of systems, seeds and corpora; pooled rows count.
        replicates: its replicates of the same score files.
        pairs: (system, reference), names of table rows.
        output: the TSV to write.
        confidence: of the intervals, in (0, 1).

    Raises:
        ConfigError: a pair stands there twice or holds one system twice; a system has no metrics or no replicates on a
            corpus; a pair has no seed in common; files of a corpus rest on different trial lists or draws; a file is
            not what it should be.

    Source: paired, stratified bootstrap: Bisani and Ney 2004; the t test: see `statistics.t_test`; the two
    sources of variation: Bouthillier et al. 2021, arXiv 2103.03098.
    """
    if len({*pairs}) < len(pairs) or any(system == reference for system, reference in pairs):
        raise ConfigError("comparisons: a pair is there twice, or a system is compared with itself")
    values, files = _given(metrics, replicates)
    rows = []
    for corpus in values.index.unique("corpus"):
        of_corpus, seeds, drawn = _on_corpus(values, files, corpus, pairs)
        for pair, common in seeds.items():
            for metric in COMPARED:
                rows.append((*pair, corpus, metric, *_test(of_corpus[metric], drawn, pair, common, confidence)))
    compared = pd.DataFrame(rows, columns=COLUMNS[:-1])
    tested = compared["metric"].isin(TESTED)
    compared.loc[tested, "p_holm"] = holm(compared.loc[tested, "p"])
    with writing(output) as path:
        compared.to_csv(path, sep="\t", index=False, float_format="%.10g")


def answer(
    metrics: Sequence[Path],
    replicates: Sequence[Path],
    questions: Sequence[Question],
    output: Path,
    confidence: float = 0.95,
) -> None:
    """Answer whether systems are equivalent, by two one-sided tests each; write a TSV: a row per question and corpus.

    The difference, its variance and its degrees of freedom are those of `compare`; of trials and speakers the wider
    interval counts. Each of the two tests has the level 1 - confidence, so the interval holds 2 confidence - 1: 90 %
    for tests at 5 %. The verdict is read off it and the margin that was declared before the run:

    ============  =====================================================================================
    equivalent    all of it lies within the margin, its ends excluded: the difference is smaller
    different     all of it lies outside, on one side: the difference is larger, and equivalence refuted
    inconclusive  else; also with one seed, which says nothing of how much trainings differ
    ============  =====================================================================================

    Every question is judged by itself: the level is not corrected for their number.

    Columns: `ANSWERS`. `value` and `reference_value` are means over the seeds that both have; fractions.

    Args:
        metrics, replicates: as in `compare`.
        questions: what is asked; each on every corpus of the metrics.
        output: the TSV to write.
        confidence: 1 - level of each test, in (0.5, 1).

    Raises:
        ConfigError: see `compare`; no question was asked, or one twice.

    Source: Schuirmann 1987, A comparison of the two one-sided tests procedure.
    """
    asked = [(q.system, q.reference, q.metric) for q in questions]
    if not asked or len({*asked}) < len(asked) or any(q.system == q.reference for q in questions):
        raise ConfigError("questions: none was asked, one is there twice, or a system is compared with itself")
    if not 0.5 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0.5 and 1; got {confidence}")
    values, files = _given(metrics, replicates)
    pairs = [*dict.fromkeys((q.system, q.reference) for q in questions)]
    rows = []
    for corpus in values.index.unique("corpus"):
        of_corpus, seeds, drawn = _on_corpus(values, files, corpus, pairs)
        for q in questions:
            common, pair = seeds[q.system, q.reference], (q.system, q.reference)
            sides = [of_corpus[q.metric].loc[[(name, seed) for seed in common]].to_numpy() for name in pair]
            differences = np.subtract(*sides)
            tests = [
                t_test(differences.mean(), *zip(*parts, strict=True), 2 * confidence - 1)
                for parts in _variances(q.metric, drawn, pair, common, differences).values()
            ]
            widest = max(tests, key=lambda test: test.high - test.low)
            if len(common) > 1 and -q.margin < widest.low and widest.high < q.margin:
                verdict = "equivalent"
            elif len(common) > 1 and (widest.low > q.margin or widest.high < -q.margin):
                verdict = "different"
            else:
                verdict = "inconclusive"
            value, reference_value = (float(side.mean()) for side in sides)
            about = drawn[q.system, common[0]][0].about
            rows.append((
                *(q.asks, *pair, corpus, q.metric, q.margin, len(common), about["n_speakers"]),
                *(value, reference_value, differences.mean()),
                *(*possible(q.metric, reference_value, widest.low, widest.high), verdict),
            ))  # fmt: skip
    with writing(output) as path:
        pd.DataFrame(rows, columns=ANSWERS).to_csv(path, sep="\t", index=False, float_format="%.10g")


def read_comparisons(path: Path, numbers: Sequence[str]) -> pd.DataFrame:
    """Read these columns of a file of `compare`: index `KEY`.

    Raises:
        ConfigError: it is unreadable, lacks columns, has a text where a number belongs, or compares a pair twice.
    """
    types = dict.fromkeys(KEY, str) | dict.fromkeys(numbers, float)
    table = read_table(path, [*types], dtype=types, keep_default_na=False, na_values=[""]).set_index(KEY)[[*numbers]]
    if table.index.has_duplicates:
        twice = " ".join(table.index[table.index.duplicated()][0])
        raise ConfigError(f"{path}: {twice} is in it twice; compare each pair once")
    return table


def possible(metric: str, reference: float, low: float, high: float) -> tuple[float, float]:
    """Cut the interval of a difference to what the metric can be: from the reference's value to 0, and to its most.

    Args:
        metric: one of `COMPARED`; EER and minDCF are at most 1, actDCF and Cllr have no most.
        reference: value of what the system is compared with.
        low, high: ends of the interval.
    """
    most = 1 - reference if metric in TESTED else math.inf
    return max(low, -reference), min(high, most)


def flat_region(alike: Sequence[bool], home: int) -> np.ndarray:
    """Which places of a row are joined to one of them by places that are all like it.

    Args:
        alike: of each place, whether it does not differ significantly from the one at `home`, which is like itself.
        home: index of that one.

    Returns:
        bool, shape of `alike`.
    """
    upward, downward = (np.logical_and.accumulate([True, *side]) for side in (alike[home + 1 :], alike[:home][::-1]))
    return np.concatenate([downward[:0:-1], upward])


def _given(metrics: Sequence[Path], replicates: Sequence[Path]) -> tuple[pd.Series, dict[tuple[str, str, int], Path]]:
    """Pooled values by corpus, system, seed and metric; files of replicates by corpus, training and seed."""
    texts, numbers = ["system", "corpus", "condition", "metric"], ["seed", "value"]
    results = [read_table(path, [*texts, *numbers], texts, numbers) for path in metrics]
    if not results:
        raise ConfigError("comparisons: no metrics were given")
    table = pd.concat(results, ignore_index=True)
    table = table[(table["condition"] == "pooled") & table["metric"].isin(COMPARED)]
    values = table.set_index(["corpus", "system", "seed", "metric"])["value"]
    if twice := values.index[values.index.duplicated()].tolist():
        raise ConfigError(f"the metrics files hold a number twice: {twice[0]}")
    files = {}
    for path in replicates:
        about = read_metadata(path)
        files[about["corpus"], about["system"], about["seed"]] = path
    return values, files


def _on_corpus(
    values: pd.Series, files: Mapping[tuple[str, str, int], Path], corpus: str, pairs: Sequence[tuple[str, str]]
) -> tuple[pd.DataFrame, dict[tuple[str, str], list[int]], dict[tuple[str, int], tuple[Replicates, str]]]:
    """What pairs are compared by on a corpus: values (index system, seed), seeds of each pair, see `_read`."""
    of_corpus = values.xs(corpus).unstack("metric").reindex(columns=COMPARED)
    if len(lacking := of_corpus[of_corpus.isna().any(axis=1)]):
        system, seed = lacking.index[0]
        absent = ", ".join(lacking.columns[lacking.iloc[0].isna()])
        raise ConfigError(f"comparisons: no {absent} of {system}, seed {seed}, on {corpus}; compute the metrics again")
    seeds = _common_seeds(of_corpus, pairs, corpus)
    needed: dict[str, set[int]] = {}
    for pair, common in seeds.items():
        for system in pair:
            needed.setdefault(system, set()).update(common)
    drawn = _read(files, corpus, needed)
    return of_corpus, seeds, drawn


def _common_seeds(
    values: pd.DataFrame, pairs: Sequence[tuple[str, str]], corpus: str
) -> dict[tuple[str, str], list[int]]:
    """Training seeds that both systems of each pair have; `values` has the index system, seed."""
    seeds = values.index.to_frame(index=False).groupby("system")["seed"].agg(set)
    if missing := [name for name in dict.fromkeys(name for pair in pairs for name in pair) if name not in seeds]:
        raise ConfigError(f"comparisons: no metrics of {', '.join(missing)} on {corpus}")
    common = {(system, reference): sorted(seeds[system] & seeds[reference]) for system, reference in pairs}
    for (system, reference), shared in common.items():
        if not shared:
            raise ConfigError(f"comparisons: {system} and {reference} have no training seed in common on {corpus}")
    return common


def _read(
    files: Mapping[tuple[str, str, int], Path], corpus: str, needed: Mapping[str, set[int]]
) -> dict[tuple[str, int], tuple[Replicates, str]]:
    """(system, seed) -> its file's replicates, all paired, and its column; only what is needed is read."""
    columns: dict[tuple[str, int], dict[str, str]] = {}
    for name, seeds in needed.items():
        system = System.parse(name)
        for seed in seeds:
            columns.setdefault((system.trained, seed), {})[name] = system.column
    found, first = {}, None
    for (trained, seed), of_systems in columns.items():
        if (corpus, trained, seed) not in files:
            raise ConfigError(f"comparisons: no replicates of {trained}, seed {seed}, on {corpus}")
        wanted = [f"{column}:{metric}" for column in of_systems.values() for metric in COMPARED]
        replicates = read_replicates(files[corpus, trained, seed], wanted, like=first)
        if len(replicates.values.get("trials", ())) < 2:
            raise ConfigError(
                f"{replicates.path}: no spread without two replicates; set evaluation.bootstrap to 1000 and run again"
            )
        first = first or replicates
        found |= {(name, seed): (replicates, column) for name, column in of_systems.items()}
    return found


def _test(
    values: pd.Series,
    drawn: Mapping[tuple[str, int], tuple[Replicates, str]],
    pair: tuple[str, str],
    seeds: Sequence[int],
    confidence: float,
) -> tuple[float, ...]:
    """One row from n_seeds to p; `values` has the index system, seed."""
    of_system, of_reference = (values.loc[[(name, seed) for seed in seeds]].to_numpy() for name in pair)
    differences = of_system - of_reference
    difference = round(float(differences.mean()), 12) + 0.0  # the values have ten digits; no -0 and no 1e-17
    seeds_std = float(differences.std(ddof=1)) if len(seeds) > 1 else math.nan

    about = drawn[pair[0], seeds[0]][0].about
    errors, tests, fixed = {}, {}, []
    for resampling, parts in _variances(values.name, drawn, pair, seeds, differences).items():
        errors[resampling] = math.sqrt(parts[0][0])
        fixed.append(t_test(difference, *zip(parts[0], strict=True)).p)
        tests[resampling] = t_test(difference, *zip(*parts, strict=True), confidence)
    decisive = max(tests.values(), key=lambda test: (test.p, test.high - test.low))
    return (
        *(len(seeds), of_system.mean(), of_reference.mean(), difference),
        *possible(values.name, of_reference.mean(), decisive.low, decisive.high),
        *(errors["trials"], errors.get("speakers", math.nan), about["n_speakers"], seeds_std),
        *(tests["trials"].p, tests["speakers"].p if "speakers" in tests else math.nan, decisive.p),
        max(fixed),
    )


def _variances(
    metric: str,
    drawn: Mapping[tuple[str, int], tuple[Replicates, str]],
    pair: tuple[str, str],
    seeds: Sequence[int],
    differences: np.ndarray,
) -> dict[str, list[tuple[float, float]]]:
    """Way of resampling -> (variance, degrees of freedom) of test material and, from two on, of training seeds."""
    first = drawn[pair[0], seeds[0]][0]
    found = {}
    for resampling in first.values:
        sides = []
        for name in pair:
            of_seeds = [drawn[name, seed] for seed in seeds]
            sides.append([r.values[resampling][f"{c}:{metric}"].to_numpy() for r, c in of_seeds])
        found[resampling] = [first.spread(resampling, np.mean(np.subtract(*sides), axis=0))]
        if len(seeds) > 1:
            found[resampling].append((differences.var(ddof=1) / len(seeds), len(seeds) - 1))
    return found
