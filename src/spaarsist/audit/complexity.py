"""Size and compute of back-ends: parameters and multiply-accumulates of the module that would ship."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from tqdm import tqdm

from spaarsist.artefacts import writing
from spaarsist.config import BackendConfig
from spaarsist.models.backend import AASIST
from spaarsist.models.detector import build_backend
from spaarsist.names import ConfigError, System, Variant

COUNTER = "fvcore"


class Size(NamedTuple):
    """What a back-end is given and gives: D features, L layers, E embedding, T frames (201 for 64,600 samples)."""

    feature_dim: int = 1024
    n_layers: int = 24
    embedding_dim: int = 1024
    n_frames: int = 201


def size_of(checkpoint: Path) -> Size:
    """Size of a trained detector's back-end, at the excerpt length that it is scored with.

    Raises:
        ConfigError: the folder holds no readable `model.json`.
    """
    try:
        record = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))
        return Size(record["feature_dim"], record["n_layers"], record["backend"]["embedding_dim"], record["n_frames"])
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ConfigError(f"{checkpoint}: no readable model.json ({type(error).__name__}: {error})") from None


def ship(system: str, size: Size, backends: Mapping[str, BackendConfig]) -> tuple[nn.Module, Tensor]:
    """Build the back-end that would ship for a system, untrained, and an input of one excerpt.

    Neither training nor weights change size and compute.

    Args:
        system: its name: `AST-03-01-Mag`, or one of `backends`.
        size: of the back-end and its input.
        backends: class and options of the back-ends that are no AASIST, by name.

    Returns:
        The module in evaluation mode; random frames (1, T, D), or (1, L, T, D) of the layers that it takes.

    Raises:
        ConfigError: the name is none of these.
    """
    frames = torch.randn(1, size.n_frames, size.feature_dim, generator=torch.Generator().manual_seed(0))
    named = System.parse(system)
    if named.variant:
        return AASIST(size.feature_dim, size.embedding_dim, named.k_train).export(named.variant), frames
    if system not in backends:
        raise ConfigError(f"system {system}: no such back-end; there are {', '.join(backends) or 'none'}")
    settings = BackendConfig(backends[system].kind, size.embedding_dim, backends[system].options)
    backend = build_backend(settings, size.feature_dim, size.n_layers)
    return backend.eval(), frames.expand(backend.n_layers, -1, -1).contiguous().unsqueeze(0)


def count(backend: nn.Module, frames: Tensor) -> tuple[int, FlopCountAnalysis]:
    """Count the parameters and the MACs of a back-end (of one variant: pass an export).

    One multiply-add is one MAC. fvcore counts convolutions, linear layers and matrix products exactly, and a batch norm
    as one or two operations per value; it leaves out element-wise work (SELU, tanh, softmax, products of node pairs),
    max pooling, sums, means and sorting, which `unsupported_ops()` of the analysis lists.

    Args:
        backend: the module that would ship.
        frames: its input: (1, T, D), or (1, L, T, D).

    Returns:
        (number of parameters, the analysis).
    """
    analysis = FlopCountAnalysis(backend.eval(), frames)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(p.numel() for p in backend.parameters()), analysis


def write_complexity(
    output: Path, breakdown: Path, systems: Sequence[str], size: Size, backends: Mapping[str, BackendConfig]
) -> None:
    """Count every system's back-end and write two TSVs.

    Args:
        output: columns `system, n_params, n_macs, counter, n_frames, feature_dim, n_layers, embedding_dim,
            not_counted`.
        breakdown: columns `system, kind, name, n_macs` with kind `module` or `operator`; modules include what is
            inside them. The operators of a system add up to `output`'s total; one without any has `none`, 0.
        systems: their names.
        size: of the back-ends and their input.
        backends: see `ship`.
    """
    rows, parts, done = [], [], {}
    for system in tqdm(systems, desc="count", unit="system", mininterval=2):
        key = _shipped_alike(system)
        if key not in done:
            n_params, analysis = count(*ship(system, size, backends))
            n_macs = int(analysis.total())
            not_counted = " ".join(sorted(op.removeprefix("aten::") for op in analysis.unsupported_ops()))
            modules = [("module", name, int(n)) for name, n in analysis.by_module().items() if name and n]
            operators = [("operator", name, int(n)) for name, n in analysis.by_operator().items()]
            operators = operators or [("operator", "none", 0)]
            done[key] = (n_params, n_macs), not_counted, modules + operators
        numbers, not_counted, inside = done[key]
        shape = size.n_frames, size.feature_dim, size.n_layers, size.embedding_dim
        rows.append((system, *numbers, COUNTER, *shape, not_counted))
        parts += [(system, *part) for part in inside]
    _write(
        output,
        rows,
        ("system", "n_params", "n_macs", "counter", "n_frames", "feature_dim", "n_layers", "embedding_dim",
         "not_counted"),
    )  # fmt: skip
    _write(breakdown, parts, ("system", "kind", "name", "n_macs"))


def _shipped_alike(system: str) -> str | Variant:
    """What decides a shipped module's size and compute: neither k_train nor temperatures."""
    variant = System.parse(system).variant
    return Variant(variant.k_infer, variant.node_scoring, variant.stack_aggregation) if variant else system


def _write(target: Path, rows: Iterable[tuple], columns: Sequence[str]) -> None:
    with writing(target) as path:
        pd.DataFrame(rows, columns=columns).to_csv(
            path, sep="\t", index=False, quoting=csv.QUOTE_NONE, float_format="%.6g"
        )
