"""What an AASIST back-end really does on audio: which nodes it keeps, and whether its stack node takes a mean.

A temporal node is a stretch of the excerpt. A spectral node is a group of three neighbours among the 128 features that
a learned projection makes of the frames: no frequency band, whatever the front-end, and its number means nothing in
another training. The nodes that a branch pools are numbered by their rank in the pooling before, so positions are told
for the first two poolings only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import hypergeom, rankdata
from torch import Tensor

from spaarsist.artefacts import file_hash, writing
from spaarsist.config import SAMPLE_RATE
from spaarsist.data.protocol import LABELS
from spaarsist.evaluation.evaluate import read_scored_trials
from spaarsist.experiments.excerpts import excerpts_of, reading
from spaarsist.models.backend import AASIST, POOLING, STACK_DIM, GraphPool, Graphs, HeterogeneousAttention
from spaarsist.models.detector import load_checkpoint, prepare_torch
from spaarsist.names import ConfigError, Variant

_RUN = ("trained", "seed", "corpus", "label")
COLUMNS = {
    "nodes": (
        *_RUN, "layer", "k", "n_nodes", "n_kept", "n_trials", "jaccard", "jaccard_std", "chance", "spearman",
        "spearman_std",
    ),
    "kept": (*_RUN, "layer", "k", "scorer", "position", "seconds", "share"),
    "agreement": (*_RUN, "k", "variant", "quartile", "n_trials", "jaccard", "score_change", "spearman"),
    "stack": (*_RUN, "quantity", "layer", "stack_temperature", "aggregation", "value", "std", "n_trials"),
}  # fmt: skip
"""Files that `inspect` writes, and their columns."""

SCORERS = ("learned", "magnitude")
AGGREGATIONS = ("attention", "uniform", "linear")
SEED = 0

_FIRST_POOLS = ("spectral_pool", "temporal_pool")

_GROUPS = {"all": LABELS} | {label: (label,) for label in LABELS}
_Rows = Iterator[dict[str, object]]


@torch.inference_mode()
def inspect(
    checkpoint: Path,
    trial_list: Path,
    scores: Path,
    output: Path,
    k_infer: Sequence[float],
    stack_temperatures: Sequence[float] = (1, 2, 10, 100),
    trials_per_class: int = 0,
    *,
    corpus: str = "",
    batch_size: int = 16,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Look into a checkpoint in one pass over the audio, and write a folder of four TSVs.

    In all of them `label` is `bonafide`, `spoof` or `all` (the trials looked at), means and standard deviations (n - 1)
    are over trials, and rows that need score columns which the score file lacks are left out.

    `nodes.tsv`: how far the learned scorer and the squared norm agree on one and the same nodes: those that the
    back-end, run as it was trained but for k, hands to each of its six poolings (`layer`). `jaccard` is that of the two
    sets of n_kept out of n_nodes, `chance` what two random sets would have, `spearman` the rank correlation of the two
    scores over all n_nodes. A pooling that keeps all it gets has nothing to choose, and no row.

    `kept.tsv`: share of trials in which each scorer keeps the node at a position (from 0) of a first pooling. `seconds`
    is the middle of a temporal node's stretch of the excerpt; clips shorter than that end in zeros.

    `agreement.tsv`: do scores change more where the scorers agree less? A trial's agreement is the mean of its Jaccard
    indices over the poolings that choose, its change |score as `variant` - score as Base|, both at k. `Mag` changes
    choice and gate at once, `MagGate` the choice alone. In rows of quartile `all`: means over all trials, and the rank
    correlation of the two; in rows 1 (least agreement) to 4: means over a quarter of the trials each, but that trials
    of equal agreement stay together.

    `stack.tsv`, by `quantity`:

    * `entropy` (H / log N), `total_variation` (sum of |a - 1/N| / 2), `largest_weight_times_n`: of the weights a that
      the stack node gives the N others, by layer, with every layer at that `stack_temperature`. A mean has 1, 0 and 1.
    * `stack_node_spread`, `other_nodes_spread`: how much the last stack node, and what is made of the last other nodes,
      depend on the input: standard deviation over trials, mean over features.
    * `score_change` (nats): mean and standard deviation of |score with this aggregation - score with attention|;
      `score_change_relative`: the mean / standard deviation of the scores with attention; `score_change_spearman`: rank
      correlation of the two scores.

    The last two are by `aggregation`, all else as trained; their `stack_temperature` is that of training, empty if the
    layers have several.

    Args:
        checkpoint: folder of a detector with an AASIST back-end.
        trial_list: of the corpus.
        scores: score file of this checkpoint on this list.
        output: the folder to write, whole or not at all; replaced if it exists.
        k_infer: shares of nodes that a pooling keeps, in (0, 1]; 1 is passed over.
        stack_temperatures: above 0.
        trials_per_class: how many trials of each class to look at, drawn from a fixed seed; 0, or more than there are:
            all.
        corpus: its name in the files; default: the trial list's.

    Raises:
        ConfigError: the back-end is no AASIST, the scores are not of this checkpoint and list, no k is below 1, or a
            file is not what it should be.
    """
    place = prepare_torch(threads, device)
    detector, record = load_checkpoint(checkpoint)
    backend = detector.to(place).backend
    if not isinstance(backend, AASIST):
        raise ConfigError(f"{checkpoint}: {record['system']} has no graphs; give a checkpoint of an AASIST back-end")
    metadata, trials, table = read_scored_trials(scores, trial_list)
    weights = file_hash(checkpoint / "model.safetensors")
    if metadata.get("checkpoint", weights) != weights:
        raise ConfigError(
            f"{scores}: made with other weights than those in {checkpoint} now; delete it and score again"
        )
    ratios = sorted({k for k in k_infer if k != 1})
    if not ratios:
        raise ConfigError(f"k_infer = {[*k_infer]}: needs a share below 1, for 1 leaves a pooling nothing to choose")
    trials = choose(trials, trials_per_class)
    table, labels, excerpts = table.loc[trials.index], trials["label"].to_numpy(), excerpts_of(record, trials)

    attended = replace(backend.variant, stack_aggregation="attention")
    overlaps = [_Overlap(replace(backend.variant, k_infer=k)) for k in ratios]
    attentions = [_Attention(replace(attended, stack_temperature=t)) for t in sorted({*stack_temperatures})]
    spreads = [_Spread(replace(backend.variant, stack_aggregation=name)) for name in AGGREGATIONS]
    bar = {"desc": f"inspect {trial_list.stem}", "unit": "batch"}
    how = {"batch_size": batch_size, "pin_memory": place.type == "cuda"}
    with reading(excerpts, workers, bar, **how) as batches:
        for waveforms, rows in batches:
            frames = detector.frames(waveforms.to(place, non_blocking=True))
            graphs = backend.encode(frames)
            for part in chain(overlaps, attentions, spreads):
                part.add(backend, graphs, labels[rows])

    columns = {Variant.from_column(name): table[name].to_numpy() for name in table}
    node_seconds = POOLING * excerpts.crop / SAMPLE_RATE / frames.shape[1]
    found = {
        "nodes": chain(*(overlap.node_rows(labels) for overlap in overlaps)),
        "kept": chain(*(overlap.kept_rows(labels, node_seconds) for overlap in overlaps)),
        "agreement": chain(*(overlap.agreement_rows(labels, columns) for overlap in overlaps)),
        "stack": chain(
            *(attention.rows(labels) for attention in attentions),
            (
                row | {"stack_temperature": _stack_temperature(backend)}
                for row in chain(*(s.rows(labels) for s in spreads), _score_changes(labels, columns, backend.variant))
            ),
        ),
    }
    run = {"trained": record["system"], "seed": record["seed"], "corpus": corpus or trial_list.stem}
    with writing(output) as folder:
        folder.mkdir(parents=True)
        for name, rows in found.items():
            table = pd.DataFrame([run | row for row in rows], columns=COLUMNS[name])
            table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, float_format="%.10g")


def chance_overlap(n_nodes: int, n_kept: int) -> float:
    """Expected Jaccard index of two independent uniformly random sets of n_kept out of n_nodes.

    Exact: the sets have h nodes in common, h is hypergeometric, and the index is h / (2 n_kept - h).
    """
    common = np.arange(n_kept + 1)
    return float(hypergeom(n_nodes, n_kept, n_kept).pmf(common) @ (common / (2 * n_kept - common)))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation within each row, ties at their mean rank: two (B, N) -> (B,); NaN where a row is constant.

    scipy.stats.spearmanr correlates every row with every other.
    """
    a, b = (rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (a, b))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def concentration(attention: Tensor) -> dict[str, Tensor]:
    """How far weights are from a mean: (B, N), N of 2 or more -> quantity of `stack.tsv` -> (B,)."""
    weights = attention.double()
    weights = weights / weights.sum(dim=1, keepdim=True)  # single precision leaves the sum a little off one
    n = weights.shape[1]
    return {
        "entropy": torch.special.entr(weights).sum(dim=1) / np.log(n),
        "total_variation": (weights - 1 / n).abs().sum(dim=1) / 2,
        "largest_weight_times_n": weights.amax(dim=1) * n,
    }


def trace(backend: AASIST, graphs: Graphs, variant: Variant) -> dict[str, tuple[tuple, object]]:
    """Read the graphs out as `variant` and note what enters and leaves every pooling, HS-GAL and the output layer.

    Returns:
        Name of the module in `named_modules` -> (its positional arguments, its result), in the order of the calls.
    """
    seen = {}
    hooks = [
        module.register_forward_hook(lambda _module, given, result, name=name: seen.update({name: (given, result)}))
        for name, module in backend.named_modules()
        if isinstance(module, GraphPool | HeterogeneousAttention) or module is backend.output
    ]
    try:
        backend.readout(graphs, variant)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


class _Overlap:
    """Which nodes each scorer keeps at one k: for every trial, how alike; for every position, how often."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.sizes: dict[str, tuple[int, int]] = {}
        self.jaccard: dict[str, list[np.ndarray]] = defaultdict(list)
        self.spearman: dict[str, list[np.ndarray]] = defaultdict(list)
        self.n_kept: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((len(SCORERS), len(LABELS), 1)))

    def add(self, backend: AASIST, graphs: Graphs, labels: np.ndarray) -> None:
        for layer, ((nodes, *_), pooled) in trace(backend, graphs, self.variant).items():
            pool = backend.get_submodule(layer)
            if not isinstance(pool, GraphPool) or nodes.shape == pooled.shape:
                continue
            self.sizes[layer] = nodes.shape[1], pooled.shape[1]
            scores = [pool.scores(nodes, scorer) for scorer in SCORERS]
            learned, magnitude = (highest(values, pooled.shape[1]) for values in scores)
            self.jaccard[layer].append((learned & magnitude).sum(axis=1) / (learned | magnitude).sum(axis=1))
            self.spearman[layer].append(rank_correlation(*(values.squeeze(2).cpu().numpy() for values in scores)))
            if layer in _FIRST_POOLS:
                counts = [[kept[labels == label].sum(axis=0) for label in LABELS] for kept in (learned, magnitude)]
                self.n_kept[layer] = self.n_kept[layer] + counts

    def node_rows(self, labels: np.ndarray) -> _Rows:
        for (label, classes), (layer, (n_nodes, n_kept)) in product(_GROUPS.items(), self.sizes.items()):
            members = np.isin(labels, classes)
            jaccard, spearman = (
                pd.Series(np.concatenate(values[layer])[members]) for values in (self.jaccard, self.spearman)
            )
            yield {
                "label": label, "layer": layer, "k": self.variant.k_infer, "n_nodes": n_nodes, "n_kept": n_kept,
                "n_trials": len(jaccard), "jaccard": jaccard.mean(), "jaccard_std": jaccard.std(),
                "chance": chance_overlap(n_nodes, n_kept), "spearman": spearman.mean(), "spearman_std": spearman.std(),
            }  # fmt: skip

    def kept_rows(self, labels: np.ndarray, node_seconds: float) -> _Rows:
        for (label, classes), (layer, counts) in product(_GROUPS.items(), self.n_kept.items()):
            shares = counts[:, np.isin(LABELS, classes)].sum(axis=1) / np.isin(labels, classes).sum()
            for (scorer, of_scorer), position in product(zip(SCORERS, shares, strict=True), range(shares.shape[1])):
                seconds = (position + 0.5) * node_seconds if layer == "temporal_pool" else np.nan
                yield {
                    "label": label, "layer": layer, "k": self.variant.k_infer, "scorer": scorer, "position": position,
                    "seconds": seconds, "share": of_scorer[position],
                }  # fmt: skip

    def agreement_rows(self, labels: np.ndarray, columns: Mapping[Variant, np.ndarray]) -> _Rows:
        base = columns.get(Variant(self.variant.k_infer))
        agreement = np.mean([np.concatenate(values) for values in self.jaccard.values()], axis=0)
        for (label, classes), name in product(_GROUPS.items(), ("Mag", "MagGate")):
            other = columns.get(Variant.from_label(self.variant.k_infer, name))
            if base is None or other is None:
                continue
            members = np.isin(labels, classes)
            agrees, change = agreement[members], np.abs(other - base)[members]
            quartile = np.ceil(4 * (rankdata(agrees) - 0.5) / len(agrees)).astype(int)
            row = {"label": label, "k": self.variant.k_infer, "variant": name}
            means = {"n_trials": len(agrees), "jaccard": agrees.mean(), "score_change": change.mean()}
            yield row | means | {"quartile": "all", "spearman": rank_correlation(agrees[None], change[None])[0]}
            for number in np.unique(quartile):
                of = quartile == number
                means = {"n_trials": of.sum(), "jaccard": agrees[of].mean(), "score_change": change[of].mean()}
                yield row | means | {"quartile": number}


def highest(scores: Tensor, n: int) -> np.ndarray:
    """Which nodes have the n highest scores, as `GraphPool` takes them: (B, N, 1) -> bool (B, N)."""
    highest = torch.topk(scores, n, dim=1).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, highest, True).squeeze(2).cpu().numpy()


class _Attention:
    """The stack node's attention weights at one temperature."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.values: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)

    def add(self, backend: AASIST, graphs: Graphs, labels: np.ndarray) -> None:
        for layer, (given, _) in trace(backend, graphs, self.variant).items():
            module = backend.get_submodule(layer)
            if isinstance(module, HeterogeneousAttention):
                temporal, spectral, stack_node, variant = given
                nodes = torch.cat([module.proj_type1(temporal), module.proj_type2(spectral)], dim=1)
                weights = module.stack_attention(nodes, stack_node, variant.stack_temperature).squeeze(1)
                for quantity, values in concentration(weights).items():
                    self.values[quantity, layer].append(values.cpu().numpy())

    def rows(self, labels: np.ndarray) -> _Rows:
        for (label, classes), ((quantity, layer), parts) in product(_GROUPS.items(), self.values.items()):
            values = pd.Series(np.concatenate(parts)[np.isin(labels, classes)])
            yield {
                "label": label, "quantity": quantity, "layer": layer, "aggregation": "attention",
                "stack_temperature": self.variant.stack_temperature, "value": values.mean(), "std": values.std(),
                "n_trials": len(values),
            }  # fmt: skip


class _Spread:
    """Standard deviation over trials of what the output layer is given, under one aggregation; holds sums only."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.first: np.ndarray | None = None
        self.sums = dict.fromkeys(LABELS, np.zeros((2, 5 * STACK_DIM)))

    def add(self, backend: AASIST, graphs: Graphs, labels: np.ndarray) -> None:
        # One by one where nothing may move: equal numbers must come from equal operations
        size = 1 if self.variant.stack_aggregation == "linear" else len(labels)
        summaries = [
            trace(backend, Graphs(spectral, temporal), self.variant)["output"][0][0]
            for spectral, temporal in zip(*(nodes.split(size) for nodes in graphs), strict=True)
        ]
        summary = torch.cat(summaries).double().cpu().numpy()
        self.first = summary[0] if self.first is None else self.first
        moved = summary - self.first  # sums of squares far from zero would lose the small spreads
        for label in LABELS:
            own = moved[labels == label]
            self.sums[label] = self.sums[label] + [own.sum(axis=0), (own**2).sum(axis=0)]

    def rows(self, labels: np.ndarray) -> _Rows:
        for label, classes in _GROUPS.items():
            n = np.isin(labels, classes).sum()
            total, squares = sum(self.sums[name] for name in classes)
            spread = np.sqrt(np.maximum(squares - total**2 / n, 0) / (n - 1)) if n > 1 else np.full(len(total), np.nan)
            for quantity, values in (("stack_node", spread[-STACK_DIM:]), ("other_nodes", spread[:-STACK_DIM])):
                yield {
                    "label": label, "quantity": f"{quantity}_spread", "value": values.mean(),
                    "aggregation": self.variant.stack_aggregation, "n_trials": n,
                }  # fmt: skip


def _score_changes(labels: np.ndarray, columns: Mapping[Variant, np.ndarray], trained: Variant) -> _Rows:
    attended = columns.get(replace(trained, stack_aggregation="attention"))
    for (label, classes), aggregation in product(_GROUPS.items(), AGGREGATIONS[1:]):
        replaced = columns.get(replace(trained, stack_aggregation=aggregation))
        if attended is None or replaced is None:
            continue
        members = np.isin(labels, classes)
        before, after = pd.Series(attended[members]), pd.Series(replaced[members])
        change = (after - before).abs()
        for quantity, value, std in (
            ("score_change", change.mean(), change.std()),
            ("score_change_relative", change.mean() / before.std(), np.nan),
            ("score_change_spearman", before.corr(after, method="spearman"), np.nan),
        ):
            row = {"label": label, "quantity": quantity, "aggregation": aggregation}
            yield row | {"value": value, "std": std, "n_trials": len(change)}


def _stack_temperature(backend: AASIST) -> float:
    """The one of training; NaN if the layers have several."""
    own = {module.stack_temperature for module in backend.modules() if isinstance(module, HeterogeneousAttention)}
    return own.pop() if len(own) == 1 else np.nan


def choose(trials: pd.DataFrame, per_class: int) -> pd.DataFrame:
    """All trials, or so many of each class from a fixed seed, in the list's order."""
    if not per_class:
        return trials
    shuffled = trials.iloc[np.random.default_rng(SEED).permutation(len(trials))]
    return shuffled.groupby("label").head(per_class).sort_index()
