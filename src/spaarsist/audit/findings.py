"""Where the released code and the paper part, as measured numbers: the findings F1 to F11, a function each.

What this package does is measured by running it; what the released code does instead, by the setting that does it here
or by a few lines that do the same. All input is made up from a fixed seed, but for F8, which needs training runs.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from spaarsist.artefacts import writing
from spaarsist.audit.complexity import Size, count, ship
from spaarsist.config import SAMPLE_RATE, BackendConfig, FrontendConfig, TrainingRecipe
from spaarsist.data import audio
from spaarsist.data.augment import mask_span
from spaarsist.data.protocol import read_trials
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.models.backend import AASIST, STACK_DIM, HeterogeneousAttention
from spaarsist.models.detector import Detector, load_checkpoint, prepare_torch
from spaarsist.models.frontend import SelfSupervised
from spaarsist.names import ConfigError, Variant

COLUMNS = ("finding", "quantity", "value", "unit", "how")
SEED = 0
SYSTEMS = {"base": "AST-05-05", "mag": "AST-03-01-Mag", "magmean": "AST-03-01-MagMean"}
RATIOS = (0.5, 0.3, 0.1)
"""The paper's k_train and k_infer."""

LABELS = ("Base", "Mag", "Mean", "MagMean")
"""The paper's variants."""

ENCLOSING = {"base": (56, 57), "magmean": (44, 45)}
"""Input lengths, in frames, between whose MACs the paper's numbers lie; the more frames, the more MACs."""

N_PER_CLASS = 100
"""Development trials of each class that F8 scores at most."""

ARCHITECTURE = {
    "model_type": "wav2vec2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 48, "conv_dim": (16,) * 7, "conv_bias": True, "feat_extract_norm": "layer",
    "do_stable_layer_norm": True, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
"""A wav2vec2 built as XLS-R is (layer norm first in each layer, and once more behind the last), but small."""

Rows = Iterator[tuple[str, float, str, str]]
"""Quantity (its name starts with the finding's), value, unit, and what was computed on what."""


def measure(
    output: Path,
    n_frames: int = 201,
    *,
    histories: Sequence[Path] = (),
    checkpoint: Path | None = None,
    dev_list: Path | None = None,
    threads: int = 1,
) -> None:
    """Measure every finding and write a TSV: `finding, quantity, value, unit, how`.

    Args:
        output: the TSV to write.
        n_frames: input length of the MAC counts (201 for 64,600 samples).
        histories: `history.tsv` of training runs; without any, F8's rows on stages are left out.
        checkpoint: a trained detector; without it, F8's rows on random excerpts are left out.
        dev_list: the trial list for these, of which at most 100 trials of each class are scored.
        threads: CPU threads of torch; the last digits are equal only for equal numbers.

    Raises:
        ConfigError: checkpoint or dev_list is given without the other, or a file is not what it should be; named.
    """
    if (checkpoint is None) != (dev_list is None):
        raise ConfigError("findings: checkpoint and dev_list go together; give both or neither")
    device = prepare_torch(threads)
    findings: list[Callable[[], Rows]] = [
        _f1_sizes, _f2_stack_node, _f2_layer, partial(_f3_macs, n_frames), _f3_enclosing, _f4_batch, _f5_layer_norm,
        _f6_actual_dcf, _f7_ties, partial(_f8_stages, histories),
        partial(_f8_random_excerpts, checkpoint, dev_list, device), _f9_passes, _f10_saturation, _f11_blank_crops,
    ]  # fmt: skip
    rows = []
    for finding in findings:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(SEED)
            rows += [(row[0].partition("_")[0], *row) for row in finding()]
    with writing(output) as path:
        table = pd.DataFrame(rows, columns=COLUMNS)
        table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE, float_format="%.10g")


def _f1_sizes() -> Rows:
    for label, system in SYSTEMS.items():
        n_params, _ = count(*ship(system, Size(), {}))
        how = f"weights of the back-end that would ship for {system}, 1,024 features in, embedding of 1,024"
        yield f"F1_params_{label}", n_params, "parameters", how


def _f2_stack_node() -> Rows:
    backend = AASIST(feature_dim=32, embedding_dim=16).eval()
    summaries: list[Tensor] = []
    backend.output.register_forward_pre_hook(lambda _module, inputs: summaries.append(inputs[0]))
    utterances = torch.randn(8, 1, 60, 32)
    how = "standard deviation over 8 random inputs of an untrained back-end, mean over the {} features, {}"
    for aggregation in ("attention", "uniform", "linear"):
        summaries.clear()
        for frames in utterances:  # one by one: equal numbers must come from equal operations
            backend.readout(backend.encode(frames), Variant(stack_aggregation=aggregation))
        spread = torch.cat(summaries).double().std(dim=0)
        stack, others = spread[-STACK_DIM:].mean().item(), spread[:-STACK_DIM].mean().item()
        yield f"F2_stack_node_spread_{aggregation}", stack, "1", how.format("stack node's", aggregation)
        yield f"F2_other_nodes_spread_{aggregation}", others, "1", how.format("other nodes'", aggregation)


def _f2_layer() -> Rows:
    layer = HeterogeneousAttention(STACK_DIM, STACK_DIM, temperature=1.0)
    (nodes, mate), spectral, others = torch.randn(3, 2, 12, STACK_DIM)
    stack_node = torch.randn(2, 1, STACK_DIM)

    def update(nodes: Tensor, mate: Tensor, aggregation: str) -> Tensor:
        """New temporal nodes of an utterance that another one, `mate`, is beside in the batch."""
        return layer(torch.stack([nodes, mate]), spectral, stack_node, Variant(stack_aggregation=aggregation))[0][0]

    for aggregation in ("attention", "linear"):
        layer.eval()
        first_replaced = torch.cat([others[0, :1], nodes[1:]])
        moved = (update(first_replaced, mate, aggregation) - update(nodes, mate, aggregation))[1:]
        how = f"largest change of a node's update when another node is replaced, random layer, {aggregation}"
        yield f"F2_nodes_mixed_{aggregation}", moved.abs().max().item(), "1", how
        mean = (update(nodes, mate, aggregation) + update(others[0], mate, aggregation)) / 2
        bend = mean - update((nodes + others[0]) / 2, mate, aggregation)
        how = f"largest |mean of two updates - update of the mean|, random layer, {aggregation}"
        yield f"F2_bend_{aggregation}", bend.abs().max().item(), "1", how
        layer.train()
        moved = update(nodes, mate, aggregation) - update(nodes, others[1], aggregation)
        how = f"largest change in training mode by another dropout and another mate in the batch, random, {aggregation}"
        yield f"F2_training_noise_{aggregation}", moved.abs().max().item(), "1", how
    layer.eval()
    batch = torch.stack([nodes, mate]), spectral, stack_node
    linear, uniform = (layer(*batch, Variant(stack_aggregation=how))[2] for how in ("linear", "uniform"))
    how = "mean |stack node by the code's mean - by the text's| / mean |the latter|, random layer"
    yield "F2_apart_from_the_mean", ((linear - uniform).abs().mean() / uniform.abs().mean()).item(), "ratio", how


def _f3_macs(n_frames: int) -> Rows:
    macs, convolutions = {}, {}
    for label, n in (("magmean", n_frames), ("base", n_frames - 1), ("base", n_frames)):
        analysis, row = _count_macs(label, n)
        yield row
        macs[label] = analysis.total()  # in the end, the baseline's at n_frames
        parts = analysis.by_module_and_operator()
        convolutions[label] = parts["encoder"]["conv"] + parts["map_attention"]["conv"]
    how = f"1 - MACs of {SYSTEMS['magmean']} / MACs of {SYSTEMS['base']}, both at {n_frames} frames"
    yield "F3_saving", 1 - macs["magmean"] / macs["base"], "fraction", how
    how = f"convolutions of residual encoder and attention map / all MACs of {SYSTEMS['base']}, at {n_frames} frames"
    yield "F3_share_of_convolutions", convolutions["base"] / macs["base"], "fraction", how
    how = f"what {SYSTEMS['magmean']} saves of these convolutions"
    yield "F3_convolutions_saved", convolutions["base"] - convolutions["magmean"], "MACs", how


def _f3_enclosing() -> Rows:
    yield from (_count_macs(label, n_frames)[1] for label, lengths in ENCLOSING.items() for n_frames in lengths)


def _count_macs(label: str, n_frames: int) -> tuple[FlopCountAnalysis, tuple[str, float, str, str]]:
    _, analysis = count(*ship(SYSTEMS[label], Size(n_frames=n_frames), {}))
    how = f"fvcore's count of {SYSTEMS[label]} at {n_frames} frames, 1,024 features in, embedding of 1,024"
    return analysis, (f"F3_macs_{label}_{n_frames}_frames", analysis.total(), "MACs", how)


def _random_wav2vec2(**settings: object) -> nn.Module:
    torch.manual_seed(SEED)
    return SelfSupervised(FrontendConfig("random", **settings), ARCHITECTURE).eval()


def _f4_batch() -> Rows:
    waveforms = torch.randn(2, SAMPLE_RATE) * torch.tensor([[1.0], [20.0]])
    how = "mean change of a noise's frames when a 20 times louder one joins the batch / mean size, random wav2vec2"
    for extent in ("batch", "utterance"):
        frontend = _random_wav2vec2(normalise=extent)
        alone, beside = frontend(waveforms[:1])[0], frontend(waveforms)[0]
        moved = ((beside - alone).abs().mean() / alone.abs().mean()).item()
        yield f"F4_frames_moved_normalised_by_{extent}", moved, "ratio", f"{how}, waveforms normalised by {extent}"


def _f5_layer_norm() -> Rows:
    waveforms = torch.randn(2, SAMPLE_RATE)
    frontend = _random_wav2vec2(final_layer_norm=False)
    layer, last_hidden_state = frontend(waveforms), _random_wav2vec2(final_layer_norm=True)(waveforms)
    apart = ((layer - last_hidden_state).abs().mean() / last_hidden_state.abs().mean()).item()
    how = "mean |last layer - last_hidden_state| / mean |last_hidden_state|, random wav2vec2 on noise"
    yield "F5_difference_before_layer_norm", apart, "ratio", how
    apart = (frontend.model.encoder.layer_norm(layer) - last_hidden_state).abs().max().item()
    how = "max |final layer norm of the last layer - last_hidden_state|, random wav2vec2 on noise"
    yield "F5_difference_after_layer_norm", apart, "1", how


def _log_likelihood_ratios(n_bonafide: int, n_spoof: int, mean: float) -> tuple[np.ndarray, np.ndarray]:
    # Gaussian scores of means +-m and variance 2m are their own log-likelihood ratios: perfectly calibrated
    rng = np.random.default_rng(SEED)
    return tuple(rng.normal(sign * mean, np.sqrt(2 * mean), n) for sign, n in ((1, n_bonafide), (-1, n_spoof)))


def _f6_actual_dcf() -> Rows:
    metrics = compute_metrics(*_log_likelihood_ratios(20_000, 80_000, mean=3.0))
    how = "normalised DCF of 20,000 bona fide and 80,000 spoof scores, simulated and calibrated, ASVspoof 5 costs"
    for name in ("min_dcf", "act_dcf", "act_dcf_released"):
        yield f"F6_{name}", metrics[name], "DCF", how
    how = "lowest score of a bona fide trial that does not count as missed, found by bisection, ASVspoof 5 costs"
    for name in ("act_dcf", "act_dcf_released"):
        threshold = _bisect(lambda score, name=name: compute_metrics([score], [-100.0])[name] == 0, -20, 20)
        yield f"F6_threshold_{name}", threshold, "nats", how


def _f7_ties() -> Rows:
    scores = [np.round(s, 1) for s in _log_likelihood_ratios(500, 1500, mean=0.5)]
    ours, merged = compute_metrics(*scores)["eer"], _eer_of_merged_ties(*scores)
    how = "500 bona fide and 1,500 spoof scores, simulated and rounded to 0.1: EER with ties "
    yield "F7_eer_ties_unmerged", ours, "fraction", how + "unmerged, as in the official package"
    yield "F7_eer_ties_merged", merged, "fraction", how + "merged, as in the released code"
    yield "F7_difference", ours - merged, "fraction", how + "unmerged - with ties merged"


def _eer_of_merged_ties(bonafide: np.ndarray, spoof: np.ndarray) -> float:
    thresholds = np.unique(np.concatenate([bonafide, spoof]))
    p_miss = np.searchsorted(np.sort(bonafide), thresholds) / len(bonafide)
    p_fa = 1 - np.searchsorted(np.sort(spoof), thresholds) / len(spoof)
    nearest = np.abs(p_miss - p_fa).argmin()
    return (p_miss[nearest] + p_fa[nearest]) / 2


def _f8_stages(histories: Sequence[Path]) -> Rows:
    worse = []
    for path in histories:
        try:
            best = pd.read_csv(path, sep="\t").groupby("stage")["dev_eer"].min()
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{path}: not readable as a training history ({error!r})") from None
        if len(best) > 1:
            worse.append(best.iloc[-1] > best.iloc[0])
    if worse:
        yield "F8_runs", len(worse), "runs", "training runs of more than one stage"
        how = "of these, runs whose last stage's best dev EER is above the first's: always keeping the last one loses"
        yield "F8_runs_with_a_worse_last_stage", sum(worse), "runs", how


def _f8_random_excerpts(checkpoint: Path | None, dev_list: Path | None, device: torch.device) -> Rows:
    if checkpoint is None or dev_list is None:
        return
    detector, record = load_checkpoint(checkpoint)
    detector, crop = detector.to(device), record["recipe"]["crop"]
    rng = np.random.default_rng(SEED)
    trials = read_trials(dev_list)
    trials = trials.iloc[rng.permutation(len(trials))].groupby("label").head(N_PER_CLASS)
    is_bonafide = (trials["label"] == "bonafide").to_numpy()
    waveforms = [audio.read(path) for path in trials["path"]]

    def eer(cut: Callable[..., np.ndarray], *chance: np.random.Generator) -> float:
        excerpts = torch.from_numpy(np.stack([audio.pad(cut(w, crop, *chance), crop) for w in waveforms]))
        scores = torch.cat([detector.scores(batch.to(device)).cpu() for batch in excerpts.split(16)])[:, 0].numpy()
        return compute_metrics(scores[is_bonafide], scores[~is_bonafide])["eer"]

    how = f"EER of one checkpoint, {is_bonafide.sum()} bona fide trials and {(~is_bonafide).sum()} spoofs of dev, "
    yield "F8_dev_eer_centre", eer(audio.crop_centre), "fraction", f"{how}excerpts from the centre"
    drawn = [eer(audio.crop_random, rng) for _ in range(5)]
    for name, value in (("min", min(drawn)), ("max", max(drawn)), ("std", np.std(drawn, ddof=1))):
        yield f"F8_dev_eer_random_{name}", value, "fraction", f"{how}{name} over {len(drawn)} draws of random excerpts"


def _f9_passes() -> Rows:
    waveform = torch.randn(1, SAMPLE_RATE // 2)
    calls: list[str] = []
    n_rows, difference = 0, 0.0
    for k_train in RATIOS:
        detector = Detector(FrontendConfig(), BackendConfig(embedding_dim=16, options={"k_train": k_train})).eval()
        variants = [Variant.from_label(k_infer, label) for k_infer in RATIOS if k_infer <= k_train for label in LABELS]
        scores = {}
        for way, groups in (("shared", [variants]), ("one_by_one", [[variant] for variant in variants])):
            hook = detector.frontend.register_forward_hook(lambda *_, way=way: calls.append(way))
            scores[way] = torch.cat([detector.scores(waveform, group) for group in groups], dim=1)
            hook.remove()
        difference = max(difference, (scores["shared"] - scores["one_by_one"]).abs().max().item())
        n_rows += len(variants)
    how = f"front-end calls, counted by a hook, that score a clip for {n_rows} rows of {len(RATIOS)} checkpoints"
    yield "F9_passes_one_by_one", calls.count("one_by_one"), "calls", f"{how}, each row by itself"
    yield "F9_passes_shared", calls.count("shared"), "calls", f"{how}, all rows of a checkpoint at once"
    yield "F9_score_difference", difference, "nats", f"largest difference of the {n_rows} scores between the two ways"


def _f10_saturation() -> Rows:
    def logits(gaps: Sequence[float]) -> Tensor:
        half = torch.tensor(gaps, dtype=torch.float32) / 2
        return torch.stack([half, -half], dim=1)

    gap = _bisect(lambda gap: torch.softmax(logits([gap]), dim=1)[0, 0].item() == 1, 0, 100)
    how = "smallest gap between two float32 logits whose softmax is exactly 1, found by bisection"
    yield "F10_saturation_gap", gap, "nats", how
    pairs = logits(np.linspace(10, 30, 1000))
    how = "distinct values of 1,000 pairs of float32 logits, their gaps evenly spaced from 10 to 30 nats, as "
    n_distinct = len(torch.softmax(pairs, dim=1)[:, 0].unique())
    yield "F10_distinct_probabilities", n_distinct, "values", how + "softmax probabilities"
    yield "F10_distinct_log_odds", len((pairs[:, 0] - pairs[:, 1]).unique()), "values", how + "differences of logits"


def _f11_blank_crops() -> Rows:
    recipe, rng, n_draws = TrainingRecipe(), np.random.default_rng(SEED), 1000
    rate, crop = SAMPLE_RATE // 100, recipe.crop // 100  # coarser for speed: moves the exact share by 0.1 %
    clips = [np.ones(seconds * rate, np.float32) for seconds in range(4, 21) for _ in range(n_draws)]
    first = np.mean([not audio.crop_random(mask_span(clip, rng), crop, rng).any() for clip in clips])
    last = np.mean([not mask_span(audio.crop_random(clip, crop, rng), rng).any() for clip in clips])
    how = f"share of {crop / rate:.1f} s crops all zero, {n_draws:,} draws each for clips of 4, 5 ... 20 s, {rate} Hz, "
    yield "F11_blank_crops_mask_first", first, "fraction", f"{how}all masked before the crop"
    in_recipe = first * recipe.augmentation.time_mask
    yield "F11_blank_crops_mask_first_recipe", in_recipe, "fraction", f"{how}masked before the crop with the recipe's p"
    yield "F11_blank_crops_crop_first", last, "fraction", f"{how}all masked after the crop"


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Find where `holds` turns true; it must be false at `low` and true at `high`."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
