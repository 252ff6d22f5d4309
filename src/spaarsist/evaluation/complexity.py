"""Size and compute of the back-end: parameters and multiply-accumulates of the module that would ship."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from fvcore.nn import FlopCountAnalysis

from spaarsist.artefacts import writing
from spaarsist.config import ConfigError, Variant, system_name
from spaarsist.models.backend import AASIST

COUNTER = "fvcore"


class Size(NamedTuple):
    """Input and output of the back-end to count: D features, E embedding, T frames (201 for 64,600 samples)."""

    feature_dim: int
    embedding_dim: int
    n_frames: int


def size_of(checkpoint: Path) -> Size:
    """Size of a trained detector's back-end, at the excerpt length that it is scored with.

    Raises:
        ConfigError: the folder holds no readable `model.json`.
    """
    try:
        record = json.loads((checkpoint / "model.json").read_text(encoding="utf-8"))
        return Size(record["feature_dim"], record["backend"]["embedding_dim"], record["n_frames"])
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ConfigError(f"{checkpoint}: no readable model.json ({type(error).__name__}: {error})") from None


def count(backend: AASIST, n_frames: int) -> tuple[int, FlopCountAnalysis]:
    """Count the parameters and the MACs of a back-end (of one variant: pass an export).

    One multiply-add is one MAC. fvcore counts convolutions, linear layers and matrix products exactly, and a batch norm
    as one or two operations per value; it leaves out element-wise work (SELU, tanh, softmax, products of node pairs),
    max pooling, sums, means and sorting, which `unsupported_ops()` of the analysis lists.

    Returns:
        (number of parameters, the analysis of one input of shape (1, n_frames, feature_dim)).
    """
    frames = torch.zeros(1, n_frames, backend.projection.in_features)
    analysis = FlopCountAnalysis(backend.eval(), frames)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return sum(p.numel() for p in backend.parameters()), analysis


def write_complexity(output: Path, breakdown: Path, systems: list[tuple[float, Variant]], size: Size) -> None:
    """Count every system's back-end and write two TSVs.

    Args:
        output: columns `system, n_params, n_macs, counter, n_frames, feature_dim, embedding_dim, not_counted`.
        breakdown: columns `system, kind, name, n_macs` with kind `module` or `operator`; modules include what is
            inside them (the empty name's total is `output`'s).
        systems: (k_train, variant) pairs. Neither training nor weights change the counts.
        size: of the back-end and its input.
    """
    rows, parts = [], []
    for k_train, variant in systems:
        backend = AASIST(size.feature_dim, size.embedding_dim, k_train).export(variant)
        n_params, analysis = count(backend, size.n_frames)
        name = system_name(k_train, variant)
        n_macs = int(analysis.total())
        not_counted = " ".join(sorted(op.removeprefix("aten::") for op in analysis.unsupported_ops()))
        rows.append((name, n_params, n_macs, COUNTER, size.n_frames, *size[:2], not_counted))
        parts += [(name, "module", module, int(n)) for module, n in analysis.by_module().items() if module and n]
        parts += [(name, "operator", operator, int(n)) for operator, n in analysis.by_operator().items()]
    columns = [
        "system", "n_params", "n_macs", "counter", "n_frames", "feature_dim", "embedding_dim", "not_counted",
    ]  # fmt: skip
    tables = ((output, rows, columns), (breakdown, parts, ["system", "kind", "name", "n_macs"]))
    for target, lines, header in tables:
        with writing(target) as path:
            pd.DataFrame(lines, columns=header).to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)
