"""The countermeasure: front-end, back-end, classification head; and the checkpoints that hold it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spaarsist.artefacts import (
    RECORD,
    WEIGHTS,
    WEIGHTS_HASH,
    read_record,
    sealed,
    tensors_hash,
    writing,
)
from spaarsist.config import BackendConfig, FrontendConfig, parse
from spaarsist.models import pooling
from spaarsist.models.backend import AASIST
from spaarsist.models.frontend import build_frontend
from spaarsist.names import ConfigError, Variant

BONAFIDE, SPOOF = 0, 1
"""Positions of the classes in the logits."""


def prepare_torch(threads: int, device: str = "cpu", *, deterministic: bool = True) -> torch.device:
    """Set torch's arithmetic and give the device: the CPU, or this process's GPU.

    TF32 is off, so that on a GPU as well the batch size changes scores by rounding only.

    Args:
        threads: CPU threads.
        device: `cpu` or `cuda`.
        deterministic: the same operations give the same bits every time; the few that have no such form on a GPU warn.
            False: a GPU takes whatever is fastest.

    Raises:
        ConfigError: a GPU is asked for and torch finds none.
    """
    torch.set_num_threads(threads)
    if deterministic:
        # cuBLAS repeats itself only with a workspace of its own
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms(True, warn_only=True), but without seconds of importing the compiler: where
    # that is used, it reads the variable
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = str(int(deterministic))
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # a guard for code that reads it; takes time only
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            f"no GPU in reach of torch {torch.__version__} (built for CUDA {torch.version.cuda}): see whether "
            "nvidia-smi shows one and its driver is new enough for that, or set compute.device to cpu"
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


class Detector(nn.Module):
    """Waveforms (B, n_samples) at 16 kHz, or their frames from a cache -> logits (B, 2), bona fide first.

    The head is the paper's, see `build_head`.

    Args:
        frontend: the front-end's settings.
        backend: the back-end's class, size and options.
        architecture: see `build_frontend`; given when the weights come from a checkpoint.

    Raises:
        ConfigError: no such back-end, or options that it does not take.
    """

    def __init__(self, frontend: FrontendConfig, backend: BackendConfig, architecture: dict | None = None) -> None:
        super().__init__()
        self.frontend = build_frontend(frontend, architecture)
        self.backend = build_backend(backend, self.frontend.feature_dim, self.frontend.n_layers)
        self.head = build_head(backend.embedding_dim)

    @property
    def variant(self) -> Variant | None:
        """The variant that was trained; None of a back-end that has none."""
        return self.backend.variant if isinstance(self.backend, AASIST) else None

    def frames(self, waveforms: Tensor) -> Tensor:
        """What the back-end takes: the last layer's frames (B, T, D), or all layers' (B, L, T, D), in float32."""
        return self.frontend(waveforms, all_layers=self.backend.all_layers).float()

    def forward(self, inputs: Tensor) -> Tensor:
        """Classify waveforms, or frames made by `frames`, with the back-end as it is trained."""
        return self.head(self.backend(self._frames(inputs)))

    def scores(self, inputs: Tensor, variants: Sequence[Variant] = ()) -> Tensor:
        """Score with several variants of an AASIST back-end in one pass: front-end and convolutions run once.

        Args:
            inputs: waveforms (B, n_samples), or frames made by `frames`.
            variants: as which to run it; none: as trained.

        Returns:
            (B, len(variants)): log P(bona fide) - log P(spoof) in nats, higher = more bona fide. Taken from the logits,
            so it does not saturate as a difference of probabilities would. Without variants (B, 1): as trained.
        """
        if not variants:
            logits = self(inputs).unsqueeze(1)
        else:
            nodes = self.backend.nodes(self._frames(inputs))
            graphs = {t: self.backend.attend(nodes, t) for t in {v.graph_temperature for v in variants}}
            embeddings = (self.backend.readout(graphs[v.graph_temperature], v) for v in variants)
            logits = torch.stack([self.head(embedding) for embedding in embeddings], dim=1)
        return logits[..., BONAFIDE] - logits[..., SPOOF]

    def _frames(self, inputs: Tensor) -> Tensor:
        return self.frames(inputs) if inputs.ndim == 2 else inputs.float()


def build_head(size: int) -> nn.Sequential:
    """Build the classification head: embeddings (B, size) -> logits (B, 2), bona fide first; none if size is 2."""
    if size == 2:
        return nn.Sequential()
    return nn.Sequential(
        nn.Linear(size, size // 2),
        nn.BatchNorm1d(size // 2),
        nn.ReLU(),
        nn.Linear(size // 2, size // 4),
        nn.BatchNorm1d(size // 4),
        nn.ReLU(),
        nn.Linear(size // 4, 2),
    )


def build_backend(settings: BackendConfig, feature_dim: int, n_layers: int) -> nn.Module:
    """Build the back-end that `settings.kind` names: `AASIST`, or a public class of `spaarsist.models.pooling`.

    Args:
        settings: class, embedding size and further keywords.
        feature_dim: D, features per frame.
        n_layers: L, transformer layers that the front-end gives (AASIST takes the last one).

    Raises:
        ConfigError: there is no such class, or it does not take these options.
    """
    kinds = {name: kind for name, kind in vars(pooling).items() if _is_backend(kind)}
    try:
        if settings.kind == AASIST.__name__:
            return AASIST(feature_dim, settings.embedding_dim, **settings.options)
        kind = kinds[settings.kind]
        return kind(
            feature_dim=feature_dim,
            n_layers=n_layers if kind.all_layers else 1,
            embedding_dim=settings.embedding_dim,
            **settings.options,
        )
    except KeyError:
        raise ConfigError(f"backend.kind {settings.kind!r}; there are AASIST, {', '.join(sorted(kinds))}") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"backend {settings.kind}: options {settings.options} do not fit ({error})") from None


def _is_backend(kind: object) -> bool:
    return isinstance(kind, type) and kind.__module__ == pooling.__name__ and not kind.__name__.startswith("_")


def save_checkpoint(weights: dict[str, Tensor], record: dict, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into `folder`, tied to each other by hashes.

    Args:
        weights: state of a `Detector`.
        record: what is known of the run; must hold `frontend`, `backend` and `architecture`, from which
            `load_checkpoint` builds the detector. It is written with the hashes of the weights and of itself.
    """
    with writing(folder / WEIGHTS) as path:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    with writing(folder / RECORD) as path:
        record = sealed(record | {WEIGHTS_HASH: tensors_hash(weights)})
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> tuple[Detector, dict]:
    """Read a detector and its record back, strictly; nothing is fetched.

    Raises:
        ConfigError: a file is missing, damaged, edited or not of the other one; the message names it.
    """
    record = read_record(folder / RECORD)
    weights = read_weights(folder, record)
    try:
        detector = Detector(
            parse(FrontendConfig, record["frontend"]),
            parse(BackendConfig, record["backend"]),
            record["architecture"],
        )
        detector.load_state_dict(weights, strict=True)
    except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"{folder}: this version builds no such detector ({type(error).__name__}: {reason}); use the version that "
            "trained it, or train it again"
        ) from error
    return detector.eval(), record


def read_weights(folder: Path, record: dict) -> dict[str, Tensor]:
    """Read the weights that lie beside a checkpoint's record.

    Raises:
        ConfigError: they are missing, damaged, or not those that the record was written with.
    """
    path = folder / WEIGHTS
    anew = "bring the original back, or delete the folder and train anew"
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file beside {RECORD}; {anew}")
    try:
        weights = load_file(path)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # whatever safetensors and torch make of what is in a file
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"{path}: not readable as safetensors ({reason}); {anew}") from None
    if tensors_hash(weights) != record[WEIGHTS_HASH]:
        raise ConfigError(f"{path}: not the weights that {RECORD} was written with (exchanged or damaged); {anew}")
    return weights
