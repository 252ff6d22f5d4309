"""What can be known of the paper without data: what its MACs count, and where its text and the released code part.

The facts F1 to F7 and F9 to F13, a function each, as measured numbers; F8 needs trainings, see `audit.findings`. What
this package does is measured by running it; what the released code does instead, by the setting that does it here or by
a few lines that do the same. All input is made up from a fixed seed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate
from tqdm import tqdm

from spaarsist import plan
from spaarsist.artefacts import writing
from spaarsist.audit.complexity import Size, count, count_by, ship
from spaarsist.config import SAMPLE_RATE, BackendConfig, FrontendConfig, TrainingRecipe
from spaarsist.data import audio
from spaarsist.data.augment import mask_span
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.models.backend import AASIST, STACK_DIM, GraphPool, HeterogeneousAttention
from spaarsist.models.detector import Detector, build_head, prepare_torch
from spaarsist.models.frontend import SelfSupervised
from spaarsist.names import BASELINE, CONVENTIONS, LIGHT, PAPER_FRAMES, RANK_1, Variant

COLUMNS = ("fact", "quantity", "value", "unit", "how")
SEED = 0
SYSTEMS = {"base": BASELINE, "mag": RANK_1, "magmean": "AST-03-01-MagMean"}
OTHERS = {
    LIGHT: BackendConfig("AASIST", options={"size": "L"}),
    **{name: BackendConfig(**plan.OTHERS[name]) for name in ("MHFA", "Mean-pool")},
}
COUNTED = (*SYSTEMS.values(), LIGHT)
FRAMES = {1: 49, 2: 99, 4.0375: 201, 8.75: PAPER_FRAMES, 20: 999, 40: 1999, 100: 4999}
"""Seconds of speech at 16 kHz -> frames of XLS-R: one every 320 samples, of 400 each."""

TOOL_FRAMES = (200, 201, PAPER_FRAMES)
"""Lengths that ptflops is run at; the released `tools/efficiency.py` takes the first."""

CONVOLUTIONS = "convolutions"
OPERATORS = {
    "conv": CONVOLUTIONS, "linear": "linear layers", "matmul": "matrix products", "bmm": "matrix products",
    "batch_norm": "batch norms",
}  # fmt: skip
"""fvcore's names of what it counts -> ours."""

RATIOS = (0.5, 0.3, 0.1)
"""The paper's k_train and k_infer."""

LABELS = ("Base", "Mag", "Mean", "MagMean")
"""The paper's variants."""

ARCHITECTURE = {
    "model_type": "wav2vec2", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "intermediate_size": 48, "conv_dim": (16,) * 7, "conv_bias": True, "feat_extract_norm": "layer",
    "do_stable_layer_norm": True, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
"""A wav2vec2 built as XLS-R is (layer norm first in each layer, and once more behind the last), but small."""

Rows = Iterator[tuple[str, float, str, str]]
"""Quantity (its name starts with the fact's), value, unit, and what was computed on what."""

Counts = Mapping[tuple[str, str, int], int]
"""System, convention and number of frames -> MACs."""


def measure(folder: Path, threads: int = 2) -> None:
    """Count, measure every fact, and write three TSVs.

    Args:
        folder: gets `counts.tsv` (`system, convention, n_frames, n_params, n_macs`: at the paper's size, by each of
            `CONVENTIONS`), `operators.tsv` (`system, operator, n_macs`: of `whole` at `PAPER_FRAMES`) and
            `quantities.tsv` (`fact, quantity, value, unit, how`).
        threads: CPU threads of torch; the last digits of what is no count are equal only for equal numbers.
    """
    prepare_torch(threads)
    with torch.random.fork_rng(devices=[]):
        counts, operators = _counts(), _operators()
        n_params = {system: count(*ship(system, Size(), OTHERS))[0] for system in COUNTED}
    facts: list[Callable[[], Rows]] = [
        _f1_sizes, _f2_stack_node, _f2_layer, partial(_f3_linear, counts), partial(_f3_left_out, operators),
        _f3_others, _f4_batch, _f5_layer_norm, _f6_actual_dcf, _f7_ties, _f9_passes, _f10_saturation, _f11_losses,
        _f11_blank_crops, _f12_mask, _f13_dropout,
    ]  # fmt: skip
    rows = []
    for fact in facts:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(SEED)
            rows += [(row[0].partition("_")[0], *row) for row in fact()]
    table = [(*key[:2], key[2], n_params[key[0]], n_macs) for key, n_macs in counts.items()]
    _write(
        folder / "counts.tsv", pd.DataFrame(table, columns=["system", "convention", "n_frames", "n_params", "n_macs"])
    )
    _write(folder / "operators.tsv", operators)
    _write(folder / "quantities.tsv", pd.DataFrame(rows, columns=COLUMNS))


def _write(target: Path, table: pd.DataFrame) -> None:
    with writing(target) as path:
        table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE, float_format="%.12g")


def _counts() -> Counts:
    wanted = [
        (system, convention, n_frames)
        for system, convention in product(COUNTED, CONVENTIONS)
        for n_frames in (TOOL_FRAMES if convention == "ptflops" else FRAMES.values())
    ]
    return {
        (system, convention, n_frames): count_by(convention, system, n_frames, OTHERS)
        for system, convention, n_frames in tqdm(wanted, desc="count", unit="count")
    }


def _operators() -> pd.DataFrame:
    """The MACs of `whole` at the paper's length, by operator."""
    rows = []
    for system in COUNTED:
        _, analysis = count(*ship(system, Size(n_frames=PAPER_FRAMES), OTHERS))
        rows += [(system, OPERATORS[name], int(n_macs)) for name, n_macs in analysis.by_operator().items()]
    table = pd.DataFrame(rows, columns=["system", "operator", "n_macs"])
    return table.groupby(["system", "operator"], sort=False, as_index=False).sum()


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


def _f3_linear(counts: pd.DataFrame) -> Rows:
    for (label, system), n_frames in product(SYSTEMS.items(), (201, PAPER_FRAMES)):
        for convention, what in CONVENTIONS.items():
            how = f"{system}: {what}, at {n_frames} frames, 1,024 features in, embedding of 1,024"
            yield f"F3_{convention}_{label}_{n_frames}", counts[system, convention, n_frames], "MACs", how
    for label, system in SYSTEMS.items():
        how = f"{system}: {CONVENTIONS['ptflops']}, at 200 frames: the textbook form, ptflops {version('ptflops')}"
        yield f"F3_ptflops_{label}_200", counts[system, "ptflops", 200], "MACs", how
    longest = max(FRAMES.values())
    for label, system in SYSTEMS.items():
        how = f"{system}: {CONVENTIONS['whole']}, at {longest} frames"
        yield f"F3_whole_{label}_{longest}", counts[system, "whole", longest], "MACs", how


def _f3_left_out(operators: pd.DataFrame) -> Rows:
    base = operators[operators["system"] == SYSTEMS["base"]].set_index("operator")["n_macs"]
    for operator, n_macs in base.items():
        how = f"fvcore's count of {operator} in {SYSTEMS['base']} at {PAPER_FRAMES} frames"
        yield f"F3_left_out_{operator.replace(' ', '_')}", n_macs, "MACs", how
    convolutions = operators[operators["operator"] == CONVOLUTIONS].set_index("system")["n_macs"]
    how = f"what {SYSTEMS['magmean']} saves of the convolutions"
    yield "F3_convolutions_saved", convolutions[SYSTEMS["base"]] - convolutions[SYSTEMS["magmean"]], "MACs", how
    how = f"convolutions / all that fvcore counts of {SYSTEMS['base']}, at {PAPER_FRAMES} frames"
    yield "F3_share_of_convolutions", base[CONVOLUTIONS] / base.sum(), "fraction", how


def _f3_others() -> Rows:
    for name, settings in OTHERS.items():
        n_macs = count_by("linear_head", name, PAPER_FRAMES, OTHERS)
        how = f"{settings.kind}: {CONVENTIONS['linear_head']}, at {PAPER_FRAMES} frames, 24 layers"
        yield f"F3_linear_head_{settings.kind}", n_macs, "MACs", how


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


def _f11_losses() -> Rows:
    torch.manual_seed(SEED)
    whole, fresh = build_head(8), build_head(8)
    renamed = {f"renamed.{name}": tensor for name, tensor in whole.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    fresh.load_state_dict(renamed, strict=False)
    kept = sum(bool(torch.equal(before[name], tensor)) for name, tensor in fresh.state_dict().items())
    how = f"of a head's {len(before)} tensors, still random after a state of other names was loaded with strict=False"
    yield "F11_tensors_left_random", kept, "tensors", how
    batch = [torch.ones(4), None, torch.ones(4), torch.ones(4)]
    scored = default_collate([clip for clip in batch if clip is not None])
    how = "clips of 4 that are not scored where one could not be read and the batch is filtered as in the released code"
    yield "F11_clips_lost", len(batch) - len(scored), "clips", how


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


def _f12_mask() -> Rows:
    rng, n_draws, seconds = np.random.default_rng(SEED), 20_000, 11.8
    rate, crop = SAMPLE_RATE // 100, TrainingRecipe().crop // 100
    clip = np.ones(round(seconds * rate), np.float32)
    blank = [1 - audio.crop_random(mask_span(clip, rng), crop, rng).mean() for _ in range(n_draws)]
    of = f"of {n_draws:,} masked draws of a {seconds} s clip cropped to {crop / rate:.1f} s afterwards, {rate} Hz"
    for name, share in (("none", np.less_equal), ("half", np.greater), ("all", np.greater_equal)):
        bound = {"none": 0, "half": 0.5, "all": 1}[name]
        what = {"none": "with nothing", "half": "with more than half", "all": "with all"}[name]
        value = float(share(np.round(blank, 6), bound).mean())
        yield f"F12_blanked_{name}", value, "fraction", f"share {of}, {what} of the crop blank"


def _f13_dropout() -> Rows:
    nodes = torch.randn(64, 42, 64)
    n_kept = int(nodes.shape[1] * 0.3)

    def kept(nodes: Tensor) -> list[set[int]]:
        return [set(row) for row in GraphPool(64).scores(nodes, "magnitude").squeeze(-1).topk(n_kept).indices.tolist()]

    pairs = zip(kept(nodes), kept(F.dropout(nodes, 0.3)), strict=True)
    others = np.mean([len(after - before) / n_kept for before, after in pairs])
    how = "share of the 0.3 n nodes of largest norm that are others once dropout 0.3 came first, 64 random graphs of 42"
    yield "F13_nodes_replaced_by_dropout", others, "fraction", how


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Find where `holds` turns true; it must be false at `low` and true at `high`."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
