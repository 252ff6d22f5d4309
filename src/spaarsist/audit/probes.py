"""What AASIST back-ends make of waveforms that are made for the purpose, so that the right answer is known.

`planted.tsv`: a stretch of a bona fide clip is remade by a spoofing method, all else equal sample for sample. A scorer
that finds spoofed nodes keeps more of that stretch's temporal nodes than of the same nodes before.

`edges.tsv`: the first and the last temporal node, in excerpts that begin and end elsewhere. Where they are kept for
what is heard there, that changes; where for being at the border, it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from spaarsist.artefacts import RECORD, read_record, writing
from spaarsist.audit.nodes import SCORERS, SEED, choose, highest
from spaarsist.config import SAMPLE_RATE, Excerpt
from spaarsist.data import audio
from spaarsist.data.protocol import LABELS, read_trials
from spaarsist.evaluation.statistics import t_test
from spaarsist.experiments.excerpts import excerpt_of, reading
from spaarsist.models.backend import AASIST, POOLING
from spaarsist.models.detector import BONAFIDE, SPOOF, load_checkpoint, prepare_torch
from spaarsist.names import ConfigError, Variant

STRETCH = SAMPLE_RATE * 3 // 10
"""Samples that are remade, and by which an excerpt is moved: 0.3 s, five nodes of 60 ms."""

FADE = SAMPLE_RATE // 100
"""Samples of each cross-fade, within the stretch: 10 ms."""

METHODS = ("world_copy", "griffin_lim_mel", "lpc_vocoder")
"""Spoofing methods, of `data.mini.vocoders`."""

CONTROLS = ("elsewhere", "unchanged")
"""Bona fide speech from elsewhere in the clip, put in as the others are; and the stretch itself."""

PLANTS = (*METHODS, *CONTROLS)
CROPS = ("padded", "scored", "inside", "shifted")
"""Excerpts of `edges.tsv`, see `probe`."""

_RUN = ("trained", "corpus", "n_seeds")
COLUMNS = {
    "planted": (
        *_RUN, "method", "k", "scorer", "n_clips", "n_nodes", "n_planted", "chance", "before", "after", "difference",
        "low", "high", "lowest_seed", "highest_seed", "synthesis", "synthesis_low", "synthesis_high",
        "score_change", "score_low", "score_high", "score_falls",
    ),
    "edges": (
        *_RUN, "label", "crop", "k", "scorer", "n_clips", "node", "chance", "share", "same_speech", "border", "low",
        "high", "lowest_seed", "highest_seed", "repeated", "repeated_low", "repeated_high", "score_change",
        "score_low", "score_high",
    ),
}  # fmt: skip
"""Files that `probe` writes, and their columns."""

_FRAME = SAMPLE_RATE // 100
_QUIET_DB = 30.0
_Rows = Iterator[dict[str, object]]


@torch.inference_mode()
def probe(
    checkpoints: Sequence[Path],
    trial_list: Path,
    output: Path,
    k_infer: Sequence[float],
    clips_per_class: int,
    *,
    corpus: str = "",
    confidence: float = 0.95,
    batch_size: int = 16,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 0,
) -> None:
    """Plant stretches, move excerpts, and see what the first temporal pooling keeps; write a folder of two TSVs.

    In both, rows are per training, share `k` and `scorer`; shares are fractions of nodes, means over clips and seeds.
    Score changes are those of the detector that chooses its nodes so, in nats. Intervals are of a t test whose variance
    is that over clips plus that over seeds, so they speak of other clips of these speakers, and of other seeds. Beside
    those of shares stand the means of the `lowest_seed` and of the `highest_seed`.

    `planted.tsv`: of the nodes whose middle lies in the stretch, the share kept `before` and `after` it was remade, and
    their `difference`; `synthesis` is what the difference has over that of bona fide speech from `elsewhere` in the
    clip, put in just so; `score_falls` is the share of clips whose score falls. The stretch lies in speech, as far from
    either end of the excerpt as it is long.

    `edges.tsv`: `share` of clips in which the `first` or `last` node is kept, by `crop`: `padded`, excerpts as scored
    of clips that are shorter, and padded; `scored`, the same of clips whose speech is `STRETCH` longer than an excerpt
    or more; `inside`, of these the excerpt in the middle of the speech, without the silence around it;
    `shifted`, that one moved on by `STRETCH`. What its first node hears, a node further in hears in `inside`: how often
    that one is kept is `same_speech`, and `border` is what being at the border adds. So for the last node of `inside`.
    `repeated` is `border` where the encoder's convolutions meet their last values again beyond the excerpt's ends, and
    not zeros. Score changes are against `scored`. Clips between the two kinds have no part in it.

    Args:
        checkpoints: folders of detectors with AASIST back-ends, all trained on excerpts of one length.
        trial_list: of the corpus.
        output: the folder to write, whole or not at all; replaced if it exists.
        k_infer: shares of nodes that a pooling keeps, in (0, 1]; 1 is passed over.
        clips_per_class: how many clips of each class to take, drawn from a fixed seed; those planted are the bona fide.
        corpus: its name in the files; default: the trial list's.
        confidence: of the intervals, in (0, 1).

    Raises:
        ConfigError: a back-end is no AASIST, excerpts differ, no k is below 1, no clip has room for a
            stretch, or a file is not what it should be.
    """
    place = prepare_torch(threads, device)
    ratios = sorted({k for k in k_infer if k != 1})
    if not ratios:
        raise ConfigError(f"k_infer = {[*k_infer]}: needs a share below 1, for 1 leaves a pooling nothing to choose")
    trials = choose(read_trials(trial_list), clips_per_class)
    excerpt, node_samples = _common_excerpt(checkpoints)

    def read(clips: Dataset, what: str) -> tuple[Tensor, np.ndarray]:
        with reading(
            clips, workers, {"desc": f"{what} {trial_list.stem}", "unit": "batch"}, batch_size=batch_size
        ) as b:
            waveforms, notes = zip(*b, strict=True)
        return torch.cat(waveforms), torch.cat(notes).numpy()

    planted, starts = read(_Planted(trials[trials["label"] == "bonafide"], excerpt), "plant in")
    with_room = starts >= 0
    if not with_room.any():
        raise ConfigError(f"{trial_list}: no bona fide clip has room for a stretch of speech; set analysis.probed to 0")
    if without := int((~with_room).sum()):
        tqdm.write(f"{trial_list}: {without} bona fide clips have no room for a stretch of speech; left out of planted")
    planted, starts = planted[with_room], starts[with_room]
    moved, kinds = read(_Moved(trials, excerpt), "move")
    labels = trials["label"].to_numpy()

    seen: dict[str, list[tuple[_Seen, _Seen, _Seen]]] = {}
    for checkpoint in checkpoints:
        detector, record = load_checkpoint(checkpoint)
        looks = [_look(detector.to(place), waveforms, ratios, batch_size) for waveforms in (planted, moved)]
        with _edges_repeated(detector.backend):
            looks.append(_look(detector, moved, ratios, batch_size))
        seen.setdefault(record["system"], []).append(tuple(looks))

    found: dict[str, list[dict[str, object]]] = {name: [] for name in COLUMNS}
    for trained, looks in seen.items():
        run = {"trained": trained, "corpus": corpus or trial_list.stem, "n_seeds": len(looks)}
        of_plants, *of_moves = (_stack(parts) for parts in zip(*looks, strict=True))
        found["planted"] += [run | row for row in _planted_rows(of_plants, starts, node_samples, ratios, confidence)]
        found["edges"] += [run | row for row in _edge_rows(*of_moves, kinds, labels, node_samples, ratios, confidence)]
    with writing(output) as folder:
        folder.mkdir(parents=True)
        for name, rows in found.items():
            table = pd.DataFrame(rows, columns=COLUMNS[name])
            table.to_csv(folder / f"{name}.tsv", sep="\t", index=False, float_format="%.10g")


def places(speech: np.ndarray) -> np.ndarray:
    """First samples, in steps of 10 ms, of the stretches of a clip (n,) that are speech and have room around them.

    Nine in ten of their 10 ms frames are within 30 dB of the clip's loudest, and `STRETCH` samples lie on either side.
    """
    n = STRETCH // _FRAME
    power = np.square(speech[: len(speech) // _FRAME * _FRAME].astype(float)).reshape(-1, _FRAME).mean(axis=1)
    if len(power) < 3 * n or not power.max():
        return np.empty(0, int)
    loud = np.lib.stride_tricks.sliding_window_view(power > power.max() * 10 ** (-_QUIET_DB / 10), n).mean(axis=1)
    starts = np.flatnonzero(loud >= 0.9)
    return _FRAME * starts[(starts >= n) & (starts <= len(power) - 2 * n)]


def plant(speech: np.ndarray, start: int, stretch: np.ndarray) -> np.ndarray:
    """Put a stretch in the place of what is there, with a cross-fade at either end of it.

    Args:
        speech: (n,).
        start: sample of `speech` at which the stretch begins.
        stretch: what comes there, at least two cross-fades long.

    Returns:
        float32 (n,), equal to `speech` outside, and throughout where the stretch is what was there.
    """
    rise = np.sin(np.pi / 2 * (np.arange(FADE) + 0.5) / FADE) ** 2
    weight = np.concatenate([rise, np.ones(len(stretch) - 2 * FADE), rise[::-1]])
    planted = speech.astype(float)
    planted[start : start + len(stretch)] += weight * (stretch - planted[start : start + len(stretch)])
    return planted.astype(np.float32)


class _Planted(Dataset):
    """Every clip's excerpt as scored and with each of `PLANTS`: ((1 + plants, crop), first sample of the stretch).

    The sample is -1 where there is no room.
    """

    def __init__(self, trials: pd.DataFrame, excerpt: Excerpt) -> None:
        self.paths, self.rows, self.excerpt = trials["path"].to_numpy(), trials.index.to_numpy(), excerpt

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        n, padding = self.excerpt.crop, self.excerpt.padding
        speech = audio.read_excerpt(self.paths[index], n, place=self.excerpt.place)
        rng = np.random.default_rng((SEED, int(self.rows[index])))
        at, versions = -1, [speech] * (1 + len(PLANTS))
        if len(room := places(speech)):
            start = int(rng.choice(room))
            if len(others := room[np.abs(room - start) >= STRETCH]):
                at = start
                stretches = _stretches(speech.astype(float), start, int(rng.choice(others)), rng)
                versions = [speech, *(plant(speech, start, stretch) for stretch in stretches)]
        return torch.from_numpy(np.stack([audio.pad(version, n, padding) for version in versions])), at


def _stretches(speech: np.ndarray, start: int, other: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """What comes in place of the stretch at `start`, for each of `PLANTS`, matched to it in spectrum and loudness."""
    from spaarsist.data.mini import channel, vocoders  # what they import serves corpora that are built here alone

    around, within = STRETCH, slice(STRETCH, 2 * STRETCH)  # vocoders want some speech to begin and to end with
    here, there = (speech[at - around : at + STRETCH + around] for at in (start, other))
    for method in METHODS:
        yield channel.like(vocoders.METHODS[method](here, rng), here)[within]
    yield channel.like(there, here)[within]
    yield here[within]


class _Moved(Dataset):
    """Every clip's excerpts `scored`, `inside` and `shifted`: ((3, crop), which kind of clip).

    Kinds: 0, shorter than an excerpt; 1, with too little speech for the other two, which then are the first; 2, else.
    """

    def __init__(self, trials: pd.DataFrame, excerpt: Excerpt) -> None:
        self.paths, self.excerpt = trials["path"].to_numpy(), excerpt

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from spaarsist.data.mini import channel

        whole, n = audio.read(self.paths[index]), self.excerpt.crop
        scored = audio.crop(whole, n, self.excerpt.place)
        kind, excerpts = int(len(whole) >= n), [audio.pad(scored, n, self.excerpt.padding)] * 3
        if len(whole) >= n + STRETCH and len(speech := channel.trim(whole)) >= n + STRETCH:
            first = (len(speech) - n - STRETCH) // 2
            kind = 2
            excerpts = [scored, *(speech[at : at + n] for at in (first, first + STRETCH))]
        return torch.from_numpy(np.stack(excerpts)), kind


class _Seen(NamedTuple):
    """What a detector, or several (S ahead of all), does with V versions of each of n clips, at K ratios.

    Shapes: kept, bool (n, V, K, scorers, N); scores in nats (n, V, K, scorers).
    """

    kept: np.ndarray
    scores: np.ndarray


def _stack(parts: Sequence[_Seen]) -> _Seen:
    return _Seen(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


def _look(detector: nn.Module, waveforms: Tensor, ratios: Sequence[float], batch_size: int) -> _Seen:
    """Run a detector on (n, V, crop), a version at a time: equal waveforms must meet equal operations."""
    backend = detector.backend
    place = next(detector.parameters()).device
    parts = []
    for batch in waveforms.split(batch_size):
        versions = []
        for version in batch.unbind(dim=1):
            graphs = backend.encode(detector.frames(version.to(place)))
            nodes, kept, scores = graphs.temporal, [], []
            for k, scorer in product(ratios, SCORERS):
                kept.append(highest(backend.temporal_pool.scores(nodes, scorer), max(int(nodes.shape[1] * k), 1)))
                variant: Variant = replace(backend.variant, k_infer=k, node_scoring=scorer)
                logits = detector.head(backend.readout(graphs, variant))
                scores.append((logits[:, BONAFIDE] - logits[:, SPOOF]).cpu().numpy())
            of = len(version), len(ratios), len(SCORERS)
            versions.append((np.stack(kept, axis=1).reshape(*of, -1), np.stack(scores, axis=1).reshape(of)))
        parts.append(_Seen(*(np.stack(arrays, axis=1) for arrays in zip(*versions, strict=True))))
    return _Seen(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@contextmanager
def _edges_repeated(backend: AASIST) -> Iterator[None]:
    """Let the encoder's convolutions go on, in time, with their last values where they pad zeros."""

    def convolve(conv: nn.Conv2d, given: tuple[Tensor], _: Tensor) -> Tensor:
        height, width = conv.padding
        padded = F.pad(F.pad(given[0], (width, width, 0, 0), mode="replicate"), (0, 0, height, height))
        return F.conv2d(padded, conv.weight, conv.bias)

    convolutions = (module for module in backend.encoder.modules() if isinstance(module, nn.Conv2d))
    hooks = [conv.register_forward_hook(convolve) for conv in convolutions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _planted_rows(
    seen: _Seen, starts: np.ndarray, node_samples: float, ratios: Sequence[float], confidence: float
) -> _Rows:
    n_nodes = seen.kept.shape[-1]
    middles = (np.arange(n_nodes) + 0.5) * node_samples
    within = (middles >= starts[:, None]) & (middles < starts[:, None] + STRETCH)
    shares = (seen.kept & within[:, None, None, None]).sum(axis=-1) / within.sum(axis=-1)[:, None, None, None]
    for (v, method), (i, k), (j, scorer) in product(enumerate(PLANTS, 1), enumerate(ratios), enumerate(SCORERS)):
        before, after = shares[:, :, 0, i, j], shares[:, :, v, i, j]
        change = (seen.scores[:, :, v, i, j] - seen.scores[:, :, 0, i, j]).astype(float)
        synthesis = after - shares[:, :, 1 + PLANTS.index("elsewhere"), i, j]
        yield {
            "method": method, "k": k, "scorer": scorer, "n_clips": len(starts), "n_nodes": n_nodes,
            "n_planted": within.sum(axis=1).mean(), "chance": max(int(n_nodes * k), 1) / n_nodes,
            "before": before.mean(), "after": after.mean(),
            **_share_change("difference", after - before, confidence),
            **(_interval("synthesis", synthesis, confidence, bound=1) if method in METHODS else {}),
            **_score_change(change, confidence),
            "score_falls": (change < 0).mean(),
        }  # fmt: skip


def _edge_rows(
    seen: _Seen,
    repeated: _Seen,
    kinds: np.ndarray,
    labels: np.ndarray,
    node_samples: float,
    ratios: Sequence[float],
    confidence: float,
) -> _Rows:
    n_nodes = seen.kept.shape[-1]
    further = round(STRETCH / node_samples)  # nodes by which `shifted` is moved
    # Node -> its position, where its speech is in the other excerpt, in which of the two it is at the border
    nodes = {"first": (0, further, "shifted"), "last": (n_nodes - 1, n_nodes - 1 - further, "inside")}
    versions = {"padded": (0, 0), "scored": (0, 2), "inside": (1, 2), "shifted": (2, 2)}  # and kind of clip
    for label, (crop, (version, kind)) in product(LABELS, versions.items()):
        clips = np.flatnonzero((labels == label) & (kinds == kind))
        if not len(clips):
            continue
        for (i, k), (j, scorer) in product(enumerate(ratios), enumerate(SCORERS)):
            kept, scores, kept_repeated = (
                array[:, clips][:, :, :, i, j] for array in (seen.kept, seen.scores, repeated.kept)
            )
            for node, (position, further_in, at_border_in) in nodes.items():
                at_edge = kept[:, :, version, position].astype(float)
                row = {
                    "label": label, "crop": crop, "k": k, "scorer": scorer, "n_clips": len(clips), "node": node,
                    "chance": max(int(n_nodes * k), 1) / n_nodes, "share": at_edge.mean(),
                }  # fmt: skip
                if crop == at_border_in:
                    same_speech = kept[:, :, 3 - version, further_in].astype(float)
                    row |= {"same_speech": same_speech.mean()}
                    row |= _share_change("border", at_edge - same_speech, confidence)
                    at_edge, same_speech = (
                        kept_repeated[:, :, v, at].astype(float)
                        for v, at in ((version, position), (3 - version, further_in))
                    )
                    row |= _interval("repeated", at_edge - same_speech, confidence, bound=1)
                if version:
                    change = (scores[:, :, version] - scores[:, :, 0]).astype(float)
                    row |= _score_change(change, confidence)
                yield row


def _share_change(name: str, values: np.ndarray, confidence: float) -> dict[str, float]:
    """Mean change of a share, of (seeds, clips), its interval, and the seeds that have least and most of it."""
    found, of_seeds = _interval(name, values, confidence, bound=1), values.mean(axis=1)
    return {
        name: found[name], "low": found[f"{name}_low"], "high": found[f"{name}_high"], "lowest_seed": of_seeds.min(),
        "highest_seed": of_seeds.max(),
    }  # fmt: skip


def _interval(name: str, values: np.ndarray, confidence: float, bound: float = np.inf) -> dict[str, float]:
    """Mean of (seeds, clips), its interval as far as it lies within -bound and bound; names as in the files."""
    mean, *ends = _mean(values, confidence)
    low, high = np.clip(ends, -bound, bound)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _score_change(values: np.ndarray, confidence: float) -> dict[str, float]:
    return dict(zip(("score_change", "score_low", "score_high"), _mean(values, confidence), strict=True))


def _mean(values: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """Mean of (seeds, clips) and its interval; NaN where there are neither two clips nor two seeds."""
    variances, degrees = [], []
    for axis in (0, 1):
        means = values.mean(axis=axis)  # of each clip, of each seed
        if len(means) > 1:
            variances.append(means.var(ddof=1) / len(means))
            degrees.append(len(means) - 1)
    _, low, high = t_test(values.mean(), variances, degrees, confidence) if variances else (np.nan,) * 3
    return values.mean(), low, high


def _common_excerpt(checkpoints: Sequence[Path]) -> tuple[Excerpt, float]:
    """What the detectors are shown, and samples of a temporal node: the same for all these checkpoints."""
    sizes = {}
    for checkpoint in checkpoints:
        record = read_record(checkpoint / RECORD)
        if record["backend"]["kind"] != AASIST.__name__:
            raise ConfigError(f"{checkpoint}: {record['system']} has no graphs; give checkpoints of AASIST back-ends")
        sizes.setdefault((excerpt_of(record), record["n_frames"]), checkpoint)
    if len(sizes) != 1:
        places = " and ".join(map(str, sizes.values()))
        raise ConfigError(f"{places or 'no checkpoints'}: excerpts or frames differ; probe them apart")
    excerpt, n_frames = next(iter(sizes))
    return excerpt, POOLING * excerpt.crop / n_frames
