"""A checkpoint's detector as one file for other runtimes: ONNX, or PyTorch's exported program.

The file holds one variant as it ships, with or without the front-end, and depends on nothing outside. It scores batches
of any size, but inputs of one length only: how many nodes a graph keeps follows from the length, and the exporters make
that number a constant. An ONNX file that took another length would keep the wrong number of nodes and not say so: at
twice the length, a trained detector's scores were off by 1.7 nats. So it refuses.

Arithmetic is float32, as the weights are: ONNX Runtime has no convolution in bfloat16 on the CPU. Where a front-end was
trained and scored in bfloat16, the file's scores are those of the same weights in float32. On request the front-end's
linear layers become integers (`deployment.quantise`). That moves scores: by how much, the file says.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from spaarsist.artefacts import SCORE_METADATA, file_hash, provenance, writing
from spaarsist.config import SAMPLE_RATE
from spaarsist.data.protocol import read_trials
from spaarsist.deployment.quantise import quantise
from spaarsist.evaluation.metrics import compute_metrics
from spaarsist.experiments.excerpts import excerpt_of, excerpts_of, reading
from spaarsist.models.backend import AASIST
from spaarsist.models.detector import BONAFIDE, SPOOF, Detector, load_checkpoint, prepare_torch
from spaarsist.names import AS_TRAINED, ConfigError, Variant

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

TOLERANCES = {"waveforms": (1e-4, 1e-2), "frames": (1e-5, 1e-4)}
"""Input -> how far scores may be from the original's, in nats: at the median, and the largest.

What rounding does. From frames, scores of trained detectors agree to 3e-6. From waveforms they differ by the
front-end's rounding, 1e-5 at the median; where it decides which of two nodes is kept, by some 1e-3. The original is no
closer to itself: of 19,200 scores of four trained detectors in float32, five were further than 1e-3 from those in
float64 and none further than 6.3e-3; medians were 3e-5 at most.
"""

ONNX_LIMIT = 1536 * 2**20
"""Bytes of weights from which PyTorch's exporter would lay them beside the ONNX file, which must stay below 2 GiB.

XLS-R 300M has 1.26e9 bytes in float32.
"""

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""What the extra `onnx` installs; they are imported where they are needed alone."""

BATCH = torch.export.Dim("batch")


def has_onnx() -> bool:
    """Whether the packages of the extra `onnx` are installed."""
    return all(find_spec(name) for name in ONNX_PACKAGES)


class _Scorer(nn.Module):
    """What goes into the file: waveforms (B, n_samples), or frames as `Detector.frames` makes them -> scores (B,)."""

    def __init__(self, detector: Detector, variant: Variant | None, *, with_frontend: bool) -> None:
        super().__init__()
        self.frontend = detector.frontend if with_frontend else None
        self.backend = detector.backend.export(variant) if variant else detector.backend
        self.head = detector.head
        self.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Score waveforms or frames."""
        if self.frontend is not None:
            inputs = self.frontend(inputs, all_layers=self.backend.all_layers)
        logits = self.head(self.backend(inputs))
        return logits[:, BONAFIDE] - logits[:, SPOOF]


class _Onnx:
    """A traced program as ONNX."""

    packages = ONNX_PACKAGES

    def __init__(self, program: torch.export.ExportedProgram, input_name: str) -> None:
        if (size := sum(weights.nbytes for weights in program.state_dict.values())) > ONNX_LIMIT:
            raise ConfigError(f"{size / 1e9:.1f} GB of weights do not go into one ONNX file; write a .pt2 instead")
        try:
            with _quiet():
                self.program = torch.onnx.export(
                    program,
                    dynamo=True,
                    input_names=[input_name],
                    output_names=["scores"],
                    dynamic_shapes=({0: BATCH},),
                    verbose=False,
                )
        except torch.onnx.OnnxExporterError as error:
            cause: BaseException = error
            while cause.__cause__:
                cause = cause.__cause__
            reason = str(cause).splitlines()[0]
            raise ConfigError(f"ONNX cannot hold this detector; write a .pt2 instead ({reason})") from error

    def save(self, path: Path, about: str) -> None:
        self.program.model.metadata_props[SCORE_METADATA.decode()] = about
        self.program.save(path, external_data=False)

    @staticmethod
    def open(path: Path, threads: int) -> Callable[[Tensor], Tensor]:
        session = _session(str(path), threads)
        (inputs,) = session.get_inputs()
        return lambda batch: torch.from_numpy(session.run(None, {inputs.name: batch.numpy()})[0])


class _ExportedProgram:
    """A traced program as PyTorch itself stores it."""

    packages = ()

    def __init__(self, program: torch.export.ExportedProgram, _input_name: str) -> None:
        self.program = program

    def save(self, path: Path, about: str) -> None:
        with _quiet(), path.open("wb") as stream:  # given a path, it would name what is inside after it
            torch.export.save(self.program, stream, extra_files={f"{SCORE_METADATA.decode()}.json": about})

    def open(self, path: Path, _threads: int) -> Callable[[Tensor], Tensor]:
        with _quiet():
            return torch.export.load(path).module()


FORMATS = {".onnx": _Onnx, ".pt2": _ExportedProgram}


@torch.no_grad()
def export(
    checkpoint: Path,
    trial_list: Path,
    output: Path,
    variant: Variant | None = None,
    *,
    with_frontend: bool = True,
    int8: bool = False,
    n_excerpts: int = 16,
    threads: int = 1,
) -> dict[str, Any]:
    """Write one variant of a detector as a file, and keep it only if it scores real audio as the detector does.

    Input: `waveforms` (batch, crop), or without the front-end `frames` (batch, T, D) or (batch, L, T, D) as
    `Detector.frames` makes them. Output: `scores` (batch,), log P(bona fide) - log P(spoof) in nats. The file says in
    JSON what it holds, how it was made and how far it was from the original: in the metadata of an ONNX model under
    `spaarsist`, in the extra file `spaarsist.json` of an exported program.

    With `int8` that file is checked, quantised and left for one that takes one excerpt at a time. Both score the whole
    list: how far scores move is said, and no bound is set.

    Args:
        checkpoint: folder of a trained detector.
        trial_list: the first excerpts of each class, in turn, are scored by the file and by `Detector.scores`, one by
            one, by threes and all at once.
        output: its ending says the format: `.onnx`, or `.pt2` for `torch.export.load`.
        variant: of an AASIST; None: as trained.
        with_frontend: false leaves back-end and head.
        int8: linear layers of the front-end in 8-bit integers; ONNX alone.
        n_excerpts: how many.
        threads: of torch and ONNX Runtime.

    Returns:
        What the file says of itself. Under `difference` the `median` and `largest` from the original, in nats. With
        `int8` those from float32, over the list; what was found in float32 stands under `float32`; both have `bytes`,
        and `eer` (fraction), None where the list lacks a class; `layers` and `linear_layers` say how many there are
        in int8 and in all.

    Raises:
        ConfigError: another ending, ONNX without the extra `onnx`, a variant of a back-end that has none, too few
            trials, an unreadable file, a detector that ONNX cannot hold, or scores that differ by more than
            `TOLERANCES`; for int8, a front-end that is left out or has no linear layers. Then no file is left.
    """
    if output.suffix not in FORMATS:
        raise ConfigError(f"{output}: the ending says the format: {' or '.join(FORMATS)}")
    if output.suffix == ".onnx" and not has_onnx():
        raise ConfigError(f"{output}: ONNX takes packages that are not installed; pip install 'spaarsist[onnx]'")
    if int8 and (output.suffix != ".onnx" or not with_frontend):
        raise ConfigError(f"{output}: int8 is for front-ends in ONNX; name an .onnx file, without --without-frontend")
    prepare_torch(threads)
    detector, record = load_checkpoint(checkpoint)
    n_linear = sum(isinstance(module, nn.Linear) for module in detector.frontend.modules())
    if int8 and not n_linear:
        kind = detector.frontend.settings.model
        raise ConfigError(f"{checkpoint}: its front-end ({kind}) has no linear layers for int8; leave --int8 out")
    precision = detector.frontend.settings.precision
    detector.frontend.settings = replace(detector.frontend.settings, precision="float32")
    if isinstance(detector.backend, AASIST):
        variant = variant or detector.backend.variant
    elif variant:
        raise ConfigError(f"{checkpoint}: {record['system']} has no variants; ask for none")
    listed = read_trials(trial_list)
    trials = _first_of_each_class(listed, n_excerpts)
    if len(trials) < n_excerpts:
        raise ConfigError(
            f"{trial_list}: {len(trials)} trials, fewer than the {n_excerpts} to check the file on; name another "
            "number by --n-excerpts"
        )
    inputs, _ = next(iter(DataLoader(excerpts_of(record, trials), n_excerpts)))
    kind, inputs = ("waveforms", inputs) if with_frontend else ("frames", detector.frames(inputs))

    file = FORMATS[output.suffix](_trace(_Scorer(detector, variant, with_frontend=with_frontend), inputs), kind)
    about = {
        "system": record["system"],
        "variant": variant.column if variant else AS_TRAINED,
        "seed": record["seed"],
        "input": kind,
        "crop": str(excerpt_of(record)),
        "sample_rate": SAMPLE_RATE,
        "polarity": "higher = more bona fide; log P(bona fide) - log P(spoof), nats",
        "precision": "float32" if precision == "float32" else f"float32; trained and scored in {precision}",
        "checkpoint": file_hash(checkpoint / "model.safetensors"),
        "trained_with": record["provenance"],
        "provenance": provenance(backend=record["backend"]["kind"])
        | {package: metadata.version(package) for package in file.packages},
        "checked_on": {"trial_list": file_hash(trial_list), "trial_ids": trials["trial_id"].tolist()},
    }

    def original(batch: Tensor) -> Tensor:
        return detector.scores(batch, [variant] if variant else []).squeeze(1)

    with writing(output) as path:
        # The second file says what the first one's check found. It is the one that stays, so it is run as well
        for batch_sizes in ((1, 3, n_excerpts), (n_excerpts,)):
            file.save(path, json.dumps(about, sort_keys=True))
            differences = _differences(file.open(path, threads), original, inputs, batch_sizes)
            median, largest = differences.median().item(), differences.max().item()
            if not (median <= TOLERANCES[kind][0] and largest <= TOLERANCES[kind][1]):  # nor is NaN
                trial = trials["trial_id"].iloc[differences.amax(dim=0).argmax().item()]
                raise ConfigError(
                    f"{output}: not kept, for its scores are not those of {checkpoint}: {median:.1e} nats apart at the "
                    f"median, {largest:.1e} for trial {trial}; rounding makes up {TOLERANCES[kind]} at most"
                )
            about.setdefault("difference", {"median": median, "largest": largest, "unit": "nats"})
        if int8:
            about |= {"precision": "float32, but int8 in linear layers of the front-end", "linear_layers": n_linear}
            _in_int8(path, about, trial_list, listed, excerpts_of(record, listed), threads)
    return about


def _in_int8(path: Path, about: dict, trial_list: Path, trials: pd.DataFrame, excerpts: Dataset, threads: int) -> None:
    """Quantise a file in its place, score the list before and after, and tell both `about` and the file."""
    import onnx

    # What a killed process leaves is removed along with the file that it is named after
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        source = path.rename(Path(folder) / "float32.onnx")
        with _quiet():
            layers = quantise(source, path, BATCH.__name__)
        before, after = (_Onnx.open(file, threads) for file in (source, path))
        bar = {"desc": "score in float32 and int8", "unit": "excerpt"}
        with reading(excerpts, 0, bar, batch_size=1) as batches:
            scores = np.array([(before(batch).item(), after(batch).item()) for batch, _ in batches])
        if len(wild := trials["trial_id"][~np.isfinite(scores).all(axis=1)]):
            raise ConfigError(f"trial {wild.iloc[0]}: its score in int8 is not finite; export it without --int8")
        drift = np.abs(np.diff(scores))
        about["float32"] = {key: about[key] for key in ("difference", "checked_on")}
        about["float32"] |= {"bytes": source.stat().st_size, "eer": _eer(scores[:, 0], trials)}
    about |= {
        "layers": layers,
        "bytes": path.stat().st_size,
        "difference": {"median": float(np.median(drift)), "largest": float(drift.max()), "unit": "nats"},
        "eer": _eer(scores[:, 1], trials),
        "checked_on": {"trial_list": file_hash(trial_list), "n_trials": len(trials)},
    }
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {SCORE_METADATA.decode(): json.dumps(about, sort_keys=True)})
    onnx.save(model, path)


def _eer(scores: np.ndarray, trials: pd.DataFrame) -> float | None:
    classes = [scores[trials["label"] == label] for label in ("bonafide", "spoof")]
    return compute_metrics(*classes)["eer"] if all(map(len, classes)) else None


def render(output: Path, about: Mapping[str, Any]) -> str:
    """What `export` found, for people: a line, and with int8 four more."""
    exact = about.get("float32", about)
    n, largest = len(exact["checked_on"]["trial_ids"]), exact["difference"]["largest"]
    line = f"{output}: scores of {n} excerpts are the checkpoint's to within {largest:.1e} nats"
    if "float32" not in about:
        return line
    moved = about["difference"]
    eer = "none, for the list does not hold both classes"
    if about["eer"] is not None:
        eer = f"{100 * exact['eer']:.2f} % in float32, {100 * about['eer']:.2f} % in int8"
    return "\n".join(
        [
            f"{line} in float32",
            f"in int8: {about['layers']} of the front-end's {about['linear_layers']} linear layers",
            f"size: {exact['bytes'] / 1e6:.1f} MB in float32, {about['bytes'] / 1e6:.1f} MB in int8",
            f"scores of {about['checked_on']['n_trials']} trials move by {moved['median']:.1e} nats at the median, "
            f"{moved['largest']:.1e} at most",
            f"EER: {eer}",
        ]
    )


def onnx_session(module: nn.Module, inputs: Tensor, threads: int) -> InferenceSession:
    """Open a module in ONNX Runtime on the CPU: input `frames`, batches of any size of the shape of `inputs`."""
    model = _Onnx(_trace(module, inputs), "frames").program.model_proto
    return _session(model.SerializeToString(), threads)


def detector_sessions(
    detector: Detector, variant: Variant, waveforms: Tensor, threads: int
) -> dict[str, tuple[int, Callable[[Tensor], Tensor]]]:
    """Open a whole detector in ONNX Runtime on the CPU: `float32` and `int8` -> bytes of its file, waveforms -> scores.

    It takes waveforms of the length of these, in int8 one at a time.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {precision: Path(folder) / f"{precision}.onnx" for precision in ("float32", "int8")}
        _Onnx(_trace(_Scorer(detector, variant, with_frontend=True), waveforms), "waveforms").save(files["float32"], "")
        with _quiet():
            quantise(files["float32"], files["int8"], BATCH.__name__)
        return {precision: (path.stat().st_size, _Onnx.open(path, threads)) for precision, path in files.items()}


def _session(model: str | bytes, threads: int) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would go on spinning after a run, and take the cores from what comes next
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _trace(module: nn.Module, inputs: Tensor) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *inputs.shape[1:])  # not audio: the program keeps its example
    with _quiet():
        program = torch.export.export(module, (example,), dynamic_shapes=({0: BATCH},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths on this machine
    return program


def _first_of_each_class(trials: pd.DataFrame, n: int) -> pd.DataFrame:
    """Choose n trials, from the list's beginning: the first of each class, the second of each, and so on."""
    return trials.iloc[trials.groupby("label").cumcount().argsort(kind="stable")].head(n)


def _differences(
    file: Callable[[Tensor], Tensor], original: Callable[[Tensor], Tensor], inputs: Tensor, batch_sizes: Sequence[int]
) -> Tensor:
    """Absolute differences of the scores in batches of each size: (len(batch_sizes), len(inputs))."""
    runs = [torch.cat([file(batch) - original(batch) for batch in inputs.split(size)]) for size in batch_sizes]
    return torch.stack(runs).abs()


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the exporters warn of, which is about their own code; what fails still raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
