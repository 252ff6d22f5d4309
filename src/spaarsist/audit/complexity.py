"""Size and compute of back-ends: parameters and multiply-accumulates (MACs) of the module that would ship.

What a number of MACs counts is a convention, and the paper does not tell its own. `names.CONVENTIONS` has four; one
multiply-add is one MAC in each.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import ptflops
import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from tqdm import tqdm

from spaarsist.artefacts import RECORD, read_record, writing
from spaarsist.audit.textbook import Textbook
from spaarsist.config import BackendConfig
from spaarsist.models.backend import AASIST
from spaarsist.models.detector import build_backend, build_head
from spaarsist.names import PAPER_FRAMES, ConfigError, System, Variant

COUNTER = "fvcore"

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Kernel and stride of each convolution by which wav2vec 2.0 turns samples into frames."""

CHANNELS = 512
"""Of these convolutions."""


class Size(NamedTuple):
    """What a back-end is given and gives: D features, L layers, E embedding, T frames (201 for 64,600 samples).

    `aasist` is the size of those systems that are an AASIST: `base`, the paper's, or `L`.
    """

    feature_dim: int = 1024
    n_layers: int = 24
    embedding_dim: int = 1024
    n_frames: int = 201
    aasist: str = "base"


def size_of(checkpoint: Path) -> Size:
    """Size of a trained detector's back-end, at the excerpt length that it is scored with.

    Raises:
        ConfigError: the folder holds no whole record, see `read_record`.
    """
    record = read_record(checkpoint / RECORD)
    backend = record["backend"]
    aasist = backend["options"].get("size", "base")
    return Size(record["feature_dim"], record["n_layers"], backend["embedding_dim"], record["n_frames"], aasist)


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
        backend = AASIST(size.feature_dim, size.embedding_dim, named.k_train, size=size.aasist)
        return backend.export(named.variant), frames
    if system not in backends:
        raise ConfigError(f"system {system}: no such back-end; there are {', '.join(backends) or 'none'}")
    settings = BackendConfig(backends[system].kind, size.embedding_dim, backends[system].options)
    backend = build_backend(settings, size.feature_dim, size.n_layers)
    if isinstance(backend, AASIST):
        return backend.export(backend.variant), frames
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


def frontend_macs(size: Size) -> int | None:
    """Count the MACs of the wav2vec 2.0 that gives frames of this size (XLS-R, WavLM and HuBERT are built alike).

    Convolutions, linear layers and matrix products are counted; norms and activations are not (below 1 % of XLS-R).

    Args:
        size: D features, L transformer layers and T frames of the shortest excerpt that has so many.

    Returns:
        The number, or None where the front-end is no transformer (one layer), whose work is not known here.
    """
    if size.n_layers < 2:
        return None
    width, length = size.feature_dim, size.n_frames
    macs = length * CHANNELS * width  # projection of the last convolution
    macs += length * width * (width // 16) * 128  # positions: a grouped convolution
    macs += size.n_layers * (4 + 2 * 4) * length * width**2  # attention's four projections, and two layers of 4 D
    macs += size.n_layers * 2 * length**2 * width  # attention
    for position in range(len(CONVOLUTIONS) - 1, -1, -1):
        kernel, stride = CONVOLUTIONS[position]
        macs += length * CHANNELS * (CHANNELS if position else 1) * kernel
        length = (length - 1) * stride + kernel
    return macs


def count_by(convention: str, system: str, n_frames: int, backends: Mapping[str, BackendConfig]) -> int:
    """Count the MACs of a system at the paper's size by one of `names.CONVENTIONS`.

    Args:
        convention: its name.
        system: AASIST, or one of `backends`; for `ptflops` AASIST alone.
        n_frames: T of the one excerpt.
        backends: see `ship`.

    Raises:
        KeyError: no such convention.
        ConfigError: see `ship`; ptflops is asked for of another back-end than AASIST.
    """
    size = Size(n_frames=n_frames)
    backend, frames = ship(system, size, backends)
    return {
        "whole": lambda: int(count(backend, frames)[1].total()),
        "linear": lambda: _linear(backend, frames),
        "linear_head": lambda: _linear_with_head(system, size, backends),
        "ptflops": lambda: _ptflops(system, backends, n_frames),
    }[convention]()


def _linear_with_head(system: str, size: Size, backends: Mapping[str, BackendConfig]) -> int:
    backend, frames = ship(system, size, backends)
    return _linear(nn.Sequential(backend, build_head(size.embedding_dim)), frames)


def _linear(module: nn.Module, frames: Tensor) -> int:
    """Multiply-adds of the layers that are `nn.Linear`; on the meta device, where nothing is computed."""
    counted: list[int] = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda layer, _, output: counted.append(output.numel() * layer.in_features))
    with torch.inference_mode():
        module.to("meta").eval()(frames.to("meta"))
    return sum(counted)


def _ptflops(system: str, backends: Mapping[str, BackendConfig], n_frames: int) -> int:
    """Count the textbook form: ptflops sees only what is written as a module or as some of torch's functions."""
    variant = System.parse(system).variant
    options = {} if variant else backends[system].options
    backend = AASIST(Size().feature_dim, Size().embedding_dim, **options)
    module = textbook(backend, variant or backend.variant).eval()
    macs, _ = ptflops.get_model_complexity_info(
        module, (n_frames, Size().feature_dim), as_strings=False, print_per_layer_stat=False, backend="pytorch"
    )
    return macs


def textbook(backend: AASIST, variant: Variant) -> Textbook:
    """Build the textbook form of a back-end, with its weights, run as `variant`."""
    return Textbook(backend.public_state(), variant.k_infer, variant.node_scoring, variant.stack_aggregation)


def write_complexity(
    output: Path, breakdown: Path, systems: Sequence[str], size: Size, backends: Mapping[str, BackendConfig]
) -> None:
    """Count every system's back-end and write two TSVs.

    Args:
        output: columns `system, n_params, n_macs, n_macs_linear, n_macs_frontend, counter, n_frames, feature_dim,
            n_layers, embedding_dim, not_counted`; n_macs by `whole`, n_macs_linear by `linear_head` at `PAPER_FRAMES`,
            n_macs_frontend by `frontend_macs`, empty where it is not known.
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
            linear = _linear_with_head(system, size._replace(n_frames=PAPER_FRAMES), backends)
            not_counted = " ".join(sorted(op.removeprefix("aten::") for op in analysis.unsupported_ops()))
            modules = [("module", name, int(n)) for name, n in analysis.by_module().items() if name and n]
            operators = [("operator", name, int(n)) for name, n in analysis.by_operator().items()]
            operators = operators or [("operator", "none", 0)]
            done[key] = (n_params, n_macs, linear), not_counted, modules + operators
        numbers, not_counted, inside = done[key]
        shape = size.n_frames, size.feature_dim, size.n_layers, size.embedding_dim
        rows.append((system, *numbers, frontend_macs(size), COUNTER, *shape, not_counted))
        parts += [(system, *part) for part in inside]
    _write(
        output,
        rows,
        ("system", "n_params", "n_macs", "n_macs_linear", "n_macs_frontend", "counter", "n_frames", "feature_dim",
         "n_layers", "embedding_dim", "not_counted"),
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
