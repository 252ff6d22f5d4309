"""The countermeasure: front-end, graph back-end, classification head; and the checkpoints that hold it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spaarsist.artefacts import writing
from spaarsist.config import BackendConfig, ConfigError, FrontendConfig, Variant, parse
from spaarsist.models.backend import AASIST
from spaarsist.models.frontend import build_frontend

BONAFIDE, SPOOF = 0, 1
"""Positions of the classes in the logits."""


def prepare_torch(threads: int) -> torch.device:
    """Set torch to repeatable arithmetic and choose the device: the first GPU if there is one, else the CPU.

    TF32 is off, so that on a GPU as well the batch size changes scores by rounding only.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Detector(nn.Module):
    """Waveforms (B, n_samples) at 16 kHz -> logits (B, 2), bona fide first.

    The head is the paper's: Linear E -> E/2, batch norm, ReLU, Linear -> E/4, batch norm, ReLU, Linear -> 2.

    Args:
        frontend: the front-end's settings.
        backend: the back-end's size.
        k_train: share of nodes that graph pooling keeps in training, in (0, 1].
        architecture: see `build_frontend`; given when the weights come from a checkpoint.
    """

    def __init__(
        self, frontend: FrontendConfig, backend: BackendConfig, k_train: float, architecture: dict | None = None
    ) -> None:
        super().__init__()
        self.frontend = build_frontend(frontend, architecture)
        self.backend = AASIST(
            self.frontend.feature_dim, backend.embedding_dim, k_train=k_train, temperatures=backend.temperatures
        )
        size = backend.embedding_dim
        self.head = nn.Sequential(
            nn.Linear(size, size // 2),
            nn.BatchNorm1d(size // 2),
            nn.ReLU(),
            nn.Linear(size // 2, size // 4),
            nn.BatchNorm1d(size // 4),
            nn.ReLU(),
            nn.Linear(size // 4, 2),
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Classify with the baseline, the form that is trained."""
        return self.head(self.backend(self.frontend(waveforms)))

    def scores(self, waveforms: Tensor, variants: Sequence[Variant]) -> Tensor:
        """Score with several variants in one pass: front-end and graph encoder run once.

        Returns:
            (B, len(variants)): log P(bona fide) - log P(spoof) in nats, higher = more bona fide. Taken from the logits,
            so it does not saturate as a difference of probabilities would.
        """
        graphs = self.backend.encode(self.frontend(waveforms))
        logits = torch.stack([self.head(self.backend.readout(graphs, v)) for v in variants], dim=1)
        return logits[..., BONAFIDE] - logits[..., SPOOF]


def save_checkpoint(weights: dict[str, Tensor], record: dict, folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into `folder`.

    Args:
        weights: state of a `Detector`.
        record: what is known of the run; must hold `frontend`, `backend`, `k_train` and `architecture`, from which
            `load_checkpoint` builds the detector.
    """
    with writing(folder / "model.safetensors") as path:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    with writing(folder / "model.json") as path:
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> tuple[Detector, dict]:
    """Read a detector and its record back, strictly; nothing is fetched.

    Raises:
        ConfigError: a file is missing, damaged or does not fit; the message names it.
    """
    try:
        record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        detector = Detector(
            parse(FrontendConfig, record["frontend"]),
            parse(BackendConfig, record["backend"]),
            record["k_train"],
            record["architecture"],
        )
        detector.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    except (OSError, json.JSONDecodeError, KeyError, SafetensorError, RuntimeError) as error:
        raise ConfigError(
            f"{folder}: not a checkpoint of this package, or a damaged one; train it again "
            f"({type(error).__name__}: {error})"
        ) from error
    return detector.eval(), record
