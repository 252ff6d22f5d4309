"""Wall-clock: the back-end against a textbook one and its arithmetic floor, training, whole detectors, scoring.

Everything that is compared takes turns in one process, so that a machine that slows down slows all alike; times are
medians over the rounds with their interquartile range. Nothing else should run beside it. Weights are random where no
checkpoint is given: they do not change the time.
"""

from __future__ import annotations

import copy
import io
import os
import resource
import sys
import tarfile
import tempfile
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from spaarsist.artefacts import processor, writing
from spaarsist.audit.complexity import Size, count, textbook
from spaarsist.config import SAMPLE_RATE, BackendConfig, FrontendConfig
from spaarsist.data import archives, audio
from spaarsist.data.protocol import read_trials
from spaarsist.deployment.export import detector_sessions, has_onnx, onnx_session
from spaarsist.deployment.optimise import compiled, optimise
from spaarsist.experiments.excerpts import excerpts_of
from spaarsist.experiments.score import score_excerpts
from spaarsist.experiments.train import keep_freed_memory
from spaarsist.models.backend import AASIST
from spaarsist.models.detector import Detector, load_checkpoint, prepare_torch
from spaarsist.names import ConfigError, System, Variant

XLS_R_300M = {
    "model_type": "wav2vec2", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096, "conv_bias": True, "do_stable_layer_norm": True, "feat_extract_norm": "layer",
    "num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16,
}  # fmt: skip
"""Architecture of facebook/wav2vec2-xls-r-300m where it departs from transformers' defaults (its config.json)."""

WITHOUT_ONNX = "{} left out, not installed: pip install 'spaarsist[onnx]'"
ABOUT = ["device", "threads", "rounds", "machine"]
TURN_S = 0.03
"""A turn repeats short work until it lasts about so long."""


def write_backend(
    output: Path,
    systems: Sequence[str],
    size: Size,
    batch_sizes: Sequence[int],
    backends: Mapping[str, BackendConfig],
    *,
    device: str = "cpu",
    threads: int = 2,
    rounds: int = 15,
) -> None:
    """Time each system's back-end in every form, and how fast this machine does its convolutions alone; write a TSV.

    Forms: `reference` (`audit.textbook`), `plain` (`AASIST.export`), `optimised`
    (`deployment.optimise`), `compiled` (that, compiled by PyTorch) and, on the CPU with the extra `onnx` installed,
    `onnxruntime` (plain, as ONNX).

    Args:
        output: columns `system, form, batch_size, n_frames, n_params, n_macs, median_ms, iqr_ms, floor_ms,
            max_difference, device, threads, rounds, machine`. `floor_ms`: the system's MACs over the rate at which its
            convolutions alone run, in the faster of torch's two memory layouts. `max_difference`: largest absolute
            difference of an embedding from the plain form's.
        systems: AASIST systems without temperatures of their own, such as AST-03-01-Mag, or one of `backends`. Whose
            convolutions are timed is the first.
        size: of the back-ends and their input.
        batch_sizes: how many excerpts at once.
        backends: class and options of an AASIST under another name, such as AASIST-L.
        device: `cpu` or `cuda`.
        threads: of torch and ONNX Runtime.
        rounds: turns of every form of every system.

    Raises:
        ConfigError: a system is no AASIST; a form whose outputs differ by more than
            1e-5 (on a GPU 1e-4), so that its time would mean nothing.
    """
    place = prepare_torch(threads, device)
    built = {system: _random_backend(size, _options(system, backends)).to(place) for system in systems}
    shipped = {system: built[system].export(_run_as(system, built[system])) for system in systems}
    if device == "cpu" and not has_onnx():
        tqdm.write(WITHOUT_ONNX.format("form onnxruntime"), file=sys.stderr)
    rows = []
    for batch_size in batch_sizes:
        frames = torch.randn(batch_size, size.n_frames, size.feature_dim, generator=torch.Generator().manual_seed(0))
        frames = frames.to(place)
        runs: dict[tuple[str, str], Callable[[], Tensor]] = {}
        for system in tqdm(systems, desc=f"compile for batches of {batch_size}", unit="system"):
            forms = _forms(built[system], shipped[system], frames, threads)
            runs |= {(system, form): run for form, run in forms.items()}
        with torch.no_grad():
            differences = {key: float((run() - runs[key[0], "plain"]()).abs().max()) for key, run in runs.items()}
            for (system, form), difference in differences.items():
                if difference > (1e-5 if device == "cpu" else 1e-4):
                    raise ConfigError(f"{system}, {form}: its embeddings differ from the plain form's by {difference}")
            convolutions = {
                layout: _convolutions(built[systems[0]], frames, layout)
                for layout in (torch.contiguous_format, torch.channels_last)
            }
            seconds = _take_turns(runs | convolutions, rounds, threads)
        fastest = min(float(np.median(seconds[layout])) for layout in convolutions)
        counts = {system: count(module, frames[:1]) for system, module in shipped.items()}
        rate = batch_size * counts[systems[0]][1].by_operator()["conv"] / fastest
        for (system, form), difference in differences.items():
            n_params, n_macs = counts[system][0], int(counts[system][1].total())
            median, spread = _milliseconds(seconds[system, form])
            floor = 1000 * batch_size * n_macs / rate
            row = system, form, batch_size, size.n_frames, n_params, n_macs, median, spread, floor, difference
            rows.append(row)
    columns = ["system", "form", "batch_size", "n_frames", "n_params", "n_macs", "median_ms", "iqr_ms", "floor_ms",
               "max_difference"]  # fmt: skip
    _write(output, rows, columns, (device, threads, rounds, _machine(place)))


def write_training(
    output: Path,
    size: Size,
    batch_size: int = 64,
    *,
    device: str = "cpu",
    threads: int = 2,
    rounds: int = 3,
) -> None:
    """Time a forward and a backward pass of the baseline back-end in training mode, from frames; write a TSV.

    On the CPU twice: with the C library's own ways with memory, then as training sets them
    (`experiments.train.keep_freed_memory`); within each, both sides take turns. On a GPU in float32 and bfloat16.

    Args:
        output: columns `form, memory, precision, batch_size, n_frames, median_ms, iqr_ms, device, threads, rounds,
            machine` with form `reference` or `plain`, memory `default` or `kept`.
        size, device, threads, rounds: see there.
        batch_size: excerpts per step; 64 in the paper's first stage.
    """
    place = prepare_torch(threads, device)
    baseline = _random_backend(size, {})
    sides = {"reference": textbook(baseline, Variant()), "plain": baseline}
    sides = {form: side.to(place).train() for form, side in sides.items()}
    frames = torch.randn(batch_size, size.n_frames, size.feature_dim).to(place)
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for memory in ("default", "kept") if device == "cpu" else ("default",):
        if memory == "kept":
            keep_freed_memory()
        seconds |= _take_turns(
            {
                (form, memory, precision): _Step(side, frames, precision)
                for form, side in sides.items()
                for precision in (("float32",) if device == "cpu" else ("float32", "bfloat16"))
            },
            rounds,
            threads,
        )
    rows = [(*key, batch_size, size.n_frames, *_milliseconds(times)) for key, times in seconds.items()]
    columns = ["form", "memory", "precision", "batch_size", "n_frames", "median_ms", "iqr_ms"]
    _write(output, rows, columns, (device, threads, rounds, _machine(place)))


def write_detector(
    output: Path,
    systems: Sequence[str],
    columns: Sequence[str],
    embedding_dim: int = 1024,
    n_samples: int = 64_600,
    *,
    architecture: Mapping[str, object] = XLS_R_300M,
    device: str = "cpu",
    threads: int = 2,
    rounds: int = 5,
) -> None:
    """Time the parts of a whole detector with XLS-R 300M at full size, and one pass for all variants; write a TSV.

    Args:
        output: columns `part, system, n_variants, n_params, n_macs, n_bytes, median_ms, iqr_ms, batch_size, n_samples,
            device, threads, rounds, machine`. Parts: `frontend`, `head`, `backend` (one row per system, compiled),
            `one_variant` and `all_variants` (a scoring pass over one excerpt, from its samples); on the CPU with the
            extra `onnx` installed `float32` and `int8` (the same pass by an ONNX file of `n_bytes`, as exported and
            with linear layers of the front-end as integers). fvcore leaves the attention products of a transformer out
            of its MACs.
        systems: AASIST systems; the first is the one of `one_variant`, `float32` and `int8`.
        columns: score columns of the variants of `all_variants`, such as 01-Mag.
        embedding_dim: of the back-ends.
        n_samples: of the excerpt.
        architecture: of the front-end.
        device, threads, rounds: see `write_backend`.
    """
    place = prepare_torch(threads, device)
    variants = [Variant.from_column(column) for column in columns]
    torch.manual_seed(0)
    settings = FrontendConfig("facebook/wav2vec2-xls-r-300m", "0" * 40)
    detector = Detector(settings, BackendConfig("AASIST", embedding_dim), dict(architecture)).eval().to(place)
    waveforms = torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0)).to(place) / 10
    shipped = {system: detector.backend.export(_variant(system)) for system in systems}
    with torch.no_grad():
        frames = detector.frames(waveforms)
        embedding = detector.backend(frames)
        fast = {system: compiled(optimise(module, frames.shape[1])) for system, module in shipped.items()}
        runs: dict[tuple[str, str, int], Callable[[], Tensor]] = {
            ("frontend", "-", 1): lambda: detector.frames(waveforms),
            ("head", "-", 1): lambda: detector.head(embedding),
        }
        runs |= {("backend", system, 1): _call(module, frames) for system, module in fast.items()}
        runs["one_variant", systems[0], 1] = lambda: detector.scores(waveforms, [_variant(systems[0])])
        runs["all_variants", systems[0], len(variants)] = lambda: detector.scores(waveforms, variants)
        sizes: dict[str, int] = {}
        if device == "cpu" and has_onnx():
            for part, (n_bytes, run) in detector_sessions(detector, _variant(systems[0]), waveforms, threads).items():
                sizes[part], runs[part, systems[0], 1] = n_bytes, _call(run, waveforms)
        elif device == "cpu":
            tqdm.write(WITHOUT_ONNX.format("parts float32 and int8"), file=sys.stderr)
        seconds = _take_turns(runs, rounds, threads)
        counts = {
            ("frontend", "-"): count(detector.frontend, waveforms),
            ("head", "-"): count(detector.head, embedding),
            **{("backend", system): count(module, frames) for system, module in shipped.items()},
        }
    rows = []
    for (part, system, n_variants), times in seconds.items():
        n_params, analysis = counts.get((part, system), (pd.NA, None))
        n_macs = int(analysis.total()) if analysis else pd.NA
        size = n_params, n_macs, sizes.get(part, pd.NA)
        rows.append((part, system, n_variants, *size, *_milliseconds(times), 1, n_samples))
    columns = ["part", "system", "n_variants", "n_params", "n_macs", "n_bytes", "median_ms", "iqr_ms", "batch_size",
               "n_samples"]  # fmt: skip
    _write(output, rows, columns, (device, threads, rounds, _machine(place)))


def write_scoring(
    output: Path,
    record: Path,
    trial_list: Path,
    systems: Sequence[str],
    *,
    n_trials: int = 64,
    batch_size: int = 16,
    device: str = "cpu",
    threads: int = 2,
    rounds: int = 3,
) -> None:
    """Time scoring from audio: one variant, all in one pass, Table 1 both ways, and reading audio by itself.

    Args:
        output: columns `quantity, value, unit, how`. Quantities: `one_variant`, `all_variants` (of the k_train with the
            most) and `one_pass_ratio` of the two; `table1_one_by_one`, `table1_shared` and `table1_ratio` (a pass for
            every row against a pass for every checkpoint); `scoring`, `loader_files` and `loader_tar` (FLAC members of
            a tar) with as many processes as threads; `peak_memory_<trials>`.
        record: `model.json` of a trained AASIST; it stands for those of every k_train, whose passes cost the same.
        trial_list: whose first `n_trials` excerpts are scored.
        systems: the rows of Table 1; the first one's variant is that of `one_variant`.
        batch_size, device, threads, rounds: see `write_backend`.
    """
    place = prepare_torch(threads, device)
    detector, made = load_checkpoint(record.parent)
    detector = detector.to(place)
    trials = read_trials(trial_list).head(n_trials)
    excerpts = excerpts_of(made, trials)
    by_checkpoint: dict[str, tuple[Variant, ...]] = {}
    for system in systems:
        trained = System.parse(system).trained
        by_checkpoint[trained] = *by_checkpoint.get(trained, ()), _variant(system)
    shared, rows_alone = [*by_checkpoint.values()], [(_variant(system),) for system in systems]

    def scoring(variants: Sequence[Variant]) -> Callable[[], np.ndarray]:
        return lambda: score_excerpts(detector, excerpts, variants, batch_size, 0, f"{len(variants)} variants")

    passes = {chosen: scoring(chosen) for chosen in {*shared, *rows_alone}}
    seconds = _take_turns(passes, rounds, threads)
    ms = {chosen: 1000 * float(np.median(times)) / len(trials) for chosen, times in seconds.items()}
    one, most = rows_alone[0], max(shared, key=len)
    one_by_one, together = (sum(ms[chosen] for chosen in passes) for passes in (rows_alone, shared))
    of = f"{len(trials)} excerpts of {excerpts.crop / SAMPLE_RATE:g} s in batches of {batch_size}, from audio"
    rows = [
        ("one_variant", ms[one], "ms/trial", f"{of}, {one[0].column}"),
        ("all_variants", ms[most], "ms/trial", f"{of}, {len(most)} variants"),
        ("one_pass_ratio", ms[most] / ms[one], "times", "all_variants over one_variant"),
        ("table1_one_by_one", one_by_one, "ms/trial", f"{of}, a pass for each of {len(systems)} rows"),
        ("table1_shared", together, "ms/trial", f"{of}, a pass for each of {len(shared)} checkpoints"),
        ("table1_ratio", one_by_one / together, "times", "table1_one_by_one over table1_shared"),
        ("scoring", 1000 / ms[most], "1/s", f"{of}, {len(most)} variants"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        packed = trials.assign(path=_pack(trials["path"], Path(folder) / "flac.tar"))
        sources = {"files": excerpts, "tar": excerpts_of(made, packed)}
        reading = {source: _read_all(dataset, batch_size, threads) for source, dataset in sources.items()}
        for source, times_read in _take_turns(reading, rounds, threads).items():
            how = f"{len(trials)} excerpts read and cropped by {threads} processes, no scoring"
            rows.append((f"loader_{source}", len(trials) / float(np.median(times_read)), "1/s", how))
    for repeats in (1, 4):
        longer = Subset(excerpts, [*range(len(trials))] * repeats)
        score_excerpts(detector, longer, most, batch_size, 0, f"{len(longer)} excerpts")
        how = f"of the process, after {len(longer)} excerpts with {len(most)} variants"
        rows.append((f"peak_memory_{len(longer)}", peak_memory_mib(), "MiB", how))
    with writing(output) as path:
        table = pd.DataFrame(rows, columns=["quantity", "value", "unit", "how"])
        table["how"] += f"; medians of {rounds} rounds, {threads} threads, {_machine(place)}"
        table.to_csv(path, sep="\t", index=False, float_format="%.4g")


class _Step:
    """A forward and a backward pass."""

    def __init__(self, module: nn.Module, frames: Tensor, precision: str) -> None:
        self.module, self.frames, self.bfloat16 = module, frames, precision == "bfloat16"

    def __call__(self) -> None:
        self.module.zero_grad()
        with torch.autocast(self.frames.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = self.module(self.frames).float().square().mean()
        loss.backward()


def _take_turns(runs: Mapping[Hashable, Callable], rounds: int, threads: int) -> dict[Hashable, list[float]]:
    """Seconds of one call of each, `rounds` times over.

    A turn begins with two calls that are not counted (`Timer.timeit` makes them), which wake threads and fill caches.
    """
    timers = {key: Timer("run()", globals={"run": run}, num_threads=threads) for key, run in runs.items()}
    repeats = {key: max(1, round(TURN_S / timer.timeit(1).mean)) for key, timer in timers.items()}
    seconds: dict[Hashable, list[float]] = {key: [] for key in timers}
    for _ in tqdm(range(rounds), desc="time", unit="round", mininterval=2):
        for key, timer in timers.items():
            seconds[key].append(timer.timeit(repeats[key]).mean)
    return seconds


def _milliseconds(seconds: Sequence[float]) -> tuple[float, float]:
    low, median, high = 1000 * np.quantile(seconds, [0.25, 0.5, 0.75])
    return median, high - low


def _forms(baseline: AASIST, shipped: AASIST, frames: Tensor, threads: int) -> dict[str, Callable[[], Tensor]]:
    fast = optimise(shipped, frames.shape[1])
    forms = {
        "reference": textbook(baseline, shipped.variant).eval().to(frames.device),
        "plain": shipped,
        "optimised": fast,
        "compiled": compiled(fast),
    }
    runs = {form: _call(module, frames) for form, module in forms.items()}
    if frames.device.type == "cpu" and has_onnx():
        session = onnx_session(shipped, frames, threads)
        runs["onnxruntime"] = lambda: torch.from_numpy(session.run(None, {"frames": frames.numpy()})[0])
    return runs


def _call(module: Callable[[Tensor], Tensor], inputs: Tensor) -> Callable[[], Tensor]:
    return lambda: module(inputs)


def _variant(system: str) -> Variant:
    variant = System.parse(system).variant
    if variant is None or variant.graph_temperature or variant.stack_temperature:
        raise ConfigError(f"{system}: speed is measured of AASIST systems at the usual temperatures")
    return variant


def _options(system: str, backends: Mapping[str, BackendConfig]) -> dict[str, object]:
    """What sets the AASIST of a system apart from the baseline."""
    if System.parse(system).variant:
        return {}
    if system in backends and backends[system].kind == AASIST.__name__:
        return backends[system].options
    raise ConfigError(f"{system}: speed is measured of AASIST back-ends alone")


def _run_as(system: str, backend: AASIST) -> Variant:
    return _variant(system) if System.parse(system).variant else backend.variant


def _random_backend(size: Size, options: Mapping[str, object]) -> AASIST:
    """An AASIST with random weights and statistics, so that forms that differ in either are told apart."""
    torch.manual_seed(0)
    backend = AASIST(size.feature_dim, size.embedding_dim, **options).eval()
    for norm in backend.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor, (low, high) in (
                (norm.running_mean, (-0.5, 0.5)),
                (norm.running_var, (0.5, 2.0)),
                (norm.weight.data, (0.5, 1.5)),
                (norm.bias.data, (-0.5, 0.5)),
            ):
                tensor.uniform_(low, high)
    return backend


def _convolutions(backend: AASIST, frames: Tensor, layout: torch.memory_format) -> Callable[[], None]:
    """All convolutions of a back-end on inputs of the right shape, in one memory layout, and nothing else."""
    inputs: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, args: inputs.append((module, args[0])))
        for module in backend.modules()
        if isinstance(module, nn.Conv2d)
    ]
    backend(frames)
    for hook in hooks:
        hook.remove()
    work = [
        (copy.deepcopy(convolution).to(memory_format=layout), x.contiguous(memory_format=layout))
        for convolution, x in inputs
    ]

    def run() -> None:
        for convolution, x in work:
            convolution(x)

    return run


def _pack(paths: Iterable[str], archive: Path) -> list[str]:
    """Write recordings as FLAC members of a tar; gives their paths in it."""
    with tarfile.open(archive, "w") as tar:
        for number, path in enumerate(paths):
            content = io.BytesIO()
            soundfile.write(content, audio.read(path), SAMPLE_RATE, format="FLAC")
            member = tarfile.TarInfo(f"{number}.flac")
            member.size = content.getbuffer().nbytes
            content.seek(0)
            tar.addfile(member, content)
    return [path for _, path in archives.list_members(archive)]


def _read_all(dataset: Dataset, batch_size: int, workers: int) -> Callable[[], int]:
    return lambda: sum(len(inputs) for inputs, _ in DataLoader(dataset, batch_size, num_workers=workers))


def peak_memory_mib() -> float:
    """Most memory (resident) that this process ever took, in MiB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # the one counts bytes, the others kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _machine(place: torch.device) -> str:
    cores = os.cpu_count()
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else processor()
    return f"{name}, {cores} core{'s' * (cores != 1)}"


def _write(target: Path, rows: Iterable[tuple], columns: list[str], about: tuple) -> None:
    with writing(target) as path:
        table = pd.DataFrame(rows, columns=columns).assign(**dict(zip(ABOUT, about, strict=True)))
        counts = [name for name in ("n_params", "n_macs", "n_bytes") if name in table]
        table = table.astype(dict.fromkeys(counts, "Int64"))  # all digits
        table.to_csv(path, sep="\t", index=False, float_format="%.6g")
